"""Learning curves of PDE maps: kernel ridge regression from a few coefficients to the field, and our own operator."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import linalg

from fieldwright.analysis import LearningCurve, Predicted, ScalingLaw, fit_scaling_law
from fieldwright.errors import InputError
from fieldwright.pipeline import Question, plan_target
from fieldwright.problems import Burgers, Darcy
from fieldwright.progress import Reporter
from fieldwright.settings import first_line

COEFFICIENTS = 6
VALID, TEST = 256, 512
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
RIDGES = (1e-10, 1e-7, 1e-4, 1e-2)


@dataclass(frozen=True)
class Curve:
    """A learner on a problem: test errors by size, one or more runs of each."""

    name: str
    runs: tuple[tuple[float, float], ...]

    @property
    def sizes(self) -> list[float]:
        """The sizes in order."""
        return sorted({size for size, _ in self.runs})

    def error(self, size: float) -> float:
        """Mean over the runs of a size, of the logarithm."""
        return math.exp(np.mean([math.log(error) for at, error in self.runs if at == size]))

    def law(self, pilots: int) -> ScalingLaw | None:
        """The law of the first ``pilots`` sizes; None where their errors follow none."""
        try:
            return fit_scaling_law(LearningCurve.of((n, e) for n, e in self.runs if n <= self.sizes[pilots - 1]))
        except InputError:
            return None

    def forecast(self, pilots: int, size: float) -> Predicted | None:
        """The error at ``size``, from the first ``pilots`` sizes alone, with the noise of its own runs."""
        law, count = self.law(pilots), sum(at == size for at, _ in self.runs)
        return None if law is None else law.predict(size, runs=count)

    def forecasts(self, least: int = 4) -> list[tuple[int, float, Predicted, float]]:
        """(pilots, size, forecast, measured) of everything 2, 4 and 8 times beyond ``least`` pilots or more."""
        found = []
        for pilots in range(least, len(self.sizes)):
            for farther in range(pilots, min(pilots + 3, len(self.sizes))):
                size = self.sizes[farther]
                predicted = self.forecast(pilots, size)
                if predicted is not None:
                    found.append((pilots, size, predicted, self.error(size)))
        return found


def burgers_map(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of u_0 = Σ_k (a_k cos 2πkx + b_k sin 2πkx)/k, k = 1..3, and u at t = 0.3, ν = 0.02."""
    problem = Burgers(resolution=64, viscosity=0.02, duration=0.3)
    c = np.random.default_rng(5).standard_normal((count, COEFFICIENTS))
    x = np.arange(64) / 64
    waves = [wave(2 * math.pi * k * x) / k for k in (1, 2, 3) for wave in (np.cos, np.sin)]
    inputs = problem.sample(range(count), seed=0)
    inputs[:, 0] = torch.as_tensor(c @ np.array(waves)).to(inputs)
    outputs, _ = problem.solve(inputs)
    return c, outputs.double().flatten(1).numpy()


def darcy_map(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of log a = Σ_k c_k cos(π j x) cos(π l y) / √(j² + l²), six lowest (j, l), and the pressure."""
    problem = Darcy(resolution=32)
    c = np.random.default_rng(6).standard_normal((count, COEFFICIENTS))
    x = (np.arange(32) + 0.5) / 32
    pairs = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1))
    waves = [np.outer(np.cos(math.pi * j * x), np.cos(math.pi * k * x)) / math.hypot(j, k) for j, k in pairs]
    fields = np.exp(np.tensordot(c, np.array(waves), 1))[:, None]
    outputs, _ = problem.solve(torch.as_tensor(fields))
    return c, outputs.double().flatten(1).numpy()


def kernel_ridge_curve(
    name: str, data: tuple[np.ndarray, np.ndarray], sizes: Sequence[int], shards: int, reporter: Reporter
) -> Curve:
    """Kernel ridge regression with a Matérn 5/2 kernel, length and ridge chosen on validation at each size and shard.

    Shards are nested, the first n of a random order; validation and test are the same for all.
    """
    c, u = data
    most = max(sizes)
    pool, valid, test = np.split(np.arange(len(c)), [most, most + VALID])
    runs = []
    with reporter.stage(name, total=shards * len(sizes), unit="fits") as stage:
        for shard in range(shards):
            order = np.random.default_rng(shard).permutation(pool)
            for size in sizes:
                runs.append((float(size), _fitted_error(c, u, order[:size], valid, test)))
                stage.advance()
    return Curve(name, tuple(runs))


def operator_curve(resolution: int, most: int, steps: int, reporter: Reporter) -> tuple[Curve, Sequence[str]]:
    """Pilots of `fieldwright plan` with a Fourier operator on Burgers' equation, and what the plan remarked."""
    overrides = (
        f"problem.resolution={resolution}", "problem.viscosity=0.02", "operator.kind=fourier", "operator.width=12",
        "operator.modes=8", "operator.layers=2", "data.valid=128", "data.test=256", f"training.steps={steps}",
        "training.learning_rate=0.002",
    )  # fmt: skip
    question = Question("burgers", 0.02, overrides, budget_seconds=1e6, max_samples=most, force=True)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "plan"
        try:
            remarks = plan_target(question, root, device="cpu", reporter=reporter).remarks
        except InputError as error:  # a curve that is refused is a result too
            remarks = (first_line(error),)
        with (root / "pilots.csv").open(newline="") as lines:
            best = [row for row in csv.DictReader(lines) if row["best"] == "True"]
    runs = tuple((float(row["samples"]), float(row["test_error"])) for row in best)
    return Curve("Burgers, Fourier operator, width and updates searched", runs), remarks


def _fitted_error(c: np.ndarray, u: np.ndarray, train: np.ndarray, valid: np.ndarray, test: np.ndarray) -> float:
    mean = u[train].mean(0)
    best, chosen = math.inf, (0.0, np.zeros(0))
    for length in LENGTHS:
        kernel = _matern(c[train], c[train], length)
        to_valid = _matern(c[valid], c[train], length)
        for ridge in RIDGES:
            weights = linalg.solve(kernel + ridge * np.eye(len(train)), u[train] - mean, assume_a="pos")
            error = _relative(mean + to_valid @ weights, u[valid])
            if error < best:
                best, chosen = error, (length, weights)
    length, weights = chosen
    return _relative(mean + _matern(c[test], c[train], length) @ weights, u[test])


def _matern(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0)) / length
    return (1 + r + r**2 / 3) * np.exp(-r)


def _relative(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.linalg.norm(prediction - truth, axis=1) / np.linalg.norm(truth, axis=1)))
