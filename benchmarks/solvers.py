"""Milliseconds per system of our solvers against SciPy's and PyAMG's, at the same true residual, on one thread and two.

Darcy's equation with the two-phase coefficient, at 64², 128², 256² and 32³, until ‖f - A u‖ <= 1e-6 ‖f‖, recomputed in
float64 for every candidate. Matrices are assembled beforehand for all: as CSR (CSC for spsolve, which would convert)
for SciPy and PyAMG, as a coefficient tensor for ours, whose times include packing into lanes. Candidates take turns.
CPU time is the process's own, wall time what the user waits; on a quiet machine they agree on one thread.

Run: python benchmarks/solvers.py [size ...]      (needs `pip install fieldwright[peers]`)
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyamg
import scipy.sparse.linalg
import torch

from fieldwright.problems import Darcy
from fieldwright.solvers import METHODS, StencilSystem, solve
from record import record

RTOL = 1e-6
OURS = ("multigrid", "spectral", "direct")
# Resolution and dimension, systems per call of our batched solvers, of the others one by one, and rounds.
SIZES = {
    "64^2": (64, 2, 256, 8, 5),
    "128^2": (128, 2, 128, 3, 5),
    "256^2": (256, 2, 64, 1, 3),
    "32^3": (32, 3, 64, 1, 3),
}
GOALS = {"64^2": 20, "128^2": 25, "256^2": 25, "32^3": 330}


NOTES = (
    "`ratio` is spsolve's wall time on one thread over the row's, median over rounds in which all rows took turns;"
    " `two threads over one` likewise. Goals for the ratio on one thread: "
    + ", ".join(f"{goal} at {size}" for size, goal in GOALS.items())
    + ". PyAMG: Ruge-Stüben hierarchy at default settings as preconditioner of SciPy's CG, set-up included."
)


@dataclass(frozen=True)
class Candidate:
    """A solver with its number of threads, the systems it solves per call, and the call: solutions of those systems."""

    name: str
    threads: int
    systems: int
    call: Callable[[], torch.Tensor]


def main(sizes: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for size in sizes or SIZES:
        rows += measure(size)
        # After every size, so that a run that is cut short has left what it measured.
        record(
            "solvers",
            rows,
            title="Solvers of SPD systems: two-phase Darcy to a true relative residual of 1e-6",
            notes=NOTES,
        )


def measure(size: str) -> Iterator[dict[str, object]]:
    """Rows of one grid size."""
    resolution, dimension, many, few, rounds = SIZES[size]
    problem = Darcy(resolution=resolution, dimension=dimension)
    system = problem.system(problem.sample(range(many), 0))
    candidates = list(_candidates(system, few))
    wall: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], list[float]] = {}
    residual: dict[tuple[str, int], float] = {}
    for turn in range(rounds + 1):
        for one in candidates:
            torch.set_num_threads(one.threads)
            start, start_cpu = time.perf_counter(), time.process_time()
            values = one.call()
            spent, spent_cpu = time.perf_counter() - start, time.process_time() - start_cpu
            key = one.name, one.threads
            if turn == 0:  # compiles, and shows that the answer is right
                residual[key] = float(system.select(slice(0, one.systems)).relative_residual(values).max())
                continue
            wall.setdefault(key, []).append(1e3 * spent / one.systems)
            cpu.setdefault(key, []).append(1e3 * spent_cpu / one.systems)
    torch.set_num_threads(1)
    reference = wall["scipy spsolve", 1]
    for key, times in wall.items():
        name, threads = key
        single = wall[name, 1]
        yield {
            "size": size,
            "solver": name,
            "threads": threads,
            "wall ms": statistics.median(times),
            "cpu ms": statistics.median(cpu[key]),
            "ratio": statistics.median(a / b for a, b in zip(reference, times, strict=True)),
            "two threads over one": (
                statistics.median(a / b for a, b in zip(single, times, strict=True)) if threads == 2 else None
            ),
            "worst residual": residual[key],
        }


def _candidates(system: StencilSystem, few: int) -> Iterator[Candidate]:
    matrices = [system.to_csr(i) for i in range(few)]
    columns = [matrix.tocsc() for matrix in matrices]
    rhs = [system.rhs[i].reshape(-1).numpy() for i in range(few)]

    def spsolve() -> torch.Tensor:
        return _stacked([scipy.sparse.linalg.spsolve(a, b) for a, b in zip(columns, rhs, strict=True)], system)

    def algebraic() -> torch.Tensor:
        return _stacked([_pyamg(a, b) for a, b in zip(matrices, rhs, strict=True)], system)

    yield Candidate("scipy spsolve", 1, few, spsolve)
    yield Candidate("PyAMG RS + CG", 1, few, algebraic)
    for name in OURS:
        # Elimination in 3D fills in too much to be a candidate.
        if name not in METHODS or (name == "direct" and len(system.shape) == 3):
            continue
        for threads in (1, 2):

            def call(name: str = name) -> torch.Tensor:
                return solve(system, rtol=RTOL, method=name).values

            yield Candidate(f"fieldwright {name}", threads, system.batch, call)


def _pyamg(matrix: scipy.sparse.csr_array, rhs: np.ndarray) -> np.ndarray:
    """Set up and solve by SciPy's CG, whose criterion is the residual's own norm (PyAMG's is a preconditioned one)."""
    hierarchy = pyamg.ruge_stuben_solver(scipy.sparse.csr_matrix(matrix))
    u, _ = scipy.sparse.linalg.cg(matrix, rhs, rtol=0.95 * RTOL, M=hierarchy.aspreconditioner())
    return u


def _stacked(solutions: list[np.ndarray], system: StencilSystem) -> torch.Tensor:
    return torch.from_numpy(np.stack(solutions)).reshape(-1, *system.shape)


if __name__ == "__main__":
    main(sys.argv[1:])
