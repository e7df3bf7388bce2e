"""Compiled multifrontal elimination without pivoting, one sample per lane (`lanes`), and the solves with its factors.

A front of m rows with c pivots (`nested_dissection`) is kept in three dense blocks:

    L   m x c   unit lower triangle below the diagonal,
    U   c x m   upper triangle with the diagonal; for symmetric matrices U = D Lᵀ is scratch and the diagonal of L
                holds D,
    S   b x b   the update A_bb - L_b U_b of its border, b = m - c, which the parent's front takes up.

Every lane does the same operations in the same order and never sees its neighbours, so a sample's bits do not depend
on the batch. A zero or tiny pivot shows as infinity, NaN or a large ``growth`` in its lane alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fieldwright.solvers.lane_tiles import subtract_products
from fieldwright.solvers.lanes import LANES, aligned, compiled, larger, load, spread, store
from fieldwright.solvers.nested_dissection import Fronts


class Workspace(NamedTuple):
    """Memory of one group of lanes: matrix entries, factors, two stacks of updates, right-hand side, max L²."""

    entries: np.ndarray
    L: np.ndarray
    U: np.ndarray
    even: np.ndarray
    odd: np.ndarray
    x: np.ndarray
    local: np.ndarray
    inverse: np.ndarray
    growth: np.ndarray


def workspace(fronts: Fronts, entries: int, *, symmetric: bool) -> Workspace:
    """Uninitialised memory for matrices of one pattern with ``entries`` stored numbers."""
    factors = int(fronts.factor_at[-1])
    scratch = int((fronts.size * fronts.pivots).max())
    sizes = (
        entries,
        factors,
        scratch if symmetric else factors,
        fronts.stack,
        fronts.stack,
        len(fronts.place),
        int(fronts.size.max()),
        4,
        1,
    )
    return Workspace(*(aligned(size, np.float64) for size in sizes))


@compiled
def pack(coefficients, samples, entries):
    """Entry e of ``entries`` = the number at flat place e of each lane's sample."""
    for e in range(coefficients.shape[1]):
        for lane in range(LANES):
            entries[e * LANES + lane] = coefficients[samples[lane], e]


@compiled
def residual(rows_at, columns, places, entries, f, u, r):
    """r = f - A u, unknowns in C order, by the packed ``entries``."""
    for i in range(len(rows_at) - 1):
        total = load(f, i)
        for e in range(rows_at[i], rows_at[i + 1]):
            total = total - load(entries, places[e]) * load(u, columns[e])
        store(r, i, total)


@compiled
def _finish_rows(L, l0, U, u0, m, c, k0, w, first, symmetric, inverse, growth):
    """Columns k0 .. k0 + w of L in the rows from ``first`` on, by substitution with the block's own U."""
    largest = load(growth, 0)
    for i in range(first, m):
        row = l0 + i * c
        for k in range(k0, k0 + w):
            value = load(L, row + k)
            for t in range(k0, k):
                value = value - load(L, row + t) * load(U, u0 + t * m + k)
            if symmetric:
                store(U, u0 + k * m + i, value)
            value = value * load(inverse, k - k0)
            largest = larger(value * value, largest)
            store(L, row + k, value)
    store(growth, 0, largest)


@compiled
def _finish_four(L, l0, U, u0, m, c, k0, first, symmetric, inverse, growth):
    """`_finish_rows` for the usual width of four, with the block in registers."""
    u01, u02, u03 = load(U, u0 + k0 * m + k0 + 1), load(U, u0 + k0 * m + k0 + 2), load(U, u0 + k0 * m + k0 + 3)
    u12, u13 = load(U, u0 + (k0 + 1) * m + k0 + 2), load(U, u0 + (k0 + 1) * m + k0 + 3)
    u23 = load(U, u0 + (k0 + 2) * m + k0 + 3)
    i0, i1, i2, i3 = load(inverse, 0), load(inverse, 1), load(inverse, 2), load(inverse, 3)
    largest = load(growth, 0)
    for i in range(first, m):
        row = l0 + i * c + k0
        y0 = load(L, row)
        x0 = y0 * i0
        y1 = load(L, row + 1) - x0 * u01
        x1 = y1 * i1
        y2 = load(L, row + 2) - x0 * u02 - x1 * u12
        x2 = y2 * i2
        y3 = load(L, row + 3) - x0 * u03 - x1 * u13 - x2 * u23
        x3 = y3 * i3
        store(L, row, x0)
        store(L, row + 1, x1)
        store(L, row + 2, x2)
        store(L, row + 3, x3)
        if symmetric:
            column = u0 + k0 * m + i
            store(U, column, y0)
            store(U, column + m, y1)
            store(U, column + 2 * m, y2)
            store(U, column + 3 * m, y3)
        largest = larger(larger(x0 * x0, x1 * x1), larger(larger(x2 * x2, x3 * x3), largest))
    store(growth, 0, largest)


