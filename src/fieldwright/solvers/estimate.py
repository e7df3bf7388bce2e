"""How far an approximate solution is from the discrete one, from its residual alone.

For A u = f and an approximation v let r = f - A v and e = u - v, so that A e = r.

* The *estimate* is of the relative L2 error: ‖ẽ‖ / ‖v + ẽ‖ with ẽ a few steps of preconditioned conjugate gradients on
  A e = r. It follows the true error closely and is no bound.
* The *bound* is of the relative energy error, and is guaranteed: with L the constant-coefficient operator that a
  transform inverts and m the largest number with A - m L still a sum of non-negative terms,

      ‖e‖_A = (rᵀ A⁻¹ r)^½ <= (rᵀ L⁻¹ r / m)^½,        ‖u‖_A >= |fᵀ v| / ‖v‖_A    (Cauchy and Schwarz, fᵀ v = uᵀ A v),

  so ‖e‖_A / ‖u‖_A <= (rᵀ L⁻¹ r / m)^½ ‖v‖_A / |fᵀ v|. Both A and L are Σ over pairs of neighbours of
  coupling·(u_i - u_j)² plus Σ over points of (row sum)·u_i², so m is the smallest ratio of a coupling or row sum of A
  to that of L. It is as sharp as the contrast of the coefficient is small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers.constant_operator import ConstantOperator, couplings, nearest_constant_operator
from fieldwright.solvers.spectral import spectral, supports_spectral
from fieldwright.solvers.stencil import StencilSystem

STEPS = 3


@dataclass(frozen=True)
class ResidualEstimate:
    """Per sample: ‖f - A v‖ / ‖f‖, the estimate of the relative L2 error, the bound of the relative energy error.

    ``bound`` is infinite where none is known: a system that is not symmetric positive definite, or has a coupling of
    the wrong sign or beyond the nearest neighbours.
    """

    residual: Float[Tensor, " batch"]
    estimate: Float[Tensor, " batch"]
    bound: Float[Tensor, " batch"]


@torch.no_grad()
def residual_estimate(system: StencilSystem, values: Float[Tensor, "batch *space"]) -> ResidualEstimate:
    """Judge ``values`` as solutions of ``system``, at the cost of a few transforms per sample.

    A system that the transform cannot precondition (indefinite, non-symmetric) gets the estimate of one Jacobi step,
    which sees only the rough part of the error.
    """
    residual = system.residual(values)
    if supports_spectral(system) is None:
        correction = spectral(replace(system, rhs=residual), rtol=1e-14, max_iterations=STEPS).values
        bound = _energy_bound(system, values, residual)
    else:
        correction = residual / system.diagonal
        bound = system.rhs.new_full((system.batch,), torch.inf)
    size = _norm(values + correction)
    estimate = torch.where(size > 0, _norm(correction) / torch.where(size > 0, size, 1.0), 0.0)
    return ResidualEstimate(system.relative_residual(values), estimate, bound)


def _energy_bound(system: StencilSystem, values: Tensor, residual: Tensor) -> Float[Tensor, " batch"]:
    operator = nearest_constant_operator(system)
    # L without its shift is a sum of squares that A can dominate; a positive shift only makes A larger.
    operator = ConstantOperator(operator.axes, operator.strength, torch.zeros_like(operator.shift))
    dual = (residual * operator.solve(residual)).flatten(1).sum(1).clamp_min(0)
    energy = (values * system.apply(values)).flatten(1).sum(1).clamp_min(0).sqrt()
    work = (values * system.rhs).flatten(1).sum(1).abs()
    least = dominance(system, operator)
    known = (least > 0) & (work > 0)
    bound = (dual / torch.where(known, least, 1.0)).sqrt() * energy / torch.where(known, work, 1.0)
    exact = residual.flatten(1).abs().amax(1) == 0
    return torch.where(exact, 0.0, torch.where(known, bound, torch.inf))


def dominance(system: StencilSystem, operator: ConstantOperator) -> Float[Tensor, " batch"]:
    """The largest m with A - m L a sum of non-negative terms; not positive where there is none.

    Errors: `SolverError` when the shapes of system and operator differ.
    """
    if len(operator.axes) != len(system.shape):
        raise SolverError(f"estimate: an operator on {len(operator.axes)} axes for a system on {len(system.shape)}")
    dimension = len(system.shape)
    least = torch.full_like(operator.shift, torch.inf)
    ones = torch.ones_like(system.rhs)
    weights = [axis.weights.to(ones) for axis in operator.axes]
    for offset, value, box in couplings(system):
        along = [axis for axis, step in enumerate(offset) if step]
        if value[0].numel() == 0:
            continue
        if len(along) > 1 or abs(offset[along[0]]) > 1:
            # L has no such coupling: a non-negative one only adds to A, a negative one leaves nothing to compare with.
            least = torch.where(value.flatten(1).amin(1) < 0, -torch.inf, least)
            continue
        across = ones
        for axis in range(dimension):
            if axis != along[0]:
                across = across * weights[axis].reshape(-1, *[1] * (dimension - axis - 1))
        theirs = operator.strength[:, along[0]].reshape(-1, *[1] * dimension) * across[(slice(None), *box)]
        least = torch.minimum(least, (value / theirs).flatten(1).amin(1))
    rows, reference = system.apply(ones), _row_sums(operator, ones)
    scale = 1e-12 * system.diagonal
    walls = reference > 1e-12 * operator.diagonal
    ratio = torch.where(walls, rows / torch.where(walls, reference, 1.0), torch.inf)
    least = torch.minimum(least, ratio.flatten(1).amin(1))
    return torch.where((rows < -scale).flatten(1).any(1), -torch.inf, least)


def _row_sums(operator: ConstantOperator, ones: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
    """L 1, axis by axis."""
    total = torch.zeros_like(ones)
    dimension = len(operator.axes)
    for index, axis in enumerate(operator.axes):
        matrix, root = axis.matrix.to(ones), axis.weights.to(ones).sqrt()
        line = root * (matrix.T @ (axis.eigenvalues.to(ones) * (matrix @ root)))
        term = operator.strength[:, index].reshape(-1, *[1] * dimension) * line.reshape(
            -1, *[1] * (dimension - index - 1)
        )
        for other, modes in enumerate(operator.axes):
            if other != index:
                term = term * modes.weights.to(ones).reshape(-1, *[1] * (dimension - other - 1))
        total = total + term
    return total


def _norm(field: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    return field.flatten(1).norm(dim=1)
