"""The paper's setting: its matrices, GMRES(40) against GCRO-DR(40, 20), and the same fields with couplings in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from fieldwright.gallery.krylov_recycling.contest import (
    DIRECT,
    RECYCLE,
    RESTART,
    SCIPY,
    Outcome,
    compile_kernels,
    run_batch,
    run_sequence,
)
from fieldwright.gallery.krylov_recycling.effort import Effort
from fieldwright.gallery.krylov_recycling.published_assembly import published_permeability, published_systems
from fieldwright.gallery.page import Cell, Table
from fieldwright.progress import Reporter
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.krylov import StencilMatrices, recycled_gcro_dr, restarted_gmres
from fieldwright.solvers.ordering import similarity_order

GMRES, LONG = f"GMRES({RESTART})", "GMRES(400)"
SORTED, UNSORTED, FRESH = (
    f"GCRO-DR({RESTART}, {RECYCLE}), {how}" for how in ("sorted", "as drawn", "a fresh space for each system")
)
PLAIN, ILU = "none", "ILU(0)"

# Products per system of HPDDM's GMRES and GCRO-DR (right-preconditioned, 1e-6, n about 10^4, other fields of the law).
REFERENCE = {
    False: {
        (GMRES, PLAIN): 9605, (SORTED, PLAIN): 752, (UNSORTED, PLAIN): 748, (FRESH, PLAIN): 683,
        (GMRES, ILU): 3115, (SORTED, ILU): 158, (UNSORTED, ILU): 162, (FRESH, ILU): 147,
    },
    True: {
        (GMRES, PLAIN): 902, (SORTED, PLAIN): 278, (UNSORTED, PLAIN): 284, (FRESH, PLAIN): 392,
        (GMRES, ILU): 60, (SORTED, ILU): 45, (UNSORTED, ILU): 47, (FRESH, ILU): 59,
    },
}  # fmt: skip

Results = dict[tuple[str, str], Outcome]


@dataclass(frozen=True)
class Setting:
    """What was measured on one kind of matrices, by (solver, preconditioner), and residuals step by step of one."""

    aligned: bool
    results: Results
    curves: Mapping[str, Float64[np.ndarray, " iteration"]]


def measure_setting(effort: Effort, reporter: Reporter, *, aligned: bool) -> Setting:
    """All solvers on the published matrices of some fields, or on the aligned ones of the same fields."""
    fields = published_permeability(effort.cells, range(effort.systems), seed=0)
    system = published_systems(fields, aligned=aligned)
    compile_kernels(system)
    drawn = np.arange(effort.systems)
    order = similarity_order(fields, method="published")
    slow = drawn[: effort.slow_systems]
    long = min(400, system.unknowns // 2)
    results: Results = {}

    def add(outcome: Outcome) -> None:
        results[outcome.solver, outcome.preconditioner] = outcome
        reporter.notice(f"{outcome.solver}, {outcome.preconditioner}: {outcome.milliseconds:.3g} ms a system")

    for name in (PLAIN, ILU):
        add(run_sequence(system, slow, solver=GMRES, preconditioner=name, recycle=0))
        add(run_sequence(system, slow, solver=LONG, preconditioner=name, restart=long, recycle=0))
        add(run_sequence(system, order, solver=SORTED, preconditioner=name))
        add(run_sequence(system, drawn, solver=UNSORTED, preconditioner=name))
        add(run_sequence(system, drawn, solver=FRESH, preconditioner=name, carry=False))
    add(run_batch(system, DIRECT))
    add(run_batch(system.select(torch.from_numpy(slow)), SCIPY))
    return Setting(aligned, results, _curves(system, order[:2]))


def _curves(system: StencilSystem, pair: np.ndarray) -> dict[str, np.ndarray]:
    """Residuals after every step on the second of a pair of neighbours."""
    matrices, rhs = StencilMatrices(system), system.rhs.flatten(1).numpy()
    before, here = (matrices[int(i)] for i in pair)
    b = rhs[pair[1]]
    space = recycled_gcro_dr(before, rhs[pair[0]], rtol=1e-6).space
    limit = 2000
    return {
        GMRES: restarted_gmres(here, b, rtol=1e-6, restart=RESTART, max_iterations=limit).history,
        LONG: restarted_gmres(here, b, rtol=1e-6, restart=400, max_iterations=limit).history,
        FRESH: recycled_gcro_dr(here, b, rtol=1e-6, max_iterations=limit).history,
        SORTED: recycled_gcro_dr(here, b, rtol=1e-6, max_iterations=limit, space=space).history,
    }


def setting_table(setting: Setting, effort: Effort) -> Table:
    """One of the first two sections of the page."""
    results = setting.results
    rows: list[Mapping[str, Cell]] = [o.row(REFERENCE[setting.aligned].get(key)) for key, o in results.items()]
    unknowns = (effort.cells - 2) ** 2
    common = (
        f"{unknowns:,} unknowns, true relative residual 1e-6, at most 10,000 iterations, no preconditioner or ILU(0) on"
        f" the right. {effort.systems} systems, {effort.slow_systems} for GMRES and SciPy. Means over systems; products"
        " count those of the recycled directions. The reference run is one of HPDDM, the library that the published"
        " scripts call, on other fields of the same law; it recomputes its residual every cycle, one product in twenty."
    )
    if setting.aligned:
        return Table(
            heading="The same fields with every coupling in its place",
            setting="The rows as the scripts mean them, 4 K_c u_c - Σ K_nb u_nb = h²: the Laplacian of K u. " + common,
            rows=rows,
            reading=(
                "Nothing is left to rescue: GMRES(40) converges everywhere. Carrying the space saves a quarter of the"
                " products against starting anew, but its vectors cost more than the products they save as soon as"
                " there is a preconditioner."
            ),
        )
    return Table(
        heading="The published matrices",
        setting=(
            "The assembly of the published scripts, in which the lower neighbours' diagonal is taken two entries off:"
            " not a discretisation of Darcy flow, and indefinite. " + common
        ),
        rows=rows,
        reading=(
            "Here the paper's gain is: a restart after 40 steps loses what it learnt of the eigenvalues near zero, and"
            " deflated restarting keeps it. So does a longer restart where there is a preconditioner. What does not"
            " help is what recycling is named for, carrying the space from one matrix to the next, nor the sort. And"
            " none of these comes near a direct solver, which does not mind where the eigenvalues are."
        ),
    )
