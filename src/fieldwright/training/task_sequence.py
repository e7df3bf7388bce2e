"""Training on a sequence of tasks, each with data of its own, and what is left of each after the others.

Sources: Lopez-Paz and Ranzato, NeurIPS 2017 (backward transfer); the matrix is measured with the network as it is after
each task, so forgetting is seen.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.norms import relative_l2
from fieldwright.progress import SILENT, Reporter
from fieldwright.training.data import TrainingData
from fieldwright.training.loop import TrainingSummary, train
from fieldwright.training.phases import Phase
from fieldwright.training.prediction import PhysicalPrediction
from fieldwright.training.task_phases import BeginTask
from fieldwright.training.tasks import ContinualOperator

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class TaskMatrix:
    """R_{t,j}: how well task j is done after task t was learned, for j <= t.

    ``rows``   R, a row for each task learned: row t has t + 1 entries
    ``alone``  how well each task is done by a network that learns it alone, where that was measured
    ``better`` "lower" for errors, "higher" for accuracies

    Errors: `InputError` for rows that are no lower triangle.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    better: Literal["lower", "higher"] = "lower"
    alone: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if [len(row) for row in self.rows] != list(range(1, len(self.names) + 1)):
            raise InputError(
                f"rows: {[len(row) for row in self.rows]} entries for {len(self.names)} tasks; row t has t"
            )
        if self.alone is not None and len(self.alone) != len(self.names):
            raise InputError(f"alone: {len(self.alone)} values for {len(self.names)} tasks")

    @property
    def average(self) -> float:
        """(1/T) Σ_j R_{T,j}."""
        return statistics.fmean(self.rows[-1])

    @property
    def incremental(self) -> tuple[float, ...]:
        """The average over the tasks learned so far, after each."""
        return tuple(statistics.fmean(row) for row in self.rows)

    @property
    def backward_transfer(self) -> float:
        """(1/(T-1)) Σ_{j<T} R_{T,j} - R_{j,j}, signed so that a negative value is forgetting; 0 for one task."""
        changes = [last - self.rows[j][j] for j, last in enumerate(self.rows[-1][:-1])]
        return self._signed(statistics.fmean(changes)) if changes else 0.0

    @property
    def forward_transfer(self) -> float | None:
        """(1/(T-1)) Σ_{j>1} R_{j,j} - alone_j, signed so that a positive value is a gain by what was learned before."""
        if self.alone is None or len(self.names) < 2:
            return None
        return self._signed(
            statistics.fmean(row[-1] - own for row, own in zip(self.rows[1:], self.alone[1:], strict=True))
        )

    def _signed(self, change: float) -> float:
        return change if self.better == "higher" else 0.0 - change


@dataclass(frozen=True)
class TaskPlan:
    """A task of a sequence.

    ``start``   how it begins: its name, sparsity and sharing
    ``phases``  of its training; the first begins the task and prepares nothing else
    ``data``    with normalisations of its own
    ``test``    (inputs, outputs) in physical units on which it is measured; None: the validation samples

    Errors: `InputError` without phases, or for a first phase that prepares something.
    """

    start: BeginTask
    phases: Sequence[Phase]
    data: TrainingData
    test: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.phases or self.phases[0].prepare is not None:
            raise InputError(f"task '{self.start.name}': one phase at least is needed, and none of its own `prepare`"
                             " in the first")  # fmt: skip


@dataclass(frozen=True)
class SequenceSummary:
    """What a sequence of tasks came to; ``matrix`` has mean relative L2 errors in physical units."""

    operator: ContinualOperator
    matrix: TaskMatrix
    trainings: tuple[TrainingSummary, ...]
    free: tuple[float, ...]


def train_tasks(
    operator: ContinualOperator,
    tasks: Sequence[TaskPlan],
    *,
    directory: Path,
    seed: int,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> SequenceSummary:
    """Learn tasks one after another, each by `fieldwright.training.train` in a directory of its own.

    The same call on the same directory goes on where it stopped. After each task all of them are measured, and after
    the last one it is finished.
    Errors: those of `train` and of `ContinualOperator.begin_task`.
    """
    if not tasks:
        raise InputError("tasks: none; at least one is needed")
    rows, trainings, free = [], [], []
    for number, task in enumerate(tasks):
        begun = [task.phases[0].model_copy(update={"prepare": task.start}), *task.phases[1:]]
        place = directory / f"{number + 1:02d}-{task.start.name}"
        summary = train(operator, begun, task.data, directory=place, seed=seed, device=device, reporter=reporter)
        trainings.append(replace(summary, operator=operator))
        free.append(operator.free_share())
        row = []
        for learned in tasks[: number + 1]:
            operator.use_task(learned.start.name)
            row.append(task_error(operator, learned))
        rows.append(tuple(row))
        operator.use_task(task.start.name)
    operator.finish()
    names = tuple(task.start.name for task in tasks)
    return SequenceSummary(operator, TaskMatrix(names, tuple(rows)), tuple(trainings), tuple(free))


@torch.no_grad()
def task_error(operator: torch.nn.Module, task: TaskPlan) -> float:
    """The mean relative L2 error of an operator on a task's test samples, in physical units, norms in float64."""
    data = task.data
    samples = data.valid_samples
    inputs, outputs = task.test or samples.batch(range(len(samples)))
    predict = PhysicalPrediction(operator, data.inputs, data.outputs)
    device = next(operator.parameters()).device
    training = operator.training
    operator.eval()
    found = []
    for few, truth in zip(inputs.split(EVALUATION_BATCH), outputs.split(EVALUATION_BATCH), strict=True):
        found.append(relative_l2(predict(few.to(device)).cpu().double(), truth.cpu().double(), data.grid))
    operator.train(training)
    return float(torch.cat(found).mean())
