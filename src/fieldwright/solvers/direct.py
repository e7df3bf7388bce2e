"""Direct solution of a batch on one sparsity pattern: LDLᵀ or LU with one sample per SIMD lane, then refinement.

Symbolic work (nested dissection, fronts) is done once per pattern and kept. Numbers are eliminated without pivoting,
eight samples at a time; then u += A⁻¹ (f - A u) in float64 until the true residual meets the tolerance. Elimination
without pivoting is stable for positive definite and diagonally dominant matrices and usually good enough for others;
where it is not, growth of the factors or a residual that stays above the tolerance shows it, and that sample alone is
solved by SuperLU with partial pivoting and counted in `Solution.fallbacks`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import multifrontal
from fieldwright.solvers.lanes import LANES, aligned
from fieldwright.solvers.nested_dissection import Fronts, find_fronts
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import Solution, StencilSystem

CORRECTIONS = 6
MAX_GROWTH = 1e8
MAX_BYTES = 4 * 2**30

Rows = tuple[Int64[np.ndarray, " row_1"], Int64[np.ndarray, " entry"], Int64[np.ndarray, " entry"]]


@lru_cache(maxsize=8)
def _plan(
    shape: tuple[int, ...], boundary: Boundary, offsets: tuple[tuple[int, ...], ...], symmetric: bool
) -> tuple[Fronts, Rows]:
    """The fronts, and the pattern by rows (start of each row, columns, places in the coefficients)."""
    empty = torch.empty(0, len(offsets), *shape, dtype=torch.float64)
    rows, columns, places = StencilSystem(empty, empty[:, 0], offsets, boundary).pattern
    by_row = np.argsort(rows, kind="stable")
    rows_at = np.searchsorted(rows[by_row], np.arange(int(np.prod(shape)) + 1))
    fronts = find_fronts(shape, boundary.periodic, offsets, (rows, columns, places), symmetric=symmetric)
    return fronts, (rows_at.astype(np.int64), columns[by_row].astype(np.int64), places[by_row].astype(np.int64))


def _plan_of(system: StencilSystem) -> tuple[Fronts, Rows]:
    return _plan(system.shape, system.boundary, system.offsets, system.kind != "general")


def supports_direct(system: StencilSystem) -> str | None:
    """Why the method should not take the system (its factors would not fit), or None."""
    widest = system.unknowns // max(system.shape) * max(max(abs(s) for s in o) for o in system.offsets)
    bytes_needed = 64 * widest**2
    if bytes_needed <= MAX_BYTES:
        fronts, _ = _plan_of(system)
        bytes_needed = 64 * (2 * int(fronts.factor_at[-1]) + 2 * fronts.stack)
    if bytes_needed > MAX_BYTES:
        return (
            f"a direct solve of {' x '.join(map(str, system.shape))} unknowns needs {bytes_needed / 2**30:.0f} GiB"
            f" for each thread, above the limit of {MAX_BYTES / 2**30:.0f}"
        )
    return None


@torch.no_grad()
def direct(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch of any kind, in 1 to 3 dimensions, by elimination; ``iterations`` counts corrections.

    Errors: `SolverError` when the factors of one group of lanes would take more than `MAX_BYTES`.
    """
    reason = supports_direct(system)
    if reason is not None:
        raise SolverError(f"solve: {reason}")
    start = time.perf_counter()
    limit = CORRECTIONS if max_iterations is None else min(max_iterations, CORRECTIONS)
    group = Elimination(system, rtol, guess, limit)
    firsts = list(range(0, system.batch, LANES))
    threads = max(1, min(torch.get_num_threads(), len(firsts)))
    if threads == 1:
        group.run(firsts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(group.run, [firsts[i::threads] for i in range(threads)]))
    values = torch.from_numpy(group.u).reshape(system.rhs.shape).to(system.rhs.device)
    residual = system.relative_residual(values)
    failed = (~(residual <= rtol)).nonzero().flatten()
    if len(failed) > 0 and max_iterations is None:
        mended = reference(system.select(failed), rtol=rtol)
        values[failed], residual[failed] = mended.values, mended.residual
    return Solution(
        values=values,
        converged=residual <= rtol,
        iterations=torch.from_numpy(group.corrections),
        residual=residual,
        seconds=time.perf_counter() - start,
        method="direct",
        fallbacks=len(failed) if max_iterations is None else 0,
    )


