"""Ghost layers against independent definitions, and their adjoint."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators.walls import Walls, channels_innermost

NUMPY_MODE = {
    ("even", False): {"mode": "symmetric"},
    ("even", True): {"mode": "reflect"},
    ("wrap", False): {"mode": "wrap"},
    ("wrap", True): {"mode": "wrap"},
}


def numpy_extension(field: np.ndarray, rule: str, on_points: bool, margins: tuple[int, int]) -> np.ndarray:
    if rule == "zero":
        return np.pad(field, margins)
    if rule == "odd":
        flipped = numpy_extension(field, "even", on_points, margins)
        flipped[: margins[0]] *= -1
        flipped[len(flipped) - margins[1] :] *= -1
        return flipped
    return np.pad(field, margins, **NUMPY_MODE[rule, on_points])


@pytest.mark.parametrize("on_points", [False, True])
@pytest.mark.parametrize("rule", ["zero", "odd", "even", "wrap"])
@pytest.mark.parametrize("margins", [(1, 1), (1, 2), (1, 0), (0, 1)])
def test_extension_matches_numpy_pad(rule, on_points, margins):
    field = torch.randn(2, 3, 7, dtype=torch.float64)
    wide, left = Walls(((rule, rule),), on_points).extend(field, (margins,))
    expected = np.apply_along_axis(numpy_extension, -1, field.numpy(), rule, on_points, margins)
    if left != (0,):
        wide = torch.nn.functional.pad(wide, margins)
    assert np.array_equal(wide.numpy(), expected)


def test_corners_hold_the_rule_of_both_walls():
    field = torch.randn(1, 1, 4, 5, dtype=torch.float64)
    wide, _ = Walls((("odd", "even"), ("wrap", "wrap"))).extend(field, ((1, 1), (1, 1)))
    assert wide[0, 0, 0, 0] == -field[0, 0, 0, -1]
    assert wide[0, 0, -1, -1] == field[0, 0, -1, 0]


rules = st.sampled_from([("zero", "odd"), ("odd", "even"), ("even", "zero"), ("wrap", "wrap"), ("even", "even")])


@given(first=rules, second=rules, on_points=st.booleans(), rows=st.integers(1, 5), columns=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_backward_is_the_adjoint_of_the_extension(first, second, on_points, rows, columns):
    field = channels_innermost(torch.randn(2, 2, rows, columns, dtype=torch.float64)).requires_grad_()
    wide, _ = Walls((first, second), on_points).extend(field, ((1, 2), (2, 1)))
    other = torch.randn_like(wide)
    (adjoint,) = torch.autograd.grad(wide, field, other)
    assert torch.allclose((wide * other).sum(), (field * adjoint).sum())


def test_extension_is_differentiable_twice():
    walls = Walls((("odd", "even"),))
    field = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda f: walls.extend(f, ((1, 1),))[0] ** 3, field)


def test_rules_follow_the_boundary_condition():
    boundary = Boundary.parse([["dirichlet", "neumann"], "periodic"], 2)
    assert Walls.of(boundary).rules == (("zero", "even"), ("wrap", "wrap"))
    assert Walls.of(boundary, dirichlet="odd").rules[0] == ("odd", "even")
    with pytest.raises(InputError, match="allowed are zero, odd"):
        Walls.of(boundary, dirichlet="even")  # type: ignore[arg-type]


def test_one_channel_is_stored_with_channels_innermost_too():
    field = channels_innermost(torch.randn(2, 1, 4, 6))
    assert field.stride() == (24, 1, 6, 1)
