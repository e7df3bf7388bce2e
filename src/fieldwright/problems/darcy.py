"""Steady flow through a porous medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

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

Coefficient = Literal["two-phase", "log-normal"]


@dataclass(frozen=True)
class Darcy(SteadyProblem):
    """Darcy flow, -∇·(a ∇u) = f on the unit box: permeability a -> pressure u.

    ``coefficient``  "two-phase": a = high where a Gaussian field is >= 0, low elsewhere; "log-normal": a = exp(g)
                     with g of standard deviation ``deviation``
    ``alpha, tau``   spectrum (|κ|² + τ²)^(-α) of the Gaussian field; the correlation length falls as τ grows
    ``source``       the constant f
    ``walls``        "dirichlet" (u = 0) or "neumann" (no flux): one word, or one word or (low, high) pair per axis;
                     at least one side is Dirichlet

    Cell-centred finite volumes with harmonic means at faces, second order where a is smooth. All quantities are
    dimensionless. The defaults are the two-phase set of Li et al. 2020 (appendix A.3.2), on cells.

    Errors: `InputError` for a setting out of range.
    """

    resolution: int = 64
    dimension: int = 2
    coefficient: Coefficient = "two-phase"
    low: float = 3.0
    high: float = 12.0
    deviation: float = 1.0
    alpha: float = 2.0
    tau: float = 3.0
    source: float = 1.0
    walls: Any = "dirichlet"

    inputs: ClassVar[tuple[Field, ...]] = (Field("permeability", "1", "a, permeability over viscosity"),)
    outputs: ClassVar[tuple[Field, ...]] = (Field("pressure", "1", "u"),)

    def __post_init__(self) -> None:
        if self.coefficient not in get_args(Coefficient):
            raise InputError(f"darcy: coefficient '{self.coefficient}'; allowed are two-phase and log-normal")
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"darcy: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"darcy: resolution {self.resolution}; an integer of at least 4 is needed")
        for name in ("low", "high", "deviation", "tau"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"darcy: {name} = {getattr(self, name)}; a positive number is needed")
        if not any("dirichlet" in pair for pair in self.boundary.sides) or any(self.boundary.periodic):
            raise InputError("darcy: walls need at least one Dirichlet side, and none can be periodic")

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        deviation = self.deviation if self.coefficient == "log-normal" else None
        field = gaussian_field(self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=deviation)
        permeability = field.exp() if deviation else torch.where(field >= 0, self.high, self.low).double()
        return permeability[:, None]

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """Errors: `InputError` naming a sample whose permeability is not positive."""
        positive = (inputs > 0).flatten(1).all(1)
        if not bool(positive.all()):
            where = int((~positive).nonzero()[0])
            raise InputError(f"darcy: the permeability of sample {where} is not positive everywhere")
        permeability = inputs[:, 0]
        return diffusion_system(permeability, torch.full_like(permeability, self.source), self.grid, self.boundary)

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        finer = replace(self, tau=2 * self.tau)
        if self.coefficient == "two-phase":
            return {
                f"contrast {2 * self.high / self.low:g} instead of {self.high / self.low:g}": replace(
                    self, high=2 * self.high
                ),
                "correlation length halved": finer,
            }
        return {
            f"log-deviation {1.5 * self.deviation:g} instead of {self.deviation:g}": replace(
                self, deviation=1.5 * self.deviation
            ),
            "correlation length halved": finer,
        }
