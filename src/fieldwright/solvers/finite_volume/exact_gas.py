"""The exact solution of the Riemann problem of an ideal gas: two states meet, waves run apart.

Between the outer waves pressure p* and velocity u* are constant. p* is the root of

    f(p) = f_L(p) + f_R(p) + u_R - u_L,
    f_K(p) = (p - p_K) √(A_K / (p + B_K))                       p > p_K, a shock
             2 c_K/(γ-1) ((p/p_K)^((γ-1)/2γ) - 1)               p <= p_K, a rarefaction
    A_K = 2/((γ+1) ρ_K),  B_K = (γ-1)/(γ+1) p_K,

increasing and concave, so Newton's method climbs to it from below. Where u_R - u_L is at least 2 (c_L + c_R)/(γ-1) the
states part and leave a vacuum.

Source: E. F. Toro, "Riemann Solvers and Numerical Methods for Fluid Dynamics", chapter 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_ITERATIONS = 60


def gas_star(
    left: Float[Tensor, "batch state *shape"], right: Float[Tensor, "batch state *shape"], gamma: float
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]:
    """(p*, u*) between the waves, from (density, normal velocity, pressure) on either side; p* = 0 in a vacuum.

    Differentiable: the last Newton step carries the gradient of the root.
    """
    with torch.no_grad():
        pressure = _two_rarefactions(left, right, gamma)
        for _ in range(_ITERATIONS):
            defect, slope = _defect(pressure, left, right, gamma)
            # From above the root a step may lead below zero; a tenth of the way down is above it or below the root.
            later = torch.maximum(pressure - defect / slope, 0.1 * pressure)
            settled = (later - pressure).abs() <= 1e-15 * pressure
            pressure = torch.where(settled, pressure, later)
            if bool(settled.all()):
                break
        empty = _reach(left, 1, gamma) <= _reach(right, -1, gamma)
        start = torch.where(empty, torch.minimum(left[:, 2], right[:, 2]), pressure)
    defect, slope = _defect(start, left, right, gamma)
    pressure = start - defect / slope.detach()
    from_left, from_right = _branch(pressure, left, gamma)[0], _branch(pressure, right, gamma)[0]
    velocity = 0.5 * (left[:, 1] + right[:, 1]) + 0.5 * (from_right - from_left)
    middle = 0.5 * (_reach(left, 1, gamma) + _reach(right, -1, gamma))
    return torch.where(empty, 0.0, pressure), torch.where(empty, middle, velocity)


def gas_fan(
    left: Float[Tensor, "batch state *shape"],
    right: Float[Tensor, "batch state *shape"],
    speed: Float[Tensor, "batch *shape"],
    gamma: float,
) -> tuple[Float[Tensor, "batch state *shape"], Float[Tensor, "batch *shape"]]:
    """The state (density, normal velocity, pressure) on the ray x/t = ``speed``, and the contact's speed u* - x/t."""
    pressure, velocity = gas_star(left, right, gamma)
    on_left = velocity > speed
    # Mirrored, the right side's waves are a left side's.
    sign = torch.where(on_left, 1.0, -1.0).to(left)
    side = torch.where(on_left[:, None], left, right)
    density, u, p = side[:, 0], sign * side[:, 1], side[:, 2]
    ray = sign * speed
    sound = (gamma * p / density).sqrt()
    ratio = pressure / p
    shock = ratio > 1
    k = (gamma - 1) / (gamma + 1)
    # Shock: its speed and the density behind it.
    front = u - sound * ((gamma + 1) / (2 * gamma) * ratio.clamp_min(1) + (gamma - 1) / (2 * gamma)).sqrt()
    squeezed = density * (ratio + k) / (k * ratio + 1)
    # Rarefaction: from its head u - c to its tail u* - c*, inside it the invariant u + 2c/(γ-1) holds.
    thinned = ratio.clamp(1e-300, 1.0)
    tail_sound = torch.where(ratio > 0, sound * thinned ** ((gamma - 1) / (2 * gamma)), 0.0)
    tail_velocity = u + 2 / (gamma - 1) * (sound - tail_sound)
    loose = torch.where(ratio > 0, density * thinned ** (1 / gamma), 0.0)
    cooled = (2 / (gamma + 1) + k / sound * (u - ray)).clamp_min(0)
    inside = torch.stack(
        [
            density * cooled.clamp_min(1e-300) ** (2 / (gamma - 1)),
            sign * 2 / (gamma + 1) * (sound + 0.5 * (gamma - 1) * u + ray),
            p * cooled.clamp_min(1e-300) ** (2 * gamma / (gamma - 1)),
        ],
        1,
    )
    behind = torch.stack([torch.where(shock, squeezed, loose), velocity, pressure], 1)
    untouched = torch.where(shock, ray < front, ray < u - sound)
    within = ~shock & (ray < tail_velocity - tail_sound)
    found = torch.where(untouched[:, None], side, torch.where(within[:, None], inside, behind))
    return found, velocity - speed


def _branch(pressure: Tensor, state: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """f_K(p) and its derivative."""
    density, own = state[:, 0], state[:, 2]
    sound = (gamma * own / density).sqrt()
    a, b = 2 / ((gamma + 1) * density), (gamma - 1) / (gamma + 1) * own
    root = (a / (pressure + b)).sqrt()
    shock, shock_slope = (pressure - own) * root, root * (1 - 0.5 * (pressure - own) / (pressure + b))
    ratio = (pressure / own).clamp_min(1e-300)
    power = (gamma - 1) / (2 * gamma)
    rarefaction = 2 * sound / (gamma - 1) * (ratio**power - 1)
    rarefaction_slope = ratio ** (power - 1) * sound / (gamma * own)
    above = pressure > own
    return torch.where(above, shock, rarefaction), torch.where(above, shock_slope, rarefaction_slope)


def _defect(pressure: Tensor, left: Tensor, right: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """f(p) and its derivative."""
    (a, a_slope), (b, b_slope) = _branch(pressure, left, gamma), _branch(pressure, right, gamma)
    return a + b + right[:, 1] - left[:, 1], a_slope + b_slope


def _reach(state: Tensor, sign: int, gamma: float) -> Tensor:
    """The speed at which a state runs into a vacuum on its upper (sign 1) or lower side."""
    return state[:, 1] + sign * 2 / (gamma - 1) * (gamma * state[:, 2] / state[:, 0]).sqrt()


def _two_rarefactions(left: Tensor, right: Tensor, gamma: float) -> Tensor:
    """p* if both waves were rarefactions, and a small positive number where they leave a vacuum."""
    power = (gamma - 1) / (2 * gamma)
    c_left, c_right = ((gamma * s[:, 2] / s[:, 0]).sqrt() for s in (left, right))
    top = c_left + c_right - 0.5 * (gamma - 1) * (right[:, 1] - left[:, 1])
    bottom = c_left / left[:, 2] ** power + c_right / right[:, 2] ** power
    least = 1e-12 * torch.minimum(left[:, 2], right[:, 2])
    return torch.maximum((top / bottom).clamp_min(0) ** (1 / power), least)
