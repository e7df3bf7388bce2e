"""Vorticity and velocity to begin a two-dimensional flow with: decaying turbulence, shear layers, vortex sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import Range, check_range, generator
from fieldwright.problems.synthesis import drawn, shells, values_on

Filter = Literal["variance", "amplitude"]
_SHEET_STEPS = 16
_LENGTH_STEPS = 1024


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


def shear_layer_vorticity(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    widths: Range = (0.08, 0.12),
    modes: tuple[int, int] = (7, 12),
    displacement: float = 0.025,
    shift: float = 0.0625,
    stream: int = 0,
) -> Float[Tensor, "batch x y"]:
    """Draw the vorticity -∂u/∂y of two perturbed shear layers on a periodic box, of velocity from -1 to 1 and back:

        u = tanh(2π (z - ¼)/ρ) for z <= ½, tanh(2π (¾ - z)/ρ) beyond,
        z = y + ξ + δ Σ_{k<=p} a_k sin(2πk x - b_k)   modulo 1, in parts of the box,

    with ρ ~ U[``widths``], p one of ``modes`` (both ends included), a_k ~ U[0, 1], b_k ~ U[0, 2π), ξ up to ``shift``
    either way and δ = ``displacement``. The part of (u, 0) without divergence has this vorticity too.

    Errors: `InputError` for a grid that is not in 2D, or widths out of order.

    Source: the set NS-SL of Herde et al., "Poseidon", 2024, appendix B, where z stands for y in the profile as well.
    """
    _check_plane("shear_layer", grid)
    check_range("shear_layer: widths", widths, positive=True)
    x, y = _parts(grid)

    def draw(index: int) -> Float[Tensor, "x y"]:
        random = generator(seed, index, stream)
        width = random.uniform(widths[0], widths[1])
        count = int(random.integers(modes[0], modes[1] + 1))
        sizes, phases = random.random(count), random.uniform(0, 2 * np.pi, count)
        k = np.arange(1, count + 1)
        waves = (sizes * np.sin(2 * np.pi * k * x[:, None] - phases)).sum(1)
        z = (y + (shift * random.uniform(-1, 1) + displacement * waves)[:, None]) % 1.0
        lower = z <= 0.5
        slope = 2 * np.pi / width / np.cosh(2 * np.pi * np.where(lower, z - 0.25, 0.75 - z) / width) ** 2
        return torch.from_numpy(np.where(lower, -slope, slope) / grid.lengths[1])

    return drawn(grid, indices, draw)


def vortex_sheet_vorticity(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    width: float = 5 / 128,
    height: float = 0.2,
    ripples: int = 10,
    ripple: float = 0.003125,
    stream: int = 0,
) -> Float[Tensor, "batch x y"]:
    """Draw the vorticity of a vortex sheet along a wavy line, spread by a spline of radius ``width``, of mean zero:

        ω = ψ_ρ * δ_Γ - mean,   Γ: y = ½ + h sin(2πx) + Σ_i a_i sin(2π(x + b_i)),

    with a_i ~ U[0, ``ripple``], b_i ~ U[0, 1], h = ``height`` and the cubic B-spline ψ_ρ of the distance, of unit
    integral over the disc of radius ρ. Lengths are in parts of the box, which is square.

    Errors: `InputError` for a grid that is not in 2D, or a width of half a box or more.

    Source: the set NS-SVS of Herde et al., "Poseidon", 2024, appendix B.
    """
    _check_plane("vortex_sheet", grid)
    if not 0 < width < 0.5:
        raise InputError(f"vortex_sheet: width = {width}; a number above 0 and below half the box is needed")
    x, y = _parts(grid)
    # Along the line the spline is integrated by the trapezoidal rule, at places relative to the column of points.
    apart = width * np.linspace(-1, 1, 2 * _SHEET_STEPS + 1)[1:-1]
    step = width / _SHEET_STEPS

    def draw(index: int) -> Float[Tensor, "x y"]:
        random = generator(seed, index, stream)
        sizes, phases = ripple * random.random(ripples), random.random(ripples)

        def wave(angle: Float[np.ndarray, "... 1"], function: np.ufunc) -> Float[np.ndarray, "..."]:
            return height * function(angle[..., 0]) + (sizes * function(angle + 2 * np.pi * phases)).sum(-1)

        angle = 2 * np.pi * (x[:, None] + apart)[..., None]
        line, rise = 0.5 + wave(angle, np.sin), 2 * np.pi * wave(angle, np.cos)
        across = (y - line[..., None] + 0.5) % 1.0 - 0.5
        distance = np.sqrt(across**2 + (apart**2)[:, None]) / width
        weight = step * np.sqrt(1 + rise**2)
        omega = np.einsum("xs,xsy->xy", weight, _spline(distance)) / width**2
        full = np.arange(4096) / 4096
        rise = (
            2
            * np.pi
            * (height * np.cos(2 * np.pi * full) + (sizes * np.cos(2 * np.pi * (full[:, None] + phases))).sum(1))
        )
        return torch.from_numpy((omega - np.sqrt(1 + rise**2).mean()) / grid.lengths[0])

    return drawn(grid, indices, draw)


def _spline(r: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The cubic B-spline of the distance, 80/(7π) ((1-r)³₊ - 4 (½-r)³₊), whose integral over the unit disc is 1."""
    return 80 / (7 * np.pi) * (np.maximum(1 - r, 0) ** 3 - 4 * np.maximum(0.5 - r, 0) ** 3)


def _check_plane(name: str, grid: Grid) -> None:
    if grid.dimension != 2 or grid.centring == "node":
        raise InputError(f"{name}: a {grid.centring} grid in {grid.dimension}D; a periodic box in 2D is needed")


def _parts(grid: Grid) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, " y"]]:
    """The coordinates along both axes, in parts of the box."""
    x, y = ((grid.axis(i).numpy() - grid.lower[i]) / grid.lengths[i] for i in range(2))
    return x, y


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
