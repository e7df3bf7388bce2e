"""Two phases that part and coarsen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Symmetry
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number
from fieldwright.problems.periodic_symmetries import periodic_symmetries
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.random_waves import random_sines
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers.exponential_runge_kutta import Nonlinear

Initial = Literal["sines", "gaussian"]


@dataclass(frozen=True)
class AllenCahn(SpectralProblem):
    """The Allen-Cahn equation, u_t = D Δu + r (u - u³) on the unit box: phase u -> phase later.

    ``diffusivity``  D, a number or [low, high] to draw it per instance
    ``reaction``     r, likewise; interfaces are (2 D / r)^½ wide, which the grid must resolve
    ``initial_state`` "sines": products of 16 to 32 sine waves per axis as in Poseidon's set; "gaussian": a field of
                     standard deviation ``deviation`` and spectrum (|κ|² + τ²)^(-α)
    ``walls``        "periodic", "neumann" (no flux) or "dirichlet" (u = 0), as for the heat equation

    The reaction is taken at the points, so that the discrete free energy h^d Σ (D/2 |∇u|² + r/4 (u² - 1)²) falls as
    the continuous one does; ETDRK4 in time. All is dimensionless. The defaults are Poseidon's ACE set.

    Errors: `InputError` for a setting out of range.

    Source: Herde et al., "Poseidon", 2024, appendix B.
    """

    resolution: int = 128
    dimension: int = 2
    diffusivity: float | list[float] = 1.0
    reaction: float | list[float] = 48400.0
    initial_state: Initial = "sines"
    alpha: float = 2.0
    tau: float = 7.0
    deviation: float = 0.5
    walls: Any = "periodic"  # type: ignore[misc]
    duration: float = 2e-4
    frames: int = 20
    steps: int | None = None

    state: ClassVar[tuple[Field, ...]] = (Field("phase", "1", "u"),)
    numbers: ClassVar[tuple[Field, ...]] = (
        Field("diffusivity", "1", "D", number=True),
        Field("reaction", "1", "r", number=True),
    )
    factors: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.check_spectral("allen_cahn", dimensions=(1, 2, 3))
        for name in ("diffusivity", "reaction"):
            check_number(f"allen_cahn: {name}", getattr(self, name), positive=True)
        if self.initial_state not in get_args(Initial):
            raise InputError(f"allen_cahn: initial_state '{self.initial_state}'; allowed are sines and gaussian")
        for name in ("tau", "deviation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"allen_cahn: {name} = {getattr(self, name)}; a positive number is needed")
        words = {condition for pair in Boundary.parse(self.walls, self.dimension).sides for condition in pair}
        if len(words) > 1:
            raise InputError(f"allen_cahn: walls {self.walls}; the same condition on all sides is needed")
        if self.initial_state == "sines" and self.resolution < 64:
            raise InputError(
                f"allen_cahn: resolution {self.resolution}; initial sines of up to 32 waves need at least 64"
            )

    @property
    def grid(self) -> Grid:
        periodic = all(Boundary.parse(self.walls, self.dimension).periodic)
        return Grid((self.resolution,) * self.dimension, "periodic" if periodic else "cell")

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        walls: Any = self.boundary.sides[0][0]
        if self.initial_state == "gaussian":
            field = gaussian_field(
                self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=self.deviation, walls=walls
            )
        else:
            field = random_sines(
                self.grid,
                indices,
                seed,
                modes=(16, 32),
                decay=(1.4, 2.0),
                magnitude="euclidean",
                amplitude=1.0,
                average=True,
                walls="dirichlet" if walls == "dirichlet" else "periodic",
            )
        return field[:, None]

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        return -self.number(inputs, "diffusivity") * self.modes.squares.to(inputs.device)

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> Nonlinear:
        reaction = self.number(inputs, "reaction")

        def rate(spectrum: Tensor) -> Tensor:
            u = self.modes.backward(spectrum)
            return self.modes.forward(reaction.to(u) * (u - u**3))

        return rate

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """The free energy falls."""
        diffusivity, reaction = (self.number(inputs, name)[:, :, None] for name in ("diffusivity", "reaction"))
        laplacian = self.modes.backward(-self.modes.squares.to(states) * self.modes.forward(states))
        density = -diffusivity / 2 * states * laplacian + reaction / 4 * (states.square() - 1).square()
        return {"free energy": Law(density.flatten(2).mean(2), "falling", tolerance=1e-4)}

    def symmetries(self) -> tuple[Symmetry, ...]:
        if all(self.boundary.periodic):
            return periodic_symmetries(self.grid)
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        if isinstance(self.reaction, list):
            return {}
        return {"reaction faster by half": replace(self, reaction=1.5 * self.reaction)}
