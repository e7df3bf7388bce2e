"""A surrogate of Burgers' equation trained with small and large batches, and the batch beyond which more is vain."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from torch import Tensor, nn

from fieldwright.datasets import Normalizer
from fieldwright.gallery.large_batch.effort import Effort
from fieldwright.gallery.race import errors
from fieldwright.problems import Burgers
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train
from fieldwright.training.callback import Step
from fieldwright.training.large_batch import Transfer
from fieldwright.training.noise_scale import NoiseScale, NoiseScaleMeter

POINTS, SMALL, RATE = 64, 16, 2e-3
PROBLEM = Burgers(resolution=POINTS, viscosity=0.02, deviation=0.5, tau=3.0, duration=0.3)
TEST = 256


def burgers_data(samples: int) -> tuple[TrainingData, tuple[Tensor, Tensor]]:
    """Initial states and states later, for training and for the test."""
    valid = 16
    inputs = PROBLEM.sample(range(samples + valid + TEST), seed=0)
    outputs, _ = PROBLEM.solve(inputs)
    (a, a_valid, a_test), (u, u_valid, u_test) = (fields.split([samples, valid, TEST]) for fields in (inputs, outputs))
    data = TrainingData(
        (a.float(), u.float()),
        (a_valid.float(), u_valid.float()),
        inputs=Normalizer.fit(a),
        outputs=Normalizer.fit(u),
        grid=PROBLEM.grid,
    )
    return data, (a_test, u_test)


class Perceptron(nn.Module):
    """64 -> 128 -> 128 -> 64 with GELU, on the values of one field."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(POINTS, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, POINTS)
        )

    def forward(self, fields: Float[Tensor, "batch 1 x"]) -> Float[Tensor, "batch 1 x"]:
        return self.layers(fields)


def perceptron(seed: int) -> nn.Module:
    """The network with the weights that a seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Perceptron()


@dataclass(frozen=True)
class Finish:
    """What a training reached: the mean relative L2 error on the test samples, and CPU seconds of one thread."""

    name: str
    seed: int
    updates: int
    error: float
    seconds: float


def phases(effort: Effort) -> dict[str, Phase]:
    """The small batch's phase, and what becomes of it for the large one."""
    small = Phase(
        epochs=effort.map_epochs,
        batch_size=SMALL,
        learning_rate=RATE,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=0.0,
        clip=None,
    )
    large = small.model_copy(update={"batch_size": effort.map_batch})
    eightfold = min(math.log(8) / math.log(effort.map_batch / SMALL), 1.0)

    def same_rate(updates: float) -> Phase:
        moved = Transfer(from_batch=SMALL, updates=updates)(large)
        return moved.model_copy(update={"learning_rate": RATE, "warmup": 0.0})

    return {
        f"batch {SMALL}": small,
        f"batch {effort.map_batch}, same rate": large,
        "+ square-root rate": Transfer(from_batch=SMALL, updates=0.0)(large),
        "+ linear rate": Transfer(from_batch=SMALL, updates=0.0, rule="linear")(large),
        "8 times the epochs, same rate": same_rate(eightfold),
        "8 times the epochs, square-root rate": Transfer(from_batch=SMALL, updates=eightfold)(large),
        "as many updates, square-root rate": Transfer(from_batch=SMALL, updates=1.0)(large),
    }


def compare_phases(effort: Effort, data: TrainingData, test: tuple[Tensor, Tensor], reporter: Reporter) -> list[Finish]:
    """Train by every phase with every seed."""
    finishes = []
    for seed in effort.few_seeds:
        for name, phase in phases(effort).items():
            operator, start = perceptron(seed), time.thread_time()
            with tempfile.TemporaryDirectory() as directory:
                summary = train(operator, [phase], data, directory=Path(directory), seed=seed)
            seconds = time.thread_time() - start
            finishes.append(Finish(name, seed, summary.steps, errors(operator, data, test)[0], seconds))
            reporter.notice(f"{name}, seed {seed}: {finishes[-1].error:.2%} after {summary.steps} updates")
    return finishes


@dataclass(frozen=True)
class Knee:
    """Steps to the target by batch, the law S_min (1 + B_crit / B) through them, and the noise scale there."""

    seed: int
    steps: dict[int, int]
    least: float
    critical: float
    scale: NoiseScale


def find_knee(effort: Effort, data: TrainingData, seed: int, reporter: Reporter) -> Knee:
    """Count steps of AdamW to the training error that the effort names, at the best rate, for every batch.

    The noise scale is that of the training with the middle batch, measured from its pieces over its last steps.
    """
    steps: dict[int, int] = {}
    scale: NoiseScale | None = None
    for batch in effort.knee_batches:
        middle = batch == effort.knee_batches[len(effort.knee_batches) // 2]
        runs = []
        for rate in effort.knee_rates:
            meter = NoiseScaleMeter(every=1, memory=10) if middle else None
            runs.append((_steps_to_target(effort, data, batch, rate, seed, meter), meter))
        steps[batch], found = min(runs, key=lambda run: run[0])
        scale = found.average.estimate() if found is not None else scale
    assert scale is not None
    least, critical = fit_law(list(steps), list(steps.values()))
    reporter.notice(f"seed {seed}: steps {steps}, critical batch {critical:.0f}; noise scale {scale}")
    return Knee(seed, steps, least, critical, scale)


def fit_law(batches: Sequence[int], steps: Sequence[int]) -> tuple[float, float]:
    """S_min and B_crit of S = S_min (1 + B_crit / B), least squares of log S."""
    b, s = np.asarray(batches, float), np.log(np.asarray(steps, float))

    def misfit(logs: np.ndarray) -> np.ndarray:
        return logs[0] + np.log1p(np.exp(logs[1]) / b) - s

    least, critical = np.exp(least_squares(misfit, [s.min(), math.log(statistics.median(batches))]).x)
    return float(least), float(critical)


def _steps_to_target(
    effort: Effort, data: TrainingData, batch: int, rate: float, seed: int, meter: NoiseScaleMeter | None
) -> int:
    inputs, outputs = data.train_samples.batch(range(len(data.train_samples)))
    inputs, outputs = data.inputs.encode(inputs), data.outputs.encode(outputs)
    size = outputs.flatten(1).norm(dim=1)
    operator, generator = perceptron(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(operator.parameters(), lr=rate, weight_decay=1e-4, fused=True)
    batch = min(batch, len(inputs))

    def error(chosen: Tensor) -> Tensor:
        return (operator(inputs[chosen]) - outputs[chosen]).flatten(1).norm(dim=1) / size[chosen]

    everything, every = torch.arange(len(inputs)), 5 if batch < 256 else 2
    for index in range(effort.knee_most_steps):
        chosen = torch.randperm(len(inputs), generator=generator)[:batch]
        optimizer.zero_grad()
        for piece in chosen.tensor_split(1 if meter is None else 2):
            (error(piece).sum() / batch).backward()
            if meter is not None:
                meter.after_piece(Step(operator, optimizer, index, 0.0, rate, len(piece)))
        if meter is not None:
            meter.after_backward(Step(operator, optimizer, index, 0.0, rate, batch))
        optimizer.step()
        if (index + 1) % every == 0:
            with torch.no_grad():
                if float(error(everything).mean()) < effort.knee_error:
                    return index + 1
    return effort.knee_most_steps