@compiled
def _finish_block(L, l0, U, u0, m, c, k0, w, symmetric, inverse):
    """Eliminate the w x w block on the diagonal at pivot k0, which earlier pivots have already updated."""
    one = spread(1.0)
    for k in range(k0, k0 + w):
        for j in range(k, k0 + w):
            at = l0 + j * c + k if symmetric else u0 + k * m + j
            value = load(L, at) if symmetric else load(U, at)
            for t in range(k0, k):
                value = value - load(L, l0 + k * c + t) * load(U, u0 + t * m + j)
            store(U, u0 + k * m + j, value)
            if symmetric and j == k:
                store(L, at, value)
        reciprocal = one / load(U, u0 + k * m + k)
        store(inverse, k - k0, reciprocal)
        for i in range(k + 1, k0 + w):
            if symmetric:
                value = load(U, u0 + k * m + i)
            else:
                value = load(L, l0 + i * c + k)
                for t in range(k0, k):
                    value = value - load(L, l0 + i * c + t) * load(U, u0 + t * m + k)
            store(L, l0 + i * c + k, value * reciprocal)


@compiled
def _finish_columns(L, l0, U, u0, m, c, k0, w):
    """Rows k0 .. k0 + w of U in the columns beyond the block."""
    for k in range(k0 + 1, k0 + w):
        for j in range(k0 + w, m):
            value = load(U, u0 + k * m + j)
            for t in range(k0, k):
                value = value - load(L, l0 + k * c + t) * load(U, u0 + t * m + j)
            store(U, u0 + k * m + j, value)


@compiled
def _eliminate(L, l0, U, u0, S, s0, m, c, symmetric, inverse, growth):
    """Left-looking in blocks of four pivots: a block takes up all earlier pivots at once, then its own."""
    b = m - c
    for k0 in range(0, c, 4):
        w = min(4, c - k0)
        if k0 > 0:
            for i in range(k0, m, 4):
                n = min(4, m - i)
                subtract_products(L, l0 + i * c + k0, c, L, l0 + i * c, c, 1, U, u0 + k0, m, 1, k0, n, w)
            if not symmetric:
                for j in range(k0, m, 4):
                    n = min(4, m - j)
                    subtract_products(U, u0 + k0 * m + j, m, L, l0 + k0 * c, c, 1, U, u0 + j, m, 1, k0, w, n)
        _finish_block(L, l0, U, u0, m, c, k0, w, symmetric, inverse)
        if w == 4:
            _finish_four(L, l0, U, u0, m, c, k0, k0 + w, symmetric, inverse, growth)
        else:
            _finish_rows(L, l0, U, u0, m, c, k0, w, k0 + w, symmetric, inverse, growth)
        if not symmetric:
            _finish_columns(L, l0, U, u0, m, c, k0, w)
    for j in range(0, b, 4):
        n = min(4, b - j)
        for i in range(j if symmetric else 0, b, 4):
            h = min(4, b - i)
            subtract_products(S, s0 + i * b + j, b, L, l0 + (c + i) * c, c, 1, U, u0 + c + j, m, 1, c, h, n)


@compiled
def _take_update(below, top, local, n, c, m, symmetric, L, l0, U, u0, S, s0):
    """Add a child's update (n x n at ``top``) into its parent's front, row p of it into row ``local[p]``."""
    split = 0
    while split < n and local[split] < c:
        split += 1
    b = m - c
    for p in range(n):
        i = local[p]
        for q in range(min(p + 1, split) if symmetric or p < split else split):
            at = l0 + i * c + local[q]
            if symmetric or q < p:
                store(L, at, load(L, at) + load(below, top + p * n + q))
            else:
                at = u0 + i * m + local[q]
                store(U, at, load(U, at) + load(below, top + p * n + q))
        if p < split and not symmetric:
            for q in range(p + 1, n):
                at = u0 + i * m + local[q]
                store(U, at, load(U, at) + load(below, top + p * n + q))
        if p >= split:
            row = s0 + (i - c) * b - c
            for q in range(split, p + 1 if symmetric else n):
                at = row + local[q]
                store(S, at, load(S, at) + load(below, top + p * n + q))


