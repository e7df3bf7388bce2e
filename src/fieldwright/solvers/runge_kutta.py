"""Strong-stability-preserving Runge-Kutta methods with a step per sample from its own wave speed (CFL control).

In Shu-Osher form each stage is a convex combination of Euler steps, so what an Euler step of size Δt keeps (positivity,
total variation, a maximum principle) these keep for the same Δt:

    order 2:  v = u + Δt F(u);                            u⁺ = u/2 + (v + Δt F(v))/2
    order 3:  v = u + Δt F(u);  w = 3u/4 + (v + Δt F(v))/4;  u⁺ = u/3 + 2(w + Δt F(w))/3

Source: S. Gottlieb, C.-W. Shu, E. Tadmor, "Strong stability-preserving high-order time discretization methods", SIAM
Review 43 (2001), (4.1) and (4.2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

Rate = Callable[[Tensor], Tensor]

# (share of the state that the step began with) of each stage; the rest is the Euler step from the stage before.
_SHARES = {2: (0.0, 1 / 2), 3: (0.0, 3 / 4, 1 / 3)}
MOST_STEPS = 100_000


def ssp_rk2(
    rate: Rate,
    state: Float[Tensor, "batch *shape"],
    duration: float,
    speed: Rate,
    *,
    cfl: float,
    least_steps: int = 1,
    most_steps: int = MOST_STEPS,
) -> Float[Tensor, "batch *shape"]:
    """The state after ``duration`` by the method of order 2; arguments and errors as of `ssp_rk3`."""
    return _march(2, rate, state, duration, speed, cfl, least_steps, most_steps)


def ssp_rk3(
    rate: Rate,
    state: Float[Tensor, "batch *shape"],
    duration: float,
    speed: Rate,
    *,
    cfl: float,
    least_steps: int = 1,
    most_steps: int = MOST_STEPS,
) -> Float[Tensor, "batch *shape"]:
    """The state after ``duration`` of u_t = F(u), by the method of order 3.

    ``rate``         F: state -> its rate of change, same shape
    ``speed``        state -> (batch,): wave speed over spacing, in 1/time (summed over axes for unsplit schemes)
    ``cfl``          the step is ``cfl / speed(state)``, found anew at every step of every sample
    ``least_steps``  no step is longer than ``duration / least_steps``
    ``most_steps``   a sample that needs more is given up

    Each sample has its own step, so its bits do not depend on the rest of the batch; one that has arrived idles. A
    sample that blows up, or is given up, comes back as NaN throughout.

    Errors: `InputError` for a CFL number or a number of steps that is not positive.
    """
    return _march(3, rate, state, duration, speed, cfl, least_steps, most_steps)


def _march(
    order: int,
    rate: Rate,
    state: Tensor,
    duration: float,
    speed: Rate,
    cfl: float,
    least_steps: int,
    most_steps: int,
) -> Tensor:
    if not cfl > 0:
        raise InputError(f"runge_kutta: cfl = {cfl}; a positive number is needed")
    if not 1 <= least_steps <= most_steps:
        raise InputError(f"runge_kutta: at least {least_steps} and at most {most_steps} steps; 1 <= least <= most")
    column = (-1, *[1] * (state.ndim - 1))
    left = torch.full((len(state),), float(duration), dtype=state.dtype, device=state.device)
    for _ in range(most_steps):
        running = left > 0
        if not bool(running.any()):
            break
        limit = (cfl / speed(state)).clamp(max=duration / least_steps)
        # Equal steps to the end, so that the last one is not a sliver; with one step left it lands there exactly.
        step = torch.where(running, left / (left / limit).ceil().clamp_min(1), 0.0)
        later = _step(order, rate, state, step.reshape(column))
        # An infinite or undefined speed leaves no step to take.
        lost = running & ~((step > 0) & later.flatten(1).isfinite().all(1))
        state = torch.where(running.reshape(column), later, state)
        state = torch.where(lost.reshape(column), torch.nan, state)
        left = torch.where(lost, 0.0, left - step)
    return torch.where((left > 0).reshape(column), torch.nan, state)


def _step(order: int, rate: Rate, state: Tensor, step: Tensor) -> Tensor:
    stage = state
    for share in _SHARES[order]:
        stage = torch.addcmul(stage, rate(stage), step)
        if share:
            stage = torch.lerp(stage, state, share)
    return stage
