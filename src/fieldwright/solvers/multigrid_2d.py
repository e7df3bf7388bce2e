"""Five-point symmetric positive definite systems in two dimensions: black-box multigrid preconditioned CG.

One group of `LANES` samples is solved from start to end, so that its fields stay in the processor's cache. The
conjugate gradient iteration runs in float64 on the red unknowns (`red_black`); the preconditioner is one V-cycle in
float32: red-black relaxation on the finest level, Gauss-Seidel on the nine-point levels below (`nine_point`), forward
on the way down and backward on the way up, which makes it symmetric. Samples stop one by one: a finished one has
α = β = 0 until the others are done. The true residual f - A u is then formed from the system's own coefficients, and
the iteration restarted on it where rounding kept it above the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldwright.solvers.lanes import LANES, aligned, load, load_row, store
from fieldwright.solvers.nine_point import (
    COLUMNS,
    DIAGONAL,
    LEVEL_ARRAYS,
    ROWS,
    SIZE,
    START,
    STRIDE,
    WEIGHT_ARRAYS,
    WEIGHTS,
    X_WEIGHT_ARRAYS,
    ascend,
    compiled,
    descend,
    factor_coarsest,
    galerkin,
    interpolate,
    solve_coarsest,
)
from fieldwright.solvers.red_black import (
    BLACK,
    FIELDS32,
    FIELDS64,
    ITERATE,
    RESIDUAL,
    ROOT_BLACK,
    ROOT_RED,
    advance_direction,
    advance_iterate,
    coarsen_checkerboard,
    eliminate_black,
    field64,
    finish_cycle,
    pack_couplings,
    recover_black,
    scale,
)

# A side this short ends the coarsening: the banded factorisation below it is cheaper than another level.
COARSEST_SIDE = 4
# The recurrence's residual may lag the true one by rounding, so the iteration aims a little lower than asked.
MARGIN = 0.95
RESTARTS = 4


@dataclass(frozen=True)
class Workspace:
    """All arrays that solving one group needs, for grids of one shape; each thread has its own."""

    table: np.ndarray
    double: np.ndarray
    single: np.ndarray
    band: np.ndarray
    scratch: np.ndarray
    ring: np.ndarray
    padded: np.ndarray
    scalars: np.ndarray

    @classmethod
    def of(cls, rows: int, columns: int) -> Workspace:
        """Levels halve until a side is at most `COARSEST_SIDE`; there is always at least one coarse level."""
        shapes = [(rows, columns)]
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
        workspace = cls(
            table=table,
            double=aligned(FIELDS64 * int(table[0, SIZE]), np.float64),
            single=aligned(end, np.float32),
            band=aligned(m * n * (min(m, n) + 3), np.float64),
            scratch=aligned(18 * widest, np.float64),
            ring=aligned(18 * widest, np.float32),
            padded=np.zeros((LANES, rows + 2, columns + 2 + LANES)),
            scalars=aligned(4, np.float64),
        )
        # Points outside the grid get the diagonal 1, which keeps divisions by it finite.
        for number in (ROOT_RED, ROOT_BLACK):
            field64(workspace.double, table, number)[:] = 1
        for level in range(1, len(shapes)):
            first = table[level, START] + DIAGONAL * table[level, SIZE]
            workspace.single[first * LANES : (first + table[level, SIZE]) * LANES] = 1
        return workspace


@compiled
def residual_row(coefficients, place, rhs, padded, row, out):
    """One row of f - A u for one sample, from all five coefficients; ``padded`` is u in a frame of zeros.

    The frame on the right is wide enough for whole vectors; what they compute past the row's end is not used.
    """
    columns = rhs.shape[1]
    centre, north, south = padded[row + 1], padded[row], padded[row + 2]
    c, w, e = coefficients[place[0], row], coefficients[place[1], row], coefficients[place[2], row]
    n, s, f = coefficients[place[3], row], coefficients[place[4], row], rhs[row]
    whole = columns - columns % LANES
    for j in range(0, whole, LANES):
        value = load_row(f, j) - load_row(c, j) * load_row(centre, j + 1)
        value = value - load_row(w, j) * load_row(centre, j) - load_row(e, j) * load_row(centre, j + 2)
        value = value - load_row(n, j) * load_row(north, j + 1) - load_row(s, j) * load_row(south, j + 1)
        store(out, j // LANES, value)
    for j in range(whole, columns):
        value = f[j] - c[j] * centre[j + 1] - w[j] * centre[j] - e[j] * centre[j + 2]
        out[j] = value - n[j] * north[j + 1] - s[j] * south[j + 1]


@compiled
def pack_residual(coefficients, place, rhs, samples, space, table, padded, row, norms, sizes):
    """True residuals of all lanes, divided by ‖f‖, into the red and black fields; their norms into ``sizes``."""
    rows, columns, stride = table[0, ROWS], table[0, COLUMNS], table[0, STRIDE]
    red, black = field64(space, table, RESIDUAL), field64(space, table, BLACK)
    for lane in range(LANES):
        sizes[lane] = 0.0
    for i in range(rows):
        odd = i & 1
        base = ((i + 1) * stride + 1) * LANES
        for lane in range(LANES):
            sample = samples[lane]
            residual_row(coefficients[sample], place, rhs[sample], padded[lane], i, row)
            factor = 1.0 / norms[lane] if norms[lane] > 0.0 else 0.0
            total = 0.0
            k = base + lane
            for j in range(odd, columns, 2):
                value = row[j] * factor
                total += value * value
                red[k] = value
                k += LANES
            k = base + lane
            for j in range(1 - odd, columns, 2):
                value = row[j] * factor
                total += value * value
                black[k] = value
                k += LANES
            sizes[lane] += total
    for lane in range(LANES):
        sizes[lane] = np.sqrt(sizes[lane])
    red_root, black_root = field64(space, table, ROOT_RED), field64(space, table, ROOT_BLACK)
    for k in range(stride, (rows + 1) * stride):
        store(red, k, load(red, k) * load(red_root, k))
        store(black, k, load(black, k) * load(black_root, k))


@compiled
def add_correction(space, table, padded, norms, active, nullspace):
    """u += ‖f‖ × correction in the lanes that were iterated, mean-free when constants are in the kernel."""
    rows, columns, stride = table[0, ROWS], table[0, COLUMNS], table[0, STRIDE]
    red, black = field64(space, table, ITERATE), field64(space, table, BLACK)
    for lane in range(LANES):
        if not active[lane]:
            continue
        u, factor = padded[lane], norms[lane]
        for i in range(rows):
            odd = i & 1
            k = ((i + 1) * stride + 1) * LANES + lane
            for j in range(odd, columns, 2):
                u[i + 1, j + 1] += factor * red[k]
                k += LANES
            k = ((i + 1) * stride + 1) * LANES + lane
            for j in range(1 - odd, columns, 2):
                u[i + 1, j + 1] += factor * black[k]
                k += LANES
        if nullspace:
            mean = 0.0
            for i in range(rows):
                for j in range(columns):
                    mean += u[i + 1, j + 1]
            mean /= rows * columns
            for i in range(rows):
                for j in range(columns):
                    u[i + 1, j + 1] -= mean


@compiled
def precondition(single, table, ring, band, work):
    """The V-cycle below the finest level: from level 1's right-hand side to its solution."""
    last = len(table) - 1
    for level in range(1, last):
        descend(single, table, level, ring)
    solve_coarsest(single, table, last, band, work)
    for level in range(last - 1, 0, -1):
        ascend(single, table, level)


