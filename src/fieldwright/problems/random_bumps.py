"""Sums of Gaussian bumps: blobs of a source, wells of a coefficient, vortices of a flow."""

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

# A bump's value six widths away, e^(-18) = 1.5e-8, is below float32; beyond it images are left out.
_REACH = 6.0


def random_bumps(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    count: int | Sequence[int] = 10,
    geometric: float | None = None,
    widths: Range = (0.025, 0.1),
    amplitudes: Range = (1.0, 1.0),
    width_power: float = 0.0,
    centres: Range = (0.0, 1.0),
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw g(x) = Σ_b a_b σ_b^(-p) exp(-|x - c_b|² / (2 σ_b²)), with its periodic images on a periodic grid.

    ``count``        number of bumps, or (low, high) to draw it per field, both ends included
    ``geometric``    draw the number from P(n) = q (1 - q)^(n-1), n >= 1, with this q; ``count`` has no effect
    ``widths``       (low, high) of σ, in the grid's unit of length
    ``amplitudes``   (low, high) of a
    ``width_power``  p
    ``centres``      (low, high) of c along each axis, in parts of the box

    Poseidon's sets: NS-Gauss is the vorticity with count=100, widths=(0.01, 0.1), amplitudes=(-1, 1), width_power=1;
    Poisson-Gauss the source with geometric=0.4.

    Errors: `InputError` for a range out of order or a probability outside (0, 1].

    Source: Herde et al., "Poseidon", 2024, appendix B.
    """
    few, many = (count, count) if isinstance(count, int) else count
    check_range("random_bumps: count", (few, many))
    check_range("random_bumps: widths", widths, positive=True)
    check_range("random_bumps: amplitudes", amplitudes)
    check_range("random_bumps: centres", centres)
    if geometric is not None and not 0 < geometric <= 1:
        raise InputError(f"random_bumps: geometric = {geometric}; a probability above 0 and at most 1 is needed")
    lower, lengths = np.array(grid.lower), np.array(grid.lengths)

    def draw(index: int) -> Float[Tensor, " *space"]:
        random = generator(seed, index, stream)
        bumps = int(random.integers(few, many + 1)) if geometric is None else int(random.geometric(geometric))
        places = lower + lengths * random.uniform(centres[0], centres[1], (bumps, grid.dimension))
        sigma = random.uniform(widths[0], widths[1], bumps)
        heights = random.uniform(amplitudes[0], amplitudes[1], bumps) * sigma**-width_power
        return bump_sum(grid, torch.from_numpy(places), torch.from_numpy(sigma), torch.from_numpy(heights))

    return drawn(grid, indices, draw)


def bump_sum(
    grid: Grid,
    centres: Float[Tensor, "bump dimension"],
    widths: Float[Tensor, " bump"],
    heights: Float[Tensor, " bump"],
) -> Float[Tensor, " *space"]:
    """Σ_b heights_b exp(-|x - centres_b|² / (2 widths_b²)) on the grid, with periodic images on a periodic one."""
    factors = []
    for axis, length in enumerate(grid.lengths):
        images = math.ceil(_REACH * float(widths.max()) / length) if grid.centring == "periodic" and len(widths) else 0
        line = torch.zeros(len(widths), grid.shape[axis], dtype=torch.float64)
        for image in range(-images, images + 1):
            apart = grid.axis(axis) - centres[:, axis, None] + image * length
            line = line + torch.exp(-(apart**2) / (2 * widths[:, None] ** 2))
        factors.append(line)
    rest = torch.ones(len(widths), 1, dtype=torch.float64)
    for line in factors[1:]:
        rest = (rest[:, :, None] * line[:, None, :]).flatten(1)
    return ((heights[:, None] * factors[0]).T @ rest).reshape(grid.shape)
