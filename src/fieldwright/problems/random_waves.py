"""Sums of random sine waves on a box.

    g(x) = A Σ_k a_k |k|^(-r) Π_j sin(s π k_j x_j / L_j + φ_kj),   k ∈ {1, ..., K}^d,   a_k ~ U[-1, 1],

with s = 2 and phases φ ~ U[0, 2π) on a periodic box, s = 1 and no phases where the waves vanish at the walls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import check_range, generator
from fieldwright.problems.synthesis import drawn

Magnitude = Literal["sum", "euclidean"]


def random_sines(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    modes: int | Sequence[int] = 10,
    decay: float | Sequence[float] = 0.5,
    magnitude: Magnitude = "sum",
    amplitude: float = 1 / math.sqrt(2 * math.pi),
    average: bool = False,
    walls: Literal["periodic", "dirichlet"] = "periodic",
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw sums of sines.

    ``modes``      K, or (low, high) to draw K per field, both ends included
    ``decay``      r, or (low, high) to draw r per field
    ``magnitude``  |k| is the "sum" of the k_j or their "euclidean" length
    ``amplitude``  A; with ``average`` A is divided by the number of modes K^d

    The defaults are one velocity component of Poseidon's NS-Sines; its Allen-Cahn set takes modes=(16, 32),
    decay=(1.4, 2.0), magnitude="euclidean", amplitude=1, average=True, walls="dirichlet".

    Errors: `InputError` when the grid has fewer than two points per wave, or a range is out of order.

    Source: Herde et al., "Poseidon", 2024, appendix B.
    """
    few, many = (modes, modes) if isinstance(modes, int) else modes
    slow, fast = (decay, decay) if isinstance(decay, (int, float)) else decay
    check_range("random_sines: modes", (few, many), positive=True)
    check_range("random_sines: decay", (slow, fast))

    def draw(index: int) -> Float[Tensor, " *space"]:
        random = generator(seed, index, stream)
        count = int(random.integers(few, many + 1))
        power = slow + (fast - slow) * random.random()
        k = np.stack(np.meshgrid(*[np.arange(1.0, count + 1)] * grid.dimension, indexing="ij"))
        size = k.sum(0) if magnitude == "sum" else np.sqrt((k**2).sum(0))
        scale = amplitude / count**grid.dimension if average else amplitude
        return sine_sum(grid, random, scale * size ** (-power), walls=walls)

    return drawn(grid, indices, draw)


def sine_sum(
    grid: Grid,
    random: np.random.Generator,
    weights: np.ndarray,
    *,
    walls: Literal["periodic", "dirichlet"] = "periodic",
) -> Float[Tensor, " *space"]:
    """One sum Σ_k w_k a_k Π_j sin(…) with weights w_k of shape (K, ..., K), its numbers drawn from ``random``.

    Errors: `InputError` when the grid has fewer than two points per wave.
    """
    for axis, (count, n) in enumerate(zip(weights.shape, grid.shape, strict=True)):
        limit = n // 2 if walls == "periodic" else n - (grid.centring == "node")
        if count > limit:
            raise InputError(
                f"random_sines: {count} waves along axis {axis} of {n} points; at most {limit} have two points a wave"
            )
    coefficients = torch.from_numpy(weights * random.uniform(-1.0, 1.0, weights.shape))
    bases = []
    for axis, count in enumerate(weights.shape):
        place = (grid.axis(axis) - grid.lower[axis]) / grid.lengths[axis]
        angle = (2 if walls == "periodic" else 1) * math.pi * torch.arange(1.0, count + 1, dtype=torch.float64)
        angle = angle[:, None] * place
        bases.append(torch.stack([angle.sin(), angle.cos()], 1).flatten(0, 1) if walls == "periodic" else angle.sin())
    if walls == "periodic":
        # sin(θ + φ) = cos φ sin θ + sin φ cos θ, axis by axis; the new axis goes beside the mode's.
        for axis in range(grid.dimension):
            phase = torch.from_numpy(random.uniform(0.0, 2 * math.pi, weights.shape))
            phase = phase.reshape(*phase.shape, *[1] * axis)
            coefficients = torch.stack([coefficients * phase.cos(), coefficients * phase.sin()], -1)
        d = grid.dimension
        order = [place for axis in range(d) for place in (axis, d + axis)]
        coefficients = coefficients.permute(order).reshape([2 * count for count in weights.shape])
    for table in bases:
        # The first axis goes to the end as it is summed over, so that after all of them the order is the grid's.
        coefficients = torch.movedim(coefficients, 0, -1) @ table
    return coefficients
