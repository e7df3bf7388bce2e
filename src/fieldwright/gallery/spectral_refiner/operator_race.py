"""The spatiotemporal Fourier operator against plain Fourier operators, persistence and the solver."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.gallery.page import Cell, Table, spread
from fieldwright.gallery.race import Entrant, Finish, predict, race, with_equal_time
from fieldwright.gallery.spectral_refiner.effort import Effort
from fieldwright.gallery.spectral_refiner.flows import INTERVAL, KNOWN, PREDICTED, UnseenFlows, window_problem
from fieldwright.grids import Grid
from fieldwright.norms import relative_l2
from fieldwright.operators import FourierOperator, SpatiotemporalFourierOperator
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData

SFNO = "SFNO"
FNO = "FNO in 2D, frames as channels"
FNO_CHANGE = "the same, predicting the change since the last known frame"


@dataclass(frozen=True)
class Unseen:
    """Mean relative L2 errors of one trained model on what it was not trained on.

    ``trained``   at the grid and the frames it was trained for, of the flows that ``finer`` is measured on
    ``finer``     on a grid of twice the points per axis
    ``between``   at the times midway between its frames; None for a model that has no others than its own
    ``shared``    largest relative difference of its states at its own frames when those midway are asked for too
    """

    trained: float
    finer: float
    between: float | None = None
    shared: float | None = None


@dataclass(frozen=True)
class Raced:
    """Finishes of all models, what their first seed's do beyond training, and the plain alternatives."""

    finishes: list[Finish]
    unseen: dict[str, Unseen]
    persistence: float
    solver: float
    solver_seconds: float


