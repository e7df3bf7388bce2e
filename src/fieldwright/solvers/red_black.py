"""Finest level of the two-dimensional multigrid: a five-point operator on a checkerboard, samples in SIMD lanes.

Points with i + j even are red, the others black; a point's neighbours all have the other colour. With D the diagonal,
unknowns ũ = D^{1/2} u and B the scaled couplings (black row, red column; positive where the matrix entry is negative)

    ⎡  I   -Bᵀ ⎤ ⎡ũ_red  ⎤   ⎡f̃_red  ⎤
    ⎣ -B    I  ⎦ ⎣ũ_black⎦ = ⎣f̃_black⎦,     f̃ = D^{-1/2} f,

so black unknowns are eliminated exactly, S ũ_red = f̃_red + Bᵀ f̃_black with S = I - Bᵀ B, and every vector of the
conjugate gradient iteration has half the length. Every coupling joins one black to one red point, so B, stored as four
fields west, east, north, south on black points, holds each once, and red-black relaxation needs no diagonal.

A colour's row i keeps its points in slots k: red (i, k) is column 2k + (i mod 2), black (i, k) is column
2k + 1 - (i mod 2); slots off the grid and a frame around all are zero. In the naming of `nine_point`, red points are
C (odd rows) and X (even rows), black ones H (odd rows) and V (even rows), each in the slot of its coarse column.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lane_iteration import ALPHA, BETA, INNER, SIZE_SQUARED
from fieldwright.solvers.lanes import inner, larger, load, narrow, spread, square_root, store, widen
from fieldwright.solvers.nine_point import (
    COLUMNS,
    DIAGONAL,
    EAST,
    INVERSE,
    RIGHT,
    ROWS,
    SIZE,
    SOLUTION,
    SOUTH,
    SOUTHEAST,
    SOUTHWEST,
    START,
    STRIDE,
    X_NE,
    X_NW,
    X_SE,
    X_SW,
    level_field,
    weight_field,
)

# float64 fields of the finest level: couplings on black points, then D^{-1/2} on red and on black points, the black
# half of the scaled right-hand side, and the vectors of the conjugate gradient iteration.
WEST64, EAST64, NORTH64, SOUTH64, ROOT_RED, ROOT_BLACK, BLACK, ITERATE, RESIDUAL, DIRECTION, PRODUCT = range(11)
FIELDS64 = 11
# float32 fields: the couplings again, D on red points, residual and preconditioned residual, and √D on C points.
WEST32, EAST32, NORTH32, SOUTH32, WEIGHT, ROUNDED, PRECONDITIONED, CENTRE = range(8)
FIELDS32 = 8


@inner
def field64(table, number):
    """Where a float64 field of the finest level begins in its workspace, counted in vectors."""
    return number * table[0, SIZE]


@inner
def field32(table, number):
    """Where a float32 field of the finest level begins in its workspace, counted in vectors."""
    return table[0, START] + number * table[0, SIZE]


@inner
def coarsen_checkerboard(double, table, single, scratch):
    """Interpolation from level 1 and its Galerkin operator, from the unscaled couplings that `pack_couplings` left.

    The same construction as `nine_point.interpolate` and `nine_point.galerkin` without diagonal couplings; in float64,
    because the row sums of the first coarse operator set the accuracy of all below. The weights of H and V points,
    which the cycle does not need, stay in fields that the iteration uses later.
    """
    rows, columns, stride = table[1, ROWS], table[1, COLUMNS], table[1, STRIDE]
    fine = table[0, STRIDE]
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    red, black = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    hw, he = field64(table, ITERATE), field64(table, RESIDUAL)
    vn, vs = field64(table, DIRECTION), field64(table, PRODUCT)
    xnw, xne = weight_field(table, 0, X_NW), weight_field(table, 0, X_NE)
    xsw, xse = weight_field(table, 0, X_SW), weight_field(table, 0, X_SE)
    one, small = spread(1.0), spread(1e-10)
    # H (i, j) is black (2i + 1, j); V (i, j) is black (2i, j); both weights are kept where the point itself is stored.
    for i in range(2 * rows + 1):
        for j in range(columns + 1):
            f = (i + 1) * fine + j + 1
            d = load(double, black + f)
            if i & 1:
                a = one / larger(d - load(double, n + f) - load(double, s + f), small * d)
                store(double, hw + f, a * load(double, w + f))
                store(double, he + f, a * load(double, e + f))
            else:
                a = one / larger(d - load(double, w + f) - load(double, e + f), small * d)
                store(double, vn + f, a * load(double, n + f))
                store(double, vs + f, a * load(double, s + f))
    for i in range(rows + 1):
        for j in range(columns + 1):
            k, f = (i + 1) * stride + j + 1, (2 * i + 1) * fine + j + 1
            a = one / load(double, red + f)
            west, east, north, south = (
                a * load(double, e + f - 1),
                a * load(double, w + f),
                a * load(double, s + f - fine),
                a * load(double, n + f + fine),
            )
            store(single, xnw + k, narrow(west * load(double, vn + f - 1) + north * load(double, hw + f - fine)))
            store(single, xne + k, narrow(east * load(double, vn + f) + north * load(double, he + f - fine)))
            store(single, xsw + k, narrow(west * load(double, vs + f - 1) + south * load(double, hw + f + fine)))
            store(single, xse + k, narrow(east * load(double, vs + f) + south * load(double, he + f + fine)))
    for i in range(rows + 1):
        base = 6 * stride * (1 + (i & 1))
        for j in range(columns):
            k, f, t = (i + 1) * stride + j + 1, (2 * i + 1) * fine + j + 1, base + 6 * j
            d, west, east = load(double, black + f), load(double, w + f), load(double, e + f)
            store(scratch, t, west * widen(load(single, xnw + k)))
            store(
                scratch,
                t + 1,
                d * load(double, vn + f)
                - load(double, n + f)
                - west * widen(load(single, xne + k))
                - east * widen(load(single, xnw + k + 1)),
            )
            store(scratch, t + 2, east * widen(load(single, xne + k + 1)))
            store(scratch, t + 3, west * widen(load(single, xsw + k)))
            store(
                scratch,
                t + 4,
                d * load(double, vs + f)
                - load(double, s + f)
                - west * widen(load(single, xse + k))
                - east * widen(load(single, xsw + k + 1)),
            )
            store(scratch, t + 5, east * widen(load(single, xse + k + 1)))
        if i > 0:
            coarsen_row(double, table, single, scratch, i - 1)


@inner
def coarsen_row(double, table, single, scratch, i):
    """Row i of level 1's operator. Corner entries of ``scratch`` hold minus A P, the others A P."""
    columns, stride, fine = table[1, COLUMNS], table[1, STRIDE], table[0, STRIDE]
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    red, black = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    hw, he = field64(table, ITERATE), field64(table, RESIDUAL)
    vn, vs = field64(table, DIRECTION), field64(table, PRODUCT)
    xnw, xne = weight_field(table, 0, X_NW), weight_field(table, 0, X_NE)
    xsw, xse = weight_field(table, 0, X_SW), weight_field(table, 0, X_SE)
    c, inverse = level_field(table, 1, DIAGONAL), level_field(table, 1, INVERSE)
    ce, cs = level_field(table, 1, EAST), level_field(table, 1, SOUTH)
    cse, csw = level_field(table, 1, SOUTHEAST), level_field(table, 1, SOUTHWEST)
    one = spread(1.0)
    for j in range(columns + 1):
        f, k, t = (2 * i + 2) * fine + j + 1, (i + 1) * stride + j + 1, 6 * j
        below = k + stride
        d, north, south = load(double, black + f), load(double, n + f), load(double, s + f)
        store(scratch, t, north * widen(load(single, xnw + k)))
        store(
            scratch,
            t + 1,
            d * load(double, hw + f)
            - load(double, w + f)
            - north * widen(load(single, xsw + k))
            - south * widen(load(single, xnw + below)),
        )
        store(scratch, t + 2, south * widen(load(single, xsw + below)))
        store(scratch, t + 3, north * widen(load(single, xne + k)))
        store(
            scratch,
            t + 4,
            d * load(double, he + f)
            - load(double, e + f)
            - north * widen(load(single, xse + k))
            - south * widen(load(single, xne + below)),
        )
        store(scratch, t + 5, south * widen(load(single, xse + below)))
    top, bottom = 6 * stride * (1 + (i & 1)), 6 * stride * (2 - (i & 1))
    for j in range(columns):
        # C (i, j) lies between H points f (west) and f + 1 (east), V points f - fine (north) and f + fine (south).
        f, k = (2 * i + 2) * fine + j + 1, (i + 1) * stride + j + 1
        west, east, north, south = 6 * j, 6 * j + 6, top + 6 * j, bottom + 6 * j
        aw, ae, an, au = (
            load(double, e + f),
            load(double, w + f + 1),
            load(double, s + f - fine),
            load(double, n + f + fine),
        )
        pw, pe, pn, ps = (
            load(double, he + f),
            load(double, hw + f + 1),
            load(double, vs + f - fine),
            load(double, vn + f + fine),
        )
        diagonal = (
            load(double, red + f)
            - aw * pw
            - ae * pe
            - an * pn
            - au * ps
            + pw * load(scratch, west + 4)
            + pe * load(scratch, east + 1)
            + pn * load(scratch, north + 4)
            + ps * load(scratch, south + 1)
        )
        store(single, c + k, narrow(diagonal))
        store(single, inverse + k, narrow(one / diagonal))
        toward_east = (
            ae * load(double, he + f + 1)
            - pe * load(scratch, east + 4)
            + pn * load(scratch, north + 5)
            + ps * load(scratch, south + 2)
        )
        toward_south = (
            au * load(double, vs + f + fine)
            - ps * load(scratch, south + 4)
            + pw * load(scratch, west + 5)
            + pe * load(scratch, east + 2)
        )
        store(single, ce + k, narrow(toward_east))
        store(single, cs + k, narrow(toward_south))
        store(single, cse + k, narrow(pe * load(scratch, east + 5) + ps * load(scratch, south + 5)))
        store(single, csw + k, narrow(pw * load(scratch, west + 2) + ps * load(scratch, south + 3)))


