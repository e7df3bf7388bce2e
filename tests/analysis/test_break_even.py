"""When a surrogate has paid for itself."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.analysis import break_even
from fieldwright.errors import InputError

seconds = st.floats(1e-6, 1e4)


def test_a_hundred_seconds_saved_by_tenths_take_a_thousand_samples():
    assert break_even(preparation_seconds=100, surrogate_seconds=0.1, solver_seconds=0.2) == 1000


@pytest.mark.parametrize("solver", [0.05, 0.1])
def test_never_when_the_solver_is_as_fast(solver):
    assert break_even(preparation_seconds=100, surrogate_seconds=0.1, solver_seconds=solver) is None


def test_what_costs_nothing_pays_at_once():
    assert break_even(preparation_seconds=0, surrogate_seconds=0.1, solver_seconds=0.2) == 0


@settings(deadline=None, max_examples=100)
@given(seconds, seconds, seconds)
def test_it_is_the_first_count_at_which_the_surrogate_is_no_dearer(preparation, surrogate, solver):
    count = break_even(preparation_seconds=preparation, surrogate_seconds=surrogate, solver_seconds=solver)
    if count is None:
        assert solver <= surrogate
        return
    gain = solver - surrogate
    assert count * gain >= preparation * (1 - 1e-9)
    assert (count - 1) * gain <= preparation * (1 + 1e-9)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("which", ["preparation_seconds", "surrogate_seconds", "solver_seconds"])
def test_times_that_cannot_be_are_named(which, bad):
    times = {"preparation_seconds": 1.0, "surrogate_seconds": 1.0, "solver_seconds": 2.0, which: bad}
    with pytest.raises(InputError, match=which):
        break_even(**times)
