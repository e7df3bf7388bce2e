"""One sample of a conservation law marched in time on rows of cells, eight neighbouring cells per SIMD vector.

Four fields: 0 density or depth, 1 velocity across the rows, 2 velocity along the rows, 3 pressure or bottom. Two time
steps are the sweeps across, along, along, across (`hancock`). The two sweeps along a row follow while the row is in the
first-level cache, and what a sweep across keeps between two rows (edge states, fluxes) fits there too, so two steps
read and write the state twice. A sample's bits depend on nothing but the sample.

Rows lie in a flat workspace, `LEFT` numbers before the first cell of a row, with two ghost cells at either end of a row
and two ghost rows at either end of a field.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.finite_volume.gas_lanes import gas_edges, gas_flux, gas_update
from fieldwright.solvers.finite_volume.lane_selection import store_row, where_positive
from fieldwright.solvers.finite_volume.layer_lanes import layer_edges, layer_flux, layer_pull, layer_update
from fieldwright.solvers.finite_volume.walls import GHOSTS
from fieldwright.solvers.lanes import LANES, compiled, inner, larger, load_row, spread, square_root

GAS, LAYER = range(2)
# In the order of `walls.SIDES`.
PERIODIC, OPEN, MIRROR = range(3)
FIELDS = 4
LEFT = 8
HALVINGS = 12
"""How often running a pair of steps is taken again with half the step before a sample is given up."""

# Places in the table of a march.
ROWS, COLUMNS, STRIDE, PLANE, BUFFERS, LAW, LIMITER = range(7)
# Row buffers of four fields each; the last holds what reductions leave.
UPPER, UPPER_NEXT, FLUX, FLUX_NEXT, PULL, PULL_NEXT, LOWS, HIGHS, ALONG, ALONG_PULL, FOUND = range(11)
BUFFER_COUNT = 11


def march_table(rows: int, columns: int, law: int, limiter: int) -> np.ndarray:
    """The layout of a workspace for one sample."""
    # Room at the end of a row for its ghosts and for a vector that hangs over.
    stride = LEFT + -(-(columns + GHOSTS + LANES) // LANES) * LANES + LANES
    table = np.zeros(7, np.int64)
    table[ROWS], table[COLUMNS], table[STRIDE], table[LAW], table[LIMITER] = rows, columns, stride, law, limiter
    table[PLANE] = (rows + 2 * GHOSTS) * stride
    table[BUFFERS] = 2 * FIELDS * table[PLANE]
    return table


def workspace_size(table: np.ndarray) -> int:
    """Numbers of the workspace."""
    return int(table[BUFFERS] + BUFFER_COUNT * FIELDS * table[STRIDE])


@inner
def _ghost_cells(table, walls, work, row):
    """Fill both ends of the row that begins at ``row``: from the other end, the edge cell, or its mirror image."""
    plane, columns = table[PLANE], table[COLUMNS]
    for field in range(FIELDS):
        first = row + field * plane
        sign = -1.0 if field == 2 else 1.0
        for k in range(GHOSTS):
            if walls[2] == PERIODIC:
                work[first - 1 - k] = work[first + columns - 1 - k]
            elif walls[2] == OPEN:
                work[first - 1 - k] = work[first]
            else:
                work[first - 1 - k] = sign * work[first + k]
            if walls[3] == PERIODIC:
                work[first + columns + k] = work[first + k]
            elif walls[3] == OPEN:
                work[first + columns + k] = work[first + columns - 1]
            else:
                work[first + columns + k] = sign * work[first + columns - 1 - k]
        # A vector that hangs over meets cells like the last.
        store_row(work, first + columns + GHOSTS, spread(work[first + columns + 1]))


@inner
def _ghost_rows(table, walls, work, state):
    """Fill two rows before and after those of the state at ``state``."""
    stride, plane, rows = table[STRIDE], table[PLANE], table[ROWS]
    for field in range(FIELDS):
        base = state + field * plane
        for k in range(GHOSTS):
            low = k if walls[0] == MIRROR else (rows - 1 - k if walls[0] == PERIODIC else 0)
            high = rows - 1 - k if walls[1] == MIRROR else (k if walls[1] == PERIODIC else rows - 1)
            sign_low = -1.0 if field == 1 and walls[0] == MIRROR else 1.0
            sign_high = -1.0 if field == 1 and walls[1] == MIRROR else 1.0
            for j in range(stride):
                work[base + (GHOSTS - 1 - k) * stride + j] = sign_low * work[base + (GHOSTS + low) * stride + j]
                work[base + (GHOSTS + rows + k) * stride + j] = sign_high * work[base + (GHOSTS + high) * stride + j]


@inner
def _speed(table, constant, inverse_across, inverse_along, work, state):
    """The largest (|velocity| + sound) / spacing of a cell along an axis; NaN or infinity are not seen."""
    stride, plane = table[STRIDE], table[PLANE]
    zero, g = spread(0.0), spread(constant)
    largest = zero
    for i in range(table[ROWS]):
        row = state + (i + GHOSTS) * stride + LEFT
        for j in range(row, row + table[COLUMNS], LANES):
            density, u, v = load_row(work, j), load_row(work, j + plane), load_row(work, j + 2 * plane)
            if table[LAW] == GAS:
                sound = square_root(g * load_row(work, j + 3 * plane) / density)
            else:
                sound = square_root(g * density)
            u, v = larger(u, zero - u) + sound, larger(v, zero - v) + sound
            largest = larger(larger(u * spread(inverse_across), v * spread(inverse_along)), largest)
    return _reduced(table, work, largest, True)


@inner
def _reduced(table, work, vector, maximum):
    """The largest or the smallest number of a vector."""
    place = table[BUFFERS] + FOUND * FIELDS * table[STRIDE]
    store_row(work, place, vector)
    found = work[place]
    for lane in range(1, LANES):
        found = max(found, work[place + lane]) if maximum else min(found, work[place + lane])
    return found


@inner
def _edges(table, constant, ratio, work, here, step, normal, tangential):
    """The edge states of `LANES` cells, of which ``here`` is the first, along an axis, ``ratio`` of a cell later."""
    plane, limiter = table[PLANE], table[LIMITER]
    u, v, last = here + normal * plane, here + tangential * plane, here + 3 * plane
    d0, d1, d2 = load_row(work, here - step), load_row(work, here), load_row(work, here + step)
    u0, u1, u2 = load_row(work, u - step), load_row(work, u), load_row(work, u + step)
    v0, v1, v2 = load_row(work, v - step), load_row(work, v), load_row(work, v + step)
    p0, p1, p2 = load_row(work, last - step), load_row(work, last), load_row(work, last + step)
    if table[LAW] == GAS:
        return gas_edges(limiter, constant, ratio, d0, d1, d2, u0, u1, u2, v0, v1, v2, p0, p1, p2)
    return layer_edges(limiter, constant, ratio, d0, d1, d2, u0, u1, u2, v0, v1, v2, p0, p1, p2)


@inner
def _store(work, place, step, density, normal, tangential, last):
    """Four vectors into four fields ``step`` apart."""
    store_row(work, place, density)
    store_row(work, place + step, normal)
    store_row(work, place + 2 * step, tangential)
    store_row(work, place + 3 * step, last)


@inner
def _flux(table, constant, dry, work, left, right, target):
    """The flux between the edge states in two buffers into a third, and the speed of its fastest wave."""
    stride = table[STRIDE]
    dl, ul = load_row(work, left), load_row(work, left + stride)
    vl, pl = load_row(work, left + 2 * stride), load_row(work, left + 3 * stride)
    dr, ur = load_row(work, right), load_row(work, right + stride)
    vr, pr = load_row(work, right + 2 * stride), load_row(work, right + 3 * stride)
    if table[LAW] == GAS:
        mass, normal, tangential, last, fastest = gas_flux(constant, dl, ul, vl, pl, dr, ur, vr, pr)
    else:
        mass, normal, tangential, last, fastest = layer_flux(constant, dry, dl, ul, vl, pl, dr, ur, vr, pr)
    _store(work, target, stride, mass, normal, tangential, last)
    return fastest


@inner
def _update(table, constant, dry, ratio, work, below, above, pull, here, out, normal, tangential):
    """`LANES` cells between the fluxes at ``below`` and ``above``, from the state at ``here`` to ``out``.

    Positive where the result is sound.
    """
    stride, plane = table[STRIDE], table[PLANE]
    share = spread(ratio)
    density, last = load_row(work, here), load_row(work, here + 3 * plane)
    u, v = load_row(work, here + normal * plane), load_row(work, here + tangential * plane)
    mass = share * (load_row(work, above) - load_row(work, below))
    carried = share * (load_row(work, above + 2 * stride) - load_row(work, below + 2 * stride))
    if table[LAW] == GAS:
        pushed = share * (load_row(work, above + stride) - load_row(work, below + stride))
        energy = share * (load_row(work, above + 3 * stride) - load_row(work, below + 3 * stride))
        density, u, v, last, sound = gas_update(constant, density, u, v, last, mass, pushed, carried, energy)
    else:
        # A face has two normal momenta: field 1 as its left cell sees it, field 3 as its right cell does.
        pushed = load_row(work, above + stride) - load_row(work, below + 3 * stride) - load_row(work, pull)
        density, u, v, sound = layer_update(dry, density, u, v, mass, share * pushed, carried)
    store_row(work, out, density)
    store_row(work, out + normal * plane, u)
    store_row(work, out + tangential * plane, v)
    store_row(work, out + 3 * plane, last)
    return sound


@inner
def _whole_vectors(count):
    """``count`` rounded up to a multiple of `LANES`."""
    return (count + LANES - 1) // LANES * LANES


@inner
def _repeat_last(table, work, place):
    """Give each field of a row buffer at ``place`` what stands before it."""
    for field in range(FIELDS):
        work[place + field * table[STRIDE]] = work[place - 1 + field * table[STRIDE]]


@inner
def _along(table, walls, constant, dry, ratio, work, row):
    """Sweep one row in place: (positive where it is sound, the speed of the fastest wave)."""
    columns, stride = table[COLUMNS], table[STRIDE]
    base, size = table[BUFFERS] + LEFT, FIELDS * stride
    lows, highs = base + LOWS * size, base + HIGHS * size
    fluxes, pulls = base + ALONG * size, base + ALONG_PULL * size
    sound, fastest = spread(1.0), spread(0.0)
    _ghost_cells(table, walls, work, row)
    for j in range(-1, columns + 1, LANES):
        dl, ul, vl, pl, dh, uh, vh, ph = _edges(table, constant, ratio, work, row + j, 1, 2, 1)
        _store(work, lows + j, stride, dl, ul, vl, pl)
        _store(work, highs + j, stride, dh, uh, vh, ph)
        if table[LAW] == LAYER:
            store_row(work, pulls + j, layer_pull(constant, dl, pl, dh, ph))
    # Faces may hang over by one more than cells did, and updates by one more than faces.
    _repeat_last(table, work, lows - 1 + _whole_vectors(columns + GHOSTS))
    for j in range(0, columns + 1, LANES):
        fastest = larger(_flux(table, constant, dry, work, highs + j - 1, lows + j, fluxes + j), fastest)
    _repeat_last(table, work, fluxes + _whole_vectors(columns + 1))
    for j in range(0, columns, LANES):
        found = _update(
            table, constant, dry, ratio, work, fluxes + j, fluxes + j + 1, pulls + j, row + j, row + j, 2, 1
        )
        sound = where_positive(found, sound, spread(-1.0))
    if columns % LANES:
        # What hung over was updated too.
        _ghost_cells(table, walls, work, row)
    return sound, fastest


@inner
def _sweep(table, walls, constant, dry, across, along, turns, work, state, out):
    """Sweep across all rows, from the state at ``state`` to ``out``, and then ``turns`` times along each row.

    ``across``, ``along``: the step over the spacing of either axis. Whether all cells are sound and no wave has crossed
    more than one of them.
    """
    rows, columns, stride, plane = table[ROWS], table[COLUMNS], table[STRIDE], table[PLANE]
    base, size = table[BUFFERS] + LEFT, FIELDS * stride
    lows, upper, upper_next = base + LOWS * size, base + UPPER * size, base + UPPER_NEXT * size
    flux, flux_next = base + FLUX * size, base + FLUX_NEXT * size
    pull, pull_next = base + PULL * size, base + PULL_NEXT * size
    sound, fast_across, fast_along = spread(1.0), spread(0.0), spread(0.0)
    if rows > 1:
        _ghost_rows(table, walls, work, state)
    for i in range(-1, rows + 1):
        here = state + (i + GHOSTS) * stride + LEFT
        for j in range(0, columns if rows > 1 else 0, LANES):
            dl, ul, vl, pl, dh, uh, vh, ph = _edges(table, constant, across, work, here + j, stride, 1, 2)
            _store(work, upper_next + j, stride, dh, uh, vh, ph)
            if i >= 0:
                _store(work, lows + j, stride, dl, ul, vl, pl)
                found = _flux(table, constant, dry, work, upper + j, lows + j, flux_next + j)
                fast_across = larger(found, fast_across)
            if table[LAW] == LAYER:
                store_row(work, pull_next + j, layer_pull(constant, dl, pl, dh, ph))
        if i >= 1:
            # Row i - 1 has both its fluxes and is needed no more.
            here, row = here - stride, out + (i - 1 + GHOSTS) * stride + LEFT
            for j in range(0, columns, LANES):
                if rows > 1:
                    found = _update(
                        table, constant, dry, across, work, flux + j, flux_next + j, pull + j, here + j, row + j, 1, 2
                    )
                    sound = where_positive(found, sound, spread(-1.0))
                else:
                    for field in range(FIELDS):
                        store_row(work, row + field * plane + j, load_row(work, here + field * plane + j))
            for _ in range(turns):
                found, speed = _along(table, walls, constant, dry, along, work, row)
                sound, fast_along = where_positive(found, sound, spread(-1.0)), larger(speed, fast_along)
        upper, upper_next = upper_next, upper
        flux, flux_next = flux_next, flux
        pull, pull_next = pull_next, pull
    reach = larger(fast_across * spread(across), fast_along * spread(along))
    return _reduced(table, work, sound, False) > 0.0 and _reduced(table, work, reach, True) <= 1.0


@compiled
def march(table, fields, frames, work, walls, constant, dry, spacing, interval, least, cfl, most):
    """Write the states of one sample after each interval to ``frames`` (frame, field, row, column).

    ``fields``    primitive fields at time 0, (field, row, column), of a layer with the surface in place of the bottom
    ``walls``     codes at the low and high end of the axis across the rows, then of that along them
    ``constant``  adiabatic index of the gas, or gravity of the layer; ``dry`` the depth below which a layer is at rest
    ``spacing``   cell sizes (across, along); ``least`` and ``most`` steps per interval

    False where the sample was given up; the rest of ``frames`` is NaN then.
    """
    stride, plane, rows, columns = table[STRIDE], table[PLANE], table[ROWS], table[COLUMNS]
    for place in range(len(work)):
        work[place] = 1.0
    state, later = 0, FIELDS * plane
    across, along = 1.0 / spacing[0] if rows > 1 else 0.0, 1.0 / spacing[1]
    for i in range(rows):
        row = (i + GHOSTS) * stride + LEFT
        for j in range(columns):
            for field in range(FIELDS):
                work[row + field * plane + j] = fields[field, i, j]
            if table[LAW] == LAYER:
                work[row + 3 * plane + j] = fields[3, i, j] - fields[0, i, j]
        _ghost_cells(table, walls, work, row)
    for frame in range(len(frames)):
        left, taken, shrink = interval, 0, 1.0
        while left > 0.0:
            speed = _speed(table, constant, across, along, work, state)
            limit = min(cfl / speed if speed > 0.0 else interval, interval / least) * shrink
            # Steps come in pairs of equal ones.
            step = 0.5 * left / max(np.ceil(0.5 * left / limit), 1.0)
            taken += 2
            if step > 0.0 and taken <= most:
                a, b = step * across, step * along
                sound = _sweep(table, walls, constant, dry, a, b, 2, work, state, later)
                if sound and rows > 1:
                    sound = _sweep(table, walls, constant, dry, a, b, 0, work, later, later)
                if sound:
                    state, later = later, state
                    left -= 2.0 * step
                    shrink = 1.0
                    continue
                shrink *= 0.5
            if not (step > 0.0) or taken > most or shrink < 0.5**HALVINGS:
                frames[frame:] = np.nan
                return False
        for i in range(rows):
            row = state + (i + GHOSTS) * stride + LEFT
            for field in range(FIELDS):
                for j in range(columns):
                    frames[frame, field, i, j] = work[row + field * plane + j]
            if table[LAW] == LAYER:
                for j in range(columns):
                    frames[frame, 3, i, j] += frames[frame, 0, i, j]
    return True
