"""Errors of a prediction per sample and their summary over a test set, in physical units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.norms import relative_h1, relative_l2


@dataclass(frozen=True)
class ErrorSummary:
    """A quantity over ``count`` samples: its median, 95th percentile (linear interpolation) and largest value."""

    median: float
    p95: float
    worst: float
    count: int


@dataclass(frozen=True)
class FieldErrors:
    """‖prediction - truth‖ / ‖truth‖ per sample, in L2 and in H1."""

    l2: Float[Tensor, " batch"]
    h1: Float[Tensor, " batch"]


def summarise(values: Tensor | np.ndarray | Sequence[float]) -> ErrorSummary:
    """Median, 95th percentile and worst of one number per sample.

    Errors: `InputError` for no samples, or for a value that is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if array.size == 0:
        raise InputError("errors: no samples to summarise")
    if not np.isfinite(array).all():
        raise InputError(f"errors: the value of sample {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    median, p95 = np.percentile(array, [50, 95])
    return ErrorSummary(float(median), float(p95), float(array.max()), int(array.size))


def field_errors(
    prediction: Float[Tensor, "batch channel *space"], truth: Float[Tensor, "batch channel *space"], grid: Grid
) -> FieldErrors:
    """Relative L2 and H1 errors per sample, computed in float64.

    Errors: `InputError` when the shapes differ, do not fit the grid, or a truth is zero.
    """
    if prediction.shape != truth.shape:
        raise InputError(f"errors: prediction of shape {tuple(prediction.shape)}, truth of {tuple(truth.shape)}")
    prediction, truth = prediction.double(), truth.double()
    return FieldErrors(l2=relative_l2(prediction, truth, grid), h1=relative_h1(prediction, truth, grid))


def representatives(errors: Float[Tensor, " batch"]) -> dict[str, int]:
    """Which samples to show: the one with the least error, the one at the median (the lower of two) and the worst."""
    order = errors.argsort(stable=True)
    last = len(order) - 1
    return {"best": int(order[0]), "median": int(order[math.floor(last / 2)]), "worst": int(order[last])}