@compiled
def iterate(double, single, table, scratch, ring, band, scalars, active, target, limit, counts):
    """Conjugate gradients on the reduced system until every active lane's ‖f - A u‖ / ‖f‖ meets its target."""
    alpha, beta = scalars[:LANES], scalars[LANES : 2 * LANES]
    inner, size = scalars[2 * LANES : 3 * LANES], scalars[3 * LANES :]
    lines = ring[8 * table[0, STRIDE] * LANES :]
    running = active.copy()
    old = np.ones(LANES)
    for lane in range(LANES):
        alpha[lane] = beta[lane] = 0.0
    advance_iterate(double, table, single, ring, lines, alpha, size)
    while True:
        any_running = False
        for lane in range(LANES):
            running[lane] = running[lane] and size[lane] > target[lane] ** 2 and counts[lane] < limit
            any_running = any_running or running[lane]
        if not any_running:
            return
        precondition(single, table, ring, band, scratch)
        finish_cycle(double, table, single, ring, lines, inner)
        for lane in range(LANES):
            beta[lane] = inner[lane] / old[lane] if running[lane] and alpha[lane] != 0.0 else 0.0
            old[lane] = inner[lane]
        advance_direction(double, table, single, scratch, beta, size)
        for lane in range(LANES):
            # A direction without positive curvature, or NaN, ends this lane: its matrix is not positive definite.
            running[lane] = running[lane] and size[lane] > 0.0 and inner[lane] > 0.0
            alpha[lane] = inner[lane] / size[lane] if running[lane] else 0.0
            counts[lane] += running[lane]
        advance_iterate(double, table, single, ring, lines, alpha, size)


@compiled
def solve_group(
    coefficients, rhs, place, samples, table, double, single, band, scratch, ring, padded, scalars,
    rtol, limit, nullspace, values, counts, residuals,
):  # fmt: skip
    """Solve the systems ``samples``, one per lane; ``values`` holds the guess, then the result."""
    rows, columns = table[0, ROWS], table[0, COLUMNS]
    last = len(table) - 1
    norms, sizes, target = np.zeros(LANES), np.zeros(LANES), np.full(LANES, MARGIN * rtol)
    active = np.ones(LANES, np.bool_)
    tally = np.zeros(LANES, np.int64)
    pack_couplings(coefficients, place, samples, double, table)
    coarsen_checkerboard(double, table, single, scratch)
    for level in range(1, last):
        interpolate(single, table, level)
        galerkin(single, table, level, ring)
    factor_coarsest(single, table, last, band)
    scale(double, table, single)
    for lane in range(LANES):
        sample = samples[lane]
        total = 0.0
        for i in range(rows):
            for j in range(columns):
                total += rhs[sample, i, j] ** 2
        norms[lane] = np.sqrt(total)
        for i in range(rows):
            for j in range(columns):
                padded[lane, i + 1, j + 1] = values[sample, i, j] if total > 0.0 else 0.0
    for restart in range(RESTARTS + 1):
        pack_residual(coefficients, place, rhs, samples, double, table, padded, scratch, norms, sizes)
        some = False
        for lane in range(LANES):
            active[lane] = active[lane] and sizes[lane] > rtol and tally[lane] < limit
            some = some or active[lane]
        if not some or restart == RESTARTS:
            break
        eliminate_black(double, table)
        iterate(double, single, table, scratch, ring, band, scalars, active, target, limit, tally)
        recover_black(double, table)
        add_correction(double, table, padded, norms, active, nullspace)
    for lane in range(LANES):
        sample = samples[lane]
        counts[sample], residuals[sample] = tally[lane], sizes[lane]
        for i in range(rows):
            for j in range(columns):
                values[sample, i, j] = padded[lane, i + 1, j + 1]