@compiled
def factor(fronts, symmetric, work):
    """Eliminate all fronts of the matrices packed in ``work.entries``; leaves factors and growth = max L² in ``work``.

    ``fronts`` are the arrays of `Fronts` in the order of its fields.
    """
    _, _, pivots, size, _, border_at, child, child_at, local, source, rows, columns, entry_at, factor_at, depth = fronts
    L, U = work.L, work.U
    work.growth[:] = 0
    top_even, top_odd = 0, 0
    for front in range(len(pivots)):
        m, c, l0 = size[front], pivots[front], factor_at[front]
        b = m - c
        u0 = 0 if symmetric else l0
        # Children are one level deeper, so their updates lie on the other stack and stay where they are.
        if depth[front] % 2 == 0:
            S, s0, below, top = work.even, top_even, work.odd, top_odd
        else:
            S, s0, below, top = work.odd, top_odd, work.even, top_even
        L[l0 * LANES : (l0 + m * c) * LANES] = 0
        if not symmetric:
            U[u0 * LANES : (u0 + m * c) * LANES] = 0
        for i in range(b):
            S[(s0 + i * b) * LANES : (s0 + i * b + (i + 1 if symmetric else b)) * LANES] = 0
        for e in range(entry_at[front], entry_at[front + 1]):
            i, j = rows[e], columns[e]
            value = load(work.entries, source[e])
            if i > j or symmetric:
                at = l0 + i * c + j
                store(L, at, load(L, at) + value)
            else:
                at = u0 + i * m + j
                store(U, at, load(U, at) + value)
        for index in range(child_at[front + 1] - 1, child_at[front] - 1, -1):
            start = border_at[child[index]]
            n = border_at[child[index] + 1] - start
            top -= n * n
            _take_update(below, top, local[start : start + n], n, c, m, symmetric, L, l0, U, u0, S, s0)
        _eliminate(L, l0, U, u0, S, s0, m, c, symmetric, work.inverse, work.growth)
        if depth[front] % 2 == 0:
            top_even, top_odd = s0 + b * b, top
        else:
            top_even, top_odd = top, s0 + b * b


@compiled
def substitute(fronts, symmetric, work):
    """x <- A⁻¹ x for the right-hand sides ``work.x``, in elimination order, by the factors of `factor`."""
    _, first, pivots, size, border, border_at, _, _, _, _, _, _, _, factor_at, _ = fronts
    L, U, x, y = work.L, work.U, work.x, work.local
    for front in range(len(pivots)):
        m, c, f, l0 = size[front], pivots[front], first[front], factor_at[front]
        _gather(x, y, f, c, m, border, border_at[front])
        for k0 in range(0, c, 4):
            w = min(4, c - k0)
            for k in range(k0 + 1, k0 + w):
                value = load(y, k)
                for t in range(k0, k):
                    value = value - load(L, l0 + k * c + t) * load(y, t)
                store(y, k, value)
            for i in range(k0 + w, m, 4):
                subtract_products(y, i, 1, L, l0 + i * c + k0, c, 1, y, k0, 1, 1, w, min(4, m - i), 1)
        for i in range(c):
            store(x, f + i, load(y, i))
        for i in range(c, m):
            store(x, border[border_at[front] + i - c], load(y, i))
    for front in range(len(pivots) - 1, -1, -1):
        m, c, f, l0 = size[front], pivots[front], first[front], factor_at[front]
        _gather(x, y, f, c, m, border, border_at[front])
        if symmetric:
            for k in range(c):
                store(y, k, load(y, k) / load(L, l0 + k * c + k))
            for k in range(0, c, 4):
                n = min(4, c - k)
                subtract_products(y, k, 1, L, l0 + c * c + k, 1, c, y, c, 1, 1, m - c, n, 1)
            for k in range(c - 2, -1, -1):
                subtract_products(y, k, 1, L, l0 + (k + 1) * c + k, 1, c, y, k + 1, 1, 1, c - k - 1, 1, 1)
        else:
            for k in range(0, c, 4):
                subtract_products(y, k, 1, U, l0 + k * m + c, m, 1, y, c, 1, 1, m - c, min(4, c - k), 1)
            for k in range(c - 1, -1, -1):
                subtract_products(y, k, 1, U, l0 + k * m + k + 1, m, 1, y, k + 1, 1, 1, c - k - 1, 1, 1)
                store(y, k, load(y, k) / load(U, l0 + k * m + k))
        for i in range(c):
            store(x, f + i, load(y, i))


@compiled
def _gather(x, y, first, c, m, border, border_at):
    for i in range(c):
        store(y, i, load(x, first + i))
    for i in range(c, m):
        store(y, i, load(x, border[border_at + i - c]))
