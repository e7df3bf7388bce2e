"""Weights made of templates: the combination, exact and fresh starts, banks, and the way back to plain weights."""

import copy
import math

import pytest
import torch
from torch import nn

from fieldwright.errors import InputError
from fieldwright.growth import materialise, templated
from fieldwright.growth.members import BlockLayout
from fieldwright.growth.templates import TemplateWeight, factors, template_layers
from fieldwright.operators import FourierOperator, MultigridOperator, UNet


def perceptron(width=6):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2)
    ).double()


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_mixture_is_the_sum_of_templates_block_by_block():
    templates, coefficients = draws(2, 3, 4, 5, 3), draws(2, 2, 3, seed=1)
    weight = TemplateWeight(BlockLayout(2, 0, 1), templates, coefficients)(templates, coefficients)
    assert weight.shape == (8, 10, 3)
    for row in range(2):
        for column in range(2):
            block = sum(coefficients[row, column, k] * templates[row, k] for k in range(3))
            found = weight[4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
            torch.testing.assert_close(found, block, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (-1, -3)])
@pytest.mark.parametrize("parts", [(), (1, 2), (2, 0, 1)])
def test_parts_take_turns_within_a_joined_axis(axes, parts):
    """Against the definition: channel j of part p of member m follows those of the members before it."""
    outer, inner = (axis % 4 for axis in axes)
    shape = [2, 2, 2, 2]
    shape[inner], shape[outer] = 3, 5
    members = [draws(*shape, seed=seed) for seed in range(3)]
    wide = BlockLayout(3, outer, inner, inner_parts=parts).diagonal(members, fill=7.0)
    wide, members = wide.movedim((outer, inner), (0, 1)), [m.movedim((outer, inner), (0, 1)) for m in members]
    assert wide.shape[:2] == (15, 9)
    for m, member in enumerate(members):
        for column in range(3):
            sizes, part, within = parts or (3,), 0, column
            while within >= sizes[part]:
                within, part = within - sizes[part], part + 1
            place = 3 * sum(sizes[:part]) + m * sizes[part] + within
            assert torch.equal(wide[5 * m : 5 * m + 5, place], member[:, column])
            assert bool((wide[[i for i in range(15) if i // 5 != m], place] == 7).all())


OPERATORS = {
    "fourier": lambda: FourierOperator(1, 1, width=8, layers=2, modes=4),
    "multigrid": lambda: MultigridOperator(1, 1, width=8, layers=2, levels=2),
    "unet": lambda: UNet(1, 1, width=8, levels=2),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(1, 8, 2, stride=2), nn.GELU(), nn.Conv2d(8, 1, 2, stride=2)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_exact_start_keeps_the_function_and_every_factor_learns(name):
    torch.manual_seed(0)
    plain = OPERATORS[name]().double()
    inputs = draws(2, 1, 16, 16)
    made = templated(copy.deepcopy(plain), 3)
    torch.testing.assert_close(made(inputs), plain(inputs), rtol=1e-12, atol=1e-12)
    for layer in template_layers(made).values():
        _, templates, coefficients = factors(layer)
        nn.init.constant_(coefficients, 0.5)
        flat = templates[0].flatten(1)
        overlap = flat @ flat.T
        assert (overlap - overlap.diag().diag()).abs().max() < 1e-10 * overlap.max()
    made(inputs).square().sum().backward()
    for parameter in (p for layer in template_layers(made).values() for p in factors(layer)[1:]):
        assert parameter.grad is not None
        assert bool((parameter.grad.flatten(1).norm(dim=1) > 0).all())


def test_a_fresh_start_has_the_scale_of_the_layers_own_initialisation():
    """Whatever the fan-in: the template axis does not count, nor do modes and the two parts of a complex number."""
    torch.manual_seed(0)
    plain = FourierOperator(1, 1, width=24, layers=2, modes=8, channel_mlp=0)
    made = templated(copy.deepcopy(plain), 4, start="fresh")
    for name, layer in template_layers(made).items():
        before, after = template_layers(plain)[name].weight, layer.weight
        if before.numel() > 500:
            assert after.square().mean().item() == pytest.approx(before.square().mean().item(), rel=0.15)
            assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0).abs() < 0.2
    with_bias = nn.Linear(4096, 16)
    weight = templated(nn.Sequential(with_bias), 2, start="fresh")[0].weight
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 4096), rel=0.05)


def test_a_bank_shares_templates_and_starts_exactly_with_one_for_each_layer():
    torch.manual_seed(0)
    plain = FourierOperator(1, 1, width=6, layers=3, modes=4).double()
    names = [f"spectral.{i}" for i in range(3)]
    made = templated(copy.deepcopy(plain), 3, banks={"spectral": names})
    inputs = draws(2, 1, 12, 12)
    torch.testing.assert_close(made(inputs), plain(inputs), rtol=1e-12, atol=1e-12)
    for twin in (made, copy.deepcopy(made)):
        shared = {id(factors(twin.get_submodule(name))[1]) for name in names}
        assert len(shared) == 1
        assert len({id(factors(twin.get_submodule(name))[2]) for name in names}) == 3
    torch.testing.assert_close(materialise(made).state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)


def test_materialise_gives_a_plain_module_and_leaves_copies_alone():
    plain, inputs = perceptron(), draws(5, 3)
    made = templated(copy.deepcopy(plain), 2, start="fresh")
    kept, expected = copy.deepcopy(made), made(inputs)
    back = materialise(made)
    assert list(back.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in back.modules()] == [type(m) for m in plain.modules()]
    assert not back._forward_hooks
    assert not back._forward_pre_hooks
    torch.testing.assert_close(back(inputs), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(kept(inputs), expected, rtol=1e-13, atol=1e-13)


def test_a_weight_is_combined_once_in_a_call(monkeypatch):
    calls = []
    original = TemplateWeight.forward
    made = templated(nn.Sequential(*[nn.Linear(4, 4)] * 3), 2)  # one layer, read three times
    monkeypatch.setattr(TemplateWeight, "forward", lambda self, *args: calls.append(self) or original(self, *args))
    made(torch.randn(2, 4))
    assert len(calls) == 1
    with pytest.raises(RuntimeError):
        made(torch.randn(2, 5))
    made(torch.randn(2, 4)).sum().backward()
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"templates": 0}, "positive integer"),
        ({"templates": True}, "positive integer"),
        ({"start": "warm"}, "exact and fresh"),
        ({"banks": {"all": ["0", "2"]}}, "one shape"),
        ({"banks": {"all": ["0", "7"]}}, "no layer"),
        ({"banks": {"a": ["2"], "b": ["2"]}}, "two banks"),
    ],
)
def test_what_cannot_be_made_of_templates_is_said(change, word):
    with pytest.raises(InputError, match=word):
        templated(perceptron(), **{"templates": 2, **change})


def test_templates_are_made_once_and_their_weight_is_not_assigned_to():
    made = templated(perceptron(), 2)
    with pytest.raises(InputError, match="already"):
        templated(made, 2)
    with pytest.raises(InputError, match="materialise"):
        made[0].weight = torch.zeros(6, 3)
    torch.manual_seed(0)
    operator = FourierOperator(1, 1, width=6, layers=3, modes=4)
    with pytest.raises(InputError, match="needs 3"):
        templated(operator, 2, banks={"spectral": [f"spectral.{i}" for i in range(3)]})
