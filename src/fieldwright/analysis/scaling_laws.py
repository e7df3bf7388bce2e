"""How the error falls with the number of training samples, with an honest interval: the exact posterior on a grid.

Of runs i with n_i samples and error y_i, and independent log-normal noise of standard deviation s,

    log y_i = c + log h(n_i; θ) + s z_i,      n_P the largest size,

under three hypotheses about h:

    power law     h = (n / n_P)^(-b)
    with a floor  h = φ + (1 - φ) (n / n_P)^(-b),              φ = E / y(n_P) of an error E that no data removes
    small data    h = ((n + n_c) / (n_P + n_c))^(-b)            the local slope still steepens

c and s integrate out in closed form, and what is left, b and φ or n_c, is summed on a grid that a coarse one places:
log w(θ) = -(R - 1 + ν₀)/2 · log(RSS(θ) + ν₀ s₀²) + log prior(θ), of R runs with the residual sum of squares RSS.

Source of the law and the protocol: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017 (arXiv
1712.00409). Priors and the rule of the hull were chosen on synthetic curves of a seed of their own, see the gallery.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from fieldwright.errors import InputError

HYPOTHESES = ("power law", "with a floor", "small data")
PRIOR_WEIGHTS = (0.2, 0.6, 0.2)
EXPONENTS = (0.01, 4.0)
EXPONENT_CENTRE, EXPONENT_WIDTH = math.log(0.5), 1.0
"""log b ~ Normal: exponents of PDE maps lie between 0.2 (shocks) and 1.2 (smooth, diffusive)."""
FLOORS = (0.003, 0.985)
FLOOR_POWER = -0.25
"""The prior density of φ is φ to this power."""
SMALL_DATA = (0.35, 45.0)
"""n_c in units of the smallest size, uniform in its logarithm."""
NOISE, NOISE_DEGREES = 0.03, 0.25
"""s₀ and ν₀: a guess at the noise that counts as a quarter of a run, so that the runs decide."""
HULL_WEIGHT = 0.15
"""Hypotheses of at least this posterior weight have a say in the interval."""
LEVEL = 0.9
FARTHEST = 1e9
"""Sizes beyond so many times the largest are not looked at."""

_COARSE = ((160, 1), (80, 50), (80, 30))
_FINE = ((240, 1), (60, 60), (60, 60))
_DEPTH = 14.0
_NODES = 21


@dataclass(frozen=True)
class LearningCurve:
    """Errors against sizes: the mean logarithm over the runs of each size, how many they are, and their spread.

    ``spread`` is the sum of squares of the log errors about the means of their sizes.
    """

    sizes: Float[np.ndarray, " size"]
    log_errors: Float[np.ndarray, " size"]
    runs: Int[np.ndarray, " size"]
    spread: float

    @classmethod
    def of(cls, runs: Iterable[tuple[float, float]]) -> LearningCurve:
        """From pairs (training samples, error), in any order; pairs of one size are replicates.

        Errors: `InputError` for fewer than three sizes, for a size or an error that is not positive and finite, and for
        errors that do not fall.
        """
        pairs = sorted((float(size), float(error)) for size, error in runs)
        for size, error in pairs:
            if not (math.isfinite(size) and size > 0):
                raise InputError(f"scaling law: a pilot of {size:g} samples; sizes are positive and finite")
            if not (math.isfinite(error) and error > 0):
                raise InputError(
                    f"scaling law: the error at {size:g} samples is {error:g}; errors are positive and finite"
                )
        sizes = np.unique([size for size, _ in pairs])
        if len(sizes) < 3:
            raise InputError(f"scaling law: pilots of {len(sizes)} sizes; at least 3 different ones are needed")
        groups = [np.log([error for at, error in pairs if at == size]) for size in sizes]
        means = np.array([group.mean() for group in groups])
        counts = np.array([len(group) for group in groups])
        slope = np.polyfit(np.log(sizes), means, 1, w=np.sqrt(counts))[0]
        if slope >= 0 or means[-1] >= means[0]:
            first, last = np.exp(means[[0, -1]])
            raise InputError(
                f"scaling law: the error does not fall with the data ({first:.3g} at {sizes[0]:g} samples, {last:.3g}"
                f" at {sizes[-1]:g}); no power law holds. Look for training that is too short, or a model too small"
            )
        spread = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        return cls(sizes, means, counts, spread)

    @property
    def largest(self) -> float:
        """The largest size."""
        return float(self.sizes[-1])

    def below(self, size: float) -> LearningCurve:
        """The curve of the sizes that are smaller. Its spread is in the proportion of its replicates.

        Errors: `InputError` when fewer than three are left.
        """
        kept = self.sizes < size
        if kept.sum() < 3:
            raise InputError(f"scaling law: {int(kept.sum())} sizes below {size:g}; at least 3 are needed")
        every, left = self.runs.sum() - len(self.runs), self.runs[kept].sum() - kept.sum()
        spread = self.spread * float(left / every) if every else 0.0
        return LearningCurve(self.sizes[kept], self.log_errors[kept], self.runs[kept], spread)


@dataclass(frozen=True)
class Predicted:
    """An error at a number of samples: the median and the interval of ``level``."""

    size: float
    median: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class _Grid:
    """Grid points of a hypothesis: θ as (b, φ or n_c/n_1), fitted c, RSS, and unnormalised log weight."""

    exponent: Float[np.ndarray, " point"]
    shape: Float[np.ndarray, " point"]
    offset: Float[np.ndarray, " point"]
    squares: Float[np.ndarray, " point"]
    log_weight: Float[np.ndarray, " point"]


@dataclass(frozen=True)
class ScalingLaw:
    """The posterior of a `LearningCurve`; made by `fit_scaling_law`."""

    curve: LearningCurve
    grids: tuple[_Grid, ...]

    @cached_property
    def weights(self) -> dict[str, float]:
        """The posterior weight of each hypothesis."""
        masses = [np.logaddexp.reduce(grid.log_weight) for grid in self.grids]
        return dict(zip(HYPOTHESES, special.softmax(masses).tolist(), strict=True))

    @property
    def exponent(self) -> tuple[float, float, float]:
        """b of the power-law region: 5 %, 50 % and 95 % of the posterior."""
        values = np.concatenate([grid.exponent for grid in self.grids])
        return _quantiles(values, np.concatenate(self._shares), (0.05, 0.5, 0.95))

    def predict(self, size: float, *, level: float = LEVEL, tight: bool = False, runs: int | None = None) -> Predicted:
        """The error of ``size`` training samples.

        The interval is the hull of the central intervals of every hypothesis that weighs at least `HULL_WEIGHT`;
        ``tight``: the central interval of their mixture, narrower and not always wide enough. It is one for the law;
        with ``runs`` for the mean of so many new runs, noise included.

        Errors: `InputError` for a size or a level that makes no sense.
        """
        if not (math.isfinite(size) and size > 0):
            raise InputError(f"scaling law: {size:g} samples; a positive number is needed")
        if not 0 < level < 1:
            raise InputError(f"scaling law: level {level:g}; a share between 0 and 1 is needed")
        ends = ((1 - level) / 2, 0.5, (1 + level) / 2)
        shares = self._shares
        parts = [self._spread_out(k, size, runs) for k in range(len(self.grids))]
        low, median, high = _quantiles(
            np.concatenate([values for values, _ in parts]),
            np.concatenate([_repeated(share) for share in shares]),
            ends,
        )
        if not tight:
            heard = [
                _quantiles(values, _repeated(share), ends)
                for (values, _), share in zip(parts, shares, strict=True)
                if share.sum() >= HULL_WEIGHT
            ]
            low = min((a for a, _, _ in heard), default=low)
            high = max((b for _, _, b in heard), default=high)
            low, high = min(low, median), max(high, median)
        return Predicted(size, math.exp(median), math.exp(low), math.exp(high), level)

    def probability(self, size: float, target: float) -> float:
        """P(error at ``size`` ≤ ``target``), of the mixture of the hypotheses."""
        total = 0.0
        for k, share in enumerate(self._shares):
            centre, scale = self._located(k, size)
            total += float((share * special.stdtr(self._degrees, (math.log(target) - centre) / scale)).sum())
        return total

    def floor_above(self, target: float) -> float:
        """P(E > ``target``): how likely it is that no number of samples reaches it."""
        grid, share = self.grids[1], self._shares[1]
        scale = self._scale(grid)
        away = (math.log(target) - grid.offset - np.log(grid.shape)) / scale
        return float((share * special.stdtr(self._degrees, -away)).sum())

    def size_for(self, target: float, probability: float = 0.5) -> int | None:
        """The least number of samples for which P(error ≤ ``target``) reaches ``probability``; None: none does.

        Errors: `InputError` for a target that is not positive, or a probability outside (0, 1).
        """
        if not (math.isfinite(target) and target > 0):
            raise InputError(f"scaling law: target {target:g}; a positive error is needed")
        if not 0 < probability < 1:
            raise InputError(f"scaling law: probability {probability:g}; a share between 0 and 1 is needed")
        low, high = 0.0, math.log(self.curve.largest * FARTHEST)
        if self.probability(math.exp(high), target) < probability:
            return None
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (low, middle) if self.probability(math.exp(middle), target) >= probability else (middle, high)
        return math.ceil(math.exp(high))

    @property
    def _degrees(self) -> float:
        return float(self.curve.runs.sum()) - 1 + NOISE_DEGREES

    @cached_property
    def _shares(self) -> list[np.ndarray]:
        joined = special.softmax(np.concatenate([grid.log_weight for grid in self.grids]))
        return np.split(joined, np.cumsum([len(grid.log_weight) for grid in self.grids])[:-1])

    def _scale(self, grid: _Grid, runs: int | None = None) -> np.ndarray:
        """Standard deviation (of Student's t) of c, and of a mean of new runs where these are asked for."""
        variance = (grid.squares + NOISE_DEGREES * NOISE**2) / self._degrees
        return np.sqrt(variance * (1 / self.curve.runs.sum() + (0 if runs is None else 1 / runs)))

    def _located(self, hypothesis: int, size: float, runs: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        grid = self.grids[hypothesis]
        shape = _log_shape(hypothesis, grid.exponent, grid.shape, np.array(size), self.curve)
        return grid.offset + shape, self._scale(grid, runs)

    def _spread_out(self, hypothesis: int, size: float, runs: int | None) -> tuple[np.ndarray, np.ndarray]:
        centre, scale = self._located(hypothesis, size, runs)
        nodes = stats.t.ppf((np.arange(_NODES) + 0.5) / _NODES, self._degrees)
        return (centre[:, None] + scale[:, None] * nodes).ravel(), centre


def fit_scaling_law(curve: LearningCurve) -> ScalingLaw:
    """The posterior of the three hypotheses, in a few milliseconds and without an optimizer."""
    return ScalingLaw(curve, tuple(_grid(hypothesis, curve) for hypothesis in range(len(HYPOTHESES))))


def _grid(hypothesis: int, curve: LearningCurve) -> _Grid:
    """Two stages: a coarse grid over the whole prior, a fine one where the posterior is within exp(-14) of its peak."""
    ranges = ((math.log(EXPONENTS[0]), math.log(EXPONENTS[1])), _shape_range(hypothesis))
    axes = [np.linspace(low, high, n) for (low, high), n in zip(ranges, _COARSE[hypothesis], strict=True)]
    steps = [axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes]
    log_b, shape = np.meshgrid(axes[0], axes[1], indexing="ij")
    log_prior = _log_prior(hypothesis, log_b, shape)
    log_mass = np.logaddexp.reduce(log_prior, axis=None) + math.log(steps[0] * steps[1])
    squares, _ = _residuals(hypothesis, log_b, shape, curve)
    log_weight = log_prior + _log_likelihood(squares, curve)
    close = log_weight > log_weight.max() - _DEPTH
    fine_axes = []
    for along, (axis, step, n) in enumerate(zip(axes, steps, _FINE[hypothesis], strict=True)):
        where = np.flatnonzero(close.any(1 - along))
        ends = axis[where[0]] - step, axis[where[-1]] + step
        fine_axes.append(axis if len(axis) == 1 else np.linspace(max(ends[0], axis[0]), min(ends[1], axis[-1]), n))
    cell = math.prod(axis[1] - axis[0] for axis in fine_axes if len(axis) > 1)
    log_b, shape = (values.ravel() for values in np.meshgrid(*fine_axes, indexing="ij"))
    squares, offset = _residuals(hypothesis, log_b, shape, curve)
    log_weight = _log_prior(hypothesis, log_b, shape) + _log_likelihood(squares, curve) + math.log(cell) - log_mass
    log_weight += math.log(PRIOR_WEIGHTS[hypothesis])
    kept = log_weight > log_weight.max() - _DEPTH
    return _Grid(np.exp(log_b[kept]), _shape(hypothesis, shape[kept]), offset[kept], squares[kept], log_weight[kept])


def _shape_range(hypothesis: int) -> tuple[float, float]:
    """The ends of the second axis: logit φ, or log n_c/n_1."""
    if hypothesis == 1:
        return float(special.logit(FLOORS[0])), float(special.logit(FLOORS[1]))
    return (0.0, 0.0) if hypothesis == 0 else (math.log(SMALL_DATA[0]), math.log(SMALL_DATA[1]))


def _shape(hypothesis: int, coordinate: np.ndarray) -> np.ndarray:
    return special.expit(coordinate) if hypothesis == 1 else np.exp(coordinate)


def _log_prior(hypothesis: int, log_b: np.ndarray, coordinate: np.ndarray) -> np.ndarray:
    """In the grid's coordinates, unnormalised."""
    log_prior = -0.5 * ((log_b - EXPONENT_CENTRE) / EXPONENT_WIDTH) ** 2
    if hypothesis == 1:
        # φ^p dφ with dφ = φ (1 - φ) d(logit φ)
        log_prior = log_prior + (1 + FLOOR_POWER) * special.log_expit(coordinate) + special.log_expit(-coordinate)
    return log_prior


def _log_likelihood(squares: np.ndarray, curve: LearningCurve) -> np.ndarray:
    degrees = curve.runs.sum() - 1 + NOISE_DEGREES
    return -degrees / 2 * np.log(squares + NOISE_DEGREES * NOISE**2)


def _residuals(
    hypothesis: int, log_b: np.ndarray, coordinate: np.ndarray, curve: LearningCurve
) -> tuple[np.ndarray, np.ndarray]:
    """RSS over all runs and the c that makes it least."""
    b, shape = np.exp(log_b)[..., None], _shape(hypothesis, coordinate)[..., None]
    residual = curve.log_errors - _log_shape(hypothesis, b, shape, curve.sizes, curve)
    share = curve.runs / curve.runs.sum()
    offset = residual @ share
    return ((residual - offset[..., None]) ** 2) @ curve.runs + curve.spread, offset


def _log_shape(hypothesis: int, b: np.ndarray, shape: np.ndarray, size: np.ndarray, curve: LearningCurve) -> np.ndarray:
    """log h(n; θ)."""
    if hypothesis == 2:
        n_c = shape * curve.sizes[0]
        return -b * np.log((size + n_c) / (curve.largest + n_c))
    power = -b * np.log(size / curve.largest)
    return power if hypothesis == 0 else np.logaddexp(np.log(shape), np.log1p(-shape) + power)


def _repeated(share: np.ndarray) -> np.ndarray:
    return np.repeat(share / _NODES, _NODES)


def _quantiles(values: np.ndarray, weights: np.ndarray, at: tuple[float, float, float]) -> tuple[float, float, float]:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array(at) * reached[-1]).clip(max=len(values) - 1)
    low, middle, high = values[order][places].tolist()
    return low, middle, high
