"""Chaos in one dimension: flame fronts and falling films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Symmetry
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_harmonics import random_harmonics
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.solvers.exponential_runge_kutta import Nonlinear


@dataclass(frozen=True)
class KuramotoSivashinsky(SpectralProblem):
    """The Kuramoto-Sivashinsky equation, u_t + u u_x + u_xx + u_xxxx = 0 on a periodic line: u -> u later.

    ``length``     L of the line [0, L]; [low, high] draws it per instance, and then x is in parts of L. Below 2π all
                   decays; from about 20 on solutions are chaotic, with a leading Lyapunov exponent near 0.1
    ``harmonics``  waves in the initial state, with up to ``highest`` periods
    ``amplitude``  of each wave, drawn from U[-amplitude, amplitude]

    Galerkin in Fourier space, ETDRK4 in time. All is dimensionless.

    Errors: `InputError` for a setting out of range.

    Source: A.-K. Kassam, L. N. Trefethen, SIAM J. Sci. Comput. 26 (2005), section 4.
    """

    resolution: int = 256
    length: float | list[float] = 64.0
    harmonics: int = 10
    highest: int = 8
    amplitude: float = 0.5
    duration: float = 50.0
    frames: int = 50
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("front", "1", "u, slope of the front"),)
    numbers: ClassVar[tuple[Field, ...]] = (Field("length", "1", "L", number=True),)

    def __post_init__(self) -> None:
        self.check_spectral("kuramoto_sivashinsky")
        check_number("kuramoto_sivashinsky: length", self.length, positive=True)
        if not 0 < self.amplitude < float("inf"):
            raise InputError(f"kuramoto_sivashinsky: amplitude = {self.amplitude}; a positive number is needed")
        for name in ("harmonics", "highest"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise InputError(f"kuramoto_sivashinsky: {name} = {getattr(self, name)}; at least 1 is needed")
        longest = max(self.length) if isinstance(self.length, list) else self.length
        # Modes are damped from κ = 1 on; twice that is the least that holds the slope of the spectrum.
        if self.waves.bands[0] * 2 * torch.pi / longest < 2 or self.highest > self.waves.bands[0]:
            raise InputError(
                f"kuramoto_sivashinsky: resolution {self.resolution} keeps {self.waves.bands[0]} waves; length"
                f" {longest:g} with up to {self.highest} initial periods needs"
                f" {max(self.highest, int(longest / torch.pi) + 1)} or more"
            )

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,), "periodic", upper=(1.0 if isinstance(self.length, list) else self.length,))

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        field = random_harmonics(
            self.grid,
            indices,
            seed,
            count=self.harmonics,
            highest=self.highest,
            amplitudes=(-self.amplitude, self.amplitude),
        )
        return field[:, None]

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        squares = self.waves.squares.to(inputs.device) / self._unit(inputs).square()
        return squares - squares.square()

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear:
        slope = -0.5 * self.waves.derivative(0).to(inputs.device) / self._unit(inputs)

        def rate(spectrum: Tensor) -> Tensor:
            return slope.to(spectrum) * self.waves.forward(self.waves.backward(spectrum).square())

        return rate

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """The mean stays to round-off."""
        return self.mean_laws(states)

    def symmetries(self) -> tuple[Symmetry, ...]:
        return periodic_symmetries(self.grid, "vector")

    def _unit(self, inputs: Tensor) -> Tensor:
        """The length of the grid's unit: 1, or L where the grid is in parts of it."""
        return self.number(inputs, "length") / self.grid.lengths[0]
