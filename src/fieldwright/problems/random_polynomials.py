"""Random Chebyshev series on a box: smooth functions that no wave and no periodicity shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import generator
from fieldwright.problems.synthesis import drawn


def random_chebyshev(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    degree: int = 8,
    decay: float = 1.0,
    deviation: float = 1.0,
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw g(x) = Σ_k c_k Π_j T_{k_j}(2 x_j - 1) over k_j = 0..``degree``, x in parts of the box.

    The c_k are independent normal numbers of deviation ~ (1 + Σ_j k_j)^(-``decay``), scaled so that ``deviation`` is
    the root of the variance averaged over the box.

    Errors: `InputError` for a negative degree, or more than one oscillation per two points.
    """
    if not (isinstance(degree, int) and 0 <= degree <= min(grid.shape)):
        raise InputError(f"random_chebyshev: degree {degree}; it may be 0 to the {min(grid.shape)} points")
    if not (math.isfinite(decay) and 0 < deviation < math.inf):
        raise InputError(f"random_chebyshev: decay {decay}, deviation {deviation}; finite, positive numbers are needed")
    k = np.stack(np.meshgrid(*[np.arange(degree + 1)] * grid.dimension, indexing="ij"))
    sizes = (1.0 + k.sum(0)) ** -decay
    # The mean of T_k² over [0, 1] is ½ - ½/(4k² - 1), and 1 for k = 0: the substitution x = cos θ.
    means = 0.5 - 0.5 / (4.0 * k**2 - 1)
    sizes *= deviation / math.sqrt((sizes**2 * means.prod(0)).sum())
    tables = []
    for axis in range(grid.dimension):
        place = 2 * (grid.axis(axis) - grid.lower[axis]) / grid.lengths[axis] - 1
        angle = torch.arccos(place.clamp(-1.0, 1.0))
        tables.append(torch.cos(torch.arange(degree + 1, dtype=torch.float64)[:, None] * angle))

    def draw(index: int) -> Float[Tensor, " *space"]:
        series = torch.from_numpy(generator(seed, index, stream).standard_normal(sizes.shape) * sizes)
        for table in tables:
            series = torch.movedim(series, 0, -1) @ table
        return series

    return drawn(grid, indices, draw)
