"""Scaling laws: the truth lies in the interval as often as it says, the law is inverted exactly, bad curves refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fieldwright.analysis import LearningCurve, fit_scaling_law, plan_data
from fieldwright.analysis.scaling_laws import HYPOTHESES, _log_shape
from fieldwright.errors import InputError

SIZES = 32 * 2.0 ** np.arange(7)


def curve(exponent: float = 0.5, *, floor: float = 0.0, offset: float = 0.0, noise: float = 0.0, seed: int = 0):
    """Pairs of y = floor + (1 - floor) ((n + offset)/(n_P + offset))^(-exponent), with log-normal noise."""
    draws = noise * np.random.default_rng(seed).standard_normal(len(SIZES))
    shape = ((SIZES + offset) / (SIZES[-1] + offset)) ** -exponent
    return list(zip(SIZES, 0.1 * (floor + (1 - floor) * shape) * np.exp(draws), strict=True))


def true_error(size: float, exponent: float, floor: float = 0.0, offset: float = 0.0) -> float:
    return 0.1 * (floor + (1 - floor) * ((size + offset) / (SIZES[-1] + offset)) ** -exponent)


@pytest.mark.parametrize(("floor", "offset"), [(0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 512.0)])
def test_exact_curves_are_predicted_eight_times_further(floor: float, offset: float):
    law = fit_scaling_law(LearningCurve.of(curve(0.6, floor=floor, offset=offset)))
    truth = true_error(8 * SIZES[-1], 0.6, floor, offset)
    predicted = law.predict(8 * SIZES[-1])
    assert predicted.low <= truth <= predicted.high
    assert predicted.median == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize(("floor", "offset", "name"), [(0.5, 0, "with a floor"), (0, 512, "small data")])
def test_posterior_knows_the_hypothesis_that_made_the_curve(floor: float, offset: float, name: str):
    weights = fit_scaling_law(LearningCurve.of(curve(0.7, floor=floor, offset=offset, noise=0.01))).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert max(weights, key=lambda hypothesis: weights[hypothesis]) == name


def test_grid_agrees_with_a_brute_force_integral():
    """The posterior of the pure power law alone, by the trapezoidal rule on a line of 20,000 exponents."""
    pilots = LearningCurve.of(curve(0.4, noise=0.05, seed=3))
    law = fit_scaling_law(pilots)
    log_b = np.linspace(math.log(0.01), math.log(4), 20_000)
    x = np.log(SIZES / SIZES[-1])
    residual = pilots.log_errors + np.exp(log_b)[:, None] * x
    squares = ((residual - residual.mean(1, keepdims=True)) ** 2).sum(1)
    weight = np.exp(-0.5 * (log_b - math.log(0.5)) ** 2) * (squares + 0.25 * 0.03**2) ** (-(len(SIZES) - 1 + 0.25) / 2)
    mean = (weight * np.exp(log_b)).sum() / weight.sum()
    share = np.exp(law.grids[0].log_weight - law.grids[0].log_weight.max())
    assert (share * law.grids[0].exponent).sum() / share.sum() == pytest.approx(mean, rel=1e-3)


def test_every_shape_is_one_at_the_largest_size():
    pilots = LearningCurve.of(curve())
    for hypothesis in range(len(HYPOTHESES)):
        b, shape = np.array([0.2, 1.0]), np.array([0.3, 0.9])
        assert np.allclose(_log_shape(hypothesis, b, shape, np.array(pilots.largest), pilots), 0)


def test_inversion_is_the_inverse_of_the_prediction():
    law = fit_scaling_law(LearningCurve.of(curve(0.5, noise=0.02)))
    target = 0.05
    for probability in (0.1, 0.5, 0.9):
        size = law.size_for(target, probability)
        assert size is not None
        assert law.probability(size, target) >= probability - 1e-3
        assert law.probability(size * 0.99, target) < probability
    expected, safe = law.size_for(target, 0.5), law.size_for(target, 0.9)
    assert expected is not None
    assert safe is not None
    assert expected < safe
    assert law.predict(expected).median == pytest.approx(target, rel=0.02)


def test_scale_of_sizes_and_errors_does_not_matter():
    pairs = curve(0.5, floor=0.2, noise=0.03)
    plain, scaled = (fit_scaling_law(LearningCurve.of([(k * n, 7 * y / k) for n, y in pairs])) for k in (1, 100))
    assert scaled.predict(800 * SIZES[-1]).high * 100 == pytest.approx(plain.predict(8 * SIZES[-1]).high, rel=1e-9)


def test_replicates_are_runs_of_one_size_and_narrow_the_interval():
    pairs = [pair for seed in range(4) for pair in curve(0.5, noise=0.05, seed=seed)]
    four = LearningCurve.of(pairs)
    assert (four.runs == 4).all()
    assert len(four.sizes) == len(SIZES)
    logs = np.log([[y for _, y in curve(0.5, noise=0.05, seed=seed)] for seed in range(4)])
    assert four.log_errors == pytest.approx(logs.mean(0))
    assert four.spread == pytest.approx(((logs - logs.mean(0)) ** 2).sum())
    widths = [
        math.log(p.high / p.low)
        for p in (
            fit_scaling_law(LearningCurve.of(runs)).predict(8 * SIZES[-1]) for runs in (pairs, pairs[: len(SIZES)])
        )
    ]
    assert widths[0] < widths[1]


def test_interval_of_new_runs_is_wider_than_that_of_the_law():
    law = fit_scaling_law(LearningCurve.of(curve(0.5, noise=0.05)))
    of_law, of_run, of_many = (law.predict(4096, runs=runs) for runs in (None, 1, 10_000))
    assert of_run.high > of_law.high
    assert of_run.low < of_law.low
    assert of_many.high == pytest.approx(of_law.high, rel=0.01)


def coverage(curves: int, seed: int, settings: list[tuple[float, float, float]]) -> np.ndarray:
    """The share of curves of each (noise, floor, offset in smallest sizes) whose truth the hull holds."""
    shares = []
    for number, (noise, floor, offset) in enumerate(settings):
        draws = np.random.default_rng([seed, number])
        held = 0
        for _ in range(curves):
            b = draws.uniform(0.15, 1)
            pairs = curve(b, floor=floor, offset=offset * SIZES[0], noise=noise, seed=int(draws.integers(1 << 30)))
            predicted = fit_scaling_law(LearningCurve.of(pairs)).predict(8 * SIZES[-1])
            held += predicted.low <= true_error(8 * SIZES[-1], b, floor, offset * SIZES[0]) <= predicted.high
        shares.append(held / curves)
    return np.array(shares)


def test_interval_holds_the_truth_as_often_as_it_says():
    """72 curves at nominal 0.9: a standard deviation of 0.035."""
    every = coverage(12, 7, [(0.02, 0, 0), (0.02, 0.3, 0), (0.02, 0, 16), (0.05, 0, 0), (0.05, 0.6, 0), (0.05, 0, 4)])
    assert every.mean() >= 0.8


@pytest.mark.slow
def test_coverage_of_every_setting_of_the_card():
    shapes = [(0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 4.0), (0.0, 16.0)]
    shares = coverage(200, 11, [(noise, *shape) for noise in (0.02, 0.05) for shape in shapes])
    assert ((shares >= 0.85) & (shares <= 0.97)).all(), shares


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(16, 0.5), (32, 0.4)], "pilots of 2 sizes; at least 3"),
        ([(16, 0.5), (16, 0.45), (32, 0.4)], "pilots of 2 sizes; at least 3"),
        ([(16, 0.2), (32, 0.3), (64, 0.4)], "does not fall"),
        ([(16, 0.3), (32, 0.3), (64, 0.3)], "does not fall"),
        ([(16, 0.3), (32, 0.0), (64, 0.1)], "the error at 32 samples is 0"),
        ([(16, 0.3), (32, -0.1), (64, 0.1)], "the error at 32 samples is -0.1"),
        ([(16, 0.3), (32, math.nan), (64, 0.1)], "the error at 32 samples is nan"),
        ([(0, 0.3), (32, 0.2), (64, 0.1)], "a pilot of 0 samples"),
        ([(16, 0.3), (math.inf, 0.2), (64, 0.1)], "a pilot of inf samples"),
    ],
)
def test_bad_curves_are_refused_in_one_sentence(pairs: list[tuple[float, float]], said: str):
    with pytest.raises(InputError, match=said):
        LearningCurve.of(pairs)


def test_bad_questions_are_refused():
    law = fit_scaling_law(LearningCurve.of(curve()))
    for call, said in (
        (lambda: law.predict(0), "a positive number"),
        (lambda: law.predict(64, level=1), "level 1"),
        (lambda: law.size_for(0), "target 0"),
        (lambda: law.size_for(0.1, 1), "probability 1"),
        (lambda: plan_data(curve(), -1), "target -1"),
    ):
        with pytest.raises(InputError, match=said):
            call()


def test_plan_of_a_sound_curve():
    plan = plan_data(curve(0.5, noise=0.02, seed=1), 0.05)
    assert plan.status == "reachable"
    assert plan.hopeful is not None
    assert plan.expected is not None
    assert plan.safe is not None
    assert plan.hopeful < 4 * SIZES[-1] < 1.5 * plan.safe
    assert plan.hopeful < plan.expected < plan.safe
    assert plan.inflation >= 1
    assert len(plan.back_tests) == 3
    assert all(test.inside == (test.miss <= 1) for test in plan.back_tests)


@pytest.mark.parametrize(
    ("target", "size"),
    [(0.041, 512), (0.051, 256), (0.31, 16), (0.07, 256)],
    ids=["last", "some", "all", "not-for-good"],
)
def test_target_that_pilots_have_reached_needs_no_law(target: float, size: int):
    errors = {16: 0.3, 32: 0.2, 64: 0.069, 128: 0.09, 256: 0.05, 512: 0.04}
    plan = plan_data(errors.items(), target, training_error=0.04)
    assert plan.status == "reached"
    assert plan.expected == plan.safe == size
    assert plan_data(errors.items(), 0.039, training_error=0.04).status != "reached"


def test_target_below_the_floor_is_not_reachable():
    plan = plan_data(curve(0.8, floor=0.6, noise=0.005), 0.03)
    assert plan.status == "not reachable"
    assert plan.expected is None
    assert plan.law.floor_above(0.03) > 0.9 > 0.1 > plan.law.floor_above(0.09)


def test_sudden_floor_is_unreliable_and_force_answers_all_the_same():
    pairs = curve(1.0)
    pairs[-1] = (pairs[-1][0], pairs[-2][1] * 0.99)
    plan = plan_data(pairs, 0.09)
    assert plan.status == "unreliable"
    assert plan.expected is None
    assert "largest pilot" in " ".join(plan.remarks)
    assert plan_data(pairs, 0.3, force=True).expected is not None


def test_pilot_that_has_not_learnt_its_data_speaks_of_training():
    plan = plan_data(curve(0.5), 0.05, training_error=0.09)
    assert plan.status == "limited by training"
    assert plan.expected is None
    assert plan_data(curve(0.5), 0.05, training_error=0.02).status == "reachable"


def test_answers_far_beyond_the_pilots_are_refused():
    assert plan_data(curve(0.5), 0.1 / math.sqrt(16)).status == "reachable"
    far = plan_data(curve(0.5), 0.1 / math.sqrt(100))
    assert far.status == "too far"
    assert far.expected is None
    forced = plan_data(curve(0.5), 0.1 / math.sqrt(100), force=True)
    assert forced.expected == pytest.approx(100 * SIZES[-1], rel=0.2)


def test_small_data_region_is_left_out():
    pairs = [(8.0, 0.98), (16.0, 0.95), *curve(0.5)]
    plan = plan_data(pairs, 0.05, best_guess=1.0)
    assert plan.law.curve.sizes.tolist() == [float(n) for n, y in curve(0.5) if y <= 0.8]
    with pytest.raises(InputError, match="small-data region"):
        plan_data([(8, 0.99), (16, 0.95), (32, 0.93)], 0.1, best_guess=1.0)
