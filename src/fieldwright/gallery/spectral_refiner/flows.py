"""Decaying turbulence after McWilliams: ten known frames and the ten that follow, on two grids, at half intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.datasets import Normalizer
from fieldwright.gallery.spectral_refiner.effort import Effort
from fieldwright.problems import NavierStokes, TrajectoryWindow
from fieldwright.training import TrainingData

KNOWN = PREDICTED = 10
INTERVAL = 0.05
STEPS = 4
"""Time steps of an interval; twice as many change no frame by more than 3e-5 (measured on 64 x 64 points)."""
WARM_UP = 40
"""Intervals before the first known frame: two units of time."""

_TOGETHER = 40


@dataclass(frozen=True)
class UnseenFlows:
    """Windows of flows that no model has seen: ``known`` and ``predicted`` frames as channels.

    ``between``  the states at half the interval after the last known frame, twice as many: every second is a frame
    ``finer``    known and predicted frames of the first half of them on a grid of twice the points per axis
    """

    known: Float[Tensor, "sample frame x y"]
    predicted: Float[Tensor, "sample frame x y"]
    between: Float[Tensor, "sample half_frame x y"]
    finer: tuple[Tensor, Tensor]


def window_problem(points: int) -> TrajectoryWindow:
    """The problem whose instances the windows are, for its grid and its solver."""
    flow = {"kind": "navier_stokes", "resolution": points, "duration": INTERVAL, "frames": 1}
    return TrajectoryWindow(flow, known=KNOWN, predicted=PREDICTED)


def training_data(effort: Effort) -> TrainingData:
    """Windows to train on and to validate with, in units of the predicted vorticity's deviation."""
    valid = max(2, effort.flows // 16)
    frames = vorticity(effort.points, range(effort.flows + valid))
    known, predicted = frames[:, :KNOWN], frames[:, KNOWN:]
    scale = predicted[: effort.flows].std().reshape(1)
    same = Normalizer(torch.zeros(KNOWN), scale.expand(KNOWN).clone())
    pairs = [(known[part], predicted[part]) for part in (slice(effort.flows), slice(effort.flows, None))]
    return TrainingData(pairs[0], pairs[1], inputs=same, outputs=same, grid=window_problem(effort.points).grid)


def unseen_flows(effort: Effort) -> UnseenFlows:
    """Flows far from those of training by their index."""
    first = 1_000_000
    halves = vorticity(effort.points, range(first, first + effort.test_flows), halves=True)
    whole = halves[:, ::2]
    finer = vorticity(2 * effort.points, range(first, first + max(1, effort.test_flows // 2)))
    return UnseenFlows(
        known=whole[:, :KNOWN],
        predicted=whole[:, KNOWN:],
        between=halves[:, 2 * KNOWN - 1 :],
        finer=(finer[:, :KNOWN], finer[:, KNOWN:]),
    )


def vorticity(points: int, flows: Sequence[int], *, halves: bool = False) -> Float[Tensor, "sample frame x y"]:
    """The known and predicted frames of these flows, float32; with ``halves`` also the states midway between them."""
    per = 2 if halves else 1
    intervals = WARM_UP + KNOWN + PREDICTED
    problem = NavierStokes(resolution=points, duration=intervals * INTERVAL, frames=intervals * per)
    # A finer grid holds steeper waves, which take smaller steps.
    method = f"{STEPS // per * max(1, points // 64)} steps"
    parts = []
    for some in torch.tensor(flows).split(_TOGETHER):
        states, _ = problem.trajectory(problem.sample(some.tolist(), seed=0), method=method)
        parts.append(states[:, (WARM_UP + 1) * per :, 0].float())
    return torch.cat(parts)
