"""Coarse levels of aggregation multigrid in three dimensions: seven-point operators, samples in SIMD lanes, float32.

An unknown of a coarse level is a box of 2 × 2 × 2 unknowns of the level above it, and interpolation is constant on the
box; so Pᵀ A P is again a seven-point operator, whose couplings are sums of the couplings that cross a face. Constant
interpolation makes smooth fields stiffer than they are, which dividing the coarse operator by `OVERCORRECTION` undoes.
A level stores, on a frame of zero ghosts, what the rows sum to and three couplings, positive:

    (A u)_ijk = σ u_ijk + Σ coupling × (u_ijk - neighbour),   e: to (i, j, k+1)   s: (i, j+1, k)   d: (i+1, j, k)

Source: D. Braess, Towards algebraic multigrid for elliptic problems of second order, Computing 55 (1995).
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import LANES, load, reciprocal_above, spread, store
from fieldwright.solvers.nine_point import compiled

ROW_SUM, INVERSE, EAST, SOUTH, DOWN, RIGHT, SOLUTION = range(7)
LEVEL_ARRAYS = 7
# Columns of the table of levels.
PLANES, ROWS, COLUMNS, STRIDE, PLANE, SIZE, START = range(7)
OVERCORRECTION = 1.8


@compiled
def level_field(space, table, level, number):
    """Array ``number`` of a level, as a view into the workspace."""
    first = table[level, START] + number * table[level, SIZE]
    return space[first * LANES : (first + table[level, SIZE]) * LANES]


@compiled
def invert_diagonal(space, table, level):
    """1 / (σ + Σ couplings); 0 where that is not positive, as on a single unknown with constants in the kernel."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    total, inverse = level_field(space, table, level, ROW_SUM), level_field(space, table, level, INVERSE)
    e, s, d = (
        level_field(space, table, level, EAST),
        level_field(space, table, level, SOUTH),
        level_field(space, table, level, DOWN),
    )
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 1) * stride + columns + 1):
                value = load(total, k) + load(e, k - 1) + load(e, k) + load(s, k - stride) + load(s, k)
                store(inverse, k, reciprocal_above(value + load(d, k - plane) + load(d, k), zero))


@compiled
def aggregate(space, table, level):
    """The operator of ``level + 1``: sums over boxes, divided by `OVERCORRECTION`."""
    stride, plane = table[level, STRIDE], table[level, PLANE]
    planes, rows, columns = table[level + 1, PLANES], table[level + 1, ROWS], table[level + 1, COLUMNS]
    total, e = level_field(space, table, level, ROW_SUM), level_field(space, table, level, EAST)
    s, d = level_field(space, table, level, SOUTH), level_field(space, table, level, DOWN)
    coarse_total, ce = level_field(space, table, level + 1, ROW_SUM), level_field(space, table, level + 1, EAST)
    cs, cd = level_field(space, table, level + 1, SOUTH), level_field(space, table, level + 1, DOWN)
    share = spread(np.float32(1 / OVERCORRECTION))
    for i in range(planes):
        for j in range(rows):
            for k in range(columns):
                f = (2 * i + 1) * plane + (2 * j + 1) * stride + 2 * k + 1
                g, h = f + stride, f + plane
                b = h + stride
                at = (i + 1) * table[level + 1, PLANE] + (j + 1) * table[level + 1, STRIDE] + k + 1
                whole = load(total, f) + load(total, f + 1) + load(total, g) + load(total, g + 1)
                whole = whole + load(total, h) + load(total, h + 1) + load(total, b) + load(total, b + 1)
                store(coarse_total, at, share * whole)
                store(ce, at, share * (load(e, f + 1) + load(e, g + 1) + load(e, h + 1) + load(e, b + 1)))
                store(cs, at, share * (load(s, g) + load(s, g + 1) + load(s, b) + load(s, b + 1)))
                store(cd, at, share * (load(d, h) + load(d, h + 1) + load(d, b) + load(d, b + 1)))


@compiled
def descend(space, table, level):
    """Smooth from zero by forward Gauss-Seidel; the sums of the residual over boxes are ``level + 1``'s right side."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    inverse, e = level_field(space, table, level, INVERSE), level_field(space, table, level, EAST)
    s, d = level_field(space, table, level, SOUTH), level_field(space, table, level, DOWN)
    b, x = level_field(space, table, level, RIGHT), level_field(space, table, level, SOLUTION)
    right = level_field(space, table, level + 1, RIGHT)
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            last = zero
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 1) * stride + columns + 1):
                known = load(b, k) + load(s, k - stride) * load(x, k - stride) + load(d, k - plane) * load(x, k - plane)
                last = (known + load(e, k - 1) * last) * load(inverse, k)
                store(x, k, last)
    for i in range(table[level + 1, PLANES]):
        for j in range(table[level + 1, ROWS]):
            for k in range(table[level + 1, COLUMNS]):
                f = (2 * i + 1) * plane + (2 * j + 1) * stride + 2 * k + 1
                value = zero
                for corner in (f, f + stride, f + plane, f + plane + stride):
                    for p in range(corner, corner + 2):
                        value = value + load(e, p) * load(x, p + 1) + load(s, p) * load(x, p + stride)
                        value = value + load(d, p) * load(x, p + plane)
                store(right, (i + 1) * table[level + 1, PLANE] + (j + 1) * table[level + 1, STRIDE] + k + 1, value)


@compiled
def ascend(space, table, level):
    """Add the coarse correction box by box and smooth by backward Gauss-Seidel, the transpose of `descend`'s sweep."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    inverse, e = level_field(space, table, level, INVERSE), level_field(space, table, level, EAST)
    s, d = level_field(space, table, level, SOUTH), level_field(space, table, level, DOWN)
    b, x = level_field(space, table, level, RIGHT), level_field(space, table, level, SOLUTION)
    solution = level_field(space, table, level + 1, SOLUTION)
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            for k in range(columns):
                f = (i + 1) * plane + (j + 1) * stride + k + 1
                at = (i // 2 + 1) * table[level + 1, PLANE] + (j // 2 + 1) * table[level + 1, STRIDE] + k // 2 + 1
                store(x, f, load(x, f) + load(solution, at))
    for i in range(planes - 1, -1, -1):
        for j in range(rows - 1, -1, -1):
            last = zero
            first = (i + 1) * plane + (j + 1) * stride
            for k in range(first + columns, first, -1):
                known = load(b, k) + load(s, k - stride) * load(x, k - stride) + load(d, k - plane) * load(x, k - plane)
                known = known + load(e, k - 1) * load(x, k - 1) + load(s, k) * load(x, k + stride)
                last = (known + load(d, k) * load(x, k + plane) + load(e, k) * last) * load(inverse, k)
                store(x, k, last)


@compiled
def cycle(space, table):
    """A V-cycle from level 1's right-hand side to its solution; the last level is a single unknown."""
    last = len(table) - 1
    for level in range(1, last):
        descend(space, table, level)
    at = table[last, PLANE] + table[last, STRIDE] + 1
    b, x = level_field(space, table, last, RIGHT), level_field(space, table, last, SOLUTION)
    store(x, at, load(b, at) * load(level_field(space, table, last, INVERSE), at))
    for level in range(last - 1, 0, -1):
        ascend(space, table, level)
