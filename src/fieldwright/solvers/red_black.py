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

from fieldwright.solvers.lanes import LANES, larger, load, narrow, spread, square_root, store, widen
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
    compiled,
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


@compiled
def field64(space, table, number):
    """A float64 field of the finest level, as a view into its workspace."""
    size = table[0, SIZE]
    return space[number * size * LANES : (number + 1) * size * LANES]


@compiled
def field32(space, table, number):
    """A float32 field of the finest level, as a view into its workspace."""
    first = table[0, START] + number * table[0, SIZE]
    return space[first * LANES : (first + table[0, SIZE]) * LANES]


@compiled
def pack_couplings(coefficients, place, samples, space, table):
    """Bring the samples' couplings and diagonals from (sample, offset, row, column) into lanes.

    ``place`` gives the positions of the diagonal and of the western, eastern, northern and southern coefficient. Only
    eastern and southern ones are read: the operator is symmetric, and if it is not the true residual will tell.
    """
    rows, columns, stride = table[0, ROWS], table[0, COLUMNS], table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for i in range(rows):
        odd = i & 1
        base = ((i + 1) * stride + 1) * LANES
        for lane in range(LANES):
            c = coefficients[samples[lane]]
            diagonal, east, south = c[place[0], i], c[place[2], i], c[place[4], i]
            north = c[place[4], max(i - 1, 0)]
            inner_north, inner_south = i > 0, i < rows - 1
            k = base + lane
            for j in range(odd, columns, 2):
                red[k] = diagonal[j]
                k += LANES
            k = base + lane
            for j in range(1 - odd, columns, 2):
                black[k] = diagonal[j]
                w[k] = -east[j - 1] if j > 0 else 0.0
                e[k] = -east[j] if j < columns - 1 else 0.0
                n[k] = -north[j] if inner_north else 0.0
                s[k] = -south[j] if inner_south else 0.0
                k += LANES


@compiled
def coarsen_checkerboard(space, table, coarse, scratch):
    """Interpolation from level 1 and its Galerkin operator, from the unscaled couplings that `pack_couplings` left.

    The same construction as `nine_point.interpolate` and `nine_point.galerkin` without diagonal couplings; in float64,
    because the row sums of the first coarse operator set the accuracy of all below. The weights of H and V points,
    which the cycle does not need, stay in fields that the iteration uses later.
    """
    rows, columns, stride = table[1, ROWS], table[1, COLUMNS], table[1, STRIDE]
    fine = table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    hw, he = field64(space, table, ITERATE), field64(space, table, RESIDUAL)
    vn, vs = field64(space, table, DIRECTION), field64(space, table, PRODUCT)
    xnw, xne = weight_field(coarse, table, 0, X_NW), weight_field(coarse, table, 0, X_NE)
    xsw, xse = weight_field(coarse, table, 0, X_SW), weight_field(coarse, table, 0, X_SE)
    one, small = spread(1.0), spread(1e-10)
    # H (i, j) is black (2i + 1, j); V (i, j) is black (2i, j); both weights are kept where the point itself is stored.
    for i in range(2 * rows + 1):
        for j in range(columns + 1):
            f = (i + 1) * fine + j + 1
            d = load(black, f)
            if i & 1:
                a = one / larger(d - load(n, f) - load(s, f), small * d)
                store(hw, f, a * load(w, f))
                store(he, f, a * load(e, f))
            else:
                a = one / larger(d - load(w, f) - load(e, f), small * d)
                store(vn, f, a * load(n, f))
                store(vs, f, a * load(s, f))
    for i in range(rows + 1):
        for j in range(columns + 1):
            k, f = (i + 1) * stride + j + 1, (2 * i + 1) * fine + j + 1
            a = one / load(red, f)
            west, east, north, south = a * load(e, f - 1), a * load(w, f), a * load(s, f - fine), a * load(n, f + fine)
            store(xnw, k, narrow(west * load(vn, f - 1) + north * load(hw, f - fine)))
            store(xne, k, narrow(east * load(vn, f) + north * load(he, f - fine)))
            store(xsw, k, narrow(west * load(vs, f - 1) + south * load(hw, f + fine)))
            store(xse, k, narrow(east * load(vs, f) + south * load(he, f + fine)))
    for i in range(rows + 1):
        base = 6 * stride * (1 + (i & 1))
        for j in range(columns):
            k, f, t = (i + 1) * stride + j + 1, (2 * i + 1) * fine + j + 1, base + 6 * j
            d, west, east = load(black, f), load(w, f), load(e, f)
            store(scratch, t, west * widen(load(xnw, k)))
            store(
                scratch,
                t + 1,
                d * load(vn, f) - load(n, f) - west * widen(load(xne, k)) - east * widen(load(xnw, k + 1)),
            )
            store(scratch, t + 2, east * widen(load(xne, k + 1)))
            store(scratch, t + 3, west * widen(load(xsw, k)))
            store(
                scratch,
                t + 4,
                d * load(vs, f) - load(s, f) - west * widen(load(xse, k)) - east * widen(load(xsw, k + 1)),
            )
            store(scratch, t + 5, east * widen(load(xse, k + 1)))
        if i > 0:
            coarsen_row(space, table, coarse, scratch, i - 1)


