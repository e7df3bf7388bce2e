"""A concentration carried by a given flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Symmetry, vector_field
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.random_harmonics import random_harmonics
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.solvers.exponential_runge_kutta import Nonlinear
from fieldwright.solvers.spectral_grid import SpectralGrid

Flow = Literal["constant", "random"]
Initial = Literal["harmonics", "gaussian"]
# How far along the imaginary axis the classical Runge-Kutta method is stable.
_STABLE = 2.8


@dataclass(frozen=True)
class Advection(SpectralProblem):
    """Advection, u_t + c·∇u = 0 on the periodic unit box: concentration u (and flow c) -> concentration later.

    ``flow``           "constant": c = (``speed_x``, ``speed_y``), each a number or [low, high] to draw it per instance;
                       "random" (two dimensions): c = (ψ_y, -ψ_x) of a Gaussian stream function ψ of spectrum
                       (|κ|² + τ²)^(-α - 1), with root mean square ``rms_speed`` over all instances; an input field
    ``initial_state``  "harmonics": the sum of two waves with up to 8 periods, amplitudes U[0, 1] and random phases;
                       "gaussian": spectrum (|κ|² + τ²)^(-α), standard deviation 1

    Under a constant flow every mode turns exactly. A random one is integrated in Fourier space by the classical
    Runge-Kutta method; products of flow and gradient are free of aliasing, so mass is kept to round-off and u² up to
    the error in time. All is dimensionless. PDEBench's set is speed_x=beta, resolution=1024, duration=2.

    Errors: `InputError` for a setting out of range.

    Source: Takamoto et al., "PDEBench", 2022, appendix D.
    """

    resolution: int = 128
    dimension: int = 1
    flow: Flow = "constant"
    speed_x: float | list[float] = 1.0
    speed_y: float | list[float] = 0.0
    rms_speed: float = 1.0
    initial_state: Initial = "harmonics"
    alpha: float = 2.5
    tau: float = 5.0
    duration: float = 1.0
    frames: int = 10
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("concentration", "1", "u"),)

    def __post_init__(self) -> None:
        self.check_spectral("advection", dimensions=(1, 2))
        for name, words in (("flow", Flow), ("initial_state", Initial)):
            if getattr(self, name) not in get_args(words):
                raise InputError(
                    f"advection: {name} '{getattr(self, name)}'; allowed are {' and '.join(get_args(words))}"
                )
        if self.flow == "random" and self.dimension != 2:
            raise InputError("advection: a random flow is without divergence, so it needs dimension 2")
        check_number("advection: speed_x", self.speed_x)
        check_number("advection: speed_y", self.speed_y)
        for name in ("rms_speed", "tau"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"advection: {name} = {getattr(self, name)}; a positive number is needed")
        if self.initial_state == "harmonics" and self.waves.bands[0] < 8:
            raise InputError(
                f"advection: resolution {self.resolution}; waves of up to 8 periods need 25 points or more"
            )

    @property
    def numbers(self) -> tuple[Field, ...]:  # type: ignore[override]
        speeds = (Field("speed_x", "1", "c_x", number=True), Field("speed_y", "1", "c_y", number=True))
        return speeds[: self.dimension] if self.flow == "constant" else ()

    @property
    def maps(self) -> tuple[Field, ...]:  # type: ignore[override]
        return vector_field("flow", 2, "1", "c") if self.flow == "random" else ()

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "periodic")

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        if self.initial_state == "harmonics":
            state = random_harmonics(self.grid, indices, seed)
        else:
            state = gaussian_field(
                self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=1.0, walls="periodic"
            )
        if self.flow == "constant":
            return state[:, None]
        scale = self.rms_speed / _flow_deviation(self.alpha + 1, self.tau)
        streams = gaussian_field(
            self.grid, indices, seed, alpha=self.alpha + 1, tau=self.tau, deviation=scale, walls="periodic", stream=1
        )
        flows = []
        for psi in streams:
            spectrum = self.waves.forward(psi)
            x, y = self.waves.derivative(0), self.waves.derivative(1)
            flows.append(self.waves.backward(torch.stack([y * spectrum, -x * spectrum])))
        velocity = torch.stack(flows) if flows else state.new_empty(0, 2, *self.grid.shape)
        return torch.cat([state[:, None], velocity], 1)

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        if self.flow == "random":
            return torch.zeros([1] * (self.dimension + 2), dtype=torch.float64, device=inputs.device)
        return -sum(
            self.number(inputs, field.name) * self.waves.derivative(axis).to(inputs.device)
            for axis, field in enumerate(self.numbers)
        )  # type: ignore[return-value]

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear | None:
        if self.flow == "constant":
            return None
        velocity = inputs[:, 1:]
        slopes = torch.stack(
            [self.waves.derivative(axis).expand(self.waves.modes).to(inputs.device) for axis in range(2)]
        )

        def rate(spectrum: Tensor) -> Tensor:
            # As a divergence, ∇·(c u) = c·∇u: two products and no mode of the mean.
            flux = self.waves.forward(velocity.to(spectrum.real) * self.waves.backward(spectrum))
            return -(slopes.to(spectrum) * flux).sum(1, keepdim=True)

        return rate

    def least_steps(self, inputs: Float[Tensor, "batch channel *space"]) -> int:
        if self.flow == "constant" or not len(inputs):
            return 1
        speed = inputs[:, 1:].abs().flatten(2).amax(2).sum(1)
        fastest = float(speed[speed.isfinite()].max()) if bool(speed.isfinite().any()) else 0.0
        return max(1, math.ceil(self.interval * fastest * 2 * math.pi * self.waves.bands[0] / _STABLE))

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """The mean stays to round-off, and u² up to the error in time."""
        square = Law(states.square().flatten(2).sum(2), tolerance=1e-10 if self.flow == "constant" else 1e-3)
        return self.mean_laws(states) | {"square": square}

    def symmetries(self) -> tuple[Symmetry, ...]:
        return periodic_symmetries(self.grid, mirrors=False)


@lru_cache(maxsize=16)
def _flow_deviation(alpha: float, tau: float) -> float:
    """The root mean square of |∇ψ| where ψ of spectrum (|κ|² + τ²)^(-α) has that of 1."""
    squares = SpectralGrid((512, 512), (1.0, 1.0)).squares
    variances = (squares + tau**2) ** -alpha
    variances[:, 1:-1] *= 2  # each stands for its conjugate too
    variances[0, 0] = 0.0
    return math.sqrt(float((squares * variances).sum() / variances.sum()))
