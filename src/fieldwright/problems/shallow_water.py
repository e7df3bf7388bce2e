"""Shallow water over a flat or uneven bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Problem, vector_field
from fieldwright.problems.draws import check_range, generator
from fieldwright.problems.hyperbolic_problem import HyperbolicProblem, cell_means
from fieldwright.problems.laws import Law
from fieldwright.problems.random_bumps import bump_sum
from fieldwright.solvers.finite_volume import Limiter, ShallowLayer, Stepping

States = Literal["dam", "bumps", "rest"]
Bottom = Literal["flat", "bumps"]

_ROUNDING = 1e-10
# Breaking waves lose energy, smooth ones none; the scheme's own error was never seen to add any.
_ENERGY_ERROR = 1e-4
_POINTS = 4
_BOTTOM_STREAM = 1


@dataclass(frozen=True)
class ShallowWater(HyperbolicProblem):
    """Shallow water, h_t + ∇·(hv) = 0, (hv)_t + ∇·(hv⊗v) + ∇(g h²/2) = -g h ∇z: depth h and velocity v over a bottom z.

    The box is [``lower``, ``upper``] along each of ``dimension`` 1 or 2 axes.

    ``states``     how the first state is drawn, always at rest:
                   "dam": surface ``inside`` within a radius U[``radius``] of the box' middle and ``outside`` beyond it,
                   averaged over 4 x 4 points of a cell; outside = 0 is a dry bed
                   "bumps": surface ``outside`` with ``count`` Gaussian bumps, each of height U[``heights``] and width
                   U[``widths``] (parts of the box); "rest": surface ``outside``, a lake at rest
    ``bottom``     "flat", or "bumps": ``count`` Gaussian bumps of height U[``bottom_heights``], which the input
                   "bottom" then holds; where they stand out of the water they are islands
    ``gravity``    g
    ``dry``        where the water is shallower than this, its velocity goes to zero with its depth
    ``walls``, ``limiter``, ``stepping``, ``cfl``  of `HyperbolicProblem`

    A lake at rest stays at rest to rounding, mass is conserved to rounding in a closed box, momentum along a periodic
    axis over a flat bottom; energy, |hv|²/2h + g h²/2 + g h z, falls where waves break. The defaults are PDEBench's
    radial dam break.

    Errors: `InputError` for a setting out of range.

    Source: Takamoto et al., "PDEBench", 2022, appendix D.4.
    """

    resolution: int = 128
    dimension: int = 2
    lower: float = -2.5
    upper: float = 2.5
    states: States = "dam"
    inside: float = 2.0
    outside: float = 1.0
    radius: Any = (0.3, 0.7)
    count: int = 4
    heights: Any = (-0.2, 0.2)
    widths: Any = (0.03, 0.1)
    bottom: Bottom = "flat"
    bottom_heights: Any = (0.0, 0.4)
    gravity: float = 1.0
    dry: float = 1e-5
    duration: float = 1.0
    frames: int = 100
    steps: int | None = None
    walls: Any = "outflow"
    limiter: Limiter = "monotonized"
    stepping: Stepping = "hancock"
    cfl: float | None = None

    title: ClassVar[str] = "shallow_water"

    def __post_init__(self) -> None:
        self.check_flow()
        for name, allowed in (("states", get_args(States)), ("bottom", get_args(Bottom))):
            if getattr(self, name) not in allowed:
                raise InputError(f"shallow_water: {name} '{getattr(self, name)}'; allowed are {', '.join(allowed)}")
        if not -float("inf") < self.lower < self.upper < float("inf"):
            raise InputError(f"shallow_water: the box runs from {self.lower} to {self.upper}; lower < upper is needed")
        for name in ("inside", "outside"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"shallow_water: {name} = {getattr(self, name)}; a depth of at least 0 is needed")
        for name in ("radius", "widths"):
            check_range(f"shallow_water: {name}", tuple(getattr(self, name)), positive=True)
        for name in ("heights", "bottom_heights"):
            check_range(f"shallow_water: {name}", tuple(getattr(self, name)))
        if not (isinstance(self.count, int) and self.count >= 0):
            raise InputError(f"shallow_water: count = {self.count}; a whole number of at least 0 is needed")
        _ = self.law

    @cached_property
    def law(self) -> ShallowLayer:
        return ShallowLayer(self.gravity, self.dry)

    @cached_property
    def state(self) -> tuple[Field, ...]:  # type: ignore[override]
        return Field("depth", "1", "h"), *vector_field("velocity", self.dimension, "1", "v")

    @property
    def coefficients(self) -> tuple[Field, ...]:  # type: ignore[override]
        return () if self.bottom == "flat" else (Field("bottom", "1", "z"),)

    @property
    def grid(self) -> Grid:
        n, d = self.resolution, self.dimension
        return Grid((n,) * d, "cell", (self.lower,) * d, (self.upper,) * d)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        samples = []
        for index in indices:
            surface = self._surface(seed, index)
            still = torch.zeros(self.dimension, *self.grid.shape, dtype=torch.float64)
            if self.bottom == "flat":
                samples.append(torch.cat([surface[None], still]))
                continue
            bottom = self._bumps(seed, index, tuple(self.bottom_heights), _BOTTOM_STREAM)
            samples.append(torch.cat([(surface - bottom).clamp_min(0)[None], still, bottom[None]]))
        return torch.stack(samples) if samples else torch.empty(0, len(self.inputs), *self.grid.shape).double()

    def primitive(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch field *space"]:
        velocities = slice(1, 1 + self.dimension)
        surface = inputs[:, :1] if self.bottom == "flat" else inputs[:, :1] + inputs[:, -1:]
        return torch.cat([inputs[:, :1], inputs[:, velocities], surface], 1)

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        if not self.closed:
            return {}
        depth, momentum = states[:, :, 0], states[:, :, :1] * states[:, :, 1:]
        mass = self.total(depth)
        bottom = torch.zeros_like(depth) if self.bottom == "flat" else inputs[:, None, -1].to(depth)
        energy = 0.5 * (momentum * states[:, :, 1:]).sum(2) + self.gravity * depth * (0.5 * depth + bottom)
        found = {
            "mass": Law(mass, tolerance=_ROUNDING),
            "energy": Law(self.total(energy), "falling", tolerance=_ENERGY_ERROR),
        }
        size = mass[:, 0] * (self.gravity * depth[:, 0].flatten(1).amax(1)).sqrt()
        for axis, (name, wraps) in enumerate(zip("xyz", self.boundary.periodic, strict=False)):
            if wraps and self.bottom == "flat":
                found[f"momentum_{name}"] = Law(self.total(momentum[:, :, axis]), scale=size, tolerance=_ROUNDING)
        return found

    def shifts(self) -> dict[str, Problem]:
        if self.states == "dam":
            further = tuple(1.5 * r for r in self.radius)
            return {
                "dam half as large again": replace(self, radius=further),
                "surfaces half as far apart": replace(self, inside=0.5 * (self.inside + self.outside)),
            }
        return {"bumps half as high again": replace(self, heights=tuple(1.5 * h for h in self.heights))}

    def _surface(self, seed: int, index: int) -> Float[Tensor, " *space"]:
        level = torch.full(self.grid.shape, self.outside, dtype=torch.float64)
        if self.states == "rest":
            return level
        if self.states == "bumps":
            return level + self._bumps(seed, index, tuple(self.heights), 0)
        fine = self.grid.resized(tuple(_POINTS * n for n in self.grid.shape))
        radius = generator(seed, index).uniform(*self.radius)
        middle = 0.5 * (self.lower + self.upper)
        within = (fine.coordinates() - middle).square().sum(0) < radius**2
        return cell_means(torch.where(within, self.inside, self.outside).double()[None], _POINTS)[0]

    def _bumps(self, seed: int, index: int, heights: tuple[float, float], stream: int) -> Float[Tensor, " *space"]:
        """A sum of Gaussian bumps, periodic where the box is."""
        random, d, length = generator(seed, index, stream), self.dimension, self.upper - self.lower
        centres = torch.from_numpy(self.lower + length * random.random((self.count, d)))
        widths = torch.from_numpy(length * random.uniform(self.widths[0], self.widths[1], self.count))
        sizes = torch.from_numpy(random.uniform(heights[0], heights[1], self.count))
        total = torch.zeros(self.grid.shape, dtype=torch.float64)
        wraps = self.boundary.periodic
        for image in torch.cartesian_prod(*[torch.arange(-1, 2) if w else torch.zeros(1) for w in wraps]).reshape(
            -1, d
        ):
            total = total + bump_sum(self.grid, centres + length * image, widths, sizes)
        return total
