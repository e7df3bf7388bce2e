"""The fronts of multifrontal elimination: where the dense blocks of each node of a dissection lie, and what fills them.

The front of a node is a dense matrix over its own unknowns (the pivots) and its border. Eliminating the pivots leaves a
dense update for the border, which is added into the parent's front (Duff and Reid 1983). All of this depends on the
pattern alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fieldwright.solvers.lanes import compiled, inner
from fieldwright.solvers.nested_dissection import dissect

# Rows and columns of the dense blocks are padded to tiles of this size.
TILE = 4


class Fronts(NamedTuple):
    """The fronts in an order in which children come before parents, as flat arrays for compiled loops.

    Unknowns are renumbered by ``place`` (C order -> place in the elimination), so that the pivots of front i are the
    places ``first[i]`` .. ``first[i] + pivots[i] - 1``. Rows of a front are its pivots padded to whole tiles, then its
    border padded to whole tiles.

    ``borders``                  border unknowns of each front
    ``border``, ``border_at``    places of the padded borders in increasing order, and where each front's start; one
                                 past the last unknown stands for padding
    ``child1``, ``child2``       children, -1 where there is none
    ``depth``                    distance from the root
    ``width``                    row length of the update, a row and a column of zeros included
    ``update_at``                where the update starts on its stack (fronts of even depth and of odd have one each);
                                 entry 0 of either is zero
    ``take1``, ``take2``, ``take_at``    for each row of the front, the row of the child's update that it takes up
    ``factor_at``, ``upper_at``  where the front's P and L start, and its U
    ``entry_source``, ``entry_target``, ``entry_at``    place in a sample's coefficients -> place in a block; the blocks
                                 of a front are P, then tile by tile of its border L and, if not symmetric, U
    ``stack``                    entries of each stack
    ``upper``                    entries of all U together, or of the largest where it is only scratch (symmetric)
    """

    place: np.ndarray
    first: np.ndarray
    pivots: np.ndarray
    borders: np.ndarray
    border: np.ndarray
    border_at: np.ndarray
    child1: np.ndarray
    child2: np.ndarray
    depth: np.ndarray
    width: np.ndarray
    update_at: np.ndarray
    take1: np.ndarray
    take2: np.ndarray
    take_at: np.ndarray
    factor_at: np.ndarray
    upper_at: np.ndarray
    entry_source: np.ndarray
    entry_target: np.ndarray
    entry_at: np.ndarray
    stack: int
    upper: int


def find_fronts(
    shape: tuple[int, ...],
    periodic: tuple[bool, ...],
    offsets: tuple[tuple[int, ...], ...],
    pattern: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    symmetric: bool,
) -> Fronts:
    """The fronts of a stencil's ``pattern`` (rows, columns, places in the coefficients).

    With ``symmetric`` only the entries on and below the diagonal of the reordered matrix are read.
    """
    nodes = dissect(shape, periodic, offsets)
    unknowns, count = len(nodes.order), len(nodes.first) - 1
    place = np.empty(unknowns, np.int64)
    place[nodes.order] = np.arange(unknowns)
    pivots, borders = np.diff(nodes.first), np.diff(nodes.border_at)
    wide, tall = _padded(pivots), _padded(borders)
    border, border_at = np.full(int(tall.sum()), unknowns), _starts(tall)
    take_at = _starts(wide + tall)
    takes = np.zeros((2, int(take_at[-1])), np.int64)
    depth = np.zeros(count, np.int64)
    width = np.where(borders % TILE == 0, borders + 1, tall)
    update_at, stack = _relate(nodes, place, border, border_at, wide, width, take_at, takes, depth)
    upper_at = np.zeros(count + 1, np.int64) if symmetric else _starts(pivots * tall)
    rows, columns, sources = place[pattern[0]], place[pattern[1]], pattern[2]
    if symmetric:
        below = rows >= columns
        rows, columns, sources = rows[below], columns[below], sources[below]
    kinds = 1 if symmetric else 2
    section_at = _starts(1 + kinds * tall // TILE)
    section, target = _entries(rows, columns, nodes.first, border, border_at, borders, wide, section_at, kinds)
    by_section = np.argsort(section, kind="stable")
    return Fronts(
        place=place,
        first=nodes.first[:-1],
        pivots=pivots,
        borders=borders,
        border=border,
        border_at=border_at,
        child1=nodes.children[0],
        child2=nodes.children[1],
        depth=depth,
        width=width,
        update_at=update_at,
        take1=takes[0],
        take2=takes[1],
        take_at=take_at,
        factor_at=_starts(wide * wide + pivots * tall),
        upper_at=upper_at,
        entry_source=sources[by_section].astype(np.int64),
        entry_target=target[by_section],
        entry_at=_starts(np.bincount(section, minlength=int(section_at[-1]))),
        stack=int(stack),
        upper=int((pivots * tall).max() if symmetric else upper_at[-1]),
    )


def _padded(count: np.ndarray) -> np.ndarray:
    return (count + TILE - 1) // TILE * TILE


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where runs of some lengths start, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@compiled
def _relate(nodes, place, border, border_at, wide, width, take_at, takes, depth):
    """Fill the borders, what each front takes from its children, and depths; returns the updates' places."""
    count = len(wide)
    for i in range(count - 1, -1, -1):
        start, stop = nodes.border_at[i], nodes.border_at[i + 1]
        mine = border[border_at[i] : border_at[i] + stop - start]
        for k in range(start, stop):
            mine[k - start] = place[nodes.border[k]]
        mine.sort()
        for c in nodes.children[:, i]:
            if c >= 0:
                depth[c] = depth[i] + 1
    update_at, top, highest = np.zeros(count, np.int64), np.ones(2, np.int64), 1
    for i in range(count):
        update_at[i] = top[depth[i] % 2]
        top[depth[i] % 2] += width[i] ** 2
        highest = max(highest, top[depth[i] % 2])
        first, pivots = nodes.first[i], nodes.first[i + 1] - nodes.first[i]
        for which in range(2):
            c = nodes.children[which, i]
            if c < 0:
                continue
            held = nodes.border_at[c + 1] - nodes.border_at[c]
            # The row of zeros stands for what the child does not hold.
            takes[which, take_at[i] : take_at[i + 1]] = held
            row = border_at[i]
            for k in range(held):
                unknown = border[border_at[c] + k]
                if unknown < first + pivots:
                    at = unknown - first
                else:
                    while border[row] < unknown:
                        row += 1
                    at = wide[i] + row - border_at[i]
                takes[which, take_at[i] + at] = k
            top[1 - depth[i] % 2] = min(top[1 - depth[i] % 2], update_at[c])
    return update_at, highest


@inner
def _owner(first, unknown):
    """The node that eliminates an unknown."""
    low, high = 0, len(first) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= unknown:
            low = middle
        else:
            high = middle
    return low


@compiled
def _entries(rows, columns, first, border, border_at, borders, wide, section_at, kinds):
    """The block of each matrix entry, numbered through all fronts, and its place in the block."""
    section, target = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for e in range(len(rows)):
        earlier, later = min(rows[e], columns[e]), max(rows[e], columns[e])
        i = _owner(first, earlier)
        inside = earlier - first[i]
        if later < first[i + 1]:
            section[e] = section_at[i]
            target[e] = (rows[e] - first[i]) * wide[i] + columns[e] - first[i]
        else:
            beyond = np.searchsorted(border[border_at[i] : border_at[i] + borders[i]], later)
            section[e] = section_at[i] + 1 + kinds * (beyond // TILE) + (columns[e] > rows[e])
            target[e] = inside * TILE + beyond % TILE
    return section, target
