"""What a set would cost: the model's arithmetic, and a pilot that leaves nothing behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_problem import Halving

from fieldwright.cli import run_command
from fieldwright.datasets import generate, pilot
from fieldwright.datasets.cost import (
    HAND_OUT_SECONDS,
    RECORD_SECONDS,
    TASK_SECONDS,
    CostModel,
    estimate_cost,
)
from fieldwright.datasets.pilot import Costs
from fieldwright.datasets.plan import Plan
from fieldwright.errors import InputError, SolverError, StorageError


def model(samples: int = 1000, shard: int = 100, cost: float = 0.01, start: float = 3.0) -> CostModel:
    return CostModel(
        plan=Plan("darcy", {"resolution": 64}, 0, {"train": samples}, shard, "auto", 1e-8, method="multigrid"),
        alone=Costs(0.2 * cost, 0.5 * cost, 0.1 * cost),
        crowded=Costs(0.25 * cost, 0.65 * cost, 0.1 * cost),
        processes=2,
        start_seconds=start,
        bytes_per_sample=1e6,
        worker_bytes=10**9,
        pilot_samples=10,
        pilot_seconds=5.0,
        free_bytes=10**12,
    )


def test_one_worker_makes_all_shards_one_after_the_other():
    forecast = model().on(1)
    expected = 3.0 + 1000 * 0.008 + 10 * (TASK_SECONDS + RECORD_SECONDS)
    assert forecast.seconds == pytest.approx(expected, rel=1e-12)
    assert forecast.efficiency == pytest.approx(8 / expected)
    assert (forecast.busiest_shards, forecast.idle_workers) == (10, 0)
    assert forecast.bytes_per_second == pytest.approx(1e9 / expected)


def test_cost_of_a_sample_grows_from_one_busy_core_to_all():
    four = replace(model(), processes=4)
    assert [four.seconds_per_sample(w) for w in (1, 4, 100)] == pytest.approx([0.008, 0.010, 0.010])
    assert 0.008 < four.seconds_per_sample(2) < four.seconds_per_sample(3) < 0.010
    assert replace(model(), processes=1).seconds_per_sample(3) == pytest.approx(0.010)


def test_last_shard_and_workers_without_one_are_counted():
    # Ten shards on four workers are three rounds, on ten one, and on a hundred no fewer.
    rounds = [(model().on(w).seconds - 3.0) / (1.0 + TASK_SECONDS) for w in (4, 9, 10, 100)]
    assert rounds == pytest.approx([3, 2, 1, 1], abs=0.03)
    assert model().on(100).idle_workers == 90
    assert model().on(100).efficiency < 0.03


def test_handing_out_is_serial():
    # Ten thousand workers with one quick shard each: the last gets its shard when all others have theirs.
    quick = model(samples=10_000, shard=1, cost=1e-6, start=0.0)
    assert quick.on(10_000).seconds == pytest.approx(10_000 * (HAND_OUT_SECONDS + RECORD_SECONDS), rel=0.01)


@settings(max_examples=80, deadline=None)
@given(
    samples=st.integers(1, 3000),
    shard=st.integers(1, 300),
    workers=st.integers(1, 400),
    cost=st.floats(1e-3, 1.0),
)
def test_forecast_keeps_grahams_bound(samples: int, shard: int, workers: int, cost: float):
    found = replace(model(samples, shard, cost), processes=1)
    shards = -(-samples // shard)
    work, longest = samples * cost + shards * TASK_SECONDS, min(samples, shard) * cost + TASK_SECONDS
    overhead = shards * (HAND_OUT_SECONDS + RECORD_SECONDS)
    seconds = found.on(workers).seconds - 3.0
    assert max(work / workers, longest if samples >= shard else 0) <= seconds * (1 + 1e-9)
    assert seconds <= work / workers + longest + overhead + 1e-9
    assert found.on(workers).efficiency <= 1


def test_smaller_shards_are_recommended_where_workers_would_idle():
    few = model(samples=1000, shard=100)
    assert few.better_shard_samples(50) == 5
    assert any("data.shard_samples=5" in line for line in few.lines(50))
    assert not any("shard_samples=" in line for line in model(samples=100_000, start=0.0).lines(4))


def test_lines_say_all_that_a_person_needs():
    text = "\n".join(model(samples=1_000_000, shard=85, cost=0.1).lines(6400))
    for words in (
        "1,000,000 samples in 11,765 shards of 85",
        "by multigrid to 1e-08",
        "nothing is generated",
        "draw 20.0 + solve 50.0 + store 10.0 = 80.0 with one core busy",
        "CPU time: 27.8 hours",
        "6,400 workers",
        "disk: 931.3 GiB; here 931.3 GiB are free",
        "memory: about 953.7 MiB a worker; start-up 3.0 s",
    ):
        assert words in text
    assert "too little" in "\n".join(replace(model(), free_bytes=10).lines())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilot, "ROUND_SECONDS", 0.1)


def test_pilot_measures_what_a_set_takes_on_disk_and_leaves_nothing(tmp_path: Path, brief: None):
    settings = {"counts": {"train": 40, "test": 8}, "seed": 7, "shard_samples": 8}
    found = estimate_cost(Halving(16), tmp_path / "set", **settings)
    assert list(tmp_path.iterdir()) == []
    assert found.alone == found.crowded
    assert min(found.alone.draw, found.alone.solve, found.alone.store) > 0
    assert found.pilot_samples >= 8
    assert found.start_seconds > 0
    generate(Halving(16), tmp_path / "set", **settings)
    files = list((tmp_path / "set").glob("data/*/*.hdf5"))
    assert len(files) == len(found.shard_sizes)
    assert found.bytes == pytest.approx(sum(p.stat().st_size for p in files), rel=0.01)


def test_pilot_of_which_nothing_converges_or_that_cannot_write_is_one_sentence(tmp_path: Path, brief: None):
    asked = {"counts": {"train": 4}, "seed": 0, "shard_samples": 4}
    with pytest.raises(SolverError, match="none of the pilot's samples converged"):
        estimate_cost(Halving(stuck=list(range(10_000))), tmp_path / "set", **asked)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        estimate_cost(Halving(), tmp_path / "file" / "set", **asked)

    class Here(Halving):
        pass

    with pytest.raises(InputError, match="into a module of its own"):
        estimate_cost(Here(), tmp_path / "set", **asked)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_command_prints_the_plan_and_generates_nothing(in_tmp: Path, brief: None, capsys):
    asked = ["generate", "poisson", "samples=1000000", "problem.resolution=8", "data.solver=spectral", "--plan"]
    assert run_command([*asked, "--nodes", "100", "--cores", "4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["samples"], facts["workers"]["workers"], facts["here"]["workers"]) == (1_000_000, 400, 1)
    assert facts["cpu_hours"] == pytest.approx(1e6 * facts["seconds_per_sample"]["all cores busy"]["total"] / 3600)
    assert list(in_tmp.iterdir()) == []
