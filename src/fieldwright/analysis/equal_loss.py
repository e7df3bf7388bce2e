"""Compute to an equal loss: what a training saved, or lost, against another one.

    speed-up = C_plain / C - 1,

C the training operations after which the second training's loss is down to what the plain one ends with, those of the
smaller network that was grown included.

Source: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 3, equation 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from fieldwright.errors import InputError

Points = Sequence[tuple[float, float]]
"""(training operations so far, loss) of a training, in their order."""


def flops_to_reach(points: Points, loss: float) -> float | None:
    """Operations after which the loss is first down to ``loss``, linear between points; None where it never is.

    Errors: `InputError` for a curve with fewer than two points, or with operations that do not rise.
    """
    _check(points)
    before: tuple[float, float] | None = None
    for flops, value in points:
        if value <= loss:
            if before is None or value == before[1]:
                return flops
            share = (before[1] - loss) / (before[1] - value)
            return before[0] + share * (flops - before[0])
        before = flops, value
    return None


def speed_up(plain: Points, other: Points) -> float | None:
    """C_plain / C - 1 at the loss that the plain training ends with; None where the other never gets there.

    0.5 means that the plain training takes 1.5 times the operations; below 0 the plain training is
    cheaper. C_plain is where the plain training first has that loss.

    Errors: `InputError` as `flops_to_reach`.
    """
    _check(plain)
    needed = flops_to_reach(other, plain[-1][1])
    own = flops_to_reach(plain, plain[-1][1])
    return own / needed - 1 if needed and own else None


def _check(points: Points) -> None:
    flops = [f for f, _ in points]
    if len(points) < 2 or any(b < a for a, b in itertools.pairwise(flops)):
        raise InputError("speed-up: a curve needs two points or more, with operations that rise")
    if not all(math.isfinite(value) for point in points for value in point):
        raise InputError("speed-up: a curve holds numbers that are not finite")
