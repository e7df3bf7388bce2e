"""Vorticity and velocity to begin a two-dimensional flow with: decaying turbulence, shear layers, vortex sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import generator
from fieldwright.problems.synthesis import drawn, shells, values_on

Filter = Literal["variance", "amplitude"]


def mcwilliams_vorticity(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    peak: float = 6.0,
    energy: float = 0.5,
    spectrum: Filter = "variance",
    cutoff: int = 128,
    stream: int = 0,
) -> Float[Tensor, "batch x y"]:
    """Draw vorticity ω = -Δψ of a random stream function ψ on a periodic square, as in McWilliams 1984:

        E|ψ_k|² ~ 1 / (k (1 + (k/k₀)⁴)),   k = |(k_x, k_y)| in waves per box,

    Gaussian, scaled field by field to the kinetic energy ½ mean |u|² of all modes up to ``cutoff``.

    ``peak``      k₀
    ``energy``    ½ mean |u|², in the square of the velocity's unit
    ``spectrum``  "variance": the law above; "amplitude": E|ψ_k|² is its square, as Spectral-Refiner's data set has it
                  (with peak=4, energy=0.25)
    ``cutoff``    modes with more waves along an axis are zero on every grid, so that the energy has a meaning that the
                  grid does not change; a coarser grid holds the lower ones

    Errors: `InputError` for a grid that is not a periodic square, or a number that is not positive.

    Sources: J. C. McWilliams, J. Fluid Mech. 146 (1984); Cao et al., "Spectral-Refiner", 2024.
    """
    if grid.dimension != 2 or len(set(grid.lengths)) > 1 or grid.centring == "node":
        raise InputError(f"mcwilliams: a {grid.centring} grid in {grid.dimension}D; a periodic square is needed")
    if not (peak > 0 and energy > 0 and cutoff >= 1):
        raise InputError(f"mcwilliams: peak {peak}, energy {energy}, cutoff {cutoff}; positive numbers are needed")
    waves, amplitude, place = _stream_function(cutoff, peak, spectrum)
    unit = 2 * math.pi / grid.lengths[0]
    # Modes with two points a wave or fewer are left out: their sine half is not on the grid.
    kept = [min(len(waves), n - (n % 2 == 0)) for n in grid.shape]

    def draw(index: int) -> Float[Tensor, "x y"]:
        random = generator(seed, index, stream)
        psi = random.standard_normal(amplitude.size)[place] * amplitude
        found = 0.5 * float((unit**2 * waves * psi**2).sum())
        omega = math.sqrt(energy / found) * unit**2 * waves * psi
        coefficients = np.zeros(grid.shape)
        coefficients[: kept[0], : kept[1]] = omega[: kept[0], : kept[1]]
        return values_on(grid, coefficients, "periodic")

    return drawn(grid, indices, draw)


@lru_cache(maxsize=8)
def _stream_function(
    cutoff: int, peak: float, spectrum: Filter
) -> tuple[Float[np.ndarray, "kx ky"], Float[np.ndarray, "kx ky"], np.ndarray]:
    """(|k|², amplitude of ψ_k, place of its draw) of the modes 1, cos, sin, cos, ... up to ``cutoff`` waves."""
    line = ((np.arange(2 * cutoff + 1) + 1) // 2).astype(np.float64)
    squares = line[:, None] ** 2 + line**2
    size = np.sqrt(np.where(squares > 0, squares, 1.0))
    variance = 1 / (size * (1 + (size / peak) ** 4))
    amplitude = variance if spectrum == "amplitude" else np.sqrt(variance)
    amplitude[0, 0] = 0.0
    return squares, amplitude, shells(squares.shape)
