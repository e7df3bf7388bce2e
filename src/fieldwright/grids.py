"""Tensor-product grids on boxes, what holds at their walls, and interpolation between them.

Three centrings, per grid:

* ``node``      x_i = lower + i h,        h = L / (n - 1), i = 0..n-1: both walls are grid points,
* ``cell``      x_i = lower + (i + ½) h,  h = L / n:                   midpoints of n cells, no point on a wall,
* ``periodic``  x_i = lower + i h,        h = L / n:                   the upper end is the lower end again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

Centring = Literal["node", "cell", "periodic"]
Condition = Literal["dirichlet", "neumann", "periodic"]
CENTRINGS: tuple[str, ...] = get_args(Centring)
CONDITIONS: tuple[str, ...] = get_args(Condition)
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Boundary:
    """The condition on each side of a box: ``sides[axis] = (condition at the lower end, at the upper end)``.

    Errors: `InputError` for an unknown condition, or an axis that is periodic at one end only.
    """

    sides: tuple[tuple[Condition, Condition], ...]

    def __post_init__(self) -> None:
        for axis, (low, high) in enumerate(self.sides):
            for condition in (low, high):
                if condition not in CONDITIONS:
                    raise InputError(f"boundary: '{condition}' on axis {axis}; allowed are {', '.join(CONDITIONS)}")
            if (low == "periodic") != (high == "periodic"):
                raise InputError(f"boundary: axis {axis} is periodic at one end only ({low}, {high})")

    @classmethod
    def parse(cls, value: Boundary | str | Sequence[str | Sequence[str]], dimension: int) -> Boundary:
        """A boundary from one word for all sides, one word or one pair of words per axis."""
        if isinstance(value, Boundary):
            boundary = value
        elif isinstance(value, str):
            boundary = cls(((value, value),) * dimension)  # type: ignore[arg-type]
        else:
            pairs = tuple((v, v) if isinstance(v, str) else v for v in value)
            if any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in pairs):
                raise InputError(f"boundary: {value!r}; each axis takes one condition or a (low, high) pair")
            boundary = cls(tuple((low, high) for low, high in pairs))  # type: ignore[arg-type]
        if len(boundary.sides) != dimension:
            raise InputError(f"boundary: {len(boundary.sides)} axes given for a problem in {dimension} dimensions")
        return boundary

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Which axes wrap around."""
        return tuple(low == "periodic" for low, _ in self.sides)

    def to_list(self) -> list[list[str]]:
        """The sides as plain lists, for configuration files; `parse` reads them back."""
        return [list(pair) for pair in self.sides]


