"""Heat that spreads in a homogeneous body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Symmetry
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.problems.symmetries import box_symmetries


@dataclass(frozen=True)
class Heat(SpectralProblem):
    """The heat equation, u_t = D Δu on the unit box: temperature u -> temperature later.

    ``diffusivity``           D, a number or [low, high] to draw it per instance
    ``alpha, tau, deviation`` spectrum (|κ|² + τ²)^(-α) and standard deviation of the Gaussian initial state
    ``walls``                 "periodic", "dirichlet" (u = 0) or "neumann" (no flux): one word, or one word or (low,
                              high) pair per axis

    Exact in time and in every mode of the grid (Fourier, sine or cosine by the walls). All is dimensionless.

    Errors: `InputError` for a setting out of range.
    """

    resolution: int = 64
    dimension: int = 2
    diffusivity: float | list[float] = 0.01
    alpha: float = 2.0
    tau: float = 3.0
    deviation: float = 1.0
    walls: Any = "periodic"  # type: ignore[misc]
    duration: float = 1.0
    frames: int = 10
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("temperature", "1", "u"),)
    numbers: ClassVar[tuple[Field, ...]] = (Field("diffusivity", "1", "D", number=True),)
    factors: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.check_spectral("heat", dimensions=(1, 2, 3))
        check_number("heat: diffusivity", self.diffusivity, positive=True)
        for name in ("tau", "deviation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"heat: {name} = {getattr(self, name)}; a positive number is needed")
        Boundary.parse(self.walls, self.dimension)

    @property
    def grid(self) -> Grid:
        periodic = all(Boundary.parse(self.walls, self.dimension).periodic)
        return Grid((self.resolution,) * self.dimension, "periodic" if periodic else "cell")

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        conditions = {condition for pair in self.boundary.sides for condition in pair}
        walls: Any = conditions.pop() if len(conditions) == 1 else "neumann"
        field = gaussian_field(
            self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=self.deviation, walls=walls
        )
        return field[:, None]

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        return -self.number(inputs, "diffusivity") * self.modes.squares.to(inputs.device)

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> None:
        return None

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """The mean stays unless a wall is cold; u² falls."""
        falling = {"square": Law(states.square().flatten(2).sum(2), "falling")}
        if any("dirichlet" in pair for pair in self.boundary.sides):
            return falling
        return self.mean_laws(states) | falling

    def symmetries(self) -> tuple[Symmetry, ...]:
        if all(self.boundary.periodic):
            return periodic_symmetries(self.grid)
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        return {"correlation length halved": replace(self, tau=2 * self.tau)}
