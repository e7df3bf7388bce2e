"""The symmetries of a periodic box: translations, reflections and exchanges of axes, of scalars and of vectors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid

Kind = Literal["scalar", "pseudoscalar", "vector"]


@dataclass(frozen=True)
class PeriodicSymmetry:
    """A map (batch channel *space) -> (batch channel *space) of fields on a periodic grid.

    ``order``     the old axis that each axis comes from
    ``mirrored``  axes that are then reflected, x -> -x
    ``shift``     points by which each axis is then moved on
    ``kind``      how values change: not at all; "pseudoscalar": the first channel has the sign of the map (vorticity);
                  "vector": the first ``d`` channels are components along the axes; the other channels are scalars
    """

    order: tuple[int, ...]
    mirrored: tuple[int, ...]
    shift: tuple[int, ...]
    kind: Kind = "scalar"

    def __call__(self, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        dimension = len(self.order)
        lead = field.ndim - dimension
        moved = field.permute(*range(lead), *(lead + axis for axis in self.order))
        axes = [lead + axis for axis in range(dimension)]
        if self.mirrored:
            # The point x = 0 is its own mirror image, so the reversed axis starts one point too late.
            places = [axes[axis] for axis in self.mirrored]
            moved = moved.flip(places).roll([1] * len(places), places)
        if any(self.shift):
            moved = moved.roll(self.shift, axes)
        if self.kind == "pseudoscalar":
            return moved if self._sign > 0 else torch.cat([-moved[:, :1], moved[:, 1:]], 1)
        if self.kind == "vector":
            signs = [-1.0 if axis in self.mirrored else 1.0 for axis in range(dimension)]
            parts = [sign * moved[:, old : old + 1] for sign, old in zip(signs, self.order, strict=True)]
            return torch.cat([*parts, moved[:, dimension:]], 1)
        return moved

    @property
    def _sign(self) -> int:
        swaps = sum(a > b for a, b in itertools.combinations(self.order, 2))
        return (-1) ** (swaps + len(self.mirrored))


def periodic_symmetries(
    grid: Grid, kind: Kind = "scalar", *, mirrors: bool = True, shifts: bool = True
) -> tuple[PeriodicSymmetry, ...]:
    """Symmetries of a periodic grid, identity first.

    ``mirrors``  reflections and exchanges of equal axes
    ``shifts``   translations by half the box along each axis, where it has an even number of points

    Errors: `InputError` for an unknown kind or a grid that is not periodic.
    """
    if kind not in get_args(Kind):
        raise InputError(f"symmetries: kind '{kind}'; allowed are {', '.join(get_args(Kind))}")
    if grid.centring != "periodic":
        raise InputError(f"symmetries: a {grid.centring} grid; a periodic one is needed")
    axes = range(grid.dimension)
    orders = [
        order
        for order in itertools.permutations(axes)
        if all((grid.shape[a], grid.lengths[a]) == (grid.shape[i], grid.lengths[i]) for i, a in enumerate(order))
    ]
    reflections = [some for count in range(grid.dimension + 1) for some in itertools.combinations(axes, count)]
    steps = [(0, n // 2) if shifts and n % 2 == 0 else (0,) for n in grid.shape]
    if not mirrors:
        orders, reflections = [tuple(axes)], [()]
    return tuple(
        PeriodicSymmetry(order, mirrored, shift, kind)
        for order in orders
        for mirrored in reflections
        for shift in itertools.product(*steps)
    )
