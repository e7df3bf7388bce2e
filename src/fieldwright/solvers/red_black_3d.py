"""Finest level of the three-dimensional multigrid: a seven-point operator on a checkerboard, samples in SIMD lanes.

The three-dimensional sibling of `red_black`: red points have i + j + k even, black ones are eliminated exactly, and the
iteration runs on S = I - Bᵀ B over the red ones, scaled by the diagonal. B is stored on black points as six couplings.
Line (i, j) keeps its points in slots k: with t = (i + j) mod 2, red is column 2k + t and black column 2k + 1 - t, so
slot k of the lines 2i, 2i + 1 × 2j, 2j + 1 holds the box (i, j, k) that `seven_point` aggregates.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lane_iteration import ALPHA, BETA, INNER, SIZE_SQUARED
from fieldwright.solvers.lanes import inner, load, narrow, spread, square_root, store, widen
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
    START,
    STRIDE,
    level_field,
)

# float64 fields: couplings on black points to west, east, north, south, up (i - 1) and down (i + 1), then as in
# `red_black`.
W64, E64, N64, S64, U64, D64, ROOT_RED, ROOT_BLACK, BLACK, ITERATE, RESIDUAL, DIRECTION, PRODUCT, BETWEEN64 = range(14)
FIELDS64 = 14
W32, E32, N32, S32, U32, D32, WEIGHT, CENTRE, ROUNDED, PRECONDITIONED, BETWEEN = range(11)
FIELDS32 = 11


@inner
def field64(table, number):
    """Where a float64 field of the finest level begins in its workspace, counted in vectors."""
    return number * table[0, SIZE]


@inner
def field32(table, number):
    """Where a float32 field of the finest level begins in its workspace, counted in vectors."""
    return table[0, START] + number * table[0, SIZE]


@inner
def aggregate_checkerboard(double, table, single, nullspace):
    """Level 1's operator from the unscaled couplings; with ``nullspace`` rows sum to exactly zero."""
    stride, plane, columns = table[0, STRIDE], table[0, PLANE], table[0, COLUMNS]
    w, e = field64(table, W64), field64(table, E64)
    n, s = field64(table, N64), field64(table, S64)
    u, d = field64(table, U64), field64(table, D64)
    red, black = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    total, ce = level_field(table, 1, ROW_SUM), level_field(table, 1, EAST)
    cs, cd = level_field(table, 1, SOUTH), level_field(table, 1, DOWN)
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
                            around = (
                                load(double, e + west)
                                + load(double, w + west + 1)
                                + load(double, s + f - stride)
                                + load(double, n + f + stride)
                            )
                            sums = sums + (
                                load(double, red + f)
                                - around
                                - load(double, d + f - plane)
                                - load(double, u + f + plane)
                            )
                        if 2 * k + 1 - odd < columns:
                            around = (
                                load(double, w + f) + load(double, e + f) + load(double, n + f) + load(double, s + f)
                            )
                            sums = sums + (load(double, black + f) - around - load(double, u + f) - load(double, d + f))
                        east = east + (load(double, w + f + 1) if odd else load(double, e + f))
                        if b == 1:
                            south = south + load(double, s + f) + load(double, n + f + stride)
                        if a == 1:
                            down = down + load(double, d + f) + load(double, u + f + plane)
                at = (i + 1) * table[1, PLANE] + (j + 1) * table[1, STRIDE] + k + 1
                store(single, total + at, narrow(zero if nullspace else share * sums))
                store(single, ce + at, narrow(share * east))
                store(single, cs + at, narrow(share * south))
                store(single, cd + at, narrow(share * down))


