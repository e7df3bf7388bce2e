"""Random velocities without divergence: one direction everywhere, or swirls of a stream function."""

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
from fieldwright.problems.synthesis import drawn, shells, values_on

# The swirls are trigonometric polynomials of this degree, and their largest value is looked for on so many points: by
# the theorem of Ehlich and Zeller it is missed by at most a factor cos(π degree / points) per axis.
_DEGREE, _POINTS = 4, 64


def uniform_wind(
    grid: Grid, indices: Sequence[int], seed: int, *, stream: int = 0
) -> Float[Tensor, "batch dimension *space"]:
    """A unit vector of random direction per instance, the same at every point."""
    d = grid.dimension
    normal = np.array([generator(seed, index, stream).standard_normal(d) for index in indices]).reshape(-1, d)
    unit = torch.from_numpy(normal / np.linalg.norm(normal, axis=1, keepdims=True))
    return unit.reshape(-1, d, *[1] * d).expand(-1, -1, *grid.shape).clone()


def swirling_wind(
    grid: Grid, indices: Sequence[int], seed: int, *, decay: float = 2.0, stream: int = 0
) -> Float[Tensor, "batch dimension *space"]:
    """(∂ψ/∂y, -∂ψ/∂x) of a random periodic stream function, no faster than 1 anywhere and nearly so somewhere.

    ψ is a sum of the waves of up to four periods per axis (a periodic box of cells or points), Gaussian with deviations
    |κ|^(-``decay``). Field i is the same on every grid.

    Errors: `InputError` for a grid that is not in 2D, is nodal, or has fewer than nine points per axis.
    """
    modes = 2 * _DEGREE + 1
    if grid.dimension != 2 or grid.centring == "node" or min(grid.shape) < modes:
        raise InputError(
            f"swirling_wind: a {grid.centring} grid of {' x '.join(map(str, grid.shape))} points; cells or periodic"
            f" points in 2D, at least {modes} per axis, are needed"
        )
    wave = 2 * math.pi * ((np.arange(modes) + 1) // 2)
    across, along = wave / grid.lengths[0], wave / grid.lengths[1]
    size = across[:, None] ** 2 + along**2
    amplitude = np.where(size > 0, np.where(size > 0, size, 1.0) ** (-decay / 2), 0.0)
    place = shells(amplitude.shape)
    fine = grid.resized(_POINTS)
    missed = math.cos(math.pi * _DEGREE / _POINTS) ** 2

    def draw(index: int) -> Float[Tensor, "dimension x y"]:
        psi = generator(seed, index, stream).standard_normal(amplitude.size)[place] * amplitude
        slopes = [_slope(psi, 1, along), -_slope(psi, 0, across)]
        speed = [torch.stack([_filled(g, slope) for slope in slopes]) for g in (fine, grid)]
        return speed[1] * (missed / float(speed[0].square().sum(0).max().sqrt()))

    return drawn(grid, indices, draw, channels=2)


def _slope(
    coefficients: Float[np.ndarray, "kx ky"], axis: int, wave: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "kx ky"]:
    """Coefficients of the derivative: of a cos + b sin it is κ b cos - κ a sin."""
    given = np.moveaxis(coefficients, axis, 0)
    found = np.zeros_like(given)
    found[1::2] = wave[1::2, None] * given[2::2]
    found[2::2] = -wave[2::2, None] * given[1::2]
    return np.moveaxis(found, 0, axis)


def _filled(grid: Grid, coefficients: Float[np.ndarray, "kx ky"]) -> Float[Tensor, "x y"]:
    """The values of a short series on a grid of more points."""
    padded = np.zeros(grid.shape)
    padded[: coefficients.shape[0], : coefficients.shape[1]] = coefficients
    return values_on(grid, padded, "periodic")
