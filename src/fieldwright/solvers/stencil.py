"""Batches of variable-coefficient stencil systems A u = f on one grid, samples first.

A stencil operator is a list of offsets o and one coefficient field per offset:

    (A u)(x) = Σ_o c_o(x) u(x + o),

with u = 0 outside the grid on axes that do not wrap. What a wall condition contributes is already in the diagonal and
in the right-hand side, so solvers see arrays and never a PDE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary

Kind = Literal["spd", "symmetric", "general"]


@dataclass(frozen=True)
class StencilSystem:
    """A batch of systems A u = f.

    ``coefficients``  batch offset *space, float64
    ``rhs``           batch *space, float64
    ``offsets``       one integer vector per coefficient field; the zero vector (diagonal) must be among them
    ``kind``          "spd" (symmetric positive definite, or semi-definite with ``nullspace``), "symmetric" or "general"
    ``boundary``      wall conditions, which say what transform diagonalises the constant-coefficient operator
    ``centring``      "cell", "node" (unknowns are the points not fixed by a wall) or "periodic"
    ``nullspace``     True when constants are in the kernel (all walls Neumann or periodic); solutions then have mean 0

    Errors: `SolverError` when shapes disagree, a value is not finite, or the diagonal is missing.
    """

    coefficients: Float[Tensor, "batch offset *space"]
    rhs: Float[Tensor, "batch *space"]
    offsets: tuple[tuple[int, ...], ...]
    boundary: Boundary
    kind: Kind = "spd"
    centring: Literal["cell", "node", "periodic"] = "cell"
    nullspace: bool = False

    def __post_init__(self) -> None:
        c, f = self.coefficients, self.rhs
        if c.ndim != f.ndim + 1 or c.shape[0] != f.shape[0] or c.shape[2:] != f.shape[1:]:
            raise SolverError(
                f"system: coefficients of shape {tuple(c.shape)} do not fit a right-hand side of shape"
                f" {tuple(f.shape)}; expected (batch, offset, *space) and (batch, *space)"
            )
        if len(self.offsets) != c.shape[1] or any(len(o) != f.ndim - 1 for o in self.offsets):
            raise SolverError(f"system: {len(self.offsets)} offsets {self.offsets} for {c.shape[1]} coefficient fields")
        if (0,) * (f.ndim - 1) not in self.offsets:
            raise SolverError(f"system: the offsets {self.offsets} do not hold the diagonal")

    @property
    def shape(self) -> tuple[int, ...]:
        """Unknowns per axis."""
        return tuple(self.rhs.shape[1:])

    @property
    def batch(self) -> int:
        return self.rhs.shape[0]

    @property
    def unknowns(self) -> int:
        return int(np.prod(self.shape))

    @property
    def diagonal(self) -> Float[Tensor, "batch *space"]:
        return self.coefficients[:, self.offsets.index((0,) * len(self.shape))]

    def apply(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """A u, differentiable in u and in the coefficients."""
        total = torch.zeros_like(u)
        for index, offset in enumerate(self.offsets):
            total = total + self.coefficients[:, index] * shifted(u, offset, self.boundary.periodic)
        return total

    def residual(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """f - A u."""
        return self.rhs - self.apply(u)

    def relative_residual(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
        """‖f - A u‖₂ / ‖f‖₂ per sample, recomputed from the operator in the system's precision (0/0 counts as 0)."""
        size = self.rhs.flatten(1).norm(dim=1)
        return self.residual(u).flatten(1).norm(dim=1) / torch.where(size > 0, size, 1.0)

    def select(self, index: Sequence[int] | slice | Tensor) -> StencilSystem:
        """The systems of some of the samples."""
        return replace(self, coefficients=self.coefficients[index], rhs=self.rhs[index])

    def to(self, device: torch.device | str) -> StencilSystem:
        """The same systems on a device."""
        return replace(self, coefficients=self.coefficients.to(device), rhs=self.rhs.to(device))

    def check_finite(self) -> None:
        """Errors: `SolverError` naming the first sample with a NaN or infinite entry."""
        # A sum is finite only if every term is, and takes a quarter of the time that looking at each one does.
        if bool((self.coefficients.flatten(1).sum(1) + self.rhs.flatten(1).sum(1)).isfinite().all()):
            return
        bad = ~(self.coefficients.flatten(1).isfinite().all(1) & self.rhs.flatten(1).isfinite().all(1))
        if bool(bad.any()):
            raise SolverError(f"system: sample {int(bad.nonzero()[0])} holds a NaN or infinite entry")

    @cached_property
    def pattern(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, columns, flat position in ``coefficients[sample]``) of the stored entries, shared by all samples."""
        shape, n = self.shape, self.unknowns
        places = np.indices(shape)
        rows, columns, positions = [], [], []
        for index, offset in enumerate(self.offsets):
            target = [p + o for p, o in zip(places, offset, strict=True)]
            keep = np.ones(shape, bool)
            for axis, wraps in enumerate(self.boundary.periodic):
                if wraps:
                    target[axis] = target[axis] % shape[axis]
                else:
                    keep &= (target[axis] >= 0) & (target[axis] < shape[axis])
            row = np.arange(n).reshape(shape)[keep]
            rows.append(row)
            columns.append(np.ravel_multi_index([t[keep] for t in target], shape))
            positions.append(index * n + row)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(positions)

    def to_csr(self, sample: int) -> scipy.sparse.csr_array:
        """One sample's matrix, unknowns in C order."""
        rows, columns, positions = self.pattern
        values = self.coefficients[sample].detach().cpu().numpy().reshape(-1)[positions]
        return scipy.sparse.coo_array((values, (rows, columns)), shape=(self.unknowns,) * 2).tocsr()


@dataclass(frozen=True)
class Solution:
    """What a solver returns, per sample of the batch.

    ``residual`` is the true relative residual ‖f - A u‖ / ‖f‖ recomputed in float64; ``converged`` is residual <= rtol
    and finite values; ``seconds`` is wall-clock time of the solver alone; ``fallbacks`` counts the samples that the
    method handed to a pivoting direct solver.
    """

    values: Float[Tensor, "batch *space"]
    converged: Bool[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    residual: Float[Tensor, " batch"]
    seconds: float
    method: str
    fallbacks: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> list[int]:
        """Indices of the samples that did not converge."""
        return [int(i) for i in (~self.converged).nonzero().flatten()]


def shifted(
    u: Float[Tensor, "batch *space"], offset: Sequence[int], periodic: Sequence[bool]
) -> Float[Tensor, "batch *space"]:
    """The field x -> u(x + offset), zero where x + offset leaves an axis that does not wrap."""
    for axis, (step, wraps) in enumerate(zip(offset, periodic, strict=True)):
        if step == 0:
            continue
        position = axis + 1
        if wraps:
            u = u.roll(-step, position)
        else:
            n = u.shape[position]
            kept = u.narrow(position, min(max(step, 0), n), max(n - abs(step), 0))
            gap = list(u.shape)
            gap[position] = min(abs(step), n)
            zeros = u.new_zeros(gap)
            u = torch.cat((kept, zeros) if step > 0 else (zeros, kept), position)
    return u