@inner
def scale(double, table, single):
    """Couplings to B, diagonals to D^{-1/2}, X weights to √D times themselves, and the float32 copies."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    slots = stride - 2
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    red, black = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    w32, e32 = field32(table, WEST32), field32(table, EAST32)
    n32, s32 = field32(table, NORTH32), field32(table, SOUTH32)
    weight, centre = field32(table, WEIGHT), field32(table, CENTRE)
    xnw, xne = weight_field(table, 0, X_NW), weight_field(table, 0, X_NE)
    xsw, xse = weight_field(table, 0, X_SW), weight_field(table, 0, X_SE)
    one = spread(1.0)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 1) * stride + slots + 1):
            d = load(double, red + k)
            root = square_root(d)
            store(single, weight + k, narrow(d))
            store(single, centre + k, narrow(root))
            store(double, red + k, one / root)
            store(double, black + k, one / square_root(load(double, black + k)))
            if i & 1 == 0:
                # X (i / 2, ·) sits in the slot of its coarse column.
                r, t = narrow(root), (i // 2 + 1) * table[1, STRIDE] + k - (i + 1) * stride
                if k - (i + 1) * stride <= table[1, COLUMNS] + 1:
                    store(single, xnw + t, r * load(single, xnw + t))
                    store(single, xne + t, r * load(single, xne + t))
                    store(single, xsw + t, r * load(single, xsw + t))
                    store(single, xse + t, r * load(single, xse + t))
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 1) * stride + slots + 1):
            root, west = load(double, black + k), k - (i & 1)
            value = load(double, w + k) * root * load(double, red + west)
            store(double, w + k, value)
            store(single, w32 + k, narrow(value))
            value = load(double, e + k) * root * load(double, red + west + 1)
            store(double, e + k, value)
            store(single, e32 + k, narrow(value))
            value = load(double, n + k) * root * load(double, red + k - stride)
            store(double, n + k, value)
            store(single, n32 + k, narrow(value))
            value = load(double, s + k) * root * load(double, red + k + stride)
            store(double, s + k, value)
            store(single, s32 + k, narrow(value))


@inner
def eliminate_black(double, table):
    """Right-hand side of the reduced system: residual += Bᵀ black. Leaves the iterate and the direction zero."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    r, black = field64(table, RESIDUAL), field64(table, BLACK)
    x, p = field64(table, ITERATE), field64(table, DIRECTION)
    zero = spread(0.0)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            west, above, below = k - 1 + (i & 1), k - stride, k + stride
            value = (
                load(double, r + k)
                + load(double, e + west) * load(double, black + west)
                + load(double, w + west + 1) * load(double, black + west + 1)
            )
            store(
                double,
                r + k,
                value
                + load(double, s + above) * load(double, black + above)
                + load(double, n + below) * load(double, black + below),
            )
            store(double, x + k, zero)
            store(double, p + k, zero)


