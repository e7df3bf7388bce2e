"""How far off is a given field? Estimates and bounds of its error from its residual, without solving the system.

For A u = f, a field v, its residual r = f - A v and its error e = u - v, so A e = r. Let e~ be the error after a few
steps of spectral-preconditioned conjugate gradients on A e = r, and r~ = r - A e~ what they leave.

* ``estimate``  ‖e~‖₂ / ‖v + e~‖₂, of the relative error in L2. No bound: steps that miss part of e make it too small.

* ``bound``     of the relative error in the energy norm ‖w‖_A = √(wᵀA w). Let L be a constant-coefficient operator with
                xᵀA x >= xᵀL x for all x. Then the inverses are ordered the other way, and with d = √(r~ᵀL⁻¹ r~)

                    ‖e - e~‖_A = √(r~ᵀA⁻¹ r~) <= d,       so  ‖e‖_A <= ‖e~‖_A + d,
                    ‖u‖_A >= ‖v + e~‖_A - d    and    ‖u‖_A >= |fᵀw| / ‖w‖_A  for w = v + e~,

                and the bound is the quotient of the two. It holds whatever the steps did.

L: write A and L as sums over pairs of neighbours and single points, xᵀA x = Σ t_f (x_l - x_r)² + Σ p_i x_i², where t_f
is the coupling of pair f and p_i the sum of row i. If every t_f and p_i is at least that of L (and not negative), A - L
is a sum of squares. L's strength along each axis is the least coupling on it, reduced where a wall term of A is less.
With jumps of the coefficient d alone would overestimate by up to the root of the contrast; after the steps it concerns
the remainder only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.conjugate_gradients import ConjugateGradients
from fieldwright.solvers.constant_operator import (
    ConstantOperator,
    axes_of,
    couplings,
    mass,
    nearest_constant_operator,
    per_mass,
)
from fieldwright.solvers.padded_stencil import PaddedStencil
from fieldwright.solvers.spectral import SpectralPreconditioner, blocks
from fieldwright.solvers.stencil import StencilSystem

STEPS = 4
# Row sums are differences of large numbers; what is below this part of the diagonal is their rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class ResidualEstimate:
    """Per sample, all dimensionless and 0 for an exact solution.

    ``residual``  ‖f - A v‖₂ / ‖f‖₂
    ``estimate``  of ‖u - v‖₂ / ‖u‖₂
    ``bound``     guaranteed: ‖u - v‖_A / ‖u‖_A <= bound; infinity where no bound is known (a kind other than "spd", or
                  a stencil with negative couplings or row sums)
    """

    residual: Float[Tensor, " batch"]
    estimate: Float[Tensor, " batch"]
    bound: Float[Tensor, " batch"]


@torch.no_grad()
def residual_estimate(system: StencilSystem, values: Float[Tensor, "batch *space"]) -> ResidualEstimate:
    """Estimate and bound the error of ``values`` as solutions of the systems.

    For kinds other than "spd" e~ comes from as many steps of the generalised conjugate residual method, preconditioned
    by the nearest constant-coefficient operator (by the diagonal where there is none). For indefinite systems near a
    resonance the estimate can be far too small.

    Errors: `InputError` when ``values`` has another shape than the right-hand side or is not finite, `SolverError`
    when the system is not finite.
    """
    if values.shape != system.rhs.shape:
        raise InputError(f"values of shape {tuple(values.shape)}; the system takes {tuple(system.rhs.shape)}")
    finite = values.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        raise InputError(f"values: sample {int((~finite).nonzero()[0])} holds a NaN or infinite value")
    system.check_finite()
    values = values.to(system.rhs)
    if system.batch == 0:
        return ResidualEstimate(*(system.rhs.new_zeros(0) for _ in range(3)))
    parts = [_estimate(system.select(place), values[place]) for place in blocks(system.batch, system.unknowns)]
    estimate, bound = (torch.cat(column)[: system.batch] for column in zip(*parts, strict=True))
    return ResidualEstimate(system.relative_residual(values), estimate, bound)


def _estimate(
    system: StencilSystem, v: Float[Tensor, "batch *space"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r = _centred(system, system.residual(v))
    e = _conjugate_gradient_steps(system, r) if system.kind == "spd" else _conjugate_residual_steps(system, r)
    w = _centred(system, v + e)
    tiny = torch.finfo(r.dtype).tiny
    estimate = _norm(e) / _norm(w).clamp_min(tiny)
    unknown = torch.full_like(estimate, torch.inf)
    below = operator_below(system) if system.kind == "spd" else None
    if below is None:
        return estimate, torch.where(_norm(r) == 0, 0.0, unknown)
    operator, known = below
    left = _centred(system, r - system.apply(e))
    remainder = _dot(left, operator.solve(left)).clamp_min(0).sqrt()
    size = _dot(w, system.apply(w)).clamp_min(0).sqrt()
    dual = _dot(system.rhs, w).abs() / size.clamp_min(tiny)
    least = torch.maximum(size - remainder, dual)
    error = _dot(e, system.apply(e)).clamp_min(0).sqrt() + remainder
    bound = torch.where(known & (least > 0), (1 + 1e-9) * error / least.clamp_min(tiny), unknown)
    return estimate, torch.where(error == 0, 0.0, bound)


def operator_below(system: StencilSystem) -> tuple[ConstantOperator, Bool[Tensor, " batch"]] | None:
    """A constant-coefficient L with xᵀA x >= xᵀL x, and for which samples that is known; None if for none of them."""
    axes = axes_of(system)
    zero = torch.zeros_like(system.rhs.flatten(1)[:, 0])
    strength = torch.full_like(zero, torch.inf)[:, None].repeat(1, len(axes))
    known = torch.ones_like(zero, dtype=torch.bool)
    row_sum = system.diagonal.clone()
    for offset, value, box in couplings(system):
        row_sum[(slice(None), *box)] -= value
        if value[0].numel() == 0:
            continue
        known &= value.flatten(1).amin(1) >= 0
        along = [axis for axis, step in enumerate(offset) if step != 0]
        if len(along) == 1 and abs(offset[along[0]]) == 1:
            # L's own coupling is its strength times the mass of the other axes.
            least = per_mass(value, offset, box, axes).flatten(1).amin(1)
            strength[:, along[0]] = torch.minimum(strength[:, along[0]], least)
    rounding = ROUNDING * system.diagonal.abs()
    known &= (row_sum + rounding).flatten(1).amin(1) >= 0
    # An axis with a single cell has no pairs; only its walls hold it, and they are looked at below.
    strength = torch.where(strength.isinf(), system.diagonal.flatten(1).amin(1)[:, None], strength)
    walls = ConstantOperator(axes, strength, zero).row_sums()
    ratio = torch.where(walls > 0, row_sum / walls.clamp_min(torch.finfo(walls.dtype).tiny), torch.inf)
    strength = strength * ratio.flatten(1).amin(1).clamp(0, 1)[:, None]
    known &= (strength > 0).all(1)
    if not bool(known.any()):
        return None
    strength = torch.where(known[:, None], strength, 1.0)
    spare = (row_sum - ConstantOperator(axes, strength, zero).row_sums() - rounding) / mass(axes, zero)
    shift = torch.where(known, spare.flatten(1).amin(1).clamp_min(0), 0.0)
    return ConstantOperator(axes, strength, shift), known


def _conjugate_gradient_steps(system: StencilSystem, r: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
    """e~ by `STEPS` steps of conjugate gradients for A e = r."""
    try:
        operator = nearest_constant_operator(system)
    except SolverError:
        return _conjugate_residual_steps(system, r)
    stencil = PaddedStencil(system)
    size = _norm(r)
    size = _column(torch.where(size > 0, size, 1.0), r)
    precondition = SpectralPreconditioner(operator, scaling=None, kernel=system.nullspace)
    steps = ConjugateGradients(stencil, precondition, stencil.pad(r / size), torch.zeros_like(size.flatten()))
    steps.run(STEPS)
    return stencil.interior(steps.u) * size


def _conjugate_residual_steps(system: StencilSystem, r: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
    """e~ of least ‖r - A e~‖ in the space that `STEPS` preconditioned steps span (Eisenstat, Elman, Schultz 1983)."""
    diagonal = torch.where(system.diagonal != 0, system.diagonal, 1.0)
    try:
        operator = nearest_constant_operator(system)
    except SolverError:
        operator = None
    e = torch.zeros_like(r)
    steps: list[tuple[Tensor, Tensor]] = []
    for _ in range(STEPS):
        p = _centred(system, r / diagonal if operator is None else operator.solve(r))
        q = system.apply(p)
        for before, image in steps:
            part = _column(_dot(q, image), q)
            p, q = p - part * before, q - part * image
        size = _norm(q)
        scale = _column(torch.where(size > 0, 1 / size, 0.0), q)
        p, q = p * scale, q * scale
        steps.append((p, q))
        step = _column(_dot(r, q), q)
        e, r = e + step * p, r - step * q
    return e


def _centred(system: StencilSystem, field: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
    return field - _column(field.flatten(1).mean(1), field) if system.nullspace else field


def _column(per_sample: Float[Tensor, " batch"], like: Tensor) -> Tensor:
    return per_sample.reshape(-1, *[1] * (like.ndim - 1))


def _dot(x: Float[Tensor, "batch *space"], y: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    return torch.linalg.vecdot(x.flatten(1), y.flatten(1))


def _norm(x: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    return _dot(x, x).sqrt()
