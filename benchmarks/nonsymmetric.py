"""Milliseconds per system on non-symmetric and indefinite systems: batched elimination against all that can be had.

Upwind convection-diffusion with a swirling wind (ε = 0.01), indefinite Helmholtz (k = 20 ± 20 %, walls at zero), the
Helmholtz equation with absorbing walls as the real pair of its parts, and linear elasticity, at 64² and 128², until
‖f - A u‖ <= 1e-10 ‖f‖, recomputed in float64 for every candidate. Otherwise as `benchmarks/solvers.py`.

Run: python benchmarks/nonsymmetric.py [family ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fieldwright.problems import ConvectionDiffusion, Elasticity, Helmholtz, SteadyProblem
from fieldwright.solvers.threads import one_blas_thread
from peers import (
    Assembled,
    Contest,
    Peer,
    Petsc,
    cholmod,
    ours,
    pardiso,
    rows_of,
    splu_reused,
    spsolve,
    take_turns,
)  # fmt: skip
from record import record

RTOL = 1e-10
GOAL = 10
ROUNDS = 3
# Where the published studies let GMRES go on to: it does not converge on indefinite systems.
GMRES_LIMIT = 2000


def _helmholtz(resolution: int, walls: str) -> Helmholtz:
    return Helmholtz(
        resolution=resolution, wavenumber=[16.0, 24.0], medium="gaussian", source="gaussian", wall_low=0.0,
        wall_high=0.0, walls=walls,
    )  # fmt: skip


FAMILIES: dict[str, dict[int, SteadyProblem]] = {
    "convection-diffusion": {n: ConvectionDiffusion(resolution=n) for n in (64, 128)},
    "Helmholtz": {n: _helmholtz(n, "dirichlet") for n in (64, 128)},
    "Helmholtz, absorbing": {n: _helmholtz(n, "absorbing") for n in (64, 128)},
    "elasticity": {n: Elasticity(resolution=n) for n in (64, 128)},
}
# Systems per call of batched elimination and of the others one by one.
COUNTS = {64: (128, 4), 128: (64, 1)}
# Systems of a sequence: enough to recycle from where a system takes milliseconds, few where it takes seconds.
CHAINS = {"convection-diffusion": {64: 32, 128: 8}, "Helmholtz": {64: 32, 128: 8}}

NOTES = (
    "`ratio` is spsolve's wall time on one thread over the row's, median over rounds in which all rows took turns;"
    f" `two threads over one` likewise. Goal for batched elimination on one thread: {GOAL}. Pardiso and CHOLMOD analyse"
    " the pattern once. GMRES(40)+ILU is cut off after 2000 iterations. Our GMRES and GCRO-DR take the complete factors"
    " of an earlier sample (Helmholtz), transforms (elasticity) or ILU(0) as preconditioner, and hand samples on which"
    " they fail to elimination."
)


def main(families: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for family in families or FAMILIES:
        for resolution, problem in FAMILIES[family].items():
            rows += measure(family, resolution, problem)
            record(
                "nonsymmetric",
                rows,
                title="Solvers of non-symmetric and indefinite systems, to a true relative residual of 1e-10",
                notes=NOTES,
            )


def measure(family: str, resolution: int, problem: SteadyProblem) -> Iterator[dict[str, object]]:
    """Rows of one family at one resolution."""
    many, few = COUNTS[resolution]
    chain = CHAINS.get(family, {}).get(resolution, 1)
    system = problem.system(problem.sample(range(many), 0))
    systems = Assembled.of(system, few)
    definite = system.kind == "spd"
    with Petsc(systems, RTOL, {"GMRES(40)+ILU": ("gmres", "ilu")}, limit=GMRES_LIMIT) as petsc:
        found: list[Peer] = [spsolve(systems), splu_reused(systems, definite=definite), pardiso(systems, system.kind)]
        found += [cholmod(systems)] if definite else []
        contestants = [Contest(peer.name, 1, few, peer.run, peer.reason) for peer in (*found, *petsc)]
        some = system.select(slice(0, chain))
        for name in ("gmres", "gcro-dr"):
            contestants.append(Contest(f"fieldwright {name}", 1, chain, ours(some, name, 1, RTOL)))
        for threads in (1, 2):
            contestants.append(Contest("fieldwright direct", threads, many, ours(system, "direct", threads, RTOL)))
        for line in take_turns(contestants, system, RTOL, ROUNDS):
            print(f"{family} {resolution}^2: {line}", file=sys.stderr, flush=True)
    yield from rows_of(contestants, family=family, size=f"{resolution}^2")


if __name__ == "__main__":
    with one_blas_thread():
        main(sys.argv[1:])
