"""Two chemicals that feed, react and diffuse into patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Symmetry
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.settings import allowed
from fieldwright.solvers.exponential_runge_kutta import Nonlinear

PATTERNS: dict[str, tuple[float, float]] = {
    "gliders": (0.014, 0.054),
    "bubbles": (0.098, 0.057),
    "maze": (0.029, 0.057),
    "worms": (0.058, 0.065),
    "spirals": (0.018, 0.051),
    "spots": (0.03, 0.062),
}
"""(feed, kill) of the regimes of The Well's set."""


@dataclass(frozen=True)
class GrayScott(SpectralProblem):
    """The Gray-Scott reactions on [-1, 1]^d: concentrations u, v -> concentrations later.

        u_t = D_u Δu - u v² + F (1 - u),    v_t = D_v Δv + u v² - (F + k) v

    ``pattern``              a named (F, k): gliders, bubbles, maze, worms, spirals, spots; null: ``feed`` and ``kill``
    ``feed, kill``           F and k, numbers or [low, high] to draw them per instance
    ``diffusivity_u, _v``    D_u and D_v
    ``seeds``                [low, high] of the number of Gaussian seeds of v that the uniform u = 1 begins with
    ``walls``                "periodic" or "neumann" (no flux)

    Reactions are taken at the points; ETDRK4 in time. Concentrations, lengths and times are dimensionless.

    Errors: `InputError` for a setting out of range.

    Sources: J. E. Pearson, Science 261 (1993); Ohana et al., "The Well", 2024.
    """

    resolution: int = 128
    dimension: int = 2
    pattern: str | None = "spots"
    feed: float | list[float] = 0.03
    kill: float | list[float] = 0.062
    diffusivity_u: float = 2e-5
    diffusivity_v: float = 1e-5
    seeds: Any = (10, 100)
    walls: Any = "periodic"  # type: ignore[misc]
    duration: float = 1000.0
    frames: int = 20
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (
        Field("substrate", "1", "u, concentration of what is fed"),
        Field("catalyst", "1", "v, concentration of what feeds on it"),
    )
    factors: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.check_spectral("gray_scott", dimensions=(1, 2, 3))
        if self.pattern is not None and self.pattern not in PATTERNS:
            raise InputError(f"gray_scott: pattern '{self.pattern}'; {allowed(self.pattern, PATTERNS)}, or null")
        for name in ("feed", "kill", "diffusivity_u", "diffusivity_v"):
            check_number(f"gray_scott: {name}", getattr(self, name), positive=True)
        few = list(self.seeds)
        if len(few) != 2 or not all(isinstance(n, int) for n in few) or not 1 <= few[0] <= few[1]:
            raise InputError(f"gray_scott: seeds = {self.seeds}; two whole numbers, 1 <= low <= high, are needed")
        if Boundary.parse(self.walls, self.dimension).sides[0][0] == "dirichlet" or not isinstance(self.walls, str):
            raise InputError(f"gray_scott: walls {self.walls}; allowed are periodic and neumann")

    @property
    def numbers(self) -> tuple[Field, ...]:  # type: ignore[override]
        feed, kill = Field("feed", "1", "F", number=True), Field("kill", "1", "k", number=True)
        return (feed, kill) if self.pattern is None else ()

    @property
    def grid(self) -> Grid:
        d = self.dimension
        centring = "periodic" if self.walls == "periodic" else "cell"
        return Grid((self.resolution,) * d, centring, (-1.0,) * d, (1.0,) * d)

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        bumps = random_bumps(self.grid, indices, seed, count=list(self.seeds), widths=(0.02, 0.05))
        # Where seeds overlap, v saturates at one half and u at one half, as under a single one.
        catalyst = (1 - torch.exp(-2 * bumps)) / 2
        return torch.stack([1 - catalyst, catalyst], 1)

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        ones = [1] * self.dimension
        diffusivities = torch.tensor([self.diffusivity_u, self.diffusivity_v], dtype=torch.float64)
        feed, kill = self._rates(inputs)
        decay = torch.cat([feed, feed + kill], 1)
        spreading = diffusivities.to(inputs.device).reshape(1, 2, *ones) * self.modes.squares.to(inputs.device)
        return -spreading - decay

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear:
        feed, _ = self._rates(inputs)

        def rate(spectrum: Tensor) -> Tensor:
            fields = self.modes.backward(spectrum)
            u, v = fields[:, :1], fields[:, 1:]
            reaction = u * v.square()
            return self.modes.forward(torch.cat([feed.to(u) - reaction, reaction], 1))

        return rate

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """Concentrations stay above zero, but for what a sharp front overshoots."""
        below = (-states).clamp_min(0).flatten(2).amax(2)
        return {"negative concentration": Law(below, "falling", scale=torch.ones_like(below[:, 0]), tolerance=1e-2)}

    def symmetries(self) -> tuple[Symmetry, ...]:
        if self.walls == "periodic":
            return periodic_symmetries(self.grid)
        return box_symmetries(self.grid, self.boundary)

    def _rates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.pattern is None:
            return self.number(inputs, "feed"), self.number(inputs, "kill")
        ones = [1] * (self.dimension + 2)
        feed, kill = (torch.full(ones, value, dtype=torch.float64) for value in PATTERNS[self.pattern])
        return feed.to(inputs.device), kill.to(inputs.device)
