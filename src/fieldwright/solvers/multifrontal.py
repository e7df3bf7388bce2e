"""Compiled multifrontal elimination, one sample per lane (`lanes`), and the solves with its factors.

A front (`nested_dissection`) has c pivots and b later unknowns that they touch, its border. With both padded to whole
tiles of `TILE`, it is kept in dense blocks:

    P   c x c   the pivots' own factors, row by row: L below the diagonal, U above it, and the inverses of the 2 x 2
                blocks of pivots on it (L has unit blocks there),
    L   b x c   the border's rows of L, in tiles of four rows: entry (4 t + r, k) lies at (t c + k) 4 + r,
    U   c x b   the border's columns of U, tiled alike; with symmetric matrices it is (L D)ᵀ and only scratch,
    S   b x b   the update A_bb - L U of the border, which the parent's front takes up; row by row, followed by a row
                and a column of zeros, which stand for what a child does not hold.

Tiles make every product stream through memory in order. Pivots are eliminated in pairs: a pair whose first entry is
small, as two components of one point may have, does no harm as long as the pair's determinant is not small.

Every lane does the same operations in the same order and never sees its neighbours, so a sample's bits do not depend
on the batch. A vanishing pivot shows as infinity or NaN in its lane alone. All arrays are float64 or all float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fieldwright.solvers.fronts import TILE, Fronts
from fieldwright.solvers.lane_tiles import (
    constant,
    converted,
    entry,
    subtract_product,
    update_of_leaf,
    update_of_parent,
)
from fieldwright.solvers.lanes import aligned, compiled, inner, load, store


class Factors(NamedTuple):
    """Memory of one group of lanes: P and L of all fronts, U of all fronts (with symmetric matrices of the largest),
    the updates of fronts of even depth and of odd, and one tile each of L and U."""

    F: np.ndarray
    U: np.ndarray
    even: np.ndarray
    odd: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def factors(fronts: Fronts, precision: type[np.floating]) -> Factors:
    """Memory for the factors of matrices of one pattern."""
    tile = TILE * (int(fronts.pivots.max()) + TILE)
    sizes = (int(fronts.factor_at[-1]), fronts.upper, fronts.stack, fronts.stack, tile, tile)
    return Factors(*(aligned(size, precision) for size in sizes))


@inner
def _finish_diagonal(F, d, c, symmetric):
    """Eliminate the 4 x 4 block at entry ``d`` of rows of length c, which earlier pivots have already updated."""
    zero, one = constant(F, 0.0), constant(F, 1.0)
    a00, a10, a11 = load(F, d), load(F, d + c), load(F, d + c + 1)
    a20, a21, a30, a31 = load(F, d + 2 * c), load(F, d + 2 * c + 1), load(F, d + 3 * c), load(F, d + 3 * c + 1)
    a22, a32, a33 = load(F, d + 2 * c + 2), load(F, d + 3 * c + 2), load(F, d + 3 * c + 3)
    if symmetric:
        a01, a02, a03, a12, a13, a23 = a10, a20, a30, a21, a31, a32
    else:
        a01, a02, a03 = load(F, d + 1), load(F, d + 2), load(F, d + 3)
        a12, a13, a23 = load(F, d + c + 2), load(F, d + c + 3), load(F, d + 2 * c + 3)
    reciprocal = one / (a00 * a11 - a01 * a10)
    opposite = zero - reciprocal
    i00, i01, i10, i11 = a11 * reciprocal, a01 * opposite, a10 * opposite, a00 * reciprocal
    l20, l21 = a20 * i00 + a21 * i10, a20 * i01 + a21 * i11
    l30, l31 = a30 * i00 + a31 * i10, a30 * i01 + a31 * i11
    a22 = a22 - l20 * a02 - l21 * a12
    a23 = a23 - l20 * a03 - l21 * a13
    a32 = a32 - l30 * a02 - l31 * a12
    a33 = a33 - l30 * a03 - l31 * a13
    reciprocal = one / (a22 * a33 - a23 * a32)
    opposite = zero - reciprocal
    store(F, d, i00)
    store(F, d + 1, i01)
    store(F, d + 2, a02)
    store(F, d + 3, a03)
    store(F, d + c, i10)
    store(F, d + c + 1, i11)
    store(F, d + c + 2, a12)
    store(F, d + c + 3, a13)
    store(F, d + 2 * c, l20)
    store(F, d + 2 * c + 1, l21)
    store(F, d + 2 * c + 2, a33 * reciprocal)
    store(F, d + 2 * c + 3, a23 * opposite)
    store(F, d + 3 * c, l30)
    store(F, d + 3 * c + 1, l31)
    store(F, d + 3 * c + 2, a32 * opposite)
    store(F, d + 3 * c + 3, a22 * reciprocal)


@inner
def _finish_rows(F, d, c, A, first, step, along, rows, U, u, u_step, u_along, symmetric):
    """Rows of L in the four columns of the diagonal block at ``d``: row r's are entries first + r step + along k.

    With ``symmetric`` the rows times D go to U, at u + r u_step + u_along k.
    """
    i00, i01, i10, i11 = load(F, d), load(F, d + 1), load(F, d + c), load(F, d + c + 1)
    u02, u03, u12, u13 = load(F, d + 2), load(F, d + 3), load(F, d + c + 2), load(F, d + c + 3)
    e = d + 2 * c + 2
    j00, j01, j10, j11 = load(F, e), load(F, e + 1), load(F, e + c), load(F, e + c + 1)
    for r in range(rows):
        at = first + r * step
        y0, y1 = load(A, at), load(A, at + along)
        x0, x1 = y0 * i00 + y1 * i10, y0 * i01 + y1 * i11
        y2 = load(A, at + 2 * along) - x0 * u02 - x1 * u12
        y3 = load(A, at + 3 * along) - x0 * u03 - x1 * u13
        store(A, at, x0)
        store(A, at + along, x1)
        store(A, at + 2 * along, y2 * j00 + y3 * j10)
        store(A, at + 3 * along, y2 * j01 + y3 * j11)
        if symmetric:
            to = u + r * u_step
            store(U, to, y0)
            store(U, to + u_along, y1)
            store(U, to + 2 * u_along, y2)
            store(U, to + 3 * u_along, y3)


@inner
def _finish_columns(F, d, c, A, first, step, columns, along):
    """Columns of U in the four rows of the diagonal block at ``d``: row k of column s is first + s along + k step."""
    l20, l21, l30, l31 = load(F, d + 2 * c), load(F, d + 2 * c + 1), load(F, d + 3 * c), load(F, d + 3 * c + 1)
    for s in range(columns):
        at = first + s * along
        x0, x1 = load(A, at), load(A, at + step)
        store(A, at + 2 * step, load(A, at + 2 * step) - l20 * x0 - l21 * x1)
        store(A, at + 3 * step, load(A, at + 3 * step) - l30 * x0 - l31 * x1)


@inner
def _factor_pivots(F, p, c, symmetric):
    """P: left-looking in blocks of four pivots."""
    for k in range(0, c, TILE):
        d = p + k * c + k
        if k > 0:
            for i in range(k, c, TILE):
                subtract_product(F, p + i * c + k, c, 1, F, p + i * c, c, 1, F, p + k, c, 1, k)
            if not symmetric:
                for j in range(k + TILE, c, TILE):
                    subtract_product(F, p + k * c + j, c, 1, F, p + k * c, c, 1, F, p + j, c, 1, k)
        _finish_diagonal(F, d, c, symmetric)
        rest = c - k - TILE
        _finish_rows(F, d, c, F, d + TILE * c, c, 1, rest, F, d + TILE, 1, c, symmetric)
        if not symmetric:
            _finish_columns(F, d, c, F, d + TILE, c, rest, 1)


@inner
def _solve_rows(F, p, c, rows, upper, symmetric):
    """One tile of L from its entries in A, in place; with ``symmetric`` its product with D into ``upper``."""
    for k in range(0, c, TILE):
        if k > 0:
            subtract_product(rows, k * TILE, 1, TILE, rows, 0, 1, TILE, F, p + k, c, 1, k)
        _finish_rows(F, p + k * c + k, c, rows, k * TILE, 1, TILE, TILE, upper, k * TILE, 1, TILE, symmetric)


@inner
def _solve_columns(F, p, c, columns):
    """One tile of U from its entries in A, in place."""
    for k in range(0, c, TILE):
        if k > 0:
            subtract_product(columns, k * TILE, TILE, 1, F, p + k * c, c, 1, columns, 0, TILE, 1, k)
        _finish_columns(F, p + k * c + k, c, columns, k * TILE, TILE, TILE, 1)


@inner
def _take(below, top1, width1, top2, width2, take1, take2, i, j):
    """What the children's updates hold for an entry of their parent's front."""
    one = load(below, top1 + take1[i] * width1 + take1[j])
    return one + load(below, top2 + take2[i] * width2 + take2[j])


@inner
def _add_entries(fronts, section, entries, size, block, first):
    """Add one section of a front's matrix entries to a block that starts at ``first``."""
    for e in range(fronts.entry_at[section], fronts.entry_at[section + 1]):
        at = first + fronts.entry_target[e]
        store(block, at, load(block, at) + converted(load(entries, fronts.entry_source[e]) * size, block))


