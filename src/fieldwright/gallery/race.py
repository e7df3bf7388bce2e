"""A race: operators trained on the same samples within the same time, on the same threads, seed by seed.

The seeds go round outside and the entrants inside, so that a machine which slows down half-way slows all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.norms import relative_h1, relative_l2
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train


@dataclass(frozen=True)
class Entrant:
    """An operator that takes part: how it is built, and the phase it is trained by."""

    name: str
    build: Callable[[], nn.Module]
    phase: Phase


@dataclass(frozen=True)
class Finish:
    """What one entrant reached with one seed: mean relative errors over the test samples, in physical units."""

    name: str
    seed: int
    parameters: int
    steps: int
    l2: float
    h1: float


def race(
    entrants: Sequence[Entrant],
    data: TrainingData,
    test: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    reporter: Reporter,
) -> list[Finish]:
    """Train every entrant with every seed, and measure it on the test samples."""
    finishes = []
    for seed in seeds:
        for entrant in entrants:
            with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as directory:
                torch.manual_seed(seed)
                operator = entrant.build()
                summary = train(operator, [entrant.phase], data, directory=Path(directory), seed=seed)
            parameters = sum(p.numel() for p in operator.parameters())
            l2, h1 = errors(operator, data, test)
            finishes.append(Finish(entrant.name, seed, parameters, summary.steps, l2, h1))
            reporter.notice(
                f"{entrant.name}, seed {seed}: {summary.steps} steps, {summary.seconds:.0f} s, L2 {l2:.2%}, H1 {h1:.2%}"
            )
    return finishes


def errors(operator: nn.Module, data: TrainingData, test: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean relative L2 and H1 errors over the test samples, in physical units."""
    prediction = predict(operator, data, test[0])
    truth = test[1].double()
    l2, h1 = relative_l2(prediction, truth, data.grid), relative_h1(prediction, truth, data.grid)
    return float(l2.mean()), float(h1.mean())


def predict(
    operator: nn.Module, data: TrainingData, inputs: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, "batch output *space"]:
    """The operator's outputs in physical units and float64, a few samples at a time."""
    operator.eval()
    with torch.inference_mode():
        parts = [data.outputs.decode(operator(data.inputs.encode(part.float()))) for part in inputs.split(20)]
    return torch.cat(parts).double()
