"""Solvers of a sequence of systems, measured alike: products, CPU time, what they left above the tolerance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64

from fieldwright.gallery.page import Cell
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.direct import direct
from fieldwright.solvers.krylov import (
    DiagonalMatrix,
    KrylovSolution,
    Preconditioner,
    RecycledSpace,
    StencilMatrices,
    ilu0,
    recycled_gcro_dr,
    solve_sequence,
)
from fieldwright.solvers.krylov.sequence import default_preconditioner
from fieldwright.solvers.multigrid import multigrid
from fieldwright.solvers.reference import reference

RTOL = 1e-6
RESTART, RECYCLE = 40, 20
MAX_ITERATIONS = 10_000

PRECONDITIONERS: dict[str, Callable[[DiagonalMatrix], Preconditioner] | None] = {"none": None, "ILU(0)": ilu0}
BATCHED = {
    "elimination of the batch in SIMD lanes": direct,
    "multigrid in SIMD lanes": multigrid,
    "scipy.sparse.linalg.spsolve": reference,
}
DIRECT, MULTIGRID, SCIPY = BATCHED


@dataclass(frozen=True)
class Outcome:
    """What a solver took per system, how many systems it left above the tolerance, and the worst residual.

    ``products`` per system counts all with the matrix, those of recycled directions and of checks among them, and
    ``iterations`` the steps; both are empty for solvers without them.
    """

    solver: str
    preconditioner: str
    milliseconds: float
    residuals: tuple[float, ...]
    rtol: float = RTOL
    products: tuple[int, ...] = ()
    iterations: tuple[int, ...] = ()

    @property
    def failed(self) -> int:
        """Systems above the tolerance."""
        return sum(not residual <= self.rtol for residual in self.residuals)

    @property
    def mean_products(self) -> float:
        """Products per system."""
        return float(np.mean(self.products))

    @property
    def mean_iterations(self) -> float:
        """Steps per system."""
        return float(np.mean(self.iterations))

    def row(self, reference: Cell = None) -> Mapping[str, Cell]:
        """A row of a table, with the products of a reference run beside those measured."""
        return {
            "solver": self.solver,
            "preconditioner": self.preconditioner,
            "products": f"{self.mean_products:.0f}" if self.products else None,
            "reference run": reference,
            "CPU ms": f"{self.milliseconds:.3g}" if self.milliseconds < 1000 else f"{self.milliseconds:.0f}",
            "unsolved": f"{self.failed} of {len(self.residuals)}",
        }


def run_sequence(
    system: StencilSystem,
    order: Sequence[int] | Int64[np.ndarray, " sample"],
    *,
    solver: str,
    preconditioner: str = "none",
    restart: int = RESTART,
    recycle: int = RECYCLE,
    carry: bool = True,
    rtol: float = RTOL,
) -> Outcome:
    """Solve systems one after the other as the paper does: one chain, no guard, one thread; set-up is timed too.

    ``recycle`` = 0 is GMRES; ``carry`` hands the space on to the next system.
    """
    solutions: list[KrylovSolution] = []
    matrices = StencilMatrices(system)
    rhs = system.rhs.flatten(1).numpy()
    space: RecycledSpace | None = None
    prepare = PRECONDITIONERS[preconditioner]
    start = time.process_time()
    for sample in order:
        matrix = matrices[int(sample)]
        solution = recycled_gcro_dr(
            matrix,
            rhs[sample],
            space=space if carry else None,
            preconditioner=prepare(matrix) if prepare else None,
            restart=restart,
            recycle=recycle,
            rtol=rtol,
            max_iterations=MAX_ITERATIONS,
        )
        space = solution.space
        solutions.append(solution)
    spent = time.process_time() - start
    return Outcome(
        solver=solver,
        preconditioner=preconditioner,
        milliseconds=1e3 * spent / len(solutions),
        residuals=tuple(s.residual for s in solutions),
        rtol=rtol,
        products=tuple(s.products for s in solutions),
        iterations=tuple(s.iterations for s in solutions),
    )


def run_batch(system: StencilSystem, solver: str) -> Outcome:
    """Solve the batch by one of `BATCHED`, once to compile and once to be timed (CPU time of all threads)."""
    solution, spent = _timed(lambda: BATCHED[solver](system, rtol=RTOL))
    return Outcome(
        solver=solver,
        preconditioner="–",
        milliseconds=spent / system.batch,
        residuals=tuple(float(r) for r in solution.residual),
    )


def run_library(system: StencilSystem, *, solver: str, recycle: int) -> Outcome:
    """Solve the batch by the library's own sequence: sorted, in pieces, guarded, preconditioned by kind."""
    (solution, report), spent = _timed(lambda: solve_sequence(system, rtol=RTOL, recycle=recycle))
    return Outcome(
        solver=solver,
        preconditioner=default_preconditioner(system),
        milliseconds=spent / system.batch,
        residuals=tuple(float(r) for r in solution.residual),
        products=tuple(int(p) for p in report.products),
        iterations=tuple(int(i) for i in solution.iterations),
    )


Result = TypeVar("Result")


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """The second result of a call, and its CPU milliseconds."""
    call()
    start = time.process_time()
    result = call()
    return result, 1e3 * (time.process_time() - start)


def compile_kernels(system: StencilSystem) -> None:
    """Solve one system in every way that is timed later, so that no timing holds a compilation."""
    with torch.no_grad():
        one = system.select([0, 0])
        for preconditioner in PRECONDITIONERS:
            run_sequence(one, [0, 1], solver="warm-up", preconditioner=preconditioner, restart=6, recycle=3, rtol=0.5)
