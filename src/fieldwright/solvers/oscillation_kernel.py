"""The steps of `oscillation` compiled: one sample, its points in a flat array row by row, eight points to a vector.

D is a sum of second differences along both axes, given point by point as places and values (`SecondDifference.table`);
inside a row the interior's weights serve. Damping is on the outermost points alone, where waves leave the box.

Vectors never hang over: the last of a row goes over points again. So what a loop writes must not be what it reads.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.finite_volume.lane_selection import store_row
from fieldwright.solvers.lanes import LANES, compiled, inner, load_row, spread
from fieldwright.solvers.summation_by_parts import ENTRIES


@inner
def _across(u, i, columns, places, values, line):
    """The difference across the rows, of all points of row i, into ``line``."""
    if columns < LANES:
        for j in range(columns):
            line[j] = 0.0
            for entry in range(ENTRIES):
                line[j] += values[i, entry] * u[places[i, entry] * columns + j]
        return
    a, b, c = places[i, 0] * columns, places[i, 1] * columns, places[i, 2] * columns
    d, e, f = places[i, 3] * columns, places[i, 4] * columns, places[i, 5] * columns
    va, vb, vc = spread(values[i, 0]), spread(values[i, 1]), spread(values[i, 2])
    vd, ve, vf = spread(values[i, 3]), spread(values[i, 4]), spread(values[i, 5])
    entries = 6 if values[i, 5] != 0.0 else (5 if values[i, 3] != 0.0 else 3)
    for block in range(0, columns, LANES):
        j = min(block, columns - LANES)
        total = va * load_row(u, a + j) + vb * load_row(u, b + j) + vc * load_row(u, c + j)
        if entries > 3:
            total = total + vd * load_row(u, d + j) + ve * load_row(u, e + j)
        if entries > 5:
            total = total + vf * load_row(u, f + j)
        store_row(line, j, total)


@inner
def _end(u, first, j, places, values):
    """The difference along the row at a point that has weights of its own."""
    total = 0.0
    for entry in range(ENTRIES):
        total += values[j, entry] * u[first + places[j, entry]]
    return total


@inner
def _along(u, k, nearest, next_nearest, second, reach):
    """The difference along the row at `LANES` points of the interior."""
    total = nearest * load_row(u, k) + next_nearest * (load_row(u, k - 1) + load_row(u, k + 1))
    if reach == 2:
        total = total + second * (load_row(u, k - 2) + load_row(u, k + 2))
    return total


@inner
def _kick(
    u, v, later, stiffness, damping, before, time, after, rows, across_places, across_values, places, values,
    interior, closed, line,
):  # fmt: skip
    """later = ((1 - before σ) v + time s D u) / (1 + after σ)."""
    columns = len(line)
    reach = len(interior) - 1
    w0, w1, w2, step = spread(interior[0]), spread(interior[1]), spread(interior[reach]), spread(time)
    vectors = columns - 2 * closed >= LANES
    for i in range(rows):
        first = i * columns
        outermost = rows > 1 and (i == 0 or i == rows - 1)
        if rows > 1:
            _across(u, i, columns, across_places, across_values, line)
        inside = closed if vectors and not outermost else columns
        for block in range(closed, columns - closed if inside == closed else 0, LANES):
            j = min(block, columns - closed - LANES)
            k = first + j
            total = load_row(line, j) + _along(u, k, w0, w1, w2, reach)
            store_row(later, k, load_row(v, k) + step * load_row(stiffness, k) * total)
        for place in range(2 * inside if inside == closed else columns):
            j = place if place < inside else columns - 1 - (place - inside)
            k = first + j
            push = time * stiffness[k] * (line[j] + _end(u, first, j, places, values))
            if outermost or j == 0 or j == columns - 1:
                later[k] = ((1.0 - before * damping[k]) * v[k] + push) / (1.0 + after * damping[k])
            else:
                later[k] = v[k] + push


@compiled
def march_leaps(
    u, v, stiffness, damping, time, steps, order, rows, across_places, across_values, places, values, interior,
    closed, out,
):  # fmt: skip
    """Leapfrog: u and v after every ``steps`` steps into ``out`` (frame, 2, point).

    ``across_places, across_values``  D across the rows; ``places, values``: D along them, (point, entry)
    ``interior``                      weights of a point of the interior and of its neighbours along a row
    ``closed``                        points at either end of a row that have weights of their own
    """
    columns = len(u) // rows
    half, later, line = 0.5 * time, np.zeros(len(u)), np.zeros(columns)
    for frame in range(len(out)):
        for number in range(steps + 1):
            before = 0.0 if number == steps else half
            after = 0.0 if number == 0 else half
            length = half if number == 0 or number == steps else time
            _kick(
                u, v, later, stiffness, damping, before, length, after, rows, across_places, across_values,
                places, values, interior, closed, line,
            )  # fmt: skip
            v, later = later, v
            if number < steps:
                for k in range(len(u)):
                    u[k] += time * v[k]
        out[frame, 0] = u
        out[frame, 1] = v


@inner
def _term(
    share, u, v, a, b, a_later, b_later, stiffness, damping, rows, across_places, across_values, places, values,
    interior, closed, line,
):  # fmt: skip
    """a⁺ = u + share b,  b⁺ = v + share (s D a - σ b)."""
    columns = len(line)
    reach = len(interior) - 1
    w0, w1, w2, part = spread(interior[0]), spread(interior[1]), spread(interior[reach]), spread(share)
    vectors = columns - 2 * closed >= LANES
    for i in range(rows):
        first = i * columns
        outermost = rows > 1 and (i == 0 or i == rows - 1)
        if rows > 1:
            _across(a, i, columns, across_places, across_values, line)
        inside = closed if vectors and not outermost else columns
        for block in range(closed, columns - closed if inside == closed else 0, LANES):
            j = min(block, columns - closed - LANES)
            k = first + j
            total = load_row(line, j) + _along(a, k, w0, w1, w2, reach)
            store_row(a_later, k, load_row(u, k) + part * load_row(b, k))
            store_row(b_later, k, load_row(v, k) + part * load_row(stiffness, k) * total)
        for place in range(2 * inside if inside == closed else columns):
            j = place if place < inside else columns - 1 - (place - inside)
            k = first + j
            push = stiffness[k] * (line[j] + _end(a, first, j, places, values))
            if outermost or j == 0 or j == columns - 1:
                push -= damping[k] * b[k]
            a_later[k] = u[k] + share * b[k]
            b_later[k] = v[k] + share * push


@compiled
def march_series(
    u, v, stiffness, damping, time, steps, order, rows, across_places, across_values, places, values, interior,
    closed, out,
):  # fmt: skip
    """Taylor's series to τ^order: u and v after every ``steps`` steps into ``out``; arguments as of `march_leaps`."""
    columns = len(u) // rows
    a, b, c, d = np.zeros(len(u)), np.zeros(len(u)), np.zeros(len(u)), np.zeros(len(u))
    line = np.zeros(columns)
    for frame in range(len(out)):
        for _ in range(steps):
            a[:], b[:] = u, v
            for remaining in range(order, 0, -1):
                _term(
                    time / remaining, u, v, a, b, c, d, stiffness, damping, rows, across_places, across_values,
                    places, values, interior, closed, line,
                )  # fmt: skip
                a, b, c, d = c, d, a, b
            u, v, a, b = a, b, u, v
        out[frame, 0] = u
        out[frame, 1] = v
