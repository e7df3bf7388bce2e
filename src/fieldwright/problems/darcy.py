"""Steady flow through a porous medium."""

from __future__ import annotations

import math
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
from fieldwright.problems.diffusion import diffusion_system
from fieldwright.problems.draws import uniform_numbers
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.relatives import relatives
from fieldwright.problems.spectra import Spectrum, spectrum_of
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Coefficient = Literal["two-phase", "log-normal", "mixed", "multiscale"]
# Directions of the multiscale coefficient's sine waves, in half-waves along each axis.
_SLANT = (-3.0, 1.0, 2.0)


@dataclass(frozen=True)
class Darcy(SteadyProblem):
    """Darcy flow, -∇·(a ∇u) = f on the unit box: permeability a -> pressure u.

    ``coefficient``  "two-phase": a = high where a Gaussian field is >= 0, low elsewhere; "log-normal": a = exp(g)
                     with g of standard deviation ``deviation``; "mixed": the product of both, layers that vary within;
                     "multiscale": Π_k (1 + ½ cos(a_k π Σ x)) (1 + ½ sin(a_k π s·x)) over k = 1..``scales`` with
                     s = (-3, 1, 2) and a_k ~ U[2^(k-1), 1.5·2^(k-1)], the trigonometric set of the multigrid papers
    ``alpha, tau``   spectrum (|κ|² + τ²)^(-α) of the Gaussian field; the correlation length falls as τ grows
    ``length``       correlation length of a Matérn field of ``smoothness``, or without one of a squared exponential
                     field, instead of ``alpha, tau``
    ``source``       the constant f
    ``walls``        "dirichlet" (u = 0) or "neumann" (no flux): one word, or one word or (low, high) pair per axis;
                     at least one side is Dirichlet

    Cell-centred finite volumes with harmonic means at faces, second order where a is smooth. All quantities are
    dimensionless. The defaults are the two-phase set of Li et al. 2020 (appendix A.3.2), on cells; the
    multiscale set of MgNO (He et al. 2024) has scales=6 at 1023 points per axis.

    Errors: `InputError` for a setting out of range, or a grid too coarse for the coefficient's waves.
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
    scales: int = 6
    length: float | None = None
    smoothness: float | None = None

    inputs: ClassVar[tuple[Field, ...]] = (Field("permeability", "1", "a, permeability over viscosity"),)
    outputs: ClassVar[tuple[Field, ...]] = (Field("pressure", "1", "u"),)

    def __post_init__(self) -> None:
        if self.coefficient not in get_args(Coefficient):
            allowed = ", ".join(get_args(Coefficient))
            raise InputError(f"darcy: coefficient '{self.coefficient}'; allowed are {allowed}")
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"darcy: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"darcy: resolution {self.resolution}; an integer of at least 4 is needed")
        for name in ("low", "high", "deviation", "tau"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"darcy: {name} = {getattr(self, name)}; a positive number is needed")
        self._check_waves()
        if not any("dirichlet" in pair for pair in self.boundary.sides) or any(self.boundary.periodic):
            raise InputError("darcy: walls need at least one Dirichlet side, and none can be periodic")

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        if self.coefficient == "multiscale":
            return self._multiscale(indices, seed)[:, None]
        permeability = torch.ones(len(indices), *self.grid.shape, dtype=torch.float64)
        if self.coefficient in ("two-phase", "mixed"):
            field = self._gaussian(indices, seed, None)
            permeability = torch.where(field >= 0, self.high, self.low).double()
        if self.coefficient in ("log-normal", "mixed"):
            stream = 0 if self.coefficient == "log-normal" else 1
            permeability = permeability * self._gaussian(indices, seed, self.deviation, stream=stream).exp()
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
        if self.coefficient == "multiscale":
            return relatives(self, {f"{self.scales - 1} scales instead of {self.scales}": {"scales": self.scales - 1}})
        contrast, deviation = self.high / self.low, self.deviation
        if self.coefficient == "log-normal":
            harder = {f"log-deviation {1.5 * deviation:g} instead of {deviation:g}": {"deviation": 1.5 * deviation}}
        else:
            harder = {f"contrast {2 * contrast:g} instead of {contrast:g}": {"high": 2 * self.high}}
        finer = {"tau": 2 * self.tau} if self.length is None else {"length": self.length / 2}
        return relatives(self, {**harder, "correlation length halved": finer})

    @property
    def _spectrum(self) -> Spectrum | None:
        return None if self.length is None else spectrum_of(self.length, self.smoothness)

    def _gaussian(
        self, indices: Sequence[int], seed: int, deviation: float | None, *, stream: int = 0
    ) -> Float[Tensor, "batch *space"]:
        return gaussian_field(
            self.grid,
            indices,
            seed,
            alpha=self.alpha,
            tau=self.tau,
            spectrum=self._spectrum,
            deviation=deviation,
            stream=stream,
        )

    def _multiscale(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch *space"]:
        x = self.grid.coordinates()
        slant = torch.tensor(_SLANT[: self.dimension], dtype=torch.float64)
        along, across = x.sum(0), torch.tensordot(slant, x, 1)
        scale = [2.0**k for k in range(self.scales)]
        waves = torch.pi * uniform_numbers(indices, seed, [(s, 1.5 * s) for s in scale])
        product = torch.ones(len(indices), *self.grid.shape, dtype=torch.float64)
        for wave in waves.T.reshape(self.scales, -1, *[1] * self.dimension):
            product *= (1 + 0.5 * torch.cos(wave * along)) * (1 + 0.5 * torch.sin(wave * across))
        return product

    def _check_waves(self) -> None:
        if self.smoothness is not None and self.length is None:
            raise InputError(f"darcy: smoothness = {self.smoothness} has no effect without a length")
        if self.coefficient != "multiscale":
            check_resolved(self.grid, alpha=self.alpha, tau=self.tau, spectrum=self._spectrum)
        if not (isinstance(self.scales, int) and 1 <= self.scales <= 32):
            raise InputError(f"darcy: scales = {self.scales}; a whole number of at least 1 and at most 32 is needed")
        # The shortest wave has 1.5 · 2^(K-1) · 3/2 periods along an axis, and two points a period resolve it barely.
        least = math.ceil(4.5 * 2 ** (self.scales - 1))
        if self.coefficient == "multiscale" and self.resolution < least:
            raise InputError(
                f"darcy: a resolution of {self.resolution} is too coarse for {self.scales} scales, which need {least}"
            )
