import hashlib
import os
import pickle

import pytest
import torch

from fieldwright.errors import StorageError
from fieldwright.progress import SILENT, Reporter
from fieldwright.training.checkpoint import DAMAGED, CheckpointStore


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def a_state(number: int) -> dict:
    return {"number": number, "weights": {"w": torch.arange(4.0) + number}, "rows": [{"loss": 0.1, "phase": "a"}]}


def test_what_is_read_is_what_was_written(store):
    path = store.write(a_state(7), phase=1, step=20)
    state, found = store.newest(SILENT)
    assert found == path
    assert state["rows"] == a_state(7)["rows"]
    assert torch.equal(state["weights"]["w"], a_state(7)["weights"]["w"])


def test_the_newest_two_stay_in_the_order_of_phases_and_steps(store):
    for phase, step in [(0, 9), (0, 10), (0, 1000), (1, 0), (1, 5)]:
        store.write(a_state(step), phase=phase, step=step)
    assert [p.name[:22] for p in store.paths()] == ["phase-01-step-00000000", "phase-01-step-00000005"]
    assert store.newest(SILENT)[0]["number"] == 5


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(store, damage, capsys):
    store.write(a_state(1), phase=0, step=1)
    newest = store.write(a_state(2), phase=0, step=2)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"truncated": content[:100], "flipped": content, "empty": b""}[damage])
    state, _ = store.newest(Reporter())
    assert state["number"] == 1
    assert "is damaged; falling back" in capsys.readouterr().err
    assert newest.with_name(newest.name + DAMAGED).exists()
    assert len(store.paths()) == 1


def test_without_checkpoints_there_is_nothing_to_go_on_from(store):
    assert store.newest(SILENT) is None


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(store, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    payload = pickle.dumps(Malicious())
    store.directory.mkdir()
    name = f"phase-00-step-00000001-{hashlib.sha256(payload).hexdigest()[:16]}.pt"
    (store.directory / name).write_bytes(payload)
    assert store.newest(SILENT) is None
    assert not (tmp_path / "harm").exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(store, monkeypatch):
    store.write(a_state(1), phase=0, step=1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fieldwright.atomic.os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        store.write(a_state(2), phase=0, step=2)
    monkeypatch.undo()
    assert store.newest(SILENT)[0]["number"] == 1
    assert len(list(store.directory.iterdir())) == 1


def test_what_a_killed_writer_left_is_cleared(store):
    store.write(a_state(1), phase=0, step=1)
    partial = store.directory / "phase-00-step-00000002-0123456789abcdef.pt.partial"
    partial.write_bytes(b"half")
    assert store.newest(SILENT)[0]["number"] == 1
    assert not partial.exists()


def test_expensive_checkpoints_are_written_less_often(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("fieldwright.training.checkpoint.time.perf_counter", lambda: clock[0])
    store = CheckpointStore(tmp_path, seconds=30.0)
    clock[0] = 29.9
    assert not store.due()
    clock[0] = 30.0
    assert store.due()
    monkeypatch.setattr(
        "fieldwright.training.checkpoint.write_atomically", lambda *_: clock.__setitem__(0, clock[0] + 2.0)
    )
    store.write(a_state(1), phase=0, step=1)
    assert store.spent == 2.0
    clock[0] = 32.0 + 399
    assert not store.due()
    clock[0] = 32.0 + 400
    assert store.due()


def test_zero_seconds_means_every_step(tmp_path):
    assert CheckpointStore(tmp_path, seconds=0).due()
