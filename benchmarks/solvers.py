"""Milliseconds per system of our solvers against all that can be had, at the same true residual, on one thread and two.

Darcy's equation with the two-phase coefficient, at 64², 128², 256² and 32³, until ‖f - A u‖ <= 1e-6 ‖f‖, recomputed in
float64 for every candidate. Matrices are assembled beforehand for all: as CSR (CSC for SuperLU and CHOLMOD) for the
peers, as a coefficient tensor for ours, whose times include packing into lanes. Candidates take turns. CPU time is the
process's own, wall time what the user waits; on a quiet machine they agree on one thread.

Run: python benchmarks/solvers.py [size ...]      (needs `pip install fieldwright[peers]`; PETSc from Debian's
python3-petsc4py, or by PETSC_PYTHON and PETSC_DIR; CHOLMOD needs libsuitesparse-dev when scikit-sparse is built)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fieldwright.problems import Darcy
from fieldwright.solvers.threads import one_blas_thread
from peers import (
    Assembled,
    Contest,
    Peer,
    Petsc,
    cholmod,
    ours,
    pardiso,
    pyamg,
    rows_of,
    splu_reused,
    spsolve,
    take_turns,
)  # fmt: skip
from record import record

RTOL = 1e-6
OURS = ("multigrid", "spectral", "direct")
PETSC = {"GMRES(40)+ILU": ("gmres", "ilu"), "CG+ICC": ("cg", "icc"), "CG+GAMG": ("cg", "gamg")}
# Resolution and dimension, systems per call of our batched solvers, of the others one by one, of GCRO-DR, and rounds.
SIZES = {
    "64^2": (64, 2, 256, 8, 64, 5),
    "128^2": (128, 2, 128, 3, 32, 5),
    "256^2": (256, 2, 64, 1, 8, 3),
    "32^3": (32, 3, 64, 1, 8, 3),
}
GOALS = {"64^2": 20, "128^2": 25, "256^2": 25, "32^3": 330}

NOTES = (
    "`ratio` is spsolve's wall time on one thread over the row's, median over rounds in which all rows took turns;"
    " `two threads over one` likewise. Goals for the ratio on one thread: "
    + ", ".join(f"{goal} at {size}" for size, goal in GOALS.items())
    + ". Peers at default settings: CHOLMOD and Pardiso analyse the pattern once; PyAMG's hierarchy and PETSc's"
    " preconditioners are set up for every system, and the criterion is the true residual's norm. SKR is our"
    " GCRO-DR(40, 20) along the similarity sort, preconditioned by transforms."
)


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
    resolution, dimension, many, few, chain, rounds = SIZES[size]
    problem = Darcy(resolution=resolution, dimension=dimension)
    system = problem.system(problem.sample(range(many), 0))
    systems = Assembled.of(system, few)
    with Petsc(systems, RTOL, PETSC) as petsc:
        found: list[Peer] = [spsolve(systems), splu_reused(systems, definite=True)]
        found += [cholmod(systems), pardiso(systems, "spd")]
        found += [*petsc, pyamg(systems, RTOL)]
        contestants = [Contest(peer.name, 1, few, peer.run, peer.reason) for peer in found]
        some = system.select(slice(0, chain))
        contestants.append(Contest("fieldwright gcro-dr (SKR)", 1, chain, ours(some, "gcro-dr", 1, RTOL)))
        for name in OURS:
            # Elimination in 3D fills in too much to be a candidate.
            if name == "direct" and dimension == 3:
                continue
            for threads in (1, 2):
                contestants.append(Contest(f"fieldwright {name}", threads, many, ours(system, name, threads, RTOL)))
        for line in take_turns(contestants, system, RTOL, rounds):
            print(f"{size}: {line}", file=sys.stderr, flush=True)
    yield from rows_of(contestants, size=size)


if __name__ == "__main__":
    with one_blas_thread():
        main(sys.argv[1:])
