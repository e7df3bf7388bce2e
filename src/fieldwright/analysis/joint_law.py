"""Error by model and data together, and the cheapest pair that reaches a target.

    L(N, D) = E + A N^(-a) + B D^(-b),      N weights, D samples

For exponents on a grid the three coefficients follow from a least-squares problem in relative errors with no negative
solution, so there is no start and no local minimum; runs are resampled for the intervals.

Sources: Rosenfeld et al., "A Constructive Prediction of the Generalization Error Across Scales", 2020; Hoffmann et al.,
"Training Compute-Optimal Large Language Models", 2022, section 3.3, whose fit was found not converged and its intervals
too narrow by Besiroglu et al., 2024: hence the sum over all runs, the exact inner solution and the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize

from fieldwright.errors import InputError

LEAST_MODELS, LEAST_DATA = 3, 4
_COARSE, _FINE = 16, 9
_EXPONENTS = (0.02, 2.5)


@dataclass(frozen=True)
class JointLaw:
    """E + A N^(-a) + B D^(-b); ``misfit`` is the root mean square of the relative errors of the fit."""

    floor: float
    model_factor: float
    model_exponent: float
    data_factor: float
    data_exponent: float
    misfit: float

    def error(self, weights: float, samples: float) -> float:
        """L(N, D)."""
        by_model = self.model_factor * weights**-self.model_exponent
        return self.floor + by_model + self.data_factor * samples**-self.data_exponent

    def samples_for(self, target: float, weights: float) -> float | None:
        """D with L(N, D) = ``target`` for a model of N weights; None where model and floor alone err as much."""
        left = target - self.floor - self.model_factor * weights**-self.model_exponent
        if left <= 0:
            return None
        return (self.data_factor / left) ** (1 / self.data_exponent)

    def split(self, product: float) -> tuple[float, float]:
        """(N, D) of least error with N · D = ``product``: what a compute budget is best spent on.

        N = G p^(b/(a+b)), D = p / N with G = (a A / (b B))^(1/(a+b)) (Hoffmann et al., equation 4). Where one of the
        terms is absent no pair is best: `InputError`.
        """
        a, b = self.model_exponent, self.data_exponent
        if not (self.model_factor > 0 and self.data_factor > 0):
            raise InputError("joint law: the error depends on one of weights and samples alone; no split is best")
        ratio = (a * self.model_factor / (b * self.data_factor)) ** (1 / (a + b))
        weights = ratio * product ** (b / (a + b))
        return weights, product / weights


@dataclass(frozen=True)
class JointFit:
    """The law of all runs, and those of resampled runs for intervals."""

    law: JointLaw
    resampled: tuple[JointLaw, ...]

    def interval(self, weights: float, samples: float, *, level: float = 0.9) -> tuple[float, float]:
        """The central interval of the resampled laws' errors."""
        errors = [law.error(weights, samples) for law in self.resampled]
        low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def fit_joint_law(runs: Iterable[tuple[float, float, float]], *, resamples: int = 40, seed: int = 0) -> JointFit:
    """Fit the law to (weights, samples, error) of runs that were trained until more updates did not help.

    Errors: `InputError` for fewer than three model sizes by four data sizes, and values that are not positive.
    """
    table = np.array([tuple(map(float, run)) for run in runs]).reshape(-1, 3)
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise InputError("joint law: weights, samples and errors are positive and finite")
    models, sizes = (len(np.unique(table[:, k])) for k in (0, 1))
    if models < LEAST_MODELS or sizes < LEAST_DATA:
        raise InputError(
            f"joint law: {models} model sizes and {sizes} data sizes; at least {LEAST_MODELS} and {LEAST_DATA} are"
            " needed"
        )
    draws = np.random.default_rng(seed)
    picks = (draws.integers(len(table), size=len(table)) for _ in range(resamples))
    return JointFit(_fit(table), tuple(_fit(table[pick]) for pick in picks))


def _fit(table: Float[np.ndarray, "run 3"]) -> JointLaw:
    """Three rounds of grids in log a and log b, each around the best of the last."""
    low, high = (np.full(2, math.log(end)) for end in _EXPONENTS)
    best, count = (math.inf, np.zeros(3), np.zeros(2)), _COARSE
    for _ in range(4):
        axes = [np.linspace(low[k], high[k], count) for k in (0, 1)]
        best = min((_solved(table, x, y) for x in axes[0] for y in axes[1]), key=lambda one: one[0])
        steps = np.array([axis[1] - axis[0] for axis in axes])
        low, high = best[2] - steps, best[2] + steps
        count = _FINE
    misfit, (floor, by_model, by_data), (log_a, log_b) = best
    scale = np.exp(np.log(table[:, :2]).mean(0))
    a, b = math.exp(log_a), math.exp(log_b)
    return JointLaw(
        float(floor), float(by_model * scale[0] ** a), a, float(by_data * scale[1] ** b), b,
        misfit / math.sqrt(len(table)),
    )  # fmt: skip


def _solved(
    table: Float[np.ndarray, "run 3"], log_a: float, log_b: float
) -> tuple[float, Float[np.ndarray, " 3"], Float[np.ndarray, " 2"]]:
    """The norm of the relative errors, coefficients of scaled N and D, and the exponents they are for."""
    scaled = table[:, :2] / np.exp(np.log(table[:, :2]).mean(0))
    columns = np.stack([np.ones(len(table)), scaled[:, 0] ** -math.exp(log_a), scaled[:, 1] ** -math.exp(log_b)], 1)
    coefficients, norm = optimize.nnls(columns / table[:, 2:], np.ones(len(table)))
    return norm, coefficients, np.array([log_a, log_b])