@compiled
def coarsen_row(space, table, coarse, scratch, i):
    """Row i of level 1's operator. Corner entries of ``scratch`` hold minus A P, the others A P."""
    columns, stride, fine = table[1, COLUMNS], table[1, STRIDE], table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    hw, he = field64(space, table, ITERATE), field64(space, table, RESIDUAL)
    vn, vs = field64(space, table, DIRECTION), field64(space, table, PRODUCT)
    xnw, xne = weight_field(coarse, table, 0, X_NW), weight_field(coarse, table, 0, X_NE)
    xsw, xse = weight_field(coarse, table, 0, X_SW), weight_field(coarse, table, 0, X_SE)
    c, inverse = level_field(coarse, table, 1, DIAGONAL), level_field(coarse, table, 1, INVERSE)
    ce, cs = level_field(coarse, table, 1, EAST), level_field(coarse, table, 1, SOUTH)
    cse, csw = level_field(coarse, table, 1, SOUTHEAST), level_field(coarse, table, 1, SOUTHWEST)
    one = spread(1.0)
    for j in range(columns + 1):
        f, k, t = (2 * i + 2) * fine + j + 1, (i + 1) * stride + j + 1, 6 * j
        below = k + stride
        d, north, south = load(black, f), load(n, f), load(s, f)
        store(scratch, t, north * widen(load(xnw, k)))
        store(
            scratch,
            t + 1,
            d * load(hw, f) - load(w, f) - north * widen(load(xsw, k)) - south * widen(load(xnw, below)),
        )
        store(scratch, t + 2, south * widen(load(xsw, below)))
        store(scratch, t + 3, north * widen(load(xne, k)))
        store(
            scratch,
            t + 4,
            d * load(he, f) - load(e, f) - north * widen(load(xse, k)) - south * widen(load(xne, below)),
        )
        store(scratch, t + 5, south * widen(load(xse, below)))
    top, bottom = 6 * stride * (1 + (i & 1)), 6 * stride * (2 - (i & 1))
    for j in range(columns):
        # C (i, j) lies between H points f (west) and f + 1 (east), V points f - fine (north) and f + fine (south).
        f, k = (2 * i + 2) * fine + j + 1, (i + 1) * stride + j + 1
        west, east, north, south = 6 * j, 6 * j + 6, top + 6 * j, bottom + 6 * j
        aw, ae, an, au = load(e, f), load(w, f + 1), load(s, f - fine), load(n, f + fine)
        pw, pe, pn, ps = load(he, f), load(hw, f + 1), load(vs, f - fine), load(vn, f + fine)
        diagonal = (
            load(red, f)
            - aw * pw
            - ae * pe
            - an * pn
            - au * ps
            + pw * load(scratch, west + 4)
            + pe * load(scratch, east + 1)
            + pn * load(scratch, north + 4)
            + ps * load(scratch, south + 1)
        )
        store(c, k, narrow(diagonal))
        store(inverse, k, narrow(one / diagonal))
        toward_east = (
            ae * load(he, f + 1)
            - pe * load(scratch, east + 4)
            + pn * load(scratch, north + 5)
            + ps * load(scratch, south + 2)
        )
        toward_south = (
            au * load(vs, f + fine)
            - ps * load(scratch, south + 4)
            + pw * load(scratch, west + 5)
            + pe * load(scratch, east + 2)
        )
        store(ce, k, narrow(toward_east))
        store(cs, k, narrow(toward_south))
        store(cse, k, narrow(pe * load(scratch, east + 5) + ps * load(scratch, south + 5)))
        store(csw, k, narrow(pw * load(scratch, west + 2) + ps * load(scratch, south + 3)))


