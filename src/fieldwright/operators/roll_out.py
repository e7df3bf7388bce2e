"""Trajectories of an operator with a lead time, from its own outputs.

    u(t₁ + ... + t_n) = S(t_n, S(t_{n-1}, ... S(t₁, u(0)))),     by the semi-group property of S.

Source: Herde et al., "Poseidon", NeurIPS 2024, section 2; the noise is that of Sanchez-Gonzalez et al., "Learning to
simulate complex physics with graph networks", ICML 2020; stopping the gradient before the last step is the push-forward
of Brandstetter et al., "Message passing neural PDE solvers", ICLR 2022.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError


def roll_out(
    operator: nn.Module,
    inputs: Float[Tensor, "batch channel *space"],
    lead_times: Sequence[float],
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
    pushforward: bool = False,
) -> Float[Tensor, "batch time output *space"]:
    """The outputs after each of the steps ``lead_times``, each step from the outputs of the last.

    The first inputs are the state, as many as the operator has outputs; inputs beyond them, such as coefficients, are
    handed on to every step as they are.

    ``noise``        deviation of normal noise, drawn from ``generator``, in the state that each step hands to the next
    ``pushforward``  gradients through the last step alone

    Errors: `InputError` for no or impossible steps, noise without a generator, or outputs that cannot be inputs.
    """
    steps = [float(step) for step in lead_times]
    if not steps or not all(0 <= step < math.inf for step in steps):
        raise InputError(f"lead_times: {steps}; expected one or more steps that are finite and not negative")
    if not 0 <= noise < math.inf:
        raise InputError(f"noise: {noise}; it must be a number that is not negative")
    if noise and generator is None:
        raise InputError(f"noise: {noise} needs a generator to draw it from")
    states: list[Tensor] = []
    state, kept = inputs, inputs[:, :0]
    for number, step in enumerate(steps, 1):
        if noise and number > 1:
            drawn = torch.randn(state.shape, generator=generator, dtype=state.dtype, device=state.device)
            state = state + noise * drawn
        with torch.set_grad_enabled(torch.is_grad_enabled() and (number == len(steps) or not pushforward)):
            state = operator(torch.cat((state, kept), 1), lead_time=step)
        kept = inputs[:, state.shape[1] :]
        if state.shape[1] > inputs.shape[1] or state.shape[2:] != inputs.shape[2:]:
            raise InputError(
                f"operator: outputs of shape {tuple(state.shape)} cannot be its inputs, of shape {tuple(inputs.shape)}"
            )
        states.append(state)
    return torch.stack(states, 1)
