"""Waves of one frequency in a medium of varying speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry
from fieldwright.problems.diffusion import diffusion_system, wall_source
from fieldwright.problems.draws import check_range, uniform_numbers
from fieldwright.problems.numbers import check_number, drawn_numbers, is_drawn
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.relatives import relatives
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Medium = Literal["bumps", "gaussian", "uniform"]
Source = Literal["none", "bumps", "gaussian"]
Walls = Literal["dirichlet", "absorbing"]

POINTS_PER_WAVE = 8
"""The fewest points per shortest wavelength that are not refused."""
_BUMPS = (2, 7)
_SOURCE_STREAM, _WALL_STREAM = 1, 2


@dataclass(frozen=True)
class Helmholtz(SteadyProblem):
    """The Helmholtz equation, -Δu - k² a u = f on the unit box: medium a (and source f, wall value b) -> wave u.

    ``wavenumber``  k, a number or [low, high] to draw it per instance
    ``medium``      a, the squared index of refraction. "bumps": 1 plus 2 to 7 Gaussian bumps of heights
                    U[``height_low``, ``height_high``] and widths U[0.05, 0.1]; "gaussian": (1 + c tanh g)² with a
                    Gaussian field g of deviation 1 and c = ``contrast``; "uniform": 1
    ``source``      "none"; "bumps": 1 to 3 Gaussian bumps of height ±k² and widths U[0.03, 0.08]; "gaussian": k² g
    ``walls``       "dirichlet": u = b on the boundary, b ~ U[``wall_low``, ``wall_high``] per instance; "absorbing":
                    ∂u/∂n = i k √a u, first order in the angle of incidence. Then u is complex, of the time factor
                    e^(-iωt), and comes as two fields
    ``alpha, tau``  spectrum (|κ|² + τ²)^(-α) of Gaussian fields

    Cell-centred finite volumes, second order, symmetric and indefinite. The absorbing system is real with the unknowns
    (Re u, Im u): [[R, M], [M, -R]], with M > 0 on the walls. A wave on the grid is slow by the share (k h)²/24 of its
    speed: 2.6 % at 8 points per wave, 0.6 % at 16, 0.2 % at 32, which adds up to a phase error of k L (k h)²/24 across
    the box. Grids with fewer than 8 points per shortest wave, were all bumps in one place, are refused.

    The defaults are after the Helmholtz set of Poseidon (k = 5π/2, b ~ U[0.25, 0.5]; the heights are ours). The
    indefinite systems of our Krylov studies have wavenumber=20, medium=gaussian, source=gaussian, wall_low=wall_high=0.

    All quantities are dimensionless. In 3D walls are "dirichlet".

    Errors: `InputError` for a setting out of range, nothing that excites a wave, or a grid too coarse for the waves.
    """

    resolution: int = 64
    dimension: int = 2
    wavenumber: float | list[float] = 2.5 * math.pi
    medium: Medium = "bumps"
    height_low: float = 0.5
    height_high: float = 1.0
    contrast: float = 0.2
    source: Source = "none"
    walls: Walls = "dirichlet"
    wall_low: float = 0.25
    wall_high: float = 0.5
    alpha: float = 2.0
    tau: float = 3.0

    def __post_init__(self) -> None:
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"helmholtz: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"helmholtz: resolution {self.resolution}; an integer of at least 4 is needed")
        for name, words in (("medium", Medium), ("source", Source), ("walls", Walls)):
            if getattr(self, name) not in get_args(words):
                raise InputError(f"helmholtz: {name} '{getattr(self, name)}'; allowed are {', '.join(get_args(words))}")
        check_number("helmholtz: wavenumber", self.wavenumber, positive=True)
        check_range("helmholtz: height_low, height_high", (self.height_low, self.height_high))
        check_range("helmholtz: wall_low, wall_high", (self.wall_low, self.wall_high))
        if self.height_low < 0:
            raise InputError(f"helmholtz: height_low = {self.height_low}; a number of at least 0 is needed")
        if not 0 <= self.contrast < 1:
            raise InputError(f"helmholtz: contrast = {self.contrast}; a number from 0 to below 1 is needed")
        if self.walls == "absorbing" and self.dimension == 3:
            raise InputError("helmholtz: absorbing walls are for 1 and 2 dimensions; in 3D choose dirichlet")
        held = self.walls == "dirichlet" and (self.wall_low, self.wall_high) != (0.0, 0.0)
        if self.source == "none" and not held:
            raise InputError("helmholtz: nothing excites a wave; choose a source or a wall value other than 0")
        points = self.points_per_wave
        if points < POINTS_PER_WAVE:
            raise InputError(
                f"helmholtz: a resolution of {self.resolution} gives {points:.1f} points per wave, and at least"
                f" {POINTS_PER_WAVE} are needed: {math.ceil(self.resolution * POINTS_PER_WAVE / points)} or more, or a"
                " smaller wavenumber"
            )
        if "gaussian" in (self.medium, self.source):
            check_resolved(self.grid, alpha=self.alpha, tau=self.tau)

    @property
    def points_per_wave(self) -> float:
        """The fewest points per wavelength that an instance may have."""
        highest = {
            "uniform": 1.0,
            "gaussian": (1 + self.contrast) ** 2,
            "bumps": 1 + _BUMPS[1] * self.height_high,
        }[self.medium]
        return 2 * math.pi * self.resolution / (self._largest_wavenumber * math.sqrt(highest))

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        fields = [Field("medium", "1", "a, squared index of refraction")]
        if self.source != "none":
            fields.append(Field("source", "1", "f"))
        if is_drawn(self.wavenumber):
            fields.append(Field("wavenumber", "1", "k", number=True))
        if self._holds_a_value:
            fields.append(Field("wall_value", "1", "b, the wave on the boundary", number=True))
        return tuple(fields)

    @property
    def outputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        if self.walls == "dirichlet":
            return (Field("wave", "1", "u"),)
        return (Field("wave_real", "1", "real part of u"), Field("wave_imaginary", "1", "imaginary part of u"))

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @property
    def open_sides(self) -> tuple[tuple[bool, bool], ...]:
        absorbs = self.walls == "absorbing"
        return ((absorbs, absorbs),) * self.dimension

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse("dirichlet" if self.walls == "dirichlet" else "neumann", self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        flat = (len(indices), *[1] * self.dimension)
        wavenumber = torch.tensor(self.wavenumber, dtype=torch.float64)
        if is_drawn(self.wavenumber):
            wavenumber = drawn_numbers(indices, seed, [self.wavenumber]).reshape(flat)
        channels = {"medium": self._medium(indices, seed)}
        if self.source != "none":
            channels["source"] = wavenumber**2 * self._source(indices, seed)
        channels["wavenumber"] = wavenumber
        value = uniform_numbers(indices, seed, [(self.wall_low, self.wall_high)], stream=_WALL_STREAM)
        channels["wall_value"] = value.reshape(flat)
        shape = (len(indices), *self.grid.shape)
        return torch.stack([channels[field.name].expand(shape) for field in self.inputs], 1)

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """Errors: `InputError` naming a sample whose medium is not positive."""
        channels = {field.name: inputs[:, place] for place, field in enumerate(self.inputs)}
        medium = channels["medium"]
        positive = (medium > 0).flatten(1).all(1)
        if not bool(positive.all()):
            raise InputError(f"helmholtz: the medium of sample {int((~positive).nonzero()[0])} is not positive")
        wavenumber = channels.get("wavenumber", torch.full_like(medium, self._largest_wavenumber))
        source, ones = channels.get("source", torch.zeros_like(medium)), torch.ones_like(medium)
        square = wavenumber**2 * medium
        if self.walls == "absorbing":
            held, let_out = absorbing_walls(wavenumber * medium.sqrt(), self.grid)
            system = diffusion_system(ones, source, self.grid, self.boundary, reaction=held - square)
            return complex_pair(system, let_out)
        if "wall_value" in channels:
            source = source + wall_source(ones, channels["wall_value"], self.grid, self.boundary)
        system = diffusion_system(ones, source, self.grid, self.boundary, reaction=-square)
        return replace(system, kind="symmetric")

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """The wall's value everywhere, or zero."""
        if self._holds_a_value:
            place = [field.name for field in self.inputs].index("wall_value")
            return inputs[:, place : place + 1]
        return inputs.new_zeros(len(inputs), len(self.outputs), *inputs.shape[2:])

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        if isinstance(self.wavenumber, list):
            higher = [1.25 * end for end in self.wavenumber]
        else:
            higher = 1.25 * self.wavenumber
        changes: dict[str, dict[str, Any]] = {"wavenumber 1.25 times as high": {"wavenumber": higher}}
        if self.medium == "bumps":
            changes["bumps 1.5 times as high"] = {
                "height_low": 1.5 * self.height_low,
                "height_high": 1.5 * self.height_high,
            }
        elif self.medium == "gaussian":
            changes["contrast 1.5 times as high"] = {"contrast": 1.5 * self.contrast}
        return relatives(self, changes)

    @property
    def _largest_wavenumber(self) -> float:
        return max(self.wavenumber) if isinstance(self.wavenumber, list) else self.wavenumber

    @property
    def _holds_a_value(self) -> bool:
        return self.walls == "dirichlet" and (self.wall_low, self.wall_high) != (0.0, 0.0)

    def _medium(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
        if self.medium == "uniform":
            return torch.ones(len(indices), *self.grid.shape, dtype=torch.float64)
        if self.medium == "gaussian":
            field = gaussian_field(self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=1.0)
            return (1 + self.contrast * field.tanh()).square()
        heights = (self.height_low, self.height_high)
        return 1 + random_bumps(self.grid, indices, seed, count=_BUMPS, widths=(0.05, 0.1), amplitudes=heights)

    def _source(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
        if self.source == "gaussian":
            return gaussian_field(
                self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=1.0, stream=_SOURCE_STREAM
            )
        return random_bumps(
            self.grid,
            indices,
            seed,
            count=(1, 3),
            widths=(0.03, 0.08),
            amplitudes=(-1.0, 1.0),
            centres=(0.2, 0.8),
            stream=_SOURCE_STREAM,
        )


def absorbing_walls(
    index: Float[Tensor, "batch *space"], grid: Grid
) -> tuple[Float[Tensor, "batch *space"], Float[Tensor, "batch *space"]]:
    """What ∂u/∂n = i κ u on all walls adds to the diagonal of -Δ on cells: its real part, and the negative imaginary.

    Half a cell beyond the last centre u_w = u / (1 - i κ h/2), so that the flux out through the wall is i κ u_w =
    (i κ - κ² h/2) / (1 + κ² h²/4) u.

    ``index``  κ on the cells, extrapolated to the walls from two of them
    """
    held, let_out = torch.zeros_like(index), torch.zeros_like(index)
    for axis, h in enumerate(grid.spacing):
        place, n = axis + 1, grid.shape[axis]
        for first, second in ((0, 1), (n - 1, n - 2)):
            wall = (1.5 * index.select(place, first) - 0.5 * index.select(place, second)).unsqueeze(place)
            one = torch.zeros(n, dtype=index.dtype, device=index.device)
            one[first] = 1.0
            one = one.reshape(-1, *[1] * (grid.dimension - axis - 1))
            size = 1 + (wall * h / 2) ** 2
            held = held + one * wall**2 / (2 * size)
            let_out = let_out + one * wall / (h * size)
    return held, let_out


def complex_pair(system: StencilSystem, let_out: Float[Tensor, "batch *space"]) -> StencilSystem:
    """(A - i M) u = f as the real symmetric system [[A, M], [M, -A]] of (Re u, Im u), with M = diag ``let_out``."""
    real = torch.stack([system.coefficients, -system.coefficients], 2)
    nothing = torch.zeros_like(let_out)
    up, down = torch.stack([let_out, nothing], 1), torch.stack([nothing, let_out], 1)
    zero = (0,) * len(system.shape)
    return StencilSystem(
        coefficients=torch.cat([real, up[:, None], down[:, None]], 1),
        rhs=torch.stack([system.rhs, torch.zeros_like(system.rhs)], 1),
        offsets=(*((0, *offset) for offset in system.offsets), (1, *zero), (-1, *zero)),
        boundary=Boundary((("neumann", "neumann"), *system.boundary.sides)),
        kind="symmetric",
        centring=system.centring,
    )
