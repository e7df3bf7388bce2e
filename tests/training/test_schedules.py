import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldwright.training.schedules import END, SCHEDULES, START, constant, cosine, one_cycle

fractions = st.floats(0, 1)
warmups = st.floats(0, 0.9)


@pytest.mark.parametrize("schedule", SCHEDULES.values())
@given(fraction=fractions, warmup=warmups)
def test_a_factor_lies_between_its_end_and_the_peak(schedule, fraction, warmup):
    assert 0 <= schedule(fraction, warmup) <= 1


@pytest.mark.parametrize("schedule", SCHEDULES.values())
@given(warmup=st.floats(0.01, 0.9))
def test_every_schedule_starts_low_and_peaks_when_the_warm_up_ends(schedule, warmup):
    assert schedule(0.0, warmup) == pytest.approx(START)
    assert schedule(warmup, warmup) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", SCHEDULES.values())
def test_without_warm_up_a_schedule_starts_at_the_peak(schedule):
    assert schedule(0.0, 0.0) == 1.0


@pytest.mark.parametrize(("schedule", "end"), [(constant, 1.0), (cosine, 0.0), (one_cycle, END)])
def test_ends(schedule, end):
    assert schedule(1.0, 0.1) == pytest.approx(end, abs=1e-15)


@pytest.mark.parametrize("schedule", [cosine, one_cycle])
@given(a=fractions, b=fractions, warmup=warmups)
def test_annealing_schedules_rise_and_then_fall(schedule, a, b, warmup):
    low, high = sorted((a, b))
    if high <= warmup:
        assert schedule(low, warmup) <= schedule(high, warmup) + 1e-12
    if low >= warmup:
        assert schedule(low, warmup) >= schedule(high, warmup) - 1e-12


def test_cosine_is_half_a_cosine_behind_the_warm_up():
    for s in (0.25, 0.5, 0.75):
        assert cosine(0.2 + 0.8 * s, 0.2) == pytest.approx((1 + math.cos(math.pi * s)) / 2)


def test_one_cycle_agrees_with_pytorch():
    import torch

    steps, warmup = 1001, 0.3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False, div_factor=1 / START,
        final_div_factor=START / END,
    )  # fmt: skip
    for step in range(steps - 1):
        # PyTorch's peak lies at pct_start * total_steps - 1 steps, ours at the same fraction of the last step.
        peak = (warmup * steps - 1) / (steps - 1)
        assert one_cycle(step / (steps - 1), peak) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-9)
        optimizer.step()
        theirs.step()
