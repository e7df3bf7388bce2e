"""Vectors without branches: what comparisons choose, NaN included, and slopes that are those of the tensor form."""

import math

import numpy as np
import pytest
import torch

from fieldwright.solvers.finite_volume.lane_selection import (
    half_slope,
    magnitude,
    smaller,
    store_row,
    where_positive,
)
from fieldwright.solvers.finite_volume.limiters import LIMITERS
from fieldwright.solvers.finite_volume.limiters import half_slope as tensor_half_slope
from fieldwright.solvers.lanes import LANES, compiled, load_row, spread

SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan, 1e-300])


@compiled
def chosen(test, yes, no, out):
    store_row(out, 0, where_positive(load_row(test, 0), load_row(yes, 0), load_row(no, 0)))


@compiled
def smallest(left, right, out):
    store_row(out, 0, smaller(load_row(left, 0), load_row(right, 0)))


@compiled
def sizes(values, out):
    store_row(out, 1, magnitude(load_row(values, 0)))


@compiled
def shifted(values, out):
    store_row(out, 3, load_row(values, 1) + spread(1.0))


@compiled
def slopes(limiter, below, here, above, out):
    for k in range(0, len(out), LANES):
        store_row(out, k, half_slope(limiter, load_row(below, k), load_row(here, k), load_row(above, k)))


def test_a_choice_is_yes_where_the_test_is_above_zero_and_no_elsewhere() -> None:
    yes, no, out = np.arange(8.0), -np.arange(8.0) - 1, np.zeros(8)
    chosen(SPECIAL, yes, no, out)
    np.testing.assert_array_equal(out, np.where(np.nan_to_num(SPECIAL, nan=-1.0) > 0, yes, no))


def test_the_smaller_of_two_is_the_right_one_where_the_left_is_undefined() -> None:
    right, out = np.full(8, 1.0), np.zeros(8)
    smallest(SPECIAL, right, out)
    np.testing.assert_array_equal(out, [0.0, 0.0, 1.0, -2.5, 1.0, -math.inf, 1.0, 1e-300])
    smallest(right, SPECIAL, out)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(SPECIAL))


def test_magnitudes_lose_the_sign_and_nothing_else() -> None:
    out = np.zeros(9)
    sizes(SPECIAL, out)
    np.testing.assert_array_equal(out[1:], np.abs(SPECIAL))
    assert out[0] == 0.0


def test_rows_are_read_and_written_from_any_place() -> None:
    values, out = np.arange(9.0), np.full(12, -1.0)
    shifted(values, out)
    np.testing.assert_array_equal(out, [-1, -1, -1, *range(2, 10), -1])


@pytest.mark.parametrize("limiter", LIMITERS)
def test_slopes_are_those_of_the_tensor_form(limiter: str) -> None:
    random = np.random.default_rng(0)
    below, here, above = random.standard_normal((3, 400)).round(1)  # rounded, so that some neighbours are equal
    out = np.zeros(400)
    slopes(LIMITERS.index(limiter), below, here, above, out)
    expected = tensor_half_slope(limiter, *(torch.from_numpy(v) for v in (below, here, above)))  # type: ignore[arg-type]
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-15, atol=1e-16)
    if limiter != "central":
        assert (out[(here - below) * (above - here) <= 0] == 0).all()
