"""The box that a mesh fills: its sides, which axes wrap around, and fields sampled anywhere in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid


@dataclass(frozen=True)
class Box:
    """[lower, upper] in 1 to 3 dimensions, in the units of the coordinates; ``periodic`` says which axes wrap around.

    Errors: `InputError` for bounds out of order or lengths that differ.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    periodic: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.lower) == len(self.upper) == len(self.periodic) or not 1 <= len(self.lower) <= 3:
            raise InputError(f"box: {self.lower}, {self.upper}, {self.periodic}; expected the same 1 to 3 axes in each")
        for axis, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if not -math.inf < low < high < math.inf:
                raise InputError(f"box: axis {axis} runs from {low} to {high}; it must run upwards")

    @classmethod
    def of(cls, grid: Grid, boundary: Boundary | str | None = None) -> Box:
        """The box of a grid; axes wrap where the boundary says so, by default on grids of periodic centring."""
        if boundary is None:
            boundary = "periodic" if grid.centring == "periodic" else "neumann"
        return cls(grid.lower, grid.upper, Boundary.parse(boundary, grid.dimension).periodic)

    @property
    def dimension(self) -> int:
        return len(self.lower)

    @property
    def lengths(self) -> tuple[float, ...]:
        return tuple(high - low for low, high in zip(self.lower, self.upper, strict=True))

    @property
    def volume(self) -> float:
        return math.prod(self.lengths)

    @property
    def size(self) -> float:
        """The side of the cube of the same volume: the unit of length in which a method's constants are stated."""
        return self.volume ** (1 / self.dimension)


def sample(
    field: Float[Tensor, "batch channel *space"],
    grid: Grid,
    points: Float[Tensor, "batch axis *where"],
    periodic: Sequence[bool],
) -> Float[Tensor, "batch channel *where"]:
    """The field at any points of the box, multilinear between the grid's points.

    Exact for fields linear in each coordinate: beyond the outermost points of an axis that does not wrap, the outermost
    interval goes on; one that wraps has an interval more. Differentiable in the field and the points.
    """
    batch, channels = field.shape[:2]
    flat = field.flatten(2)
    index: list[tuple[Tensor, Tensor]] = []
    weight: list[tuple[Tensor, Tensor]] = []
    shift = 0.5 if grid.centring == "cell" else 0.0
    for axis, n in enumerate(grid.shape):
        place = (points[:, axis].flatten(1) - grid.lower[axis]) / grid.spacing[axis] - shift
        first = place.detach().floor()
        if periodic[axis]:
            # A node grid repeats its first point at its end.
            wrap = n - 1 if grid.centring == "node" else n
            ends = first.long() % wrap, (first.long() + 1) % wrap
        else:
            first = first.clamp(0, max(n - 2, 0))
            ends = first.long(), (first.long() + 1).clamp(max=n - 1)
        index.append(ends)
        weight.append((1 - (place - first), place - first))
    total = None
    for corner in itertools.product((0, 1), repeat=grid.dimension):
        flat_index, factor = index[0][corner[0]], weight[0][corner[0]]
        for axis in range(1, grid.dimension):
            flat_index = flat_index * grid.shape[axis] + index[axis][corner[axis]]
            factor = factor * weight[axis][corner[axis]]
        values = flat.gather(2, flat_index[:, None].expand(-1, channels, -1)) * factor[:, None]
        total = values if total is None else total + values
    assert total is not None
    return total.reshape(batch, channels, *points.shape[2:])


def along(field: Float[Tensor, "*space"], matrix: Float[Tensor, "out in"], axis: int) -> Float[Tensor, "*result"]:
    """A matrix applied along one axis of a tensor, counted from the end: -1 is the last."""
    if axis == -1:
        return field @ matrix.T
    if axis == -2:
        return matrix @ field
    return (field.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def sample_within(
    field: Float[Tensor, "batch *space"], grid: Grid, points: Float[Tensor, "batch_or_1 axis *where"], box: Box
) -> Float[Tensor, "batch *where"]:
    """One field at points of the box, multilinear and level beyond the outermost points of an axis that does not wrap.

    The points may be the same for all samples: a batch of one.

    Seven times as fast as `sample`, for what is evaluated again and again.
    """
    d = grid.dimension
    if d == 1:
        return sample(field[:, None], grid, points, box.periodic)[:, 0]
    lines, padded = [], field[:, None]
    for axis, n in enumerate(grid.shape):
        place = points[:, axis] - grid.lower[axis]
        shift = 0.5 if grid.centring == "cell" else 0.0
        if box.periodic[axis]:
            place = place.remainder(grid.lengths[axis])
            repeat = n - 1 if grid.centring == "node" else n
            padded = torch.cat(
                (
                    padded.narrow(axis + 2, repeat - 1, 1),
                    padded.narrow(axis + 2, 0, repeat),
                    padded.narrow(axis + 2, 0, 1),
                ),
                axis + 2,
            )
            n, shift = repeat + 2, shift - 1
        lines.append(2 * (place / grid.spacing[axis] - shift) / (n - 1) - 1)
    where = torch.stack(lines[::-1], -1)
    shape = where.shape[1:-1]
    where = where.reshape(len(where), *[1] * (d - 1), -1, d)
    if len(where) != len(padded):
        where = where.expand(len(padded), *where.shape[1:])
    values = torch.nn.functional.grid_sample(padded, where, padding_mode="border", align_corners=True)
    return values.reshape(len(field), *shape)
