"""Exponential integrators for u_t = L u + N(u) with a diagonal, stiff L: the linear part is integrated exactly.

``symbol`` holds the diagonal of L in the basis of the state (wavenumbers, say) and broadcasts against it, so it may
have a batch axis of its own; real or complex. Each function here computes the coefficients of one step size once, and
returns the `Step` that uses them. With N = 0 every step is exact; with L = 0 they are Runge-Kutta methods.

A step acts on each entry of a batch alone as far as N does, so an instance that blows up leaves the others alone.

| name      | order | evaluations of N | stays accurate where                               |
| --------- | ----- | ---------------- | -------------------------------------------------- |
| `etdrk2`  | 2     | 2                | L is stiff and N slow                              |
| `etdrk4`  | 4     | 4                | the same; the default of spectral problems         |
| `lawson4` | 4     | 4                | N carries the dynamics and L damps (turbulence)    |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Inexact
from torch import Tensor

from fieldwright.solvers.phi_functions import phi_functions

Nonlinear = Callable[[Tensor], Tensor]
"""N: state -> its slow rate of change."""
Step = Callable[[Tensor, Nonlinear], Tensor]
"""(state, N) -> the state one step later."""


@runtime_checkable
class SteppingTerm(Protocol):
    """An N that brings `etdrk4` compiled for itself."""

    def __call__(self, state: Tensor) -> Tensor: ...

    def etdrk4(self, coefficients: Sequence[Tensor]) -> Callable[[Tensor, int], Tensor]:
        """(state, how many steps) -> the state after them; the coefficients are those of `etdrk4_coefficients`."""
        ...


def etdrk2(symbol: Inexact[Tensor, "*modes"], step: float, *, dtype: torch.dtype | None = None) -> Step:
    """Exponential time differencing with a Runge-Kutta method of order 2, with h the step and φ_k = φ_k(h L):

        a = φ_0 u + h φ_1 N(u);   u⁺ = a + h φ_2 (N(a) - N(u))

    ``dtype``  of the state, where it is complex and the symbol real

    Source: Cox and Matthews 2002, (22).
    """
    phi = phi_functions(symbol * step, 2)
    decay, first, second = _as(dtype, phi[0], step * phi[1], step * phi[2])

    def advance(state: Tensor, nonlinear: Nonlinear) -> Tensor:
        rate = nonlinear(state)
        middle = torch.addcmul(decay * state, first, rate)
        return torch.addcmul(middle, second, nonlinear(middle) - rate)

    return advance


def etdrk4(symbol: Inexact[Tensor, "*modes"], step: float, *, dtype: torch.dtype | None = None) -> Step:
    """Exponential time differencing with a Runge-Kutta method of order 4; h the step, E = e^{hL/2}, φ_k = φ_k(h L):

        Q = h/2 φ_1(h L/2);   a = E u + Q N(u);   b = E u + Q N(a);   c = E a + Q (2 N(b) - N(u))
        u⁺ = φ_0 u + h (φ_1 - 3 φ_2 + 4 φ_3) N(u) + h (2 φ_2 - 4 φ_3) (N(a) + N(b)) + h (4 φ_3 - φ_2) N(c)

    ``dtype``  of the state, where it is complex and the symbol real

    Source: Cox and Matthews 2002, (26) to (29).
    """
    return etdrk4_step(etdrk4_coefficients(symbol, step), dtype=dtype)


def etdrk4_step(coefficients: Sequence[Inexact[Tensor, "*modes"]], *, dtype: torch.dtype | None = None) -> Step:
    """`etdrk4` with coefficients that are there already."""
    half_decay, half_first, decay, start, middle, end = _as(dtype, *coefficients)

    def advance(state: Tensor, nonlinear: Nonlinear) -> Tensor:
        rate = nonlinear(state)
        base = half_decay * state
        a = torch.addcmul(base, half_first, rate)
        rate_a = nonlinear(a)
        rate_b = nonlinear(torch.addcmul(base, half_first, rate_a))
        c = torch.addcmul(half_decay * a, half_first, 2 * rate_b - rate)
        later = torch.addcmul(decay * state, start, rate)
        later = torch.addcmul(later, middle, rate_a + rate_b)
        return torch.addcmul(later, end, nonlinear(c))

    return advance


def etdrk4_coefficients(symbol: Inexact[Tensor, "*modes"], step: float) -> list[Inexact[Tensor, "*modes"]]:
    """E, Q, φ_0 and the weights of N(u), of N(a) + N(b) and of N(c) in `etdrk4`."""
    half = phi_functions(symbol * (step / 2), 1)
    phi = phi_functions(symbol * step, 3)
    return [
        half[0],
        step / 2 * half[1],
        phi[0],
        step * (phi[1] - 3 * phi[2] + 4 * phi[3]),
        step * (2 * phi[2] - 4 * phi[3]),
        step * (4 * phi[3] - phi[2]),
    ]


def lawson4(symbol: Inexact[Tensor, "*modes"], step: float, *, dtype: torch.dtype | None = None) -> Step:
    """The classical Runge-Kutta method for v = e^{-tL} u (integrating factor), of order 4, with E = e^{hL/2}:

        a = E (u + h/2 N(u));   b = E u + h/2 N(a);   c = E² u + h E N(b)
        u⁺ = E² u + h/6 (E² N(u) + 2 E (N(a) + N(b)) + N(c))

    A state at rest of the stiff part is not kept at rest: use `etdrk4` where L u and N(u) balance.

    ``dtype``  of the state, where it is complex and the symbol real

    Source: J. D. Lawson, SIAM J. Numer. Anal. 4 (1967).
    """
    (factor,) = _as(dtype, (symbol * (step / 2)).exp())

    def advance(state: Tensor, nonlinear: Nonlinear) -> Tensor:
        rate = nonlinear(state)
        base = factor * state
        rate_a = nonlinear(factor * torch.add(state, rate, alpha=step / 2))
        rate_b = nonlinear(torch.add(base, rate_a, alpha=step / 2))
        rate_c = nonlinear(factor * torch.add(base, rate_b, alpha=step))
        outer = factor * torch.add(state, rate, alpha=step / 6)
        inner = torch.add(outer, rate_a + rate_b, alpha=step / 3)
        return torch.add(factor * inner, rate_c, alpha=step / 6)

    return advance


def _as(dtype: torch.dtype | None, *coefficients: Tensor) -> list[Tensor]:
    return [value if dtype is None else value.to(dtype) for value in coefficients]
