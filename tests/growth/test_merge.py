"""Merged networks: exactly the mean of their members, with their moments, and refusals where that cannot be."""

import copy
import math

import pytest
import torch
from torch import nn

from fieldwright.errors import InputError
from fieldwright.growth import materialise, merge, recalibrate, templated, widened
from fieldwright.growth.templates import factors
from fieldwright.operators import (
    DeepONet,
    FourierOperator,
    LatentSpectralOperator,
    MultigridOperator,
    MultiONet,
    ResNet,
    UNet,
    load_operator,
    save_operator,
)

SMALL = {"branch_width": 8, "latent": 5, "width": 6, "layers": 3}


def perceptron():
    return nn.Sequential(nn.Linear(32, 5), nn.GELU(), nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 3))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.GELU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.GroupNorm(2, 6), nn.GELU(),
        nn.ConvTranspose2d(6, 4, 2, stride=2), nn.GELU(), nn.Conv2d(4, 2, 2, stride=2),
    )  # fmt: skip


BUILDS = {
    "perceptron": perceptron,
    "convolutions": convolutions,
    "fourier": lambda: FourierOperator(2, 1, width=6, layers=2, modes=6),
    "fourier 1d": lambda: FourierOperator(2, 1, width=4, layers=2, modes=6, dimension=1, channel_mlp=0),
    "multigrid": lambda: MultigridOperator(2, 1, width=5, layers=2, levels=3),
    "latent spectral": lambda: LatentSpectralOperator(
        2, 1, width=8, scales=3, heads=2, tokens=2, bases=3, norm="group"
    ),
    "latent spectral, batch": lambda: LatentSpectralOperator(
        2, 1, width=4, scales=3, heads=2, tokens=2, bases=3, norm="batch"
    ),
    "unet": lambda: UNet(2, 1, width=6, levels=3),
    "resnet": lambda: ResNet(2, 2, width=6, blocks=2),
    "deeponet": lambda: DeepONet(2, 2, sensors=6, **SMALL),
    "deeponet, convolution": lambda: DeepONet(2, 2, branch="convolution", sensors=16, separable=True, **SMALL),
    "multionet": lambda: MultiONet(2, 2, branch="fourier", modes=5, combined=2, **SMALL),
}


def trained(build, seed):
    """A member whose every number, running statistics too, is its own."""
    torch.manual_seed(seed)
    module = build().double().eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
    return module


def pair(name, count=2):
    return [trained(BUILDS[name], seed) for seed in range(count)]


def probe(name):
    draws = torch.Generator().manual_seed(9)
    shape = (3, 32) if name == "perceptron" else (3, 2, 32) if "1d" in name else (3, 2, 16, 16)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("templates", [None, 2])
@pytest.mark.parametrize("name", BUILDS)
def test_merged_networks_are_the_mean_of_their_members(name, templates):
    members, inputs = pair(name), probe(name)
    with torch.no_grad():
        expected = torch.stack([member(inputs) for member in members]).mean(0)
        merged = merge(members, templates=templates, probe=inputs)
        assert relative(merged.operator(inputs), expected) < 1e-12
        assert merged.change < 1e-12
        plain = materialise(copy.deepcopy(merged.operator))
        assert relative(plain(inputs), expected) < 1e-12
    assert {n: t.shape for n, t in plain.state_dict().items()} == {
        n: t.shape for n, t in widened(members[0], 2).state_dict().items()
    }


@pytest.mark.parametrize("name", ["perceptron", "unet", "multionet"])
def test_three_members_and_sums_and_merges_of_merged_ones(name):
    members, inputs = pair(name, 4), probe(name)
    with torch.no_grad():
        outputs = torch.stack([member(inputs) for member in members])
        three = merge(members[:3], probe=inputs).operator
        assert relative(three(inputs), outputs[:3].mean(0)) < 1e-12
        total = merge(members[:2], combination="sum", probe=inputs).operator
        assert relative(total(inputs), outputs[:2].sum(0)) < 1e-12
        halves = [merge(members[:2]).operator, merge(members[2:]).operator]
        assert relative(merge(halves).operator(inputs), outputs.mean(0)) < 1e-12


def test_a_merge_into_a_target_keeps_the_target():
    members = pair("fourier")
    target = widened(members[0], 2)
    assert merge(members, target).operator is target
    with pytest.raises(InputError, match="2 times as long"):
        merge(members, FourierOperator(2, 1, width=13, layers=2, modes=6).double())


