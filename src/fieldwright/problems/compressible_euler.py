"""Compressible flow of an ideal gas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Problem, vector_field
from fieldwright.problems.draws import check_range
from fieldwright.problems.gas_states import DEFAULTS, FAMILIES, Family, GasDraw, gas_states
from fieldwright.problems.hyperbolic_problem import HyperbolicProblem
from fieldwright.problems.laws import Law
from fieldwright.solvers.finite_volume import IdealGas, Limiter, Stepping
from fieldwright.solvers.finite_volume.ideal_gas import Riemann

# What a closed box conserves drifts by rounding alone: some 1e-16 a step, and a trajectory has thousands.
_ROUNDING = 1e-10
_RANGES = ("density", "velocity", "pressure")
_JUMPS = ("riemann", "curved", "perturbed")
_IN_ONE_DIMENSION = ("riemann", "smooth")


@dataclass(frozen=True)
class CompressibleEuler(HyperbolicProblem):
    """Compressible flow, ρ_t + ∇·(ρv) = 0, (ρv)_t + ∇·(ρv⊗v + p) = 0, E_t + ∇·((E+p)v) = 0: the gas (ρ, v, p) in time.

    The gas is ideal, E = p/(γ-1) + ρ|v|²/2, on the unit box of ``dimension`` 1 or 2, inviscid: shocks are part of it.

    ``states``        how the first state is drawn (in 1D "riemann" and "smooth" alone):
                      "riemann": constant on ``pieces`` per axis, Poseidon's CE-RP; in 1D with outflow a shock tube
                      "curved", "perturbed": the same with curved (CE-CRP) or rippled interfaces (CE-RPUI)
                      "kelvin-helmholtz": a band in shear with rippled edges (CE-KH)
                      "richtmyer-meshkov": a blast within a rippled disc (CE-RM, there with duration 2)
                      "vortices": 100 Gaussian vortices in a uniform gas (CE-Gauss)
                      "smooth": sums of sines
    ``density``, ``velocity``, ``pressure``  (low, high) of the drawn values; null: the family's. For vortices the
                      velocity's range is that of their amplitudes; densities and pressures of the families that draw
                      none are (outside, inside)
    ``pieces``        pieces per axis; null: the family's (2; curved 3)
    ``perturbation``  largest displacement of an interface, in parts of the box; null: the family's
    ``shift``         the pieces are moved along each axis by a number drawn from U[-shift, shift]
    ``gamma``         adiabatic index γ
    ``riemann``       flux at the faces, "hllc" or "exact"
    ``walls``, ``limiter``, ``stepping``, ``cfl``  of `HyperbolicProblem`

    Mass and energy are conserved to rounding in a closed box, momentum along a periodic axis. All quantities are
    dimensionless. A sample whose density or pressure turns negative in spite of everything is NaN and not stored.

    Errors: `InputError` for a setting out of range.

    Source: Herde et al., "Poseidon", 2024, appendix B.
    """

    resolution: int = 128
    dimension: int = 2
    states: Family = "riemann"
    density: Any = None
    velocity: Any = None
    pressure: Any = None
    pieces: int | None = None
    perturbation: float | None = None
    shift: float = 0.0
    gamma: float = 1.4
    duration: float = 1.0
    frames: int = 20
    steps: int | None = None
    walls: Any = "periodic"
    limiter: Limiter = "monotonized"
    riemann: Riemann = "hllc"
    stepping: Stepping = "hancock"
    cfl: float | None = None

    title: ClassVar[str] = "compressible_euler"

    def __post_init__(self) -> None:
        self.check_flow()
        if self.states not in FAMILIES:
            raise InputError(f"compressible_euler: states '{self.states}'; allowed are {', '.join(FAMILIES)}")
        if self.dimension == 1 and self.states not in _IN_ONE_DIMENSION:
            raise InputError(
                f"compressible_euler: states '{self.states}' are two-dimensional; in 1D use riemann or smooth"
            )
        for name in _RANGES:
            if getattr(self, name) is not None:
                check_range(f"compressible_euler: {name}", tuple(getattr(self, name)), positive=name != "velocity")
        if self.pieces is not None and not (isinstance(self.pieces, int) and 1 <= self.pieces <= self.resolution):
            raise InputError(
                f"compressible_euler: pieces = {self.pieces}; a whole number from 1 to the resolution is needed"
            )
        for name in ("perturbation", "shift"):
            if not 0 <= (getattr(self, name) or 0.0) <= 0.5:
                raise InputError(
                    f"compressible_euler: {name} = {getattr(self, name)}; a number from 0 to 0.5 is needed"
                )
        _ = self.law

    @cached_property
    def law(self) -> IdealGas:
        return IdealGas(self.gamma, self.riemann)

    @cached_property
    def state(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (
            Field("density", "1", "ρ"),
            *vector_field("velocity", self.dimension, "1", "v"),
            Field("pressure", "1", "p"),
        )

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * self.dimension, "cell")

    @property
    def draw(self) -> GasDraw:
        """How the first state is drawn, with the family's values where none are set."""
        own = DEFAULTS[self.states]
        settings: dict[str, Any] = {n: tuple(getattr(self, n)) for n in _RANGES if getattr(self, n) is not None}
        settings |= {n: getattr(self, n) for n in ("pieces", "perturbation") if getattr(self, n) is not None}
        return replace(own, shift=self.shift, wraps=all(self.boundary.periodic), **settings)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        return gas_states(self.grid, indices, seed, self.draw)

    def primitive(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch field *space"]:
        return inputs

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        conserved = self.law.conserved(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        totals = [self.total(conserved[:, :, field]) for field in range(conserved.shape[2])]
        found = {}
        if self.closed:
            found["mass"] = Law(totals[0], tolerance=_ROUNDING)
            found["energy"] = Law(totals[-1], tolerance=_ROUNDING)
            # No velocity is larger on average than one that holds all the energy.
            size = (2 * totals[0][:, 0] * totals[-1][:, 0]).abs().sqrt()
            for axis, (name, wraps) in enumerate(zip("xyz", self.boundary.periodic, strict=False)):
                if wraps:
                    found[f"momentum_{name}"] = Law(totals[1 + axis], scale=size, tolerance=_ROUNDING)
        return found

    def shifts(self) -> dict[str, Problem]:
        draw = self.draw
        if self.states in _JUMPS:
            wider = tuple(1.5 * v for v in draw.velocity)
            return {
                "velocities half as large again": replace(self, velocity=wider),
                f"{draw.pieces + 1} pieces per axis instead of {draw.pieces}": replace(self, pieces=draw.pieces + 1),
            }
        if self.states in ("kelvin-helmholtz", "richtmyer-meshkov"):
            return {"interfaces perturbed twice as far": replace(self, perturbation=min(2 * draw.perturbation, 0.5))}
        return {"velocities half as large again": replace(self, velocity=tuple(1.5 * v for v in draw.velocity))}