@compiled
def factor(fronts, symmetric, factors, entries, scale):
    """Eliminate all fronts of the matrices packed in ``entries`` (float64) times ``scale`` (one number a lane)."""
    F, U, rows, columns = factors.F, factors.U, factors.rows, factors.columns
    take1, take2 = fronts.take1, fronts.take2
    zero, one, size = constant(F, 0.0), constant(F, 1.0), load(scale, 0)
    section = 0
    for front in range(len(fronts.pivots)):
        n = fronts.pivots[front]
        c, b = (n + TILE - 1) // TILE * TILE, (fronts.borders[front] + TILE - 1) // TILE * TILE
        p, u, s, width = fronts.factor_at[front], fronts.upper_at[front], fronts.update_at[front], fronts.width[front]
        L, first = p + c * c, fronts.take_at[front]
        one_child, other = fronts.child1[front], fronts.child2[front]
        parent = one_child >= 0
        # A child that is not there holds zero, which is entry 0 of the stacks.
        top1, width1 = (fronts.update_at[one_child], fronts.width[one_child]) if parent else (0, 0)
        top2, width2 = (fronts.update_at[other], fronts.width[other]) if other >= 0 else (0, 0)
        # Children are one level deeper, so their updates lie on the other stack and stay where they are.
        if fronts.depth[front] % 2 == 0:
            S, below = factors.even, factors.odd
        else:
            S, below = factors.odd, factors.even
        for i in range(c):
            for j in range(i + 1 if symmetric else c):
                value = zero
                if parent:
                    value = _take(below, top1, width1, top2, width2, take1, take2, first + i, first + j)
                store(F, p + i * c + j, value)
        for i in range(n, c):
            store(F, p + i * c + i, one)
        _add_entries(fronts, section, entries, size, F, p)
        section += 1
        _factor_pivots(F, p, c, symmetric)
        for t in range(0, b, TILE):
            i = first + c + t
            for k in range(c):
                for r in range(TILE):
                    value = zero
                    if parent:
                        value = _take(below, top1, width1, top2, width2, take1, take2, i + r, first + k)
                    store(rows, k * TILE + r, value)
            _add_entries(fronts, section, entries, size, rows, 0)
            section += 1
            _solve_rows(F, p, c, rows, columns, symmetric)
            if not symmetric:
                for k in range(c):
                    for r in range(TILE):
                        value = zero
                        if parent:
                            value = _take(below, top1, width1, top2, width2, take1, take2, first + k, i + r)
                        store(columns, k * TILE + r, value)
                _add_entries(fronts, section, entries, size, columns, 0)
                section += 1
                _solve_columns(F, p, c, columns)
            for k in range(n * TILE):
                store(F, L + t * n + k, load(rows, k))
                store(U, u + t * n + k, load(columns, k))
        for i in range(0, b, TILE):
            for j in range(0, i + TILE if symmetric else b, TILE):
                at = s + i * width + j
                if parent:
                    update_of_parent(
                        S, at, width, F, L + i * n, U, u + j * n, n, below, top1, width1, top2, width2,
                        take1, take2, first + c + i, first + c + j,
                    )  # fmt: skip
                else:
                    update_of_leaf(S, at, width, F, L + i * n, U, u + j * n, n)
        last = fronts.borders[front]
        for i in range(last + 1):
            store(S, s + last * width + i, zero)
            store(S, s + i * width + last, zero)


