"""Between samples and lanes: a group's stencils and right-hand sides onto a red-black grid, and its corrections back.

Points with even coordinate sum are red, the others black. A line of the grid (plane i, row j) keeps the points of each
colour in slots k: with t = (i + j) mod 2, red is column 2k + t and black column 2k + 1 - t. A field is one entry (a
vector of lanes) per slot, on a frame of entries that stay zero; grids in two dimensions are one plane.

Line (i, j) begins at entry ``FIRST + i * PLANE_STEP + j * LINE_STEP``; the same numbers with the prefix U give its
place in ``padded``, one sample's unknowns in a frame of zeros, from which true residuals are computed.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import LANES, compiled, load, load_row, spread, store

PLANES, ROWS, COLUMNS, FIRST, PLANE_STEP, LINE_STEP, U_FIRST, U_PLANE_STEP, U_LINE_STEP = range(9)
# Fields that both dimensions keep in float64 after the couplings: first D then D^{-1/2} on red and on black points, the
# black half of the right-hand side, and the red iterate and residual.
ROOT_RED, ROOT_BLACK, BLACK, ITERATE, RESIDUAL, DIRECTION, PRODUCT = range(7)


def layout(shape: tuple[int, ...]) -> np.ndarray:
    """The numbers above for a grid of two or three axes."""
    planes, rows, columns = (1, *shape) if len(shape) == 2 else shape
    frame = len(shape) - 2
    line, u_line = (columns + 1) // 2 + 2, columns + 2
    plane, u_plane = (rows + 2) * line, (rows + 2) * u_line
    return np.array(
        [planes, rows, columns, frame * plane + line + 1, plane, line, frame * u_plane + u_line + 1, u_plane, u_line]
    )


def padded_size(shape: tuple[int, ...]) -> int:
    """Numbers in one sample's framed unknowns."""
    return int(np.prod([n + 2 for n in shape]))


