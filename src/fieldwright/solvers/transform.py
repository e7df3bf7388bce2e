"""One matrix with constant coefficients: diagonalised by a sine, cosine or Fourier transform along each axis.

    A u = f,   A = L of `constant_operator`,   u = L⁻¹ f:  one transform to modes, one product, one transform back.

In float64 and plain torch, on any device. A second pass on the residual follows where the first does not meet the
tolerance.
"""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers.constant_operator import nearest_constant_operator
from fieldwright.solvers.one_matrix import Matrix, matrices_differ, of_one_matrix
from fieldwright.solvers.padded_stencil import PaddedStencil
from fieldwright.solvers.spectral import DEVICE_BLOCK, SpectralPreconditioner, blocks
from fieldwright.solvers.stencil import Solution, StencilSystem
from fieldwright.solvers.threads import on_threads

PASSES = 3
# What L⁻¹ may leave of a right-hand side where A = L up to the rounding of its assembly.
ROUNDING = 1e-8


def supports_transform(system: StencilSystem) -> str | None:
    """Why the method cannot take the system, or None."""
    reason = matrices_differ(system)
    if reason is not None:
        return reason
    if system.kind != "spd":
        return f"a transform inverts positive definite operators with constant coefficients, not kind '{system.kind}'"
    return None if system.batch == 0 else _refusal(Matrix(system))


@lru_cache(maxsize=4)
def _refusal(matrix: Matrix) -> str | None:
    """Why a matrix is not that of a constant operator, or None."""
    first = matrix.system
    try:
        operator = nearest_constant_operator(first)
    except SolverError as error:
        return str(error)
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(first.rhs.shape, generator=generator, dtype=torch.float64).to(first.rhs)
    f = f - f.mean() if first.nullspace else f
    off = float((f - first.apply(operator.solve(f))).norm() / f.norm())
    return None if off < ROUNDING else "the coefficients are not constant"


@lru_cache(maxsize=2)
def _inverse(matrix: Matrix) -> tuple[PaddedStencil, SpectralPreconditioner, Tensor]:
    """A matrix to multiply by, its inverse up to a factor, and the factor."""
    operator = nearest_constant_operator(matrix.system)
    kernel = matrix.system.nullspace
    invert = SpectralPreconditioner(operator, scaling=None, kernel=kernel, dtype=torch.float64)
    return PaddedStencil(matrix.system), invert, operator.diagonal.mean()


@torch.no_grad()
def transform(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch whose samples share one matrix with constant coefficients; ``iterations`` counts passes.

    Samples whose coefficients are not those of the first are left unsolved.

    Errors: `SolverError` when the first sample's coefficients are not constant.
    """
    start = time.perf_counter()
    if system.batch == 0:
        none = torch.zeros(0, dtype=torch.int64)
        return Solution(system.rhs.clone(), none.bool(), none, none.double(), 0.0, "transform")
    reason = _refusal(Matrix(system))
    if reason is not None:
        raise SolverError(f"solve: {reason}")
    stencil, invert, size = _inverse(Matrix(system))
    limit = PASSES if max_iterations is None else min(max_iterations, PASSES)

    def block(place: slice | list[int]) -> tuple[Tensor, Tensor, Tensor]:
        f, u = stencil.pad(system.rhs[place]), None if guess is None else stencil.pad(guess[place])
        return _solve_block(stencil, invert, size, f, u, rtol, limit)

    on_host = system.rhs.device.type == "cpu"
    places = blocks(system.batch, system.unknowns if on_host else max(1, system.unknowns // DEVICE_BLOCK))
    parts = on_threads(block, places) if on_host else [block(place) for place in places]
    values, residual, iterations = (torch.cat(column)[: system.batch] for column in zip(*parts, strict=True))
    residual = torch.where(of_one_matrix(system).to(residual.device), residual, torch.inf)
    seconds = time.perf_counter() - start
    return Solution(values, residual <= rtol, iterations.cpu(), residual, seconds, "transform")


def _solve_block(
    stencil: PaddedStencil,
    invert: SpectralPreconditioner,
    size: Float[Tensor, ""],
    f: Float[Tensor, "batch padded"],
    u: Float[Tensor, "batch padded"] | None,
    rtol: float,
    limit: int,
) -> tuple[Float[Tensor, "batch *space"], Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """u += L⁻¹ (f - A u) until the relative residual is at most ``rtol``; u, the residuals and the passes."""
    norm = torch.linalg.vecdot(f, f).sqrt()
    scale = torch.where(norm > 0, 1 / norm, 0.0)
    r = torch.zeros_like(f)
    if u is None:
        u = torch.zeros_like(f)
        r.copy_(f)
    else:
        stencil.product(u, r)
        torch.sub(f, r, out=r)
    passes = torch.zeros(f.shape[0], dtype=torch.int64, device=f.device)
    residual = torch.linalg.vecdot(r, r).sqrt() * scale
    for _ in range(limit):
        above = ~(residual <= rtol)
        if not bool(above.any()):
            break
        z = invert(stencil.interior(r)) / size
        stencil.interior(u).add_(torch.where(above.reshape(-1, *[1] * (z.ndim - 1)), z, 0.0))
        stencil.product(u, r)
        torch.sub(f, r, out=r)
        residual = torch.linalg.vecdot(r, r).sqrt() * scale
        passes += above
    return stencil.interior(u).contiguous(), residual, passes
