"""Poisson's equation with random sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry
from fieldwright.problems.boundary_data import WallValues, random_lifting
from fieldwright.problems.diffusion import diffusion_system, wall_source
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.random_polynomials import random_chebyshev
from fieldwright.problems.relatives import relatives
from fieldwright.problems.spectra import PowerLaw, Spectrum, spectrum_of
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Source = Literal["gaussian", "bumps", "chebyshev"]
# Streams of the walls' values, apart from the source's.
_WALL_STREAM = 1


@dataclass(frozen=True)
class Poisson(SteadyProblem):
    """Poisson's equation, -Δu = f on the unit box: source f (and boundary values) -> potential u.

    ``source``       "gaussian": a Gaussian field of standard deviation ``deviation``; "bumps": a sum of Gaussian bumps
                     of height 1, their number geometric with parameter 0.4 and their widths U[0.025, 0.1]
                     (Poisson-Gauss of Poseidon); "chebyshev": a random Chebyshev series of ``degree`` and ``deviation``
    ``alpha, tau``   spectrum (|κ|² + τ²)^(-α) of Gaussian fields
    ``length``       correlation length of a Matérn field of ``smoothness``, or without one of a squared exponential
                     field, instead of ``alpha, tau``
    ``walls``        "dirichlet", "neumann" or "periodic": one word, or one word or pair per axis. Without a Dirichlet
                     side the data are made to sum to zero and u is the solution of mean zero.
    ``wall_values``  "zero": u = 0, or no flux, on the walls; "gaussian" or "chebyshev": random values. They come as an
                     input field, ``boundary``: a lifting g, whose trace is u on Dirichlet walls and whose outward slope
                     is that of u on Neumann ones. It is multilinear between the walls, and a guess of the solution.
    ``wall_deviation``  standard deviation of g on the walls

    Cell-centred finite volumes, second order; a wall takes the value that the lifting's three nearest cells extrapolate
    to. All quantities are dimensionless. The Poisson family of the SKR paper has source=chebyshev,
    wall_values=chebyshev.

    Errors: `InputError` for a setting out of range, or a grid too coarse for the source.
    """

    resolution: int = 64
    dimension: int = 2
    deviation: float = 1.0
    alpha: float = 2.0
    tau: float = 3.0
    walls: Any = "dirichlet"
    source: Source = "gaussian"
    wall_values: WallValues = "zero"
    wall_deviation: float | None = None
    degree: int = 8
    length: float | None = None
    smoothness: float | None = None

    outputs: ClassVar[tuple[Field, ...]] = (Field("potential", "1", "u"),)

    def __post_init__(self) -> None:
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"poisson: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"poisson: resolution {self.resolution}; an integer of at least 4 is needed")
        for name, words in (("source", get_args(Source)), ("wall_values", get_args(WallValues))):
            if getattr(self, name) not in words:
                raise InputError(f"poisson: {name} '{getattr(self, name)}'; allowed are {', '.join(words)}")
        for name in ("deviation", "tau"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"poisson: {name} = {getattr(self, name)}; a positive number is needed")
        if self.wall_deviation is not None and not 0 < self.wall_deviation < float("inf"):
            raise InputError(f"poisson: wall_deviation = {self.wall_deviation}; a positive number is needed")
        if "chebyshev" in (self.source, self.wall_values) and not 0 <= self.degree <= self.resolution:
            raise InputError(f"poisson: degree = {self.degree}; 0 to the resolution, {self.resolution}, are allowed")
        if 0 < sum(self.boundary.periodic) < self.dimension:
            raise InputError("poisson: walls are periodic on all axes or on none")
        if self.wall_values != "zero" and any(self.boundary.periodic):
            raise InputError("poisson: wall_values need walls, and a periodic box has none")
        if self.smoothness is not None and self.length is None:
            raise InputError(f"poisson: smoothness = {self.smoothness} has no effect without a length")
        if self.source == "gaussian":
            check_resolved(
                self.grid, alpha=self.alpha, tau=self.tau, spectrum=self._given_spectrum, walls=self._source_walls
            )

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        source = Field("source", "1", "f")
        if self.wall_values == "zero":
            return (source,)
        return (source, Field("boundary", "1", "g, a lifting of the values or slopes on the walls"))

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "periodic" if any(self.boundary.periodic) else "cell")

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        source = self._source(indices, seed)
        if self.wall_values == "zero":
            return source[:, None]
        lifting = random_lifting(
            self.grid,
            indices,
            seed,
            kind=self.wall_values,
            deviation=1.0 if self.wall_deviation is None else self.wall_deviation,
            spectrum=self._given_spectrum or PowerLaw(self.alpha, self.tau),
            degree=self.degree,
            stream=_WALL_STREAM,
        )
        return torch.stack([source, lifting], 1)

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        source = inputs[:, 0]
        coefficient = torch.ones_like(source)
        if self.wall_values != "zero":
            source = source + wall_source(coefficient, inputs[:, 1], self.grid, self.boundary)
            if not any("dirichlet" in pair for pair in self.boundary.sides):
                source = source - source.flatten(1).mean(1).reshape(-1, *[1] * self.dimension)
        return diffusion_system(coefficient, source, self.grid, self.boundary)

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """The lifting of the boundary values, or zero."""
        return torch.zeros_like(inputs[:, :1]) if self.wall_values == "zero" else inputs[:, 1:2]

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        if self.source != "gaussian":
            return relatives(self, {"Gaussian sources": {"source": "gaussian"}})
        if self.length is not None:
            return relatives(self, {"correlation length halved": {"length": self.length / 2}})
        rougher = max(self.alpha - 0.5, self.dimension / 2 + 0.1)
        return relatives(
            self,
            {
                "correlation length halved": {"tau": 2 * self.tau},
                "rougher source (alpha less 0.5)": {"alpha": rougher},
            },
        )

    @property
    def _given_spectrum(self) -> Spectrum | None:
        return None if self.length is None else spectrum_of(self.length, self.smoothness)

    @property
    def _source_walls(self) -> Literal["periodic", "neumann"]:
        return "periodic" if any(self.boundary.periodic) else "neumann"

    def _source(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
        if self.source == "bumps":
            field = random_bumps(self.grid, indices, seed, geometric=0.4, widths=(0.025, 0.1))
        elif self.source == "chebyshev":
            field = random_chebyshev(self.grid, indices, seed, degree=self.degree, deviation=self.deviation)
        else:
            return gaussian_field(
                self.grid,
                indices,
                seed,
                alpha=self.alpha,
                tau=self.tau,
                spectrum=self._given_spectrum,
                deviation=self.deviation,
                walls=self._source_walls,
            )
        if any("dirichlet" in pair for pair in self.boundary.sides):
            return field
        return field - field.flatten(1).mean(1).reshape(-1, *[1] * self.dimension)
