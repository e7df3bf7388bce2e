import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training as tiny
import torch

from fieldwright.progress import Reporter
from fieldwright.training import TrainingStopped
from fieldwright.training.metrics import CLOCK_COLUMNS

FIRST = 30  # steps of the first phase
ALL = 52


def outcome(directory: Path) -> tuple[dict, list[dict[str, str]]]:
    """The last checkpoint and the metrics, without what the clock says."""
    newest = max((directory / "checkpoints").glob("*.pt"))
    state = torch.load(newest, weights_only=True)
    for counters in (state["position"], *state["rows"]):
        for name in ("phase_seconds", *CLOCK_COLUMNS):
            counters.pop(name, None)
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        table = [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in csv.DictReader(file)]
    return state, table


def assert_same(a, b) -> None:
    """Equality in all bits of nested states."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    tiny.tiny_training(directory)
    return outcome(directory)


class PowerCut(Exception):
    pass


class Interrupted:
    """Training samples that fail when the batch of one step is asked for."""

    def __init__(self, samples, step):
        self.samples, self.left = samples, step

    def __len__(self):
        return len(self.samples)

    def batch(self, indices):
        # A batch of the second phase comes in two pieces, of three samples each.
        if len(indices) in (3, 6):
            if self.left <= 0:
                raise PowerCut
            self.left -= len(indices) / 6
        return self.samples.batch(indices)


def cut_at(directory: Path, step: int, **settings) -> None:
    data = tiny.tiny_data()
    with pytest.raises(PowerCut):
        tiny.tiny_training(directory, data=replace(data, train=Interrupted(data.train_samples, step)), **settings)


@pytest.mark.parametrize("step", [1, 17, FIRST - 1, FIRST, FIRST + 1, ALL - 1])
def test_a_resumed_training_ends_in_the_same_bits(tmp_path, uninterrupted, step):
    cut_at(tmp_path, step, checkpoint_seconds=0)
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


def test_rows_after_the_checkpoint_are_dropped(tmp_path, uninterrupted):
    cut_at(tmp_path, FIRST + 9)  # the only checkpoint is that of the phases' boundary
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 1 + FIRST + 9
    cut_at(tmp_path, 2)
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 1 + FIRST + 2
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


def test_interrupted_again_and_again(tmp_path, uninterrupted):
    for steps in (3, 1, 20, 5, 4, 3):
        cut_at(tmp_path, steps, checkpoint_seconds=0)
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


def test_a_phase_that_was_cut_off_after_its_last_step_ends_as_it_would_have(tmp_path, uninterrupted):
    cut_at(tmp_path, FIRST, checkpoint_seconds=0)
    last_step, boundary = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert last_step.name.startswith(f"phase-00-step-{FIRST:08d}")
    boundary.unlink()
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_time_and_no_bits(tmp_path, uninterrupted, damaged):
    cut_at(tmp_path, 12, checkpoint_seconds=0)
    for path in sorted((tmp_path / "checkpoints").glob("*.pt"))[-damaged:]:
        path.write_bytes(path.read_bytes()[:-50])
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


def test_a_finished_training_is_not_done_again(tmp_path, uninterrupted):
    first = tiny.tiny_training(tmp_path)
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "checkpoints").iterdir())
    again = tiny.tiny_training(tmp_path)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "checkpoints").iterdir()) == before
    assert again.to_dict() == {**first.to_dict(), "checkpoint_seconds": 0.0}
    assert_same(outcome(tmp_path), uninterrupted)
    assert_same(dict(again.operator.state_dict()), dict(first.operator.state_dict()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_says_so(tmp_path, uninterrupted, number):
    data = tiny.tiny_data()

    class Signalling(Interrupted):
        def batch(self, indices):
            try:
                return super().batch(indices)
            except PowerCut:
                self.left = float("inf")
                signal.raise_signal(number)
                return super().batch(indices)

    with pytest.raises(TrainingStopped, match="stopped on request at step 8"):
        tiny.tiny_training(tmp_path, data=replace(data, train=Signalling(data.train_samples, 7)))
    assert [p.name[:22] for p in (tmp_path / "checkpoints").iterdir()] == ["phase-00-step-00000008"]
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)


def test_a_resumed_training_says_where_it_goes_on(tmp_path, capsys):
    cut_at(tmp_path, 5, checkpoint_seconds=0)
    tiny.train(
        tiny.tiny_operator(), tiny.PHASES, tiny.tiny_data(), directory=tmp_path, seed=3,
        symmetries=tiny.SYMMETRIES, reporter=Reporter(),
    )  # fmt: skip
    assert "training goes on at step 5, in phase 'first'" in capsys.readouterr().err


def test_a_killed_process_is_resumed_in_the_same_bits(tmp_path, uninterrupted):
    script = Path(tiny.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, script, tmp_path, "0.1", "0"], env=environment)
    try:
        while not list(tmp_path.glob("checkpoints/*.pt")):
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(random.Random(os.getpid()).uniform(0.0, 0.3))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    tiny.tiny_training(tmp_path)
    assert_same(outcome(tmp_path), uninterrupted)
