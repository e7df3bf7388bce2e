"""Convolutions and prolongations against loops over the definition, in float64."""

import itertools

import pytest
import torch

from fieldwright.operators.convolution import Convolution, Prolongation
from fieldwright.operators.walls import Walls


def ghost(field: torch.Tensor, index: tuple[int, ...], walls: Walls) -> torch.Tensor:
    """u(index), continued beyond the walls by the rule of each side one axis after the other."""
    sign, place = 1, []
    for axis, i in enumerate(index):
        n = field.shape[axis + 2]
        if not 0 <= i < n:
            rule = walls.rules[axis][i >= n]
            if rule == "zero":
                return torch.zeros_like(field[:, :, *(0,) * len(index)])
            mirrored = -1 - i if i < 0 else 2 * n - 1 - i
            i, sign = (i % n, sign) if rule == "wrap" else (mirrored, -sign if rule == "odd" else sign)
        place.append(i)
    return sign * field[:, :, *place]


def convolve(field: torch.Tensor, weight: torch.Tensor, walls: Walls, stride: int) -> torch.Tensor:
    shape = [-(-n // stride) for n in field.shape[2:]]
    out = field.new_zeros(len(field), len(weight), *shape)
    for place in itertools.product(*map(range, shape)):
        for tap in itertools.product(range(weight.shape[-1]), repeat=len(shape)):
            value = ghost(field, tuple(stride * i + k - 1 for i, k in zip(place, tap, strict=True)), walls)
            out[:, :, *place] += value @ weight[:, :, *tap].T
    return out


def prolong(field: torch.Tensor, weight: torch.Tensor, walls: Walls, shape: tuple[int, ...]) -> torch.Tensor:
    out = field.new_zeros(len(field), weight.shape[1], *shape)
    for coarse in itertools.product(*(range(-1, n + 1) for n in field.shape[2:])):
        value = ghost(field, coarse, walls)
        for tap in itertools.product(range(4), repeat=len(shape)):
            place = tuple(2 * j + k - 1 for j, k in zip(coarse, tap, strict=True))
            if all(0 <= i < n for i, n in zip(place, shape, strict=True)):
                out[:, :, *place] += value @ weight[:, :, *tap]
    return out


RULES = [("zero", "zero"), ("zero", "even"), ("odd", "even"), ("wrap", "wrap")]
CASES = [
    *[((r,), (n,)) for r in RULES for n in (8, 7)],
    *[((a, b), (6, 5)) for a, b in zip(RULES, [*RULES[1:], RULES[0]], strict=True)],
    ((("zero", "zero"), ("odd", "odd"), ("wrap", "wrap")), (3, 4, 4)),
]


@pytest.mark.parametrize(("rules", "shape"), CASES)
@pytest.mark.parametrize(("stride", "size"), [(1, 3), (2, 3), (2, 4)])
def test_convolution_matches_its_definition(rules, shape, stride, size):
    walls = Walls(rules)
    layer = Convolution(2, 3, walls, stride=stride, size=size).double()
    field = torch.randn(1, 2, *shape, dtype=torch.float64)
    assert torch.allclose(layer(field), convolve(field, layer.weight, walls, stride), atol=1e-12)


@pytest.mark.parametrize(("rules", "shape"), CASES)
def test_prolongation_matches_its_definition(rules, shape):
    walls = Walls(rules)
    layer = Prolongation(2, walls).double()
    field = torch.randn(1, 2, *(-(-n // 2) for n in shape), dtype=torch.float64)
    assert torch.allclose(layer(field, shape), prolong(field, layer.weight, walls, shape), atol=1e-12)


def test_weights_are_initialised_within_one_over_the_root_of_the_fan_in():
    weight = Convolution(24, 24, Walls((("zero", "zero"),) * 2)).weight
    bound = (24 * 9) ** -0.5
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.95 * bound
