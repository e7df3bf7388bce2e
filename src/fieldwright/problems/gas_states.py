"""Random states of a gas on the unit box: the families that papers begin compressible flow with.

Each family is a function of position, drawn from (seed, index) alone, so that every grid sees the same one. Where it
jumps, a cell holds its averages of density, momentum and pressure over 4 x 4 points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.problems.draws import Range, generator
from fieldwright.problems.hyperbolic_problem import cell_means
from fieldwright.problems.random_waves import sine_sum

Family = Literal[
    "riemann", "curved", "perturbed", "kelvin-helmholtz", "richtmyer-meshkov", "vortices", "smooth"
]  # fmt: skip
FAMILIES: tuple[str, ...] = get_args(Family)

# Points per cell and axis over which a family with jumps is averaged.
_POINTS = 4
# Numbers of interfaces come from a stream of their own, so that bending them keeps the states.
_INTERFACES = 1
_WAVES = 10
_CURVES = 2
_SMOOTH_WAVES = 3


@dataclass(frozen=True)
class GasDraw:
    """How states are drawn; the meaning of each word stands with `CompressibleEuler`."""

    family: Family
    density: Range
    velocity: Range
    pressure: Range
    pieces: int
    perturbation: float
    shift: float
    wraps: bool


DEFAULTS: dict[str, GasDraw] = {
    "riemann": GasDraw("riemann", (0.1, 1.0), (-1.0, 1.0), (0.1, 1.0), 2, 0.0, 0.0, True),
    "curved": GasDraw("curved", (0.1, 1.0), (-1.0, 1.0), (0.1, 1.0), 3, 0.1, 0.0, True),
    "perturbed": GasDraw("perturbed", (1.0, 3.0), (-10.0, 10.0), (5.0, 7.0), 2, 0.05, 0.0, True),
    "kelvin-helmholtz": GasDraw("kelvin-helmholtz", (1.0, 2.0), (-0.5, 0.5), (2.5, 2.5), 1, 0.05, 0.0, True),
    "richtmyer-meshkov": GasDraw("richtmyer-meshkov", (1.0, 2.0), (0.0, 0.0), (1.0, 20.0), 1, 0.05, 0.0, True),
    "vortices": GasDraw("vortices", (0.1, 0.1), (-1.0, 1.0), (2.5, 2.5), 1, 0.0, 0.0, True),
    "smooth": GasDraw("smooth", (0.5, 2.0), (-1.0, 1.0), (0.5, 2.0), 1, 0.0, 0.0, True),
}
"""The published ranges: Poseidon's CE-RP, CE-CRP, CE-RPUI, CE-KH, CE-RM, CE-Gauss (Herde et al. 2024, appendix B)."""


def gas_states(grid: Grid, indices: Sequence[int], seed: int, draw: GasDraw) -> Float[Tensor, "batch field *space"]:
    """Density, velocity and pressure of each instance on the cells of ``grid``."""
    points = 1 if draw.family in ("vortices", "smooth") else _POINTS
    fine = Grid(tuple(points * n for n in grid.shape), "cell")
    found = []
    for index in indices:
        fields = _DRAWN[draw.family](fine, draw, generator(seed, index), generator(seed, index, _INTERFACES))
        density, velocity, pressure = fields[:1], fields[1:-1], fields[-1:]
        means = cell_means(torch.cat([density, density * velocity, pressure]), points)
        found.append(torch.cat([means[:1], means[1:-1] / means[:1], means[-1:]]))
    return torch.stack(found) if found else torch.empty(0, 2 + grid.dimension, *grid.shape, dtype=torch.float64)


def _riemann(grid: Grid, draw: GasDraw, values: np.random.Generator, bends: np.random.Generator) -> Tensor:
    """Constant on each of p^d pieces, whose interfaces are straight, wavy ("perturbed") or curved."""
    d, p = grid.dimension, draw.pieces
    ranges = np.array([draw.density, *[draw.velocity] * d, draw.pressure])
    low, high = ranges.T.reshape(2, -1, *[1] * d)
    states = torch.from_numpy(low + (high - low) * values.random((2 + d, *(p,) * d)))
    axes = list(grid.coordinates())
    places = []
    for axis in range(d):
        move: Tensor | float = draw.shift * (2 * bends.random() - 1)
        if draw.family == "perturbed":
            move = move + draw.perturbation * _ripples(bends, axes[1 - axis])
        elif draw.family == "curved":
            weights = np.full((_CURVES,) * d, 1 / _CURVES**d)
            move = move + draw.perturbation * sine_sum(grid, bends, weights)
        # A point on an interface belongs to the upper piece, however its coordinate was rounded.
        piece = (p * (axes[axis] - move) + 1e-9).floor().long()
        places.append(piece % p if draw.wraps else piece.clamp(0, p - 1))
    return states[(slice(None), *places)]


