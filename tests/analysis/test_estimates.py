"""How estimates and bounds are judged."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.analysis import estimate_quality

ERRORS = torch.logspace(-4, -1, 50, dtype=torch.float64)


def test_an_exact_estimate_with_a_tight_bound():
    quality = estimate_quality(ERRORS, ERRORS, ERRORS)
    assert quality is not None
    assert quality.correlation == pytest.approx(1)
    assert quality.within_factor_2 == 1
    assert quality.median_ratio == pytest.approx(1)
    assert quality.violations == 0
    assert quality.median_bound == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 100))
def test_a_constant_factor_shows_in_the_ratio_and_not_in_the_correlation(factor):
    quality = estimate_quality(factor * ERRORS, 10 * factor * ERRORS, ERRORS)
    assert quality is not None
    assert quality.correlation == pytest.approx(1)
    assert quality.median_ratio == pytest.approx(factor)
    assert quality.median_bound == pytest.approx(10 * factor)


def test_share_within_a_factor_of_two_counts_both_sides():
    factors = torch.tensor([0.4, 0.6, 1.0, 1.9, 2.1], dtype=torch.float64)
    quality = estimate_quality(factors, factors, torch.ones(5, dtype=torch.float64))
    assert quality is not None
    assert quality.within_factor_2 == pytest.approx(3 / 5)


def test_every_error_above_its_bound_is_counted():
    bound = ERRORS.clone()
    bound[:7] *= 0.99
    quality = estimate_quality(ERRORS, bound, ERRORS)
    assert quality is not None
    assert quality.violations == 7


def test_an_estimate_that_does_not_vary_has_no_correlation():
    quality = estimate_quality(torch.ones_like(ERRORS), ERRORS, ERRORS)
    assert quality is not None
    assert quality.correlation is None


def test_a_reversed_estimate_correlates_to_minus_one():
    quality = estimate_quality(ERRORS.flip(0), ERRORS, ERRORS)
    assert quality is not None
    assert quality.correlation == pytest.approx(-1)


def test_an_infinite_bound_is_no_bound():
    bound = torch.full_like(ERRORS, math.inf)
    quality = estimate_quality(ERRORS, bound, ERRORS)
    assert quality is not None
    assert (quality.bounded, quality.violations, quality.median_bound) == (0, 0, None)


def test_without_an_estimate_there_is_nothing_to_judge():
    assert estimate_quality(torch.full_like(ERRORS, math.nan), ERRORS, ERRORS) is None


def test_an_exact_prediction_keeps_the_figures_finite():
    zero = torch.zeros(4, dtype=torch.float64)
    quality = estimate_quality(zero, zero, zero)
    assert quality is not None
    assert math.isfinite(quality.median_ratio)
    assert quality.violations == 0
