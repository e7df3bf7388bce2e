"""Coarse levels of black-box multigrid in two dimensions: nine-point operators, samples in SIMD lanes, float32.

A level stores, on a frame of zero ghosts, the diagonal and four couplings, positive where the matrix entry is negative:

    (A u)_ij = c u_ij - Σ (coupling × neighbour),     e: to (i, j+1)   s: (i+1, j)   se: (i+1, j+1)   sw: (i+1, j-1)

Coarse unknowns (I, J) sit on fine points (2I+1, 2J+1). The points between are named for where their coarse neighbours
lie: H = (2I+1, 2J) between west and east, V = (2I, 2J+1) between north and south, X = (2I, 2J) amid four. A point
outside the grid has zero couplings, hence zero weights, so any size coarsens and a wall needs no special case.

Source: J. E. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import inner, larger, load, narrow, reciprocal_above, spread, store, widen

# Arrays of one level, in the order in which `level_field` finds them.
DIAGONAL, INVERSE, EAST, SOUTH, SOUTHEAST, SOUTHWEST, RIGHT, SOLUTION = range(8)
LEVEL_ARRAYS = 8
# Interpolation from the level below (coarser), stored on that level's frame.
X_NW, X_NE, X_SW, X_SE, H_WEST, H_EAST, V_NORTH, V_SOUTH = range(8)
WEIGHT_ARRAYS = 8
X_WEIGHT_ARRAYS = 4
# Columns of the table of levels.
ROWS, COLUMNS, STRIDE, SIZE, START, WEIGHTS = range(6)


@inner
def level_field(table, level, number):
    """Where array ``number`` of a level begins in the float32 workspace, counted in vectors."""
    return table[level, START] + number * table[level, SIZE]


@inner
def weight_field(table, level, number):
    """Where the interpolation weights ``number`` from ``level + 1`` to ``level`` begin."""
    return table[level, WEIGHTS] + number * table[level + 1, SIZE]


@inner
def interpolate(single, table, level):
    """Operator-dependent weights: H and V from the stencil collapsed across their line, X from its full equation.

    Collapsing is w_W = (w + nw + sw) / (c - n - s) and so on; an X point satisfies its equation exactly.
    """
    rows, columns, stride = table[level + 1, ROWS], table[level + 1, COLUMNS], table[level + 1, STRIDE]
    fine = table[level, STRIDE]
    c, inverse = level_field(table, level, DIAGONAL), level_field(table, level, INVERSE)
    e = level_field(table, level, EAST)
    s = level_field(table, level, SOUTH)
    se = level_field(table, level, SOUTHEAST)
    sw = level_field(table, level, SOUTHWEST)
    hw, he = weight_field(table, level, H_WEST), weight_field(table, level, H_EAST)
    vn, vs = weight_field(table, level, V_NORTH), weight_field(table, level, V_SOUTH)
    nw, ne = weight_field(table, level, X_NW), weight_field(table, level, X_NE)
    xw, xe = weight_field(table, level, X_SW), weight_field(table, level, X_SE)
    small = spread(np.float32(1e-6))
    for i in range(rows):
        for j in range(columns + 1):
            k, f = (i + 1) * stride + j + 1, (2 * i + 2) * fine + 2 * j + 1
            d = load(single, c + f)
            a = spread(np.float32(1)) / larger(d - load(single, s + f) - load(single, s + f - fine), small * d)
            store(
                single, hw + k, a * (load(single, e + f - 1) + load(single, se + f - fine - 1) + load(single, sw + f))
            )
            store(single, he + k, a * (load(single, e + f) + load(single, sw + f - fine + 1) + load(single, se + f)))
    for i in range(rows + 1):
        for j in range(columns):
            k, f = (i + 1) * stride + j + 1, (2 * i + 1) * fine + 2 * j + 2
            d = load(single, c + f)
            a = spread(np.float32(1)) / larger(d - load(single, e + f) - load(single, e + f - 1), small * d)
            store(
                single,
                vn + k,
                a * (load(single, s + f - fine) + load(single, se + f - fine - 1) + load(single, sw + f - fine + 1)),
            )
            store(single, vs + k, a * (load(single, s + f) + load(single, sw + f) + load(single, se + f)))
    for i in range(rows + 1):
        for j in range(columns + 1):
            k, f = (i + 1) * stride + j + 1, (2 * i + 1) * fine + 2 * j + 1
            a = load(single, inverse + f)
            west, east, north, south = (
                load(single, e + f - 1),
                load(single, e + f),
                load(single, s + f - fine),
                load(single, s + f),
            )
            store(
                single,
                nw + k,
                a
                * (
                    load(single, se + f - fine - 1)
                    + west * load(single, vn + k - 1)
                    + north * load(single, hw + k - stride)
                ),
            )
            store(
                single,
                ne + k,
                a
                * (
                    load(single, sw + f - fine + 1)
                    + east * load(single, vn + k)
                    + north * load(single, he + k - stride)
                ),
            )
            store(
                single,
                xw + k,
                a * (load(single, sw + f) + west * load(single, vs + k - 1) + south * load(single, hw + k)),
            )
            store(
                single, xe + k, a * (load(single, se + f) + east * load(single, vs + k) + south * load(single, he + k))
            )


@inner
def galerkin(single, table, level, scratch):
    """Coarse operator Pᵀ A P on ``level + 1``, symmetric by construction.

    A P vanishes on X points, so only C, H and V rows contribute. ``scratch`` holds A P on one row of H points and two
    rows of V points, six coarse columns each: north-west, north, north-east, ... of the row or column they lie on.
    """
    rows, columns, stride = table[level + 1, ROWS], table[level + 1, COLUMNS], table[level + 1, STRIDE]
    fine = table[level, STRIDE]
    c = level_field(table, level, DIAGONAL)
    e, s = level_field(table, level, EAST), level_field(table, level, SOUTH)
    se, sw = level_field(table, level, SOUTHEAST), level_field(table, level, SOUTHWEST)
    hw, he = weight_field(table, level, H_WEST), weight_field(table, level, H_EAST)
    vn, vs = weight_field(table, level, V_NORTH), weight_field(table, level, V_SOUTH)
    xnw, xne = weight_field(table, level, X_NW), weight_field(table, level, X_NE)
    xsw, xse = weight_field(table, level, X_SW), weight_field(table, level, X_SE)
    zero = spread(np.float32(0))
    for i in range(rows + 1):
        # V points of fine row 2i, into the half of the scratch that row i of V points owns.
        base = 6 * stride * (1 + (i & 1))
        for j in range(columns):
            f, k, t = (2 * i + 1) * fine + 2 * j + 2, (i + 1) * stride + j + 1, base + 6 * j
            w, o, n, u = load(single, e + f - 1), load(single, e + f), load(single, s + f - fine), load(single, s + f)
            a, b, g, h = (
                load(single, se + f - fine - 1),
                load(single, sw + f - fine + 1),
                load(single, sw + f),
                load(single, se + f),
            )
            d = load(single, c + f)
            store(scratch, t, zero - w * load(single, xnw + k) - a * load(single, hw + k - stride))
            store(
                scratch,
                t + 1,
                d * load(single, vn + k)
                - n
                - w * load(single, xne + k)
                - o * load(single, xnw + k + 1)
                - a * load(single, he + k - stride)
                - b * load(single, hw + k - stride + 1),
            )
            store(scratch, t + 2, zero - o * load(single, xne + k + 1) - b * load(single, he + k - stride + 1))
            store(scratch, t + 3, zero - w * load(single, xsw + k) - g * load(single, hw + k))
            store(
                scratch,
                t + 4,
                d * load(single, vs + k)
                - u
                - w * load(single, xse + k)
                - o * load(single, xsw + k + 1)
                - g * load(single, he + k)
                - h * load(single, hw + k + 1),
            )
            store(scratch, t + 5, zero - o * load(single, xse + k + 1) - h * load(single, he + k + 1))
        if i == 0:
            continue
        galerkin_row(single, table, level, scratch, i - 1)


@inner
def galerkin_row(single, table, level, scratch, i):
    """Row i of coarse unknowns: A P on its H points, then Pᵀ."""
    columns, stride = table[level + 1, COLUMNS], table[level + 1, STRIDE]
    fine = table[level, STRIDE]
    c = level_field(table, level, DIAGONAL)
    e, s = level_field(table, level, EAST), level_field(table, level, SOUTH)
    se, sw = level_field(table, level, SOUTHEAST), level_field(table, level, SOUTHWEST)
    hw, he = weight_field(table, level, H_WEST), weight_field(table, level, H_EAST)
    vn, vs = weight_field(table, level, V_NORTH), weight_field(table, level, V_SOUTH)
    xnw, xne = weight_field(table, level, X_NW), weight_field(table, level, X_NE)
    xsw, xse = weight_field(table, level, X_SW), weight_field(table, level, X_SE)
    cc, inverse = level_field(table, level + 1, DIAGONAL), level_field(table, level + 1, INVERSE)
    ce, cs = level_field(table, level + 1, EAST), level_field(table, level + 1, SOUTH)
    cse, csw = level_field(table, level + 1, SOUTHEAST), level_field(table, level + 1, SOUTHWEST)
    zero, one = spread(np.float32(0)), spread(np.float32(1))
    for j in range(columns + 1):
        f, k, t = (2 * i + 2) * fine + 2 * j + 1, (i + 1) * stride + j + 1, 6 * j
        w, o, n, u = load(single, e + f - 1), load(single, e + f), load(single, s + f - fine), load(single, s + f)
        a, b, g, h = (
            load(single, se + f - fine - 1),
            load(single, sw + f - fine + 1),
            load(single, sw + f),
            load(single, se + f),
        )
        d, below = load(single, c + f), k + stride
        store(scratch, t, zero - n * load(single, xnw + k) - a * load(single, vn + k - 1))
        store(
            scratch,
            t + 1,
            d * load(single, hw + k)
            - w
            - n * load(single, xsw + k)
            - u * load(single, xnw + below)
            - a * load(single, vs + k - 1)
            - g * load(single, vn + below - 1),
        )
        store(scratch, t + 2, zero - u * load(single, xsw + below) - g * load(single, vs + below - 1))
        store(scratch, t + 3, zero - n * load(single, xne + k) - b * load(single, vn + k))
        store(
            scratch,
            t + 4,
            d * load(single, he + k)
            - o
            - n * load(single, xse + k)
            - u * load(single, xne + below)
            - b * load(single, vs + k)
            - h * load(single, vn + below),
        )
        store(scratch, t + 5, zero - u * load(single, xse + below) - h * load(single, vs + below))
    north, south = 6 * stride * (1 + (i & 1)), 6 * stride * (2 - (i & 1))
    for j in range(columns):
        f, k = (2 * i + 2) * fine + 2 * j + 2, (i + 1) * stride + j + 1
        below, west, east, north_t, south_t = k + stride, 6 * j, 6 * j + 6, north + 6 * j, south + 6 * j
        w, o, n, u = load(single, e + f - 1), load(single, e + f), load(single, s + f - fine), load(single, s + f)
        a, b, g, h = (
            load(single, se + f - fine - 1),
            load(single, sw + f - fine + 1),
            load(single, sw + f),
            load(single, se + f),
        )
        # Weights of coarse point (i, j) on the points around it.
        pw, pe, pn, ps = load(single, he + k), load(single, hw + k + 1), load(single, vs + k), load(single, vn + below)
        diagonal = (
            load(single, c + f)
            - w * pw
            - o * pe
            - n * pn
            - u * ps
            - a * load(single, xse + k)
            - b * load(single, xsw + k + 1)
            - g * load(single, xne + below)
            - h * load(single, xnw + below + 1)
            + pw * load(scratch, west + 4)
            + pe * load(scratch, east + 1)
            + pn * load(scratch, north_t + 4)
            + ps * load(scratch, south_t + 1)
        )
        store(single, cc + k, diagonal)
        store(single, inverse + k, one / diagonal)
        store(
            single,
            ce + k,
            o * load(single, he + k + 1)
            + b * load(single, xse + k + 1)
            + h * load(single, xne + below + 1)
            - pe * load(scratch, east + 4)
            - pn * load(scratch, north_t + 5)
            - ps * load(scratch, south_t + 2),
        )
        store(
            single,
            cs + k,
            u * load(single, vs + below)
            + g * load(single, xse + below)
            + h * load(single, xsw + below + 1)
            - ps * load(scratch, south_t + 4)
            - pw * load(scratch, west + 5)
            - pe * load(scratch, east + 2),
        )
        store(
            single,
            cse + k,
            h * load(single, xse + below + 1) - pe * load(scratch, east + 5) - ps * load(scratch, south_t + 5),
        )
        store(
            single,
            csw + k,
            g * load(single, xsw + below) - pw * load(scratch, west + 2) - ps * load(scratch, south_t + 3),
        )


@inner
def descend(single, table, level, ring):
    """Smooth from zero by forward Gauss-Seidel and restrict the residual to the right-hand side of ``level + 1``.

    After a forward sweep the residual is the strictly upper part of the operator times the solution.
    """
    rows, columns, stride = table[level, ROWS], table[level, COLUMNS], table[level, STRIDE]
    e, s = level_field(table, level, EAST), level_field(table, level, SOUTH)
    se, sw = level_field(table, level, SOUTHEAST), level_field(table, level, SOUTHWEST)
    inverse = level_field(table, level, INVERSE)
    b, x = level_field(table, level, RIGHT), level_field(table, level, SOLUTION)
    zero = spread(np.float32(0))
    for k in range(4 * stride):
        store(ring, k, zero)
    for i in range(rows + 2):
        if i < rows:
            last = zero
            for k in range((i + 1) * stride + 1, (i + 1) * stride + columns + 1):
                above = k - stride
                known = (
                    load(single, b + k)
                    + load(single, s + above) * load(single, x + above)
                    + load(single, se + above - 1) * load(single, x + above - 1)
                    + load(single, sw + above + 1) * load(single, x + above + 1)
                )
                last = (known + load(single, e + k - 1) * last) * load(single, inverse + k)
                store(single, x + k, last)
        at = i - 1
        if at < 0:
            continue
        line = (at & 3) * stride
        for j in range(1, columns + 1):
            k = (at + 1) * stride + j
            below = k + stride
            store(
                ring,
                line + j,
                load(single, e + k) * load(single, x + k + 1)
                + load(single, s + k) * load(single, x + below)
                + load(single, se + k) * load(single, x + below + 1)
                + load(single, sw + k) * load(single, x + below - 1),
            )
        if at >= 2 and at & 1 == 0:
            restrict_row(single, table, level, ring, at // 2 - 1)


@inner
def restrict_row(single, table, level, ring, i):
    """Row i of Pᵀ r, from the fine residual's rows 2i, 2i + 1, 2i + 2 in the ring."""
    columns, stride, fine = table[level + 1, COLUMNS], table[level + 1, STRIDE], table[level, STRIDE]
    hw, he = weight_field(table, level, H_WEST), weight_field(table, level, H_EAST)
    vn, vs = weight_field(table, level, V_NORTH), weight_field(table, level, V_SOUTH)
    xnw, xne = weight_field(table, level, X_NW), weight_field(table, level, X_NE)
    xsw, xse = weight_field(table, level, X_SW), weight_field(table, level, X_SE)
    b = level_field(table, level + 1, RIGHT)
    for j in range(columns):
        k = (i + 1) * stride + j + 1
        below = k + stride
        up, at, down = (2 * i & 3) * fine, ((2 * i + 1) & 3) * fine, ((2 * i + 2) & 3) * fine
        f = 2 * j + 2
        store(
            single,
            b + k,
            load(ring, at + f)
            + load(single, he + k) * load(ring, at + f - 1)
            + load(single, hw + k + 1) * load(ring, at + f + 1)
            + load(single, vs + k) * load(ring, up + f)
            + load(single, vn + below) * load(ring, down + f)
            + load(single, xse + k) * load(ring, up + f - 1)
            + load(single, xsw + k + 1) * load(ring, up + f + 1)
            + load(single, xne + below) * load(ring, down + f - 1)
            + load(single, xnw + below + 1) * load(ring, down + f + 1),
        )


