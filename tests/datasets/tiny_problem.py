"""A problem that costs nothing to solve, with samples that fail on request."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from fieldwright.grids import Boundary, Grid
from fieldwright.problems import Field, Problem
from fieldwright.solvers import Solution


@dataclass(frozen=True)
class Halving(Problem):
    """u = size * a / 2, for random a in [1, 2]. Sample indices in ``stuck`` do not converge, in ``broken`` are NaN, and
    those in ``deadly`` kill the process that draws them, if it is one that another process started.
    """

    resolution: int = 8
    dimension: int = 2
    size: float = 1.0
    stuck: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    deadly: list[int] = field(default_factory=list)
    walls: Any = "dirichlet"

    inputs: ClassVar[tuple[Field, ...]] = (Field("a", "m"),)
    outputs: ClassVar[tuple[Field, ...]] = (Field("u", "Pa", "half of a"),)

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> torch.Tensor:
        fields = []
        for index in indices:
            if index in self.deadly and multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            generator = torch.Generator().manual_seed(hash((seed, index)) % 2**62)
            values = 1 + torch.rand(1, *self.grid.shape, generator=generator, dtype=torch.float64)
            # The first grid point tells `solve` which sample this is.
            values.view(-1)[0] = 1 + index % 1_000_000_000 / 1024
            fields.append(values * float("nan") if index in self.broken else values)
        return torch.stack(fields)

    def solve(self, inputs, *, rtol=1e-8, method="auto", guess=None):
        time.sleep(float(os.environ.get("HALVING_SLEEP", "0")))
        index = (inputs.flatten(1)[:, 0] - 1) * 1024
        converged = torch.tensor([round(float(i)) not in self.stuck for i in index], dtype=torch.bool)
        count = len(inputs)
        residual = torch.where(converged, torch.tensor(1e-12, dtype=torch.float64), 1.0)
        iterations = torch.full((count,), 3)
        outputs = self.size * inputs / 2
        return outputs, Solution(outputs[:, 0], converged, iterations, residual, 0.25, "halving")

    def residual(self, inputs, outputs):
        return self.size * inputs / 2 - outputs

    def balance(self, inputs, outputs):
        return {}

    def guess(self, inputs):
        return torch.zeros_like(inputs)
