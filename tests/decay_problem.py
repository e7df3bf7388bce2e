"""The smallest problems in time with known answers: u_t = -k u with a number k, and u_t = cos t, which has a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fieldwright.grids import Boundary, Grid
from fieldwright.problems import EvolutionProblem, Field, Law


@dataclass(frozen=True)
class Decay(EvolutionProblem):
    """u_t = -k u per point for both components of a vector, by Heun's method (order 2); "map" is an idle field."""

    resolution: int = 8
    duration: float = 1.0
    frames: int = 4
    steps: int | None = None
    blows_up: int = -1

    state: ClassVar[tuple[Field, ...]] = (Field("w_x", "m", vector="w"), Field("w_y", "m", vector="w"))
    coefficients: ClassVar[tuple[Field, ...]] = (Field("k", "1/s", number=True), Field("map", "1"))

    def __post_init__(self) -> None:
        self.check_settings("decay")

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution, self.resolution), "periodic")

    @property
    def boundary(self) -> Boundary:
        return Boundary.parse("periodic", 2)

    def sample(self, indices: Sequence[int], seed: int) -> torch.Tensor:
        fields = []
        for index in indices:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
            values = torch.rand(4, *self.grid.shape, generator=generator, dtype=torch.float64) + 0.5
            values[2] = 1 + index % 5
            if index == self.blows_up:
                values[2] = -1e4
            fields.append(values)
        return torch.stack(fields) if fields else torch.empty(0, 4, *self.grid.shape, dtype=torch.float64)

    def rate(self, inputs):
        return -inputs[:, 2:3] * inputs[:, :2]

    def integrate(self, inputs, *, frames, steps):
        state, found, step = inputs[:, :2], [], self.interval / steps
        for _ in range(frames):
            for _ in range(steps):
                slope = self.rate(torch.cat([state, inputs[:, 2:]], 1))
                last = self.rate(torch.cat([state + step * slope, inputs[:, 2:]], 1))
                state = state + step / 2 * (slope + last)
            found.append(state)
        return torch.stack(found, 1)

    def laws(self, inputs, states, times):
        return {"size": Law(states.square().flatten(2).sum(2), "falling")}


@dataclass(frozen=True)
class Forced(EvolutionProblem):
    """u_t = cos t by Simpson's rule in time: u(t) = u(0) + sin t, so that the clock matters."""

    resolution: int = 4
    duration: float = 2.0
    frames: int = 4
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("u"),)
    coefficients: ClassVar[tuple[Field, ...]] = (Field("start", "s", number=True),)
    clock: ClassVar[str] = "start"

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,), "cell")

    @property
    def boundary(self) -> Boundary:
        return Boundary.parse("neumann", 1)

    def sample(self, indices: Sequence[int], seed: int) -> torch.Tensor:
        fields = torch.zeros(len(indices), 2, self.resolution, dtype=torch.float64)
        fields[:, 0] = torch.tensor([float(i) for i in indices], dtype=torch.float64)[:, None]
        return fields

    def rate(self, inputs):
        return inputs[:, 1:2].cos()

    def integrate(self, inputs, *, frames, steps):
        state, start, found, step = inputs[:, :1], inputs[:, 1:2], [], self.interval / steps
        for frame in range(frames):
            for place in range(steps):
                t = start + frame * self.interval + place * step
                state = state + step / 6 * (t.cos() + 4 * (t + step / 2).cos() + (t + step).cos())
            found.append(state)
        return torch.stack(found, 1)

    def laws(self, inputs, states, times):
        t = inputs[:, 1].flatten(1)[:, :1] + times
        supply = t.sin() - t[:, :1].sin()
        return {"level": Law(states.mean((2, 3)), supply=supply, scale=torch.ones(len(states)), tolerance=1e-4)}


def exact_decay(problem: Decay, inputs: torch.Tensor, time: float) -> torch.Tensor:
    """The states of `Decay` at a time."""
    return inputs[:, :2] * torch.exp(-inputs[:, 2:3] * time)
