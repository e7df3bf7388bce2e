"""GMRES and GCRO-DR along sequences of systems: the paper's setting, correct matrices, and the solvers beside them.

One run measures, on one thread and with all matrices assembled beforehand,

* the published assembly at n = 9,604 and the same fields with every coupling in its place, to 1e-6: SciPy's gmres,
  GMRES(40) and (400), GCRO-DR(40, 20) with the space carried along the sort, carried as drawn, and fresh for each
  system; without a preconditioner and with ILU(0); HPDDM's GMRES and GCRO-DR on the same matrices where a shared
  library that calls it is at hand (`krylov_candidates` says with what face); the library's own sequence; and the
  batched direct solver;
* the same for finite volumes of Darcy flow at 64² and 128², convection-diffusion and indefinite Helmholtz at 64²;
* what the sort does on 32 x 32 finite volumes: distance of neighbours' invariant subspaces, and products.

Candidates take turns system by system, so a machine that slows down slows all of them. Preconditioners are counted with
the solve. A row of the paper's setting has the products of an earlier, independent run of HPDDM beside it.

Run: python benchmarks/recycling.py [--hpddm DRIVER.so] [--systems 100] [--only SETTING ...]
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldwright.gallery.krylov_recycling.published_assembly import published_permeability, published_systems
from fieldwright.problems import Darcy, Helmholtz
from fieldwright.problems.convection_diffusion import ConvectionDiffusion
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.direct import direct
from fieldwright.solvers.krylov import (
    StencilMatrices,
    recycled_gcro_dr,
    smallest_invariant_subspace,
    solve_sequence,
    subspace_distance,
)
from fieldwright.solvers.krylov.sequence import default_preconditioner, system_parameters
from fieldwright.solvers.multigrid import multigrid, supports_multigrid
from fieldwright.solvers.ordering import similarity_order
from fieldwright.solvers.reference import reference
from fieldwright.solvers.threads import one_blas_thread
from krylov_candidates import RTOL, Answer, Hpddm, Ours, Problem, SciPy, load_hpddm
from record import record

FEW = 4  # systems of rows that take seconds each
OTHER_SEEDS = (1, 2)
SORTED, DRAWN, FRESH = "sorted", "as drawn", "fresh space"
# Products per system of an independent run of HPDDM on other fields of the same law; GMRES(40) on 20 systems.
EARLIER = {
    ("published", "GMRES(40)", "none"): 9605, ("published", "GMRES(40)", "ILU(0)"): 3115,
    ("published", SORTED, "none"): 752, ("published", DRAWN, "none"): 748, ("published", FRESH, "none"): 683,
    ("published", SORTED, "ILU(0)"): 158, ("published", DRAWN, "ILU(0)"): 162, ("published", FRESH, "ILU(0)"): 147,
    ("aligned", "GMRES(40)", "none"): 902, ("aligned", "GMRES(40)", "ILU(0)"): 60,
    ("aligned", SORTED, "none"): 278, ("aligned", DRAWN, "none"): 284, ("aligned", FRESH, "none"): 392,
    ("aligned", SORTED, "ILU(0)"): 45, ("aligned", DRAWN, "ILU(0)"): 47, ("aligned", FRESH, "ILU(0)"): 59,
}  # fmt: skip


@dataclass
class Run:
    """A candidate along its order, and what it took so far."""

    solver: str
    preconditioner: str
    how: str
    call: Callable[[int], Answer]
    order: Sequence[int]
    seconds: dict[int, float] = field(default_factory=dict)
    products: list[int] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    library = load_hpddm(arguments.hpddm) if arguments.hpddm else None
    rows: list[dict[str, object]] = []
    sentences: list[str] = []
    for name, make in SETTINGS.items():
        if arguments.only and name not in arguments.only:
            continue
        measured = list(measure(make(arguments.systems), hpddm=library))
        if name in ("published", "aligned"):
            add_seeds(measured, name, arguments.systems)
        rows += measured
        sentences.append(winner(name, measured))
        write(rows, sentences)
    if not arguments.only or "related" in arguments.only:
        rows += list(measure_related(min(200, 2 * arguments.systems)))
        write(rows, sentences)


def write(rows: list[dict[str, object]], sentences: list[str]) -> None:
    """After every setting, so that a run that is cut short has left what it measured."""
    record(
        "recycling",
        rows,
        title="Krylov recycling along sequences of systems",
        notes=NOTES + "\n\n" + "\n".join(sentences),
    )


NOTES = """
CPU time per system, one thread, set-up of the preconditioner included; means over the systems of a row. `over SciPy` is
the time of SciPy's gmres(40) with the same preconditioner over the row's, on the same systems (for batched solvers:
without a preconditioner, means). `products` counts all with the matrix: those of the 20 recycled directions at the
start of a system, and checks of the residual. HPDDM recomputes its residual after every cycle, one product in twenty
more than ours; its iterations are the figures to compare with ours. `earlier run` is an independent run of HPDDM on
other fields of the same law: where ours differs from it, `other seeds` shows how much the fields do. SciPy
preconditions on the left, all others on the right. Distances are sines of the largest angle between the invariant
subspaces of neighbours' three smallest eigenvalues.
"""


def _published(systems: int, *, aligned: bool, seed: int = 0) -> Problem:
    fields = published_permeability(100, range(systems), seed)
    system = published_systems(fields, aligned=aligned)
    return Problem("aligned" if aligned else "published", system, similarity_order(fields, method="published"))


def _darcy(systems: int, resolution: int) -> Problem:
    problem = Darcy(resolution=resolution)
    inputs = problem.sample(range(min(systems, 32)), 0)
    return Problem(f"Darcy {resolution}²", problem.system(inputs), similarity_order(inputs))


def _convection(systems: int) -> Problem:
    problem = ConvectionDiffusion(resolution=64, diffusivity=0.01)
    system = problem.system(problem.sample(range(min(systems, 32)), 0))
    return Problem("convection 64²", system, similarity_order(system_parameters(system)))


def _waves(systems: int) -> Problem:
    problem = Helmholtz(
        resolution=64, wavenumber=20.0, medium="gaussian", source="gaussian", wall_low=0.0, wall_high=0.0
    )
    system = problem.system(problem.sample(range(min(systems, 32)), 0))
    return Problem("Helmholtz 64²", system, similarity_order(system_parameters(system)))


SETTINGS: dict[str, Callable[[int], Problem]] = {
    "published": lambda systems: _published(systems, aligned=False),
    "aligned": lambda systems: _published(systems, aligned=True),
    "darcy-64": lambda systems: _darcy(systems, 64),
    "darcy-128": lambda systems: _darcy(systems, 128),
    "convection": _convection,
    "helmholtz": _waves,
}


def measure(problem: Problem, *, hpddm: ctypes.CDLL | None) -> Iterator[dict[str, object]]:
    """Rows of one setting: candidates in turns, then the batched solvers."""
    small = published_systems(published_permeability(14, range(2), 0))
    for run in _runs(Problem("warm-up", small, np.arange(2)), hpddm=hpddm):  # compiles
        run.call(0)
        run.call(1)
    runs = list(_runs(problem, hpddm=hpddm))
    for turn in range(problem.system.batch):
        for run in runs:
            if turn < len(run.order):
                _advance(run, problem, int(run.order[turn]))
    scipy_seconds = {r.preconditioner: r.seconds for r in runs if r.solver == "SciPy gmres(40)"}
    for run in runs:
        theirs = scipy_seconds[run.preconditioner]
        yield {
            "setting": problem.name,
            "solver": run.solver,
            "sequence": run.how,
            "preconditioner": run.preconditioner,
            "systems": len(run.residuals),
            "products": float(np.mean(run.products)),
            "iterations": float(np.mean(run.iterations)),
            "CPU ms": 1e3 * float(np.mean(list(run.seconds.values()))),
            "over SciPy": sum(theirs.values()) / sum(run.seconds[sample] for sample in theirs),
            "unsolved": sum(not r <= RTOL for r in run.residuals),
            "worst residual": max(run.residuals),
            "earlier run": EARLIER.get((problem.name, run.how or run.solver, run.preconditioner))
            if "HPDDM" not in run.solver
            else None,
        }
    yield from _batched(problem, float(np.mean(list(scipy_seconds["none"].values()))))


def _runs(problem: Problem, *, hpddm: ctypes.CDLL | None) -> Iterator[Run]:
    drawn = np.arange(problem.system.batch)
    few = drawn[:FEW]
    for incomplete in (False, True):
        name = "ILU(0)" if incomplete else "none"
        yield Run("SciPy gmres(40)", name, "", SciPy(problem, incomplete=incomplete), few)
        for restart in (40, 400):
            gmres = Ours(problem, restart=restart, recycle=0, carry=False, incomplete=incomplete)
            yield Run(f"GMRES({restart})", name, "", gmres, few)
        for how, order, carry in ((SORTED, problem.order, True), (DRAWN, drawn, True), (FRESH, drawn, False)):
            recycling = Ours(problem, restart=40, recycle=20, carry=carry, incomplete=incomplete)
            yield Run("GCRO-DR(40, 20)", name, how, recycling, order)
        if hpddm is not None:
            plain = Hpddm(hpddm, problem, method="gmres", carry=False, incomplete=incomplete)
            yield Run("HPDDM GMRES(40)", name, "", plain, few)
            for how, order, carry in ((SORTED, problem.order, True), (DRAWN, drawn, True), (FRESH, drawn, False)):
                theirs = Hpddm(hpddm, problem, method="gcrodr", carry=carry, incomplete=incomplete)
                yield Run("HPDDM GCRO-DR(40, 20)", name, how, theirs, order)


def _advance(run: Run, problem: Problem, sample: int) -> None:
    start = time.process_time()
    x, products, iterations = run.call(sample)
    run.seconds[sample] = time.process_time() - start
    b = problem.rhs[sample]
    run.products.append(products)
    run.iterations.append(iterations)
    run.residuals.append(float(np.linalg.norm(b - problem.rows[sample] @ x) / np.linalg.norm(b)))


def _batched(problem: Problem, scipy_seconds: float) -> Iterator[dict[str, object]]:
    """The library's sequences, the batched solvers, and SciPy's direct one."""
    system = problem.system
    candidates: dict[str, tuple[Callable[[], Any], StencilSystem]] = {
        "gmres, as the library runs it": (lambda: solve_sequence(system, rtol=RTOL, recycle=0)[0], system),
        "gcro-dr, as the library runs it": (lambda: solve_sequence(system, rtol=RTOL)[0], system),
        "direct, batched": (lambda: direct(system, rtol=RTOL), system),
    }
    if supports_multigrid(system) is None:
        candidates["multigrid, batched"] = (lambda: multigrid(system, rtol=RTOL), system)
    some = system.select(torch.arange(min(FEW, system.batch)))
    candidates["scipy spsolve"] = (lambda: reference(some, rtol=RTOL), some)
    for name, (call, solved) in candidates.items():
        call()
        rounds = 1 if "library" in name else 3
        start = time.process_time()
        for _ in range(rounds):
            solution = call()
        each = (time.process_time() - start) / rounds / solved.batch
        yield {
            "setting": problem.name,
            "solver": name,
            "preconditioner": default_preconditioner(system) if "library" in name else None,
            "systems": solved.batch,
            "iterations": float(solution.iterations.double().mean()) if "library" in name else None,
            "CPU ms": 1e3 * each,
            "over SciPy": scipy_seconds / each,
            "unsolved": len(solution.failed),
            "worst residual": float(solution.residual.max()),
        }


def add_seeds(rows: list[dict[str, object]], name: str, systems: int) -> None:
    """The products of GCRO-DR without a preconditioner on the fields of other seeds, into its rows."""
    found: dict[str, list[str]] = {SORTED: [], DRAWN: [], FRESH: []}
    for seed in OTHER_SEEDS:
        problem = _published(systems, aligned=name == "aligned", seed=seed)
        drawn = np.arange(problem.system.batch)
        for how, order, carry in ((SORTED, problem.order, True), (DRAWN, drawn, True), (FRESH, drawn, False)):
            call = Ours(problem, restart=40, recycle=20, carry=carry, incomplete=False)
            found[how].append(f"{np.mean([call(int(sample))[1] for sample in order]):.0f}")
    for row in rows:
        if row["solver"] == "GCRO-DR(40, 20)" and row["preconditioner"] == "none":
            row["other seeds"] = ", ".join(found[str(row["sequence"])])


def winner(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on who solved all systems in the least time, and where recycling stands."""
    solved = [row for row in rows if row["unsolved"] == 0]
    best = min(solved, key=lambda row: row["CPU ms"])
    krylov = min(
        (r for r in solved if "batched" not in r["solver"] and "spsolve" not in r["solver"]), key=lambda r: r["CPU ms"]
    )
    recycled = min(
        (r for r in solved if r.get("sequence") == SORTED and "HPDDM" not in r["solver"]), key=lambda r: r["CPU ms"]
    )
    return (
        f"- {name}: {best['solver']} wins with {best['CPU ms']:.3g} ms a system; the fastest Krylov method,"
        f" {_called(krylov)}, takes {krylov['CPU ms'] / best['CPU ms']:.3g} times as long, and recycling along the sort"
        f" ({_called(recycled)}) {recycled['CPU ms'] / best['CPU ms']:.3g} times."
    )


