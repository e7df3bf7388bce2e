"""Ten digits as five tasks of two: accuracies at several sparsities, and what a network without masks forgets."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fieldwright.gallery.dynamic_sparse.effort import Effort
from fieldwright.gallery.page import Cell, Table
from fieldwright.progress import Reporter
from fieldwright.training import Callback, Step
from fieldwright.training.seeding import derived_generator
from fieldwright.training.sparsity import SparseRules
from fieldwright.training.task_sequence import TaskMatrix
from fieldwright.training.tasks import ContinualOperator

TASKS, CLASSES, BATCH, RATE = 5, 10, 32, 2e-3
SIDE, SHARPNESS = 8, 16
SPARSITIES = (0.8, 0.9, 0.95)
DISTRIBUTIONS = ("uniform", "erk")
INDEPENDENT = {
    (0.8, "uniform"): 0.993, (0.8, "erk"): 0.986, (0.9, "uniform"): 0.988,
    (0.9, "erk"): 0.985, (0.95, "uniform"): 0.976, (0.95, "erk"): 0.983,
}  # fmt: skip
"""Accuracies of an independent run on scikit-learn's digits, with weights scaled by 1/√δ."""


@dataclass(frozen=True)
class Digits:
    """Images in [0, 1], flat, with their labels; the first ``train`` are for training."""

    images: Float[Tensor, "sample pixel"]
    labels: Int[Tensor, " sample"]
    train: int
    source: str

    def task(self, number: int, *, test: bool) -> tuple[Tensor, Tensor]:
        """Images of the two classes of a task, and which of the two they are of."""
        chosen = slice(self.train, None) if test else slice(self.train)
        images, labels = self.images[chosen], self.labels[chosen]
        mine = labels // 2 == number
        return images[mine], labels[mine] % 2


def digits(effort: Effort) -> Digits:
    """scikit-learn's handwritten digits where it is installed (extra `peers`), else digits drawn by a program."""
    try:
        found = importlib.import_module("sklearn.datasets").load_digits()
    except ImportError:
        images, labels = drawn_digits(3 * effort.digits)
        source = "digits that a program draws, turned, shifted and blurred; not handwritten"
    else:
        images, labels = torch.tensor(found.data / 16).float(), torch.tensor(found.target)
        source = "scikit-learn's handwritten digits, 8 x 8 pixels"
    order = torch.randperm(len(labels), generator=derived_generator(0, "digits"))
    return Digits(images[order], labels[order], effort.digits, source)


def drawn_digits(count: int) -> tuple[Float[Tensor, "sample pixel"], Int[Tensor, " sample"]]:
    """Digits of a sans-serif face on 8 x 8 pixels, each turned, sheared, shifted and scaled at random, with noise."""
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    draws = derived_generator(0, "drawn digits")
    fine = SIDE * 4
    x = (torch.arange(fine) + 0.5) / fine * 2 - 1
    points = torch.stack(torch.meshgrid(x, -x, indexing="xy"), -1).reshape(-1, 2).double()
    outlines = []
    for digit in range(CLASSES):
        outline = TextPath((0, 0), str(digit), size=1)
        corners = torch.tensor(outline.vertices)
        middle, half = (corners.amax(0) + corners.amin(0)) / 2, (corners.amax(0) - corners.amin(0)).max() / 2
        outlines.append(Path((corners - middle) / half, outline.codes))
    labels = torch.arange(count) % CLASSES
    images = []
    for label in labels.tolist():
        spread = torch.rand(5, generator=draws).double() - 0.5
        angle, shear, size = 0.4 * spread[0], 0.4 * spread[1], 0.75 + 0.2 * spread[2]
        turn = torch.tensor([[angle.cos(), -angle.sin() + shear], [angle.sin(), angle.cos()]]) * size
        back = (points - 0.2 * spread[3:]) @ torch.linalg.inv(turn).T
        inside = torch.tensor(outlines[label].contains_points(back.numpy()))
        images.append(nn.functional.avg_pool2d(inside.reshape(1, fine, fine).float(), 4).flatten())
    noise = 0.15 * torch.randn(count, SIDE * SIDE, generator=draws)
    return (torch.stack(images) + noise).clamp(0, 1), labels


def masked(data: Digits, effort: Effort, sparsity: float, distribution: str, seed: int) -> TaskMatrix:
    """Accuracies of one network with masks, right after each task."""
    operator = ContinualOperator(_network(seed), seed=seed)
    rows = []
    for number in range(TASKS):
        rules = SparseRules(sparsity, distribution, growth="gradient", every=20, ceiling=max(1 / TASKS, 1 - sparsity))
        operator.begin_task(f"digits-{number}", rules, sharing="all")
        _learn(operator, data, number, effort, seed, operator.callbacks())
        row = []
        for learned in range(number + 1):
            operator.use_task(f"digits-{learned}")
            row.append(_accuracy(operator, data, learned))
        rows.append(tuple(row))
        operator.use_task(f"digits-{number}")
    return TaskMatrix(tuple(operator.names), tuple(rows), better="higher")


