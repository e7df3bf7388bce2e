"""Where recycling stands among the solvers: finite volumes, convection, indefinite waves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fieldwright.gallery.krylov_recycling.contest import (
    DIRECT,
    MULTIGRID,
    RECYCLE,
    SCIPY,
    Outcome,
    compile_kernels,
    run_batch,
    run_library,
    run_sequence,
)
from fieldwright.gallery.krylov_recycling.effort import Effort
from fieldwright.gallery.krylov_recycling.published_setting import GMRES, ILU, PLAIN, SORTED
from fieldwright.gallery.page import Cell, Table
from fieldwright.problems import Darcy, Helmholtz, SteadyProblem
from fieldwright.problems.convection_diffusion import ConvectionDiffusion
from fieldwright.solvers.krylov.sequence import system_parameters
from fieldwright.solvers.ordering import similarity_order

DARCY, CONVECTION, WAVES = "Darcy, two-phase 3/12", "convection-diffusion, ε = 0.01", "Helmholtz, k = 20 ± 20 %"
OUR_GMRES, OUR_RECYCLING = "the library's gmres", "the library's gcro-dr"


@dataclass(frozen=True)
class Others:
    """What was measured, by problem and (solver, preconditioner)."""

    results: Mapping[str, Mapping[tuple[str, str], Outcome]]


def problems(effort: Effort) -> dict[str, SteadyProblem]:
    """Positive definite, non-symmetric and indefinite."""
    n = effort.points
    return {
        DARCY: Darcy(resolution=n),
        CONVECTION: ConvectionDiffusion(resolution=n, diffusivity=0.01),
        WAVES: Helmholtz(
            resolution=n, wavenumber=20.0 * n / 64, medium="gaussian", source="gaussian", wall_low=0.0, wall_high=0.0
        ),
    }


def measure_others(effort: Effort) -> Others:
    """GMRES and recycling, with and without preconditioners, and the library's batched solvers."""
    found = {}
    for name, problem in problems(effort).items():
        count = max(effort.systems // 2, effort.slow_systems)
        system = problem.system(problem.sample(range(count), seed=0))
        slow = system.select(torch.arange(effort.slow_systems))
        compile_kernels(system)
        order = similarity_order(system_parameters(system))
        outcomes = [
            run_sequence(slow, range(slow.batch), solver=GMRES, preconditioner=PLAIN, recycle=0),
            run_sequence(slow, range(slow.batch), solver=GMRES, preconditioner=ILU, recycle=0),
            run_sequence(system, order, solver=SORTED, preconditioner=PLAIN),
            run_sequence(system, order, solver=SORTED, preconditioner=ILU),
            run_library(system, solver=OUR_GMRES, recycle=0),
            run_library(system, solver=OUR_RECYCLING, recycle=RECYCLE),
            *([run_batch(system, MULTIGRID)] if name == DARCY else []),
            run_batch(system, DIRECT),
            run_batch(slow, SCIPY),
        ]
        found[name] = {(o.solver, o.preconditioner): o for o in outcomes}
    return Others(found)


def others_table(others: Others, effort: Effort) -> Table:
    """Section four of the page."""
    rows: list[Mapping[str, Cell]] = []
    for problem, results in others.results.items():
        for outcome in results.values():
            row = dict(outcome.row())
            row.pop("reference run")
            rows.append({"problem": problem, **row})
    return Table(
        heading="Where that leaves recycling",
        setting=(
            f"{effort.points} x {effort.points} cells, true relative residual 1e-6, {effort.systems // 2} systems "
            f"({effort.slow_systems} for GMRES(40) and SciPy), sorted by the matrices' own entries. The library's own "
            "methods sort, cut the sequence into pieces, watch whether recycling pays, and choose a preconditioner: the"
            " nearest constant operator by fast transforms, the complete factors of an earlier sample, or ILU(0)."
        ),
        rows=rows,
        reading=(
            "Recycling saves products where there is no good preconditioner, and solves what GMRES(40) cannot. It wins "
            "nowhere: where a batch shares a grid, multigrid, or eliminating eight samples at a time, takes a fraction "
            "of the time, and for waves the factors of one sample serve its neighbours well."
        ),
    )
