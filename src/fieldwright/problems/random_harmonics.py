"""A few plane waves of random whole wavenumbers on a periodic box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import Range, check_range, generator
from fieldwright.problems.synthesis import drawn


def random_harmonics(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    count: int = 2,
    highest: int = 8,
    amplitudes: Range = (0.0, 1.0),
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw g(x) = Σ_{i ≤ count} a_i sin(2π k_i·x/L + φ_i), a_i ~ U[``amplitudes``], φ_i ~ U[0, 2π).

    k_i is uniform in 1..``highest`` on the first axis and in -highest..highest on the others. The defaults in one
    dimension are the initial states of PDEBench's advection and Burgers sets, without their occasional window.

    Errors: `InputError` for fewer than one wave, or a grid with fewer than two points per wave.

    Source: Takamoto et al., "PDEBench", 2022, appendix D.
    """
    check_range("random_harmonics: amplitudes", amplitudes)
    if count < 1 or highest < 1:
        raise InputError(f"random_harmonics: {count} waves up to {highest}; at least one of each is needed")
    if 2 * highest > min(grid.shape):
        raise InputError(
            f"random_harmonics: waves up to {highest} on a grid of {list(grid.shape)} points; at least"
            f" {2 * highest} per axis are needed"
        )
    place = grid.coordinates() - torch.tensor(grid.lower, dtype=torch.float64).reshape(-1, *[1] * grid.dimension)
    part = place / torch.tensor(grid.lengths, dtype=torch.float64).reshape(-1, *[1] * grid.dimension)

    def draw(index: int) -> Float[Tensor, " *space"]:
        random = generator(seed, index, stream)
        waves = random.integers(-highest, highest + 1, (count, grid.dimension))
        waves[:, 0] = random.integers(1, highest + 1, count)
        sizes = random.uniform(amplitudes[0], amplitudes[1], count)
        phases = random.uniform(0.0, 2 * math.pi, count)
        total = torch.zeros(grid.shape, dtype=torch.float64)
        for wave, size, phase in zip(waves, sizes, phases, strict=True):
            angle = torch.tensordot(torch.from_numpy(2 * math.pi * wave.astype(np.float64)), part, dims=1)
            total += size * torch.sin(angle + phase)
        return total

    return drawn(grid, indices, draw)
