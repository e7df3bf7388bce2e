"""Fronts hold every unknown once and every entry of the matrix once."""

import numpy as np
import pytest
import torch
from assembled import diffusion, unit_offsets
from components import elasticity
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.grids import Boundary
from fieldwright.solvers import nested_dissection
from fieldwright.solvers.fronts import find_fronts
from fieldwright.solvers.nested_dissection import dissect
from fieldwright.solvers.stencil import StencilSystem

NINE_POINTS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))


def _fronts(shape, offsets, *, symmetric, walls="dirichlet"):
    empty = torch.zeros(0, len(offsets), *shape, dtype=torch.float64)
    system = StencilSystem(empty, empty[:, 0], offsets, Boundary.parse(walls, len(shape)))
    return find_fronts(shape, system.boundary.periodic, offsets, system.pattern, symmetric=symmetric)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    periodic=st.lists(st.booleans(), min_size=3, max_size=3),
    reach=st.integers(1, 2),
)
def test_every_unknown_is_eliminated_once_and_children_come_first(shape, periodic, reach):
    offsets = [tuple(reach * step for step in offset) for offset in unit_offsets(len(shape))]
    nodes = dissect(tuple(shape), tuple(periodic[: len(shape)]), offsets)
    count = len(nodes.first) - 1
    assert np.array_equal(np.sort(nodes.order), np.arange(np.prod(shape)))
    assert np.all(np.diff(nodes.first) > 0)
    assert np.all(nodes.children < np.arange(count))
    assert sorted(nodes.children[nodes.children >= 0]) == list(range(count - 1))


@pytest.mark.parametrize("offsets", [unit_offsets(2), NINE_POINTS, (*unit_offsets(2), (2, 0), (0, -2))])
@pytest.mark.parametrize("periodic", [(False, False), (True, False), (True, True)])
def test_sides_of_a_separator_do_not_touch(offsets, periodic):
    size = 16
    nodes = dissect((size, size), periodic, offsets)
    members = [set(points.tolist()) for points in np.split(nodes.order, nodes.first[1:-1])]
    borders = [set(points.tolist()) for points in np.split(nodes.border, nodes.border_at[1:-1])]
    steps = np.array([*offsets, *(tuple(-s for s in o) for o in offsets)])

    def touched(points):
        """The neighbours of a set of points outside it."""
        beside = np.array([divmod(point, size) for point in points])[:, None] + steps
        beside = np.where(periodic, beside % size, beside)
        kept = np.all((beside >= 0) & (beside < size), axis=-1)
        return set((beside[kept] @ [size, 1]).tolist()) - points

    for i in range(len(members)):
        left, right = (members[c] if c >= 0 else set() for c in nodes.children[:, i])
        members[i] |= left | right
        assert left.isdisjoint(right)
        assert not left or touched(left).isdisjoint(right)
        assert borders[i] == touched(members[i])


@pytest.mark.parametrize("symmetric", [True, False])
def test_every_entry_is_read_once(symmetric):
    system = diffusion(torch.ones(1, 9, 11, dtype=torch.float64))
    fronts = _fronts(system.shape, system.offsets, symmetric=symmetric)
    rows, columns, sources = system.pattern
    expected = sources[fronts.place[rows] >= fronts.place[columns]] if symmetric else sources
    assert np.array_equal(np.sort(fronts.entry_source), np.sort(expected))


def test_components_of_a_point_lie_side_by_side():
    fronts = _fronts((2, 9, 7), elasticity(2, 1).offsets, symmetric=True)
    first, second = fronts.place.reshape(2, -1)
    assert np.array_equal(second, first + 1)
    assert np.all(fronts.pivots % 2 == 0)
    assert np.all(first % 2 == 0)


def _cholesky_entries(fronts):
    """Entries of L with the padding left out."""
    return int((fronts.pivots * (fronts.pivots + 1) // 2 + fronts.pivots * fronts.borders).sum())


def test_two_dimensional_fill_grows_like_n_log_n():
    small, large = (_cholesky_entries(_fronts((n, n), unit_offsets(2), symmetric=True)) for n in (32, 64))
    # A banded elimination would grow 8 times for every doubling.
    assert large < 6 * small


def test_diagonal_cuts_work_and_store_less_than_cuts_along_the_axes(monkeypatch):
    def cost(offsets):
        fronts = _fronts((64, 64), offsets, symmetric=True)
        return _cholesky_entries(fronts), int((fronts.pivots * (fronts.pivots + fronts.borders) ** 2).sum())

    entries, work = cost(unit_offsets(2))
    nine_point = cost(NINE_POINTS)
    monkeypatch.setattr(nested_dissection, "_directions", lambda axes, dimension: list(np.eye(2, dtype=np.int64)))
    entries_along_axes, work_along_axes = cost(unit_offsets(2))
    assert entries < 0.85 * entries_along_axes
    assert work < 0.6 * work_along_axes
    # Corner entries make a diagonal twice as thick, and then cuts follow the axes.
    assert nine_point == cost(NINE_POINTS)
