"""Fronts hold every unknown once and every entry of the matrix once."""

import numpy as np
import pytest
import torch
from assembled import diffusion
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.grids import Boundary
from fieldwright.solvers.nested_dissection import dissect, find_fronts
from fieldwright.solvers.stencil import StencilSystem


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    periodic=st.lists(st.booleans(), min_size=3, max_size=3),
    reach=st.integers(1, 2),
)
def test_every_unknown_is_eliminated_once_and_children_come_first(shape, periodic, reach):
    nodes = dissect(tuple(shape), tuple(periodic[: len(shape)]), (reach,) * len(shape))
    assert np.array_equal(np.sort(np.concatenate([points for points, _ in nodes])), np.arange(np.prod(shape)))
    assert all(child < parent for parent, (_, children) in enumerate(nodes) for child in children)
    assert sorted(c for _, children in nodes for c in children) == list(range(len(nodes) - 1))


def test_halves_do_not_touch():
    size = 16
    nodes = dissect((size, size), (True, False), (1, 1))
    members = [set(points) for points, _ in nodes]
    for i, (_, children) in enumerate(nodes):
        for c in children:
            members[i] |= members[c]
        if len(children) == 2:
            left, right = (members[c] for c in children)
            for point in left:
                x, y = divmod(int(point), size)
                beside = {((x + 1) % size, y), ((x - 1) % size, y), (x, y + 1), (x, y - 1)}
                assert not any(a * size + b in right for a, b in beside if 0 <= b < size)


@pytest.mark.parametrize("symmetric", [True, False])
def test_every_entry_is_read_once(symmetric):
    system = diffusion(torch.ones(1, 9, 11, dtype=torch.float64))
    fronts = find_fronts(system.shape, system.boundary.periodic, system.offsets, system.pattern, symmetric=symmetric)
    rows, columns, sources = system.pattern
    expected = sources[fronts.place[rows] >= fronts.place[columns]] if symmetric else sources
    assert np.array_equal(np.sort(fronts.entry_source), np.sort(expected))


def test_two_dimensional_fill_grows_like_n_log_n():
    def entries(size):
        empty = torch.zeros(0, 5, size, size, dtype=torch.float64)
        offsets = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
        system = StencilSystem(empty, empty[:, 0], offsets, Boundary.parse("dirichlet", 2))
        return find_fronts((size, size), (False, False), offsets, system.pattern, symmetric=True).factor_at[-1]

    # A banded elimination would grow 8 times for every doubling.
    assert entries(64) < 6 * entries(32)
    assert entries(64) < 35 * 64**2