@inner
def prolong_row(single, table, level, i):
    """Add the coarse correction P x to row i."""
    columns, stride, fine = table[level, COLUMNS], table[level + 1, STRIDE], table[level, STRIDE]
    x, coarse = level_field(table, level, SOLUTION), level_field(table, level + 1, SOLUTION)
    base, k0 = (i + 1) * fine + 1, (i // 2 + 1) * stride + 1
    if i & 1:
        hw, he = weight_field(table, level, H_WEST), weight_field(table, level, H_EAST)
        for j in range((columns + 1) // 2):
            f, k = base + 2 * j, k0 + j
            west, here = load(single, coarse + k - 1), load(single, coarse + k)
            store(single, x + f, load(single, x + f) + load(single, hw + k) * west + load(single, he + k) * here)
            if 2 * j + 1 < columns:
                store(single, x + f + 1, load(single, x + f + 1) + here)
    else:
        vn, vs = weight_field(table, level, V_NORTH), weight_field(table, level, V_SOUTH)
        xnw, xne = weight_field(table, level, X_NW), weight_field(table, level, X_NE)
        xsw, xse = weight_field(table, level, X_SW), weight_field(table, level, X_SE)
        for j in range((columns + 1) // 2):
            f, k = base + 2 * j, k0 + j
            above = k - stride
            north, south = load(single, coarse + above), load(single, coarse + k)
            store(
                single,
                x + f,
                load(single, x + f)
                + load(single, xnw + k) * load(single, coarse + above - 1)
                + load(single, xne + k) * north
                + load(single, xsw + k) * load(single, coarse + k - 1)
                + load(single, xse + k) * south,
            )
            if 2 * j + 1 < columns:
                store(
                    single,
                    x + f + 1,
                    load(single, x + f + 1) + load(single, vn + k) * north + load(single, vs + k) * south,
                )


@inner
def ascend(single, table, level):
    """Add the coarse correction and smooth by backward Gauss-Seidel, the transpose of the sweep in `descend`."""
    rows, columns, stride = table[level, ROWS], table[level, COLUMNS], table[level, STRIDE]
    e, s = level_field(table, level, EAST), level_field(table, level, SOUTH)
    se, sw = level_field(table, level, SOUTHEAST), level_field(table, level, SOUTHWEST)
    inverse = level_field(table, level, INVERSE)
    b, x = level_field(table, level, RIGHT), level_field(table, level, SOLUTION)
    prolong_row(single, table, level, rows - 1)
    for i in range(rows - 1, -1, -1):
        if i > 0:
            prolong_row(single, table, level, i - 1)
        last = spread(np.float32(0))
        for j in range(columns, 0, -1):
            k = (i + 1) * stride + j
            above, below = k - stride, k + stride
            known = (
                load(single, b + k)
                + load(single, e + k - 1) * load(single, x + k - 1)
                + load(single, s + above) * load(single, x + above)
                + load(single, se + above - 1) * load(single, x + above - 1)
                + load(single, sw + above + 1) * load(single, x + above + 1)
                + load(single, s + k) * load(single, x + below)
                + load(single, se + k) * load(single, x + below + 1)
                + load(single, sw + k) * load(single, x + below - 1)
            )
            last = (known + load(single, e + k) * last) * load(single, inverse + k)
            store(single, x + k, last)


@inner
def factor_coarsest(single, table, level, band, nullspace):
    """Banded L D Lᵀ of the coarsest level's matrix, unknowns numbered along its shorter side first.

    ``band`` holds per unknown q: 1/D_q, then L_{q+1,q} .. L_{q+width,q}. With ``nullspace`` the last one
    gets 1/D = 0, which holds that unknown at zero.
    """
    rows, columns, stride = table[level, ROWS], table[level, COLUMNS], table[level, STRIDE]
    c = level_field(table, level, DIAGONAL)
    e, s = level_field(table, level, EAST), level_field(table, level, SOUTH)
    se, sw = level_field(table, level, SOUTHEAST), level_field(table, level, SOUTHWEST)
    short, long = min(rows, columns), max(rows, columns)
    width, unknowns = short + 1, short * long
    zero = spread(0.0)
    for q in range(unknowns * (width + 1)):
        store(band, q, zero)
    for q in range(unknowns):
        along, across = q // short, q % short
        i, j = (across, along) if rows < columns else (along, across)
        k, at = (i + 1) * stride + j + 1, q * (width + 1)
        store(band, at, widen(load(single, c + k)))
        if across + 1 < short:
            store(band, at + 1, zero - widen(load(single, (s if rows < columns else e) + k)))
        if along + 1 < long:
            store(band, at + short, load(band, at + short) - widen(load(single, (e if rows < columns else s) + k)))
            if across + 1 < short:
                store(band, at + short + 1, zero - widen(load(single, se + k)))
            if across > 0:
                # (along + 1, across - 1): south-west when rows run along, and its mirror image when columns do.
                place = k - stride + 1 if rows < columns else k
                store(band, at + short - 1, load(band, at + short - 1) - widen(load(single, sw + place)))
    for q in range(unknowns):
        at = q * (width + 1)
        inverse = zero if nullspace and q == unknowns - 1 else reciprocal_above(load(band, at), zero)
        store(band, at, inverse)
        for m in range(1, min(width, unknowns - 1 - q) + 1):
            factor = load(band, at + m) * inverse
            for t in range(m, min(width, unknowns - 1 - q) + 1):
                place = (q + m) * (width + 1) + t - m
                store(band, place, load(band, place) - factor * load(band, at + t))
        for m in range(1, min(width, unknowns - 1 - q) + 1):
            store(band, at + m, load(band, at + m) * inverse)


@inner
def solve_coarsest(single, table, level, band, work, nullspace):
    """x = A⁻¹ b on the coarsest level, in float64; with ``nullspace`` the part of b with mean zero, and x likewise.

    Constants in x would be constants in the preconditioned residual, and grow until they drown the rest.
    """
    rows, columns, stride = table[level, ROWS], table[level, COLUMNS], table[level, STRIDE]
    b, x = level_field(table, level, RIGHT), level_field(table, level, SOLUTION)
    short, unknowns = min(rows, columns), rows * columns
    width = short + 1
    for q in range(unknowns):
        i, j = (q % short, q // short) if rows < columns else (q // short, q % short)
        store(work, q, widen(load(single, b + (i + 1) * stride + j + 1)))
    remove_mean(work, unknowns, nullspace)
    for q in range(unknowns):
        at, value = q * (width + 1), load(work, q)
        for m in range(1, min(width, unknowns - 1 - q) + 1):
            store(work, q + m, load(work, q + m) - load(band, at + m) * value)
    for q in range(unknowns - 1, -1, -1):
        at = q * (width + 1)
        value = load(work, q) * load(band, at)
        for m in range(1, min(width, unknowns - 1 - q) + 1):
            value = value - load(band, at + m) * load(work, q + m)
        store(work, q, value)
    remove_mean(work, unknowns, nullspace)
    for q in range(unknowns):
        i, j = (q % short, q // short) if rows < columns else (q // short, q % short)
        store(single, x + (i + 1) * stride + j + 1, narrow(load(work, q)))


@inner
def remove_mean(work, unknowns, nullspace):
    """Take the mean off the first ``unknowns`` entries, if there is a nullspace."""
    if not nullspace:
        return
    total = spread(0.0)
    for q in range(unknowns):
        total = total + load(work, q)
    total = total * spread(1.0 / unknowns)
    for q in range(unknowns):
        store(work, q, load(work, q) - total)
