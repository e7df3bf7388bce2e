"""The generalised porous medium equation: heat, gas in rock, melting ice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Symmetry
from fieldwright.problems.draws import check_range, uniform_numbers
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.laws import Law
from fieldwright.problems.moving_fronts import (
    drop_mass,
    drop_means,
    drop_radius,
    melting_mass,
    melting_means,
    melting_root,
    wave_mass,
    wave_means,
)
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers.implicit import SCHEMES, Scheme, march
from fieldwright.solvers.newton import implicit_step
from fieldwright.solvers.potentials import Family, Potential
from fieldwright.solvers.two_point_flux import TwoPointFlux

Medium = Literal["heat", "power", "stefan"]
Start = Literal["analytic", "spreading", "random"]

_NUMBERS: dict[str, tuple[str, str]] = {
    "heat": ("conductivity", "c"),
    "power": ("degree", "m"),
    "stefan": ("threshold", "u*, below which nothing flows"),
}
_FAMILIES: dict[str, Family] = {"heat": "linear", "power": "power", "stefan": "threshold"}
_STREAM = 1


@dataclass(frozen=True)
class PorousMedium(EvolutionProblem):
    """The generalised porous medium equation, u_t = ∇·(k(u) ∇u): concentration u and one number -> u later.

    ``medium``     "heat": k = c, on the torus of side 2π; "power": k = u^m, the porous medium equation; "stefan": k = 1
                   where u >= u* and 0 elsewhere. The last two are on the unit box, with u >= 0, and have moving fronts
    ``start``      "analytic": the textbook solution: sin x (heat); a front driven into u = 0 from the left by
                   u(t, 0) = (m t)^(1/m) (power, until t = 1) or by u(t, 0) = 1 (stefan). 1D, but for heat.
                   "spreading": the Barenblatt-Pattle drop in a closed box (power);
                   "random": a Gaussian field, of power and stefan its positive part, in a closed box
    ``numbers``    (low, high) of c, m or u*, uniform per sample; None: (1, 5), (1, 6), (0.55, 0.7)
    ``ages``       (low, high) of the drop's age at the start as a share of ``duration``, uniform per sample
    ``radii``      (low, high) of the drop's radius at the end, uniform per sample
    ``alpha, tau, deviation``  spectrum and standard deviation of the Gaussian field
    ``scheme``     "bdf2" or "euler"

    Finite volumes for cell means with the potential w = ∫ k du: the flux through a face is -(w_r - w_l) / h, exact
    where it is constant between the two centres, else of second order. (The harmonic mean of k, right for layers of
    rock, is zero at the edge of an empty cell: a front would never move.)
    Time steps are implicit, solved by Newton's method to round-off; u >= 0 is kept by every step. A sample whose Newton
    iteration does not end is NaN and reported. All quantities are dimensionless.

    Where the walls are closed the mass is constant to round-off, where they are not, it is what the exact solution has.
    The clock "start_time" is the time since the solution's own beginning; "age" that of the drop at clock 0.

    Errors: `InputError` for a setting out of range, or a front that would leave the box.

    Source: Hansen et al., "Learning Physical Models that Can Respect Conservation Laws", ICML 2023; J. L. Vázquez, The
    Porous Medium Equation, 2007, chapter 4.
    """

    resolution: int = 128
    dimension: int = 1
    medium: Medium = "power"
    start: Start = "analytic"
    numbers: tuple[float, float] | None = None
    ages: tuple[float, float] = (0.05, 0.2)
    radii: tuple[float, float] = (0.3, 0.45)
    alpha: float = 2.0
    tau: float = 3.0
    deviation: float = 1.0
    scheme: Scheme = "bdf2"
    duration: float = 1.0
    frames: int = 10
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("concentration", "1", "u, means over cells"),)
    # Fronts move by cells, and smear over one: no more digits than this are gained by smaller time steps.
    kernels: ClassVar[tuple[str, ...]] = ("newton_kernel", "tridiagonal_kernel")
    rtol: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("medium", self.medium, get_args(Medium)),
            ("start", self.start, get_args(Start)),
            ("scheme", self.scheme, SCHEMES),
        ):
            if value not in allowed:
                raise InputError(f"porous_medium: {name} '{value}'; allowed are {', '.join(allowed)}")
        if self.dimension not in (1, 2):
            raise InputError(f"porous_medium: dimension {self.dimension}; allowed are 1 and 2")
        if self.start == "spreading" and self.medium != "power":
            raise InputError(f"porous_medium: start 'spreading' is for medium 'power', not '{self.medium}'")
        if self.driven and self.dimension != 1:
            raise InputError(
                "porous_medium: a driven front is in one dimension; in 2D choose start spreading or random"
            )
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"porous_medium: resolution {self.resolution}; an integer of at least 4 is needed")
        for name in ("tau", "deviation"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"porous_medium: {name} = {getattr(self, name)}; a positive number is needed")
        self.check_settings("porous_medium")
        check_range("porous_medium: numbers", self.number_range, positive=True)
        self._check_fronts()

    def _check_fronts(self) -> None:
        low, high = self.number_range
        if self.medium == "stefan" and not 0.01 <= low <= high <= 0.99:
            raise InputError(f"porous_medium: numbers = ({low:g}, {high:g}); thresholds lie in 0.01 to 0.99")
        if self.driven:
            # The lower the threshold, the faster the front: x = 2 z₁ √t.
            root = 0.5 if self.medium == "power" else float(melting_root(torch.tensor([low], dtype=torch.float64)))
            latest = 1 / (2 * root) ** 2
            if self.duration > latest:
                raise InputError(
                    f"porous_medium: duration = {self.duration:g}; the front of '{self.medium}' leaves the box at"
                    f" {latest:.3g}"
                )
        if self.start == "spreading":
            check_range("porous_medium: ages", self.ages, positive=True)
            check_range("porous_medium: radii", self.radii, positive=True)
            if self.radii[1] > 0.5:
                raise InputError(f"porous_medium: radii = {tuple(self.radii)}; the box leaves room for at most 0.5")

    @property
    def number_range(self) -> tuple[float, float]:
        """(low, high) of the number that the medium has."""
        defaults = {"heat": (1.0, 5.0), "power": (1.0, 6.0), "stefan": (0.55, 0.7)}
        return tuple(self.numbers) if self.numbers is not None else defaults[self.medium]  # type: ignore[return-value]

    @property
    def driven(self) -> bool:
        """Whether a wall drives a front into the box."""
        return self.start == "analytic" and self.medium != "heat"

    @property
    def coefficients(self) -> tuple[Field, ...]:  # type: ignore[override]
        name, meaning = _NUMBERS[self.medium]
        found = [Field(name, "1", meaning, number=True)]
        if self.start == "spreading":
            found.append(Field("age", "1", "time since the drop was a point, at clock 0", number=True))
        if self.clock:
            found.append(Field(self.clock, "1", "t", number=True))
        return tuple(found)

    @property
    def clock(self) -> str:  # type: ignore[override]
        return "start_time" if self.driven or self.start == "spreading" else ""

    @property
    def grid(self) -> Grid:
        d = self.dimension
        if self.medium == "heat":
            return Grid((self.resolution,) * d, "periodic", (0.0,) * d, (2 * math.pi,) * d)
        return Grid((self.resolution,) * d, "cell")

    @cached_property
    def boundary(self) -> Boundary:
        word = "periodic" if self.medium == "heat" else "dirichlet" if self.driven else "neumann"
        return Boundary.parse(word, self.dimension)

    @cached_property
    def _operator(self) -> TwoPointFlux:
        return TwoPointFlux.uniform(self.grid, self.boundary)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        ranges = [self.number_range, *([self.ages, self.radii] if self.start == "spreading" else [])]
        drawn = uniform_numbers(indices, seed, ranges, stream=_STREAM)
        number, zero = drawn[:, 0], torch.zeros(len(drawn), dtype=torch.float64)
        numbers = [number]
        if self.start == "random":
            unit = Grid(self.grid.shape, self.grid.centring)
            field = gaussian_field(
                unit, indices, seed, alpha=self.alpha, tau=self.tau, deviation=self.deviation,
                walls="periodic" if self.medium == "heat" else "neumann",
            )  # fmt: skip
            state = field if self.medium == "heat" else field.clamp_min(0.0)
        elif self.start == "spreading":
            age = self.duration * drawn[:, 1]
            mass = drop_mass(self.dimension, number, drawn[:, 2], age + self.duration)
            state = drop_means(self.grid, number, mass, age[:, None])[:, 0]
            numbers.append(age)
        elif self.medium == "heat":
            waves = self.grid.coordinates().sin().prod(0)
            state = waves.expand(len(drawn), *self.grid.shape)
        else:
            state = zero.reshape(-1, 1).expand(-1, *self.grid.shape)
        if self.clock:
            numbers.append(zero)
        constant = [n.reshape(-1, *[1] * self.dimension).expand(-1, *self.grid.shape) for n in numbers]
        return torch.stack([state, *constant], 1)

    def check_inputs(self, inputs: Tensor) -> None:
        """Errors: `InputError` as of any problem, and for a number that is not positive or a clock below zero."""
        super().check_inputs(inputs)
        for channel, field in enumerate(self.coefficients, start=1):
            values = self._number(inputs, channel)
            wrong = values < 0 if field.name == self.clock else values <= 0
            if bool(wrong.any()):
                sample = int(wrong.nonzero()[0])
                allowed = "a number from 0" if field.name == self.clock else "a positive number"
                raise InputError(
                    f"porous_medium: {field.name} of sample {sample} is {float(values[sample]):g}; {allowed} is needed"
                )

    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        u, number = inputs[:, 0], inputs[:, 1]
        rate = -self._operator.to(u).apply(Potential(_FAMILIES[self.medium], number)(u)[0])
        if self.driven:
            rate = rate + self._source(self._wall_potential(number, inputs[:, 2])[:, :1], u)
        return rate[:, None]

    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        return self.integrate_with_supply(inputs, frames=frames, steps=steps)[0]

    def integrate_with_supply(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> tuple[Float[Tensor, "batch time channel_out *space"], Float[Tensor, "batch time"]]:
        """The states, and the mass that has come in through the walls by the scheme's own fluxes up to each."""
        operator = self._operator.to(inputs)
        number = self._number(inputs, 1).reshape(-1, *[1] * self.dimension)
        potential = Potential(_FAMILIES[self.medium], number)
        start = self._number(inputs, 2) if self.driven else None

        def advance(b: Tensor, guess: Tensor, tau: Tensor, elapsed: float) -> tuple[Tensor, Tensor]:
            wall = None
            if start is not None:
                wall = self._wall_potential(number, (start + elapsed)[:, None])
                b = b + tau[:, None] * self._source(wall, b)
            step = implicit_step(b, guess, tau, operator, potential)
            inflow = torch.zeros_like(tau)
            if wall is not None:
                w, h = step.potential, self.grid.spacing[0]
                inflow = (wall[:, 0] - w[:, 0] - w[:, -1]) * 2 / h
            return step.state, inflow

        states, supply = march(
            advance, inputs[:, 0], interval=self.interval, frames=frames, steps=steps,
            scheme=self.scheme, positive=potential.positive,
        )  # fmt: skip
        return states[:, :, None], supply

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """ "mass": the integral of u; of driven fronts with the exact solution's supply, off by 5 % at most.
        "positivity": what lies below zero, as a share of the mass (power and stefan)."""
        cell = math.prod(self.grid.spacing)
        u = states[:, :, 0]
        mass = cell * u.flatten(2).sum(2)
        size = cell * u.abs().flatten(2).sum(2).amax(1)
        if not self.driven:
            laws = {"mass": Law(mass, scale=size, tolerance=1e-9)}
        else:
            exact = self.mass(inputs, times)
            laws = {"mass": Law(mass, supply=exact - exact[:, :1], scale=exact.amax(1), tolerance=0.05)}
        if self.medium != "heat":
            below = -cell * u.clamp_max(0.0).flatten(2).sum(2)
            laws["positivity"] = Law(below, "falling", scale=size, tolerance=1e-12)
        return laws

    def exact(
        self, inputs: Float[Tensor, "batch channel *space"], times: Float[Tensor, " time"]
    ) -> Float[Tensor, "batch time channel_out *space"]:
        """The exact solution at ``times`` after ``inputs``: means over cells, of heat the values at the points.

        Errors: `InputError` where there is none: a random start of medium power or stefan.
        """
        number, times = self._number(inputs, 1).double(), times.to(inputs.device).double()
        if self.medium == "heat":
            return self._heat(inputs[:, 0].double(), number, times)[:, :, None]
        if self.start == "random":
            raise InputError(f"porous_medium: a random start of medium '{self.medium}' has no exact solution")
        clock = self._clock(inputs, times)
        if self.start == "spreading":
            ages = clock + self._number(inputs, 2)[:, None]
            return drop_means(self.grid, number, self._total(inputs), ages)[:, :, None]
        means = wave_means if self.medium == "power" else melting_means
        return means(self.grid, number, clock)[:, :, None]

    def mass(
        self, inputs: Float[Tensor, "batch channel *space"], times: Float[Tensor, " time"]
    ) -> Float[Tensor, "batch time"]:
        """The exact mass ∫ u dx at ``times`` after ``inputs``."""
        if not self.driven:
            return self._total(inputs)[:, None].expand(-1, len(times))
        known = wave_mass if self.medium == "power" else melting_mass
        return known(self._number(inputs, 1).double(), self._clock(inputs, times))

    def front(
        self, inputs: Float[Tensor, "batch channel *space"], times: Float[Tensor, " time"]
    ) -> Float[Tensor, "batch time"]:
        """The exact distance of the front from the driven wall, or from the middle of the drop.

        Errors: `InputError` for a start that has no front of known place.
        """
        if self.start == "random" or self.medium == "heat":
            raise InputError("porous_medium: only driven fronts and spreading drops have a front of known place")
        number, clock = self._number(inputs, 1).double(), self._clock(inputs, times)
        if self.start == "spreading":
            ages = clock + self._number(inputs, 2)[:, None]
            return drop_radius(self.dimension, number, self._total(inputs), ages)
        return clock if self.medium == "power" else 2 * melting_root(number)[:, None] * clock.sqrt()

    def symmetries(self) -> tuple[Symmetry, ...]:
        return super().symmetries() if self.driven else box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        low, high = self.number_range
        name = _NUMBERS[self.medium][0]
        if self.medium == "stefan":
            beyond = (max(low - (high - low) / 3, 0.01), low)
            # A lower threshold melts faster; the front must still be in the box at the end.
            if self.driven and 4 * float(melting_root(torch.tensor([beyond[0]]).double())) ** 2 * self.duration > 1:
                beyond = (high, min(high + (high - low) / 3, 0.99))
        else:
            beyond = (high, high + (high - low) / 3)
        found: dict[str, Problem] = {
            f"{name} in {beyond[0]:.3g} to {beyond[1]:.3g} instead of {low:.3g} to {high:.3g}": replace(
                self, numbers=beyond
            )
        }
        if self.start == "random":
            found["correlation length halved"] = replace(self, tau=2 * self.tau)
        return found

    def _wall_potential(self, number: Tensor, clock: Tensor) -> Tensor:
        """w at the left wall: of u = (m t)^(1/m), or of u = 1."""
        if self.medium == "power":
            return (number * clock) ** ((number + 1) / number) / (number + 1)
        return (1 - number).expand_as(clock)

    def _source(self, wall: Float[Tensor, "batch 1"], like: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """What the left wall's potential adds to the rate: 2 w / h² in the first cell."""
        first = torch.zeros(like.shape[1], dtype=like.dtype, device=like.device)
        first[0] = 2 / self.grid.spacing[0] ** 2
        return wall * first

    def _heat(self, u: Tensor, conductivity: Tensor, times: Tensor) -> Float[Tensor, "batch time *space"]:
        axes = list(range(2, 2 + self.dimension))
        waves = [2 * math.pi * torch.fft.fftfreq(n, h) for n, h in zip(self.grid.shape, self.grid.spacing, strict=True)]
        squares = torch.stack(torch.meshgrid(*waves, indexing="ij")).square().sum(0).to(u)
        decay = (conductivity[:, None] * times).reshape(len(u), len(times), *[1] * self.dimension) * squares
        return torch.fft.ifftn(torch.fft.fftn(u[:, None], dim=axes) * torch.exp(-decay), dim=axes).real

    def _clock(self, inputs: Tensor, times: Tensor) -> Float[Tensor, "batch time"]:
        """The clock at ``times`` after ``inputs``."""
        return self._number(inputs, -1).double()[:, None] + times.to(inputs.device).double()

    def _total(self, inputs: Tensor) -> Float[Tensor, " batch"]:
        return math.prod(self.grid.spacing) * inputs[:, 0].double().flatten(1).sum(1)

    def _number(self, inputs: Tensor, channel: int) -> Float[Tensor, " batch"]:
        return inputs[:, channel].flatten(1)[:, 0]