@compiled
def scale(space, table, coarse):
    """Couplings to B, diagonals to D^{-1/2}, X weights to √D times themselves, and the float32 copies."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    slots = stride - 2
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    w32, e32 = field32(coarse, table, WEST32), field32(coarse, table, EAST32)
    n32, s32 = field32(coarse, table, NORTH32), field32(coarse, table, SOUTH32)
    weight, centre = field32(coarse, table, WEIGHT), field32(coarse, table, CENTRE)
    xnw, xne = weight_field(coarse, table, 0, X_NW), weight_field(coarse, table, 0, X_NE)
    xsw, xse = weight_field(coarse, table, 0, X_SW), weight_field(coarse, table, 0, X_SE)
    one = spread(1.0)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 1) * stride + slots + 1):
            d = load(red, k)
            root = square_root(d)
            store(weight, k, narrow(d))
            store(centre, k, narrow(root))
            store(red, k, one / root)
            store(black, k, one / square_root(load(black, k)))
            if i & 1 == 0:
                # X (i / 2, ·) sits in the slot of its coarse column.
                r, t = narrow(root), (i // 2 + 1) * table[1, STRIDE] + k - (i + 1) * stride
                if k - (i + 1) * stride <= table[1, COLUMNS] + 1:
                    store(xnw, t, r * load(xnw, t))
                    store(xne, t, r * load(xne, t))
                    store(xsw, t, r * load(xsw, t))
                    store(xse, t, r * load(xse, t))
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 1) * stride + slots + 1):
            root, west = load(black, k), k - (i & 1)
            value = load(w, k) * root * load(red, west)
            store(w, k, value)
            store(w32, k, narrow(value))
            value = load(e, k) * root * load(red, west + 1)
            store(e, k, value)
            store(e32, k, narrow(value))
            value = load(n, k) * root * load(red, k - stride)
            store(n, k, value)
            store(n32, k, narrow(value))
            value = load(s, k) * root * load(red, k + stride)
            store(s, k, value)
            store(s32, k, narrow(value))


@compiled
def eliminate_black(space, table):
    """Right-hand side of the reduced system: residual += Bᵀ black. Leaves the iterate and the direction zero."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    r, black = field64(space, table, RESIDUAL), field64(space, table, BLACK)
    x, p = field64(space, table, ITERATE), field64(space, table, DIRECTION)
    zero = spread(0.0)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            west, above, below = k - 1 + (i & 1), k - stride, k + stride
            value = load(r, k) + load(e, west) * load(black, west) + load(w, west + 1) * load(black, west + 1)
            store(r, k, value + load(s, above) * load(black, above) + load(n, below) * load(black, below))
            store(x, k, zero)
            store(p, k, zero)


