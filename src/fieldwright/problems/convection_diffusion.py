"""Something dissolved that a wind carries and diffusion spreads, at rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry, vector_field
from fieldwright.problems.diffusion import diffusion_system
from fieldwright.problems.numbers import check_number, drawn_numbers, is_drawn
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.random_winds import swirling_wind, uniform_wind
from fieldwright.problems.relatives import relatives
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Wind = Literal["uniform", "swirling"]
Scheme = Literal["upwind", "central"]
_WIND_STREAM = 1


@dataclass(frozen=True)
class ConvectionDiffusion(SteadyProblem):
    """Convection and diffusion, -ε Δu + b·∇u = f on the unit box: wind b and source f -> concentration u.

    ``diffusivity``  ε, a number or [low, high] to draw it per instance
    ``wind``         "uniform": one random direction per instance; "swirling" (2D): a random field without divergence,
                     periodic, of up to four swirls per axis
    ``speed``        the largest |b|, a number or [low, high]
    ``scheme``       "upwind": first order, an M-matrix at any speed; "central": second order, an M-matrix only while a
                     wall or face holds |b| h <= 2 ε, and refused beyond
    ``alpha, tau, deviation``  spectrum (|κ|² + τ²)^(-α) and standard deviation of the Gaussian source
    ``walls``        "dirichlet" (u = 0) or "neumann" (∂u/∂n = 0; the wind carries u out and in): one word, or one word
                     or (low, high) pair per axis; at least one side is Dirichlet

    Cell-centred finite volumes in the advective form: (1/h) Σ_faces v_f (u_f - u) with the outward wind v_f, the mean
    of both cells', and u_f the upwind cell's value or the mean of both; non-symmetric. Dimensionless; the Péclet number
    of the box is speed/ε.

    Errors: `InputError` for a setting out of range, or a grid too coarse for the central scheme or the source.
    """

    resolution: int = 64
    dimension: int = 2
    diffusivity: float | list[float] = 0.01
    wind: Wind = "swirling"
    speed: float | list[float] = 1.0
    scheme: Scheme = "upwind"
    alpha: float = 2.0
    tau: float = 3.0
    deviation: float = 1.0
    walls: Any = "dirichlet"

    outputs: ClassVar[tuple[Field, ...]] = (Field("concentration", "1", "u"),)

    def __post_init__(self) -> None:
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 3):
            raise InputError(f"convection_diffusion: dimension {self.dimension}; allowed are 1, 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"convection_diffusion: resolution {self.resolution}; an integer of at least 4 is needed")
        for name, words in (("wind", get_args(Wind)), ("scheme", get_args(Scheme))):
            if getattr(self, name) not in words:
                raise InputError(
                    f"convection_diffusion: {name} '{getattr(self, name)}'; allowed are {' and '.join(words)}"
                )
        if self.wind == "swirling" and (self.dimension != 2 or self.resolution < 9):
            raise InputError(
                f"convection_diffusion: a swirling wind needs 2 dimensions and 9 points per axis, not {self.dimension}"
                f" and {self.resolution}; choose wind: uniform"
            )
        check_number("convection_diffusion: diffusivity", self.diffusivity, positive=True)
        check_number("convection_diffusion: speed", self.speed, positive=True)
        for name in ("deviation", "tau"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"convection_diffusion: {name} = {getattr(self, name)}; a positive number is needed")
        if not any("dirichlet" in pair for pair in self.boundary.sides) or any(self.boundary.periodic):
            raise InputError("convection_diffusion: walls need at least one Dirichlet side, and none can be periodic")
        check_resolved(self.grid, alpha=self.alpha, tau=self.tau)
        if self.scheme == "central" and self.cell_peclet > 1:
            least = math.ceil(self.resolution * self.cell_peclet)
            raise InputError(
                f"convection_diffusion: the cell Péclet number |b| h / (2 ε) may reach {self.cell_peclet:.3g}, and the"
                f" central scheme oscillates above 1; a resolution of {least} or more is needed, or scheme: upwind"
            )

    @property
    def cell_peclet(self) -> float:
        """The largest |b| h / (2 ε) that an instance may have."""
        speed = max(self.speed) if isinstance(self.speed, list) else self.speed
        diffusivity = min(self.diffusivity) if isinstance(self.diffusivity, list) else self.diffusivity
        return speed / (2 * diffusivity * self.resolution)

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        fields = [Field("source", "1", "f"), *vector_field("wind", self.dimension, "1", "b")]
        if is_drawn(self.diffusivity):
            fields.append(Field("diffusivity", "1", "ε", number=True))
        return tuple(fields)

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(self.walls, self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        source = gaussian_field(self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=self.deviation)
        drawing = uniform_wind if self.wind == "uniform" else swirling_wind
        wind = drawing(self.grid, indices, seed, stream=_WIND_STREAM)
        numbers = drawn_numbers(indices, seed, [self.diffusivity, self.speed])
        numbers = numbers.reshape(*numbers.shape, *[1] * self.dimension)
        speed = numbers[:, -1:] if is_drawn(self.speed) else self.speed
        channels = [source[:, None], speed * wind]
        if is_drawn(self.diffusivity):
            channels.append(numbers[:, :1].expand(-1, -1, *self.grid.shape))
        return torch.cat(channels, 1)

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """Errors: `InputError` naming a sample whose diffusivity is not positive."""
        source, wind = inputs[:, 0], inputs[:, 1 : 1 + self.dimension]
        diffusivity = inputs[:, -1] if is_drawn(self.diffusivity) else torch.full_like(source, self._diffusivity)
        positive = (diffusivity > 0).flatten(1).all(1)
        if not bool(positive.all()):
            where = int((~positive).nonzero()[0])
            raise InputError(f"convection_diffusion: the diffusivity of sample {where} is not positive")
        system = diffusion_system(diffusivity, source, self.grid, self.boundary)
        return replace(system, coefficients=system.coefficients + self._convection(wind), kind="general")

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary, vectors=((len(self.inputs), 1),))

    def shifts(self) -> dict[str, Problem]:
        faster = [2 * end for end in self.speed] if isinstance(self.speed, list) else 2 * self.speed
        return relatives(
            self,
            {"wind twice as fast": {"speed": faster}, "correlation length halved": {"tau": 2 * self.tau}},
        )

    @property
    def _diffusivity(self) -> float:
        return self.diffusivity[0] if isinstance(self.diffusivity, list) else self.diffusivity

    def _convection(self, wind: Float[Tensor, "batch dimension *space"]) -> Float[Tensor, "batch offset *space"]:
        """What b·∇u adds to the coefficients of the diffusion system, in the order of its offsets."""
        diagonal = torch.zeros_like(wind[:, 0])
        couplings: list[Tensor] = []
        for axis, (h, (low, high)) in enumerate(zip(self.grid.spacing, self.boundary.sides, strict=True)):
            place, n = axis + 1, self.grid.shape[axis]
            along = wind[:, axis]
            # The wind out through the upper face; on a wall it is extrapolated from two cells.
            upper = (along + along.roll(-1, place)) / 2
            cells = torch.arange(n, device=wind.device).reshape(-1, *[1] * (self.dimension - axis - 1))
            first, second = along.select(place, 0), along.select(place, 1)
            last, before = along.select(place, n - 1), along.select(place, n - 2)
            into = torch.where(cells == 0, (1.5 * first - 0.5 * second).unsqueeze(place), upper.roll(1, place))
            upper = torch.where(cells == n - 1, (1.5 * last - 0.5 * before).unsqueeze(place), upper)
            for outward, wall, condition in ((upper, n - 1, high), (-into, 0, low)):
                # v (u_f - u): upwind it counts where the wind comes in, with the mean of both cells by half.
                weight = (-outward).clamp_min(0) if self.scheme == "upwind" else -outward / 2
                inside = torch.where(cells == wall, 0.0, weight) / h
                # A wall's value 0 is the face's own, whatever the scheme; at a Neumann wall u_f = u.
                held = (-outward).clamp_min(0) if self.scheme == "upwind" else -outward
                edge = torch.where(cells == wall, held, 0.0) / h if condition == "dirichlet" else 0.0
                diagonal = diagonal + inside + edge
                couplings.append(-inside)
        return torch.stack([diagonal, *couplings], 1)