def _kelvin_helmholtz(grid: Grid, draw: GasDraw, values: np.random.Generator, bends: np.random.Generator) -> Tensor:
    """A denser band moving against the rest, its two edges at y = 1/4 and 3/4 rippled."""
    x, y = grid.coordinates()
    low, high = (edge + draw.perturbation * _ripples(bends, x) for edge in (0.25, 0.75))
    inside = ((y > low) & (y < high)).double()
    density = draw.density[0] + (draw.density[1] - draw.density[0]) * inside
    velocity = draw.velocity[1] + (draw.velocity[0] - draw.velocity[1]) * inside
    return torch.stack([density, velocity, torch.zeros_like(x), torch.full_like(x, draw.pressure[0])])


def _richtmyer_meshkov(grid: Grid, draw: GasDraw, values: np.random.Generator, bends: np.random.Generator) -> Tensor:
    """A disc of high pressure, r < 0.1, within a denser one, r < 0.25, of rippled edge; all at rest."""
    x, y = grid.coordinates() - 0.5
    radius, turns = (x**2 + y**2).sqrt(), torch.atan2(y, x) / (2 * math.pi)
    edge = 0.25 + draw.perturbation * _ripples(bends, turns)
    density = torch.where(radius < edge, draw.density[1], draw.density[0])
    pressure = torch.where(radius < 0.1, draw.pressure[1], draw.pressure[0])
    rest = torch.zeros_like(x)
    return torch.stack([density, rest, rest, pressure])


def _vortices(grid: Grid, draw: GasDraw, values: np.random.Generator, bends: np.random.Generator) -> Tensor:
    """The periodic flow of 100 Gaussian vortices, ω = Σ_b a_b/σ_b exp(-|x - c_b|²/(2 σ_b²)), a ~ U[velocity],
    σ ~ U[0.01, 0.1]: v = (ψ_y, -ψ_x) with -Δψ = ω, from its Fourier coefficients."""
    count = 100
    centres, widths = values.random((count, 2)), values.uniform(0.01, 0.1, count)
    heights = values.uniform(draw.velocity[0], draw.velocity[1], count) / widths
    axes = []
    for axis, n in enumerate(grid.shape):
        # Modes of both signs below the grid's own limit, as coefficients per vortex and as values at the cells.
        k = 2 * math.pi * np.arange(-((n - 1) // 2), (n - 1) // 2 + 1)
        bumps = math.sqrt(2 * math.pi) * widths[:, None] * np.exp(-0.5 * (k * widths[:, None]) ** 2)
        bumps = bumps * np.exp(-1j * k * centres[:, axis, None])
        axes.append((k, bumps, np.exp(1j * grid.axis(axis).numpy()[:, None] * k)))
    (kx, bumps_x, waves_x), (ky, bumps_y, waves_y) = axes
    square = kx[:, None] ** 2 + ky**2
    stream = (bumps_x * heights[:, None]).T @ bumps_y / np.where(square > 0, square, np.inf)
    fields = [waves_x @ (1j * ky * stream) @ waves_y.T, waves_x @ (-1j * kx[:, None] * stream) @ waves_y.T]
    across, along = (torch.from_numpy(np.ascontiguousarray(field.real)) for field in fields)
    density, pressure = torch.full_like(across, draw.density[0]), torch.full_like(across, draw.pressure[0])
    return torch.stack([density, across, along, pressure])


def _smooth(grid: Grid, draw: GasDraw, values: np.random.Generator, bends: np.random.Generator) -> Tensor:
    """Every field a sum of sines of three waves per axis and random phase, within its range."""
    d = grid.dimension
    weights = np.full((_SMOOTH_WAVES,) * d, 1 / _SMOOTH_WAVES**d)
    fields = []
    for low, high in (draw.density, *[draw.velocity] * d, draw.pressure):
        fields.append(0.5 * (low + high) + 0.5 * (high - low) * sine_sum(grid, values, weights))
    return torch.stack(fields)


def _ripples(random: np.random.Generator, along: Tensor) -> Tensor:
    """Σ_n a_n cos(2π n (s + b_n)) over ten waves, with a_n >= 0 of sum 1 and b_n ~ U[0, 1]."""
    share, phase = random.random(_WAVES), random.random(_WAVES)
    total = torch.zeros_like(along)
    for n, (a, b) in enumerate(zip(share / share.sum(), phase, strict=True), start=1):
        total = total + a * torch.cos(2 * math.pi * n * (along + b))
    return total


_DRAWN: dict[str, Callable[[Grid, GasDraw, np.random.Generator, np.random.Generator], Tensor]] = {
    "riemann": _riemann,
    "curved": _riemann,
    "perturbed": _riemann,
    "kelvin-helmholtz": _kelvin_helmholtz,
    "richtmyer-meshkov": _richtmyer_meshkov,
    "vortices": _vortices,
    "smooth": _smooth,
}
