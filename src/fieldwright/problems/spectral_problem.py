"""Problems in time on boxes, solved in their Fourier, sine or cosine modes: u_t = L u + N(u), L diagonal there.

On a periodic box the state is a truncated Fourier series (`fieldwright.solvers.spectral_grid`) whose products are free
of aliasing; inputs are projected onto its band first, and sampled states lie within it. Between walls products are
taken at the points. Time steps are exponential (ETDRK4): the linear part is exact however stiff, N is of order 4. So
what is integrated is the system in space whose right-hand side `rate` is, and that system converges spectrally.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.problems.base import Field
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number, drawn_numbers, is_drawn
from fieldwright.solvers.exponential_runge_kutta import Nonlinear, SteppingTerm, etdrk4_coefficients, etdrk4_step
from fieldwright.solvers.spectral_grid import SpectralGrid
from fieldwright.solvers.wall_modes import WallModes

# Step sizes whose coefficients are kept: those of one search for the number of steps.
_KEPT_STEPS = 8


class SpectralProblem(EvolutionProblem):
    """u_t = L u + N(u) on a box; a subclass states `grid`, `initial`, `symbol` and `nonlinear`.

    ``resolution``  points per axis

    Class variables:

    ``walls``    conditions at the walls, as `Boundary.parse` reads them; a subclass may make it a setting
    ``factors``  the number of factors of the products in N that are free of aliasing on a periodic box: 2 keeps waves
                 up to (n - 1) / 3, 1 keeps them all (collocation)
    ``numbers``  the settings that may be a number or [low, high], as fields; a drawn one is an input of each instance
    ``maps``     coefficients that are fields, drawn by `initial` after the state
    """

    resolution: int

    walls: ClassVar[Any] = "periodic"
    factors: ClassVar[int] = 2
    numbers: ClassVar[tuple[Field, ...]] = ()
    maps: ClassVar[tuple[Field, ...]] = ()

    @abc.abstractmethod
    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        """Draw the states that trajectories begin with, and the `maps`, before they are projected onto the band."""

    @abc.abstractmethod
    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        """L per Fourier mode; broadcasts against (batch channel *modes), differentiable in the inputs."""

    @abc.abstractmethod
    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear | None:
        """N as a map of coefficients (batch channel *modes), differentiable; None where there is no such term."""

    @property
    def coefficients(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (*self.maps, *(f for f in self.numbers if is_drawn(getattr(self, f.name))))

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.grid.dimension)

    @cached_property
    def waves(self) -> SpectralGrid:
        """The Fourier modes of a periodic state."""
        return SpectralGrid(self.grid.shape, self.grid.lengths, self.factors)

    @cached_property
    def modes(self) -> SpectralGrid | WallModes:
        """The modes of the state: Fourier on a periodic box, otherwise the sines and cosines that meet the walls."""
        return self.waves if all(self.boundary.periodic) else WallModes(self.grid, self.boundary)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        # One sample at a time: a transform over the whole batch may round differently with the batch's size.
        fields = [self.modes.projected(field) for field in self.initial(indices, seed)]
        shape = (len(self.state) + len(self.maps), *self.grid.shape)
        drawn = torch.stack(fields) if fields else torch.empty(0, *shape, dtype=torch.float64)
        values = drawn_numbers(indices, seed, [getattr(self, field.name) for field in self.numbers])
        constant = values.reshape(*values.shape, *[1] * self.grid.dimension).expand(*values.shape, *self.grid.shape)
        return torch.cat([drawn, constant], 1)

    def number(self, inputs: Float[Tensor, "batch channel *space"], name: str) -> Float[Tensor, "#batch 1 *ones"]:
        """A number of the physics, shaped to broadcast: each instance's own, or that of all."""
        ones = [1] * self.grid.dimension
        for place, field in enumerate(self.coefficients):
            if field.name == name:
                return inputs[:, len(self.state) + place].flatten(1)[:, 0].reshape(-1, 1, *ones)
        return torch.full((1, 1, *ones), getattr(self, name), dtype=torch.float64, device=inputs.device)

    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        spectrum = self.modes.forward(inputs[:, : len(self.state)])
        total = self.symbol(inputs).to(spectrum.dtype) * spectrum
        nonlinear = self.nonlinear(inputs)
        return self.modes.backward(total if nonlinear is None else total + nonlinear(spectrum))

    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        spectrum = self.modes.forward(inputs[:, : len(self.state)])
        advance = self.stepper(inputs, self.interval / steps, spectrum.dtype)
        found = []
        for _ in range(frames):
            spectrum = advance(spectrum, steps)
            found.append(self.modes.backward(spectrum))
        return torch.stack(found, 1)

    def stepper(
        self, inputs: Float[Tensor, "batch channel *space"], step: float, dtype: torch.dtype
    ) -> Callable[[Tensor, int], Tensor]:
        """(coefficients of the state, how many time steps) -> those after them; what a step needs is computed once."""
        nonlinear = self.nonlinear(inputs)
        if nonlinear is None:
            symbol = self.symbol(inputs)
            return lambda state, steps: (symbol * (step * steps)).exp().to(state.dtype) * state
        coefficients = self._step_coefficients(inputs, step)
        if isinstance(nonlinear, SteppingTerm):
            return nonlinear.etdrk4(coefficients)
        advance = etdrk4_step(coefficients, dtype=dtype)

        def repeated(state: Tensor, steps: int) -> Tensor:
            for _ in range(steps):
                state = advance(state, nonlinear)
            return state

        return repeated

    def _step_coefficients(self, inputs: Tensor, step: float) -> list[Tensor]:
        """Those of a step, computed once for all instances unless a number of theirs is drawn."""
        if any(is_drawn(getattr(self, field.name)) for field in self.numbers):
            return etdrk4_coefficients(self.symbol(inputs), step)
        key = step, inputs.device
        if key not in self._kept:
            if len(self._kept) >= _KEPT_STEPS:
                self._kept.clear()
            self._kept[key] = etdrk4_coefficients(self.symbol(inputs).detach(), step)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[float, torch.device], list[Tensor]]:
        return {}

    def mean_laws(self, states: Float[Tensor, "batch time channel_out *space"]) -> dict[str, Law]:
        """The mean of each component stays, to round-off relative to the state's root mean square."""
        scale = states[:, 0].flatten(1).square().mean(1).sqrt()
        means = states.flatten(3).mean(3)
        return {
            f"mean {field.name}": Law(means[..., place], scale=scale, tolerance=1e-10)
            for place, field in enumerate(self.state)
        }

    def resolution_law(self, states: Float[Tensor, "batch time channel_out *space"]) -> Law:
        """The share of the amplitude that stands in the outer third of the band may not rise by more than a tenth.

        Where it does, the solution has fronts that the grid cannot hold.
        """
        spectrum = self.waves.forward(states)
        outer = torch.zeros(self.waves.modes, dtype=torch.bool)
        for axis, band in enumerate(self.waves.bands):
            unit = 2 * math.pi / self.waves.lengths[axis]
            outer = outer | (self.waves.wavenumbers(axis).abs() > (2 * band // 3 + 0.5) * unit)
        size = spectrum.abs().square()
        whole = size.flatten(2).sum(2)
        share = ((size * outer.to(size)).flatten(2).sum(2) / whole.clamp_min(torch.finfo(size.dtype).tiny)).sqrt()
        return Law(share, "falling", scale=torch.ones_like(share[:, 0]), tolerance=0.1)

    def check_spectral(self, name: str, *, dimensions: tuple[int, ...] = ()) -> None:
        """Errors: `InputError` for a grid too coarse, a number or range that is not finite or out of order, and what
        `check_settings` refuses."""
        self.check_settings(name)
        if dimensions and getattr(self, "dimension", None) not in dimensions:
            few = " and ".join(map(str, dimensions))
            raise InputError(f"{name}: dimension {getattr(self, 'dimension', None)}; allowed are {few}")
        if not (isinstance(self.resolution, int) and self.resolution >= 8):
            raise InputError(f"{name}: resolution {self.resolution}; an integer of at least 8 is needed")
        for field in self.numbers:
            check_number(f"{name}: {field.name}", getattr(self, field.name))
