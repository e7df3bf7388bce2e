"""The symmetries of a box: reflections and exchanges of axes that map the walls onto walls of the same kind."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Boundary, Grid


@dataclass(frozen=True)
class BoxSymmetry:
    """The map (… *space) -> (… *space) that reorders the trailing axes and then reverses some of them.

    ``vectors``  pairs (channels, first): of arrays (batch channel *space) with so many channels those from ``first`` on
                 are the components of a vector along the axes, which turn with the box
    """

    order: tuple[int, ...]
    reversed_axes: tuple[int, ...]
    vectors: tuple[tuple[int, int], ...] = ()

    def __call__(self, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        dimension = len(self.order)
        lead = field.ndim - dimension
        moved = field.permute(*range(lead), *(lead + axis for axis in self.order))
        if self.reversed_axes:
            moved = torch.flip(moved, [lead + axis for axis in self.reversed_axes])
        first = dict(self.vectors).get(field.shape[1]) if lead == 2 else None
        if first is None:
            return moved
        signs = [-1.0 if axis in self.reversed_axes else 1.0 for axis in range(dimension)]
        turned = [sign * moved[:, first + old] for sign, old in zip(signs, self.order, strict=True)]
        return torch.cat([moved[:, :first], torch.stack(turned, 1), moved[:, first + dimension :]], 1)


def box_symmetries(
    grid: Grid, walls: Boundary, *, vectors: tuple[tuple[int, int], ...] = ()
) -> tuple[BoxSymmetry, ...]:
    """All symmetries of the grid and its wall conditions, identity first: 2 in 1D, 8 in 2D, 48 in 3D at most.

    ``vectors``  which channels are components of vectors, as in `BoxSymmetry`; without them all fields are scalars

    A periodic axis has no reflection here on its ``periodic`` grid, whose mirror image is shifted by one point.
    """
    found = []
    dimension = grid.dimension
    for order in itertools.permutations(range(dimension)):
        if tuple(grid.shape[a] for a in order) != grid.shape or tuple(grid.lengths[a] for a in order) != grid.lengths:
            continue
        for count in range(dimension + 1):
            for mirrored in itertools.combinations(range(dimension), count):
                sides = [walls.sides[a] for a in order]
                for axis in mirrored:
                    low, high = sides[axis]
                    sides[axis] = (high, low)
                wraps = grid.centring == "periodic" and any(walls.sides[order[a]][0] == "periodic" for a in mirrored)
                if tuple(sides) == walls.sides and not wraps:
                    found.append(BoxSymmetry(order, mirrored, vectors))
    found.sort(key=lambda s: (s.order != tuple(range(dimension)), len(s.reversed_axes)))
    return tuple(found)
