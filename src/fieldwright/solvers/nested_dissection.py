"""Elimination fronts of a stencil on a grid, by nested dissection. Symbolic work: done once per pattern, kept.

A box of the grid is cut by a separator as wide as the stencil reaches; both halves are eliminated before it, and
recursively so (George 1973). Every leaf box or separator is one *front*: a dense matrix over its own unknowns (the
pivots) and the later unknowns they touch (the border). Eliminating the pivots leaves a dense update for the border,
which is added into the parent's front: the multifrontal method (Duff and Reid 1983).

In 2D with n = s² unknowns this stores O(n log n) numbers and does O(n^1.5) work.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse
from jaxtyping import Int64

LEAF = 12
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Fronts:
    """The fronts in an order in which children come before parents, as flat arrays for compiled loops.

    Unknowns are renumbered by ``place`` (C order -> place in the elimination), so that the pivots of front i are the
    places ``first[i]`` .. ``first[i] + pivots[i] - 1``.

    ``size``            pivots and border together
    ``border``, ``border_at``    concatenated border places, in increasing order; front i's start at ``border_at[i]``
    ``child``, ``child_at``      concatenated children
    ``local``           for each border place, its row in the parent's front (aligned with ``border``)
    ``entry_source``, ``entry_row``, ``entry_column``, ``entry_at``   place in a sample's coefficients -> row and column
                        in the front (the lesser of them is a pivot)
    ``factor_at``       where front i's columns of L (and rows of U) start, in entries
    ``depth``           distance from the root
    ``stack``           most entries of pending updates at one time, of fronts of even depth or of odd
    """

    place: Int64[np.ndarray, " unknown"]
    first: Int64[np.ndarray, " front"]
    pivots: Int64[np.ndarray, " front"]
    size: Int64[np.ndarray, " front"]
    border: Int64[np.ndarray, " borders"]
    border_at: Int64[np.ndarray, " front_1"]
    child: Int64[np.ndarray, " children"]
    child_at: Int64[np.ndarray, " front_1"]
    local: Int64[np.ndarray, " borders"]
    entry_source: Int64[np.ndarray, " entry"]
    entry_row: Int64[np.ndarray, " entry"]
    entry_column: Int64[np.ndarray, " entry"]
    entry_at: Int64[np.ndarray, " front_1"]
    factor_at: Int64[np.ndarray, " front_1"]
    depth: Int64[np.ndarray, " front"]
    stack: int


def dissect(
    shape: tuple[int, ...], periodic: tuple[bool, ...], reach: tuple[int, ...]
) -> list[tuple[np.ndarray, list[int]]]:
    """(unknowns in C order, children) of every leaf and separator, children before parents."""
    nodes: list[tuple[np.ndarray, list[int]]] = []
    grid = np.arange(int(np.prod(shape))).reshape(shape)

    def points(box: Box) -> np.ndarray:
        return grid[tuple(slice(low, high) for low, high in box)].reshape(-1)

    def cut(box: Box, wraps: tuple[bool, ...]) -> int | None:
        lengths = [high - low for low, high in box]
        if 0 in lengths:
            return None
        # Opening a periodic axis takes a plane off one end; what is left is a box between walls.
        wide = [n > 2 * max(1, r) for n, r in zip(lengths, reach, strict=True)]
        opening = [a for a, wraps_around in enumerate(wraps) if wraps_around and wide[a]]
        axis = opening[0] if opening else int(np.argmax(lengths))
        if int(np.prod(lengths)) <= LEAF or not wide[axis]:
            nodes.append((points(box), []))
            return len(nodes) - 1
        low, high = box[axis]
        width = max(1, reach[axis])
        middle = low if wraps[axis] else low + (high - low - width) // 2
        still = tuple(w and a != axis for a, w in enumerate(wraps))
        halves = ((low, middle), (middle + width, high))
        children = [cut((*box[:axis], half, *box[axis + 1 :]), still) for half in halves]
        separator = (*box[:axis], (middle, middle + width), *box[axis + 1 :])
        nodes.append((points(separator), [c for c in children if c is not None]))
        return len(nodes) - 1

    cut(tuple((0, n) for n in shape), periodic)
    return nodes


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
    rows, columns, sources = pattern
    unknowns = int(np.prod(shape))
    reach = tuple(max(abs(o[axis]) for o in offsets) for axis in range(len(shape)))
    nodes = dissect(shape, periodic, reach)
    order = np.concatenate([points for points, _ in nodes])
    place = np.empty(unknowns, np.int64)
    place[order] = np.arange(unknowns)
    first = np.cumsum([0, *(len(points) for points, _ in nodes)])
    rows, columns = place[rows], place[columns]
    graph = scipy.sparse.coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(unknowns,) * 2).tocsr()
    graph = (graph + graph.T).tocsr()

    borders: list[np.ndarray] = []
    parent = np.full(len(nodes), -1)
    for i, (_, children) in enumerate(nodes):
        touched = graph.indices[graph.indptr[first[i]] : graph.indptr[first[i + 1]]]
        later = np.unique(np.concatenate([touched, *(borders[c] for c in children)]))
        borders.append(later[later >= first[i + 1]].astype(np.int64))
        parent[children] = i

    pivots = np.diff(first)
    size = pivots + np.array([len(b) for b in borders])
    local = [
        np.searchsorted(_rows_of(parent[i], first, borders), borders[i]) if parent[i] >= 0 else borders[i]
        for i in range(len(nodes))
    ]
    if symmetric:
        below = rows >= columns
        rows, columns, sources = rows[below], columns[below], sources[below]
    owner = np.searchsorted(first, np.minimum(rows, columns), side="right") - 1
    by_owner = np.argsort(owner, kind="stable")
    entry_at = np.searchsorted(owner[by_owner], np.arange(len(nodes) + 1))
    entry_row, entry_column = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for i, (start, stop) in enumerate(pairwise(entry_at)):
        chosen = by_owner[start:stop]
        mine = _rows_of(i, first, borders)
        entry_row[start:stop] = np.searchsorted(mine, rows[chosen])
        entry_column[start:stop] = np.searchsorted(mine, columns[chosen])

    depth = np.zeros(len(nodes), np.int64)
    for i in range(len(nodes) - 1, -1, -1):
        depth[nodes[i][1]] = depth[i] + 1
    pending, highest = [0, 0], 0
    for i, (_, children) in enumerate(nodes):
        pending[depth[i] % 2] += len(borders[i]) ** 2
        highest = max(highest, *pending)
        pending[1 - depth[i] % 2] -= sum(len(borders[c]) ** 2 for c in children)
    return Fronts(
        place=place,
        first=first[:-1].astype(np.int64),
        pivots=pivots.astype(np.int64),
        size=size.astype(np.int64),
        border=_joined(borders),
        border_at=np.cumsum([0, *(len(b) for b in borders)]).astype(np.int64),
        child=_joined([np.array(children, np.int64) for _, children in nodes]),
        child_at=np.cumsum([0, *(len(children) for _, children in nodes)]).astype(np.int64),
        local=_joined(local),
        entry_source=sources[by_owner].astype(np.int64),
        entry_row=entry_row,
        entry_column=entry_column,
        entry_at=entry_at.astype(np.int64),
        factor_at=np.cumsum([0, *(size * pivots)]).astype(np.int64),
        depth=depth,
        stack=int(highest),
    )


def _rows_of(i: int, first: np.ndarray, borders: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.arange(first[i], first[i + 1]), borders[i]])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64)
