"""Seven-point symmetric positive definite systems in three dimensions: aggregation multigrid preconditioned CG.

Organised as `multigrid_2d`: groups of `LANES` samples from start to end, float64 conjugate gradients on the red unknowns
(`red_black_3d`), a symmetric float32 V-cycle. Coarse unknowns are boxes of 2 × 2 × 2 (`seven_point`): operator-dependent
interpolation would give 27-point coarse operators, whose cost per iteration and whose set-up outweigh the iterations
they save at the accuracies asked for here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldwright.solvers.lanes import LANES, aligned, load, load_row, store
from fieldwright.solvers.multigrid_2d import MARGIN, RESTARTS
from fieldwright.solvers.nine_point import compiled
from fieldwright.solvers.red_black_3d import (
    BLACK,
    FIELDS32,
    FIELDS64,
    ITERATE,
    RESIDUAL,
    ROOT_BLACK,
    ROOT_RED,
    advance_direction,
    advance_iterate,
    aggregate_checkerboard,
    eliminate_black,
    field64,
    finish_cycle,
    pack_couplings,
    recover_black,
    scale,
)
from fieldwright.solvers.seven_point import (
    COLUMNS,
    LEVEL_ARRAYS,
    PLANE,
    PLANES,
    ROWS,
    SIZE,
    STRIDE,
    aggregate,
    cycle,
    invert_diagonal,
)


@dataclass(frozen=True)
class Workspace:
    """All arrays that solving one group needs, for grids of one shape; each thread has its own."""

    table: np.ndarray
    double: np.ndarray
    single: np.ndarray
    row: np.ndarray
    padded: np.ndarray
    scalars: np.ndarray

    @classmethod
    def of(cls, planes: int, rows: int, columns: int) -> Workspace:
        """Sides halve, rounding up, until a single unknown is left."""
        shapes = [(planes, rows, columns)]
        while len(shapes) == 1 or max(shapes[-1]) > 1:
            shapes.append(tuple((n + 1) // 2 for n in shapes[-1]))  # type: ignore[arg-type]
        table = np.zeros((len(shapes), 7), np.int64)
        end = 0
        for level, (a, b, c) in enumerate(shapes):
            stride = c + 2 if level else (c + 1) // 2 + 2
            plane = (b + 2) * stride
            size = (a + 3) * plane
            table[level] = a, b, c, stride, plane, size, end
            end += size * (LEVEL_ARRAYS if level else FIELDS32)
        workspace = cls(
            table=table,
            double=aligned(FIELDS64 * int(table[0, SIZE]), np.float64),
            single=aligned(end, np.float32),
            row=aligned(columns // LANES + 1, np.float64),
            padded=np.zeros((LANES, planes + 2, rows + 2, columns + 2 + LANES)),
            scalars=aligned(4, np.float64),
        )
        # Points outside the grid get the diagonal 1, which keeps divisions by it finite.
        for number in (ROOT_RED, ROOT_BLACK):
            field64(workspace.double, table, number)[:] = 1
        return workspace


@compiled
def residual_row(coefficients, place, rhs, padded, i, j, out):
    """One row of f - A u for one sample, from all seven coefficients; ``padded`` is u in a frame of zeros."""
    columns = rhs.shape[2]
    centre, north, south = padded[i + 1, j + 1], padded[i + 1, j], padded[i + 1, j + 2]
    up, down = padded[i, j + 1], padded[i + 2, j + 1]
    c, w, e = coefficients[place[0], i, j], coefficients[place[1], i, j], coefficients[place[2], i, j]
    n, s = coefficients[place[3], i, j], coefficients[place[4], i, j]
    u, d, f = coefficients[place[5], i, j], coefficients[place[6], i, j], rhs[i, j]
    whole = columns - columns % LANES
    for k in range(0, whole, LANES):
        value = load_row(f, k) - load_row(c, k) * load_row(centre, k + 1)
        value = value - load_row(w, k) * load_row(centre, k) - load_row(e, k) * load_row(centre, k + 2)
        value = value - load_row(n, k) * load_row(north, k + 1) - load_row(s, k) * load_row(south, k + 1)
        value = value - load_row(u, k) * load_row(up, k + 1) - load_row(d, k) * load_row(down, k + 1)
        store(out, k // LANES, value)
    for k in range(whole, columns):
        value = f[k] - c[k] * centre[k + 1] - w[k] * centre[k] - e[k] * centre[k + 2]
        value = value - n[k] * north[k + 1] - s[k] * south[k + 1]
        out[k] = value - u[k] * up[k + 1] - d[k] * down[k + 1]


@compiled
def pack_residual(coefficients, place, rhs, samples, space, table, padded, row, norms, sizes):
    """True residuals of all lanes, divided by ‖f‖, into the red and black fields; their norms into ``sizes``."""
    planes, rows, columns = table[0, PLANES], table[0, ROWS], table[0, COLUMNS]
    red, black = field64(space, table, RESIDUAL), field64(space, table, BLACK)
    for lane in range(LANES):
        sizes[lane] = 0.0
    for i in range(planes):
        for j in range(rows):
            odd = (i + j) & 1
            base = ((i + 1) * table[0, PLANE] + (j + 1) * table[0, STRIDE] + 1) * LANES
            for lane in range(LANES):
                sample = samples[lane]
                residual_row(coefficients[sample], place, rhs[sample], padded[lane], i, j, row)
                factor = 1.0 / norms[lane] if norms[lane] > 0.0 else 0.0
                total = 0.0
                k = base + lane
                for m in range(odd, columns, 2):
                    value = row[m] * factor
                    total += value * value
                    red[k] = value
                    k += LANES
                k = base + lane
                for m in range(1 - odd, columns, 2):
                    value = row[m] * factor
                    total += value * value
                    black[k] = value
                    k += LANES
                sizes[lane] += total
    for lane in range(LANES):
        sizes[lane] = np.sqrt(sizes[lane])
    red_root, black_root = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for k in range(table[0, PLANE], (planes + 1) * table[0, PLANE]):
        store(red, k, load(red, k) * load(red_root, k))
        store(black, k, load(black, k) * load(black_root, k))


@compiled
def add_correction(space, table, padded, norms, active, nullspace):
    """u += ‖f‖ × correction in the lanes that were iterated, mean-free when constants are in the kernel."""
    planes, rows, columns = table[0, PLANES], table[0, ROWS], table[0, COLUMNS]
    red, black = field64(space, table, ITERATE), field64(space, table, BLACK)
    for lane in range(LANES):
        if not active[lane]:
            continue
        u, factor, mean = padded[lane], norms[lane], 0.0
        for i in range(planes):
            for j in range(rows):
                odd = (i + j) & 1
                line, base = u[i + 1, j + 1], ((i + 1) * table[0, PLANE] + (j + 1) * table[0, STRIDE] + 1) * LANES
                k = base + lane
                for m in range(odd, columns, 2):
                    line[m + 1] += factor * red[k]
                    mean += line[m + 1]
                    k += LANES
                k = base + lane
                for m in range(1 - odd, columns, 2):
                    line[m + 1] += factor * black[k]
                    mean += line[m + 1]
                    k += LANES
        if nullspace:
            u[1 : planes + 1, 1 : rows + 1, 1 : columns + 1] -= mean / (planes * rows * columns)


@compiled
def iterate(double, single, table, scalars, active, target, limit, counts):
    """Conjugate gradients on the reduced system until every active lane's ‖f - A u‖ / ‖f‖ meets its target."""
    alpha, beta = scalars[:LANES], scalars[LANES : 2 * LANES]
    inner, size = scalars[2 * LANES : 3 * LANES], scalars[3 * LANES :]
    running = active.copy()
    old = np.ones(LANES)
    for lane in range(LANES):
        alpha[lane] = beta[lane] = 0.0
    advance_iterate(double, table, single, alpha, size)
    while True:
        any_running = False
        for lane in range(LANES):
            running[lane] = running[lane] and size[lane] > target[lane] ** 2 and counts[lane] < limit
            any_running = any_running or running[lane]
        if not any_running:
            return
        cycle(single, table)
        finish_cycle(double, table, single, inner)
        for lane in range(LANES):
            beta[lane] = inner[lane] / old[lane] if running[lane] and alpha[lane] != 0.0 else 0.0
            old[lane] = inner[lane]
        advance_direction(double, table, single, beta, size)
        for lane in range(LANES):
            # A direction without positive curvature, or NaN, ends this lane: its matrix is not positive definite.
            running[lane] = running[lane] and size[lane] > 0.0 and inner[lane] > 0.0
            alpha[lane] = inner[lane] / size[lane] if running[lane] else 0.0
            counts[lane] += running[lane]
        advance_iterate(double, table, single, alpha, size)