@inner
def scale(double, table, single):
    """Couplings to B, diagonals to D^{-1/2}, and the float32 copies."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    red, black = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    weight, centre = field32(table, WEIGHT), field32(table, CENTRE)
    one = spread(1.0)
    for i in range(planes):
        for j in range(rows):
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 2) * stride - 1):
                value = load(double, red + k)
                root = square_root(value)
                store(single, weight + k, narrow(value))
                store(single, centre + k, narrow(root))
                store(double, red + k, one / root)
                store(double, black + k, one / square_root(load(double, black + k)))
    for number in range(6):
        b, rounded = field64(table, number), field32(table, number)
        for i in range(planes):
            for j in range(rows):
                west = -((i + j) & 1)
                step = (west, west + 1, -stride, stride, -plane, plane)[number]
                for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 2) * stride - 1):
                    value = load(double, b + k) * load(double, black + k) * load(double, red + k + step)
                    store(double, b + k, value)
                    store(single, rounded + k, narrow(value))


@inner
def black_from_red(space, w, e, n, s, u, d, x, k, west, stride, plane):
    """One entry of B x: the sum over a black point's red neighbours, whose western one is in slot ``west``."""
    value = load(space, w + k) * load(space, x + west) + load(space, e + k) * load(space, x + west + 1)
    value = value + load(space, n + k) * load(space, x + k - stride) + load(space, s + k) * load(space, x + k + stride)
    return value + load(space, u + k) * load(space, x + k - plane) + load(space, d + k) * load(space, x + k + plane)


@inner
def red_from_black(space, w, e, n, s, u, d, y, k, west, stride, plane):
    """One entry of Bᵀ y: the sum over a red point's black neighbours, whose western one is in slot ``west``."""
    value = load(space, e + west) * load(space, y + west) + load(space, w + west + 1) * load(space, y + west + 1)
    above, below = k - stride, k + stride
    value = value + load(space, s + above) * load(space, y + above) + load(space, n + below) * load(space, y + below)
    above, below = k - plane, k + plane
    return value + load(space, d + above) * load(space, y + above) + load(space, u + below) * load(space, y + below)


@inner
def eliminate_black(double, table):
    """Right-hand side of the reduced system: residual += Bᵀ black. Leaves the iterate and the direction zero."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(table, W64), field64(table, E64)
    n, s = field64(table, N64), field64(table, S64)
    u, d = field64(table, U64), field64(table, D64)
    r, black = field64(table, RESIDUAL), field64(table, BLACK)
    x, p = field64(table, ITERATE), field64(table, DIRECTION)
    zero = spread(0.0)
    for i in range(planes):
        for j in range(rows):
            first, odd = (i + 1) * plane + (j + 1) * stride, (i + j) & 1
            for k in range(first + 1, first + stride - 1):
                value = red_from_black(double, w, e, n, s, u, d, black, k, k - 1 + odd, stride, plane)
                store(double, r + k, load(double, r + k) + value)
                store(double, x + k, zero)
                store(double, p + k, zero)


@inner
def recover_black(double, table):
    """Black unknowns from red ones, ũ_black = f̃_black + B ũ_red, then both unscaled, u = D^{-1/2} ũ."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(table, W64), field64(table, E64)
    n, s = field64(table, N64), field64(table, S64)
    u, d = field64(table, U64), field64(table, D64)
    x, black = field64(table, ITERATE), field64(table, BLACK)
    red_root, black_root = field64(table, ROOT_RED), field64(table, ROOT_BLACK)
    for i in range(planes):
        for j in range(rows):
            first, odd = (i + 1) * plane + (j + 1) * stride, (i + j) & 1
            for k in range(first + 1, first + stride - 1):
                value = load(double, black + k) + black_from_red(double, w, e, n, s, u, d, x, k, k - odd, stride, plane)
                store(double, black + k, value * load(double, black_root + k))
    for k in range(plane, (planes + 1) * plane):
        store(double, x + k, load(double, x + k) * load(double, red_root + k))


