"""Five-point symmetric positive definite systems in two dimensions: black-box multigrid preconditioned CG.

The conjugate gradient iteration runs in float64 on the red unknowns (`red_black`); the preconditioner is one V-cycle in
float32: red-black relaxation on the finest level, Gauss-Seidel on the nine-point levels below (`nine_point`), forward
on the way down and backward on the way up, which makes it symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldwright.solvers.lane_iteration import any_running, begin, set_alpha, set_beta
from fieldwright.solvers.lanes import LANES, aligned, compiled
from fieldwright.solvers.nine_point import (
    DIAGONAL,
    LEVEL_ARRAYS,
    SIZE,
    START,
    STRIDE,
    WEIGHT_ARRAYS,
    WEIGHTS,
    X_WEIGHT_ARRAYS,
    ascend,
    descend,
    factor_coarsest,
    galerkin,
    interpolate,
    solve_coarsest,
)
from fieldwright.solvers.red_black import (
    FIELDS32,
    FIELDS64,
    ROOT_BLACK,
    ROOT_RED,
    advance_direction,
    advance_iterate,
    coarsen_checkerboard,
    eliminate_black,
    finish_cycle,
    recover_black,
    scale,
)

# A side this short ends the coarsening: the banded factorisation below it is cheaper than another level.
COARSEST_SIDE = 4


@dataclass(frozen=True)
class Hierarchy:
    """Levels and fields of one group of samples; the fields' order is the argument order of the kernels below."""

    double: np.ndarray
    single: np.ndarray
    table: np.ndarray
    scratch: np.ndarray
    ring: np.ndarray
    band: np.ndarray

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Hierarchy:
        """Sides halve until one is at most `COARSEST_SIDE`; there is always at least one coarse level."""
        shapes = [shape]
        while len(shapes) == 1 or min(shapes[-1]) > COARSEST_SIDE:
            shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
        table = np.zeros((len(shapes), 6), np.int64)
        for level, (m, n) in enumerate(shapes):
            stride = n + 2 if level else (n + 1) // 2 + 2
            table[level, : SIZE + 1] = m, n, stride, (m + 3) * stride
        end = 0
        for level in range(len(shapes)):
            table[level, START] = end
            end += table[level, SIZE] * (LEVEL_ARRAYS if level else FIELDS32)
            table[level, WEIGHTS] = end
            if level + 1 < len(shapes):
                end += table[level + 1, SIZE] * (WEIGHT_ARRAYS if level else X_WEIGHT_ARRAYS)
        m, n = shapes[-1]
        widest = max(int(table[0, STRIDE]), int(table[1, STRIDE]))
        hierarchy = cls(
            double=aligned(FIELDS64 * int(table[0, SIZE]), np.float64),
            single=aligned(end, np.float32),
            table=table,
            scratch=aligned(max(18 * widest, m * n), np.float64),
            ring=aligned(18 * widest, np.float32),
            band=aligned(m * n * (min(m, n) + 3), np.float64),
        )
        # Points outside the grid get the diagonal 1, which keeps divisions by it finite.
        size = int(table[0, SIZE]) * LANES
        hierarchy.double[ROOT_RED * size : (ROOT_BLACK + 1) * size] = 1
        for level in range(1, len(shapes)):
            first = table[level, START] + DIAGONAL * table[level, SIZE]
            hierarchy.single[first * LANES : (first + table[level, SIZE]) * LANES] = 1
        return hierarchy


@compiled
def prepare(double, single, table, scratch, ring, band, nullspace):
    """Coarse operators and scaled couplings, from the packed ones."""
    last = len(table) - 1
    coarsen_checkerboard(double, table, single, scratch)
    for level in range(1, last):
        interpolate(single, table, level)
        galerkin(single, table, level, ring)
    factor_coarsest(single, table, last, band, nullspace)
    scale(double, table, single)


@compiled
def iterate(double, single, table, scratch, ring, band, nullspace, scalars, running, target, limit, counts):
    """From packed residuals to corrections: conjugate gradients until every running lane meets ``target``."""
    last = len(table) - 1
    eliminate_black(double, table)
    begin(scalars)
    advance_iterate(double, table, single, ring, scalars)
    while any_running(scalars, running, target, counts, limit):
        for level in range(1, last):
            descend(single, table, level, ring)
        solve_coarsest(single, table, last, band, scratch, nullspace)
        for level in range(last - 1, 0, -1):
            ascend(single, table, level)
        finish_cycle(double, table, single, ring, scalars)
        set_beta(scalars, running)
        advance_direction(double, table, single, scratch, scalars)
        set_alpha(scalars, running, counts)
        advance_iterate(double, table, single, ring, scalars)
    recover_black(double, table)