def _called(row: Mapping[str, Any]) -> str:
    words = [row["solver"], row.get("sequence") or "", f"preconditioner {row['preconditioner']}"]
    return ", ".join(word for word in words if word)


def measure_related(systems: int) -> Iterator[dict[str, object]]:
    """Finite volumes on 32 x 32 cells, unpreconditioned, to 1e-8: two families, two seeds, four orders."""
    for family in ("log-normal", "two-phase"):
        for seed in (0, 1):
            problem = Darcy(resolution=32, coefficient=family)
            inputs = problem.sample(range(systems), seed)
            system = problem.system(inputs)
            matrices = StencilMatrices(system)
            rhs = system.rhs.flatten(1).numpy()
            nearest = [smallest_invariant_subspace(matrices[i], 3) for i in range(systems)]
            orders = {
                "sorted": similarity_order(inputs),
                "published sort": similarity_order(inputs, method="published"),
                DRAWN: np.arange(systems),
                FRESH: np.arange(systems),
            }
            for how, order in orders.items():
                space, products, start = None, [], time.process_time()
                for sample in order:
                    solution = recycled_gcro_dr(matrices[int(sample)], rhs[sample], rtol=1e-8, space=space)
                    space = None if how == FRESH else solution.space
                    products.append(solution.products)
                spent = time.process_time() - start
                steps = [subspace_distance(nearest[b], nearest[a]) for a, b in pairwise(order)]
                yield {
                    "setting": f"32² {family}, seed {seed}",
                    "solver": "GCRO-DR(40, 20)",
                    "sequence": how,
                    "preconditioner": "none",
                    "systems": systems,
                    "products": float(np.mean(products)),
                    "CPU ms": 1e3 * spent / systems,
                    "distance of neighbours": None if how == FRESH else float(np.mean(steps)),
                    "products, systems 6 to 80": float(np.mean(products[5:80])),
                }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hpddm", type=Path, help="shared library that calls HPDDM, see krylov_candidates.py")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=[*SETTINGS, "related"])
    return parser.parse_args()


if __name__ == "__main__":
    with one_blas_thread():
        main(arguments())