@dataclass(frozen=True)
class Grid:
    """A tensor-product grid of ``shape`` points on the box [lower, upper].

    Errors: `InputError` when a size is too small for the centring, a bound is out of order or lengths differ.
    """

    shape: tuple[int, ...]
    centring: Centring = "cell"
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "lower", tuple(self.lower) or (0.0,) * len(self.shape))
        object.__setattr__(self, "upper", tuple(self.upper) or (1.0,) * len(self.shape))
        if self.centring not in CENTRINGS:
            raise InputError(f"grid: centring '{self.centring}'; allowed are {', '.join(CENTRINGS)}")
        if not 1 <= len(self.shape) <= 3:
            raise InputError(f"grid: shape {self.shape} has {len(self.shape)} axes; allowed are 1, 2 or 3")
        if not len(self.lower) == len(self.upper) == len(self.shape):
            raise InputError(f"grid: bounds {self.lower}, {self.upper} do not match the {len(self.shape)} axes")
        least = 2 if self.centring == "node" else 1
        for axis, n in enumerate(self.shape):
            if n < least:
                raise InputError(f"grid: {n} points on axis {axis}; a {self.centring} grid needs at least {least}")
            if not -math.inf < self.lower[axis] < self.upper[axis] < math.inf:
                raise InputError(f"grid: axis {axis} runs from {self.lower[axis]} to {self.upper[axis]}")

    @property
    def dimension(self) -> int:
        return len(self.shape)

    @property
    def points(self) -> int:
        return math.prod(self.shape)

    @property
    def lengths(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.lower, self.upper, strict=True))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring points, per axis."""
        less = 1 if self.centring == "node" else 0
        return tuple(length / (n - less) for length, n in zip(self.lengths, self.shape, strict=True))

    def axis(self, index: int, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
        """Coordinates of the points along one axis."""
        shift = 0.5 if self.centring == "cell" else 0.0
        steps = torch.arange(self.shape[index], dtype=dtype) + shift
        return self.lower[index] + steps * self.spacing[index]

    def coordinates(self, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, "dimension *space"]:
        """Coordinates of every point, one field per axis."""
        axes = [self.axis(i, dtype=dtype) for i in range(self.dimension)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def quadrature(self, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, " *space"]:
        """Weights of the trapezoidal (``node``) or midpoint (``cell``, ``periodic``) rule; they sum to the volume."""
        total = torch.ones((), dtype=dtype)
        for axis in range(self.dimension):
            total = total[..., None] * self.weights(axis, dtype=dtype)
        return total

    def weights(self, axis: int, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
        """Weights of the rule along one axis; they sum to its length."""
        line = torch.full((self.shape[axis],), self.spacing[axis], dtype=dtype)
        if self.centring == "node":
            line[0] = line[-1] = self.spacing[axis] / 2
        return line

    def resized(self, shape: Sequence[int] | int) -> Grid:
        """The same box with another number of points."""
        sizes = (shape,) * self.dimension if isinstance(shape, int) else tuple(shape)
        return replace(self, shape=sizes)


def resample(
    field: Float[Tensor, "... *space"], source: Grid, target: Grid, *, order: Literal[0, 1, 3] = 3
) -> Float[Tensor, "... *space_out"]:
    """Interpolate a field from one grid of a box to another.

    Periodic to periodic is trigonometric (exact for resolved modes); everything else is piecewise Lagrange of the given
    order, axis by axis, extrapolating with the outermost stencil where a node lies outside the outermost midpoints.
    Order 0 takes the field as constant on each cell and gives the mean over each target cell: it keeps the integral,
    makes no new extrema, and is what a coefficient with jumps needs.

    Errors: `InputError` when the field does not fit ``source``, the boxes differ, or order 0 is asked of points that
    are not cell centres.
    """
    if tuple(field.shape[field.ndim - source.dimension :]) != source.shape:
        raise InputError(f"resample: field of shape {tuple(field.shape)} does not end in the grid's {source.shape}")
    if (source.lower, source.upper) != (target.lower, target.upper):
        raise InputError(
            f"resample: the boxes differ, {source.lower}..{source.upper} and {target.lower}..{target.upper}"
        )
    if order == 0 and (source.centring, target.centring) != ("cell", "cell"):
        raise InputError(f"resample: order 0 is for cells, not from a {source.centring} to a {target.centring} grid")
    if source == target:
        return field
    for axis in range(source.dimension):
        matrix = _interpolation_matrix(source, target, axis, order).to(field)
        position = field.ndim - source.dimension + axis
        field = torch.movedim(torch.movedim(field, position, -1) @ matrix.T, -1, position)
    return field


def _interpolation_matrix(source: Grid, target: Grid, axis: int, order: int) -> Float[Tensor, "target source"]:
    n, x = source.shape[axis], target.axis(axis)
    if order == 0:
        # |source cell ∩ target cell| / |target cell|, with the cell boundaries as multiples of 1/(n m).
        m = target.shape[axis]
        ours, theirs = torch.arange(n) * m, torch.arange(m)[:, None] * n
        shared = torch.minimum(ours + m, theirs + n) - torch.maximum(ours, theirs)
        return shared.clamp_min(0).double() / n
    if source.centring == "periodic":
        # Rows are the periodic cardinal functions of the source nodes, evaluated at the target points. The Nyquist
        # mode of an even grid is split evenly between +n/2 and -n/2, which keeps real fields real.
        theta = 2 * math.pi * ((x[:, None] - source.axis(axis)[None]) / source.lengths[axis])
        k = torch.arange(1, (n + 1) // 2, dtype=torch.float64)
        values = 1 + 2 * torch.cos(theta[..., None] * k).sum(-1)
        if n % 2 == 0:
            values = values + torch.cos(theta * (n // 2))
        return values / n
    width = min(order, n - 1) + 1
    shift = 0.5 if source.centring == "cell" else 0.0
    place = (x - source.lower[axis]) / source.spacing[axis] - shift
    first = (torch.floor(place).long() - (width // 2 - 1)).clamp(0, n - width)
    matrix = torch.zeros(len(x), n, dtype=torch.float64)
    for i in range(width):
        weight = torch.ones_like(place)
        for j in range(width):
            if j != i:
                weight = weight * (place - (first + j)) / (i - j)
        matrix[torch.arange(len(x)), first + i] = weight
    return matrix
