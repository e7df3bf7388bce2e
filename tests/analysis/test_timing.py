"""Interleaved timing, with contenders whose seconds are made up: nothing here is measured."""

import pytest

from fieldwright.analysis import Contender, measure
from fieldwright.analysis.timing import timed
from fieldwright.errors import InputError


def steady(name, seconds_per_sample, calls=None, *, least=1, most=100, overhead=0.0):
    def run(samples):
        if calls is not None:
            calls.append((name, samples))
        return overhead + seconds_per_sample * samples

    return Contender(name, run, least, most)


def test_seconds_per_sample_of_a_steady_contender():
    timing = measure([steady("a", 2e-3)])["a"]
    assert timing.seconds == pytest.approx(2e-3)
    assert timing.fastest == pytest.approx(timing.slowest)
    assert (timing.repeats, timing.samples) == (5, 100)


def test_the_median_ignores_one_slow_repeat_and_the_spread_shows_it():
    # warm-up, sizing, then three repeats of ten samples
    script = iter([9.0, 0.1, 1.0, 7.0, 2.0])
    timing = measure([Contender("a", lambda n: next(script), 10, 10)], repeats=3)["a"]
    assert timing.seconds == pytest.approx(0.2)
    assert (timing.fastest, timing.slowest) == pytest.approx((0.1, 0.7))


def test_repeats_are_interleaved():
    calls = []
    measure([steady("a", 1e-3, calls), steady("b", 1e-3, calls)], repeats=3)
    assert [name for name, _ in calls[4:]] == ["a", "b"] * 3


def test_a_call_takes_as_many_samples_as_fit_in_the_budget():
    calls = []
    measure([steady("a", 0.1, calls)], repeats=1, budget=1.0)
    assert calls[-1] == ("a", 10)


def test_a_batched_contender_is_not_charged_for_a_batch_it_cannot_fill():
    timing = measure([steady("a", 1e-4, least=16, most=64, overhead=0.01)], repeats=1)["a"]
    assert timing.samples == 64
    assert timing.seconds == pytest.approx(0.01 / 64 + 1e-4)


def test_least_is_cut_to_the_samples_that_there_are():
    timing = measure([steady("a", 1e-3, least=16, most=5)])["a"]
    assert timing.samples == 5


def test_what_exceeds_the_budget_is_measured_once():
    calls = []
    timing = measure([steady("slow", 3.0, calls), steady("quick", 1e-3, calls)], repeats=4)["slow"]
    assert timing.repeats == 1
    assert timing.seconds == pytest.approx(3.0)
    assert [name for name, _ in calls].count("slow") == 2


def test_names_must_differ():
    with pytest.raises(InputError, match="names must differ"):
        measure([steady("a", 1.0), steady("a", 1.0)])


def test_at_least_one_repeat():
    with pytest.raises(InputError, match="repeats = 0"):
        measure([steady("a", 1.0)], repeats=0)


def test_timed_calls_once_and_counts_up():
    calls = []
    assert timed(lambda: calls.append(1)) >= 0
    assert calls == [1]
