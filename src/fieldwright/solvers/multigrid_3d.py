"""Seven-point symmetric positive definite systems in three dimensions: aggregation multigrid preconditioned CG.

Organised as `multigrid_2d`: float64 conjugate gradients on the red unknowns (`red_black_3d`) and a symmetric float32
V-cycle. Coarse unknowns are boxes of 2 × 2 × 2 (`seven_point`): operator-dependent interpolation would give 27-point
coarse operators, which cost more to set up and apply than the few iterations they save.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldwright.solvers.lane_iteration import any_running, begin, set_alpha, set_beta
from fieldwright.solvers.lanes import LANES, aligned, compiled
from fieldwright.solvers.red_black_3d import (
    FIELDS32,
    FIELDS64,
    ROOT_BLACK,
    ROOT_RED,
    advance_direction,
    advance_iterate,
    aggregate_checkerboard,
    eliminate_black,
    finish_cycle,
    recover_black,
    scale,
)
from fieldwright.solvers.seven_point import LEVEL_ARRAYS, SIZE, aggregate, cycle, invert_diagonal


@dataclass(frozen=True)
class Hierarchy:
    """Levels and fields of one group of samples; the fields' order is the argument order of the kernels below."""

    double: np.ndarray
    single: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Hierarchy:
        """Sides halve, rounding up, until a single unknown is left."""
        shapes = [shape]
        while len(shapes) == 1 or max(shapes[-1]) > 1:
            shapes.append(tuple((n + 1) // 2 for n in shapes[-1]))
        table = np.zeros((len(shapes), 7), np.int64)
        end = 0
        for level, (a, b, c) in enumerate(shapes):
            stride = c + 2 if level else (c + 1) // 2 + 2
            plane = (b + 2) * stride
            size = (a + 3) * plane
            table[level] = a, b, c, stride, plane, size, end
            end += size * (LEVEL_ARRAYS if level else FIELDS32)
        hierarchy = cls(
            double=aligned(FIELDS64 * int(table[0, SIZE]), np.float64), single=aligned(end, np.float32), table=table
        )
        # Points outside the grid get the diagonal 1, which keeps divisions by it finite.
        size = int(table[0, SIZE]) * LANES
        hierarchy.double[ROOT_RED * size : (ROOT_BLACK + 1) * size] = 1
        return hierarchy


@compiled
def prepare(double, single, table, nullspace):
    """Coarse operators and scaled couplings, from the packed ones."""
    aggregate_checkerboard(double, table, single, nullspace)
    for level in range(1, len(table)):
        if level > 1:
            aggregate(single, table, level - 1)
        invert_diagonal(single, table, level)
    scale(double, table, single)


@compiled
def iterate(double, single, table, nullspace, scalars, running, target, limit, counts):
    """From packed residuals to corrections: conjugate gradients until every running lane meets ``target``."""
    eliminate_black(double, table)
    begin(scalars)
    advance_iterate(double, table, single, scalars)
    while any_running(scalars, running, target, counts, limit):
        cycle(single, table)
        finish_cycle(double, table, single, scalars)
        set_beta(scalars, running)
        advance_direction(double, table, single, scalars)
        set_alpha(scalars, running, counts)
        advance_iterate(double, table, single, scalars)
    recover_black(double, table)
