"""Implicit-explicit Runge-Kutta methods for u_t = L u + N(u): L implicit and diagonal, N explicit.

Unlike exponential integrators they need only 1 / (1 - a h L), and they damp what is stiff rather than follow it. Each
function computes what depends on the step size once and returns the `Step`, as `exponential_runge_kutta` does.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Inexact
from torch import Tensor

from fieldwright.solvers.exponential_runge_kutta import Nonlinear, Step


@dataclass(frozen=True)
class ImexTableau:
    """Coefficients of the stages i = 1..s after the first, the state itself: u_i = u + h Σ_j (a_ij L + â_ij N) u_j.

    ``implicit``  row i: a_ij for j = 0..i, the last on the diagonal
    ``explicit``  row i: â_ij for j = 0..i-1
    ``weights``   b̂_j of the explicit part in the result; the implicit part is stiffly accurate, b_j = a_sj
    """

    order: int
    implicit: tuple[tuple[float, ...], ...]
    explicit: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


_G = 1 - 1 / math.sqrt(2)
_D = 1 - 1 / (2 * _G)

ARS222 = ImexTableau(
    order=2,
    implicit=((0.0, _G), (0.0, 1 - _G, _G)),
    explicit=((_G,), (_D, 1 - _D)),
    weights=(_D, 1 - _D, 0.0),
)
"""Ascher, Ruuth, Spiteri, Appl. Numer. Math. 25 (1997), section 2.6: L-stable, two solves, order 2."""

ARS443 = ImexTableau(
    order=3,
    implicit=(
        (0.0, 1 / 2),
        (0.0, 1 / 6, 1 / 2),
        (0.0, -1 / 2, 1 / 2, 1 / 2),
        (0.0, 3 / 2, -3 / 2, 1 / 2, 1 / 2),
    ),
    explicit=((1 / 2,), (11 / 18, 1 / 18), (5 / 6, -5 / 6, 1 / 2), (1 / 4, 7 / 4, 3 / 4, -7 / 4)),
    weights=(1 / 4, 7 / 4, 3 / 4, -7 / 4, 0.0),
)
"""Ascher, Ruuth, Spiteri 1997, section 2.8: L-stable, four solves, order 3."""


def imex(
    symbol: Inexact[Tensor, "*modes"], step: float, tableau: ImexTableau = ARS443, *, dtype: torch.dtype | None = None
) -> Step:
    """A step of an IMEX Runge-Kutta method; ``symbol`` and ``dtype`` as in `exponential_runge_kutta.etdrk4`."""
    linear = symbol if dtype is None else symbol.to(dtype)
    solves = [1 / (1 - step * row[-1] * linear) for row in tableau.implicit]

    def advance(state: Tensor, nonlinear: Nonlinear) -> Tensor:
        stage, slow, stiff = state, [], []
        for implicit, explicit, solve in zip(tableau.implicit, tableau.explicit, solves, strict=True):
            slow.append(nonlinear(stage))
            stiff.append(linear * stage)
            known = _combined(_combined(state, step, explicit, slow), step, implicit[:-1], stiff)
            stage = solve * known
        # Stiffly accurate in L: the last stage is the result but for its explicit weights.
        extra = [b - a for b, a in zip(tableau.weights, (*tableau.explicit[-1], 0.0), strict=True)]
        if not any(extra):
            return stage
        return _combined(stage, step, extra, [*slow, nonlinear(stage)])

    return advance


# Carpenter-Kennedy's third low-storage set: times of the stages, and the two coefficients of each.
_TIMES = (0.0, 0.1496590219993, 0.3704009573644, 0.6222557631345, 0.9582821306748, 1.0)
_KEPT = (0.0, -0.4178904745, -1.192151694643, -1.697784692471, -1.514183444257)
_TAKEN = (0.1496590219993, 0.3792103129999, 0.8229550293869, 0.6994504559488, 0.1530572479681)


def carpenter_kennedy(symbol: Inexact[Tensor, "*modes"], step: float, *, dtype: torch.dtype | None = None) -> Step:
    """A low-storage explicit method of order 4 in five stages for N, with Crank-Nicolson over each stage for L:

        g ← N(u) + β_k g;   m = h (α_{k+1} - α_k) / 2;   u ← (u + γ_k h g + m L u) / (1 - m L)

    Of order 4 while N carries the dynamics, 2 where L does; for comparison with solvers that use it (jax-cfd,
    torch-cfd). ``symbol`` and ``dtype`` as in `exponential_runge_kutta.etdrk4`.

    Source: M. H. Carpenter, C. A. Kennedy, NASA TM-109112 (1994); with Crank-Nicolson: Dresdner et al. 2022, appendix.
    """
    linear = symbol if dtype is None else symbol.to(dtype)
    shares = [step * (late - early) / 2 for early, late in itertools.pairwise(_TIMES)]
    forward = [1 + m * linear for m in shares]
    solves = [1 / (1 - m * linear) for m in shares]

    def advance(state: Tensor, nonlinear: Nonlinear) -> Tensor:
        kept = torch.zeros_like(state)
        for beta, gamma, apply, solve in zip(_KEPT, _TAKEN, forward, solves, strict=True):
            kept = torch.add(nonlinear(state), kept, alpha=beta)
            state = solve * torch.add(apply * state, kept, alpha=gamma * step)
        return state

    return advance


def _combined(base: Tensor, step: float, weights: tuple[float, ...] | list[float], parts: list[Tensor]) -> Tensor:
    for weight, part in zip(weights, parts, strict=True):
        if weight:
            base = torch.add(base, part, alpha=step * weight)
    return base
