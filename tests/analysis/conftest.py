"""A surrogate whose error is known: the truth plus a smooth field of a chosen relative size."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fieldwright.analysis import EvaluationSettings, evaluate
from fieldwright.errors import InputError
from fieldwright.norms import l2_norm, relative_l2
from fieldwright.problems import Darcy, SteadyProblem


@dataclass(frozen=True)
class NoisyTruth:
    """Predicts u + ε ‖u‖ w with ‖w‖ = 1, where ε runs over 0.5 to 1.5 times ``size`` from sample to sample.

    Its estimate is ``optimism`` times the true error, its bound three times the true energy error.
    """

    problem: SteadyProblem
    size: float = 0.02
    optimism: float = 1.25
    largest: int | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def at(self, inputs: Tensor) -> SteadyProblem:
        resolution = inputs.shape[-1]
        if self.largest and resolution > self.largest:
            raise InputError(f"this operator takes at most {self.largest} points an axis")
        return self.problem if inputs.shape[2:] == self.problem.grid.shape else self.problem.at(resolution)

    def truth(self, inputs: Tensor) -> Tensor:
        return self.at(inputs).solve(inputs.double())[0]

    def fields(self, inputs: Tensor) -> Tensor:
        problem, truth = self.at(inputs), self.truth(inputs)
        wave = torch.ones((), dtype=torch.float64)
        for axis in range(problem.grid.dimension):
            wave = wave[..., None] * torch.sin(3 * math.pi * problem.grid.axis(axis))
        wave = wave.expand_as(truth)
        key = truth.flatten(1).sum(1) * 1e4
        spread = 0.5 + (key - key.floor())
        scale = self.size * spread * l2_norm(truth, problem.grid) / l2_norm(wave, problem.grid)
        return (truth + scale.reshape(-1, *[1] * (truth.ndim - 1)) * wave).to(inputs.dtype)

    def predict(self, inputs: Tensor) -> SimpleNamespace:
        fields, truth, problem = self.fields(inputs), self.truth(inputs), self.at(inputs)
        error = relative_l2(fields.double(), truth, problem.grid)
        residual = problem.residual(inputs.double(), fields.double()).flatten(1).norm(dim=1)
        a = inputs.double()
        energy = problem.energy_norm(a, fields.double() - truth) / problem.energy_norm(a, truth)
        return SimpleNamespace(
            fields=fields, error_estimate=self.optimism * error, error_bound=3 * energy, residual=residual
        )

    def solve(self, inputs: Tensor, rtol: float = 1e-6) -> SimpleNamespace:
        fields, solution = self.at(inputs).solve(inputs.double(), rtol=rtol)
        return SimpleNamespace(fields=fields, solution=solution, iterations_without_guess=solution.iterations + 2)

    def roll_out(self, inputs: Tensor, frames: int) -> Tensor:
        raise NotImplementedError("a steady problem has no next frame")


@pytest.fixture(scope="session")
def darcy() -> Darcy:
    return Darcy(resolution=16)


@pytest.fixture(scope="session")
def noisy_truth(darcy):
    return NoisyTruth(darcy, largest=24)


@pytest.fixture(scope="session")
def evaluation(darcy, noisy_truth):
    inputs = darcy.sample(range(40), seed=5)
    outputs, _ = darcy.solve(inputs)
    return evaluate(
        noisy_truth,
        darcy,
        inputs.float(),
        outputs.float(),
        settings=EvaluationSettings(resolutions=[8, 16, 32], shifts=True, samples=6),
        baseline_seconds=3.0,
        seed=5,
    )
