"""Newton's method for one implicit step of degenerate diffusion, u + τ A w(u) = b, over a whole batch.

w is a rising function of u, cell by cell, and its slope k = w' may vanish (an empty cell of a porous medium) or jump
(a cell that is about to melt). A Newton step for the defect r = b - u - τ A w(u) is found as a step of w,

    (diag(1 / k) + τ A) δw = r,      δu = r - τ A δw,

whose matrix is symmetric and diagonally dominant, whatever k: 1 / k is capped where a cell's own outflow is nothing
beside its content. δu is in flux form, so that a step conserves mass however well δw is known. The same form is what is
returned, u = b - τ A w, so that the mass of b is kept to round-off, converged to the last bit or not.

For continuous slopes the step is halved until the L1 norm of the defect falls; that norm bounds the error, because
u -> u + τ A w(u) expands L1 distances (A is an M-matrix with non-negative column sums). For piecewise linear w (kinks
in the potential) full steps end after finitely many, and halving would only slow them down.

On a CPU lines of cells are solved one sample after the other in compiled code, all else over the whole batch in torch.

Source: L. Brugnano, V. Casulli, "Iterative solution of piecewise linear systems", SIAM J. Sci. Comput. 30 (2008), for
the full steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.solvers.multigrid import multigrid
from fieldwright.solvers.newton_kernel import solve_lines
from fieldwright.solvers.potentials import FAMILIES, Potential
from fieldwright.solvers.spectral import spectral
from fieldwright.solvers.tridiagonal import tridiagonal
from fieldwright.solvers.two_point_flux import TwoPointFlux

ITERATIONS = 60
HALVINGS = 12
TOLERANCE = 1e-10
# What a cell loses in a step, as a share of its content, τ A_ii k, counts as no less than this.
_LEAST_SHARE = 1e-10
# The defect cannot fall below the rounding of its largest term, τ A w; the factor is that of a sum of five.
_ROUNDING = 8 * torch.finfo(torch.float64).eps
_INNER_TOLERANCE = 1e-8
_INNER_ITERATIONS = 200


@dataclass(frozen=True)
class ImplicitStep:
    """``state`` solves u + τ A w = b with the ``potential`` w; both are NaN in samples that are not ``converged``."""

    state: Float[Tensor, "batch *space"]
    potential: Float[Tensor, "batch *space"]
    converged: Bool[Tensor, " batch"]
    iterations: int


def implicit_step(
    b: Float[Tensor, "batch *space"],
    guess: Float[Tensor, "batch *space"],
    tau: Float[Tensor, " batch"],
    operator: TwoPointFlux,
    potential: Potential,
    *,
    limit: int = ITERATIONS,
) -> ImplicitStep:
    """Solve u + τ A w(u) = b from ``guess``, with one A for all samples.

    Where the potential is for u >= 0 (which b >= 0 must then be), no iterate leaves it. A sample's bits depend on that
    sample alone.
    """
    if b.ndim == 2 and b.device.type == "cpu" and b.dtype == torch.float64 and not operator.boundary.periodic[0]:
        return _lines(b, guess, tau, operator, potential, limit)
    return in_torch(b, guess, tau, operator, potential, limit=limit)


def _lines(
    b: Tensor, guess: Tensor, tau: Tensor, operator: TwoPointFlux, potential: Potential, limit: int
) -> ImplicitStep:
    states, potentials = torch.full_like(b, torch.nan), torch.full_like(b, torch.nan)
    converged = torch.zeros(len(b), dtype=torch.bool)
    face = operator.faces[0][0].contiguous()
    wall = torch.zeros_like(face) if operator.wall is None else operator.wall[0].contiguous()
    iterations = solve_lines(
        *(part.contiguous().numpy() for part in (b, guess, tau, face, wall)),
        FAMILIES.index(potential.family),
        potential.number.reshape(-1).contiguous().numpy(),
        potential.positive,
        not potential.piecewise_linear,
        np.array([limit, HALVINGS, TOLERANCE, _ROUNDING, _LEAST_SHARE]),
        states.numpy(),
        potentials.numpy(),
        converged.numpy(),
    )
    return ImplicitStep(states, potentials, converged, iterations)


def in_torch(
    b: Float[Tensor, "batch *space"],
    guess: Float[Tensor, "batch *space"],
    tau: Float[Tensor, " batch"],
    operator: TwoPointFlux,
    potential: Potential,
    *,
    limit: int = ITERATIONS,
) -> ImplicitStep:
    """`implicit_step` in torch, on any device and for any axes: samples leave the batch as they converge."""
    running = torch.arange(len(b), device=b.device)
    converged = torch.zeros(len(b), dtype=torch.bool, device=b.device)
    states, potentials = torch.full_like(b, torch.nan), torch.full_like(b, torch.nan)
    tau = tau.reshape(-1, *[1] * (b.ndim - 1))
    size = _size(b)
    u = guess
    w, k, r = _defect(u, b, tau, operator, potential)
    norm = _size(r)
    iterations = 0
    while True:
        weight = tau * operator.diagonal
        done = norm <= TOLERANCE * size + _ROUNDING * _size(weight * w)
        if bool(done.any()):
            where = running[done]
            converged[where], potentials[where] = True, w[done]
            states[where] = b[done] - tau[done] * operator.apply(w[done])
        left = ~done & norm.isfinite()
        if not bool(left.all()):
            running, b, tau, size, u, r = (part[left] for part in (running, b, tau, size, u, r))
            k, norm, weight, potential = k[left], norm[left], weight[left], potential.select(left)
        if iterations == limit or not len(running):
            break
        iterations += 1
        inverse = weight / (weight * k).clamp_min(_LEAST_SHARE)
        step = r - tau * operator.apply(_direction(operator, inverse, tau, r))
        share = torch.ones_like(norm)
        for halving in range(HALVINGS + 1):
            trial = u + share.reshape(tau.shape) * step
            if potential.positive:
                trial = trial.clamp_min(0.0)
            w, k, r = _defect(trial, b, tau, operator, potential)
            found = _size(r)
            worse = ~(found < norm)
            if potential.piecewise_linear or halving == HALVINGS or not bool(worse.any()):
                break
            share = torch.where(worse, share / 2, share)
        u, norm = trial, found
    if potential.positive:
        # A cell's own outflow is far below its content where the content is near zero, so this clears rounding alone.
        states = states.clamp_min(0.0)
    return ImplicitStep(states, potentials, converged, iterations)


def _defect(
    u: Tensor, b: Tensor, tau: Tensor, operator: TwoPointFlux, potential: Potential
) -> tuple[Tensor, Tensor, Tensor]:
    """w, k and b - u - τ A w."""
    w, k = potential(u)
    return w, k, b - u - tau * operator.apply(w)


def _direction(
    operator: TwoPointFlux,
    inverse: Float[Tensor, "batch *space"],
    tau: Float[Tensor, "batch ..."],
    r: Float[Tensor, "batch *space"],
) -> Float[Tensor, "batch *space"]:
    """δw of (diag(1 / k) + τ A) δw = r."""
    if r.ndim == 2:
        upper = (-tau * operator.faces[0]).expand_as(r)
        diagonal = inverse + tau * operator.diagonal
        return tridiagonal(upper.roll(1, 1), diagonal, upper, r, periodic=operator.boundary.periodic[0])
    system = operator.shifted(inverse, tau, r)
    # Compiled multigrid neither wraps around nor leaves the host; the transforms do both. What either leaves unsolved
    # is still a direction, so nothing needs to be mended.
    method = multigrid if r.device.type == "cpu" and not any(operator.boundary.periodic) else spectral
    return method(system, rtol=_INNER_TOLERANCE, max_iterations=_INNER_ITERATIONS).values


def _size(field: Tensor) -> Float[Tensor, " batch"]:
    return field.flatten(1).abs().sum(1)
