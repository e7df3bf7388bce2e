"""Elimination order of a stencil on a grid, by nested dissection. Symbolic work: done once per pattern.

A region of the grid is cut by a separator as wide as the stencil reaches; both sides are eliminated before it, and
recursively so (George 1973). Every leaf region or separator is one *node*: its unknowns are eliminated together, and
the later unknowns that they touch by then, its *border*, are the outer neighbours of the whole region.

Separators are the unknowns with d · x in a short interval, for d along an axis or along a diagonal. A stencil without
corner entries changes x₁ + x₂ by at most one, so that a diagonal line separates as well as a grid line, and regions
bounded by diagonals touch less: for the same number of unknowns a diamond has 1/√2 of the neighbours of a square. On
64 x 64 unknowns and five points this halves the work of cuts along the axes (3.5 against 7.1 million operations for
LU) and stores a third less. Each cut is the one with the least estimate of its own work and of its sides' borders.

In 2D with n = s² unknowns the factors hold O(n log n) numbers and cost O(n^1.5) work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fieldwright.solvers.lanes import compiled, inner

# A region this small is eliminated as one node; sizes from 8 to 12 cost the same.
LEAF = 10
# The smaller side of a cut holds at least this part of the unknowns.
LEAST_SIDE = 0.27


class Nodes(NamedTuple):
    """Nodes in an order in which children come before parents and subtrees are contiguous.

    ``order``                  unknowns (C order) in the order of elimination
    ``first``                  where each node's start in it, and the end
    ``border``, ``border_at``  unknowns (C order) of all borders one after the other, and where each starts
    ``children``               node's children (two rows), -1 where there is none
    """

    order: np.ndarray
    first: np.ndarray
    border: np.ndarray
    border_at: np.ndarray
    children: np.ndarray


def dissect(shape: tuple[int, ...], periodic: tuple[bool, ...], offsets: Sequence[tuple[int, ...]]) -> Nodes:
    """The nodes of a stencil on a grid.

    Axes no longer than twice the stencil's reach, such as one that counts the components of a vector, are never cut:
    what belongs to one point stays together, side by side in its node.
    """
    places = np.indices(shape).reshape(len(shape), -1)
    reach = [max(1, *(abs(o[axis]) for o in offsets)) for axis in range(len(shape))]
    axes = [axis for axis, n in enumerate(shape) if n > 2 * reach[axis]]
    whole = [axis for axis in range(len(shape)) if axis not in axes]
    inward = [*axes, *whole]
    rank = np.ravel_multi_index([places[a] for a in inward], [shape[a] for a in inward])
    directions = _directions(axes, len(shape))
    widths = [max(1, *(abs(int(np.dot(d, o))) for o in offsets)) for d in directions]
    opened = [(axis, reach[axis]) for axis in axes if periodic[axis]]
    return Nodes(
        *_cut_all(
            places,
            np.argsort(rank),
            _neighbours(shape, periodic, offsets),
            np.array(directions, np.int64).reshape(-1, len(shape)),
            np.array(widths, np.int64),
            np.array(opened, np.int64).reshape(-1, 2),
            LEAF * int(np.prod([shape[axis] for axis in whole])),
            LEAST_SIDE,
        )
    )


def _directions(axes: list[int], dimension: int) -> list[np.ndarray]:
    """Axes and diagonals, each once: (1, 0), (0, 1), (1, 1), (1, -1) in two dimensions."""
    found = []
    for count in range(1, len(axes) + 1):
        for some in itertools.combinations(axes, count):
            for signs in itertools.product((1, -1), repeat=count - 1):
                direction = np.zeros(dimension, np.int64)
                direction[list(some)] = (1, *signs)
                found.append(direction)
    return found


def _neighbours(shape: tuple[int, ...], periodic: tuple[bool, ...], offsets: Sequence[tuple[int, ...]]) -> np.ndarray:
    """For each unknown the unknowns it is coupled with either way, -1 where there is none."""
    places = np.indices(shape).reshape(len(shape), -1)
    found = []
    both = [*offsets, *(tuple(-step for step in o) for o in offsets)]
    for offset in dict.fromkeys(o for o in both if any(o)):
        target = places + np.array(offset)[:, None]
        inside = np.ones(places.shape[1], bool)
        for axis, wraps in enumerate(periodic):
            if wraps:
                target[axis] %= shape[axis]
            inside &= (target[axis] >= 0) & (target[axis] < shape[axis])
        flat = np.ravel_multi_index(list(np.where(inside, target, 0)), shape)
        found.append(np.where(inside, flat, -1))
    return np.ascontiguousarray(np.array(found, np.int64).reshape(len(found), places.shape[1]).T)


@inner
def _best(places, points, border, directions, widths, least_side):
    """(direction, first and last place) of the best separator, the direction -1 where there is none."""
    best, low, high, least = -1, 0, 0, np.inf
    count = len(points)
    for d in range(len(directions)):
        width = widths[d]
        start, stop = np.int64(2**62), np.int64(-(2**62))
        for point in points:
            along = _along(places, directions, d, point)
            start, stop = min(start, along), max(stop, along)
        length = stop - start + 1
        # here[i]: unknowns below place start + i; beside[i]: border unknowns below place start + i - 1.
        here, beside = np.zeros(length + 1, np.int64), np.zeros(length + 3, np.int64)
        for point in points:
            here[_along(places, directions, d, point) - start + 1] += 1
        for point in border:
            beside[min(max(_along(places, directions, d, point) - start, -1), length) + 2] += 1
        here, beside = np.cumsum(here), np.cumsum(beside)
        for i in range(length - width + 1):
            size = here[i + width] - here[i]
            before, after = here[i], count - here[i + width]
            if size == 0 or min(before, after) < max(least_side * (count - size), 1.0):
                continue
            # Of the border, a side touches about what lies on its own side of the separator.
            left, right = size + beside[i + 1], size + len(border) - beside[i + width + 1]
            work = float(size) * float(size + len(border)) ** 2 + float(left) ** 3 + float(right) ** 3
            work += 1e-9 * abs(before - after)
            if work < least:
                best, low, high, least = d, start + i, start + i + width, work
    return best, low, high


@inner
def _along(places, directions, d, point):
    total = np.int64(0)
    for axis in range(len(places)):
        total += directions[d, axis] * places[axis, point]
    return total


@inner
def _room(array, used, more):
    """The array, or a copy twice as long where ``more`` numbers do not fit behind the ``used`` ones."""
    if used + more <= len(array):
        return array
    longer = np.empty(2 * (used + more), np.int64)
    longer[:used] = array[:used]
    return longer


@inner
def _parts(places, points, border, directions, widths, opened, opening, least_side, parts):
    """Say of each unknown of a region whether it is on one side (0), on the other (1) or the separator (2)."""
    if opening < len(opened):
        # Opening a periodic axis takes a plane off one end; what is left lies between walls.
        axis, width = opened[opening]
        low = places[axis, points[0]]
        for point in points:
            low = min(low, places[axis, point])
        for i in range(len(points)):
            parts[i] = 2 if places[axis, points[i]] < low + width else 0
        return True
    direction, low, high = _best(places, points, border, directions, widths, least_side)
    for i in range(len(points)):
        along = _along(places, directions, direction, points[i])
        parts[i] = 0 if along < low else (1 if along >= high else 2)
    return direction >= 0


@compiled
def _cut_all(places, ranked, neighbours, directions, widths, opened, leaf, least_side):
    """`dissect` on arrays; ``ranked`` holds the unknowns in the order that they shall have within a node."""
    n = len(ranked)
    # A region is a run of ``order``; cut into side, side and separator, it is in the order of elimination.
    order, moved, parts = ranked.copy(), np.empty(n, np.int64), np.zeros(n, np.int8)
    side, seen = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    # Of each region: start, stop, its border's start and stop, how many axes are open, the node it is a side of.
    regions = np.empty((n + 1, 6), np.int64)
    # Of each node, parents first: its first unknown, its border's start and stop, and its parent.
    nodes = np.empty((n, 4), np.int64)
    border = np.empty(4 * n + 64, np.int64)
    regions[0] = 0, n, 0, 0, 0, -1
    pending, found, used, cuts = (1 if n > 0 else 0), 0, 0, 0
    while pending > 0:
        pending -= 1
        start, stop, border_start, border_stop, opening, parent = regions[pending]
        points, middle, last = order[start:stop], start, start
        if stop - start > leaf and _parts(
            places, points, border[border_start:border_stop], directions, widths, opened, opening, least_side, parts
        ):
            at = 0
            for part in range(3):
                middle, last = (start + at if part == 1 else middle), (start + at if part == 2 else last)
                for i in range(len(points)):
                    if parts[i] == part:
                        moved[at] = points[i]
                        at += 1
            points[:] = moved[:at]
        nodes[found] = last, border_start, border_stop, parent
        for low, high in ((start, middle), (middle, last)):
            if low == high:
                continue
            cuts += 1
            for i in range(low, high):
                side[order[i]] = cuts
            begin = used
            for i in range(low, high):
                border = _room(border, used, neighbours.shape[1])
                for q in neighbours[order[i]]:
                    if q >= 0 and side[q] != cuts and seen[q] != cuts:
                        seen[q] = cuts
                        border[used] = q
                        used += 1
            regions[pending] = low, high, begin, used, min(opening + 1, len(opened)), found
            pending += 1
        found += 1
    # Backwards, children come before parents.
    first, border_at = np.empty(found + 1, np.int64), np.zeros(found + 1, np.int64)
    children = np.full((2, found), -1, np.int64)
    together, at = np.empty(used, np.int64), 0
    for i in range(found):
        begin, border_start, border_stop, parent = nodes[found - 1 - i]
        first[i] = begin
        together[at : at + border_stop - border_start] = border[border_start:border_stop]
        at += border_stop - border_start
        border_at[i + 1] = at
        if parent >= 0:
            above = found - 1 - parent
            children[1 if children[0, above] >= 0 else 0, above] = i
    first[found] = n
    return order, first, together, border_at, children