@inner
def advance_direction(double, table, single, scalars):
    """p ← z + β p and q = S p, plane after plane in one sweep; writes pᵀ q."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field64(table, W64), field64(table, E64)
    n, s = field64(table, N64), field64(table, S64)
    u, d = field64(table, U64), field64(table, D64)
    p, q, y = field64(table, DIRECTION), field64(table, PRODUCT), field64(table, BETWEEN64)
    z = field32(table, PRECONDITIONED)
    total, b = spread(0.0), load(scalars, BETA)
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                for k in range(first + 1, first + stride - 1):
                    store(double, p + k, widen(load(single, z + k)) + b * load(double, p + k))
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(double, y + k, black_from_red(double, w, e, n, s, u, d, p, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                for k in range(first + 1, first + stride - 1):
                    mine = load(double, p + k)
                    value = mine - red_from_black(double, w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(double, q + k, value)
                    total = total + mine * value
    store(scalars, SIZE_SQUARED, total)


@inner
def advance_iterate(double, table, single, scalars):
    """x ← x + α p, r ← r - α q, relax red then black from zero in float32, and restrict the residual to level 1.

    Writes Σ D r² = ‖f - A u‖², as its two-dimensional sibling does.
    """
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field32(table, W32), field32(table, E32)
    n, s = field32(table, N32), field32(table, S32)
    u, d = field32(table, U32), field32(table, D32)
    weight, rounded = field32(table, WEIGHT), field32(table, ROUNDED)
    centre, y = field32(table, CENTRE), field32(table, BETWEEN)
    right = level_field(table, 1, RIGHT)
    x, r = field64(table, ITERATE), field64(table, RESIDUAL)
    p, q = field64(table, DIRECTION), field64(table, PRODUCT)
    total, a, zero = spread(0.0), load(scalars, ALPHA), spread(np.float32(0))
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                for k in range(first + 1, first + stride - 1):
                    store(double, x + k, load(double, x + k) + a * load(double, p + k))
                    left = load(double, r + k) - a * load(double, q + k)
                    store(double, r + k, left)
                    store(single, rounded + k, narrow(left))
                    total = total + widen(load(single, weight + k)) * left * left
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(single, y + k, black_from_red(single, w, e, n, s, u, d, rounded, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                at = ((i - 2) // 2 + 1) * table[1, PLANE] + (j // 2 + 1) * table[1, STRIDE] - first
                opens = i & 1 == 0 and j & 1 == 0
                for k in range(first + 1, first + stride - 1):
                    sums = zero if opens else load(single, right + at + k)
                    value = red_from_black(single, w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(single, right + at + k, sums + load(single, centre + k) * value)
    store(scalars, SIZE_SQUARED, total)


@inner
def finish_cycle(double, table, single, scalars):
    """Add the coarse correction on red points, relax black then red: z. Writes zᵀ r."""
    planes, rows, stride, plane = table[0, PLANES], table[0, ROWS], table[0, STRIDE], table[0, PLANE]
    w, e = field32(table, W32), field32(table, E32)
    n, s = field32(table, N32), field32(table, S32)
    u, d = field32(table, U32), field32(table, D32)
    rounded, z = field32(table, ROUNDED), field32(table, PRECONDITIONED)
    centre, y = field32(table, CENTRE), field32(table, BETWEEN)
    solution = level_field(table, 1, SOLUTION)
    total = spread(0.0)
    for i in range(planes + 2):
        for j in range(rows):
            if i < planes:
                first = (i + 1) * plane + (j + 1) * stride
                at = (i // 2 + 1) * table[1, PLANE] + (j // 2 + 1) * table[1, STRIDE] - first
                for k in range(first + 1, first + stride - 1):
                    # Until black is relaxed, z holds the corrected red unknowns.
                    store(
                        single,
                        z + k,
                        load(single, rounded + k) + load(single, centre + k) * load(single, solution + at + k),
                    )
        for j in range(rows):
            if 1 <= i <= planes:
                first, odd = i * plane + (j + 1) * stride, (i - 1 + j) & 1
                for k in range(first + 1, first + stride - 1):
                    store(single, y + k, black_from_red(single, w, e, n, s, u, d, z, k, k - odd, stride, plane))
        for j in range(rows):
            if i >= 2:
                first, odd = (i - 1) * plane + (j + 1) * stride, (i + j) & 1
                for k in range(first + 1, first + stride - 1):
                    mine = load(single, rounded + k)
                    value = mine + red_from_black(single, w, e, n, s, u, d, y, k, k - 1 + odd, stride, plane)
                    store(single, z + k, value)
                    total = total + widen(mine) * widen(value)
    store(scalars, INNER, total)