@inner
def recover_black(double, table):
    """Black unknowns from red ones, ũ_black = f̃_black + B ũ_red, then both unscaled, u = D^{-1/2} ũ."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    x, black = field64(table, ITERATE), field64(table, BLACK)
    red_root, black_root = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            west = k - (i & 1)
            value = (
                load(double, black + k)
                + load(double, w + k) * load(double, x + west)
                + load(double, e + k) * load(double, x + west + 1)
            )
            value = (
                value
                + load(double, n + k) * load(double, x + k - stride)
                + load(double, s + k) * load(double, x + k + stride)
            )
            store(double, black + k, value * load(double, black_root + k))
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            store(double, x + k, load(double, x + k) * load(double, red_root + k))


@inner
def advance_direction(double, table, single, ring, scalars):
    """p ← z + β p and q = S p in one sweep; writes pᵀ q."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(table, WEST64), field64(table, EAST64)
    n, s = field64(table, NORTH64), field64(table, SOUTH64)
    p, q = field64(table, DIRECTION), field64(table, PRODUCT)
    z = field32(table, PRECONDITIONED)
    zero, b = spread(0.0), load(scalars, BETA)
    total = zero
    for k in range(4 * stride):
        store(ring, k, zero)
    for i in range(rows + 2):
        if i < rows:
            for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
                store(double, p + k, widen(load(single, z + k)) + b * load(double, p + k))
        if 1 <= i <= rows:
            line = (i - 1 & 3) * stride - i * stride
            for k in range(i * stride + 1, (i + 1) * stride - 1):
                west = k - (i - 1 & 1)
                value = load(double, w + k) * load(double, p + west) + load(double, e + k) * load(double, p + west + 1)
                store(
                    ring,
                    line + k,
                    value
                    + load(double, n + k) * load(double, p + k - stride)
                    + load(double, s + k) * load(double, p + k + stride),
                )
        elif i == rows + 1:
            for k in range(stride):
                store(ring, (rows & 3) * stride + k, zero)
        if i >= 2:
            at = i - 2
            base = (at + 1) * stride
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - 1 + (at & 1)
                value = load(double, e + west) * load(ring, here + west) + load(double, w + west + 1) * load(
                    ring, here + west + 1
                )
                value = (
                    value
                    + load(double, s + k - stride) * load(ring, up + k)
                    + load(double, n + k + stride) * load(ring, down + k)
                )
                mine = load(double, p + k)
                value = mine - value
                store(double, q + k, value)
                total = total + mine * value
    store(scalars, SIZE_SQUARED, total)


