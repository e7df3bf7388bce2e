"""The shallow layer of a liquid over a bottom z(x): Saint-Venant's equations.

    h_t + ∇·(h v) = 0,   (h v)_t + ∇·(h v ⊗ v) + ∇(g h²/2) = -g h ∇z

Primitive fields are (depth h, velocity v, surface h + z), conserved ones (h, h v, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.solvers.finite_volume.lane_sweep import LAYER
from fieldwright.solvers.finite_volume.laws import ConservationLaw

_TINY = 1e-300


@dataclass(frozen=True)
class ShallowLayer(ConservationLaw):
    """A layer under ``gravity``; where it is shallower than ``dry`` its velocity is damped to zero with its depth.

    At a face both depths are taken above the higher of the two bottoms ("hydrostatic reconstruction"), so that a lake
    at rest stays at rest, islands included, and depths stay positive. The flux is HLLC; beside a dry bed its front
    runs at u + 2 √(g h).

    Errors: `InputError` for a gravity or a dry depth that is not positive.

    Sources: E. Audusse, F. Bouchut, M.-O. Bristeau, R. Klein, B. Perthame, SIAM J. Sci. Comput. 25 (2004), (2.9) to
    (2.17) and, of second order, (4.1) to (4.4); E. F. Toro, "Shock-Capturing Methods for Free-Surface Shallow Flows",
    chapter 10.
    """

    gravity: float = 1.0
    dry: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("gravity", "dry"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"shallow layer: {name} = {getattr(self, name)}; a positive number is needed")

    @property
    def kernel(self) -> int | None:
        return LAYER

    @property
    def constants(self) -> tuple[float, float]:
        return self.gravity, self.dry

    def soundness(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        """The depth, with rounding forgiven."""
        return conserved[:, 0] + 1e-12

    def conserved(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        depth = primitive[:, :1]
        return torch.cat([depth, depth * primitive[:, 1:-1], primitive[:, -1:] - depth], 1)

    def primitive(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        depth = conserved[:, :1].clamp_min(0)
        square = depth.square()
        velocity = 2 * depth / (square + square.clamp_min(self.dry**2)) * conserved[:, 1:-1]
        return torch.cat([depth, velocity, depth + conserved[:, -1:]], 1)

    def primitive_rate(
        self, conserved: Float[Tensor, "batch field *space"], rate: Float[Tensor, "batch field *space"]
    ) -> Float[Tensor, "batch field *space"]:
        """h_t,  v_t = w (hv)_t + w'(h) h_t hv,  (h + z)_t = h_t + z_t, where v = w(h) hv: w = 1/h unless nearly dry."""
        depth, momentum = conserved[:, :1].clamp_min(0), conserved[:, 1:-1]
        total = depth.square() + depth.square().clamp_min(self.dry**2)
        share = 2 * depth / total
        growth = torch.where(depth > self.dry, -share.square(), 2 / total - share.square())
        velocity = share * rate[:, 1:-1] + growth * rate[:, :1] * momentum
        return torch.cat([rate[:, :1], velocity, rate[:, :1] + rate[:, -1:]], 1)

    def sound(self, primitive: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch *space"]:
        return (self.gravity * primitive[:, 0]).sqrt()

    def edges(
        self, primitive: Float[Tensor, "batch field *cells"], half_slopes: Float[Tensor, "batch field *cells"]
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        """Edge states whose mean momentum is the cell's: velocities v ∓ (h±/h) δ, with δ half the velocity's slope."""
        depth, velocity, surface = primitive[:, :1], primitive[:, 1:-1], primitive[:, -1:]
        slope, delta, rise = half_slopes[:, :1], half_slopes[:, 1:-1], half_slopes[:, -1:]
        low, high = depth - slope, depth + slope
        wet = depth.clamp_min(_TINY)
        return (
            torch.cat([low, velocity - high / wet * delta, surface - rise], 1),
            torch.cat([high, velocity + low / wet * delta, surface + rise], 1),
        )

    def advanced(
        self,
        low: Float[Tensor, "batch field *cells"],
        high: Float[Tensor, "batch field *cells"],
        here: Float[Tensor, "batch field *cells"],
        axis: int,
        ratio: Float[Tensor, "batch *one"],
    ) -> tuple[Float[Tensor, "batch field *cells"], Float[Tensor, "batch field *cells"]]:
        depth, u = here[:, :1], here[:, 1 + axis : 2 + axis]
        rise = 0.5 * (high - low)
        change = u * rise
        change[:, :1] += depth * rise[:, 1 + axis : 2 + axis]
        change[:, 1 + axis : 2 + axis] += self.gravity * rise[:, -1:]
        change[:, -1:] = change[:, :1]
        change = -ratio[:, None] * change
        least = torch.minimum(low[:, :1], high[:, :1]) + change[:, :1]
        change = torch.where(least > 0, change, 0.0)
        return low + change, high + change

    def flux(
        self, left: Float[Tensor, "batch field *faces"], right: Float[Tensor, "batch field *faces"], axis: int
    ) -> tuple[Float[Tensor, "batch field *faces"], Float[Tensor, "batch field *faces"], Float[Tensor, "batch *faces"]]:
        (deep_left, ul, sl), (deep_right, ur, sr) = ((s[:, 0], s[:, 1 + axis], s[:, -1]) for s in (left, right))
        g, dry = self.gravity, self.dry
        bottom = torch.maximum(sl - deep_left, sr - deep_right)
        hl = torch.minimum((sl - bottom).clamp_min(0), deep_left)
        hr = torch.minimum((sr - bottom).clamp_min(0), deep_right)
        cl, cr = (g * hl).clamp_min(_TINY).sqrt(), (g * hr).clamp_min(_TINY).sqrt()
        mean = (cl * ul + cr * ur) / (cl + cr)
        bound = (0.5 * g * (hl + hr)).clamp_min(_TINY).sqrt()
        slow, fast = torch.minimum(ul - cl, mean - bound), torch.maximum(ur + cr, mean + bound)
        slow = torch.where(hl > dry, slow, torch.minimum(slow, ur - 2 * cr)).clamp_max(0)
        fast = torch.where(hr > dry, fast, torch.maximum(fast, ul + 2 * cl)).clamp_min(0)
        span = (fast - slow).clamp_min(_TINY)
        mass_left, mass_right = hl * ul, hr * ur
        push_left, push_right = 0.5 * g * hl.square(), 0.5 * g * hr.square()
        mass = (fast * mass_left - slow * mass_right + fast * slow * (hr - hl)) / span
        momentum = (
            fast * (mass_left * ul + push_left)
            - slow * (mass_right * ur + push_right)
            + fast * slow * (mass_right - mass_left)
        ) / span
        carried = mass[:, None] * torch.where((mass > 0)[:, None], left[:, 1:-1], right[:, 1:-1])
        fluxes = []
        for deep, push in ((deep_left, push_left), (deep_right, push_right)):
            normal = momentum + 0.5 * g * deep.square() - push
            parts = [normal if place == axis else carried[:, place] for place in range(carried.shape[1])]
            fluxes.append(torch.stack([mass, *parts, torch.zeros_like(mass)], 1))
        return fluxes[0], fluxes[1], torch.maximum(-slow, fast)

    def source(
        self, low: Float[Tensor, "batch field *cells"], high: Float[Tensor, "batch field *cells"], axis: int
    ) -> Float[Tensor, "batch field *cells"] | None:
        """-g (h⁻ + h⁺)/2 (z⁺ - z⁻) for the momentum along ``axis``."""
        rise = (high[:, -1] - high[:, 0]) - (low[:, -1] - low[:, 0])
        pull = -0.5 * self.gravity * (low[:, 0] + high[:, 0]) * rise
        return torch.stack([pull if place == 1 + axis else torch.zeros_like(pull) for place in range(low.shape[1])], 1)
