"""Finest level of the three-dimensional multigrid: a seven-point operator on a checkerboard, samples in SIMD lanes.

The three-dimensional sibling of `red_black`: red points have i + j + k even, black ones are eliminated exactly, and the
iteration runs on S = I - Bᵀ B over the red ones, scaled by the diagonal. B is stored on black points as six couplings.
Line (i, j) keeps its points in slots k: with t = (i + j) mod 2, red is column 2k + t and black column 2k + 1 - t, so
slot k of the lines 2i, 2i + 1 × 2j, 2j + 1 holds the box (i, j, k) that `seven_point` aggregates.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import LANES, load, narrow, spread, square_root, store, widen
from fieldwright.solvers.nine_point import compiled
from fieldwright.solvers.seven_point import (
    COLUMNS,
    DOWN,
    EAST,
    OVERCORRECTION,
    PLANE,
    PLANES,
    RIGHT,
    ROW_SUM,
    ROWS,
    SIZE,
    SOLUTION,
    SOUTH,
    STRIDE,
    level_field,
)

# float64 fields: couplings on black points to west, east, north, south, up (i - 1) and down (i + 1), then as in
# `red_black`.
W64, E64, N64, S64, U64, D64, ROOT_RED, ROOT_BLACK, BLACK, ITERATE, RESIDUAL, DIRECTION, PRODUCT, BETWEEN64 = range(14)
FIELDS64 = 14
W32, E32, N32, S32, U32, D32, WEIGHT, CENTRE, ROUNDED, PRECONDITIONED, BETWEEN = range(11)
FIELDS32 = 11


@compiled
def field64(space, table, number):
    """A float64 field of the finest level, as a view into its workspace."""
    size = table[0, SIZE]
    return space[number * size * LANES : (number + 1) * size * LANES]


@compiled
def field32(space, table, number):
    """A float32 field of the finest level, as a view into its workspace."""
    return level_field(space, table, 0, number)


@compiled
def pack_couplings(coefficients, place, samples, space, table):
    """Bring couplings and diagonals from (sample, offset, plane, row, column) into lanes.

    ``place``: positions of the diagonal, west, east, north, south, up, down. Only the upper half of the matrix is read.
    """
    planes, rows, columns = table[0, PLANES], table[0, ROWS], table[0, COLUMNS]
    w, e = field64(space, table, W64), field64(space, table, E64)
    n, s = field64(space, table, N64), field64(space, table, S64)
    u, d = field64(space, table, U64), field64(space, table, D64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for i in range(planes):
        for j in range(rows):
            odd = (i + j) & 1
            base = ((i + 1) * table[0, PLANE] + (j + 1) * table[0, STRIDE] + 1) * LANES
            for lane in range(LANES):
                c = coefficients[samples[lane]]
                diagonal, east, south, down = c[place[0], i, j], c[place[2], i, j], c[place[4], i, j], c[place[6], i, j]
                north, up = c[place[4], i, max(j - 1, 0)], c[place[6], max(i - 1, 0), j]
                k = base + lane
                for m in range(odd, columns, 2):
                    red[k] = diagonal[m]
                    k += LANES
                k = base + lane
                for m in range(1 - odd, columns, 2):
                    black[k] = diagonal[m]
                    w[k] = -east[m - 1] if m > 0 else 0.0
                    e[k] = -east[m] if m < columns - 1 else 0.0
                    n[k] = -north[m] if j > 0 else 0.0
                    s[k] = -south[m] if j < rows - 1 else 0.0
                    u[k] = -up[m] if i > 0 else 0.0
                    d[k] = -down[m] if i < planes - 1 else 0.0
                    k += LANES


@compiled
def aggregate_checkerboard(space, table, coarse, nullspace):
    """Level 1's operator from the unscaled couplings; with ``nullspace`` rows sum to exactly zero."""
    stride, plane, columns = table[0, STRIDE], table[0, PLANE], table[0, COLUMNS]
    w, e = field64(space, table, W64), field64(space, table, E64)
    n, s = field64(space, table, N64), field64(space, table, S64)
    u, d = field64(space, table, U64), field64(space, table, D64)
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    total, ce = level_field(coarse, table, 1, ROW_SUM), level_field(coarse, table, 1, EAST)
    cs, cd = level_field(coarse, table, 1, SOUTH), level_field(coarse, table, 1, DOWN)
    zero, share = spread(0.0), spread(1 / OVERCORRECTION)
    for i in range(table[1, PLANES]):
        for j in range(table[1, ROWS]):
            for k in range(table[1, COLUMNS]):
                sums, east, south, down = zero, zero, zero, zero
                for a in range(2):
                    for b in range(2):
                        if 2 * i + a >= table[0, PLANES] or 2 * j + b >= table[0, ROWS]:
                            continue
                        f = (2 * i + a + 1) * plane + (2 * j + b + 1) * stride + k + 1
                        odd = (a + b) & 1
                        # Red: its couplings are stored on the black neighbours.
                        if 2 * k + odd < columns:
                            west = f - 1 + odd
                            around = load(e, west) + load(w, west + 1) + load(s, f - stride) + load(n, f + stride)
                            sums = sums + (load(red, f) - around - load(d, f - plane) - load(u, f + plane))
                        if 2 * k + 1 - odd < columns:
                            around = load(w, f) + load(e, f) + load(n, f) + load(s, f)
                            sums = sums + (load(black, f) - around - load(u, f) - load(d, f))
                        east = east + (load(w, f + 1) if odd else load(e, f))
                        if b == 1:
                            south = south + load(s, f) + load(n, f + stride)
                        if a == 1:
                            down = down + load(d, f) + load(u, f + plane)
                at = (i + 1) * table[1, PLANE] + (j + 1) * table[1, STRIDE] + k + 1
                store(total, at, narrow(zero if nullspace else share * sums))
                store(ce, at, narrow(share * east))
                store(cs, at, narrow(share * south))
                store(cd, at, narrow(share * down))


