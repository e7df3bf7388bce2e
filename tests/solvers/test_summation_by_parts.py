"""Second differences: orders, symmetry in their own quadrature, and walls that neither gain nor lose by themselves."""

import math

import numpy as np
import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.solvers.summation_by_parts import SecondDifference

KINDS = [(order, wraps) for order in (2, 4) for wraps in (False, True)]


def matrix(axis: SecondDifference) -> torch.Tensor:
    return axis.apply(torch.eye(axis.points, dtype=torch.float64), 0)


@pytest.mark.parametrize(("order", "wraps"), KINDS)
@pytest.mark.parametrize("points", [8, 9, 24])
def test_operator_is_symmetric_and_never_positive_in_its_quadrature(order: int, wraps: bool, points: int) -> None:
    axis = SecondDifference(order, points, 0.3, wraps)
    stiffness = -axis.weights[:, None] * matrix(axis)
    torch.testing.assert_close(stiffness, stiffness.T, rtol=0, atol=1e-13)
    eigenvalues = torch.linalg.eigvalsh(stiffness)
    # Constants alone have no energy.
    assert abs(float(eigenvalues[0])) < 1e-13
    assert float(eigenvalues[1]) > 1e-3
    assert float(axis.weights.sum()) == pytest.approx(0.3 * (points if wraps else points - 1), rel=1e-14)


@pytest.mark.parametrize(("order", "wraps"), KINDS)
def test_eigenvalues_stay_below_the_stated_radius(order: int, wraps: bool) -> None:
    for points in (8, 17, 64):
        axis = SecondDifference(order, points, 0.1, wraps)
        largest = float(torch.linalg.eigvals(matrix(axis)).abs().max())
        assert 0.9 * axis.radius < largest <= axis.radius * (1 + 1e-12)


@pytest.mark.parametrize(("order", "inner", "outer"), [(2, 2, 1), (4, 4, 2)])
def test_second_derivatives_converge_inside_and_at_walls(order: int, inner: int, outer: int) -> None:
    """With the flux through the walls added: the order of the scheme inside, half of it in the rows at a wall."""
    gaps = []
    for points in (65, 129):
        h = 1 / (points - 1)
        axis, x = SecondDifference(order, points, h), torch.linspace(0, 1, points, dtype=torch.float64)
        found = axis.apply(torch.exp(2 * x), 0)
        found[0] -= 2.0 / axis.weights[0]
        found[-1] += 2 * math.exp(2.0) / axis.weights[-1]
        gap = (found - 4 * torch.exp(2 * x)).abs()
        gaps.append((float(gap[points // 2]), float(torch.cat([gap[:4], gap[-4:]]).max())))
    found_inner, found_outer = (math.log2(a / b) for a, b in zip(*gaps, strict=True))
    assert found_inner == pytest.approx(inner, abs=0.1)
    assert found_outer == pytest.approx(outer, abs=0.1)


@pytest.mark.parametrize("order", [2, 4])
def test_weights_integrate_to_the_order_of_the_scheme(order: int) -> None:
    gaps = []
    for points in (33, 65):
        axis, x = SecondDifference(order, points, 1 / (points - 1)), torch.linspace(0, 1, points, dtype=torch.float64)
        gaps.append(abs(float((axis.weights * torch.exp(2 * x)).sum()) - (math.exp(2) - 1) / 2))
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("order", "wraps"), KINDS)
@pytest.mark.parametrize("points", [4, 11])
def test_table_holds_the_rows_of_the_operator(points: int, order: int, wraps: bool) -> None:
    axis = SecondDifference(order, max(points, 2 * order), 0.7, wraps)
    places, values = axis.table()
    assert places.shape == values.shape == (axis.points, 6)
    dense = np.zeros((axis.points, axis.points))
    for row in range(axis.points):
        np.add.at(dense[row], places[row], values[row])
    np.testing.assert_array_equal(dense, matrix(axis).numpy())


def test_any_axis_of_any_batch_gives_the_same_bits() -> None:
    fields = torch.rand(3, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    axis = SecondDifference(4, 12, 0.2)
    together = axis.apply(fields, 2)
    assert torch.equal(axis.apply(fields[1:2], 2)[0], together[1])
    torch.testing.assert_close(axis.apply(fields.transpose(1, 2), 1).transpose(1, 2), together, rtol=0, atol=0)


@pytest.mark.parametrize(("order", "points", "words"), [(3, 20, "order 3"), (4, 7, "7 points; order 4 needs 8")])
def test_impossible_operators_are_refused(order: int, points: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SecondDifference(order, points, 1.0)