@compiled
def substitute(fronts, symmetric, factors, x, y):
    """x <- A⁻¹ x (times what `factor` scaled by), in elimination order, by the factors of `factor`.

    ``x`` has one more entry than there are unknowns, zero, for the padding of borders. The factors are arrays of lanes,
    or of single numbers (entries, 1): the factors of one matrix that all lanes share.
    """
    F, border, border_at = factors.F, fronts.border, fronts.border_at
    zero = constant(F, 0.0)
    for front in range(len(fronts.pivots)):
        n, f, p = fronts.pivots[front], fronts.first[front], fronts.factor_at[front]
        c = (n + TILE - 1) // TILE * TILE
        for i in range(n):
            store(y, i, load(x, f + i))
        for i in range(n, c):
            store(y, i, zero)
        for k in range(0, c, TILE):
            d = p + k * c
            y0, y1, y2, y3 = load(y, k), load(y, k + 1), load(y, k + 2), load(y, k + 3)
            for t in range(k):
                z = load(y, t)
                y0 = y0 - entry(F, d + t) * z
                y1 = y1 - entry(F, d + c + t) * z
                y2 = y2 - entry(F, d + 2 * c + t) * z
                y3 = y3 - entry(F, d + 3 * c + t) * z
            d += k
            y2 = y2 - entry(F, d + 2 * c) * y0 - entry(F, d + 2 * c + 1) * y1
            y3 = y3 - entry(F, d + 3 * c) * y0 - entry(F, d + 3 * c + 1) * y1
            store(y, k, y0)
            store(y, k + 1, y1)
            store(y, k + 2, y2)
            store(y, k + 3, y3)
        at = p + c * c
        for i in range(border_at[front], border_at[front + 1], TILE):
            i0, i1, i2, i3 = border[i], border[i + 1], border[i + 2], border[i + 3]
            y0, y1, y2, y3 = load(x, i0), load(x, i1), load(x, i2), load(x, i3)
            for k in range(n):
                z = load(y, k)
                y0 = y0 - entry(F, at + 4 * k) * z
                y1 = y1 - entry(F, at + 4 * k + 1) * z
                y2 = y2 - entry(F, at + 4 * k + 2) * z
                y3 = y3 - entry(F, at + 4 * k + 3) * z
            at += n * TILE
            store(x, i0, y0)
            store(x, i1, y1)
            store(x, i2, y2)
            store(x, i3, y3)
        if symmetric:
            _times_inverse_pairs(F, p, c, y)
        for i in range(n):
            store(x, f + i, load(y, i))
    for front in range(len(fronts.pivots) - 1, -1, -1):
        n, f, p = fronts.pivots[front], fronts.first[front], fronts.factor_at[front]
        c = (n + TILE - 1) // TILE * TILE
        for i in range(n):
            store(y, i, load(x, f + i))
        for i in range(n, c):
            store(y, i, zero)
        start, stop = border_at[front], border_at[front + 1]
        if symmetric:
            _subtract_border(F, p + c * c, n, x, y, border, start, stop)
            for k in range(c - TILE, -1, -TILE):
                d = p + k * c + k
                y2, y3 = load(y, k + 2), load(y, k + 3)
                y0 = load(y, k) - entry(F, d + 2 * c) * y2 - entry(F, d + 3 * c) * y3
                y1 = load(y, k + 1) - entry(F, d + 2 * c + 1) * y2 - entry(F, d + 3 * c + 1) * y3
                store(y, k, y0)
                store(y, k + 1, y1)
                d -= k
                for t in range(k):
                    z = load(y, t) - entry(F, d + t) * y0 - entry(F, d + c + t) * y1
                    store(y, t, z - entry(F, d + 2 * c + t) * y2 - entry(F, d + 3 * c + t) * y3)
        else:
            _subtract_border(factors.U, fronts.upper_at[front], n, x, y, border, start, stop)
            for k in range(c - TILE, -1, -TILE):
                d = p + k * c
                y0, y1, y2, y3 = load(y, k), load(y, k + 1), load(y, k + 2), load(y, k + 3)
                for t in range(k + TILE, c):
                    z = load(y, t)
                    y0 = y0 - entry(F, d + t) * z
                    y1 = y1 - entry(F, d + c + t) * z
                    y2 = y2 - entry(F, d + 2 * c + t) * z
                    y3 = y3 - entry(F, d + 3 * c + t) * z
                d += k
                e = d + 2 * c + 2
                y2, y3 = entry(F, e) * y2 + entry(F, e + 1) * y3, entry(F, e + c) * y2 + entry(F, e + c + 1) * y3
                y0 = y0 - entry(F, d + 2) * y2 - entry(F, d + 3) * y3
                y1 = y1 - entry(F, d + c + 2) * y2 - entry(F, d + c + 3) * y3
                y0, y1 = entry(F, d) * y0 + entry(F, d + 1) * y1, entry(F, d + c) * y0 + entry(F, d + c + 1) * y1
                store(y, k, y0)
                store(y, k + 1, y1)
                store(y, k + 2, y2)
                store(y, k + 3, y3)
        for i in range(n):
            store(x, f + i, load(y, i))


@inner
def _times_inverse_pairs(F, p, c, y):
    """y <- D⁻¹ y."""
    for k in range(0, c, 2):
        d = p + k * c + k
        y0, y1 = load(y, k), load(y, k + 1)
        store(y, k, entry(F, d) * y0 + entry(F, d + 1) * y1)
        store(y, k + 1, entry(F, d + c) * y0 + entry(F, d + c + 1) * y1)


@inner
def _subtract_border(U, at, n, x, y, border, start, stop):
    """y <- y - U x for the border's columns of U (or rows of L, transposed), tiles from ``at`` on."""
    for i in range(start, stop, TILE):
        x0, x1, x2, x3 = load(x, border[i]), load(x, border[i + 1]), load(x, border[i + 2]), load(x, border[i + 3])
        for k in range(n):
            z = load(y, k) - entry(U, at) * x0 - entry(U, at + 1) * x1
            store(y, k, z - entry(U, at + 2) * x2 - entry(U, at + 3) * x3)
            at += TILE
