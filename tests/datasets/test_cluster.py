"""Shards made by workers are those of one process to the bit, whatever dies on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_problem import Halving

from fieldwright.datasets import Cluster, generate
from fieldwright.datasets import crew as crew_module
from fieldwright.datasets.cluster import connected
from fieldwright.datasets.crew import make_remotely
from fieldwright.datasets.order import Order
from fieldwright.datasets.plan import Plan, read_plan
from fieldwright.errors import ClusterError, InputError, StorageError
from fieldwright.progress import SILENT, Reporter

pytest.importorskip("distributed", reason="Dask comes with the extra 'cluster'")

COUNTS = {"train": 24, "valid": 3, "test": 4}
SETTINGS = {"counts": COUNTS, "seed": 7, "shard_samples": 4}
SHARDS = 6 + 1 + 1


@pytest.fixture(scope="module")
def client() -> Iterator:
    """A client of two worker processes in which a solve takes a tenth of a second."""
    os.environ["HALVING_SLEEP"] = "0.1"
    try:
        with connected(Cluster("local:2"), SILENT) as connection:
            connection.client.wait_for_workers(2)
            del os.environ["HALVING_SLEEP"]
            yield connection.client
    finally:
        os.environ.pop("HALVING_SLEEP", None)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The checksums of the dataset as this process makes it."""
    root = tmp_path_factory.mktemp("alone")
    generate(Halving(), root, **SETTINGS)
    return checksums(root)


