"""MUSCL-Hancock sweeps in torch code: one Riemann problem per face and step, one axis after another.

A sweep along an axis advances each cell's edge states by half a time step, by the cell's own waves, and takes the flux
between them,

    u_i⁺ = u_i - Δt/h (F_{i+½} - F_{i-½}) + Δt/h s_i,

of second order in space and time. Sweeps along the axes in one order and then in the other, twice with the same Δt, are
of second order together. A step may cross a whole cell along each axis; a method-of-lines step of the same order
crosses half a cell, all axes taken together, and solves two Riemann problems per face.

Sources: B. van Leer, SIAM J. Sci. Stat. Comput. 5 (1984) (Hancock's scheme); G. Strang, SIAM J. Numer. Anal. 5 (1968).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers.finite_volume.lane_sweep import HALVINGS
from fieldwright.solvers.finite_volume.laws import ConservationLaw
from fieldwright.solvers.finite_volume.limiters import Limiter, half_slope
from fieldwright.solvers.finite_volume.walls import Walls, with_ghosts


def sweep(
    law: ConservationLaw,
    conserved: Float[Tensor, "batch field *space"],
    axis: int,
    ratio: Float[Tensor, " batch"],
    walls: Walls,
    limiter: Limiter,
) -> tuple[Float[Tensor, "batch field *space"], Float[Tensor, " batch"]]:
    """The state after a sweep along ``axis`` by ``ratio`` = Δt/h, and how many cells its fastest wave has crossed."""
    primitive = law.primitive(conserved)
    place = axis + 2
    n = primitive.shape[place]
    around = with_ghosts(primitive, axis, walls[axis])
    below, here, above = (around.narrow(place, k, n + 2) for k in range(3))
    low, high = law.edges(here, half_slope(limiter, below, here, above))
    share = ratio.reshape(-1, *[1] * (conserved.ndim - 2))
    low, high = law.advanced(low, high, here, axis, share)
    left, right = high.narrow(place, 0, n + 1), low.narrow(place, 1, n + 1)
    seen_left, seen_right, fastest = law.flux(left, right, axis)
    loss = seen_left.narrow(place, 1, n) - seen_right.narrow(place, 0, n)
    source = law.source(low.narrow(place, 1, n), high.narrow(place, 1, n), axis)
    loss = loss if source is None else loss - source
    return conserved - share[:, None] * loss, ratio * fastest.flatten(1).amax(1)


def march(
    law: ConservationLaw,
    conserved: Float[Tensor, "batch field *space"],
    duration: float,
    *,
    walls: Walls,
    spacing: Sequence[float],
    limiter: Limiter,
    cfl: float,
    least_steps: int,
    most_steps: int,
) -> Float[Tensor, "batch field *space"]:
    """The state after ``duration``, in pairs of steps whose size each sample finds for itself.

    A step crosses at most ``cfl`` of a cell, judged by the state that a pair begins with. A pair that leaves a density
    or pressure negative, or in which a wave crosses more than a cell, is taken again with half the step. A sample that
    fails twelve times running, or needs more than ``most_steps``, comes back as NaN.
    """
    column = (-1, *[1] * (conserved.ndim - 1))
    state, axes = conserved, list(range(len(spacing)))
    left = torch.full((len(state),), duration, dtype=state.dtype, device=state.device)
    shrink = torch.ones_like(left)
    for _ in range(-(-most_steps // 2)):
        running = left > 0
        if not bool(running.any()):
            break
        limit = (cfl / fastest_crossing(law, state, spacing)).clamp(max=duration / least_steps) * shrink
        step = torch.where(running, 0.5 * left / (0.5 * left / limit).ceil().clamp_min(1), 0.0)
        later, reach = state, torch.zeros_like(left)
        for axis in (*axes, *reversed(axes)):
            later, crossed = sweep(law, later, axis, step / spacing[axis], walls, limiter)
            reach = torch.maximum(reach, crossed)
        sound = (law.soundness(later) > 0).flatten(1).all(1) & (reach <= 1) & (step > 0)
        taken = running & sound
        state = torch.where(taken.reshape(column), later, state)
        left = torch.where(taken, left - 2 * step, left)
        shrink = torch.where(taken, 1.0, 0.5 * shrink)
        lost = running & ((shrink < 0.5**HALVINGS) | ~(step > 0))
        state = torch.where(lost.reshape(column), torch.nan, state)
        left = torch.where(lost, 0.0, left)
    return torch.where((left > 0).reshape(column), torch.nan, state)


def fastest_crossing(
    law: ConservationLaw, conserved: Float[Tensor, "batch field *space"], spacing: Sequence[float]
) -> Float[Tensor, " batch"]:
    """The largest (|v_d| + c)/h_d of a cell and an axis, in 1/time."""
    primitive = law.primitive(conserved)
    sound = law.sound(primitive)
    speeds = [((primitive[:, 1 + d].abs() + sound) / h).flatten(1).amax(1) for d, h in enumerate(spacing)]
    return torch.stack(speeds).amax(0)
