import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fieldwright.training import Carried, Phase


def test_progress_is_the_largest_share_of_any_limit():
    phase = Phase(steps=100, epochs=10, seconds=50)
    assert phase.fraction(steps=20, epochs=1, seconds=5) == 0.2
    assert phase.fraction(steps=20, epochs=3, seconds=5) == 0.3
    assert phase.fraction(steps=20, epochs=3, seconds=25) == 0.5
    assert phase.fraction(steps=20, epochs=3, seconds=80) == 1.0


def test_limits_that_are_not_set_do_not_count():
    assert Phase(steps=10).fraction(steps=1, epochs=1e9, seconds=1e9) == 0.1


@given(samples=st.integers(1, 500), batch=st.integers(1, 64), epochs=st.integers(1, 9), steps=st.integers(1, 300))
def test_expected_steps_are_the_first_at_which_the_budget_is_used(samples, batch, epochs, steps):
    phase = Phase(epochs=epochs, steps=steps, batch_size=batch)
    count = phase.expected_steps(samples)

    def used(step):
        return phase.fraction(steps=step, epochs=step * batch / samples, seconds=0.0)

    assert used(count) == 1.0
    assert used(count - 1) < 1.0


def test_time_may_end_a_phase_anywhere():
    assert Phase(steps=10, seconds=1.0).expected_steps(5) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no budget"),
        ({"steps": 0}, "greater than 0"),
        ({"steps": 1, "objective": "l7"}, "allowed are l2, h1"),
        ({"steps": 1, "optimizer": "adamv"}, "allowed are adamw"),
        ({"steps": 1, "schedule": "step"}, "allowed are one-cycle"),
        ({"steps": 1, "ema": 1.0}, "less than 1"),
        ({"steps": 1, "warmup": 1.0}, "less than 1"),
        ({"steps": 1, "precision": "16"}, "bf16-mixed"),
        ({"steps": 1, "learning_rate": float("nan")}, "finite"),
        ({"steps": 1, "momentum": 0.9}, "Extra inputs"),
    ],
)
def test_what_a_phase_does_not_take_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Phase(**settings)


def test_a_phase_reads_from_json_and_names_its_code():
    phase = Phase.model_validate_json('{"steps": 5, "objective": {"l2": 1, "h1": 0.5}}', strict=True)
    assert phase.objective == {"l2": 1, "h1": 0.5}

    class Energy:
        names = ("energy",)

        def __call__(self, operator, batch):
            return {"energy": torch.zeros(())}

    def grow(carried: Carried) -> Carried:
        return carried

    dumped = Phase(steps=1, objective=Energy(), prepare=grow).model_dump(mode="json")
    assert dumped["objective"].endswith("Energy")
    assert dumped["prepare"].endswith("grow")