@compiled
def scale(space, table, coarse):
    """Couplings to B, diagonals to D^{-1/2}, and the float32 copies."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    red, black = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    weight, centre = field32(coarse, table, WEIGHT), field32(coarse, table, CENTRE)
    one = spread(1.0)
    for i in range(planes):
        for j in range(rows):
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 2) * stride - 1):
                value = load(red, k)
                root = square_root(value)
                store(weight, k, narrow(value))
                store(centre, k, narrow(root))
                store(red, k, one / root)
                store(black, k, one / square_root(load(black, k)))
    for number in range(6):
        b, single = field64(space, table, number), field32(coarse, table, number)
        for i in range(planes):
            for j in range(rows):
                west = -((i + j) & 1)
                step = (west, west + 1, -stride, stride, -plane, plane)[number]
                for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 2) * stride - 1):
                    value = load(b, k) * load(black, k) * load(red, k + step)
                    store(b, k, value)
                    store(single, k, narrow(value))


@compiled
def black_from_red(w, e, n, s, u, d, x, k, west, stride, plane):
    """One entry of B x: the sum over a black point's red neighbours, whose western one is in slot ``west``."""
    value = load(w, k) * load(x, west) + load(e, k) * load(x, west + 1)
    value = value + load(n, k) * load(x, k - stride) + load(s, k) * load(x, k + stride)
    return value + load(u, k) * load(x, k - plane) + load(d, k) * load(x, k + plane)


@compiled
def red_from_black(w, e, n, s, u, d, y, k, west, stride, plane):
    """One entry of Bᵀ y: the sum over a red point's black neighbours, whose western one is in slot ``west``."""
    value = load(e, west) * load(y, west) + load(w, west + 1) * load(y, west + 1)
    value = value + load(s, k - stride) * load(y, k - stride) + load(n, k + stride) * load(y, k + stride)
    return value + load(d, k - plane) * load(y, k - plane) + load(u, k + plane) * load(y, k + plane)


@compiled
def eliminate_black(space, table):
    """Right-hand side of the reduced system: residual += Bᵀ black. Leaves the iterate and the direction zero."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(space, table, W64), field64(space, table, E64)
    n, s = field64(space, table, N64), field64(space, table, S64)
    u, d = field64(space, table, U64), field64(space, table, D64)
    r, black = field64(space, table, RESIDUAL), field64(space, table, BLACK)
    x, p = field64(space, table, ITERATE), field64(space, table, DIRECTION)
    zero = spread(0.0)
    for i in range(planes):
        for j in range(rows):
            first, odd = (i + 1) * plane + (j + 1) * stride, (i + j) & 1
            for k in range(first + 1, first + stride - 1):
                value = red_from_black(w, e, n, s, u, d, black, k, k - 1 + odd, stride, plane)
                store(r, k, load(r, k) + value)
                store(x, k, zero)
                store(p, k, zero)


@compiled
def recover_black(space, table):
    """Black unknowns from red ones, ũ_black = f̃_black + B ũ_red, then both unscaled, u = D^{-1/2} ũ."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(space, table, W64), field64(space, table, E64)
    n, s = field64(space, table, N64), field64(space, table, S64)
    u, d = field64(space, table, U64), field64(space, table, D64)
    x, black = field64(space, table, ITERATE), field64(space, table, BLACK)
    red_root, black_root = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for i in range(planes):
        for j in range(rows):
            first, odd = (i + 1) * plane + (j + 1) * stride, (i + j) & 1
            for k in range(first + 1, first + stride - 1):
                value = load(black, k) + black_from_red(w, e, n, s, u, d, x, k, k - odd, stride, plane)
                store(black, k, value * load(black_root, k))
    for k in range(plane, (planes + 1) * plane):
        store(x, k, load(x, k) * load(red_root, k))


