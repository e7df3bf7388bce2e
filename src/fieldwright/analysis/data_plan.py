"""How many samples a target error takes: the scaling law asked backwards, after checks that may refuse an answer.

A target that pilots have reached needs no law. Beyond them a plan is given only where the law has proved itself: the
largest pilot, predicted from the smaller ones, lies in its interval, the model has learnt its training data, and the
answer is not an extrapolation beyond all measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fieldwright.analysis.scaling_laws import LEVEL, LearningCurve, Predicted, ScalingLaw, fit_scaling_law
from fieldwright.errors import InputError

Status = Literal["reached", "reachable", "too far", "not reachable", "unreliable", "limited by training"]

EXPECTED, SAFE = 0.5, 0.9
"""Probabilities of the expected and of the safe plan."""
FAR, TOO_FAR = 8.0, 32.0
"""Extrapolations, in largest pilots, that are remarked upon and refused."""
LEARNT = 0.7
"""Error on training samples over that on others above which more data will not help."""
SMALL_DATA = 0.8
"""Pilots that err more than this share of the best guess are in the small-data region, where no power law holds yet."""
LEAST_SPAN, LEAST_SIZES = 8.0, 5
BACK_TESTS = 3


@dataclass(frozen=True)
class BackTest:
    """A pilot size, predicted from the smaller ones with the noise of its own runs, and what its runs said."""

    predicted: Predicted
    observed: float

    @property
    def miss(self) -> float:
        """|log observed - log median| in half-widths of the interval on that side: above 1 it lies outside."""
        end = self.predicted.high if self.observed > self.predicted.median else self.predicted.low
        return abs(math.log(self.observed / self.predicted.median)) / max(
            abs(math.log(end / self.predicted.median)), 1e-12
        )

    @property
    def inside(self) -> bool:
        """Whether the interval held it."""
        return self.predicted.low <= self.observed <= self.predicted.high

    @property
    def error_per_octave(self) -> float:
        """Ratio of observed to predicted error, as exp |log|."""
        return math.exp(abs(math.log(self.observed / self.predicted.median)))


@dataclass(frozen=True)
class DataPlan:
    """What the pilots say about a target.

    ``expected`` samples reach the target with probability 1/2 and ``safe`` with 0.9, ``hopeful`` with 0.1; None where
    the status refuses an answer. ``inflation`` is the factor by which the back-tests widened the intervals.
    ``remarks`` are sentences that belong to the answer, why there is none among them.
    """

    target: float
    law: ScalingLaw
    status: Status
    hopeful: int | None
    expected: int | None
    safe: int | None
    back_tests: tuple[BackTest, ...]
    inflation: float
    remarks: tuple[str, ...]

    def predict(self, size: float, *, level: float = LEVEL) -> Predicted:
        """The error of ``size`` samples, in the interval that the back-tests ask for."""
        plain = self.law.predict(size, level=level)
        low, high = (plain.median * (end / plain.median) ** self.inflation for end in (plain.low, plain.high))
        return Predicted(size, plain.median, low, high, level)


def plan_data(
    runs: Iterable[tuple[float, float]],
    target: float,
    *,
    best_guess: float | None = None,
    training_error: float | None = None,
    force: bool = False,
) -> DataPlan:
    """How many samples bring the error down to ``target``.

    ``runs``            (training samples, error on samples unseen) of every pilot; same size, same split: replicates
    ``best_guess``      the error of predicting the mean; pilots near it are left out of the fit
    ``training_error``  of the largest pilot on the samples it was trained on
    ``force``           answer although a check refuses; the status and the remarks say what it refused

    Errors: `InputError` for a target or an error that is not positive and finite, fewer than three usable sizes, and
    errors that do not fall.
    """
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"plan: target {target:g}; a relative error above 0 is needed")
    pairs = list(runs)
    remarks: list[str] = []
    curve = LearningCurve.of(pairs)
    if best_guess is not None:
        curve, left = _beyond_small_data(pairs, curve, best_guess)
        if left:
            remarks.append(
                f"{left} of the smallest sizes err nearly as much as the best guess ({best_guess:.3g}); left out"
            )
    law = fit_scaling_law(curve)
    tests = back_tests(curve)
    inflation = max([1.0, *(test.miss for test in tests)])
    reached = _reached(curve, target)
    if reached is not None:
        remarks.append(f"measured, not forecast: every pilot of {reached:,} samples or more has reached the target")
        return DataPlan(target, law, "reached", reached, reached, reached, tests, inflation, tuple(remarks))
    status = _status(law, target, tests, training_error, remarks)
    _remark_on_evidence(law, inflation, remarks)
    hopeful, expected, safe = (law.size_for(target, p) for p in (1 - SAFE, EXPECTED, SAFE))
    if status == "reachable" and expected is not None and expected > TOO_FAR * curve.largest:
        status = "too far"
        remarks.append(
            f"about {expected:,} samples are {expected / curve.largest:.0f} times the largest pilot"
            f" ({curve.largest:g}), more than the {TOO_FAR:g} times that a curve may be drawn out; larger pilots are"
            " needed"
        )
    elif expected is not None and expected > FAR * curve.largest:
        remarks.append(f"{expected / curve.largest:.0f} times the largest pilot is a long way to extrapolate")
    if status != "reachable" and not force:
        hopeful = expected = safe = None
    hopeful, safe = _widened(hopeful, expected, inflation), _widened(safe, expected, inflation)
    return DataPlan(target, law, status, hopeful, expected, safe, tests, inflation, tuple(remarks))


def back_tests(curve: LearningCurve, last: int = BACK_TESTS) -> tuple[BackTest, ...]:
    """Each of the ``last`` sizes predicted from those below it, the largest first: the hold-out check."""
    found = []
    for place in range(len(curve.sizes) - 1, max(2, len(curve.sizes) - 1 - last), -1):
        size = float(curve.sizes[place])
        predicted = fit_scaling_law(curve.below(size)).predict(size, runs=int(curve.runs[place]))
        found.append(BackTest(predicted, math.exp(curve.log_errors[place])))
    return tuple(found)


def value_of_pilot(curve: LearningCurve, size: float, at: float) -> float:
    """By what share one more run of ``size`` samples would narrow the interval at ``at`` samples.

    The run is taken to come out as the law expects it; that the interval moves as well is left out.
    """
    law = fit_scaling_law(curve)
    expected = math.log(law.predict(size).median)
    place = curve.sizes == size
    if place.any():
        runs = curve.runs + place
        errors = np.where(place, (curve.log_errors * curve.runs + expected) / runs, curve.log_errors)
        added = LearningCurve(curve.sizes, errors, runs, curve.spread)
    else:
        order = np.argsort([*curve.sizes, size])
        sizes, errors = (np.append(a, b)[order] for a, b in ((curve.sizes, size), (curve.log_errors, expected)))
        added = LearningCurve(sizes, errors, np.append(curve.runs, 1)[order], curve.spread)
    before, after = (math.log(p.high / p.low) for p in (law.predict(at), fit_scaling_law(added).predict(at)))
    return 1 - after / before


def _beyond_small_data(
    pairs: list[tuple[float, float]], curve: LearningCurve, best_guess: float
) -> tuple[LearningCurve, int]:
    near = [
        float(size)
        for size, error in zip(curve.sizes, curve.log_errors, strict=True)
        if error > math.log(SMALL_DATA * best_guess)
    ]
    left = [pair for pair in pairs if not near or pair[0] > max(near)]
    if len({size for size, _ in left}) < 3:
        raise InputError(
            f"plan: all but {len({size for size, _ in left})} of the pilots err nearly as much as the best guess"
            f" ({best_guess:.3g}): that is the small-data region, where no law holds yet; larger pilots are"
            " needed"
        )
    return (LearningCurve.of(left) if near else curve), len({size for size in near})


def _reached(curve: LearningCurve, target: float) -> int | None:
    """The least size at which, and at all larger ones, the pilots err no more than the target; None where none does."""
    met = np.exp(curve.log_errors) <= target
    if not met[-1]:
        return None
    return int(curve.sizes[len(met) - int(np.argmin(met[::-1])) if not met.all() else 0])


def _status(
    law: ScalingLaw, target: float, tests: tuple[BackTest, ...], training_error: float | None, remarks: list[str]
) -> Status:
    error = math.exp(law.curve.log_errors[-1])
    if training_error is not None and training_error > LEARNT * error:
        remarks.append(
            f"the largest pilot errs by {training_error:.3g} on its own training samples and by {error:.3g} on others:"
            " it is limited by its model or its updates and not by data; give it a larger model or more updates"
        )
        return "limited by training"
    if tests and not tests[0].inside:
        held = tests[0]
        remarks.append(
            f"the largest pilot has {held.observed:.3g} where the smaller ones promised {held.predicted.median:.3g}"
            f" [{held.predicted.low:.3g}, {held.predicted.high:.3g}]: the law does not hold, so it says nothing of the"
            " target"
        )
        return "unreliable"
    floor = law.floor_above(target)
    if floor > 0.5 or law.size_for(target) is None:
        remarks.append(
            f"no number of samples reaches {target:.3g}: with probability {floor:.2f} the error stays above it; a"
            " larger model, more updates or finer data might"
        )
        return "not reachable"
    return "reachable"


def _remark_on_evidence(law: ScalingLaw, inflation: float, remarks: list[str]) -> None:
    curve = law.curve
    if len(curve.sizes) < LEAST_SIZES:
        remarks.append(
            f"weak evidence: {len(curve.sizes)} sizes, so that the form of the law is a guess; {LEAST_SIZES} are better"
        )
    if curve.largest < LEAST_SPAN * curve.sizes[0]:
        remarks.append(
            f"weak evidence: the sizes span a factor of {curve.largest / curve.sizes[0]:.3g}; {LEAST_SPAN:g} is better"
        )
    if inflation > 1:
        remarks.append(f"intervals are widened by {inflation:.2f}, as a pilot lay so far out of its own")


def _widened(size: int | None, about: int | None, inflation: float) -> int | None:
    """``size`` moved away from the expected one, in logarithms."""
    if size is None or about is None:
        return size
    return math.ceil(about * (size / about) ** inflation)
