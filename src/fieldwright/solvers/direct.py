"""Direct solution of a batch on one sparsity pattern: LDLᵀ or LU with one sample per SIMD lane, then refinement.

Symbolic work (nested dissection, fronts) is done once per pattern and kept. Numbers are eliminated in float32 without
exchanging rows, eight samples at a time, and the solution is refined in float64 until the true residual meets the
tolerance (`lane_refinement`): half the memory and twice the speed of float64, at its accuracy. Samples that float32
leaves unsolved are eliminated again in float64; samples that this leaves unsolved too are solved by SuperLU, which
exchanges rows, and counted in `Solution.fallbacks`. The true residual is the judge throughout.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import lane_refinement, multifrontal
from fieldwright.solvers.costs import elimination
from fieldwright.solvers.fronts import Fronts, find_fronts
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import Solution, StencilSystem

CORRECTIONS = 10
MAX_BYTES = 4 * 2**30
# Updates of fronts take this much beside the factors, and an estimate of it all may be wrong by the other number.
STACKS, DOUBT = 1.4, 2.0

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


def plan_of(system: StencilSystem) -> tuple[Fronts, Rows]:
    """The symbolic work for systems of this pattern; kept, as it is the same for all of them."""
    return _plan(system.shape, system.boundary, system.offsets, system.kind != "general")


def supports_direct(system: StencilSystem) -> str | None:
    """Why the method should not take the system (its factors would not fit), or None."""
    bytes_needed = 8 * LANES * STACKS * elimination(system)[1]
    # The symbolic work, which knows exactly, is done only where the estimate leaves a doubt.
    if MAX_BYTES / DOUBT < bytes_needed < MAX_BYTES * DOUBT:
        fronts, _ = plan_of(system)
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
    batch = Batch(plan_of(system)[0], flat_system(system, rtol=rtol, guess=guess, limit=limit), system.batch)
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

    def __init__(self, fronts: Fronts, system: lane_refinement.System, samples: int) -> None:
        self.fronts, self.system = fronts, system
        self.values = np.zeros(samples * len(fronts.place))
        self.corrections = np.zeros(samples, np.int64)
        self.residuals = np.full(samples, np.inf)

    def unsolved(self) -> Int64[np.ndarray, " sample"]:
        """The samples whose true residual is above the tolerance."""
        return np.flatnonzero(~(self.residuals <= self.system.rtol))

    def eliminate(self, samples: Int64[np.ndarray, " sample"], precision: type[np.floating]) -> None:
        """Solve some of the samples with factors of a precision, groups of lanes shared out to torch's threads."""

        def memory() -> tuple[multifrontal.Factors, lane_refinement.Vectors]:
            vectors = lane_refinement.vectors(self.fronts, self.system.entries, precision)
            return multifrontal.factors(self.fronts, precision), vectors

        self.solve_groups(samples, memory)

    def solve_groups(
        self,
        samples: Int64[np.ndarray, " sample"],
        memory: Callable[[], tuple[multifrontal.Factors, lane_refinement.Vectors]],
    ) -> None:
        """Solve some of the samples in groups of lanes; each thread asks for ``memory`` of its own."""
        if len(samples) == 0:
            return
        # Lanes beyond the last sample repeat it.
        groups = samples[np.minimum(np.arange(-(-len(samples) // LANES) * LANES), len(samples) - 1)].reshape(-1, LANES)
        answers = lane_refinement.Answers(self.values, self.corrections, self.residuals)

        def run(mine: Int64[np.ndarray, "group lane"]) -> None:
            lane_refinement.solve_groups(self.fronts, self.system, mine, *memory(), answers)

        threads = min(torch.get_num_threads(), len(groups))
        if threads == 1:
            run(groups)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, [np.ascontiguousarray(groups[first::threads]) for first in range(threads)]))


def flat_system(
    system: StencilSystem, *, rtol: float, guess: Float[Tensor, "batch *space"] | None, limit: int
) -> lane_refinement.System:
    """A batch as the compiled refinement reads it."""
    fronts, rows = plan_of(system)
    diagonal = system.offsets.index((0,) * len(system.shape)) * system.unknowns
    return lane_refinement.System(
        *rows,
        coefficients=flat(system.coefficients),
        rhs=flat(system.rhs),
        guess=np.zeros(0) if guess is None else flat(guess),
        entries=len(system.offsets) * system.unknowns,
        symmetric=system.kind != "general",
        pinned=diagonal + int(np.argmax(fronts.place)) if system.nullspace else -1,
        rtol=rtol,
        limit=limit,
    )


def flat(field: Tensor) -> Float64[np.ndarray, " number"]:
    """A tensor's numbers in C order."""
    return field.detach().cpu().double().contiguous().numpy().reshape(-1)
