"""Trajectories of an operator with a lead time, from its own outputs.

    u(t₁ + ... + t_n) = S(t_n, S(t_{n-1}, ... S(t₁, u(0)))),     by the semi-group property of S.

Source: Herde et al., "Poseidon", NeurIPS 2024, section 2; the noise is that of Sanchez-Gonzalez et al., "Learning to
simulate complex physics with graph networks", ICML 2020; stopping the gradient before the last step is the push-forward
of Brandstetter et al., "Message passing neural PDE solvers", ICLR 2022.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError


def roll_out(
    operator: Callable[..., Tensor],
    inputs: Float[Tensor, "batch channel *space"],
    lead_times: Sequence[float | Tensor | None],
    *,
    noise: float | Tensor = 0.0,
    generator: torch.Generator | None = None,
    pushforward: bool = False,
    clock: int | None = None,
) -> Float[Tensor, "batch time output *space"]:
    """The outputs after each of the steps ``lead_times``, each step from the outputs of the last.

    The first inputs are the state, as many as the operator has outputs; inputs beyond them, such as coefficients, are
    handed on to every step as they are. A step is a number, one for each sample, or None for an operator without lead
    times.

    ``noise``        deviation of normal noise, drawn from ``generator``, in the state that each step hands to the next
    ``pushforward``  gradients through the last step alone
    ``clock``        the input that is the time at which a step begins: each step moves it on

    Errors: `InputError` for no or impossible steps, noise without a generator, or outputs that cannot be inputs.
    """
    steps = list(lead_times)
    if not steps or not all(step is None or _all_possible(step) for step in steps):
        raise InputError(f"lead_times: {steps}; expected one or more steps that are finite and not negative")
    if not _all_possible(noise):
        raise InputError(f"noise: {noise}; it must be a number that is not negative")
    noisy = bool(torch.as_tensor(noise).any())
    if noisy and generator is None:
        raise InputError(f"noise: {noise} needs a generator to draw it from")
    states: list[Tensor] = []
    state, kept = inputs, inputs[:, :0]
    for number, step in enumerate(steps, 1):
        if noisy and number > 1:
            drawn = torch.randn(state.shape, generator=generator, dtype=state.dtype, device=state.device)
            state = state + noise * drawn
        with torch.set_grad_enabled(torch.is_grad_enabled() and (number == len(steps) or not pushforward)):
            state = operator(torch.cat((state, kept), 1), **({} if step is None else {"lead_time": step}))
        inputs = _moved_on(inputs, step, clock)
        kept = inputs[:, state.shape[1] :]
        if state.shape[1] > inputs.shape[1] or state.shape[2:] != inputs.shape[2:]:
            raise InputError(
                f"operator: outputs of shape {tuple(state.shape)} cannot be its inputs, of shape {tuple(inputs.shape)}"
            )
        states.append(state)
    return torch.stack(states, 1)


def _all_possible(numbers: float | Tensor) -> bool:
    values = torch.as_tensor(numbers)
    return bool(((values >= 0) & (values < math.inf)).all())


def _moved_on(inputs: Tensor, step: float | Tensor | None, clock: int | None) -> Tensor:
    if clock is None or step is None:
        return inputs
    moved = inputs.clone()
    moved[:, clock] += step.reshape(-1, *[1] * (inputs.ndim - 2)) if isinstance(step, Tensor) else step
    return moved
