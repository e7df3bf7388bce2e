"""The ideal gas in SIMD lanes: edge states of a cell half a step on, and the HLLC flux between two of them.

The formulas and their sources stand with the tensor versions in `ideal_gas`; a test holds the two together.
"""

from __future__ import annotations

from fieldwright.solvers.finite_volume.lane_selection import half_slope, smaller, where_positive
from fieldwright.solvers.lanes import inner, larger, spread, square_root


@inner
def gas_edges(limiter, gamma, ratio, r0, r1, r2, u0, u1, u2, v0, v1, v2, p0, p1, p2):
    """(density, normal and tangential velocity, pressure) at the lower and at the upper edge of the middle cell."""
    dr, du = half_slope(limiter, r0, r1, r2), half_slope(limiter, u0, u1, u2)
    dv, dp = half_slope(limiter, v0, v1, v2), half_slope(limiter, p0, p1, p2)
    zero, inverse = spread(0.0), spread(1.0) / r1
    low, high = r1 - dr, r1 + dr
    below, above = low * inverse, high * inverse
    room = spread(0.25) * p1
    excess = spread(0.5 * (gamma - 1.0)) * (du * du + dv * dv) * low * above
    share = room / larger(room, excess)
    du, dv = share * du, share * dv
    step = spread(-ratio)
    r_later = step * (u1 * dr + r1 * du)
    u_later = step * (u1 * du + dp * inverse)
    v_later = step * u1 * dv
    p_later = step * (u1 * dp + spread(gamma) * p1 * du)
    least = smaller(smaller(low, high) + r_later, smaller(p1 - dp, p1 + dp) + p_later)
    r_later, u_later = where_positive(least, r_later, zero), where_positive(least, u_later, zero)
    v_later, p_later = where_positive(least, v_later, zero), where_positive(least, p_later, zero)
    return (
        low + r_later,
        u1 - above * du + u_later,
        v1 - above * dv + v_later,
        p1 - dp + p_later,
        high + r_later,
        u1 + below * du + u_later,
        v1 + below * dv + v_later,
        p1 + dp + p_later,
    )


@inner
def gas_flux(gamma, rl, ul, vl, pl, rr, ur, vr, pr):
    """HLLC flux of (mass, normal momentum, tangential momentum, energy), and the speed of the fastest wave."""
    zero, half, g = spread(0.0), spread(0.5), spread(gamma)
    rate_left, rate_right = g * pl / rl, g * pr / rr
    root_left, root_right = square_root(rl), square_root(rr)
    weight = root_left / (root_left + root_right)
    other = spread(1.0) - weight
    mean, jump = weight * ul + other * ur, ur - ul
    bound = square_root(weight * rate_left + other * rate_right + half * weight * other * jump * jump)
    slow = smaller(ul - square_root(rate_left), mean - bound)
    fast = larger(ur + square_root(rate_right), mean + bound)
    inflow, outflow = rl * (slow - ul), rr * (fast - ur)
    contact = (pr - pl + ul * inflow - ur * outflow) / (inflow - outflow)
    r, u = where_positive(contact, rl, rr), where_positive(contact, ul, ur)
    v, p = where_positive(contact, vl, vr), where_positive(contact, pl, pr)
    s = where_positive(contact, slow, fast)
    through = where_positive(contact, inflow, outflow)
    energy = spread(1.0 / (gamma - 1.0)) * p + half * r * (u * u + v * v)
    # Behind the fastest wave, the star state on the contact's own side; ahead of it, the state itself.
    inverse = spread(1.0) / (s - contact)
    p_star = p + through * (contact - u)
    energy_star = (energy * (s - u) - p * u + p_star * contact) * inverse
    behind = where_positive(contact, zero - slow, fast)
    r = where_positive(behind, through * inverse, r)
    u = where_positive(behind, contact, u)
    p = where_positive(behind, p_star, p)
    energy = where_positive(behind, energy_star, energy)
    mass = r * u
    return mass, mass * u + p, mass * v, u * (energy + p), larger(zero - slow, fast)


@inner
def gas_update(gamma, density, u, v, pressure, mass, normal, tangential, energy):
    """The primitive state after its conserved fields lose the given amounts; positive where the result is sound."""
    half = spread(0.5)
    total = pressure * spread(1.0 / (gamma - 1.0)) + half * density * (u * u + v * v) - energy
    m, t, density = density * u - normal, density * v - tangential, density - mass
    inverse = spread(1.0) / density
    u, v = m * inverse, t * inverse
    pressure = spread(gamma - 1.0) * (total - half * (m * u + t * v))
    return density, u, v, pressure, where_positive(density, pressure, density)
