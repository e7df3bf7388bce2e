"""Incompressible flow in a plane: turbulence that decays or is stirred."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.base import Field, Problem, Symmetry, vector_field
from fieldwright.problems.flow_states import FlowState, flow_vorticity
from fieldwright.problems.laws import Law
from fieldwright.problems.numbers import check_number, drawn_numbers
from fieldwright.problems.periodic_symmetries import Kind, periodic_symmetries
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.solvers.solenoidal_flux import SolenoidalCurl, SolenoidalTerm

# The product of the steepest wave and the way of the fastest fluid in one step of a warm-up; stable is 2.8.
_WARM_UP_STEP = 0.7

Form = Literal["vorticity", "velocity"]
Forcing = Literal["none", "kolmogorov", "diagonal"]


@dataclass(frozen=True)
class NavierStokes(SpectralProblem):
    """The incompressible Navier-Stokes equations on a periodic square: flow -> flow later.

        ω_t + u·∇ω = -ν (-Δ)^p ω - μ ω + f,    u = (ψ_y, -ψ_x),    -Δψ = ω

    ``form``           "vorticity": the state is ω, of mean zero, in a frame where the mean velocity is zero;
                       "velocity": the state is u, whose mean is kept. Both are the same flow
    ``length``         edge of the square
    ``viscosity``      ν, a number or [low, high] to draw it per instance
    ``viscous_power``  p: 1, or more for hyperviscosity
    ``viscous_from``   waves per box from which on viscosity acts (spectral viscosity); 0: on all
    ``drag``           μ
    ``forcing``        "none"; "kolmogorov": u is pushed by A sin(κ y) along x, so f = -A κ cos(κ y); "diagonal":
                       f = A (sin κ(x + y) + cos κ(x + y)); with A = ``forcing_amplitude`` and ``forcing_waves`` waves
                       per box, κ = 2π waves / length
    ``initial_state``  "mcwilliams", "gaussian", "sines", "bumps", "piecewise", "bridge", "vortex-sheet", "shear-layer":
                       see `fieldwright.problems.flow_states`; with ``alpha, tau`` of the Gaussian field and ``peak``,
                       ``energy`` of McWilliams' turbulence
    ``warm_up``        time that a drawn flow evolves before it is a sample

    Galerkin in Fourier space (waves up to a third of the grid), which keeps energy and enstrophy but for viscosity,
    drag and forcing; ETDRK4 in time, so that viscosity sets no step. Lengths, times and speeds are in units of one's
    own choice. The defaults are decaying turbulence as in McWilliams 1984 at the Reynolds number of Spectral-Refiner's
    set. Others: the FNO papers' set is length=1, initial_state=gaussian, forcing=diagonal, duration=50, frames=50;
    Poseidon's are length=1, viscosity=4e-4 with viscous_from, duration=1, frames=20 and its initial states.

    Errors: `InputError` for a setting out of range.

    Sources: J. C. McWilliams, J. Fluid Mech. 146 (1984); Li et al., "Fourier Neural Operator", 2020, section 5.3; Cao
    et al., "Spectral-Refiner", 2024; Herde et al., "Poseidon", 2024, appendix B.
    """

    resolution: int = 64
    form: Form = "vorticity"
    length: float = 2 * math.pi
    viscosity: float | list[float] = 1e-3
    viscous_power: int = 1
    viscous_from: float = 0.0
    drag: float = 0.0
    forcing: Forcing = "none"
    forcing_amplitude: float = 0.1
    forcing_waves: int = 1
    initial_state: FlowState = "mcwilliams"
    alpha: float = 2.5
    tau: float = 7.0
    peak: float = 4.0
    energy: float = 0.25
    warm_up: float = 0.0
    duration: float = 1.0
    frames: int = 10
    steps: int | None = None

    kernels: ClassVar[tuple[str, ...]] = ("solenoidal_kernel", "plane_transforms")
    numbers: ClassVar[tuple[Field, ...]] = (Field("viscosity", "1", "ν", number=True),)

    def __post_init__(self) -> None:
        self.check_spectral("navier_stokes")
        check_number("navier_stokes: viscosity", self.viscosity, positive=True)
        for name, words in (("form", Form), ("forcing", Forcing), ("initial_state", FlowState)):
            if getattr(self, name) not in get_args(words):
                raise InputError(
                    f"navier_stokes: {name} '{getattr(self, name)}'; allowed are {', '.join(get_args(words))}"
                )
        for name in ("length", "tau", "peak", "energy"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"navier_stokes: {name} = {getattr(self, name)}; a positive number is needed")
        for name in ("viscous_from", "drag", "forcing_amplitude", "warm_up"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"navier_stokes: {name} = {getattr(self, name)}; a number of at least 0 is needed")
        if not (isinstance(self.viscous_power, int) and self.viscous_power >= 1):
            raise InputError(f"navier_stokes: viscous_power = {self.viscous_power}; a whole number from 1 on is needed")
        if self.forcing != "none" and not 1 <= self.forcing_waves <= self.waves.bands[0]:
            raise InputError(
                f"navier_stokes: forcing_waves = {self.forcing_waves}; resolution {self.resolution} holds 1 to"
                f" {self.waves.bands[0]} waves"
            )

    @property
    def state(self) -> tuple[Field, ...]:  # type: ignore[override]
        if self.form == "velocity":
            return vector_field("velocity", 2, "1", "u")
        return (Field("vorticity", "1", "ω = ∂v/∂x - ∂u/∂y"),)

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution,) * 2, "periodic", upper=(self.length,) * 2)

    @cached_property
    def relation(self) -> SolenoidalCurl:
        """Between velocity and vorticity."""
        return SolenoidalCurl(self.waves)

    def initial(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        vorticity = flow_vorticity(
            self.initial_state,
            self.grid,
            indices,
            seed,
            alpha=self.alpha,
            tau=self.tau,
            peak=self.peak,
            energy=self.energy,
        )
        if self.warm_up > 0:
            vorticity = self._warmed(vorticity, drawn_numbers(indices, seed, [self.viscosity]))
        if self.form == "vorticity":
            return vorticity[:, None]
        fields = [self.waves.backward(self.relation.field(self.waves.forward(w[None])))[0] for w in vorticity]
        return torch.stack(fields) if fields else vorticity.new_empty(0, 2, *self.grid.shape)

    def symbol(self, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
        return -self.number(inputs, "viscosity") * self._viscous.to(inputs.device) - self.drag

    def nonlinear(self, inputs: Float[Tensor, "batch channel *space"]) -> SolenoidalTerm:
        force = None if self.forcing == "none" else self.force.to(inputs.device)
        return SolenoidalTerm(self.waves, force, of_field=self.form == "velocity")

    @cached_property
    def force(self) -> Complex[Tensor, "kx ky"]:
        """The coefficients of f, the curl of what pushes the flow."""
        x, y = self.grid.coordinates()
        wave = 2 * math.pi * self.forcing_waves / self.length
        if self.forcing == "kolmogorov":
            field = -self.forcing_amplitude * wave * torch.cos(wave * y)
        elif self.forcing == "diagonal":
            field = self.forcing_amplitude * (torch.sin(wave * (x + y)) + torch.cos(wave * (x + y)))
        else:
            field = torch.zeros_like(x)
        return self.waves.forward(field)

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """Means stay to round-off (velocity: without drag), and the square roots of energy and enstrophy keep below

            q(t) <= e^(-γt) q(0) + (1 - e^(-γt)) q_f / γ,

        what their balances allow: γ the slowest damping of any wave, q_f the same norm of the force.
        """
        spectrum = self.waves.forward(states)
        curl = spectrum[:, :, 0] if self.form == "vorticity" else self.relation.curl(spectrum.flatten(0, 1))
        curl = curl.unflatten(0, states.shape[:2]) if self.form == "velocity" else curl
        # The first mode is the mean and no wave.
        damping = -self.symbol(inputs).flatten(2)[:, 0, 1:].amax(1).to(states)
        fading = torch.exp(-damping[:, None] * times.to(states))
        gain = torch.where(damping[:, None] > 0, (1 - fading) / damping.clamp_min(1e-300)[:, None], times.to(states))
        found = {}
        for name, power in (("energy", -1), ("enstrophy", 0)):
            size, force = self._norm(curl, power), self._norm(self.force.to(curl), power)
            allowed = size[:, :1] * fading + force * gain
            scale = size[:, 0] + force * gain[:, -1]
            found[name] = Law(size - allowed, "falling", scale=scale, tolerance=1e-5)
        if self.form == "vorticity" or self.drag == 0:
            found |= self.mean_laws(states)
        return found

    def symmetries(self) -> tuple[Symmetry, ...]:
        """Those of the square that leave the forcing as it is."""
        kind: Kind = "pseudoscalar" if self.form == "vorticity" else "vector"
        force = self.waves.backward(self.force)[None, None]
        size = float(force.abs().max())
        alike = [
            float((symmetry(force) - force).abs().max()) <= 1e-12 * size
            for symmetry in periodic_symmetries(self.grid, "pseudoscalar")
        ]
        return tuple(s for s, kept in zip(periodic_symmetries(self.grid, kind), alike, strict=True) if kept)

    def shifts(self) -> dict[str, Problem]:
        relatives: dict[str, Problem] = {}
        if not isinstance(self.viscosity, list):
            relatives["viscosity halved"] = replace(self, viscosity=self.viscosity / 2)
        if self.initial_state == "mcwilliams":
            relatives["eddies of half the size"] = replace(self, peak=2 * self.peak)
        if self.initial_state == "gaussian":
            relatives["correlation length halved"] = replace(self, tau=2 * self.tau)
        return relatives

    def _warmed(
        self, vorticity: Float[Tensor, "batch x y"], numbers: Float[Tensor, "batch number"]
    ) -> Float[Tensor, "batch x y"]:
        """The flows after ``warm_up``, one at a time, so that no sample depends on its batch."""
        early = replace(self, form="vorticity", duration=self.warm_up, frames=1, warm_up=0.0, steps=None)
        steepest = 2 * math.pi / self.length * self.waves.bands[0]
        fields = []
        for omega, values in zip(vorticity, numbers, strict=True):
            constant = values.reshape(-1, 1, 1).expand(-1, *self.grid.shape)
            inputs = torch.cat([omega[None], constant])[None]
            speed = (
                self.waves.backward(self.relation.field(self.waves.forward(omega[None])))[0].abs().amax((1, 2)).sum()
            )
            # What the force adds at most, in the root mean square; peaks are about three times that.
            pushed = 3 * float(self._norm(self.force, -1)) * self.warm_up
            steps = math.ceil(self.warm_up * steepest * (float(speed) + pushed) / _WARM_UP_STEP)
            fields.append(early.integrate(inputs, frames=1, steps=max(1, steps))[0, 0, 0])
        return torch.stack(fields) if fields else vorticity

    @cached_property
    def _viscous(self) -> Float[Tensor, "kx ky"]:
        """|κ|^(2p) of the waves that viscosity acts on."""
        squares = self.waves.squares
        acts = squares >= (2 * math.pi * self.viscous_from / self.length) ** 2
        return torch.where(acts, squares**self.viscous_power, torch.zeros_like(squares))

    def _norm(self, curl: Complex[Tensor, "*batch kx ky"], power: int) -> Float[Tensor, "*batch"]:
        """(Σ_k |κ|^(2 power) |ω̂_k|²)^½ over all waves: the root mean square of vorticity (0) or of velocity (-1)."""
        weight = self.waves.squares.clone()
        weight[0, 0] = 1.0
        weight = weight**power
        weight[0, 0] = 0.0
        weight[:, 1:] *= 2  # each stands for its conjugate too
        return (curl.abs().square() * weight.to(curl.real)).flatten(-2).sum(-1).sqrt()