@compiled
def recover_black(space, table):
    """Black unknowns from red ones, ũ_black = f̃_black + B ũ_red, then both unscaled, u = D^{-1/2} ũ."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    x, black = field64(space, table, ITERATE), field64(space, table, BLACK)
    red_root, black_root = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            west = k - (i & 1)
            value = load(black, k) + load(w, k) * load(x, west) + load(e, k) * load(x, west + 1)
            value = value + load(n, k) * load(x, k - stride) + load(s, k) * load(x, k + stride)
            store(black, k, value * load(black_root, k))
    for i in range(rows):
        for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
            store(x, k, load(x, k) * load(red_root, k))


@compiled
def advance_direction(space, table, coarse, ring, beta, curvature):
    """p ← z + β p and q = S p in one sweep; writes pᵀ q to ``curvature``."""
    rows, stride = table[0, ROWS], table[0, STRIDE]
    w, e = field64(space, table, WEST64), field64(space, table, EAST64)
    n, s = field64(space, table, NORTH64), field64(space, table, SOUTH64)
    p, q = field64(space, table, DIRECTION), field64(space, table, PRODUCT)
    z = field32(coarse, table, PRECONDITIONED)
    zero, b = spread(0.0), load(beta, 0)
    total = zero
    for k in range(4 * stride):
        store(ring, k, zero)
    for i in range(rows + 2):
        if i < rows:
            for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
                store(p, k, widen(load(z, k)) + b * load(p, k))
        if 1 <= i <= rows:
            line = (i - 1 & 3) * stride - i * stride
            for k in range(i * stride + 1, (i + 1) * stride - 1):
                west = k - (i - 1 & 1)
                value = load(w, k) * load(p, west) + load(e, k) * load(p, west + 1)
                store(ring, line + k, value + load(n, k) * load(p, k - stride) + load(s, k) * load(p, k + stride))
        elif i == rows + 1:
            for k in range(stride):
                store(ring, (rows & 3) * stride + k, zero)
        if i >= 2:
            at = i - 2
            base = (at + 1) * stride
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - 1 + (at & 1)
                value = load(e, west) * load(ring, here + west) + load(w, west + 1) * load(ring, here + west + 1)
                value = value + load(s, k - stride) * load(ring, up + k) + load(n, k + stride) * load(ring, down + k)
                mine = load(p, k)
                value = mine - value
                store(q, k, value)
                total = total + mine * value
    store(curvature, 0, total)


@compiled
def advance_iterate(space, table, coarse, ring, lines, alpha, size):
    """x ← x + α p, r ← r - α q, relax red then black from zero in float32, and restrict the residual to level 1.

    Relaxing red from zero is ũ_red = r in scaled unknowns; after black only red points have a residual, Bᵀ B r. Writes
    Σ D r² = ‖f - A u‖² to ``size``, one float32 rounding of D away from exact.
    """
    rows, stride, deep = table[0, ROWS], table[0, STRIDE], table[1, STRIDE]
    w, e = field32(coarse, table, WEST32), field32(coarse, table, EAST32)
    n, s = field32(coarse, table, NORTH32), field32(coarse, table, SOUTH32)
    weight, rounded = field32(coarse, table, WEIGHT), field32(coarse, table, ROUNDED)
    centre, right = field32(coarse, table, CENTRE), level_field(coarse, table, 1, RIGHT)
    xnw, xne = weight_field(coarse, table, 0, X_NW), weight_field(coarse, table, 0, X_NE)
    xsw, xse = weight_field(coarse, table, 0, X_SW), weight_field(coarse, table, 0, X_SE)
    x, r = field64(space, table, ITERATE), field64(space, table, RESIDUAL)
    p, q = field64(space, table, DIRECTION), field64(space, table, PRODUCT)
    a = load(alpha, 0)
    total = spread(0.0)
    zero = spread(np.float32(0))
    for k in range(4 * stride):
        store(ring, k, zero)
        store(lines, k, zero)
    for i in range(rows + 3):
        if i < rows:
            for k in range((i + 1) * stride + 1, (i + 2) * stride - 1):
                store(x, k, load(x, k) + a * load(p, k))
                left = load(r, k) - a * load(q, k)
                store(r, k, left)
                store(rounded, k, narrow(left))
                total = total + widen(load(weight, k)) * left * left
        if 1 <= i <= rows:
            line = (i - 1 & 3) * stride - i * stride
            for k in range(i * stride + 1, (i + 1) * stride - 1):
                west = k - (i - 1 & 1)
                value = load(w, k) * load(rounded, west) + load(e, k) * load(rounded, west + 1)
                value = value + load(n, k) * load(rounded, k - stride) + load(s, k) * load(rounded, k + stride)
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
                value = load(e, west) * load(ring, here + west) + load(w, west + 1) * load(ring, here + west + 1)
                value = value + load(s, k - stride) * load(ring, up + k) + load(n, k + stride) * load(ring, down + k)
                store(lines, here + k, value)
        elif at == rows:
            for k in range(stride):
                store(lines, (rows & 3) * stride + k, zero)
        if at >= 2 and at & 1 == 0:
            row = at // 2 - 1
            up, here, down = (at - 2 & 3) * stride, (at - 1 & 3) * stride, (at & 3) * stride
            for j in range(1, table[1, COLUMNS] + 1):
                k = (row + 1) * deep + j
                below = k + deep
                value = load(centre, at * stride + j) * load(lines, here + j)
                value = value + load(xse, k) * load(lines, up + j) + load(xsw, k + 1) * load(lines, up + j + 1)
                value = value + load(xne, below) * load(lines, down + j)
                store(right, k, value + load(xnw, below + 1) * load(lines, down + j + 1))
    store(size, 0, total)


@compiled
def finish_cycle(space, table, coarse, ring, lines, product):
    """Add the coarse correction on red points, relax black then red: z. Writes zᵀ r to ``product``."""
    rows, stride, deep = table[0, ROWS], table[0, STRIDE], table[1, STRIDE]
    w, e = field32(coarse, table, WEST32), field32(coarse, table, EAST32)
    n, s = field32(coarse, table, NORTH32), field32(coarse, table, SOUTH32)
    rounded, z = field32(coarse, table, ROUNDED), field32(coarse, table, PRECONDITIONED)
    centre, solution = field32(coarse, table, CENTRE), level_field(coarse, table, 1, SOLUTION)
    xnw, xne = weight_field(coarse, table, 0, X_NW), weight_field(coarse, table, 0, X_NE)
    xsw, xse = weight_field(coarse, table, 0, X_SW), weight_field(coarse, table, 0, X_SE)
    zero = spread(np.float32(0))
    total = spread(0.0)
    for k in range(4 * stride):
        store(ring, k, zero)
        store(lines, k, zero)
    for i in range(rows + 2):
        if i < rows:
            base, line, t = (i + 1) * stride, (i & 3) * stride, (i // 2 + 1) * deep
            if i & 1:
                for j in range(1, table[1, COLUMNS] + 1):
                    value = load(rounded, base + j) + load(centre, base + j) * load(solution, t + j)
                    store(lines, line + j, value)
            else:
                for j in range(1, stride - 1):
                    k = t + j
                    above = k - deep
                    value = load(rounded, base + j) + load(xnw, k) * load(solution, above - 1)
                    value = value + load(xne, k) * load(solution, above) + load(xsw, k) * load(solution, k - 1)
                    store(lines, line + j, value + load(xse, k) * load(solution, k))
        elif i == rows:
            for k in range(stride):
                store(lines, (rows & 3) * stride + k, zero)
        if 1 <= i <= rows:
            base = i * stride
            at = i - 1
            up, here, down = (at - 1 & 3) * stride - base, (at & 3) * stride - base, (at + 1 & 3) * stride - base
            for k in range(base + 1, base + stride - 1):
                west = k - (at & 1)
                value = load(w, k) * load(lines, here + west) + load(e, k) * load(lines, here + west + 1)
                value = value + load(n, k) * load(lines, up + k) + load(s, k) * load(lines, down + k)
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
                mine = load(rounded, k)
                value = mine + load(e, west) * load(ring, here + west) + load(w, west + 1) * load(ring, here + west + 1)
                value = value + load(s, k - stride) * load(ring, up + k) + load(n, k + stride) * load(ring, down + k)
                store(z, k, value)
                total = total + widen(mine) * widen(value)
    store(product, 0, total)
