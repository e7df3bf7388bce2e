"""MgNO, FNO and a plain U-Net on Darcy flow, each with the same samples, time and threads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldwright.gallery.darcy_data import darcy_data
from fieldwright.gallery.multigrid_neural_operator.effort import Effort
from fieldwright.gallery.page import Cell, Table
from fieldwright.gallery.plain_unet import PlainUNet
from fieldwright.gallery.race import Entrant, Finish, race, race_rows, with_equal_time
from fieldwright.norms import relative_l2
from fieldwright.operators import FourierOperator, MultigridOperator
from fieldwright.problems import Darcy
from fieldwright.progress import Reporter
from fieldwright.training import Phase


@dataclass(frozen=True)
class SolverRow:
    """The problem's own solver at a loose tolerance: mean relative L2 error and seconds a sample, no training."""

    rtol: float
    l2: float
    seconds: float


def race_on_darcy(effort: Effort, reporter: Reporter) -> tuple[list[Finish], SolverRow]:
    """Train MgNO, FNO and U-Net for the same time on two-phase Darcy flow; time the solver beside them."""
    problem = Darcy(resolution=effort.points)
    data, (a_test, u_test) = darcy_data(problem, effort.samples, effort.test_samples)
    timed = with_equal_time(entrants(effort), data, effort.seconds)
    finishes = race(timed, data, (a_test, u_test), seeds=effort.seeds, reporter=reporter)
    start = time.perf_counter()
    loose, _ = problem.solve(a_test, rtol=SOLVER_RTOL)
    seconds = (time.perf_counter() - start) / len(a_test)
    return finishes, SolverRow(SOLVER_RTOL, float(relative_l2(loose, u_test, problem.grid).mean()), seconds)


SOLVER_RTOL = 1e-2


def entrants(effort: Effort) -> list[Entrant]:
    """The field: each with the learning rate that serves it best in the method's reference runs."""

    def phase(learning_rate: float, objective: str | dict[str, float] = "l2") -> Phase:
        return Phase(
            objective=objective,
            learning_rate=learning_rate,
            weight_decay=0.0,
            schedule="cosine",
            steps=1,  # until `with_equal_time` has measured how many there are
            batch_size=4,
        )

    modes = min(16, effort.points // 4)
    return [
        Entrant(MGNO, lambda: MultigridOperator(1, 1), phase(2e-3)),
        Entrant(MGNO_H1, lambda: MultigridOperator(1, 1), phase(1e-3, "h1")),
        Entrant(
            BEYOND,
            lambda: MultigridOperator(1, 1, restriction_size=4),
            phase(5e-4, {"l2": 1.0, "h1": 0.3}).model_copy(update={"optimizer": "lion-k"}),
        ),
        Entrant(FNO, lambda: FourierOperator(1, 1, width=32, layers=4, modes=modes), phase(4e-3)),
        Entrant(UNET, lambda: PlainUNet(1, 1), phase(1e-3)),
    ]


MGNO, MGNO_H1 = "MgNO, 24 channels, 4 layers, 6 levels", "the same, trained in H1"
BEYOND = "beyond the paper: restriction over 4 points, Lion-K, L2 + 0.3 H1"
FNO, UNET = "FNO, 16 modes, 32 channels, 4 layers", "plain U-Net, 32 channels"


def race_table(finishes: Sequence[Finish], solver: SolverRow, effort: Effort) -> Table:
    """Section two of the page."""
    rows: list[Mapping[str, Cell]] = race_rows(finishes)
    rows.append(
        {
            "model": f"plain alternative: our solver to {solver.rtol:g}, {1e3 * solver.seconds:.2g} ms a sample",
            "weights": 0,
            "precision": "float64",
            "steps": 0,
            "relative L2": f"{solver.l2:.2%}",
        }
    )
    return Table(
        heading="The race on Darcy flow",
        setting=(
            f"{effort.samples} training and {effort.test_samples} test samples of -∇·(a ∇u) = 1 with a two-phase "
            f"coefficient of 3 and 12, {effort.points} x {effort.points} cells. Each model has the steps that fit into "
            f"{effort.seconds:g} s of one thread of this machine, batch 4, Adam with 5 % warm-up and cosine, gradient "
            "norm clipped at 1, relative L2 loss unless it says H1, in the precision that steps faster. "
            f"Median over {len(effort.seeds)} seeds (least to largest)."
        ),
        rows=rows,
        reading=(
            "Differences below half a point are within what seeds and learning rates move. For the gradient, train in "
            "H1. A plain U-Net is a strong baseline, and on this problem the solver needs no training at all."
        ),
    )
