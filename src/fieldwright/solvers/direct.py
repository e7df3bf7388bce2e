"""Direct solution of a batch on one sparsity pattern: LDLᵀ or LU with one sample per SIMD lane, then refinement.

Symbolic work (nested dissection, fronts) is done once per pattern and kept. Numbers are eliminated in float32 without
exchanging rows, eight samples at a time, and the solution is refined in float64 until the true residual meets the
tolerance (`lane_refinement`): half the memory and twice the speed of float64, at its accuracy. Samples that float32
leaves unsolved are eliminated again in float64; samples that this leaves unsolved too are solved by SuperLU, which
exchanges rows, and counted in `Solution.fallbacks`. The true residual is the judge throughout.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import lane_refinement, multifrontal
from fieldwright.solvers.fronts import Fronts, find_fronts
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import Solution, StencilSystem

CORRECTIONS = 10
MAX_BYTES = 4 * 2**30
# All fronts together hold at least this many times the square of the grid's cross-section.
FRONTS_TO_WIDEST = 8
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
    bytes_needed = 8 * LANES * FRONTS_TO_WIDEST * widest**2
    if bytes_needed <= MAX_BYTES:
        fronts, _ = _plan_of(system)
        bytes_needed = 8 * LANES * (int(fronts.factor_at[-1]) + fronts.upper + 2 * fronts.stack)
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
    batch = Batch(system, rtol, guess, limit)
    batch.eliminate(np.arange(system.batch), np.float32)
    if max_iterations is None:
        batch.eliminate(batch.unsolved(), np.float64)
    values = torch.from_numpy(batch.values).reshape(system.rhs.shape).to(system.rhs.device)
    residual = torch.from_numpy(batch.residuals)
    failed = torch.from_numpy(batch.unsolved())
    if len(failed) > 0 and max_iterations is None:
        mended = reference(system.select(failed.to(system.rhs.device)), rtol=rtol)
        values[failed], residual[failed] = mended.values, mended.residual.cpu()
    return Solution(
        values=values,
        converged=residual <= rtol,
        iterations=torch.from_numpy(batch.corrections),
        residual=residual,
        seconds=time.perf_counter() - start,
        method="direct",
        fallbacks=len(failed) if max_iterations is None else 0,
    )


class Batch:
    """One batch's numbers as flat arrays, and what is found for each sample."""

    def __init__(
        self, system: StencilSystem, rtol: float, guess: Float[Tensor, "batch *space"] | None, limit: int
    ) -> None:
        self._fronts, rows = _plan_of(system)
        self._rtol = rtol
        diagonal = system.offsets.index((0,) * len(system.shape)) * system.unknowns
        self._system = lane_refinement.System(
            *rows,
            coefficients=_flat(system.coefficients),
            rhs=_flat(system.rhs),
            guess=np.zeros(0) if guess is None else _flat(guess),
            entries=len(system.offsets) * system.unknowns,
            symmetric=system.kind != "general",
            pinned=diagonal + int(np.argmax(self._fronts.place)) if system.nullspace else -1,
            rtol=rtol,
            limit=limit,
        )
        self.values = np.zeros(system.batch * system.unknowns)
        self.corrections = np.zeros(system.batch, np.int64)
        self.residuals = np.full(system.batch, np.inf)

    def unsolved(self) -> Int64[np.ndarray, " sample"]:
        """The samples whose true residual is above the tolerance."""
        return np.flatnonzero(~(self.residuals <= self._rtol))

    def eliminate(self, samples: Int64[np.ndarray, " sample"], precision: type[np.floating]) -> None:
        """Solve some of the samples with factors of a precision, groups of lanes shared out to torch's threads."""
        groups = [samples[first : first + LANES] for first in range(0, len(samples), LANES)]
        threads = min(torch.get_num_threads(), len(groups))
        if threads <= 1:
            self._run(groups, precision)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda first: self._run(groups[first::threads], precision), range(threads)))

    def _run(self, groups: list[np.ndarray], precision: type[np.floating]) -> None:
        if not groups:
            return
        factors = multifrontal.factors(self._fronts, precision)
        vectors = lane_refinement.vectors(self._fronts, self._system.entries, precision)
        answers = lane_refinement.Answers(self.values, self.corrections, self.residuals)
        for group in groups:
            # Lanes beyond the last sample repeat it.
            lanes = np.pad(group, (0, LANES - len(group)), mode="edge")
            lane_refinement.solve_group(self._fronts, self._system, lanes, factors, vectors, answers)


def _flat(field: Tensor) -> Float64[np.ndarray, " number"]:
    return field.detach().cpu().double().contiguous().numpy().reshape(-1)