def checksums(root: Path) -> dict[str, str]:
    files = [*sorted(root.glob("data/*/*.hdf5")), root / "stats.yaml"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def records(root: Path) -> list[Path]:
    return sorted(root.glob("data/*/*.json"))


def everywhere(client, function: Callable, *arguments: object) -> list:
    """What a function returns on both workers, once those that were killed are there again."""
    while True:
        client.wait_for_workers(2)
        with contextlib.suppress(OSError):  # one that was still counted had gone
            found = list(client.run(function, *arguments).values())
            if len(found) == 2:
                return found


@contextlib.contextmanager
def when(condition: Callable[[], bool], action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Do something, in a thread of its own, as soon as a condition holds."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        action()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def test_a_cluster_leaves_the_process_as_it_found_it():
    dask, before = pytest.importorskip("dask"), dict(os.environ)
    with connected(Cluster("local:1"), SILENT) as connection:
        connection.client.wait_for_workers(1)
        assert "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in before  # what Dask does
        assert dask.config.get("scheduler", None) is None
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert changed <= {"__DASK_PARENT_PID"}


def test_two_workers_make_the_bits_of_one_process(client, alone: dict[str, str], tmp_path: Path):
    summary = generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    assert checksums(tmp_path) == alone
    assert summary.samples == COUNTS
    assert summary.shards == SHARDS
    before = {path: path.stat().st_mtime_ns for path in records(tmp_path)}
    generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    assert before == {path: path.stat().st_mtime_ns for path in records(tmp_path)}


def test_workers_killed_again_and_again_change_no_bit_and_make_no_shard_twice(
    client, alone: dict[str, str], tmp_path: Path
):
    seen: dict[Path, int] = {}

    def kill_one() -> None:
        seen.update({path: path.stat().st_mtime_ns for path in records(tmp_path)})
        os.kill(everywhere(client, os.getpid)[0], signal.SIGKILL)

    with contextlib.ExitStack() as stack:
        for count in (1, 3, 5):
            stack.enter_context(when(lambda count=count: len(records(tmp_path)) >= count, kill_one))
        generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    assert checksums(tmp_path) == alone
    assert len(seen) >= 5
    assert {path: path.stat().st_mtime_ns for path in seen} == seen


def test_shard_that_kills_its_workers_is_named_and_does_not_stop_the_others(client, tmp_path: Path):
    problem = Halving(deadly=[9])
    with pytest.raises(
        ClusterError, match=r"4 workers died, .*over data/train/halving_00002\.hdf5 \(train samples 8 to"
    ):
        generate(problem, tmp_path, cluster=client, **SETTINGS)
    assert len(records(tmp_path)) == SHARDS - 1
    # This process can draw what kills others, and finishes.
    assert generate(problem, tmp_path, **SETTINGS).samples == COUNTS


def test_many_shards_that_kill_their_workers_are_no_matter_of_a_shard(client, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(crew_module, "SET_ASIDE", 1)
    with pytest.raises(ClusterError, match=r"4 workers died.*halving_0000[0-5]"):
        generate(Halving(deadly=[1, 5, 9, 13, 17, 21]), tmp_path, cluster=client, **SETTINGS)
    assert len(records(tmp_path)) < SHARDS - 1


def test_full_disk_of_a_worker_stops_in_one_sentence_and_the_next_call_goes_on(
    client, alone: dict[str, str], tmp_path: Path
):
    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    everywhere(client, limit, 4096)
    with pytest.raises(StorageError, match=r"cannot write .*halving_0000\d\.hdf5: File too large"):
        generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    everywhere(client, limit, resource.RLIM_INFINITY)
    assert records(tmp_path) == []
    assert not list(tmp_path.rglob("*.hdf5"))
    generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    assert checksums(tmp_path) == alone


def test_interruption_leaves_whole_shards_and_the_next_call_goes_on(client, alone: dict[str, str], tmp_path: Path):
    with (
        when(lambda: len(records(tmp_path)) >= 2, lambda: os.kill(os.getpid(), signal.SIGINT)),
        pytest.raises(KeyboardInterrupt),
    ):
        generate(Halving(), tmp_path, cluster=client, **SETTINGS)
    made = {path: path.stat().st_mtime_ns for path in records(tmp_path)}
    assert 2 <= len(made) < SHARDS
    generate(Halving(), tmp_path, **SETTINGS)
    assert checksums(tmp_path) == alone
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_samples_that_fail_on_a_worker_are_reported_as_here(client, tmp_path: Path):
    problem = Halving(stuck=[1, 6], broken=[3])
    summary = generate(problem, tmp_path / "there", cluster=client, **SETTINGS)
    assert summary.failed["train"] == [1, 3, 6]
    assert summary.failed == generate(problem, tmp_path / "here", **SETTINGS).failed
    assert checksums(tmp_path / "there") == checksums(tmp_path / "here")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler at an address, with one worker; both are processes of their own."""
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "HALVING_SLEEP": "0.1", "OMP_NUM_THREADS": "1"}

    def start(module: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(file), *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [start("dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")]
    processes.append(start("dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"))
    try:
        while not file.exists():
            assert processes[0].poll() is None
            time.sleep(0.02)
        yield json.loads(file.read_text())["address"], processes[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_scheduler_that_goes_away_loses_no_shard(scheduler, alone: dict[str, str], tmp_path: Path):
    address, process = scheduler
    root = tmp_path / "set"
    with (
        when(lambda: len(records(root)) >= 2, process.kill),
        pytest.raises(
            ClusterError, match=r"connection to the scheduler was lost; \d of 8 shards .* same command goes on"
        ),
    ):
        generate(Halving(), root, cluster=address, **SETTINGS)
    assert 2 <= len(records(root)) < SHARDS
    generate(Halving(), root, **SETTINGS)
    assert checksums(root) == alone


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tls://127.0.0.1:1"])
def test_scheduler_that_cannot_be_reached_is_one_sentence_and_nothing_is_written(tmp_path: Path, address: str):
    with pytest.raises(ClusterError, match=rf"no Dask scheduler answers at {address} within 0\.2 s|{address}: "):
        generate(Halving(), tmp_path / "set", cluster=Cluster(address, timeout=0.2), **SETTINGS)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("lokal", "did you mean 'local'"),
        ("local:two", "allowed are local"),
        ("local:0", "at least 1"),
        ("", "allowed are"),
        ("tcp://host", "tcp://HOST:PORT"),
        ("http://host:80", "allowed are"),
    ],
)
def test_word_that_is_no_cluster_is_refused(where: str, words: str):
    with pytest.raises(InputError, match=words):
        Cluster(where)


def test_options_are_for_slurm_and_time_is_positive():
    with pytest.raises(InputError, match="options are for slurm: cores"):
        Cluster("local:2", {"cores": "4"})
    with pytest.raises(InputError, match="timeout"):
        Cluster("local", timeout=0)
    assert (Cluster("local").number, Cluster("local:3").number) == (None, 3)
    assert [Cluster(w).kind for w in ("local", "slurm:4", "tcp://a:1")] == ["local", "slurm", "address"]


@pytest.mark.parametrize("module", ["distributed", "dask_jobqueue"])
def test_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ClusterError, match=r"pip install 'fieldwright\[cluster\]'"):
        generate(Halving(), tmp_path / "set", cluster="slurm:2", **SETTINGS)
    assert not (tmp_path / "set").exists()


def test_class_that_workers_cannot_import_is_refused(tmp_path: Path):
    class Here(Halving):
        pass

    with pytest.raises(InputError, match="into a module of its own"):
        generate(Here(), tmp_path / "set", cluster="local:1", **SETTINGS)


def test_worker_without_the_directory_or_with_another_one_says_so(dataset: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(crew_module, "_PATIENCE_SECONDS", 0.1)
    plan = read_plan(dataset)
    assert isinstance(plan, Plan)
    shard = plan.shards()[0]
    with pytest.raises(ClusterError, match=r"does not see .*elsewhere"):
        make_remotely(Order.of(plan, tmp_path / "elsewhere"), shard)
    with pytest.raises(ClusterError, match="another dataset"):
        make_remotely(Order.of(dataclasses.replace(plan, seed=8), dataset), shard)
    with pytest.raises(ClusterError, match=r"has fieldwright .*, which is not this 0\.0"):
        make_remotely(dataclasses.replace(Order.of(plan, dataset), version="0.0"), shard)
    # A shard that is there is not made again.
    before = (dataset / shard.file).stat().st_mtime_ns
    assert make_remotely(Order.of(plan, dataset), shard).samples == 4
    assert (dataset / shard.file).stat().st_mtime_ns == before


def test_kernels_are_compiled_by_one_worker_of_a_machine_and_not_at_all_where_they_are(dataset: Path, monkeypatch):
    plan = read_plan(dataset)
    assert isinstance(plan, Plan)
    shard = plan.shards()[1]
    compiled = []
    monkeypatch.setattr(crew_module, "make_chunk", lambda problem, plan, indices: compiled.append(indices))
    # Before the lock, after it, and where another worker was quicker.
    for needs, expected in (([True, True], 1), ([True, False], 0), ([False], 0)):
        answers = iter(needs)
        monkeypatch.setattr(crew_module, "needs_compilation", lambda _, answers=answers: next(answers))
        (dataset / shard.record).unlink()
        compiled.clear()
        make_remotely(Order.of(plan, dataset), shard)
        assert len(compiled) == expected
        assert all(len(indices) == 1 for indices in compiled)


def test_order_reads_back_and_finds_the_users_module(dataset: Path):
    plan = read_plan(dataset)
    assert isinstance(plan, Plan)
    order = Order.from_json(Order.of(plan, dataset).to_json())
    assert order == Order.of(plan, dataset)
    assert str(Path(__file__).parent) in order.folders
    assert order.problem() == Halving()


def test_waiting_for_workers_is_said_once(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(crew_module, "_PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(crew_module, "_LOOK_SECONDS", 0.02)

    class NoWorkers:
        status = "running"
        looks = 0

        def nthreads(self) -> dict:
            self.looks += 1
            if self.looks == 4:
                raise KeyboardInterrupt
            return {}

        def submit(self, *_, **__):
            class Future:
                def add_done_callback(self, _):
                    return None

            return Future()

        def cancel(self, *_, **__) -> None:
            return None

    with pytest.raises(KeyboardInterrupt):
        generate(Halving(), tmp_path, cluster=NoWorkers(), reporter=Reporter(), **SETTINGS)
    assert capsys.readouterr().err.count("waiting for one") == 1