def naive(data: Digits, effort: Effort, seed: int) -> TaskMatrix:
    """Accuracies of a dense network that learns one task after the other."""
    network, rows = _network(seed), []
    for number in range(TASKS):
        _learn(network, data, number, effort, seed, [])
        rows.append(tuple(_accuracy(network, data, learned) for learned in range(number + 1)))
    return TaskMatrix(tuple(map(str, range(TASKS))), tuple(rows), better="higher")


def digit_runs(
    data: Digits, effort: Effort, reporter: Reporter
) -> tuple[dict[tuple[float, str], list[TaskMatrix]], list[TaskMatrix]]:
    """All networks with masks, by sparsity and distribution, and those without."""
    runs = {
        (sparsity, distribution): [masked(data, effort, sparsity, distribution, seed) for seed in effort.seeds]
        for sparsity in SPARSITIES
        for distribution in DISTRIBUTIONS
    }
    reporter.notice("digits: learned at all sparsities")
    return runs, [naive(data, effort, seed) for seed in effort.seeds]


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(SIDE * SIDE, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, CLASSES)
        )


def _learn(
    network: nn.Module, data: Digits, number: int, effort: Effort, seed: int, callbacks: Sequence[Callback]
) -> None:
    """Adam on the logits of the task's two classes: a loop of one's own, which calls the callbacks."""
    images, labels = data.task(number, test=False)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], RATE)
    draws = derived_generator(seed, "digits", number)
    count = effort.digit_epochs * -(-len(labels) // BATCH)
    batches = (
        few for _ in range(effort.digit_epochs) for few in torch.randperm(len(labels), generator=draws).split(BATCH)
    )
    for index, few in enumerate(batches):
        step = Step(network, optimizer, index, index / count, RATE, BATCH)
        for callback in callbacks if index == 0 else []:
            callback.begin(step)
        logits = network(images[few])[:, 2 * number : 2 * number + 2]
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels[few]).backward()
        for callback in callbacks:
            callback.after_backward(step)
        optimizer.step()
        for callback in callbacks:
            callback.after_update(step)
    for callback in callbacks:
        callback.end(step)


@torch.no_grad()
def _accuracy(network: nn.Module, data: Digits, number: int) -> float:
    images, labels = data.task(number, test=True)
    logits = network(images)[:, 2 * number : 2 * number + 2]
    return float((logits.argmax(1) == labels).double().mean())


def digit_table(
    data: Digits, epochs: int, runs: dict[tuple[float, str], list[TaskMatrix]], plain: Sequence[TaskMatrix]
) -> Table:
    """The section of the page."""
    rows: list[dict[str, Cell]] = []
    for (sparsity, distribution), found in runs.items():
        rows.append({
            "network": f"masks, {sparsity:.0%} sparse, {distribution}", "accuracy": _mean(found),
            "backward transfer": f"{100 * statistics.fmean(m.backward_transfer for m in found):.2f}",
            "independent run": f"{INDEPENDENT[sparsity, distribution]:.1%}",
        })  # fmt: skip
    rows.append({
        "network": "dense, one task after the other", "accuracy": _mean(plain),
        "backward transfer": f"{100 * statistics.fmean(m.backward_transfer for m in plain):.2f}",
    })  # fmt: skip
    return Table(
        heading="Ten digits, two at a time",
        setting=(
            f"Data: {data.source}; {data.train} for training and {len(data.labels) - data.train} for the test. A"
            " perceptron 64-100-100-10 with ReLU, masks on all three layers, biases per task, Adam at 2e-3, batch 32,"
            f" {epochs} epochs, gradient growth every 20 steps until 75 % of a task's steps; all that was learned"
            " before can be read. ERK leaves a fifth of every layer at least to each task. Mean accuracy over the five"
            f" tasks after the last one, in %, mean and deviation over {len(plain)} seeds; backward transfer in points."
        ),
        rows=rows,
        reading=(
            "The task is known when an image is classified, so two classes are told apart at a time. The independent"
            " run is on scikit-learn's digits, 40 epochs, with random growth and masks that are drawn without regard to"
            " what is free."
        ),
    )


def accuracy(found: Sequence[TaskMatrix]) -> float:
    """The mean accuracy over tasks and seeds."""
    return statistics.fmean(matrix.average for matrix in found)


def _mean(found: Sequence[TaskMatrix]) -> str:
    values = [100 * matrix.average for matrix in found]
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
