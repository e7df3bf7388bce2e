"""Errors per sample and their summary."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from fieldwright.analysis import field_errors, representatives, summarise
from fieldwright.errors import InputError
from fieldwright.grids import Grid

finite = st.floats(0, 1e6)


def test_summary_of_one_to_a_hundred():
    summary = summarise(torch.arange(1.0, 101.0))
    # Linear interpolation: rank q (n - 1) of the sorted values.
    assert summary.median == pytest.approx(50.5)
    assert summary.p95 == pytest.approx(1 + 0.95 * 99)
    assert summary.worst == 100
    assert summary.count == 100


@settings(deadline=None, max_examples=50)
@given(st.lists(finite, min_size=1, max_size=40), st.randoms())
def test_summary_is_ordered_and_knows_no_order_of_samples(values, random):
    summary = summarise(values)
    assert min(values) <= summary.median <= summary.p95 <= summary.worst == max(values)
    random.shuffle(values)
    assert summarise(values) == summary


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_summary_refuses_what_is_not_finite_and_names_the_sample(bad):
    with pytest.raises(InputError, match="sample 2"):
        summarise([1.0, 2.0, bad])


def test_summary_of_nothing_is_an_error():
    with pytest.raises(InputError, match="no samples"):
        summarise([])


def test_relative_error_of_a_scaled_field_is_the_scale():
    grid = Grid((8, 8))
    truth = torch.rand(5, 2, 8, 8, dtype=torch.float64) + 0.1
    scales = torch.tensor([0.0, 0.01, 0.5, 1.0, 2.0], dtype=torch.float64)
    errors = field_errors(truth * (1 + scales.reshape(-1, 1, 1, 1)), truth, grid)
    torch.testing.assert_close(errors.l2, scales)
    torch.testing.assert_close(errors.h1, scales)


def test_h1_weighs_a_rough_error_more_than_l2_does():
    grid = Grid((64,))
    x = grid.axis(0)
    truth = torch.sin(math.pi * x)[None, None]
    errors = field_errors(truth + 0.01 * torch.sin(16 * math.pi * x), truth, grid)
    # ‖sin kπx‖²_H1 = (1 + k²π²)/2, so the ratio of H1 to L2 error is √((1 + 256 π²) / (1 + π²)).
    expected = math.sqrt((1 + 256 * math.pi**2) / (1 + math.pi**2))
    assert float(errors.h1 / errors.l2) == pytest.approx(expected, rel=0.06)


def test_errors_of_single_precision_fields_are_computed_in_double():
    truth = torch.ones(1, 1, 4)
    assert field_errors(truth, truth, Grid((4,))).l2.dtype == torch.float64


def test_shapes_must_agree():
    # The checker that tests run under speaks first; without it the function does.
    with pytest.raises((InputError, TypeCheckError)):
        field_errors(torch.ones(2, 1, 4), torch.ones(1, 1, 4), Grid((4,)))


@settings(deadline=None, max_examples=50)
@given(st.lists(finite, min_size=1, max_size=30, unique=True))
def test_representatives_are_least_middle_and_largest(values):
    chosen = representatives(torch.tensor(values, dtype=torch.float64))
    ordered = np.sort(values)
    assert values[chosen["best"]] == ordered[0]
    assert values[chosen["worst"]] == ordered[-1]
    assert values[chosen["median"]] == ordered[(len(values) - 1) // 2]