def test_members_in_templates_keep_them_and_a_bank_stays_one():
    names = ["spectral.0", "spectral.1"]
    members = [
        templated(trained(BUILDS["fourier"], seed), 2, start="fresh", banks={"spectral": names}) for seed in range(2)
    ]
    inputs = probe("fourier")
    merged = merge(members, templates=2).operator
    with torch.no_grad():
        expected = torch.stack([member(inputs) for member in members]).mean(0)
        assert relative(merged(inputs), expected) < 1e-12
    assert len({id(factors(merged.get_submodule(name))[1]) for name in names}) == 1
    held, own = (factors(module.get_submodule("skips.0")) for module in (merged, members[1]))
    assert torch.equal(held[1][1], own[1][0])
    # As many numbers as the plain wider layer, and the coefficients: 2 sets x K templates x (O I / 4) = O I at K = 2.
    wide = widened(materialise(copy.deepcopy(members[0])), 2).get_submodule("skips.0").weight.numel()
    assert held[1].numel() + held[2].numel() == wide + 4 * 2


@pytest.mark.parametrize("cross", ["orthogonal", "copy", "random"])
@pytest.mark.parametrize("count", [2, 3])
def test_coefficients_between_members(cross, count):
    merged = merge(pair("perceptron", count), templates=4, cross=cross, scale=0.5).operator
    _, _, coefficients = factors(merged[2])
    for r in range(count):
        others = [coefficients[r, c] for c in range(count) if c != r]
        own = coefficients[r, r]
        if cross == "copy":
            assert all(torch.equal(other, 0.5 * own) for other in others)
        elif cross == "random":
            assert all(bool(((other >= 0) & (other <= 0.5)).all()) for other in others)
        else:
            overlap = torch.stack([own / own.norm(), *(2 * other for other in others)])
            torch.testing.assert_close(overlap @ overlap.T, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-12)


def gradients(module, inputs, direction):
    module.zero_grad()
    (module(inputs) * direction).sum().backward()
    return {
        name: {"exp_avg": p.grad.clone(), "exp_avg_sq": p.grad.square(), "step": torch.tensor(float(len(name)))}
        for name, p in module.named_parameters()
    }


@pytest.mark.parametrize("combination", ["mean", "sum"])
@pytest.mark.parametrize("templates", [None, 2])
@pytest.mark.parametrize("name", ["perceptron", "unet", "multionet"])
def test_moments_follow_the_chain_rule(name, templates, combination):
    """With a linear loss the members' gradients give the merged network's on all that the members had."""
    members, inputs = pair(name), probe(name)
    if templates:
        members = [templated(member, templates, start="fresh") for member in members]
    direction = torch.randn(members[0](inputs).shape, generator=torch.Generator().manual_seed(1)).double()
    states = [gradients(member, inputs, direction) for member in members]
    merged = merge(members, templates=templates, combination=combination, optimizer_states=states, probe=inputs)
    true = gradients(merged.operator, inputs, direction)
    assert merged.optimizer_state.keys() == true.keys()
    between = 0
    for parameter, state in merged.optimizer_state.items():
        first, second = state["exp_avg"], state["exp_avg_sq"]
        had = first != 0
        scale = true[parameter]["exp_avg"].abs().max()
        # Of what all members share, such as the last bias, each member's moments count by their mean.
        assert (first - true[parameter]["exp_avg"])[had].abs().max() < 1e-11 * scale
        assert (second - true[parameter]["exp_avg_sq"])[had].abs().max() < 1e-11 * scale**2
        if had.any() and not had.all() and not parameter.endswith("original0"):
            between += 1
            assert len(second[~had].unique()) == 1
            assert second[had].min() <= second[~had][0] <= second[had].max()
        assert float(state["step"]) == len(parameter)
    assert between > 0


def test_moments_of_plain_members_are_those_of_their_first_templates():
    members, inputs = pair("perceptron"), probe("perceptron")
    states = [gradients(member, inputs, 1.0) for member in members]
    merged = merge(members, templates=2, optimizer_states=states)
    found = merged.optimizer_state["2.parametrizations.weight.original0"]["exp_avg"]
    for r, state in enumerate(states):
        torch.testing.assert_close(found[r, 0], state["2.weight"]["exp_avg"] / 2)
        assert not found[r, 1].any()
    assert "2.parametrizations.weight.original1" not in merged.optimizer_state


