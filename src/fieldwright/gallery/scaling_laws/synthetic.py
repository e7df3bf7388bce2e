"""Curves whose truth is known: how often intervals hold it eight times beyond the largest pilot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fieldwright.analysis import LearningCurve, fit_scaling_law
from fieldwright.progress import Reporter

SIZES = 32 * 2.0 ** np.arange(7)
FARTHER = 8.0
NOISES = (0.02, 0.05)
SHAPES = ((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 4.0), (0.0, 16.0))
"""(floor as a share of the last error, n_c in smallest sizes) of the true curves."""
SEED = 2026
"""Of the curves on the page. Priors and the rule of the hull were chosen on curves of seed 1001 alone."""


@dataclass(frozen=True)
class Calibration:
    """Of one setting: shares of curves whose truth an interval held, and medians over the curves of log widths."""

    noise: float
    floor: float
    offset: float
    line: float
    hull: float
    tight: float
    hull_width: float
    tight_width: float
    error: float

    @property
    def truth(self) -> str:
        """The setting in words."""
        shape = f"n_c = {self.offset:g} n_1" if self.offset else f"E = {self.floor:g} of the last error"
        return f"{shape}, noise {100 * self.noise:g} %"


def calibrations(curves: int, reporter: Reporter) -> list[Calibration]:
    """Every setting, with ``curves`` curves of exponents b ~ U[0.15, 1] each."""
    found = []
    with reporter.stage("Synthetic curves", total=len(NOISES) * len(SHAPES) * curves, unit="curves") as stage:
        for number, (noise, floor, offset) in enumerate((s, *shape) for s in NOISES for shape in SHAPES):
            draws = np.random.default_rng([SEED, number])
            rows = []
            for _ in range(curves):
                rows.append(_one(draws, noise, floor, offset * SIZES[0]))
                stage.advance()
            line, hull, tight, hull_width, tight_width, error = np.array(rows).T
            found.append(
                Calibration(
                    noise, floor, offset, line.mean(), hull.mean(), tight.mean(),
                    *(float(np.median(values)) for values in (hull_width, tight_width, error)),
                )
            )  # fmt: skip
    return found


def line_interval(sizes: np.ndarray, errors: np.ndarray, size: float, level: float) -> tuple[float, float]:
    """The textbook interval of a straight line through the logarithms: what is done without a floor."""
    fit = stats.linregress(np.log(sizes), np.log(errors))
    x, degrees = np.log(sizes) - np.log(sizes).mean(), len(sizes) - 2
    away = math.log(size) - np.log(sizes).mean()
    residual = np.log(errors) - fit.intercept - fit.slope * np.log(sizes)  # type: ignore[attr-defined]
    s = math.sqrt(float((residual**2).sum()) / degrees)
    half = stats.t.ppf((1 + level) / 2, degrees) * s * math.sqrt(1 / len(sizes) + away**2 / float((x**2).sum()))
    middle = fit.intercept + fit.slope * math.log(size)  # type: ignore[attr-defined]
    return math.exp(middle - half), math.exp(middle + half)


def _one(draws: np.random.Generator, noise: float, floor: float, offset: float) -> tuple[float, ...]:
    b, z = draws.uniform(0.15, 1), draws.standard_normal(len(SIZES))

    def truth(n: np.ndarray | float) -> np.ndarray:
        return floor + (1 - floor) * ((np.asarray(n) + offset) / (SIZES[-1] + offset)) ** -b

    errors, goal = truth(SIZES) * np.exp(noise * z), float(truth(FARTHER * SIZES[-1]))
    law = fit_scaling_law(LearningCurve.of(zip(SIZES, errors, strict=True)))
    hull, tight = (law.predict(FARTHER * SIZES[-1], tight=narrow) for narrow in (False, True))
    low, high = line_interval(SIZES, errors, FARTHER * SIZES[-1], 0.9)
    return (
        low <= goal <= high,
        hull.low <= goal <= hull.high,
        tight.low <= goal <= tight.high,
        math.log(hull.high / hull.low),
        math.log(tight.high / tight.low),
        abs(math.log(hull.median / goal)),
    )
