"""The ideal gas: Euler's equations of compressible flow.

    ρ_t + ∇·(ρ v) = 0,   (ρ v)_t + ∇·(ρ v ⊗ v) + ∇p = 0,   E_t + ∇·((E + p) v) = 0,   E = p/(γ - 1) + ρ |v|²/2

Primitive fields are (density ρ, velocity v, pressure p), conserved ones (ρ, ρ v, E).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.solvers.finite_volume.exact_gas import gas_fan
from fieldwright.solvers.finite_volume.lane_sweep import GAS
from fieldwright.solvers.finite_volume.laws import ConservationLaw

Riemann = Literal["hllc", "exact"]


@dataclass(frozen=True)
class IdealGas(ConservationLaw):
    """A gas of adiabatic index ``gamma``, with the flux of the Riemann problem at each face "hllc" or "exact".

    HLLC with Einfeldt's bounds on the wave speeds keeps density and pressure positive and resolves contacts exactly.
    The exact flux iterates for the pressure between the waves, in torch code alone; results differ by a part of the
    scheme's error.

    Errors: `InputError` for an index that is not above 1 or an unknown flux.

    Sources: E. F. Toro, M. Spruce, W. Speares, Shock Waves 4 (1994); P. Batten, N. Clarke, C. Lambert, D. M. Causon,
    SIAM J. Sci. Comput. 18 (1997) (positivity); B. Einfeldt, SIAM J. Numer. Anal. 25 (1988), (5.2).
    """

    gamma: float = 1.4
    riemann: Riemann = "hllc"

    def __post_init__(self) -> None:
        if not 1 < self.gamma < float("inf"):
            raise InputError(f"ideal gas: gamma = {self.gamma}; a number above 1 is needed")
        if self.riemann not in get_args(Riemann):
            raise InputError(f"ideal gas: riemann '{self.riemann}'; allowed are {' and '.join(get_args(Riemann))}")

    @property
    def kernel(self) -> int | None:
        return GAS if self.riemann == "hllc" else None

    @property
    def constants(self) -> tuple[float, float]:
        return self.gamma, 0.0

    def conserved(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        density, velocity, pressure = primitive[:, :1], primitive[:, 1:-1], primitive[:, -1:]
        kinetic = 0.5 * density * velocity.square().sum(1, keepdim=True)
        return torch.cat([density, density * velocity, pressure / (self.gamma - 1) + kinetic], 1)

    def primitive(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        density, momentum, energy = conserved[:, :1], conserved[:, 1:-1], conserved[:, -1:]
        velocity = momentum / density
        kinetic = 0.5 * (momentum * velocity).sum(1, keepdim=True)
        return torch.cat([density, velocity, (self.gamma - 1) * (energy - kinetic)], 1)

    def primitive_rate(
        self, conserved: Float[Tensor, "batch field *space"], rate: Float[Tensor, "batch field *space"]
    ) -> Float[Tensor, "batch field *space"]:
        """ρ_t,  v_t = ((ρv)_t - v ρ_t)/ρ,  p_t = (γ - 1) (E_t - v·(ρv)_t + |v|² ρ_t/2)."""
        density, momentum = conserved[:, :1], conserved[:, 1:-1]
        mass, push, energy = rate[:, :1], rate[:, 1:-1], rate[:, -1:]
        velocity = momentum / density
        heat = energy + (velocity * (0.5 * velocity * mass - push)).sum(1, keepdim=True)
        return torch.cat([mass, (push - velocity * mass) / density, (self.gamma - 1) * heat], 1)

    def sound(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        return (self.gamma * primitive[:, -1] / primitive[:, 0]).sqrt()

    def soundness(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        """The smaller of density and pressure."""
        primitive = self.primitive(conserved)
        return torch.minimum(primitive[:, 0], primitive[:, -1])

    def edges(
        self, primitive: Float[Tensor, "batch field *cells"], half_slopes: Float[Tensor, "batch field *cells"]
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        """Edge states whose mean momentum is the cell's, with velocity slopes cut where the mean energy asks for it.

        With edge densities ρ∓ and δ half the velocity's slope, the edge velocities are v ∓ (ρ±/ρ) δ. On average the
        edges then hold more kinetic energy than the cell, by ρ⁻ρ⁺|δ|²/(2ρ). Where that is above a quarter of the
        internal energy, δ is cut. So the cell is 4/5 the mean of its edges and 1/5 a state whose density and pressure
        are not negative, and an Euler step with Σ_d Δt a_d/h_d <= 0.2, a_d the fastest wave at its edges and between
        them, is a mean of HLLC steps that keep density and pressure positive.

        Source: the argument of X. Zhang, C.-W. Shu, J. Comput. Phys. 229 (2010), with the velocities of K. Waagan, J.
        Comput. Phys. 228 (2009).
        """
        density, velocity, pressure = primitive[:, :1], primitive[:, 1:-1], primitive[:, -1:]
        slope, rise = half_slopes[:, :1], half_slopes[:, -1:]
        delta = half_slopes[:, 1:-1]
        low, high = density - slope, density + slope
        below, above = low / density, high / density
        room = 0.25 * pressure
        excess = 0.5 * (self.gamma - 1) * delta.square().sum(1, keepdim=True) * low * above
        delta = room / torch.maximum(room, excess) * delta
        return (
            torch.cat([low, velocity - above * delta, pressure - rise], 1),
            torch.cat([high, velocity + below * delta, pressure + rise], 1),
        )

    def advanced(
        self,
        low: Float[Tensor, "batch field *cells"],
        high: Float[Tensor, "batch field *cells"],
        here: Float[Tensor, "batch field *cells"],
        axis: int,
        ratio: Float[Tensor, "batch *one"],
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        density, u, pressure = here[:, :1], here[:, 1 + axis : 2 + axis], here[:, -1:]
        rise = 0.5 * (high - low)
        change = u * rise
        change[:, :1] += density * rise[:, 1 + axis : 2 + axis]
        change[:, 1 + axis : 2 + axis] += rise[:, -1:] / density
        change[:, -1:] += self.gamma * pressure * rise[:, 1 + axis : 2 + axis]
        change = -ratio[:, None] * change
        least = torch.minimum(
            torch.minimum(low[:, :1], high[:, :1]) + change[:, :1],
            torch.minimum(low[:, -1:], high[:, -1:]) + change[:, -1:],
        )
        change = torch.where(least > 0, change, 0.0)
        return low + change, high + change

    def flux(
        self, left: Float[Tensor, "batch field *faces"], right: Float[Tensor, "batch field *faces"], axis: int
    ) -> tuple[Float[Tensor, "batch field *faces"], Float[Tensor, "batch field *faces"], Float[Tensor, "batch *faces"]]:
        flux, fastest = (self._hllc if self.riemann == "hllc" else self._godunov)(left, right, axis)
        return flux, flux, fastest

    def source(
        self, low: Float[Tensor, "batch field *cells"], high: Float[Tensor, "batch field *cells"], axis: int
    ) -> Float[Tensor, "batch field *cells"] | None:
        return None

    def _hllc(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        (rl, ul, pl), (rr, ur, pr) = ((s[:, 0], s[:, 1 + axis], s[:, -1]) for s in (left, right))
        slow, fast = self._bounds(left, right, axis)
        inflow, outflow = rl * (slow - ul), rr * (fast - ur)
        contact = (pr - pl + ul * inflow - ur * outflow) / (inflow - outflow)
        # From here on there is one side alone: the one of the contact that the face lies on.
        on_left = contact > 0
        side = torch.where(on_left[:, None], left, right)
        density, u, pressure = side[:, 0], side[:, 1 + axis], side[:, -1]
        speed, through = torch.where(on_left, slow, fast), torch.where(on_left, inflow, outflow)
        energy = pressure / (self.gamma - 1) + 0.5 * density * side[:, 1:-1].square().sum(1)
        inverse = 1 / (speed - contact)
        star_pressure = pressure + through * (contact - u)
        star_energy = (energy * (speed - u) - pressure * u + star_pressure * contact) * inverse
        between = torch.where(on_left, -slow, fast) > 0
        normal = torch.where(between, contact, u)
        mass = torch.where(between, through * inverse, density) * normal
        pressure = torch.where(between, star_pressure, pressure)
        energy = torch.where(between, star_energy, energy)
        flux = _assembled(mass, mass * normal + pressure, side, normal * (energy + pressure), axis)
        return flux, torch.maximum(-slow, fast)

    def _godunov(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        ends = [torch.stack([s[:, 0], s[:, 1 + axis], s[:, -1]], 1) for s in (left, right)]
        rays = torch.zeros_like(left[:, 0])
        fan, contact = gas_fan(ends[0], ends[1], rays, self.gamma)
        density, normal, pressure = fan.unbind(1)
        side = torch.where((contact > 0)[:, None], left, right)
        squares = side[:, 1:-1].square().sum(1) - side[:, 1 + axis].square() + normal.square()
        energy = pressure / (self.gamma - 1) + 0.5 * density * squares
        mass = density * normal
        flux = _assembled(mass, mass * normal + pressure, side, normal * (energy + pressure), axis)
        slow, fast = self._bounds(left, right, axis)
        return flux, torch.maximum(-slow, fast)

    def _bounds(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Einfeldt's bounds on the speeds of the slowest and the fastest wave."""
        (rl, ul, pl), (rr, ur, pr) = ((s[:, 0], s[:, 1 + axis], s[:, -1]) for s in (left, right))
        rate_left, rate_right = self.gamma * pl / rl, self.gamma * pr / rr
        root_left, root_right = rl.sqrt(), rr.sqrt()
        weight = root_left / (root_left + root_right)
        other = 1 - weight
        mean, jump = weight * ul + other * ur, ur - ul
        bound = (weight * rate_left + other * rate_right + 0.5 * weight * other * jump * jump).sqrt()
        return torch.minimum(ul - rate_left.sqrt(), mean - bound), torch.maximum(ur + rate_right.sqrt(), mean + bound)


def _assembled(mass: Tensor, normal: Tensor, side: Tensor, energy: Tensor, axis: int) -> Tensor:
    """A flux from its parts; tangential velocities are those of the ``side`` that the mass comes from."""
    momenta = mass[:, None] * side[:, 1:-1]
    parts = [normal if place == axis else momenta[:, place] for place in range(momenta.shape[1])]
    return torch.stack([mass, *parts, energy], 1)
