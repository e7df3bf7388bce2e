"""Chebyshev's recurrence for one diffusion operator after the other, compiled: eight cells per instruction.

Fields are flat with `halo` cells of zeros before and after, rows one behind the other: the neighbour along an axis is a
fixed number of cells away. What that leads to beyond the end of a row is another row, and the face between is closed.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import LANES, compiled, inner, load, load_row, spread, store


def padded_layout(shape: tuple[int, ...]) -> tuple[int, int, np.ndarray]:
    """(cells of the halo, cells of the whole padded field, cells from one neighbour to the next per axis)."""
    steps = np.array([int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))], dtype=np.int64)
    halo = -(-int(steps[0]) // LANES) * LANES
    body = -(-int(np.prod(shape)) // LANES) * LANES
    return halo, body + 2 * halo, steps


@compiled
def expand(faces, steps, halo, scale, weights, degrees, fields, scratch):
    """Overwrite every field u by Σ_k weights_k T_k(I - scale A) u, k up to its degree.

    ``faces`` (axis, batch, cell), ``fields`` (batch, cell), ``scratch`` (3, cell): all padded, aligned to a cache line
    per row; ``weights`` (batch, term), ``scale`` and ``degrees`` one per sample. Operators may be one for all fields.
    """
    first, last = halo // LANES, (fields.shape[1] - halo) // LANES
    for sample in range(fields.shape[0]):
        own = min(sample, faces.shape[1] - 1)
        face, weight, step = faces[:, own], weights[own], scale[own]
        u, before, now, total = fields[sample], scratch[0], scratch[1], scratch[2]
        for block in range(first, last):
            store(total, block, spread(weight[0]) * load(u, block))
        # T_1 = (I - scale A) T_0, and T_{k+1} = 2 (I - scale A) T_k - T_{k-1}, written over T_{k-1}.
        _term(face, steps, first, last, step, u, 1.0, u, 0.0, now, weight[1], total)
        for k in range(2, degrees[own] + 1):
            older = u if k == 2 else before
            _term(face, steps, first, last, 2 * step, now, 2.0, older, -1.0, before, weight[k], total)
            before, now = now, before
        for block in range(first, last):
            store(u, block, load(total, block))


@inner
def _term(face, steps, first, last, scale, now, of_now, before, of_before, out, weight, total):
    """out = of_now now + of_before before - scale A now, and total += weight out."""
    for block in range(first, last):
        place = block * LANES
        here = load(now, block)
        flux = spread(0.0) * here
        for axis in range(len(steps)):
            step = steps[axis]
            flux = flux + load(face[axis], block) * (here - load_row(now, place + step))
            flux = flux + load_row(face[axis], place - step) * (here - load_row(now, place - step))
        found = spread(of_now) * here + spread(of_before) * load(before, block) - spread(scale) * flux
        store(out, block, found)
        store(total, block, load(total, block) + spread(weight) * found)