@inner
def advance_iterate(double, table, single, ring, scalars):
    """x ← x + α p, r ← r - α q, relax red then black from zero in float32, and restrict the residual to level 1.

    Relaxing red from zero is ũ_red = r in scaled unknowns; after black only red points have a residual, Bᵀ B r. Writes
    Σ D r² = ‖f - A u‖², one float32 rounding of D away from exact.
    """
    rows, stride, deep = table[0, ROWS], table[0, STRIDE], table[1, STRIDE]
    w, e = field32(table, WEST32), field32(table, EAST32)
    n, s = field32(table, NORTH32), field32(table, SOUTH32)
    weight, rounded = field32(table, WEIGHT), field32(table, ROUNDED)
    centre, right = field32(table, CENTRE), level_field(table, 1, RIGHT)
    xnw, xne = weight_field(table, 0, X_NW), weight_field(table, 0, X_NE)
    xsw, xse = weight_field(table, 0, X_SW), weight_field(table, 0, X_SE)
    x, r = field64(table, ITERATE), field64(table, RESIDUAL)
    p, q = field64(table, DIRECTION), field64(table, PRODUCT)
    a = load(scalars, ALPHA)
    total = spread(0.0)
    zero = spread(np.float32(0))
    for k in range(4 * stride):
        store(ring, k, zero)
        store(ring, 4 * stride + k, zero)
    for i in range(rows + 3):
        if i < rows:
            for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
                store(double, x + k, load(double, x + k) + a * load(double, p + k))
                left = load(double, r + k) - a * load(double, q + k)
                store(double, r + k, left)
                store(single, rounded + k, narrow(left))
                total = total + widen(load(single, weight + k)) * left * left
        if 1 <= i <= rows:
            line = (i - 1 & 3) * stride - i * stride
            for k in range(i * stride + 1, (i + 1) * stride - 1):
                west = k - (i - 1 & 1)
                value = load(single, w + k) * load(single, rounded + west) + load(single, e + k) * load(
                    single, rounded + west + 1
                )
                value = (
                    value
                    + load(single, n + k) * load(single, rounded + k - stride)
                    + load(single, s + k) * load(single, rounded + k + stride)
                )
                store(ring, line + k, value)
        elif i == rows + 1:
            for k in range(stride):
                store(ring, (rows & 3) * stride + k, zero)
        at = i - 2
        if 0 <= at < rows:
            base = (at + 1) * stride
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - 1 + (at & 1)
                value = load(single, e + west) * load(ring, here + west) + load(single, w + west + 1) * load(
                    ring, here + west + 1
                )
                value = (
                    value
                    + load(single, s + k - stride) * load(ring, up + k)
                    + load(single, n + k + stride) * load(ring, down + k)
                )
                store(ring, 4 * stride + here + k, value)
        elif at == rows:
            for k in range(stride):
                store(ring, 4 * stride + (rows & 3) * stride + k, zero)
        if at >= 2 and at & 1 == 0:
            row = at // 2 - 1
            up, here, down = (at - 2 & 3) * stride, (at - 1 & 3) * stride, (at & 3) * stride
            for j in range(1, table[1, COLUMNS] + 1):
                k = (row + 1) * deep + j
                below = k + deep
                value = load(single, centre + at * stride + j) * load(ring, 4 * stride + here + j)
                value = (
                    value
                    + load(single, xse + k) * load(ring, 4 * stride + up + j)
                    + load(single, xsw + k + 1) * load(ring, 4 * stride + up + j + 1)
                )
                value = value + load(single, xne + below) * load(ring, 4 * stride + down + j)
                store(single, right + k, value + load(single, xnw + below + 1) * load(ring, 4 * stride + down + j + 1))
    store(scalars, SIZE_SQUARED, total)


