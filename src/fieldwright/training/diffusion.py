"""How far the weights have gone from their start: the random walk on a rough loss.

While the learning rate is high, the weights diffuse ultra-slowly,

    ‖w_t - w_0‖ ≈ a + b log t,

with about the same b for all batch sizes once the learning rate is scaled by √M. Where distances stop growing, the
learning rate has given what it can and may be lowered.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", NeurIPS 2017 (section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.callback import Callback, Step

POINTS_PER_DECADE = 20
LEAST_POINTS = 6
"""Fewer points say nothing about a law with two constants."""

LEAST_STEP = 5
"""The first steps, in which the optimizer's averages fill, are in no fit."""

SATURATED = 0.25
"""Share of the fitted slope below which the slope of the last third of the points is called saturation."""


@dataclass(frozen=True)
class Fit:
    """Least squares of distances by a law of two constants, with R² = 1 - Σ(d - fit)² / Σ(d - mean d)²."""

    law: str
    constants: tuple[float, float]
    r2: float


def logarithmic_fit(steps: Sequence[int], distances: Sequence[float]) -> Fit:
    """d = a + b log t; the constants are a and b.

    Errors: `InputError` for fewer than three points.
    """
    t, d = _points(steps, distances)
    slope, start = np.polyfit(np.log(t), d, 1)
    return Fit("a + b log t", (float(start), float(slope)), _r2(d, start + slope * np.log(t)))


def power_fit(steps: Sequence[int], distances: Sequence[float]) -> Fit:
    """d = c t^p, p in [0, 2]; the constants are c and p. Fitted to the distances, as `logarithmic_fit` is.

    Errors: `InputError` for fewer than three points.
    """
    t, d = _points(steps, distances)

    def factor(exponent: float) -> float:
        return float(d @ t**exponent / (t**exponent @ t**exponent))

    def misfit(exponent: float) -> float:
        return float(((d - factor(exponent) * t**exponent) ** 2).sum())

    exponent = float(minimize_scalar(misfit, bounds=(0, 2), method="bounded").x)  # type: ignore[attr-defined]
    return Fit("c t^p", (factor(exponent), exponent), _r2(d, factor(exponent) * t**exponent))


def saturated(steps: Sequence[int], distances: Sequence[float]) -> bool:
    """Whether the distances of the last third of the points grow by less than `SATURATED` of the slope of them all."""
    last = -max(len(steps) // 3, 3)
    slope = logarithmic_fit(steps, distances).constants[1]
    return logarithmic_fit(steps[last:], distances[last:]).constants[1] < SATURATED * slope


class DistanceMeter(Callback):
    """Measures ‖w - w_0‖ over all trained weights, for every row of metrics and at about `POINTS_PER_DECADE` steps a
    decade, and says at the end whether the weights still diffuse.

    w_0 are the weights with which the phase began; they are kept, and are part of each checkpoint. Only steps whose
    learning rate was at least half of the highest are in the fit: the law is one of a constant rate.
    """

    columns = ("distance",)

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.distances: list[float] = []
        self.rates: list[float] = []
        self._start: dict[str, Tensor] = {}
        self._step: Step | None = None

    def begin(self, step: Step) -> None:
        self._start = {name: p.detach().clone() for name, p in _trained(step)}

    def after_update(self, step: Step) -> None:
        self._step = step
        done = step.index + 1
        if _place(done) > _place(done - 1):
            self.steps.append(done)
            self.distances.append(self._distance())
            self.rates.append(step.learning_rate)

    def end(self, step: Step) -> str | None:
        steps, distances = self.diffusing()
        if len(steps) < LEAST_POINTS:
            return None
        by_log, by_power = logarithmic_fit(steps, distances), power_fit(steps, distances)
        advice = "saturated: a lower learning rate loses nothing"
        if not saturated(steps, distances):
            advice = "still diffusing: the high learning rate has not given all it can"
        return (
            f"distance of the weights from the start over {steps[-1]} steps at a high rate: {by_log.constants[0]:.3g} +"
            f" {by_log.constants[1]:.3g} log t (R² {by_log.r2:.2f}; a power law {by_power.r2:.2f}); {advice}"
        )

    def diffusing(self) -> tuple[list[int], list[float]]:
        """Steps and distances that belong into a fit."""
        high = max(self.rates, default=0.0) / 2
        chosen = [
            (t, d)
            for t, d, rate in zip(self.steps, self.distances, self.rates, strict=True)
            if t >= LEAST_STEP and rate >= high
        ]
        return [t for t, _ in chosen], [d for _, d in chosen]

    def figures(self) -> dict[str, float]:
        return {} if self._step is None else {"distance": self._distance()}

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._start, "steps": self.steps, "distances": self.distances, "rates": self.rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = {name: start.to(self._start[name].device) for name, start in state["start"].items()}
        self.steps, self.distances = list(state["steps"]), list(state["distances"])
        self.rates = list(state["rates"])

    @torch.no_grad()
    def _distance(self) -> float:
        assert self._step is not None
        moved = [torch.linalg.vector_norm(p - self._start[name]) for name, p in _trained(self._step)]
        return float(torch.linalg.vector_norm(torch.stack(moved)))


def _trained(step: Step) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in step.operator.named_parameters() if p.requires_grad]


def _place(step: int) -> int:
    return math.floor(POINTS_PER_DECADE * math.log10(step) + 1e-9) if step else -1


def _points(steps: Sequence[int], distances: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(steps) != len(distances) or len(steps) < 3:
        raise InputError(f"distances: {len(steps)} steps and {len(distances)} distances; three of each at least")
    return np.asarray(steps, float), np.asarray(distances, float)


def _r2(values: np.ndarray, fitted: np.ndarray) -> float:
    spread = float(((values - values.mean()) ** 2).sum())
    return 1 - float(((values - fitted) ** 2).sum()) / spread if spread > 0 else 0.0
