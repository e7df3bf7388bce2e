"""The scalars of conjugate gradients, one per lane: which samples still run, and their α and β.

A finished sample has α = β = 0 until its group is done, so that its unknowns keep their bits.
"""

from __future__ import annotations

from fieldwright.solvers.lanes import LANES, inner

# Entries of the array of scalars. SIZE_SQUARED is ‖r‖², or pᵀ q while α is computed.
ALPHA, BETA, INNER, OLD, SIZE_SQUARED = range(5)
SCALARS = 5


@inner
def begin(scalars):
    """No step and no direction yet."""
    for lane in range(LANES):
        scalars[ALPHA * LANES + lane] = scalars[BETA * LANES + lane] = 0.0
        scalars[OLD * LANES + lane] = 1.0


@inner
def any_running(scalars, running, target, counts, limit):
    """Stop the lanes whose residual, relative to the right-hand side, is at most ``target``; False when all have."""
    some = False
    for lane in range(LANES):
        running[lane] = (
            running[lane] and scalars[SIZE_SQUARED * LANES + lane] > target * target and counts[lane] < limit
        )
        some = some or running[lane]
    return some


@inner
def set_beta(scalars, running):
    """β = zᵀ r / (zᵀ r of the step before), 0 at the first step."""
    for lane in range(LANES):
        inner, old = scalars[INNER * LANES + lane], scalars[OLD * LANES + lane]
        continues = running[lane] and scalars[ALPHA * LANES + lane] != 0.0
        scalars[BETA * LANES + lane] = inner / old if continues else 0.0
        scalars[OLD * LANES + lane] = inner


@inner
def set_alpha(scalars, running, counts):
    """α = zᵀ r / pᵀ q. A lane without positive curvature (or with NaN) is not positive definite and stops."""
    for lane in range(LANES):
        inner, curvature = scalars[INNER * LANES + lane], scalars[SIZE_SQUARED * LANES + lane]
        running[lane] = running[lane] and curvature > 0.0 and inner > 0.0
        scalars[ALPHA * LANES + lane] = inner / curvature if running[lane] else 0.0
        counts[lane] += running[lane]