class Change(nn.Module):
    """An operator that adds to the last known frame what it predicts."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, inputs: Float[Tensor, "batch frame x y"]) -> Float[Tensor, "batch frame x y"]:
        return inputs[:, KNOWN - 1 : KNOWN] + self.operator(inputs)


def entrants(effort: Effort) -> list[Entrant]:
    """The models, each with the better of two learning rates that were tried."""
    modes = 3 * effort.points // 8

    def phase(learning_rate: float) -> Phase:
        # One step until `with_equal_time` has measured how many there are.
        return Phase(learning_rate=learning_rate, weight_decay=0.0, schedule="cosine", steps=1, batch_size=4)

    def fourier() -> nn.Module:
        return FourierOperator(KNOWN, PREDICTED, modes=modes, coordinates=False, centring="periodic")

    def spatiotemporal() -> nn.Module:
        return SpatiotemporalFourierOperator(
            KNOWN, PREDICTED, known=KNOWN, predicted=PREDICTED, window=KNOWN * INTERVAL, horizon=PREDICTED * INTERVAL,
            modes=effort.points // 2, time_modes=5, latent_steps=4, width=16, channel_mlp=2.0, coordinates=False,
            centring="periodic",
        )  # fmt: skip

    return [
        Entrant(SFNO, spatiotemporal, phase(1e-2)),
        Entrant(FNO, fourier, phase(4e-3)),
        Entrant(FNO_CHANGE, lambda: Change(fourier()), phase(4e-3)),
    ]


def race_on_flows(effort: Effort, data: TrainingData, flows: UnseenFlows, reporter: Reporter) -> Raced:
    """Train every model for the same time and measure it."""
    kept: dict[str, nn.Module] = {}

    def keeping(entrant: Entrant) -> Entrant:
        def build() -> nn.Module:
            operator = entrant.build()
            kept.setdefault(entrant.name, operator)
            return operator

        return Entrant(entrant.name, build, entrant.phase)

    timed = [
        keeping(entrant) for entrant in with_equal_time(entrants(effort), data, effort.seconds, precisions=("32",))
    ]
    finishes = race(timed, data, (flows.known, flows.predicted), seeds=effort.seeds, reporter=reporter)
    problem = window_problem(effort.points)
    still = problem.guess(flows.known.double())
    start = time.perf_counter()
    stepped, _ = problem.solve(flows.known.double(), method="1 steps")
    seconds = (time.perf_counter() - start) / len(flows.known)
    return Raced(
        finishes=finishes,
        unseen={name: beyond_training(operator, data, flows) for name, operator in kept.items()},
        persistence=_error(still, flows.predicted, problem.grid),
        solver=_error(stepped, flows.predicted, problem.grid),
        solver_seconds=seconds,
    )


def beyond_training(operator: nn.Module, data: TrainingData, flows: UnseenFlows) -> Unseen:
    """The errors of a trained model at twice the resolution and, where it can, midway between its frames."""
    known, truth = flows.finer
    count, fine_grid = len(known), window_problem(known.shape[-1]).grid
    trained = _error(predict(operator, data, flows.known[:count]), flows.predicted[:count], data.grid)
    finer = _error(predict(operator, data, known), truth, fine_grid)
    if not isinstance(operator, SpatiotemporalFourierOperator):
        return Unseen(trained, finer)
    halves = at_half_intervals(operator, data, flows.known)
    own = predict(operator, data, flows.known)
    return Unseen(
        trained,
        finer,
        between=_error(halves[:, 2::2], flows.between[:, 2::2], data.grid),
        shared=float((halves[:, 1::2] - own).abs().max() / own.abs().max()),
    )


def at_half_intervals(
    operator: SpatiotemporalFourierOperator, data: TrainingData, known: Float[Tensor, "sample frame x y"]
) -> Float[Tensor, "sample half_frame x y"]:
    """The predicted vorticity at twice as many times as the operator was trained for."""
    times = torch.arange(1, 2 * PREDICTED + 1) * (INTERVAL / 2)
    scale = data.outputs.decode(torch.ones(1, PREDICTED, 1, 1))[0, 0]
    with torch.inference_mode():
        parts = [operator(data.inputs.encode(some)[:, :, None], times)[:, :, 0] * scale for some in known.split(20)]
    return torch.cat(parts).double()


def _error(predicted: Tensor, truth: Tensor, grid: Grid) -> float:
    return float(relative_l2(predicted.double(), truth.double(), grid).mean())


def race_table(raced: Raced, effort: Effort) -> Table:
    """Section one of the page."""
    rows: list[Mapping[str, Cell]] = []
    for name in dict.fromkeys(finish.name for finish in raced.finishes):
        own = [finish for finish in raced.finishes if finish.name == name]
        rows.append(
            {
                "model": name,
                "weights": own[0].parameters,
                "steps": int(statistics.median(finish.steps for finish in own)),
                "relative L2": spread([finish.l2 for finish in own]),
            }
        )
    rows.append({"model": "persistence", "weights": 0, "steps": 0, "relative L2": f"{100 * raced.persistence:.3g} %"})
    rows.append(
        {
            "model": f"plain alternative: our solver, one step a frame, {1e3 * raced.solver_seconds:.2g} ms a sample",
            "weights": 0,
            "steps": 0,
            "relative L2": f"{100 * raced.solver:.3g} %",
        }
    )
    return Table(
        heading="Ten frames from ten frames of decaying turbulence",
        setting=(
            f"{effort.flows} training and {effort.test_flows} test flows after McWilliams, ν = 1e-3 on a box of edge "
            f"2π, {effort.points} x {effort.points} points, frames {INTERVAL} apart from time 2 on; error over all ten "
            f"predicted frames. Each model has the steps that fit into {effort.seconds:g} s of one thread of this "
            "machine, batch 4, Adam with 5 % warm-up and cosine, gradient norm clipped at 1, relative L2 loss, "
            f"float32, {len(effort.seeds)} seed(s)."
        ),
        rows=rows,
        reading=(
            "Hours of an accelerator, as in the paper, are another matter than half a minute of a processor: here the "
            "layers of the spatiotemporal operator, which work on every latent time, cost several steps of a plain "
            "Fourier operator. Where a solver takes one step a frame, neither is needed."
        ),
    )


def unseen_table(raced: Raced, effort: Effort) -> Table:
    """Section two of the page."""
    rows: list[Mapping[str, Cell]] = [
        {
            "model": name,
            f"at {effort.points} points": f"{100 * unseen.trained:.3g} %",
            f"at {2 * effort.points} points": f"{100 * unseen.finer:.3g} %",
            "midway between the frames": None if unseen.between is None else f"{100 * unseen.between:.3g} %",
            "change of its own frames": None if unseen.shared is None else f"{unseen.shared:.1e}",
        }
        for name, unseen in raced.unseen.items()
    ]
    return Table(
        heading="What it was not trained on",
        setting=(
            "The models of the first seed, not trained further: the same flows on a grid of twice the points per axis, "
            "and states at the times midway between the predicted frames. The last column is how much the operator's "
            "states at its own frames change when those midway are asked for too, relative to the largest."
        ),
        rows=rows,
        reading=(
            "Times are physical and the modes in time are summed at them: asking for more frames refines the same "
            "motion. In the published code the same request changes the amplitude of every frame."
        ),
    )
