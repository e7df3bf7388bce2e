"""How errors grow when each prediction goes on from the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.analysis.errors import ErrorSummary, summarise
from fieldwright.grids import Grid
from fieldwright.norms import relative_l2
from fieldwright.problems import EvolutionProblem


@dataclass(frozen=True)
class RolloutErrors:
    """Relative L2 errors at the end of a roll-out of ``frames`` frames from true initial states.

    ``duration``      the time of the last frame
    ``trajectories``  how many were rolled out, ``lost`` of them to NaN or infinity on the way
    ``last``          errors at the last frame of those that were not lost; None when all were
    ``persistence``   median error there of the initial state itself, the forecast that nothing changes
    """

    frames: int
    duration: float
    trajectories: int
    lost: int
    last: ErrorSummary | None
    persistence: float


class RolledOut(Protocol):
    """What `rollout_errors` asks of a surrogate: the states at 0, 1, ..., ``frames`` intervals."""

    def roll_out(self, inputs: Tensor, frames: int) -> Float[Tensor, "batch time channel *space"]: ...


@torch.no_grad()
def rollout_errors(
    surrogate: RolledOut,
    problem: EvolutionProblem,
    first: Float[Tensor, "batch channel *space"],
    states: Float[Tensor, "batch time channel_out *space"],
) -> tuple[RolloutErrors, dict[str, np.ndarray]]:
    """Roll out from the instances ``first`` and compare with their true ``states`` at the problem's times.

    The arrays are ``rollout_time`` (time), ``rollout_error`` (trajectory, time), infinite from where a trajectory is
    lost, and ``rollout_persistence`` (time), the median error of the initial states.
    """
    predicted = surrogate.roll_out(first.float(), problem.frames).cpu()
    truth = states.cpu()
    errors = _frame_errors(predicted, truth, problem.grid).nan_to_num(nan=torch.inf)
    persistence = _frame_errors(truth[:, :1].expand_as(truth), truth, problem.grid).quantile(0.5, dim=0)
    kept = errors[:, -1].isfinite()
    arrays = {
        "rollout_time": problem.times.numpy(),
        "rollout_error": errors.numpy(),
        "rollout_persistence": persistence.numpy(),
    }
    return (
        RolloutErrors(
            frames=problem.frames,
            duration=problem.duration,
            trajectories=len(first),
            lost=int((~kept).sum()),
            last=summarise(errors[kept, -1]) if bool(kept.any()) else None,
            persistence=float(persistence[-1]),
        ),
        arrays,
    )


def _frame_errors(predicted: Tensor, truth: Tensor, grid: Grid) -> Float[Tensor, "batch time"]:
    flat = relative_l2(predicted.flatten(0, 1).double(), truth.flatten(0, 1).double(), grid)
    return flat.reshape(truth.shape[:2])
