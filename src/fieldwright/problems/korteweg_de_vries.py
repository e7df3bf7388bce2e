"""Waves in shallow water that pass through each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Symmetry
from fieldwright.problems.draws import check_range, generator
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_harmonics import random_harmonics
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.solvers.exponential_runge_kutta import Nonlinear

Initial = Literal["solitons", "harmonics"]
# Periodic images of a soliton that are summed on either side.
_IMAGES = 2


@dataclass(frozen=True)
class KortewegDeVries(SpectralProblem):
    """The Korteweg-de Vries equation, u_t + 6 u u_x + δ u_xxx = 0 on a periodic line: u -> u later.

    ``length``         L of the line [0, L]
    ``dispersion``     δ, a number or [low, high] to draw it per instance
    ``initial_state``  "solitons": the sum of ``count`` waves (c/2) sech²(½ (c/δ)^½ (x - x₀)) of speeds c drawn from
                       U[``speeds``] and places x₀ from U[0, L] (δ its mean where it is drawn); "harmonics": the sum of
                       ``count`` sine waves with up to 8 periods and amplitudes U[0, 1]

    Galerkin in Fourier space; dispersion is exact and the rest of order 4 in time (ETDRK4). All is dimensionless.

    Errors: `InputError` for a setting out of range.

    Source: N. J. Zabusky, M. D. Kruskal, Phys. Rev. Lett. 15 (1965).
    """

    resolution: int = 256
    length: float = 40.0
    dispersion: float | list[float] = 1.0
    initial_state: Initial = "solitons"
    count: int = 2
    speeds: Any = (0.5, 2.0)
    duration: float = 10.0
    frames: int = 20
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("elevation", "1", "u"),)
    numbers: ClassVar[tuple[Field, ...]] = (Field("dispersion", "1", "δ", number=True),)

    def __post_init__(self) -> None:
        self.check_spectral("korteweg_de_vries")
        check_number("korteweg_de_vries: dispersion", self.dispersion, positive=True)
        check_range("korteweg_de_vries: speeds", self.speeds, positive=True)
        if not 0 < self.length < float("inf"):
            raise InputError(f"korteweg_de_vries: length = {self.length}; a positive number is needed")
        if self.initial_state not in get_args(Initial):
            raise InputError(
                f"korteweg_de_vries: initial_state '{self.initial_state}'; allowed are solitons and harmonics"
            )
        if not (isinstance(self.count, int) and self.count >= 1):
            raise InputError(f"korteweg_de_vries: count = {self.count}; at least one wave is needed")
        if self.initial_state == "harmonics" and self.waves.bands[0] < 8:
            raise InputError(
                f"korteweg_de_vries: resolution {self.resolution}; waves of up to 8 periods need 25 points or more"
            )

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,), "periodic", upper=(self.length,))

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        if self.initial_state == "harmonics":
            return random_harmonics(self.grid, indices, seed, count=self.count)[:, None]
        dispersion = float(np.mean(self.dispersion))
        fields = torch.zeros(len(indices), 1, self.resolution, dtype=torch.float64)
        for row, index in enumerate(indices):
            random = generator(seed, index)
            speeds = random.uniform(self.speeds[0], self.speeds[1], self.count)
            places = random.uniform(0.0, self.length, self.count)
            for speed, place in zip(speeds.tolist(), places.tolist(), strict=True):
                fields[row, 0] += self.soliton(speed, place, dispersion)
        return fields

    def soliton(self, speed: float, place: float, dispersion: float) -> Float[Tensor, " x"]:
        """(c/2) sech²(½ (c/δ)^½ (x - x₀)) with its periodic images: alone on the line it moves on at speed c."""
        x, total = self.grid.axis(0) - place, torch.zeros(self.resolution, dtype=torch.float64)
        for image in range(-_IMAGES, _IMAGES + 1):
            apart = x + image * self.length
            total += speed / 2 / torch.cosh((speed / dispersion) ** 0.5 / 2 * apart).square()
        return total

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        return -self.number(inputs, "dispersion") * self.waves.derivative(0).to(inputs.device) ** 3

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear:
        slope = -3 * self.waves.derivative(0).to(inputs.device)

        def rate(spectrum: Tensor) -> Tensor:
            return slope.to(spectrum) * self.waves.forward(self.waves.backward(spectrum).square())

        return rate

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """Mass to round-off; momentum ∫u² and energy ∫(δ u_x²/2 - u³) up to the error in time."""
        slope = self.waves.backward(self.waves.derivative(0).to(states.device) * self.waves.forward(states))
        dispersion = self.number(inputs, "dispersion")[:, :, None]
        stretch, cube = dispersion / 2 * slope.square(), states**3
        energy = (stretch - cube).flatten(2).mean(2)
        size = (stretch + cube.abs())[:, 0].flatten(1).mean(1)
        return self.mean_laws(states) | {
            "momentum": Law(states.square().flatten(2).sum(2), tolerance=1e-3),
            "energy": Law(energy, scale=size, tolerance=1e-3),
            "resolution": self.resolution_law(states),
        }

    def symmetries(self) -> tuple[Symmetry, ...]:
        return periodic_symmetries(self.grid, mirrors=False)
