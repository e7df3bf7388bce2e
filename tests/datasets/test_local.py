"""Generation in this process: the same bits on any number of threads, in memory that the shard bounds."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tiny_problem import Halving

from decay_problem import Decay
from fieldwright.datasets import generate, local, settle
from fieldwright.errors import StorageError
from fieldwright.problems import Darcy, Problem

COUNTS = {"train": 20, "test": 3}


@pytest.fixture
def threads() -> Iterator[None]:
    """Torch's number of threads is afterwards what it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def made(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in [*sorted(root.glob("data/*/*.hdf5")), root / "stats.yaml"]
    }


@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        (Darcy(resolution=16), "multigrid"),
        (Darcy(resolution=16), "spectral"),
        (Darcy(resolution=12), "direct"),
        (Decay(resolution=4, frames=2), "16 steps"),
    ],
    ids=["multigrid", "spectral", "direct", "in time"],
)
def test_bits_are_the_same_on_any_number_of_threads(
    tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch, problem: Problem, solver: str
):
    # Chunks of three samples, so that each shard has several, the last one smaller.
    monkeypatch.setattr(settle, "chunk_samples", lambda *_: 3)
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        generate(problem, tmp_path / str(count), counts=COUNTS, seed=3, solver=solver, shard_samples=8)
        assert torch.get_num_threads() == count
        found.append(made(tmp_path / str(count)))
    assert found[0] == found[1] == found[2]


def test_bits_are_the_same_in_a_process_that_has_one_thread_only(tmp_path: Path):
    # Workers are such processes. What a problem computes once and keeps must not depend on who computed it first.
    script = """
import sys
from fieldwright.datasets import generate
from fieldwright.problems import Heat, NavierStokes, Poisson

for problem in (Poisson(resolution=32), Heat(resolution=32), NavierStokes(resolution=32, frames=2)):
    generate(problem, f"{sys.argv[1]}/{type(problem).__name__}", counts={"train": 4, "test": 1}, seed=3)
"""
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", script, str(tmp_path / threads)], env=environment, check=True)
    for name in ("Poisson", "Heat", "NavierStokes"):
        assert made(tmp_path / "1" / name) == made(tmp_path / "2" / name)


def test_samples_that_fail_in_one_chunk_or_fill_one_leave_the_others(tmp_path: Path, threads: None, monkeypatch):
    monkeypatch.setattr(settle, "chunk_samples", lambda *_: 3)
    problem = Halving(stuck=[4], broken=[6, 7, 8])
    for count in (1, 3):
        torch.set_num_threads(count)
        summary = generate(problem, tmp_path / str(count), counts=COUNTS, seed=3, shard_samples=10)
        assert summary.failed["train"] == [4, 6, 7, 8]
        assert summary.samples["train"] == COUNTS["train"] - 4
    assert made(tmp_path / "1") == made(tmp_path / "3")


class Seeding(Halving):
    """Draws from Python's global generator, which it seeds per sample, with a pause in between."""

    def sample(self, indices: Sequence[int], seed: int) -> torch.Tensor:
        fields = super().sample(indices, seed)
        for place, index in enumerate(indices):
            random.seed(1000 * seed + index)
            time.sleep(0.002)
            fields[place, 0, 1:] = random.random()
        return fields


def test_problem_of_a_user_is_drawn_by_one_thread_at_a_time(tmp_path: Path, threads: None, monkeypatch):
    monkeypatch.setattr(settle, "chunk_samples", lambda *_: 3)
    for count in (1, 4):
        torch.set_num_threads(count)
        generate(Seeding(), tmp_path / str(count), counts=COUNTS, seed=3, shard_samples=8)
    assert made(tmp_path / "1") == made(tmp_path / "4")


@pytest.mark.parametrize("count", [1, 3])
def test_disk_that_fills_up_keeps_whole_shards_and_the_next_call_goes_on(tmp_path: Path, threads: None, count: int):
    generate(Halving(), tmp_path / "whole", counts=COUNTS, seed=3, shard_samples=4)
    torch.set_num_threads(count)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The plan and the records are smaller than this, shards of more than one sample are not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            generate(Halving(), tmp_path / "full", counts=COUNTS, seed=3, shard_samples=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "full").glob("data/*/*"))
    generate(Halving(), tmp_path / "full", counts=COUNTS, seed=3, shard_samples=4)
    assert made(tmp_path / "full") == made(tmp_path / "whole")


@pytest.mark.parametrize("count", [1, 3])
def test_ctrl_c_stops_between_chunks_and_the_next_call_goes_on(
    tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch, count: int
):
    generate(Halving(), tmp_path / "whole", counts=COUNTS, seed=3, shard_samples=2)
    torch.set_num_threads(count)
    monkeypatch.setenv("HALVING_SLEEP", "0.05")
    root = tmp_path / "stopped"

    def stop() -> None:
        while len(list(root.glob("data/*/*.json"))) < 2:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=stop)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        generate(Halving(), root, counts=COUNTS, seed=3, shard_samples=2)
    watcher.join()
    assert torch.get_num_threads() == count
    assert 2 <= len(list(root.glob("data/*/*.json"))) < 12
    monkeypatch.delenv("HALVING_SLEEP")
    generate(Halving(), root, counts=COUNTS, seed=3, shard_samples=2)
    assert made(root) == made(tmp_path / "whole")


CHILD = """
import resource, sys
from tiny_problem import Halving
from fieldwright.datasets import generate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

settings = {"seed": 7, "shard_samples": 4}
generate(Halving(256), sys.argv[1] + "/small", counts={"train": 12}, **settings)
before = peak()
generate(Halving(256), sys.argv[1] + "/large", counts={"train": 100}, **settings)
print(before, peak() - before)
"""


def test_memory_is_bounded_by_the_shard_and_not_the_set(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    _, growth = map(int, done.stdout.split())
    size = sum(p.stat().st_size for p in (tmp_path / "large").rglob("*.hdf5"))
    assert size > 70 * 2**20
    assert growth < 20 * 2**20


def test_threads_are_as_many_as_memory_holds_chunks(threads: None, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(8)
    problem = Darcy(resolution=64)
    plan = settle.asked_plan(
        problem, counts={"train": 500}, seed=0, solver="auto", rtol=None, shard_samples=250, device="cpu"
    )
    plan = settle.replace(plan, chunk_samples=settle.chunk_samples(problem, "multigrid", "cpu", 250))
    chunk = 400 * plan.chunk_samples * 64**2
    for free, expected in ((100 * chunk, 8), (7 * chunk, 3), (chunk // 10, 1)):
        monkeypatch.setattr(local, "_available_memory", lambda free=free, **_: free)
        assert local.chunk_threads(problem, plan) == expected