@compiled
def advance_direction(space, table, coarse, beta, curvature):
    """p ← z + β p and q = S p, plane after plane in one sweep; writes pᵀ q to ``curvature``."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(space, table, W64), field64(space, table, E64)
    n, s = field64(space, table, N64), field64(space, table, S64)
    u, d = field64(space, table, U64), field64(space, table, D64)
    p, q, y = field64(space, table, DIRECTION), field64(space, table, PRODUCT), field64(space, table, BETWEEN64)
    z = field32(coarse, table, PRECONDITIONED)
    total, b = spread(0.0), load(beta, 0)
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                for k in range(first + 1, first + stride - 1):
                    store(p, k, widen(load(z, k)) + b * load(p, k))
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(y, k, black_from_red(w, e, n, s, u, d, p, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                for k in range(first + 1, first + stride - 1):
                    mine = load(p, k)
                    value = mine - red_from_black(w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(q, k, value)
                    total = total + mine * value
    store(curvature, 0, total)


@compiled
def advance_iterate(space, table, coarse, alpha, size):
    """x ← x + α p, r ← r - α q, relax red then black from zero in float32, and restrict the residual to level 1.

    Writes Σ D r² = ‖f - A u‖² to ``size``, as its two-dimensional sibling does.
    """
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field32(coarse, table, W32), field32(coarse, table, E32)
    n, s = field32(coarse, table, N32), field32(coarse, table, S32)
    u, d = field32(coarse, table, U32), field32(coarse, table, D32)
    weight, rounded = field32(coarse, table, WEIGHT), field32(coarse, table, ROUNDED)
    centre, y = field32(coarse, table, CENTRE), field32(coarse, table, BETWEEN)
    right = level_field(coarse, table, 1, RIGHT)
    x, r = field64(space, table, ITERATE), field64(space, table, RESIDUAL)
    p, q = field64(space, table, DIRECTION), field64(space, table, PRODUCT)
    total, a, zero = spread(0.0), load(alpha, 0), spread(np.float32(0))
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                for k in range(first + 1, first + stride - 1):
                    store(x, k, load(x, k) + a * load(p, k))
                    left = load(r, k) - a * load(q, k)
                    store(r, k, left)
                    store(rounded, k, narrow(left))
                    total = total + widen(load(weight, k)) * left * left
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(y, k, black_from_red(w, e, n, s, u, d, rounded, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                at = ((i - 2) // 2 + 1) * table[1, PLANE] + (j // 2 + 1) * table[1, STRIDE] - first
                opens = i & 1 == 0 and j & 1 == 0
                for k in range(first + 1, first + stride - 1):
                    sums = zero if opens else load(right, at + k)
                    value = red_from_black(w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(right, at + k, sums + load(centre, k) * value)
    store(size, 0, total)


@compiled
def finish_cycle(space, table, coarse, product):
    """Add the coarse correction on red points, relax black then red: z. Writes zᵀ r to ``product``."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field32(coarse, table, W32), field32(coarse, table, E32)
    n, s = field32(coarse, table, N32), field32(coarse, table, S32)
    u, d = field32(coarse, table, U32), field32(coarse, table, D32)
    rounded, z = field32(coarse, table, ROUNDED), field32(coarse, table, PRECONDITIONED)
    centre, y = field32(coarse, table, CENTRE), field32(coarse, table, BETWEEN)
    solution = level_field(coarse, table, 1, SOLUTION)
    total = spread(0.0)
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                at = (i // 2 + 1) * table[1, PLANE] + (j // 2 + 1) * table[1, STRIDE] - first
                for k in range(first + 1, first + stride - 1):
                    # Until black is relaxed, z holds the corrected red unknowns.
                    store(z, k, load(rounded, k) + load(centre, k) * load(solution, at + k))
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(y, k, black_from_red(w, e, n, s, u, d, z, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                for k in range(first + 1, first + stride - 1):
                    mine = load(rounded, k)
                    value = mine + red_from_black(w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(z, k, value)
                    total = total + widen(mine) * widen(value)
    store(product, 0, total)
