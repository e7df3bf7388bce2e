"""Objectives: what a phase minimises, as named losses of an operator on a batch.

The operator that an objective is given takes and returns fields in physical units: normalisation, mixed precision and
data parallelism are inside. So a supervised objective compares with ``batch.outputs`` and a physics objective evaluates
a discrete residual, with no further conversion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training.batches import Batch

PhysicalOperator = Callable[[Tensor], Tensor]


@runtime_checkable
class Objective(Protocol):
    """Named losses, each the mean over the batch's samples; the sum of them is minimised.

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


TERMS: dict[str, Callable[[Tensor, Grid], Tensor]] = {"l2": squared_l2, "h1": squared_h1}


@dataclass(frozen=True)
class RelativeError:
    """Σ_k w_k · mean over samples of ‖û - u‖_k / ‖u‖_k, with k = L2, H1 and fields in units of ``batch.scale``.

    ``weights`` maps names of `TERMS` to w_k. The operator is evaluated once for all terms. A sample whose norm is below
    `SMALL` of a field that equals the scale everywhere is measured against that bound, so a zero target is not a
    division by zero. Errors: `InputError` for an unknown name or a prediction of another shape than the outputs.
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
        prediction = operator(batch.inputs)
        if prediction.shape != batch.outputs.shape:
            raise InputError(
                f"objective: the operator returns fields of shape {tuple(prediction.shape)};"
                f" the outputs have {tuple(batch.outputs.shape)}"
            )
        scale = batch.scale.reshape(-1, *[1] * batch.grid.dimension)
        target = batch.outputs / scale
        error = prediction / scale - target
        volume = math.prod(batch.grid.lengths) * len(batch.scale)
        losses = {}
        for name, weight in self.weights.items():
            squared_norm = TERMS[name]
            size = squared_norm(target, batch.grid).clamp_min(SMALL**2 * volume)
            # The square root has no gradient at zero; ROUND_OFF keeps it finite when a prediction is exact.
            losses[name] = weight * (squared_norm(error, batch.grid) / size + ROUND_OFF**2).sqrt().mean()
        return losses


SMALL = 1e-4
ROUND_OFF = 1e-7


def build_objective(choice: str | Mapping[str, float] | Objective) -> Objective:
    """The objective that a phase names: ``"l2"``, ``"l2+h1"``, ``{"l2": 1, "h1": 0.5}``, or an `Objective` as it is.

    Errors: `InputError` for an unknown name or a weight that is not positive.
    """
    if isinstance(choice, str):
        names = [name.strip() for name in choice.split("+")]
        return RelativeError({name: 1.0 for name in names})
    if isinstance(choice, Mapping):
        return RelativeError(dict(choice))
    return choice
