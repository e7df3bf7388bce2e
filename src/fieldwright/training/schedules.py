"""Learning-rate schedules: factors of the peak rate, as functions of the fraction of the budget that is spent.

A schedule sees the fraction t in [0, 1] and not the step, so that the same one serves budgets in steps, epochs and
seconds. All rise over the first ``warmup`` of the budget from `START`:

* ``constant``   1 after the warm-up,
* ``cosine``     ½ (1 + cos πs), s = (t - warmup) / (1 - warmup), after a linear warm-up: ends at 0,
* ``one-cycle``  the same two pieces, both half-cosines, ending at `END` (Smith and Topin 2019, "Super-convergence",
  with the cosine annealing and the end points of `torch.optim.lr_scheduler.OneCycleLR`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float], float]

START = 1 / 25
END = 4e-6


def constant(fraction: float, warmup: float) -> float:
    """Linear warm-up, then the peak rate throughout."""
    return _between(START, 1.0, fraction / warmup) if fraction < warmup else 1.0


def cosine(fraction: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if fraction < warmup:
        return _between(START, 1.0, fraction / warmup)
    return _between(1.0, 0.0, _half_wave(_after(fraction, warmup)))


def one_cycle(fraction: float, warmup: float) -> float:
    """Half a cosine up from `START` to the peak, half a cosine down to `END`."""
    if fraction < warmup:
        return _between(START, 1.0, _half_wave(fraction / warmup))
    return _between(1.0, END, _half_wave(_after(fraction, warmup)))


SCHEDULES: dict[str, Schedule] = {"one-cycle": one_cycle, "cosine": cosine, "constant": constant}


def _after(fraction: float, warmup: float) -> float:
    """What is spent of the budget behind the warm-up, at most all of it."""
    return min((fraction - warmup) / (1 - warmup), 1.0)


def _half_wave(s: float) -> float:
    return (1 - math.cos(math.pi * s)) / 2


def _between(start: float, end: float, s: float) -> float:
    return start + (end - start) * s
