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

from fieldwright.solvers.lanes import inner, load, reciprocal_above, spread, store

ROW_SUM, INVERSE, EAST, SOUTH, DOWN, RIGHT, SOLUTION = range(7)
LEVEL_ARRAYS = 7
# Columns of the table of levels.
PLANES, ROWS, COLUMNS, STRIDE, PLANE, SIZE, START = range(7)
OVERCORRECTION = 1.8


@inner
def level_field(table, level, number):
    """Where array ``number`` of a level begins in the float32 workspace, counted in vectors."""
    return table[level, START] + number * table[level, SIZE]


@inner
def invert_diagonal(single, table, level):
    """1 / (σ + Σ couplings); 0 where that is not positive, as on a single unknown with constants in the kernel."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    total, inverse = level_field(table, level, ROW_SUM), level_field(table, level, INVERSE)
    e, s, d = (
        level_field(table, level, EAST),
        level_field(table, level, SOUTH),
        level_field(table, level, DOWN),
    )
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 1) * stride + columns + 1):
                value = (
                    load(single, total + k)
                    + load(single, e + k - 1)
                    + load(single, e + k)
                    + load(single, s + k - stride)
                    + load(single, s + k)
                )
                store(
                    single,
                    inverse + k,
                    reciprocal_above(value + load(single, d + k - plane) + load(single, d + k), zero),
                )


@inner
def aggregate(single, table, level):
    """The operator of ``level + 1``: sums over boxes, divided by `OVERCORRECTION`."""
    stride, plane = table[level, STRIDE], table[level, PLANE]
    planes, rows, columns = table[level + 1, PLANES], table[level + 1, ROWS], table[level + 1, COLUMNS]
    total, e = level_field(table, level, ROW_SUM), level_field(table, level, EAST)
    s, d = level_field(table, level, SOUTH), level_field(table, level, DOWN)
    coarse_total, ce = level_field(table, level + 1, ROW_SUM), level_field(table, level + 1, EAST)
    cs, cd = level_field(table, level + 1, SOUTH), level_field(table, level + 1, DOWN)
    share = spread(np.float32(1 / OVERCORRECTION))
    for i in range(planes):
        for j in range(rows):
            for k in range(columns):
                f = (2 * i + 1) * plane + (2 * j + 1) * stride + 2 * k + 1
                g, h = f + stride, f + plane
                b = h + stride
                at = (i + 1) * table[level + 1, PLANE] + (j + 1) * table[level + 1, STRIDE] + k + 1
                whole = (
                    load(single, total + f)
                    + load(single, total + f + 1)
                    + load(single, total + g)
                    + load(single, total + g + 1)
                )
                whole = (
                    whole
                    + load(single, total + h)
                    + load(single, total + h + 1)
                    + load(single, total + b)
                    + load(single, total + b + 1)
                )
                store(single, coarse_total + at, share * whole)
                store(
                    single,
                    ce + at,
                    share
                    * (
                        load(single, e + f + 1)
                        + load(single, e + g + 1)
                        + load(single, e + h + 1)
                        + load(single, e + b + 1)
                    ),
                )
                store(
                    single,
                    cs + at,
                    share
                    * (load(single, s + g) + load(single, s + g + 1) + load(single, s + b) + load(single, s + b + 1)),
                )
                store(
                    single,
                    cd + at,
                    share
                    * (load(single, d + h) + load(single, d + h + 1) + load(single, d + b) + load(single, d + b + 1)),
                )


@inner
def descend(single, table, level):
    """Smooth from zero by forward Gauss-Seidel; the sums of the residual over boxes are ``level + 1``'s right side."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    inverse, e = level_field(table, level, INVERSE), level_field(table, level, EAST)
    s, d = level_field(table, level, SOUTH), level_field(table, level, DOWN)
    b, x = level_field(table, level, RIGHT), level_field(table, level, SOLUTION)
    right = level_field(table, level + 1, RIGHT)
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            last = zero
            for k in range((i + 1) * plane + (j + 1) * stride + 1, (i + 1) * plane + (j + 1) * stride + columns + 1):
                known = (
                    load(single, b + k)
                    + load(single, s + k - stride) * load(single, x + k - stride)
                    + load(single, d + k - plane) * load(single, x + k - plane)
                )
                last = (known + load(single, e + k - 1) * last) * load(single, inverse + k)
                store(single, x + k, last)
    for i in range(table[level + 1, PLANES]):
        for j in range(table[level + 1, ROWS]):
            for k in range(table[level + 1, COLUMNS]):
                f = (2 * i + 1) * plane + (2 * j + 1) * stride + 2 * k + 1
                value = zero
                for corner in (f, f + stride, f + plane, f + plane + stride):
                    for p in range(corner, corner + 2):
                        value = (
                            value
                            + load(single, e + p) * load(single, x + p + 1)
                            + load(single, s + p) * load(single, x + p + stride)
                        )
                        value = value + load(single, d + p) * load(single, x + p + plane)
                store(
                    single,
                    right + (i + 1) * table[level + 1, PLANE] + (j + 1) * table[level + 1, STRIDE] + k + 1,
                    value,
                )


@inner
def ascend(single, table, level):
    """Add the coarse correction box by box and smooth by backward Gauss-Seidel, the transpose of `descend`'s sweep."""
    planes, rows, columns = table[level, PLANES], table[level, ROWS], table[level, COLUMNS]
    stride, plane = table[level, STRIDE], table[level, PLANE]
    inverse, e = level_field(table, level, INVERSE), level_field(table, level, EAST)
    s, d = level_field(table, level, SOUTH), level_field(table, level, DOWN)
    b, x = level_field(table, level, RIGHT), level_field(table, level, SOLUTION)
    solution = level_field(table, level + 1, SOLUTION)
    zero = spread(np.float32(0))
    for i in range(planes):
        for j in range(rows):
            for k in range(columns):
                f = (i + 1) * plane + (j + 1) * stride + k + 1
                at = (i // 2 + 1) * table[level + 1, PLANE] + (j // 2 + 1) * table[level + 1, STRIDE] + k // 2 + 1
                store(single, x + f, load(single, x + f) + load(single, solution + at))
    for i in range(planes - 1, -1, -1):
        for j in range(rows - 1, -1, -1):
            last = zero
            first = (i + 1) * plane + (j + 1) * stride
            for k in range(first + columns, first, -1):
                known = (
                    load(single, b + k)
                    + load(single, s + k - stride) * load(single, x + k - stride)
                    + load(single, d + k - plane) * load(single, x + k - plane)
                )
                known = (
                    known
                    + load(single, e + k - 1) * load(single, x + k - 1)
                    + load(single, s + k) * load(single, x + k + stride)
                )
                last = (known + load(single, d + k) * load(single, x + k + plane) + load(single, e + k) * last) * load(
                    single, inverse + k
                )
                store(single, x + k, last)


@inner
def cycle(single, table):
    """A V-cycle from level 1's right-hand side to its solution; the last level is a single unknown."""
    last = len(table) - 1
    for level in range(1, last):
        descend(single, table, level)
    at = table[last, PLANE] + table[last, STRIDE] + 1
    b, x = level_field(table, last, RIGHT), level_field(table, last, SOLUTION)
    store(single, x + at, load(single, b + at) * load(single, level_field(table, last, INVERSE) + at))
    for level in range(last - 1, 0, -1):
        ascend(single, table, level)
