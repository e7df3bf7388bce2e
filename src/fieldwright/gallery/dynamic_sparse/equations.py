"""Four equations, one network: advection, heat, Burgers, Korteweg-de Vries, one after the other."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from fieldwright.datasets import Normalizer
from fieldwright.gallery.dynamic_sparse.effort import Effort
from fieldwright.gallery.page import Cell, Table, spread
from fieldwright.problems import Advection, Burgers, Heat, KortewegDeVries, Problem
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train
from fieldwright.training.task_phases import BeginTask
from fieldwright.training.task_sequence import TaskPlan, task_error, train_tasks
from fieldwright.training.tasks import ContinualOperator

POINTS = 64
EQUATIONS: dict[str, tuple[Problem, int]] = {
    "advection": (Advection(POINTS, speed_x=0.35, initial_state="gaussian", alpha=2.0, frames=1), 1),
    "heat": (Heat(POINTS, dimension=1, diffusivity=0.005, alpha=1.0, tau=8.0, frames=1), 1),
    "Burgers": (Burgers(4 * POINTS, viscosity=0.005, deviation=1.0), 4),
    "KdV": (KortewegDeVries(POINTS, length=20.0, duration=1.0, frames=1, count=3), 1),
}
"""The problem of each task, and of how many points one is taken: a front of Burgers' equation needs a finer grid."""

MASKED = {"advection": 0.067, "heat": 0.086, "Burgers": 0.282, "KdV": 0.228}
DENSE = {"advection": 0.040, "heat": 0.034, "Burgers": 0.215, "KdV": 0.149}
"""Errors of the independent run: of its masked network, and of a dense one for each task."""

WIDTH, WIDER = 160, 232


class Perceptron(nn.Module):
    """u(0) at all points to u(1) at all points, two hidden layers with GELU."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(POINTS, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, POINTS)
        )

    def forward(self, fields: Tensor, lead_time: None = None) -> Tensor:
        return self.layers(fields)


@dataclass
class Learned:
    """Errors of one seed by task: learned alone, one after the other, and masked; and what became of the bits."""

    alone: dict[str, float] = field(default_factory=dict)
    naive: dict[str, float] = field(default_factory=dict)
    naive_then: dict[str, float] = field(default_factory=dict)
    masked_card: dict[str, float] = field(default_factory=dict)
    masked: dict[str, float] = field(default_factory=dict)
    masked_then: dict[str, float] = field(default_factory=dict)
    identical: bool = False
    free: float = 0.0
    refused: str = ""
    grown: float = 0.0
    changed_by_growth: int = 0


def equation_data(effort: Effort) -> dict[str, TrainingData]:
    """Training and test samples of each task; those for validation are the test's, and nothing is chosen by them."""
    found = {}
    for name, (problem, every) in EQUATIONS.items():
        inputs = problem.sample(range(effort.samples + effort.test_samples), seed=0)
        outputs, _ = problem.solve(inputs)
        inputs, outputs = inputs[..., ::every].float(), outputs[..., ::every].float()
        pairs = list(zip(*(x.split([effort.samples, effort.test_samples]) for x in (inputs, outputs)), strict=True))
        grid = problem.grid.resized((POINTS,)) if every > 1 else problem.grid
        found[name] = TrainingData(pairs[0], pairs[1], Normalizer.fit(pairs[0][0]), Normalizer.fit(pairs[0][1]), grid)
    return found


def phase(epochs: int) -> Phase:
    """The training of a task: Adam at 3e-3, cosine, batch 32."""
    return Phase(
        objective="l2", optimizer="adam", learning_rate=3e-3, weight_decay=0.0, schedule="cosine", warmup=0.0,
        epochs=epochs, batch_size=32, clip=None,
    )  # fmt: skip


def plans(data: Mapping[str, TrainingData], effort: Effort, epochs: int, sharing: str) -> list[TaskPlan]:
    """The tasks in their order, 75 % sparse."""
    return [
        TaskPlan(
            BeginTask(
                name=name,
                sharing=sharing,
                sparsity=0.75,
                distribution="uniform",
                growth="gradient",
                every=effort.exchange,
            ),
            [phase(epochs)],
            one,
        )
        for name, one in data.items()
    ]


def learn_equations(data: Mapping[str, TrainingData], effort: Effort, seed: int, reporter: Reporter) -> Learned:
    """All the trainings of one seed."""
    found = Learned()
    tasks = plans(data, effort, effort.card_epochs, "all")
    longer = plans(data, effort, effort.epochs, "none")
    naive = _perceptron(seed)
    for number, (task, long) in enumerate(zip(tasks, longer, strict=True)):
        name = task.start.name
        found.alone[name] = _alone(_perceptron(seed), long, seed, reporter)
        found.naive_then[name] = _alone(naive, task, seed, reporter)
        if number == len(tasks) - 1:
            found.naive = {other.start.name: task_error(naive, other) for other in tasks}
    with tempfile.TemporaryDirectory() as place:
        short = train_tasks(_tasks(seed), tasks, directory=Path(place) / "card", seed=seed, reporter=reporter)
        found.masked_card = dict(zip(short.matrix.names, short.matrix.rows[-1], strict=True))
        operator = _tasks(seed)
        summary = train_tasks(operator, longer, directory=Path(place) / "long", seed=seed, reporter=reporter)
        found.masked = dict(zip(summary.matrix.names, summary.matrix.rows[-1], strict=True))
        found.masked_then = {name: row[-1] for name, row in zip(summary.matrix.names, summary.matrix.rows, strict=True)}
        found.free = summary.free[-1]
        before = _outputs(operator, longer)
        _grow_when_full(operator, longer, found, seed, Path(place), reporter)
        found.identical = all(operator.identical().values())
        found.changed_by_growth = _differing(before, _outputs(operator, longer))
    return found


