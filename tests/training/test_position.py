import io

import pytest
import torch
from torch import nn

from fieldwright.training.averaging import WeightAverage
from fieldwright.training.clock import Clock
from fieldwright.training.guard import DEFERRED, FiniteGuard
from fieldwright.training.position import Position, TrainingState
from fieldwright.training.prediction import ValidationErrors


def test_the_best_validation_is_the_one_with_the_least_l2_error():
    position = Position(total_steps=1)
    for step, error in enumerate([0.5, 0.2, 0.3], start=1):
        position.step = position.total_steps = step
        position.validated(ValidationErrors(error, 1.0))
    assert position.best == ValidationErrors(0.2, 1.0)
    assert position.best_step == 2
    assert position.last == ValidationErrors(0.3, 1.0)
    assert position.validated_step == 3


def test_a_phase_begins_with_counters_at_zero_and_totals_kept():
    position = Position(step=5, total_steps=9, phase_seconds=2.0, seconds=7.0, loss_sums=[1.0], summed_steps=2)
    position.next_phase()
    assert position == Position(phase=1, total_steps=9, seconds=7.0)


def test_a_state_survives_its_file():
    layer = nn.Linear(2, 1)
    position = Position(phase=1, step=3, loss_sums=[0.25], last=ValidationErrors(0.1, 0.2))
    state = TrainingState(
        "{}",
        position,
        layer.state_dict(),
        {"weight": {"step": torch.ones(())}},
        WeightAverage.of(layer, 0.9),
        [{"step": 1}],
    )
    file = io.BytesIO()
    torch.save(state.to_dict(), file)
    file.seek(0)
    read = TrainingState.from_dict(torch.load(file, weights_only=True))
    assert (read.identity, read.position, read.rows) == (state.identity, state.position, state.rows)
    assert read.average is not None
    assert torch.equal(read.average.weights["weight"], layer.weight)


def test_the_clock_counts_on_from_earlier_runs_and_phases(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fieldwright.training.clock.time.perf_counter", lambda: now[0])
    position = Position(phase=1, phase_seconds=4.0, seconds=10.0)  # the first phase took 6 s
    clock = Clock(position)
    now[0] += 2.5
    clock.read(position)
    assert (position.phase_seconds, position.seconds) == (6.5, 12.5)
    assert clock.since_last_row(position) == 2.5
    clock.set(position, 7.0)
    assert clock.since_last_row(position) == 0.5
    assert position.seconds == 13.0


def test_the_clock_asks_for_a_few_pictures_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fieldwright.training.clock.time.perf_counter", lambda: now[0])
    clock = Clock(Position())
    drawn = 0
    for _ in range(1000):
        now[0] += 0.01
        drawn += clock.redraw_due()
    assert 40 <= drawn <= 50


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_guard_remembers_the_first_step(bad):
    guard = FiniteGuard(torch.device("cpu"))
    for step, value in enumerate([1.0, 2.0, 3.0, bad, 1.0, bad]):
        guard.watch(step, torch.tensor([0.5, value]), torch.tensor(1.0))
        assert guard.first_bad_step() == (3 if step >= 3 else None)


def test_the_guard_watches_every_number_and_waits_only_for_other_devices():
    guard = FiniteGuard(torch.device("cpu"))
    guard.watch(0, torch.ones(2), torch.tensor(float("nan")))
    assert guard.first_bad_step() == 0
    assert guard.every == 1
    assert FiniteGuard(torch.device("meta")).every == DEFERRED
