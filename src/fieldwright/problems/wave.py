"""Waves in a medium of variable speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Symmetry
from fieldwright.problems.draws import check_range, generator
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.laws import Law
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_bumps import bump_sum
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers.oscillation import LIMITS, Oscillation
from fieldwright.solvers.summation_by_parts import INTERIOR, SecondDifference

Medium = Literal["bumps", "layers", "uniform"]
Wall = Literal["absorbing", "dirichlet", "neumann", "periodic"]

# The splitting's energy wavers by as little as the states are off, and never drifts.
_ENERGY_ERROR = 1e-3
_MEDIUM_STREAM = 1


@dataclass(frozen=True)
class Wave(EvolutionProblem):
    """The wave equation, u_tt = c(x)² Δu: displacement u and velocity u_t, in a medium of speed c, on the unit box.

    ``medium``      the input "speed", within ``speeds`` = (low, high): "bumps": smooth, of ``medium_bumps`` Gaussian
                    bumps (Poseidon's Wave-Gauss); "layers": U[``layers``] layers across the last axis (Wave-Layer);
                    "uniform": one number
    ``count``       (low, high) of how many Gaussian bumps u begins with, at rest
    ``widths``, ``heights``  (low, high) of the bumps' width and height. Beside a wall they are multiplied by
                    1 - cos⁸(πx), a Dirichlet one by sin(πx), so that the first state obeys it
    ``walls``       "absorbing" (u_t + c ∂u/∂n = 0 lets waves out), "dirichlet" (u stays as it is), "neumann"
                    (∂u/∂n = 0) or "periodic": one word, or one word or (low, high) pair per axis; periodic on all axes
                    or none
    ``order``       in space, 2 or 4: second differences with summation by parts, on points that include the walls
    ``time_order``  2 (leapfrog), 4 or 8 (series), all explicit: see `fieldwright.solvers.oscillation`

    The energy ∫ u_t²/(2c²) + |∇u|²/2 is kept, and falls where walls absorb: of a plane wave that meets such a wall at
    the angle θ they return the part (1 - cos θ)/(1 + cos θ) of its amplitude. All quantities are dimensionless.

    Errors: `InputError` for a setting out of range.

    Sources: Herde et al., "Poseidon", 2024, appendix B; B. Engquist, A. Majda, Math. Comp. 31 (1977), (1.24).
    """

    resolution: int = 128
    dimension: int = 2
    medium: Medium = "bumps"
    speeds: Any = (0.7, 1.3)
    medium_bumps: int = 4
    layers: Any = (3, 6)
    count: Any = (2, 6)
    widths: Any = (0.04, 0.1)
    heights: Any = (0.2, 1.0)
    walls: Any = "absorbing"
    order: int = 4
    time_order: int = 8
    duration: float = 1.0
    frames: int = 15
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("displacement", "1", "u"), Field("velocity", "1", "u_t"))
    coefficients: ClassVar[tuple[Field, ...]] = (Field("speed", "1", "c"),)
    kernels: ClassVar[tuple[str, ...]] = ("oscillation_kernel",)

    def __post_init__(self) -> None:
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 2):
            raise InputError(f"wave: dimension {self.dimension}; allowed are 1 and 2")
        for name, value, allowed in (("order", self.order, INTERIOR), ("time_order", self.time_order, LIMITS)):
            if value not in allowed:
                raise InputError(f"wave: {name} {value}; allowed are {', '.join(map(str, allowed))}")
        if not (isinstance(self.resolution, int) and self.resolution >= 2 * self.order):
            raise InputError(f"wave: resolution {self.resolution}; an integer of at least {2 * self.order} is needed")
        if self.medium not in get_args(Medium):
            raise InputError(f"wave: medium '{self.medium}'; allowed are {', '.join(get_args(Medium))}")
        for name in ("speeds", "widths"):
            check_range(f"wave: {name}", tuple(getattr(self, name)), positive=True)
        check_range("wave: heights", tuple(self.heights))
        for name in ("layers", "count"):
            values = tuple(getattr(self, name))
            check_range(f"wave: {name}", values)
            if not all(isinstance(value, int) and value >= 1 for value in values):
                raise InputError(f"wave: {name} = {values}; two whole numbers of at least 1 are needed")
        if not (isinstance(self.medium_bumps, int) and self.medium_bumps >= 0):
            raise InputError(f"wave: medium_bumps = {self.medium_bumps}; a whole number of at least 0 is needed")
        if 0 < sum("periodic" in pair for pair in self.sides) < self.dimension:
            raise InputError(f"wave: walls = {self.walls}; they are periodic on all axes or on none")
        self.check_settings("wave")

    @cached_property
    def sides(self) -> tuple[tuple[Wall, Wall], ...]:
        """The walls, a (low, high) pair per axis."""
        axes = [self.walls] * self.dimension if isinstance(self.walls, str) else list(self.walls)
        pairs = [(axis, axis) if isinstance(axis, str) else tuple(axis) for axis in axes]
        if len(pairs) != self.dimension or any(len(p) != 2 or not set(p) <= set(get_args(Wall)) for p in pairs):
            raise InputError(
                f"wave: walls = {self.walls}; allowed are {', '.join(get_args(Wall))}, one word or pair per axis"
            )
        # Absorbing walls know what periodic ones do about their other end.
        Boundary.parse([tuple(_KNOWN_AS.get(side, side) for side in pair) for pair in pairs], self.dimension)
        return cast("tuple[tuple[Wall, Wall], ...]", tuple(pairs))

    @property
    def open_sides(self) -> tuple[tuple[bool, bool], ...]:
        return tuple((low == "absorbing", high == "absorbing") for low, high in self.sides)

    @property
    def boundary(self) -> Boundary:
        """The walls as other rooms know them: an absorbing one prescribes no value, as "neumann" does."""
        return Boundary.parse([tuple(_KNOWN_AS.get(s, s) for s in pair) for pair in self.sides], self.dimension)

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "periodic" if self._wraps else "node")

    @property
    def _wraps(self) -> bool:
        return "periodic" in self.sides[0]

    @property
    def _absorbs(self) -> bool:
        return any("absorbing" in pair for pair in self.sides)

    @cached_property
    def oscillation(self) -> Oscillation:
        """The equation on this grid."""
        axes = [SecondDifference(self.order, self.resolution, h, self._wraps) for h in self.grid.spacing]
        return Oscillation(tuple(axes), self.time_order)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        samples = []
        for index in indices:
            random = generator(seed, index)
            bumps = int(random.integers(self.count[0], self.count[1] + 1))
            heights = random.uniform(self.heights[0], self.heights[1], bumps)
            field = self._bumps(random, bumps, heights, tuple(self.widths))
            for axis, pair in enumerate(self.sides):
                field = field * self._window(axis, pair).reshape(-1, *[1] * (self.dimension - axis - 1))
            medium = self._medium(generator(seed, index, _MEDIUM_STREAM))
            samples.append(torch.stack([field, torch.zeros_like(field), medium]))
        return torch.stack(samples) if samples else torch.empty(0, 3, *self.grid.shape, dtype=torch.float64)

    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """(u_t, c² D u - σ u_t), and zero on Dirichlet walls."""
        moving, damping = self._moving.to(inputs), self._damping(inputs[:, 2])
        velocity = moving * inputs[:, 1]
        force = moving * inputs[:, 2].square() * self.oscillation.laplacian(inputs[:, 0])
        return torch.stack([velocity, force - damping * velocity], 1)

    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        moving = self._moving.to(inputs)
        return self.oscillation.march(
            inputs[:, 0],
            moving * inputs[:, 1],
            moving * inputs[:, 2].square(),
            self._damping(inputs[:, 2]),
            interval=self.interval,
            frames=frames,
            steps=steps,
        )

    def least_steps(self, inputs: Float[Tensor, "batch channel *space"]) -> int:
        return self.oscillation.least_steps(inputs[:, 2].square(), self.interval)

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        energy = self.energy(states.flatten(0, 1), inputs[:, 2].repeat_interleave(states.shape[1], 0))
        energy = energy.reshape(states.shape[:2])
        return {"energy": Law(energy, "falling" if self._absorbs else "constant", tolerance=_ENERGY_ERROR)}

    def energy(
        self, states: Float[Tensor, "batch channel *space"], speed: Float[Tensor, "batch *space"]
    ) -> Float[Tensor, " batch"]:
        """(v, v/c²)/2 - (u, D u)/2 in the quadrature of `SecondDifference`: ∫ u_t²/(2c²) + |∇u|²/2."""
        weights = self.oscillation.weights().to(states)
        kinetic = (self._moving.to(states) * states[:, 1] / speed.to(states)).square()
        return 0.5 * (weights * (kinetic - states[:, 0] * self.oscillation.laplacian(states[:, 0]))).flatten(1).sum(1)

    def symmetries(self) -> tuple[Symmetry, ...]:
        if self._wraps:
            return periodic_symmetries(self.grid)
        found = []
        for symmetry in box_symmetries(self.grid, self.boundary):
            turned = [self.sides[axis] for axis in symmetry.order]
            for axis in symmetry.reversed_axes:
                low, high = turned[axis]
                turned[axis] = (high, low)
            # A layered medium is one whatever its direction: the equation has no axis of its own.
            if tuple(turned) == self.sides:
                found.append(symmetry)
        return tuple(found)

    def shifts(self) -> dict[str, Problem]:
        low, high = self.speeds
        middle, half = 0.5 * (low + high), min(0.75 * (high - low), 0.45 * (low + high))
        found: dict[str, Problem] = {
            "bumps half as wide": replace(self, widths=tuple(0.5 * w for w in self.widths)),
            "more bumps": replace(self, count=(self.count[1] + 1, self.count[1] + 4)),
        }
        if low < high:
            found["contrast of the medium half as large again"] = replace(self, speeds=(middle - half, middle + half))
        return found

    @cached_property
    def _moving(self) -> Float[Tensor, " *space"]:
        """1 on points that move, 0 on Dirichlet walls."""
        mask = torch.ones(self.grid.shape, dtype=torch.float64)
        for axis, pair in enumerate(self.sides):
            for side, place in zip(pair, (0, -1), strict=True):
                if side == "dirichlet":
                    mask.select(axis, place).zero_()
        return mask

    def _damping(self, speed: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """σ: the flux ∂u/∂n = -u_t/c through an absorbing wall, c² (u_t/c)/H₀ on its points."""
        damping = torch.zeros_like(speed)
        for axis, (pair, difference) in enumerate(zip(self.sides, self.oscillation.axes, strict=True)):
            for side, place in zip(pair, (0, self.resolution - 1), strict=True):
                if side == "absorbing":
                    wall = torch.zeros(self.resolution, dtype=speed.dtype, device=speed.device)
                    wall[place] = 1 / float(difference.weights[0])
                    damping = damping + speed * wall.reshape(-1, *[1] * (self.dimension - axis - 1))
        return damping * self._moving.to(speed)

    def _window(self, axis: int, pair: tuple[Wall, Wall]) -> Float[Tensor, " n"]:
        """What keeps the first state compatible with the walls: without it they would send out the shortest waves."""
        x = self.grid.axis(axis)
        if self._wraps:
            return torch.ones_like(x)
        lower = torch.sin(math.pi * x) if pair[0] == "dirichlet" else 1 - torch.cos(math.pi * x) ** 8
        upper = torch.sin(math.pi * x) if pair[1] == "dirichlet" else 1 - torch.cos(math.pi * x) ** 8
        window = torch.where(x < 0.5, lower, upper)
        # The sine of π is not zero in floating point, but a wall is.
        window[[0, -1]] = 0.0
        return window

    def _bumps(
        self, random: np.random.Generator, count: int, heights: np.ndarray, widths: tuple[float, float]
    ) -> Float[Tensor, " *space"]:
        centres = torch.from_numpy(random.random((count, self.dimension)))
        sizes = torch.from_numpy(random.uniform(widths[0], widths[1], count))
        return bump_sum(self.grid, centres, sizes, torch.from_numpy(heights))

    def _medium(self, random: np.random.Generator) -> Float[Tensor, " *space"]:
        low, high = self.speeds
        if self.medium == "uniform":
            return torch.full(self.grid.shape, random.uniform(low, high), dtype=torch.float64)
        if self.medium == "layers":
            return self._layers(random).expand(self.grid.shape).clone()
        # 1 - exp(-s) keeps sums of bumps, however many overlap, within the range.
        heights = random.uniform(0.5, 2.0, self.medium_bumps)
        bumps = self._bumps(random, self.medium_bumps, heights, (0.1, 0.25))
        return low + (high - low) * (1 - torch.exp(-bumps))

    def _layers(self, random: np.random.Generator) -> Float[Tensor, " n"]:
        """Speeds across the layers. Where an interface crosses the surroundings of a point, 1/c² is averaged over them:
        the mean of what the equation has in front of u_tt."""
        low, high = self.speeds
        count = int(random.integers(self.layers[0], self.layers[1] + 1))
        thickness = random.uniform(0.5, 1.5, count)
        ends = np.concatenate([[0.0], np.cumsum(thickness / thickness.sum())])
        slowness = random.uniform(low, high, count) ** -2.0
        until = np.concatenate([[0.0], np.cumsum(slowness * np.diff(ends))])
        axis, h = self.grid.axis(self.dimension - 1).numpy(), self.grid.spacing[-1]
        below, above = (np.clip(axis + sign * h / 2, 0.0, 1.0) for sign in (-1, 1))
        means = (np.interp(above, ends, until) - np.interp(below, ends, until)) / (above - below)
        return torch.from_numpy(means**-0.5)


_KNOWN_AS = {"absorbing": "neumann"}
