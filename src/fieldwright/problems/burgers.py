"""Velocity that carries itself and is smoothed by viscosity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Problem, Symmetry, vector_field
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.random_harmonics import random_harmonics
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.solvers.exponential_runge_kutta import Nonlinear

Initial = Literal["gaussian", "harmonics"]


@dataclass(frozen=True)
class Burgers(SpectralProblem):
    """Viscous Burgers' equation, u_t + (u·∇) u = ν Δu on the periodic unit box: velocity u -> velocity later.

    ``dimension``      1 (a scalar u) or 2 (two components)
    ``viscosity``      ν, a number or [low, high] to draw it per instance; fronts are about ν / |u| wide
    ``initial_state``  "gaussian": a field per component of spectrum (|κ|² + τ²)^(-α); "harmonics": the sum of two
                       waves with up to 8 periods, amplitudes U[0, 1] and random phases
    ``alpha, tau``     of the Gaussian field
    ``deviation``      its standard deviation; null: covariance τ^(2α) (-Δ + τ²)^(-α), as the FNO papers have it

    Galerkin in Fourier space (conservative in one dimension), ETDRK4 in time. A trajectory whose fronts the grid
    cannot hold is not stored. All is dimensionless. The defaults are the set of Li et al. 2020 (u at 0 -> u at 1);
    PDEBench's is resolution=1024, initial_state=harmonics, viscosity=Nu/π, duration=2.

    Errors: `InputError` for a setting out of range.

    Sources: Li et al., "Fourier Neural Operator", 2020, section 5.1; Takamoto et al., "PDEBench", 2022, appendix D.
    """

    resolution: int = 128
    dimension: int = 1
    viscosity: float | list[float] = 0.1
    initial_state: Initial = "gaussian"
    alpha: float = 2.0
    tau: float = 5.0
    deviation: float | None = None
    duration: float = 1.0
    frames: int = 1
    steps: int | None = None

    numbers: ClassVar[tuple[Field, ...]] = (Field("viscosity", "1", "ν", number=True),)

    def __post_init__(self) -> None:
        self.check_spectral("burgers", dimensions=(1, 2))
        check_number("burgers: viscosity", self.viscosity, positive=True)
        if self.initial_state not in get_args(Initial):
            raise InputError(f"burgers: initial_state '{self.initial_state}'; allowed are gaussian and harmonics")
        if self.initial_state == "harmonics" and self.waves.bands[0] < 8:
            raise InputError(f"burgers: resolution {self.resolution}; waves of up to 8 periods need at least 25 points")
        for name in ("tau", "deviation"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"burgers: {name} = {value}; a positive number is needed")

    @property
    def state(self) -> tuple[Field, ...]:  # type: ignore[override]
        if self.dimension == 1:
            return (Field("velocity", "1", "u"),)
        return vector_field("velocity", 2, "1", "u")

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "periodic")

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        parts = []
        for stream in range(self.dimension):
            if self.initial_state == "harmonics":
                parts.append(random_harmonics(self.grid, indices, seed, stream=stream))
                continue
            parts.append(
                gaussian_field(
                    self.grid,
                    indices,
                    seed,
                    alpha=self.alpha,
                    tau=self.tau,
                    deviation=self.deviation,
                    amplitude=self.tau**self.alpha if self.deviation is None else None,
                    walls="periodic",
                    stream=stream,
                )
            )
        return torch.stack(parts, 1)

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        return -self.number(inputs, "viscosity") * self.waves.squares.to(inputs.device)

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear:
        slopes = [self.waves.derivative(axis).to(inputs.device) for axis in range(self.dimension)]

        def flux(spectrum: Tensor) -> Tensor:
            return (-0.5 * slopes[0]).to(spectrum) * self.waves.forward(self.waves.backward(spectrum).square())

        def carried(spectrum: Tensor) -> Tensor:
            parts = [spectrum, *(slope.to(spectrum) * spectrum for slope in slopes)]
            u, *gradients = self.waves.backward(torch.stack(parts)).unbind()
            total = sum(u[:, axis : axis + 1] * gradient for axis, gradient in enumerate(gradients))
            return -self.waves.forward(total)  # type: ignore[arg-type]

        return flux if self.dimension == 1 else carried

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """In one dimension the mean stays and energy falls; in two each component keeps within its first bounds."""
        resolved = {"resolution": self.resolution_law(states)}
        if self.dimension == 1:
            return self.mean_laws(states) | {"energy": Law(states.square().flatten(2).sum(2), "falling")} | resolved
        # Between the points a maximum may be higher than at any of them, by about (π / 6)² / 2 of the shortest wave.
        largest = states.abs().flatten(3).amax(3).amax(2)
        return {"largest component": Law(largest, "falling", tolerance=0.1)} | resolved

    def symmetries(self) -> tuple[Symmetry, ...]:
        return periodic_symmetries(self.grid, "vector")

    def shifts(self) -> dict[str, Problem]:
        relatives: dict[str, Problem] = {}
        if not isinstance(self.viscosity, list):
            relatives["viscosity halved"] = replace(self, viscosity=self.viscosity / 2)
        if self.initial_state == "gaussian":
            relatives["correlation length halved"] = replace(self, tau=2 * self.tau)
        return relatives
