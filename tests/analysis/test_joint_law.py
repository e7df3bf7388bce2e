"""The joint law: made-up laws are found again, its inverse and its best split are exact."""

from __future__ import annotations

import numpy as np
import pytest

from fieldwright.analysis import JointLaw, fit_joint_law
from fieldwright.errors import InputError

TRUE = JointLaw(0.01, 3.0, 0.5, 1.2, 0.4, 0.0)
MODELS, SIZES = (1e3, 3e3, 1e4), (16, 64, 256, 1024)


def runs(noise: float = 0.0, seed: int = 0):
    draws = np.random.default_rng(seed)
    return [(n, d, TRUE.error(n, d) * np.exp(noise * draws.standard_normal())) for n in MODELS for d in SIZES]


def test_exact_runs_give_the_law_that_made_them():
    law = fit_joint_law(runs(), resamples=0).law
    for n in (*MODELS, 1e5):
        for d in (*SIZES, 8192):
            assert law.error(n, d) == pytest.approx(TRUE.error(n, d), rel=0.02)
    assert law.misfit < 1e-3
    assert law.data_exponent == pytest.approx(0.4, abs=0.02)


def test_interval_holds_what_is_between_the_runs():
    fit = fit_joint_law(runs(0.02, seed=1), resamples=20)
    low, high = fit.interval(5e3, 512)
    assert low < TRUE.error(5e3, 512) < high
    assert high / low < 1.3


def test_samples_for_is_the_inverse():
    samples = TRUE.samples_for(0.1, 1e5)
    assert samples is not None
    assert TRUE.error(1e5, samples) == pytest.approx(0.1, rel=1e-12)
    assert TRUE.samples_for(0.01, 1e9) is None


def test_split_is_the_least_of_a_brute_force_search():
    product = 1e8
    weights, samples = TRUE.split(product)
    assert weights * samples == pytest.approx(product)
    others = np.geomspace(weights / 100, weights * 100, 2001)
    assert TRUE.error(weights, samples) <= min(TRUE.error(n, product / n) for n in others) + 1e-12


def test_too_few_sizes_and_bad_values_are_refused():
    with pytest.raises(InputError, match="2 model sizes and 4 data sizes"):
        fit_joint_law([run for run in runs() if run[0] < 1e4])
    with pytest.raises(InputError, match="positive and finite"):
        fit_joint_law([*runs(), (1e3, 16, -1.0)])
    with pytest.raises(InputError, match="no split is best"):
        JointLaw(0.1, 0.0, 1.0, 1.0, 1.0, 0.0).split(100)
