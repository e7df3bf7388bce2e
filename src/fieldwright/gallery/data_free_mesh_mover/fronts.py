"""Fields with one or two sharp, bent fronts, by formula: what moving meshes are for.

    u(x) = -Σ_{j<=2} a_j tanh(d_j(x) / w_j),     d_j = n_j + b_j sin(ω_j t_j + ψ_j),

(n_j, t_j) being coordinates across and along a line through (½ ± ¼, ½ ± ¼) at any angle; a in [0.5, 1.5], w in [0.015,
0.045], b in [0, 0.15], ω in 2π [0.5, 1.5]. 70 % of the fields have two fronts, the others one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Grid


@dataclass(frozen=True)
class Fronts:
    """A batch of such fields on the unit square; ``numbers`` holds what was drawn (sample, quantity, front)."""

    numbers: Float[Tensor, "sample 9 2"]

    @classmethod
    def draw(cls, count: int, seed: int) -> Fronts:
        """The fields of a seed."""
        u = torch.rand(count, 9, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        low = torch.tensor([0, 0.5, 0.015, 0.25, 0.25, 0, math.pi, 0, 0], dtype=torch.float64)[:, None]
        high = torch.tensor(
            [2 * math.pi, 1.5, 0.045, 0.75, 0.75, 0.15, 3 * math.pi, 2 * math.pi, 1], dtype=torch.float64
        )[:, None]
        numbers = low + (high - low) * u
        numbers[:, 1, 1] *= numbers[:, 8, 1] < 0.7
        return cls(numbers)

    def __call__(self, points: Float[Tensor, "sample 2 *where"]) -> Float[Tensor, "sample *where"]:
        """u at points."""
        total = torch.zeros_like(points[:, 0])
        for front in range(2):
            q = [self.numbers[:, i, front].reshape(-1, *[1] * (points.ndim - 2)) for i in range(8)]
            angle, a, w, x, y, bend, wave, phase = q
            c, s = angle.cos(), angle.sin()
            across = (points[:, 0] - x) * c + (points[:, 1] - y) * s
            along = (points[:, 1] - y) * c - (points[:, 0] - x) * s
            total = total - a * torch.tanh((across + bend * torch.sin(wave * along + phase)) / w)
        return total

    def on(self, grid: Grid) -> Float[Tensor, "sample 1 *space"]:
        """The fields on a grid, in float32."""
        points = grid.coordinates()[None].expand(len(self.numbers), -1, -1, -1)
        return self(points).float()[:, None]

    def part(self, start: int, stop: int) -> Fronts:
        """Some of the fields."""
        return Fronts(self.numbers[start:stop])
