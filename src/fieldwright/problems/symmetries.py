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
    """The map (… *space) -> (… *space) that reorders the trailing axes and then reverses some of them."""

    order: tuple[int, ...]
    reversed_axes: tuple[int, ...]

    def __call__(self, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        lead = field.ndim - len(self.order)
        moved = field.permute(*range(lead), *(lead + axis for axis in self.order))
        return torch.flip(moved, [lead + axis for axis in self.reversed_axes]) if self.reversed_axes else moved


def box_symmetries(grid: Grid, walls: Boundary) -> tuple[BoxSymmetry, ...]:
    """All symmetries of the grid and its wall conditions, identity first: 2 in 1D, 8 in 2D, 48 in 3D at most.

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
                    found.append(BoxSymmetry(order, mirrored))
    found.sort(key=lambda s: (s.order != tuple(range(dimension)), len(s.reversed_axes)))
    return tuple(found)
