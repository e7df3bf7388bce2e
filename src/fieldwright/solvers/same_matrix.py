"""Many right-hand sides of one matrix: eliminated once, then substituted, eight right-hand sides a sweep.

The factors are those of `direct`, in float64 and one number an entry; the lanes hold right-hand sides. A sweep reads
each factor once for all eight, so that it is the arithmetic that takes the time and not the memory.

On an accelerator the matrix is factored as a dense one, up to `DENSE_UNKNOWNS`: there a product with 16 000 columns is
cheaper than a sweep through a tree of small fronts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers import lane_refinement, multifrontal
from fieldwright.solvers.direct import CORRECTIONS, Batch, flat, flat_system, plan_of, supports_direct
from fieldwright.solvers.lanes import LANES, aligned
from fieldwright.solvers.one_matrix import Matrix, matrices_differ, of_one_matrix
from fieldwright.solvers.stencil import Solution, StencilSystem

DENSE_UNKNOWNS = 20_000

Memory = tuple[multifrontal.Factors, lane_refinement.Vectors]


def supports_same_matrix(system: StencilSystem) -> str | None:
    """Why the method should not take the system (matrices that differ, factors that would not fit), or None."""
    reason = matrices_differ(system)
    if reason is not None or system.rhs.device.type == "cpu":
        return reason or supports_direct(system)
    if system.unknowns > DENSE_UNKNOWNS:
        return f"a dense factorisation of {system.unknowns} unknowns is above the limit of {DENSE_UNKNOWNS}"
    return None


@torch.no_grad()
def same_matrix(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch of any kind whose samples share their coefficients; ``iterations`` counts corrections.

    Samples whose coefficients are not those of the first are left unsolved. Where elimination without exchanging rows
    is not good enough for the matrix, SuperLU factors it, once too, and the samples are counted in ``fallbacks``.

    Errors: `SolverError` for a system whose factors would be too large.
    """
    start = time.perf_counter()
    on_host = system.rhs.device.type == "cpu"
    # Not `supports_same_matrix`: samples that differ are only left out.
    if on_host and (reason := supports_direct(system)) is not None:
        raise SolverError(f"solve: {reason}")
    limit = CORRECTIONS if max_iterations is None else min(max_iterations, CORRECTIONS)
    alike = of_one_matrix(system).nonzero().flatten()
    values, residual, iterations = (_by_sweeps if on_host else _by_dense)(system, alike, rtol, guess, limit)
    unstable = alike[(~(residual[alike] <= rtol)).cpu()]
    fallbacks = len(unstable) if max_iterations is None else 0
    if fallbacks > 0:
        values[unstable], residual[unstable] = _by_pivoting(system.select(unstable))
    seconds = time.perf_counter() - start
    return Solution(values, residual <= rtol, iterations, residual, seconds, "same-matrix", fallbacks)


