"""Growth in depth of every operator with blocks: sources of tensors, what is kept exactly, what is refused."""

import pytest
import torch
from growing_models import OPERATORS, trained
from torch import nn

from fieldwright.errors import DataError, InputError
from fieldwright.growth import GrowthPlan, RandomBlocks, Stack, Zero, grow, growing_blocks, output_change
from fieldwright.operators import FourierOperator, OperatorTransformer, load_operator

FIELDS = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def built(name):
    torch.manual_seed(0)
    return OPERATORS[name]()


@pytest.mark.parametrize("order", ["stack", "interpolate"])
@pytest.mark.parametrize("name", OPERATORS)
def test_every_tensor_of_a_stack_equals_its_source(name, order):
    source = built(name)
    grown = grow(source, Stack(3, order)).model
    weights, lists = dict(source.named_parameters()), growing_blocks(source)
    moved = 0
    for tensor_name, tensor in grown.named_parameters():
        blocks = next((b for b in lists if b.block_of(tensor_name)), None)
        origin = tensor_name
        if blocks is not None:
            path, number, rest = blocks.block_of(tensor_name)
            unit, within = divmod(number, blocks.period)
            units = blocks.count // blocks.period
            unit = unit % units if order == "stack" else unit // 3
            origin = blocks.name_of(path, unit * blocks.period + within, rest)
            moved += origin != tensor_name
        assert torch.equal(tensor, weights[origin]), (tensor_name, origin)
    assert moved > 0


@pytest.mark.parametrize("growth", [Zero(2), Zero(3, "interpolate")])
@pytest.mark.parametrize("name", OPERATORS)
def test_zero_keeps_function_and_gradients_and_the_moments_that_go_with_them(name, growth):
    source = built(name).double()
    fields = FIELDS.double()
    optimizer = trained(source, fields)
    found = grow(source, growth, optimizer=optimizer)
    assert found.report["output change"] < 1e-12
    for model in (source, found.model):
        model.zero_grad()
        model(fields).square().mean().backward()
    gradients = {n: p.grad for n, p in source.named_parameters()}
    exact = 0
    for tensor_name, parameter in found.model.named_parameters():
        rule = found.plan.states[tensor_name]
        if rule.gradient is not None and rule.moments == "clone" and found.plan.parameters[tensor_name].is_clone:
            origin = rule.gradient.copies[0].source
            torch.testing.assert_close(parameter.grad, gradients[origin], rtol=1e-9, atol=1e-13)
            own, theirs = found.optimizer.state[parameter], optimizer.state[source.get_parameter(origin)]
            assert torch.equal(own["exp_avg"], theirs["exp_avg"])
            assert torch.equal(own["exp_avg_sq"], theirs["exp_avg_sq"])
            exact += 1
    assert exact >= len(gradients)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_grown_operator_is_saved_and_loaded_with_its_own_configuration(name, tmp_path):
    grown = grow(built(name), Stack(2, gain=0.5)).model.eval()
    grown.save_pretrained(tmp_path / "grown")
    again = load_operator(tmp_path / "grown")
    assert torch.equal(again(FIELDS), grown(FIELDS))


@pytest.mark.parametrize("name", OPERATORS)
def test_gain_zero_is_zero_and_gain_one_is_the_stack(name):
    source = built(name).double()
    zero, one = grow(source, Stack(2, gain=0.0)), grow(source, Stack(2, gain=1.0))
    assert zero.plan.preserves == "exact"
    assert zero.report["output change"] < 1e-12
    halved = grow(source, Stack(2, gain=1 - 1e-9)).model
    torch.testing.assert_close(halved(FIELDS.double()), one.model(FIELDS.double()), rtol=1e-5, atol=1e-6)


def test_grown_weights_share_no_memory_and_the_source_stays_as_it_was():
    source = built("fourier")
    before = {name: value.clone() for name, value in source.state_dict().items()}
    grown = grow(source, Stack(2)).model
    places = [p.untyped_storage().data_ptr() for p in (*source.parameters(), *grown.parameters())]
    assert len(set(places)) == len(places)
    for parameter in grown.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


def test_noise_moves_matrices_by_its_deviation_and_is_repeatable():
    source = FourierOperator(1, 1, modes=8, width=24, layers=2)
    quiet, noisy, again = (grow(source, Stack(2, noise=n), seed=5).model for n in (0.0, 0.2, 0.2))
    assert all(torch.equal(a, b) for a, b in zip(noisy.parameters(), again.parameters(), strict=True))
    weight = (noisy.skips[1].weight - 0.8 * quiet.skips[1].weight) / 0.2
    assert weight.std().item() == pytest.approx((2 / (5 * 24)) ** 0.5, rel=0.1)
    assert torch.equal(noisy.gates[0], quiet.gates[0])