@compiled
def pack_couplings(coefficients, place, samples, grid, double, size):
    """Positive couplings of black points into fields 0, 1, ... and the diagonals into the two fields after them.

    ``coefficients`` is flat (sample, offset, plane, row, column); ``place`` gives the positions among the offsets of
    the diagonal, then of west, east, north, south, up, down. Only the diagonal and the coefficients towards east, south
    and down are read: the operator is symmetric, and if it is not, the true residual will tell.
    """
    planes, rows, columns = grid[PLANES], grid[ROWS], grid[COLUMNS]
    offsets = len(place)
    for i in range(planes):
        for j in range(rows):
            odd = (i + j) & 1
            line = i * rows + j
            base = (grid[FIRST] + i * grid[PLANE_STEP] + j * grid[LINE_STEP]) * LANES
            for lane in range(LANES):
                sample = samples[lane] * offsets
                at = ((sample + place[0]) * planes * rows + line) * columns
                k = (offsets - 1 + ROOT_RED) * size * LANES + base + lane
                for m in range(odd, columns, 2):
                    double[k] = coefficients[at + m]
                    k += LANES
                k = (offsets - 1 + ROOT_BLACK) * size * LANES + base + lane
                for m in range(1 - odd, columns, 2):
                    double[k] = coefficients[at + m]
                    k += LANES
                for q in range(offsets - 1):
                    lower = 1 - (q & 1)
                    position, end = (1, 3) if q < 2 else ((j, rows) if q < 4 else (i, planes))
                    step = (1, columns, rows * columns)[q // 2]
                    at = ((sample + place[q + 1 + lower]) * planes * rows + line) * columns - lower * step
                    first = q * size * LANES + base + lane
                    k = first
                    if position > 0 if lower else position < end - 1:
                        for m in range(1 - odd, columns, 2):
                            double[k] = -coefficients[at + m]
                            k += LANES
                    else:
                        for _ in range(1 - odd, columns, 2):
                            double[k] = 0.0
                            k += LANES
                    # Along the line the copy has run over the grid's ends, where no coupling reaches.
                    if q == 0 and odd == 1:
                        double[first] = 0.0
                    if q == 1 and (columns + odd) & 1 == 0:
                        double[k - LANES] = 0.0


@compiled
def right_hand_sides(rhs, values, samples, grid, padded, row, norms):
    """Norms of the right-hand sides, and the guesses into ``padded``; a zero right-hand side has the solution zero."""
    planes, rows, columns = grid[PLANES], grid[ROWS], grid[COLUMNS]
    unknowns = planes * rows * columns
    for lane in range(LANES):
        first, total, partial = samples[lane] * unknowns, 0.0, spread(0.0)
        whole = unknowns - unknowns % LANES
        for k in range(first, first + whole, LANES):
            partial = partial + load_row(rhs, k) * load_row(rhs, k)
        store(row, 0, partial)
        for k in range(LANES):
            total += row[k]
        for k in range(first + whole, first + unknowns):
            total += rhs[k] * rhs[k]
        norms[lane] = np.sqrt(total)
        for i in range(planes):
            for j in range(rows):
                at = grid[U_FIRST] + i * grid[U_PLANE_STEP] + j * grid[U_LINE_STEP]
                source = first + (i * rows + j) * columns
                for m in range(columns):
                    padded[lane, at + m] = values[source + m] if total > 0.0 else 0.0


@compiled
def pack_residuals(coefficients, shifts, rhs, samples, grid, padded, norms, double, size, row, sizes, from_zero):
    """True residuals f - A u of all lanes over ‖f‖, scaled by D^{-1/2}, and their norms.

    All coefficients are read, in the order of the system's offsets; ``shifts`` is what each offset means in ``padded``.
    ``from_zero`` says that u is zero, so that f is the residual. Divided by ‖f‖, residuals fit into float32 in whatever
    units the system comes.
    """
    planes, rows, columns = grid[PLANES], grid[ROWS], grid[COLUMNS]
    offsets = len(shifts)
    red, black = (offsets - 1 + RESIDUAL) * size, (offsets - 1 + BLACK) * size
    red_root, black_root = (offsets - 1 + ROOT_RED) * size, (offsets - 1 + ROOT_BLACK) * size
    whole = columns - columns % LANES
    for lane in range(LANES):
        sizes[lane] = 0.0
    for i in range(planes):
        for j in range(rows):
            odd, line = (i + j) & 1, i * rows + j
            base = grid[FIRST] + i * grid[PLANE_STEP] + j * grid[LINE_STEP]
            centre = grid[U_FIRST] + i * grid[U_PLANE_STEP] + j * grid[U_LINE_STEP]
            for lane in range(LANES):
                u, f = padded[lane], (samples[lane] * planes * rows + line) * columns
                for m in range(columns):
                    row[m] = rhs[f + m]
                for q in range(0 if from_zero else offsets):
                    c, at = ((samples[lane] * offsets + q) * planes * rows + line) * columns, centre + shifts[q]
                    for m in range(0, whole, LANES):
                        product = load_row(coefficients, c + m) * load_row(u, at + m)
                        store(row, m // LANES, load(row, m // LANES) - product)
                    for m in range(whole, columns):
                        row[m] -= coefficients[c + m] * u[at + m]
                factor = 1.0 / norms[lane] if norms[lane] > 0.0 else 0.0
                total = 0.0
                k = (red + base) * LANES + lane
                for m in range(odd, columns, 2):
                    value = row[m] * factor
                    total += value * value
                    double[k] = value
                    k += LANES
                k = (black + base) * LANES + lane
                for m in range(1 - odd, columns, 2):
                    value = row[m] * factor
                    total += value * value
                    double[k] = value
                    k += LANES
                sizes[lane] += total
            for k in range(base, base + grid[LINE_STEP] - 2):
                store(double, red + k, load(double, red + k) * load(double, red_root + k))
                store(double, black + k, load(double, black + k) * load(double, black_root + k))
    for lane in range(LANES):
        sizes[lane] = np.sqrt(sizes[lane])


@compiled
def add_corrections(double, offsets, size, grid, padded, norms, active, nullspace):
    """u += ‖f‖ × correction in the lanes that were iterated, mean-free when constants are in the kernel."""
    planes, rows, columns = grid[PLANES], grid[ROWS], grid[COLUMNS]
    red, black = (offsets - 1 + ITERATE) * size, (offsets - 1 + BLACK) * size
    for lane in range(LANES):
        if not active[lane]:
            continue
        u, factor, total = padded[lane], norms[lane], 0.0
        for i in range(planes):
            for j in range(rows):
                odd = (i + j) & 1
                base = grid[FIRST] + i * grid[PLANE_STEP] + j * grid[LINE_STEP]
                at = grid[U_FIRST] + i * grid[U_PLANE_STEP] + j * grid[U_LINE_STEP]
                k = (red + base) * LANES + lane
                for m in range(odd, columns, 2):
                    u[at + m] += factor * double[k]
                    total += u[at + m]
                    k += LANES
                k = (black + base) * LANES + lane
                for m in range(1 - odd, columns, 2):
                    u[at + m] += factor * double[k]
                    total += u[at + m]
                    k += LANES
        if not nullspace:
            continue
        mean = total / (planes * rows * columns)
        for i in range(planes):
            for j in range(rows):
                at = grid[U_FIRST] + i * grid[U_PLANE_STEP] + j * grid[U_LINE_STEP]
                for m in range(at, at + columns):
                    u[m] -= mean


@compiled
def unpack(values, samples, grid, padded):
    """The lanes' unknowns into the samples' places."""
    planes, rows, columns = grid[PLANES], grid[ROWS], grid[COLUMNS]
    for lane in range(LANES):
        for i in range(planes):
            for j in range(rows):
                at = grid[U_FIRST] + i * grid[U_PLANE_STEP] + j * grid[U_LINE_STEP]
                target = ((samples[lane] * planes + i) * rows + j) * columns
                for m in range(columns):
                    values[target + m] = padded[lane, at + m]