class Elimination:
    """One batch's numbers, solved in groups of lanes; `run` works on some of the groups with memory of its own."""

    def __init__(
        self, system: StencilSystem, rtol: float, guess: Float[Tensor, "batch *space"] | None, limit: int
    ) -> None:
        self._fronts, self._rows = _plan_of(system)
        self._flat = tuple(getattr(self._fronts, f.name) for f in fields(Fronts) if f.name != "stack")
        self._symmetric = system.kind != "general"
        self._nullspace = system.nullspace
        self._limit = limit
        self._f = _numpy(system.rhs)
        self._coefficients = _numpy(system.coefficients)
        diagonal = system.offsets.index((0,) * len(system.shape)) * system.unknowns
        self._pinned = diagonal + int(np.argmax(self._fronts.place)) if system.nullspace else None
        self._target = rtol * np.linalg.norm(self._f, axis=1)
        self.u = np.zeros_like(self._f) if guess is None else _numpy(guess).copy()
        self.corrections = np.zeros(system.batch, np.int64)

    def run(self, firsts: list[int]) -> None:
        """Solve the groups of samples that start at ``firsts``."""
        work = multifrontal.workspace(self._fronts, self._coefficients.shape[1], symmetric=self._symmetric)
        for first in firsts:
            self._solve_group(first, work)

    def _solve_group(self, first: int, work: multifrontal.Workspace) -> None:
        real = min(LANES, len(self._f) - first)
        # Lanes beyond the batch repeat its last sample; nothing is kept of them.
        samples = np.minimum(np.arange(first, first + LANES), len(self._f) - 1)
        f, u, r = (aligned(self._f.shape[1], np.float64) for _ in range(3))
        as_rows = lambda flat: flat.reshape(-1, LANES)  # noqa: E731
        as_rows(f)[:] = self._f[samples].T
        as_rows(u)[:] = self.u[samples].T
        corrections = np.zeros(LANES, np.int64)
        steady = np.ones(LANES, bool)
        multifrontal.pack(self._coefficients, samples, work.entries)
        for step in range(self._limit + 1):
            multifrontal.residual(*self._rows, work.entries, f, u, r)
            active = ~(np.linalg.norm(as_rows(r), axis=0) <= self._target[samples]) & steady
            if step == self._limit or not active.any():
                break
            if step == 0:
                self._factor(work)
                steady = work.growth < MAX_GROWTH**2
                active &= steady
            as_rows(work.x)[self._fronts.place] = as_rows(r)
            multifrontal.substitute(self._flat, self._symmetric, work)
            as_rows(u)[:] += np.where(active, as_rows(work.x)[self._fronts.place], 0.0)
            corrections += active
        values = as_rows(u).T[:real]
        self.u[first : first + real] = values - values.mean(axis=1, keepdims=True) if self._nullspace else values
        self.corrections[first : first + real] = corrections[:real]

    def _factor(self, work: multifrontal.Workspace) -> None:
        if self._pinned is None:
            multifrontal.factor(self._flat, self._symmetric, work)
            return
        # A + d eᵢeᵢᵀ is regular, and u with A u = f, uᵢ = 0 solves it too: this pins the unknown eliminated last.
        pinned = slice(self._pinned * LANES, (self._pinned + 1) * LANES)
        kept = work.entries[pinned].copy()
        work.entries[pinned] *= 2
        multifrontal.factor(self._flat, self._symmetric, work)
        work.entries[pinned] = kept


def _numpy(field: Tensor) -> Float64[np.ndarray, "batch point"]:
    return field.detach().cpu().double().reshape(field.shape[0], -1).contiguous().numpy()
