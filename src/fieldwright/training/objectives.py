"""Objectives: what a phase minimises, as named losses of an operator on a batch.

The operator that an objective is given takes and returns fields in physical units: normalisation, mixed precision and
data parallelism are inside. So a supervised objective compares with ``batch.outputs`` and a physics objective evaluates
a discrete residual, with no further conversion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training.batches import Batch
from fieldwright.training.group_error import group_error


class PhysicalOperator(Protocol):
    """Physical fields to physical fields; with lead times where the operator is trained for them."""

    def __call__(self, fields: Tensor, lead_time: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Objective(Protocol):
    """Named losses of a batch; the sum of them is minimised.

    A batch may come in pieces, whose losses are averaged, each by its number of samples.
    ``names`` are the keys of what a call returns. Random draws come from torch's default generator, which the loop
    seeds before every step.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def __call__(self, operator: PhysicalOperator, batch: Batch) -> dict[str, Tensor]: ...


def squared_l2(field: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, " batch"]:
    """‖v‖²_L2 per sample in the field's own precision, by the quadrature of `fieldwright.norms.l2_norm`."""
    return _integral(field.square(), grid)


def squared_h1(field: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, " batch"]:
    """‖v‖²_H1 = ‖v‖²_L2 + Σ_axis ‖∂v‖²_L2 by differences of neighbouring points, as in `fieldwright.norms.h1_norm`.

    Differences need no assumption at the walls, where a Fourier form of the norm would see a jump of the periodic
    continuation; a periodic axis wraps around.
    """
    total = squared_l2(field, grid)
    for axis, h in enumerate(grid.spacing):
        position = axis + 2
        total = total + _integral(field.diff(dim=position).square(), grid, between=axis) / h**2
        if grid.centring == "periodic":
            wrap = field.narrow(position, 0, 1) - field.narrow(position, -1, 1)
            total = total + _integral(wrap.square(), grid, between=axis) / h**2
    return total


def _integral(
    square: Float[Tensor, "batch channel *space"], grid: Grid, between: int | None = None
) -> Float[Tensor, " batch"]:
    """Quadrature over channels and points; ``between`` is the axis along which values stand between the points."""
    if grid.centring != "node":
        return math.prod(grid.spacing) * square.flatten(1).sum(1)
    weights = grid.quadrature(dtype=square.dtype).to(square.device)
    if between is not None:  # each weighs h there, twice what a wall weighs
        weights = 2 * weights.select(between, 0).unsqueeze(between)
    return (square * weights).flatten(1).sum(1)


def relative_error(
    squared_norm: Callable[[Tensor, Grid], Tensor], prediction: Tensor, target: Tensor, batch: Batch
) -> Float[Tensor, ""]:
    """The mean over samples of ‖û - u‖ / ‖u‖."""
    volume = math.prod(batch.grid.lengths) * len(batch.scale)
    size = squared_norm(target, batch.grid).clamp_min(SMALL**2 * volume)
    # The square root has no gradient at zero; ROUND_OFF keeps it finite when a prediction is exact.
    return (squared_norm(prediction - target, batch.grid) / size + ROUND_OFF**2).sqrt().mean()


def relative_group_error(power: int, prediction: Tensor, target: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """`fieldwright.training.group_error.group_error` with the groups of the batch."""
    return group_error(prediction, target, groups=batch.layout.groups, power=power, missing=batch.missing)


TERMS: dict[str, Callable[[Tensor, Tensor, Batch], Tensor]] = {
    "l2": partial(relative_error, squared_l2),
    "h1": partial(relative_error, squared_h1),
    "group-l1": partial(relative_group_error, 1),
    "group-l2": partial(relative_group_error, 2),
}


@dataclass(frozen=True)
class RelativeError:
    """Σ_k w_k L_k with fields in units of ``batch.scale``; ``weights`` maps names of `TERMS` to w_k.

    "l2", "h1"              the mean over samples of ‖û - u‖ / ‖u‖ in L2 and H1. A sample whose norm is below `SMALL` of
                            a field that equals the scale everywhere is measured against that bound, so a zero target is
                            not a division by zero
    "group-l1", "group-l2"  the ratio of means over the batch, per quantity, see `fieldwright.training.group_error`

    The operator is evaluated once for all terms. What is missing of the outputs counts in none.

    Errors: `InputError` for an unknown name or a prediction of another shape than the outputs.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if name not in TERMS:
                raise InputError(f"objective: '{name}'; allowed are {', '.join(TERMS)} and their sums, such as 'l2+h1'")
            if not (weight > 0 and math.isfinite(weight)):
                raise InputError(f"objective: weight {weight} of '{name}'; it must be positive")
        if not self.weights:
            raise InputError(f"objective: no term given; allowed are {', '.join(TERMS)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def __call__(self, operator: PhysicalOperator, batch: Batch) -> dict[str, Tensor]:
        prediction, target = batch.compared(operator)
        return {name: weight * TERMS[name](prediction, target, batch) for name, weight in self.weights.items()}


SMALL = 1e-4
ROUND_OFF = 1e-7


def build_objective(choice: str | Mapping[str, float] | Objective) -> Objective:
    """The objective that a phase names: ``"l2"``, ``"l2+h1"``, ``{"l2": 1, "h1": 0.5}``, or an `Objective` as it is;
    the names are those of `TERMS`.

    Errors: `InputError` for an unknown name or a weight that is not positive.
    """
    if isinstance(choice, str):
        names = [name.strip() for name in choice.split("+")]
        return RelativeError({name: 1.0 for name in names})
    if isinstance(choice, Mapping):
        return RelativeError(dict(choice))
    return choice