def test_a_merged_operator_is_saved_and_loaded(tmp_path):
    merged = materialise(merge([m.float() for m in pair("fourier")], templates=2).operator)
    save_operator(merged, tmp_path / "merged")
    loaded = load_operator(tmp_path / "merged")
    inputs = probe("fourier").float()
    assert torch.equal(loaded(inputs), merged.eval()(inputs))


def test_recalibration_gives_the_statistics_of_the_batches():
    members = pair("convolutions")
    merged = merge(members, templates=2, cross="random", probe=probe("convolutions")).operator
    batches = [torch.randn(4, 2, 8, 8, dtype=torch.float64) for _ in range(3)]
    recalibrate(merged, batches)
    with torch.no_grad():
        seen = merged[0](torch.cat(batches))
    torch.testing.assert_close(merged[1].running_mean, seen.mean((0, 2, 3)))
    assert merged[1].momentum == 0.1
    assert not merged.training


class Undeclared(UNet):
    def channel_parts(self):
        return {}


class Unsaid(FourierOperator):
    channel_settings = ()


BLENDED = {"width": 4, "layers": 2, "levels": 2, "blended": True}


class Normed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, width), nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def test_channels_that_mix_are_found_out():
    members = [trained(lambda: Undeclared(2, 1, width=6, levels=3), seed) for seed in range(2)]
    with pytest.raises(InputError, match="differs from the mean"):
        merge(members)
    assert merge(members, verify="report").change > 1e-3


def test_a_layer_norm_is_refused_unless_the_change_is_accepted():
    members, inputs = [trained(lambda: Normed(6), seed) for seed in range(2)], torch.randn(5, 4, dtype=torch.float64)
    with pytest.raises(InputError, match="group norm"):
        merge(members)
    with pytest.raises(InputError, match="verify='report'"):
        merge(members, Normed(12).double())
    merged = merge(members, Normed(12).double(), probe=inputs, verify="report")
    assert math.isfinite(merged.change)
    assert merged.change > 1e-3


def test_group_norm_needs_groups_of_each_member():
    members = [
        trained(lambda: nn.Sequential(nn.Conv1d(1, 4, 1), nn.GroupNorm(2, 4), nn.Conv1d(4, 1, 1)), s) for s in (0, 1)
    ]
    target = nn.Sequential(nn.Conv1d(1, 8, 1), nn.GroupNorm(2, 8), nn.Conv1d(8, 1, 1)).double()
    with pytest.raises(InputError, match="4 keep the statistics"):
        merge(members, target)


def test_members_that_are_nearly_alike_are_warned_of():
    first = trained(perceptron, 0)
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[0].weight.mul_(1.01)
    with pytest.warns(UserWarning, match="other seeds"):
        assert merge([first, second]).likeness > 0.99


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"members": pair("perceptron")[:1]}, "two or more"),
        ({"members": [trained(perceptron, 0)] * 2}, "same in all weights"),
        ({"members": [trained(perceptron, 0), trained(convolutions, 0)]}, "different architecture"),
        ({"members": [FourierOperator(1, 1, width=w) for w in (4, 6)]}, "width 4 and 6"),
        ({"members": [nn.DataParallel(m) for m in pair("perceptron")]}, "wrapped"),
        ({"members": [trained(lambda: nn.Sequential(nn.Linear(3, 3)), s) for s in (0, 1)]}, "1 layers"),
        ({"members": [trained(lambda: Unsaid(1, 1, width=4, modes=4), s) for s in (0, 1)]}, "does not say"),
        ({"members": [merge(pair("perceptron"), templates=2).operator] * 2}, "grown by templates already"),
        ({"templates": 0}, "positive integer"),
        ({"cross": "orthogonal"}, "2 templates or more"),
        ({"cross": "diagonal"}, "allowed are zero"),
        ({"combination": "product"}, "allowed are mean and sum|allowed are mean, sum"),
        ({"members": [templated(m, 3) for m in pair("perceptron")], "templates": 2}, "members have 3"),
        ({"members": [trained(lambda: MultigridOperator(1, 1, **BLENDED), s) for s in (0, 1)]},
         "members' differ"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_said(change, word):
    settings = {"members": pair("perceptron"), **change}
    with pytest.raises(InputError, match=word):
        merge(settings.pop("members"), **settings)
