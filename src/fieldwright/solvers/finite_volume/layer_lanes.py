"""The shallow layer in SIMD lanes: edge states of a cell half a step on, and the flux between two of them.

The formulas and their sources stand with the tensor versions in `shallow_layer`; a test holds the two together.
"""

from __future__ import annotations

from fieldwright.solvers.finite_volume.lane_selection import half_slope, smaller, where_positive
from fieldwright.solvers.lanes import inner, larger, spread, square_root

TINY = 1e-300


@inner
def layer_edges(limiter, gravity, ratio, h0, h1, h2, u0, u1, u2, v0, v1, v2, z0, z1, z2):
    """(depth, normal and tangential velocity, surface) at the lower and at the upper edge of the middle cell."""
    surface = h1 + z1
    dh, du = half_slope(limiter, h0, h1, h2), half_slope(limiter, u0, u1, u2)
    dv, ds = half_slope(limiter, v0, v1, v2), half_slope(limiter, h0 + z0, surface, h2 + z2)
    zero = spread(0.0)
    low, high = h1 - dh, h1 + dh
    inverse = spread(1.0) / larger(h1, spread(TINY))
    below, above = low * inverse, high * inverse
    step = spread(-ratio)
    h_later = step * (u1 * dh + h1 * du)
    u_later = step * (u1 * du + spread(gravity) * ds)
    v_later = step * u1 * dv
    least = smaller(low, high) + h_later
    h_later, u_later = where_positive(least, h_later, zero), where_positive(least, u_later, zero)
    v_later = where_positive(least, v_later, zero)
    return (
        low + h_later,
        u1 - above * du + u_later,
        v1 - above * dv + v_later,
        surface - ds + h_later,
        high + h_later,
        u1 + below * du + u_later,
        v1 + below * dv + v_later,
        surface + ds + h_later,
    )


@inner
def layer_flux(gravity, dry, hl, ul, vl, sl, hr, ur, vr, sr):
    """HLLC flux of (mass, normal momentum seen from the left, tangential momentum, normal momentum from the right), and
    the speed of the fastest wave."""
    zero, half, g, least = spread(0.0), spread(0.5), spread(gravity), spread(dry)
    bottom = larger(sl - hl, sr - hr)
    left, right = smaller(larger(sl - bottom, zero), hl), smaller(larger(sr - bottom, zero), hr)
    cl, cr = square_root(g * left), square_root(g * right)
    mean = (cl * ul + cr * ur) / larger(cl + cr, spread(TINY))
    bound = square_root(half * g * (left + right))
    slow, fast = smaller(ul - cl, mean - bound), larger(ur + cr, mean + bound)
    # Beside a dry bed the front runs at u + 2 c.
    slow = where_positive(left - least, slow, smaller(slow, ur - cr - cr))
    fast = where_positive(right - least, fast, larger(fast, ul + cl + cl))
    slow, fast = smaller(slow, zero), larger(fast, zero)
    span = spread(1.0) / larger(fast - slow, spread(TINY))
    mass_left, mass_right = left * ul, right * ur
    push_left, push_right = half * g * left * left, half * g * right * right
    mass = (fast * mass_left - slow * mass_right + fast * slow * (right - left)) * span
    momentum = (
        fast * (mass_left * ul + push_left)
        - slow * (mass_right * ur + push_right)
        + fast * slow * (mass_right - mass_left)
    ) * span
    return (
        mass,
        momentum + half * g * hl * hl - push_left,
        mass * where_positive(mass, vl, vr),
        momentum + half * g * hr * hr - push_right,
        larger(zero - slow, fast),
    )


@inner
def layer_pull(gravity, low_depth, low_surface, high_depth, high_surface):
    """The bottom's pull on a cell times its width, -g (h⁻ + h⁺)/2 (z⁺ - z⁻), from the states at its two edges."""
    rise = (high_surface - high_depth) - (low_surface - low_depth)
    return spread(-0.5 * gravity) * (low_depth + high_depth) * rise


@inner
def layer_update(dry, depth, u, v, mass, normal, tangential):
    """The primitive state after its conserved fields lose the given amounts; positive where the result is sound."""
    m, t, depth = depth * u - normal, depth * v - tangential, depth - mass
    sound = depth + spread(1e-12)
    depth = larger(depth, spread(0.0))
    square = depth * depth
    inverse = (depth + depth) / (square + larger(square, spread(dry * dry)))
    return depth, m * inverse, t * inverse, sound