def _grow_when_full(
    operator: ContinualOperator, tasks: Sequence[TaskPlan], found: Learned, seed: int, place: Path, reporter: Reporter
) -> None:
    """A fifth task, Burgers' equation backwards in space, for which the network has to grow."""
    last = tasks[2]
    (inputs, outputs), (seen, truth) = last.data.train, last.data.valid  # type: ignore[misc]
    mirrored = TrainingData(
        (inputs, outputs.flip(-1)), (seen, truth.flip(-1)), last.data.inputs, last.data.outputs, last.data.grid
    )
    task = TaskPlan(last.start.model_copy(update={"name": "mirrored"}), last.phases, mirrored)
    try:
        operator.begin_task("mirrored", task.start.rules())
    except ValueError as error:
        found.refused = str(error)
    operator.grow(_perceptron(seed + 100, WIDER))
    train_tasks(operator, [task], directory=place / "grown", seed=seed, reporter=reporter)
    operator.use_task("mirrored")
    found.grown = task_error(operator, task)


@torch.no_grad()
def _outputs(operator: ContinualOperator, tasks: Sequence[TaskPlan]) -> list[Tensor]:
    found = []
    for task in tasks:
        operator.use_task(task.start.name)
        operator.eval()
        found.append(operator(task.data.inputs.encode(task.data.valid_samples.batch(range(8))[0])))
    return found


def _differing(before: Sequence[Tensor], after: Sequence[Tensor]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(before, after, strict=True))


def _perceptron(seed: int, width: int = WIDTH) -> Perceptron:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Perceptron(width)


def _tasks(seed: int) -> ContinualOperator:
    return ContinualOperator(_perceptron(seed), seed=seed)


def _alone(module: nn.Module, task: TaskPlan, seed: int, reporter: Reporter) -> float:
    with tempfile.TemporaryDirectory() as place:
        train(module, task.phases, task.data, directory=Path(place), seed=seed, reporter=reporter)
    return task_error(module, task)


def equation_table(runs: Sequence[Learned], effort: Effort) -> Table:
    """The section of the page."""

    def row(what: str, errors: Sequence[Mapping[str, float]], weights: str) -> dict[str, Cell]:
        return {"network": what, **{name: spread([e[name] for e in errors]) for name in EQUATIONS}, "weights": weights}

    one = sum(p.numel() for p in Perceptron().parameters())
    short, long = effort.card_epochs, effort.epochs
    rows = [
        row(f"one dense network per task, {long} epochs", [r.alone for r in runs], f"4 x {one:,}"),
        row(
            f"one dense network, one task after the other, at the end ({short} epochs)",
            [r.naive for r in runs],
            f"{one:,}",
        ),
        row(f"masks, all that was learned before is read, {short} epochs", [r.masked_card for r in runs], f"{one:,}"),
        row(f"masks, nothing shared, {long} epochs", [r.masked for r in runs], f"{one:,}"),
        {"network": "independent run: dense per task, 40 epochs", **{k: f"{v:.1%}" for k, v in DENSE.items()}},
        {"network": "independent run: masks, 40 epochs", **{k: f"{v:.1%}" for k, v in MASKED.items()}},
    ]
    return Table(
        heading="Four equations in one network",
        setting=(
            f"u at time 0 to u at time 1 on {POINTS} points of a periodic line, {effort.samples} training and"
            f" {effort.test_samples} test samples each: advection, heat, Burgers, Korteweg-de Vries, in this order. A"
            f" perceptron {POINTS}-{WIDTH}-{WIDTH}-{POINTS} with GELU; Adam at 3e-3, cosine, batch 32, relative L2"
            " loss. Masks: 75 % sparse for each task, uniform, gradient growth; biases are per task. Mean relative L2"
            f" error on the test samples, median over {len(runs)} seeds (least to largest)."
        ),
        rows=rows,
        reading=(
            "The equations are those of the independent run; their coefficients are not known, so ours are chosen to"
            " make a dense network about as wrong after 40 epochs. What was learned does not change by a bit when the"
            " next task is. Reading what an unlike equation has learned does harm. The price is the difference between"
            " the masks and a dense network of the same epochs."
        ),
    )


def growth_table(runs: Sequence[Learned]) -> Table:
    """The section on a network that is full."""
    rows: list[dict[str, Cell]] = [
        {"": "free after four tasks", "value": spread([r.free for r in runs])},
        {"": "a fifth task is refused", "value": "yes" if all(r.refused for r in runs) else "no"},
        {"": f"its error after growth to width {WIDER}", "value": spread([r.grown for r in runs])},
        {"": "output entries of the four tasks that growth and the fifth task changed",
         "value": sum(r.changed_by_growth for r in runs)},
    ]  # fmt: skip
    return Table(
        heading="Growing when it is full",
        setting=(
            "The fifth task is Burgers' equation with mirrored outputs. Masks and weights are filled up with zeros; old"
            " tasks are run on their own corner of the weights, so their sums run over the same entries as before."
        ),
        rows=rows,
    )


def median(runs: Sequence[Learned], which: str, name: str) -> float:
    """The median over seeds of an error."""
    return statistics.median(getattr(run, which)[name] for run in runs)


def same_bits(run: Learned) -> bool:
    """Whether no error of a finished task, no digest and no bit of an output has changed."""
    return run.masked == run.masked_then and run.identical and run.changed_by_growth == 0
