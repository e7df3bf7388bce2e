"""Implicit Euler and BDF2 for stiff systems u_t = F(u, t), given a solver of one implicit step.

    Euler:  u₁ - Δ F(u₁) = u₀,                      first order, keeps signs and bounds of what it starts from;
    BDF2:   u₂ - ⅔ Δ F(u₂) = (4 u₁ - u₀) / 3,       second order, A-stable and L-stable.

BDF2 begins every frame with one step of Euler, whose local error of second order leaves the whole of second order, so
that a frame depends on its first state alone. Where a state must not be negative, a sample whose (4 u₁ - u₀) / 3 is
negative somewhere, by more than rounding, takes that step by Euler.

What has come in through the walls is carried along by the same formula as the state, so that mass minus supply is
constant to round-off: it is the scheme's own flux that is summed, and no quadrature of it.

Source: E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, V.1.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Scheme = Literal["bdf2", "euler"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
# Ahead of a front, where cells hold 1e-200, states fall to zero by rounding; beside the largest value it is nothing.
_ROUNDING = 1e-14


class Advance(Protocol):
    """Solves u - τ F(u, t) = b from a guess; returns u and the inflow through the walls per time that F holds at u."""

    def __call__(
        self,
        b: Float[Tensor, "batch *space"],
        guess: Float[Tensor, "batch *space"],
        tau: Float[Tensor, " batch"],
        elapsed: float,
    ) -> tuple[Float[Tensor, "batch *space"], Float[Tensor, " batch"]]: ...


def march(
    advance: Advance,
    state: Float[Tensor, "batch *space"],
    *,
    interval: float,
    frames: int,
    steps: int,
    scheme: Scheme = "bdf2",
    positive: bool = False,
) -> tuple[Float[Tensor, "batch time *space"], Float[Tensor, "batch time"]]:
    """The states after 1 to ``frames`` intervals of ``steps`` equal steps each, and the supply up to each."""
    step = interval / steps
    whole = torch.full((len(state),), step, dtype=state.dtype, device=state.device)
    supply = torch.zeros_like(whole)
    states, supplies = [], []
    for frame in range(frames):
        before, before_supply = None, supply
        for number in range(steps):
            # Not accumulated: the time of a step is the same whatever frame it is counted from.
            elapsed = frame * interval + (number + 1) * step
            if before is None or scheme == "euler":
                b, base, tau = state, supply, whole
            else:
                b, base, tau = (4 * state - before) / 3, (4 * supply - before_supply) / 3, whole * (2 / 3)
                if positive:
                    kept = b.flatten(1).amin(1) >= -_ROUNDING * b.flatten(1).amax(1)
                    b = torch.where(kept.reshape(-1, *[1] * (b.ndim - 1)), b.clamp_min(0.0), state)
                    base, tau = torch.where(kept, base, supply), torch.where(kept, tau, whole)
            guess = state if before is None else 2 * state - before
            if positive:
                guess = guess.clamp_min(0.0)
            later, inflow = advance(b, guess, tau, elapsed)
            before, before_supply = state, supply
            state, supply = later, base + tau * inflow
        states.append(state)
        supplies.append(supply)
    return torch.stack(states, 1), torch.stack(supplies, 1)