@compiled
def solve_group(
    coefficients, rhs, place, samples, table, double, single, row, padded, scalars,
    rtol, limit, nullspace, values, counts, residuals,
):  # fmt: skip
    """Solve the systems ``samples``, one per lane; ``values`` holds the guess, then the result."""
    planes, rows, columns = table[0, PLANES], table[0, ROWS], table[0, COLUMNS]
    norms, sizes, target = np.zeros(LANES), np.zeros(LANES), np.full(LANES, MARGIN * rtol)
    active = np.ones(LANES, np.bool_)
    tally = np.zeros(LANES, np.int64)
    pack_couplings(coefficients, place, samples, double, table)
    aggregate_checkerboard(double, table, single, nullspace)
    for level in range(1, len(table)):
        if level > 1:
            aggregate(single, table, level - 1)
        invert_diagonal(single, table, level)
    scale(double, table, single)
    for lane in range(LANES):
        sample = samples[lane]
        total = 0.0
        for i in range(planes):
            for j in range(rows):
                for k in range(columns):
                    total += rhs[sample, i, j, k] ** 2
        norms[lane] = np.sqrt(total)
        inside = padded[lane, 1 : planes + 1, 1 : rows + 1, 1 : columns + 1]
        if total > 0.0:
            inside[:] = values[sample]
        else:
            inside[:] = 0.0
    for restart in range(RESTARTS + 1):
        pack_residual(coefficients, place, rhs, samples, double, table, padded, row, norms, sizes)
        some = False
        for lane in range(LANES):
            active[lane] = active[lane] and sizes[lane] > rtol and tally[lane] < limit
            some = some or active[lane]
        if not some or restart == RESTARTS:
            break
        eliminate_black(double, table)
        iterate(double, single, table, scalars, active, target, limit, tally)
        recover_black(double, table)
        add_correction(double, table, padded, norms, active, nullspace)
    for lane in range(LANES):
        sample = samples[lane]
        counts[sample], residuals[sample] = tally[lane], sizes[lane]
        values[sample] = padded[lane, 1 : planes + 1, 1 : rows + 1, 1 : columns + 1]
