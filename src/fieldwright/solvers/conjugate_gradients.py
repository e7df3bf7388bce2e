"""Preconditioned conjugate gradients for a block of systems at once, each sample with its own step lengths.

    α = rᵀz / pᵀAp,   u += α p,   r -= α A p,   z = M⁻¹ r,   β = r₊ᵀz₊ / rᵀz,   p = z + β p.

A sample that has converged is frozen by α = 0, so its bits do not depend on how long the others take.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fieldwright.solvers.padded_stencil import PaddedStencil

Preconditioner = Callable[[Tensor], Tensor]
"""Maps float32 residuals (batch *space) to M⁻¹ times them, up to one positive factor per sample."""


class ConjugateGradients:
    """The state of an iteration for A u = r from u = 0 on a block; `run` goes on with it.

    ``u`` and ``r`` (which is overwritten) are in the padded layout of ``stencil``, r at most of unit size, because the
    preconditioner works in float32; ``target`` is the norm of r at which a sample is done.
    """

    def __init__(
        self,
        stencil: PaddedStencil,
        precondition: Preconditioner,
        r: Float[Tensor, "batch padded"],
        target: Float[Tensor, " batch"],
    ) -> None:
        self.stencil = stencil
        self.precondition = precondition
        self.target = target
        self.u = torch.zeros_like(r)
        self.r = r
        self.norm: Float[Tensor, " batch"] = torch.linalg.vecdot(r, r).sqrt()
        self.iterations: Int[Tensor, " batch"] = torch.zeros_like(target, dtype=torch.int64)
        self._p = torch.zeros_like(r)
        self._q = torch.zeros_like(r)
        self._z = torch.zeros_like(r)
        self._rz = torch.ones_like(target)
        self._fresh = True
        self._broken = torch.zeros_like(target, dtype=torch.bool)

    @property
    def active(self) -> Bool[Tensor, " batch"]:
        """Samples still above their target; a sample whose matrix showed pᵀAp <= 0 or NaN is given up."""
        return (self.norm > self.target) & ~self._broken

    def run(self, limit: int | Int[Tensor, " batch"]) -> None:
        """Iterate until every sample is done or has made ``limit`` iterations in all."""
        while True:
            active = self.active & (self.iterations < limit)
            if not bool(active.any()):
                return
            self._direction(active)
            self.stencil.product(self._p, self._q)
            curvature = torch.linalg.vecdot(self._p, self._q)
            self._broken |= active & ~(curvature > 0)
            step = torch.where(active & (curvature > 0), self._rz / curvature, 0.0)
            self.u.addcmul_(self._p, step[:, None])
            self.r.addcmul_(self._q, -step[:, None])
            self.norm = torch.where(active, torch.linalg.vecdot(self.r, self.r).sqrt(), self.norm)
            self.iterations += active

    def take(self, other: ConjugateGradients, where: Bool[Tensor, " batch"]) -> None:
        """Go on from another iteration's state in some samples (its preconditioner is the caller's business)."""
        for name in ("u", "r", "_p", "norm", "iterations", "_rz", "_broken"):
            mine, theirs = getattr(self, name), getattr(other, name)
            mask = where if mine.ndim == 1 else where[:, None]
            setattr(self, name, torch.where(mask, theirs, mine))

    def _direction(self, active: Bool[Tensor, " batch"]) -> None:
        """p = z + β p."""
        z = self.precondition(self.stencil.interior(self.r).float())
        self.stencil.interior(self._z).copy_(z)
        rz = torch.linalg.vecdot(self.r, self._z)
        if self._fresh:
            self._p.copy_(self._z)
            self._fresh = False
        else:
            beta = torch.where(active & (self._rz != 0), rz / self._rz, 0.0)
            self._p.mul_(beta[:, None]).add_(self._z)
        self._rz = torch.where(active, rz, self._rz)
