"""More channels, modes and levels: the same function to round-off, and moments as the grown gradients make them."""

import pytest
import torch
from growing_models import OPERATORS, trained

from fieldwright.errors import InputError
from fieldwright.growth import Levels, Modes, Widen, grow
from fieldwright.operators import FourierOperator, MultigridOperator, OperatorTransformer, load_operator

FIELDS = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

WIDE = {
    "fourier, twice": (lambda: FourierOperator(1, 1, modes=4, width=4, layers=2), Widen(8)),
    "fourier, no multiple": (lambda: FourierOperator(1, 1, modes=4, width=4, layers=2, channel_mlp=0), Widen(7)),
    "multigrid": (lambda: MultigridOperator(1, 1, width=3, layers=2, levels=2), Widen(5)),
    "transformer": (lambda: OperatorTransformer(1, 1, width=12, depths=[1, 1], skips=[1, 0]), Widen(24, uneven=0.0)),
}
EXACT = {
    **WIDE,
    "fourier, zero": (lambda: FourierOperator(1, 1, modes=4, width=4, layers=2), Widen(7, "zero")),
    "multigrid, zero": (lambda: MultigridOperator(1, 1, width=3, layers=2, levels=2), Widen(5, "zero")),
    "fourier, modes": (lambda: FourierOperator(1, 1, modes=5, width=4, layers=2), Modes([8, 7])),
    "multigrid, levels": (lambda: MultigridOperator(1, 1, width=3, layers=2, levels=2), Levels(4)),
}


def built(name):
    torch.manual_seed(0)
    build, growth = EXACT[name]
    return build().double(), growth


def gradients(model):
    model.zero_grad()
    model(FIELDS).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", EXACT)
def test_more_channels_modes_and_levels_keep_the_function(name):
    source, growth = built(name)
    trained(source, FIELDS)
    found = grow(source, growth)
    assert found.plan.preserves == "exact"
    assert found.report["output change"] < 1e-12
    torch.testing.assert_close(found.model(FIELDS), source(FIELDS), rtol=1e-10, atol=1e-12)
    assert found.report["parameters after"] > found.report["parameters before"]


@pytest.mark.parametrize("name", EXACT)
def test_gradients_obey_the_map_of_the_moments_to_round_off(name):
    source, growth = built(name)
    before = gradients(source)
    found = grow(source, growth)
    for tensor_name, gradient in gradients(found.model).items():
        rule = found.plan.states[tensor_name]
        if rule.gradient is None:
            continue
        expected = rule.gradient.value(before, tensor_name)
        reached = rule.gradient.squared({n: torch.ones_like(g) for n, g in before.items()}, tensor_name) > 0
        scale = float(gradient.abs().max()) + 1e-30
        assert float((gradient - expected)[reached].abs().max()) < 1e-10 * scale, tensor_name


@pytest.mark.parametrize("name", ["fourier, twice", "fourier, modes"])
def test_adam_of_the_grown_operator_holds_what_it_would_have_gathered(name):
    source, growth = built(name)
    optimizer = torch.optim.Adam(source.parameters(), lr=0.0)
    model = grow(source, growth).model
    own = torch.optim.Adam(model.parameters(), lr=0.0)
    for one, opt in ((source, optimizer), (model, own)):
        for _ in range(3):
            gradients(one)
            opt.step()
    mapped = grow(source, growth, optimizer=optimizer)
    for tensor_name, parameter in mapped.model.named_parameters():
        state, expected = mapped.optimizer.state[parameter], own.state[model.get_parameter(tensor_name)]
        rule = mapped.plan.states[tensor_name]
        ones = {n: torch.ones_like(p) for n, p in source.named_parameters()}
        reached = rule.gradient.squared(ones, tensor_name) > 0
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(state[key][reached], expected[key][reached], rtol=1e-9, atol=1e-20)
        assert state["step"] == expected["step"]


def test_copies_of_a_channel_learn_to_differ_where_they_are_split_unevenly():
    source, _ = built("fourier, twice")
    for uneven, differ in ((0.0, False), (0.2, True)):
        model = grow(source, Widen(8, uneven=uneven)).model
        trained(model, FIELDS, steps=3)
        copies = model.skips[0].weight[0], model.skips[0].weight[1]
        assert torch.allclose(*copies, rtol=1e-9) is not differ


def test_random_width_keeps_the_old_block_and_draws_the_rest():
    source, _ = built("fourier, twice")
    model = grow(source, Widen(7, "random")).model
    assert torch.equal(model.skips[0].weight[:4, :4], source.skips[0].weight)
    assert model.skips[0].weight[4:].abs().min() > 0
    assert model.skips[0].weight[:, 4:].abs().min() > 0


def test_wider_operators_are_saved_with_their_own_configuration(tmp_path):
    source, growth = built("multigrid, levels")
    grown = grow(source.float(), growth).model.eval()
    grown.save_pretrained(tmp_path / "grown")
    assert torch.equal(load_operator(tmp_path / "grown")(FIELDS.float()), grown(FIELDS.float()))


@pytest.mark.parametrize(
    ("name", "growth", "word"),
    [
        ("fourier", Widen(6), "above the 6"),
        ("fourier", Widen(12, "mirror"), "direct, zero, random"),
        ("fourier", Widen(12, uneven=1.0), r"\[0, 1\)"),
        ("latent spectral", Widen(16), "should keep the function"),
        ("fourier", Modes(4), "can get more"),
        ("multigrid", Modes(8), "FourierOperator"),
        ("multigrid", Levels(2), "above the 2"),
        ("fourier", Levels(8), "MultigridOperator"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(name, growth, word):
    with pytest.raises(InputError, match=word):
        grow(OPERATORS[name](), growth)