def test_random_blocks_are_as_freshly_built_and_the_others_as_trained():
    source = built("resnet")
    trained(source, FIELDS)
    grown = grow(source, RandomBlocks(2, ramped=False), seed=3).model
    assert torch.equal(grown.blocks[1].maps[0].convolution.weight, source.blocks[1].maps[0].convolution.weight)
    fresh = grown.blocks[3].maps[0].convolution.weight
    assert not torch.equal(fresh, source.blocks[1].maps[0].convolution.weight)
    assert fresh.abs().max() <= 1 / (6 * 9) ** 0.5


def test_groups_of_the_optimizer_cover_every_parameter_once_and_keep_their_settings():
    source = built("multigrid")
    members = [list(source.cycles.parameters()), [*source.mixing.parameters(), *source.head.parameters()]]
    optimizer = torch.optim.SGD([{"params": members[0], "lr": 0.1}, {"params": members[1], "lr": 0.2}], momentum=0.9)
    source(FIELDS).square().mean().backward()
    optimizer.step()
    grown = grow(source, Zero(2), optimizer=optimizer)
    listed = [id(p) for group in grown.optimizer.param_groups for p in group["params"]]
    assert sorted(listed) == sorted(map(id, grown.model.parameters()))
    assert [group["lr"] for group in grown.optimizer.param_groups] == [0.1, 0.2]
    own = grown.optimizer.state[grown.model.cycles[2].pre[0][0].smoother.weight]["momentum_buffer"]
    assert torch.equal(own, optimizer.state[source.cycles[2].pre[0][0].smoother.weight]["momentum_buffer"])


def test_the_average_grows_like_the_weights():
    source = built("transformer")
    ema = {name: value + 1 for name, value in source.named_parameters()}
    grown = grow(source, Stack(2), ema=ema)
    for name, value in grown.model.named_parameters():
        torch.testing.assert_close(grown.ema[name], value + 1)


def test_a_plan_from_its_json_grows_the_same_model():
    source = built("fourier")
    plan = Stack(2, noise=0.1).plan(source, seed=4)
    first, second = grow(source, plan).model, grow(source, GrowthPlan.from_json(plan.to_json())).model
    assert output_change(first, second, (FIELDS,)) == 0


def test_one_level_of_a_transformer_grows_alone():
    grown = grow(built("transformer"), Stack(2, part="level 1")).model
    assert [len(stage.blocks) for stage in grown.encoder["layers"]] == [2, 4]
    assert [[block.shifted for block in stage.blocks] for stage in grown.encoder["layers"]][1] == [False, True] * 2


class Wrapped(nn.Module):
    pass


Wrapped.__name__ = "DistributedDataParallel"


def compiled():
    model = OPERATORS["fourier"]()
    model.compile()  # nothing is compiled before the first call
    return model


@pytest.mark.parametrize(
    ("model", "growth", "word"),
    [
        (OPERATORS["fourier"], Stack(1), "2 or more"),
        (OPERATORS["fourier"], Stack(2, noise=1.5), r"\[0, 1\]"),
        (OPERATORS["fourier"], Stack(2, gain=-0.1), r"\[0, 1\]"),
        (OPERATORS["fourier"], Stack(2, moments="keep"), "clone"),
        (OPERATORS["fourier"], Zero(None, [1, 0, 1, 0]), "reorders"),
        (OPERATORS["transformer"], Stack(2, part="level 7"), "level 0, level 1"),
        (lambda: OperatorTransformer(1, 1, width=12, depths=[3], skips=[0]), Stack(2), "units of 2"),
        (lambda: torch.nn.Linear(2, 2), Stack(2), "growing_blocks"),
        (Wrapped, Stack(2), "unwrap"),
        (compiled, Stack(2), "unwrap"),
    ],
)
def test_what_cannot_grow_is_refused_in_a_sentence(model, growth, word):
    with pytest.raises(InputError, match=word):
        grow(model(), growth)


def test_weights_that_are_not_finite_are_refused_and_left_alone():
    source = built("fourier")
    with torch.no_grad():
        source.skips[0].weight[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"skips\.0\.weight"):
        grow(source, Stack(2))
