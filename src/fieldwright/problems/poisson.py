"""Poisson's equation with random sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry
from fieldwright.problems.diffusion import diffusion_system
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem


@dataclass(frozen=True)
class Poisson(SteadyProblem):
    """Poisson's equation, -Δu = f on the unit box: source f -> potential u.

    ``alpha, tau``  spectrum (|κ|² + τ²)^(-α) of the Gaussian source of standard deviation ``deviation``
    ``walls``       "dirichlet" (u = 0), "neumann" (no flux) or "periodic": one word, or one word or pair per axis.
                    Without a Dirichlet side the source has mean zero and u is the solution of mean zero.

    Cell-centred finite volumes, second order. All quantities are dimensionless.

    Errors: `InputError` for a setting out of range.
    """

    resolution: int = 64
    dimension: int = 2
    deviation: float = 1.0
    alpha: float = 2.0
    tau: float = 3.0
    walls: Any = "dirichlet"

    inputs: ClassVar[tuple[Field, ...]] = (Field("source", "1", "f"),)
    outputs: ClassVar[tuple[Field, ...]] = (Field("potential", "1", "u"),)

    def __post_init__(self) -> None:
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"poisson: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"poisson: resolution {self.resolution}; an integer of at least 4 is needed")
        for name in ("deviation", "tau"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"poisson: {name} = {getattr(self, name)}; a positive number is needed")
        if 0 < sum(self.boundary.periodic) < self.dimension:
            raise InputError("poisson: walls are periodic on all axes or on none")

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "periodic" if any(self.boundary.periodic) else "cell")

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        field = gaussian_field(
            self.grid,
            indices,
            seed,
            alpha=self.alpha,
            tau=self.tau,
            deviation=self.deviation,
            walls="periodic" if any(self.boundary.periodic) else "neumann",
        )
        return field[:, None]

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        source = inputs[:, 0]
        return diffusion_system(torch.ones_like(source), source, self.grid, self.boundary)

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        return {
            "correlation length halved": replace(self, tau=2 * self.tau),
            "rougher source (alpha less 0.5)": replace(self, alpha=max(self.alpha - 0.5, self.dimension / 2 + 0.1)),
        }