@inner
def finish_cycle(double, table, single, ring, scalars):
    """Add the coarse correction on red points, relax black then red: z. Writes zᵀ r."""
    rows, stride, deep = table[0, ROWS], table[0, STRIDE], table[1, STRIDE]
    w, e = field32(table, WEST32), field32(table, EAST32)
    n, s = field32(table, NORTH32), field32(table, SOUTH32)
    rounded, z = field32(table, ROUNDED), field32(table, PRECONDITIONED)
    centre, solution = field32(table, CENTRE), level_field(table, 1, SOLUTION)
    xnw, xne = weight_field(table, 0, X_NW), weight_field(table, 0, X_NE)
    xsw, xse = weight_field(table, 0, X_SW), weight_field(table, 0, X_SE)
    zero = spread(np.float32(0))
    total = spread(0.0)
    for k in range(4 * stride):
        store(ring, k, zero)
        store(ring, 4 * stride + k, zero)
    for i in range(rows + 2):
        if i < rows:
            base, line, t = (i + 1) * stride, (i & 3) * stride, (i // 2 + 1) * deep
            if i & 1:
                for j in range(1, table[1, COLUMNS] + 1):
                    value = load(single, rounded + base + j) + load(single, centre + base + j) * load(
                        single, solution + t + j
                    )
                    store(ring, 4 * stride + line + j, value)
            else:
                for j in range(1, stride - 1):
                    k = t + j
                    above = k - deep
                    value = load(single, rounded + base + j) + load(single, xnw + k) * load(
                        single, solution + above - 1
                    )
                    value = (
                        value
                        + load(single, xne + k) * load(single, solution + above)
                        + load(single, xsw + k) * load(single, solution + k - 1)
                    )
                    store(ring, 4 * stride + line + j, value + load(single, xse + k) * load(single, solution + k))
        elif i == rows:
            for k in range(stride):
                store(ring, 4 * stride + (rows & 3) * stride + k, zero)
        if 1 <= i <= rows:
            base = i * stride
            at = i - 1
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - (at & 1)
                value = load(single, w + k) * load(ring, 4 * stride + here + west) + load(single, e + k) * load(
                    ring, 4 * stride + here + west + 1
                )
                value = (
                    value
                    + load(single, n + k) * load(ring, 4 * stride + up + k)
                    + load(single, s + k) * load(ring, 4 * stride + down + k)
                )
                store(ring, here + k, value)
        elif i == rows + 1:
            for k in range(stride):
                store(ring, (rows & 3) * stride + k, zero)
        if i >= 2:
            at = i - 2
            base = (at + 1) * stride
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - 1 + (at & 1)
                mine = load(single, rounded + k)
                value = (
                    mine
                    + load(single, e + west) * load(ring, here + west)
                    + load(single, w + west + 1) * load(ring, here + west + 1)
                )
                value = (
                    value
                    + load(single, s + k - stride) * load(ring, up + k)
                    + load(single, n + k + stride) * load(ring, down + k)
                )
                store(single, z + k, value)
                total = total + widen(mine) * widen(value)
    store(scalars, INNER, total)