def _by_sweeps(
    system: StencilSystem, alike: Tensor, rtol: float, guess: Tensor | None, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, residuals and corrections of the samples ``alike``; the others' residuals are infinite."""
    one = flat_system(system.select(slice(0, 1)), rtol=rtol, guess=None, limit=limit)
    numbers = one._replace(rhs=flat(system.rhs), guess=one.guess if guess is None else flat(guess))
    batch = Batch(plan_of(system)[0], numbers, system.batch)
    batch.solve_groups(alike.numpy(), _memory(Matrix(system)))
    values = torch.from_numpy(batch.values).reshape(system.rhs.shape)
    return values, torch.from_numpy(batch.residuals), torch.from_numpy(batch.corrections)


@lru_cache(maxsize=2)
def _memory(matrix: Matrix) -> Callable[[], Memory]:
    """Memory for groups of right-hand sides of one matrix, with its factors, which threads and calls share."""
    fronts, _ = plan_of(matrix.system)
    n = len(fronts.place)
    anything = torch.ones_like(matrix.system.rhs)
    one = flat_system(matrix.system, rtol=0.5, guess=None, limit=1)._replace(rhs=flat(anything))
    factors = multifrontal.factors(fronts, np.float64)
    vectors = lane_refinement.vectors(fronts, one.entries, np.float64)
    answers = lane_refinement.Answers(np.zeros(n), np.zeros(1, np.int64), np.zeros(1))
    lane_refinement.solve_groups(fronts, one, np.zeros((1, LANES), np.int64), factors, vectors, answers)
    none = aligned(1, np.float64)
    shared = multifrontal.Factors(_of_one_lane(factors.F), _of_one_lane(factors.U), none, none, none, none)
    entries, scale = one.coefficients.reshape(-1, 1).copy(), vectors.numbers[lane_refinement.SCALE * LANES]

    def memory() -> Memory:
        own = lane_refinement.vectors(fronts, 1, np.float64)._replace(entries=entries)
        own.numbers[lane_refinement.SCALE * LANES : (lane_refinement.SCALE + 1) * LANES] = scale
        return shared, own

    return memory


def _of_one_lane(lanes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(lanes.reshape(-1, LANES)[:, :1])


def _by_dense(
    system: StencilSystem, alike: Tensor, rtol: float, guess: Tensor | None, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`_by_sweeps` by dense LU factors in float64, on the system's device."""
    chosen = torch.zeros(system.batch, dtype=torch.bool, device=system.rhs.device)
    chosen[alike.to(chosen.device)] = True
    u = torch.zeros_like(system.rhs) if guess is None else guess.clone()
    corrections = torch.zeros(system.batch, dtype=torch.int64)
    residual = torch.where(chosen, system.relative_residual(u), torch.inf)
    moving = chosen & ~(residual <= rtol)
    for _ in range(limit):
        if not bool(moving.any()):
            break
        factors, pivots = _dense_factors(Matrix(system))
        step = torch.linalg.lu_solve(factors, pivots, system.residual(u).flatten(1).T).T.reshape(u.shape)
        moved = u + step
        if system.nullspace:
            moved = moved - moved.flatten(1).mean(1).reshape(-1, *[1] * (u.ndim - 1))
        reached = system.relative_residual(moved)
        corrections += moving.cpu()
        moving = moving & (reached < residual)
        u = torch.where(moving.reshape(-1, *[1] * (u.ndim - 1)), moved, u)
        residual = torch.where(moving, reached, residual)
        moving = moving & ~(residual <= rtol)
    return u, residual, corrections


@lru_cache(maxsize=1)
def _dense_factors(matrix: Matrix) -> tuple[Tensor, Tensor]:
    """Pivoted LU factors; where constants are in the kernel, of A + d eᵢeᵢᵀ, which gives solutions with uᵢ = 0."""
    rows, columns, places = (torch.from_numpy(part) for part in matrix.system.pattern)
    coefficients = matrix.system.coefficients.flatten()
    dense = coefficients.new_zeros(matrix.system.unknowns, matrix.system.unknowns)
    dense.index_put_((rows.to(dense.device), columns.to(dense.device)), coefficients[places.to(dense.device)], True)
    if matrix.system.nullspace:
        dense[0, 0] *= 2
    factors, pivots = torch.linalg.lu_factor(dense)
    return factors, pivots


def _by_pivoting(system: StencilSystem) -> tuple[Float[Tensor, "batch *space"], Float[Tensor, " batch"]]:
    """Solutions by SuperLU with partial pivoting, factored once, and their residuals; NaN for a singular matrix."""
    first = 1 if system.nullspace else 0
    values = np.zeros((system.batch, system.unknowns))
    rhs = flat(system.rhs).reshape(values.shape)
    try:
        factors = scipy.sparse.linalg.splu(system.to_csr(0)[first:, first:].tocsc())
        values[:, first:] = factors.solve(np.ascontiguousarray(rhs[:, first:].T)).T
    except RuntimeError:
        values[:] = np.nan
    if system.nullspace:
        values -= values.mean(axis=1, keepdims=True)
    u = torch.from_numpy(values).reshape(system.rhs.shape).to(system.rhs)
    return u, system.relative_residual(u)
