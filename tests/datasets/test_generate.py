"""Generation is resumable to the bit, keeps splits apart, and never stores what did not converge."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
from tiny_problem import Halving

from decay_problem import Decay
from fieldwright.datasets import FieldDataset, generate
from fieldwright.datasets.plan import SPLIT_ORIGINS, Plan, read_plan
from fieldwright.datasets.settle import asked_plan, chunk_samples
from fieldwright.errors import DataError, InputError, SolverError, StorageError
from fieldwright.problems import Darcy, Problem
from fieldwright.solvers.lanes import LANES

COUNTS = {"train": 10, "valid": 3, "test": 4}

CHILD = """
import sys
from tiny_problem import Halving
from fieldwright.datasets import generate
generate(Halving(), sys.argv[1], counts={"train": 10, "valid": 3, "test": 4}, seed=7, shard_samples=4)
"""


def start_child(root: Path, *, sleep: float) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "HALVING_SLEEP": str(sleep)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root)], env=environment, stderr=subprocess.PIPE, text=True
    )


def shard_bytes(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in [*sorted(root.glob("data/*/*.hdf5")), root / "stats.yaml"]
    }


def test_summary_says_what_was_made(tmp_path: Path):
    summary = generate(Halving(), tmp_path, counts=COUNTS, seed=7, shard_samples=4)
    assert summary.samples == COUNTS
    assert summary.shards == 3 + 1 + 1
    assert summary.solver == "halving"
    assert summary.solve_seconds == 0.25 * 5
    assert summary.failed == {"train": [], "valid": [], "test": []}
    assert summary.worst_residual == 1e-12


def test_stored_samples_are_those_of_the_problem_and_splits_share_none(dataset: Path):
    problem, seen = Halving(), set()
    for split, count in COUNTS.items():
        data = FieldDataset(dataset, split)
        indices = range(SPLIT_ORIGINS[split], SPLIT_ORIGINS[split] + count)
        inputs, outputs = data.arrays()
        assert torch.equal(inputs, problem.sample(indices, 7).float())
        assert torch.equal(outputs, problem.sample(indices, 7).float() / 2)
        seen |= {sample.numpy().tobytes() for sample in inputs[:, :, 1:]}
    assert len(seen) == sum(COUNTS.values())


@pytest.mark.parametrize("made", [0, 3])
def test_killed_generation_goes_on_to_the_same_bits(dataset: Path, tmp_path: Path, made: int):
    """SIGKILL once ``made`` shards are there, run again, compare all shards and the statistics."""
    root = tmp_path / "killed"
    child = start_child(root, sleep=0.15)
    while sum(1 for _ in root.glob("data/*/*.json")) < made or not (root / "dataset.json").exists():
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    finished = {path: path.stat().st_mtime_ns for path in root.glob("data/*/*.json")}
    assert made <= len(finished) < 5
    # Whatever the loader's pattern matches can be read to its end.
    for path in root.glob("data/*/*.hdf5"):
        with h5py.File(path) as file:
            assert np.isfinite(file["t0_fields/u"][:]).all()
    generate(Halving(), root, counts=COUNTS, seed=7, shard_samples=4)
    assert shard_bytes(root) == shard_bytes(dataset)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(root.rglob("*.partial"))


def test_second_call_does_nothing_and_a_deleted_shard_comes_back_to_the_bit(dataset: Path):
    before = shard_bytes(dataset)
    times = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.hdf5")}
    summary = generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)
    assert summary.solve_seconds == 0.25 * 5
    assert times == {path: path.stat().st_mtime_ns for path in dataset.rglob("*.hdf5")}
    (dataset / "data" / "train" / "halving_00001.hdf5").unlink()
    generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)
    assert shard_bytes(dataset) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"problem": Halving(resolution=9)}, "settings.resolution = 8, not 9"),
        ({"seed": 8}, "seed = 7, not 8"),
        ({"counts": {**COUNTS, "test": 5}}, "counts.test = 4, not 5"),
        ({"rtol": 1e-6}, "rtol = 1e-08, not 1e-06"),
        ({"shard_samples": 5}, "shard_samples = 4, not 5"),
        ({"solver": "scipy"}, "solver = 'auto', not 'scipy'"),
    ],
)
def test_other_settings_for_the_same_directory_are_refused_by_name(dataset: Path, changes: dict, named: str):
    call = {"problem": Halving(), "counts": COUNTS, "seed": 7, "shard_samples": 4, **changes}
    before = shard_bytes(dataset)
    with pytest.raises(DataError) as caught:
        generate(call.pop("problem"), dataset, **call)
    assert named in str(caught.value)
    assert shard_bytes(dataset) == before


def test_samples_that_fail_are_reported_by_index_and_not_stored(tmp_path: Path):
    problem = Halving(stuck=[1, 6], broken=[3])
    summary = generate(problem, tmp_path, counts={"train": 8}, seed=0, shard_samples=4)
    assert summary.failed == {"train": [1, 3, 6]}
    assert summary.samples == {"train": 5}
    kept = FieldDataset(tmp_path, "train").inputs[:]
    np.testing.assert_array_equal(kept, problem.sample([0, 2, 4, 5, 7], 0).float())
    with h5py.File(tmp_path / "data" / "train" / "halving_00000.hdf5") as file:
        assert file["fieldwright/index"][:].tolist() == [0, 2]
        assert file["fieldwright/iterations"][:].tolist() == [3, 3]
        assert (file["fieldwright/residual"][:] <= file["fieldwright"].attrs["rtol"]).all()
        assert (file["fieldwright"].attrs["seed"], file["fieldwright"].attrs["solver"]) == (0, "halving")


def test_shard_of_which_no_sample_converged_has_no_file_and_is_not_tried_again(tmp_path: Path):
    problem = Halving(stuck=[4, 5, 6, 7])
    summary = generate(problem, tmp_path, counts={"train": 10}, seed=0, shard_samples=4)
    assert (summary.shards, summary.samples, summary.failed) == (2, {"train": 6}, {"train": [4, 5, 6, 7]})
    assert len(FieldDataset(tmp_path, "train")) == 6
    assert generate(problem, tmp_path, counts={"train": 10}, seed=0, shard_samples=4).samples == {"train": 6}


def test_nothing_converged_is_an_error(tmp_path: Path):
    with pytest.raises(SolverError, match="none of the train samples converged"):
        generate(Halving(stuck=[0, 1]), tmp_path, counts={"train": 2}, seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": {"training": 3}}, "no split 'training'"),
        ({"counts": {"train": -1}}, "-1 samples"),
        ({"counts": {"train": 0}}, "no samples asked for"),
        ({"shard_samples": 0}, "shard_samples = 0"),
        ({"rtol": 0.0}, "rtol = 0.0"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path: Path, changes: dict, words: str):
    with pytest.raises(InputError, match=words):
        generate(Halving(), tmp_path / "new", **{"counts": {"train": 2}, "seed": 0, **changes})
    assert not (tmp_path / "new").exists()


def test_two_generators_do_not_share_a_directory(tmp_path: Path):
    class Reentrant(Halving):
        def sample(self, indices: Sequence[int], seed: int) -> torch.Tensor:
            with pytest.raises(StorageError, match="another process is at work"):
                generate(self, tmp_path, counts={"train": 2}, seed=7)
            return super().sample(indices, seed)

    assert generate(Reentrant(), tmp_path, counts={"train": 2}, seed=7).samples == {"train": 2}


def test_tiny_field_is_stored_in_a_unit_that_the_wells_normalisers_can_take(tmp_path: Path):
    problem = Halving(size=1e-6)
    generate(problem, tmp_path, counts={"train": 6}, seed=0)
    with h5py.File(next(tmp_path.glob("data/train/*.hdf5"))) as file:
        stored = file["t0_fields/u"]
        scale = stored.attrs["fieldwright_scale"]
        assert scale == 2.0 ** round(np.log2(scale))
        assert 0.5 < np.sqrt(np.mean(stored[:, 1] ** 2)) < 2
    outputs = FieldDataset(tmp_path, "train").arrays()[1]
    assert torch.equal(outputs, (problem.sample(range(6), 0) * 1e-6 / 2).float())


def test_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        generate(Halving(), tmp_path / "file" / "set", counts={"train": 1}, seed=0)


def test_damaged_plan_or_record_is_a_data_error(dataset: Path):
    record = dataset / "data" / "train" / "halving_00000.json"
    sound = record.read_text()
    for text in ("", "{}", "[1]", sound[:-20]):
        record.write_text(text)
        with pytest.raises(DataError, match=r"halving_00000\.json: is damaged"):
            generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)
    record.write_text(sound)
    for text in ("", "[]", json.dumps({"format": 99})):
        (dataset / "dataset.json").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.json"):
            FieldDataset(dataset, "train")


def test_darcy_end_to_end_meets_its_tolerance(tmp_path: Path):
    problem = Darcy(resolution=16)
    summary = generate(problem, tmp_path, counts={"train": 6, "test": 2}, seed=3, rtol=1e-8, shard_samples=4)
    assert summary.samples == {"train": 6, "test": 2}
    assert summary.worst_residual <= 1e-8
    data = FieldDataset(tmp_path, "train")
    inputs, outputs = data.arrays()
    assert (data.grid, data.input_names, data.output_names) == (problem.grid, ["permeability"], ["pressure"])
    assert torch.equal(inputs, problem.sample(range(6), 3).float())
    # Rounding to float32 is all that stands between the stored field and the solver's.
    exact = torch.linalg.solve(*dense(problem, inputs.double())).reshape(outputs[:, 0].shape)
    torch.testing.assert_close(outputs[:, 0].double(), exact, rtol=1e-6, atol=1e-9)


def dense(problem: Darcy, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    system = problem.system(inputs)
    matrices = np.stack([system.to_csr(sample).toarray() for sample in range(system.batch)])
    return torch.from_numpy(matrices), system.rhs.flatten(1)


def plan_of(problem: Problem, **changes) -> Plan:
    asked = {"counts": {"train": 5}, "seed": 0, "solver": "auto", "rtol": None, "shard_samples": 256, "device": "cpu"}
    return asked_plan(problem, **{**asked, **changes})


def test_shard_stays_below_256_mebibytes():
    assert plan_of(Halving(256, 3)).shard_samples == 1
    assert plan_of(Halving(64, 3)).shard_samples == 2**28 // (3 * 4 * 64**3)


def test_solver_asked_for_by_name_is_the_one_that_is_pinned(tmp_path: Path):
    generate(Darcy(resolution=8), tmp_path, counts={"train": 2}, seed=0, solver="scipy")
    assert json.loads((tmp_path / "dataset.json").read_text())["method"] == "scipy"
    assert FieldDataset(tmp_path, "train").attributes["solver"] == "scipy"


def test_tolerance_is_the_problems_own_unless_asked_for(tmp_path: Path):
    class Loose(Halving):
        rtol: ClassVar[float] = 1e-3

    generate(Loose(), tmp_path / "own", counts={"train": 2}, seed=0)
    generate(Loose(), tmp_path / "asked", counts={"train": 2}, seed=0, rtol=1e-4)
    assert [read_plan(tmp_path / name).rtol for name in ("own", "asked")] == [1e-3, 1e-4]  # type: ignore[union-attr]


def test_disk_without_room_for_what_is_missing_is_refused_before_anything_is_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sample = 3 * 4 * 8**2
    free = [4 * sample]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free[0]))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"the dataset needs .* GiB and the disk has"):
        generate(Halving(), tmp_path / "new", counts=COUNTS, seed=7, shard_samples=4)
    assert not (tmp_path / "new").exists()
    # One shard of four is missing, and for that there is room.
    (dataset / "data" / "train" / "halving_00001.hdf5").unlink()
    generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)
    (dataset / "data" / "train" / "halving_00001.hdf5").unlink()
    free[0] -= 1
    with pytest.raises(StorageError, match="the disk has"):
        generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)


def test_dataset_of_the_format_before_is_read_and_not_added_to(dataset: Path):
    facts = json.loads((dataset / "dataset.json").read_text())
    del facts["device"], facts["chunk_samples"]
    (dataset / "dataset.json").write_text(json.dumps({**facts, "format": 1}))
    assert len(FieldDataset(dataset, "train")) == COUNTS["train"]
    with pytest.raises(DataError, match="format = 1, not 2"):
        generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)


def test_device_is_checked_and_kept_in_the_plan(tmp_path: Path):
    for device, words in (("tpu", "device 'tpu'"), ("mps", "need float64"), ("cuda:99", "device 'cuda:99'")):
        with pytest.raises(InputError, match=words):
            generate(Halving(), tmp_path / "set", counts={"train": 2}, seed=0, device=device)
    generate(Halving(), tmp_path / "set", counts={"train": 2}, seed=0, device="cpu")
    assert read_plan(tmp_path / "set").device == "cpu"  # type: ignore[union-attr]


def test_unknown_method_is_refused_by_the_problem_before_anything_is_written(tmp_path: Path):
    for problem, method in ((Darcy(resolution=8), "multigird"), (Darcy(resolution=8), "4 steps"), (Decay(), "direct")):
        with pytest.raises(InputError, match=method):
            generate(problem, tmp_path / "set", counts={"train": 2}, seed=0, solver=method)
    assert not (tmp_path / "set").exists()


def test_record_without_the_statistics_of_its_shard_is_a_data_error(dataset: Path):
    record = dataset / "data" / "train" / "halving_00000.json"
    facts = json.loads(record.read_text())
    (dataset / "stats.yaml").unlink()
    for moments in (None, {}, {**facts["moments"], "u": {"values": {}}}):
        record.write_text(json.dumps({**facts, "moments": moments}))
        with pytest.raises(DataError, match=r"halving_00000\.json: is damaged"):
            generate(Halving(), dataset, counts=COUNTS, seed=7, shard_samples=4)


def test_chunks_fill_the_cache_the_lanes_and_the_accelerator():
    def chunk(problem: Problem, shard: int, *, method: str = "multigrid", device: str = "cpu") -> int:
        return chunk_samples(problem, method, device, shard)

    assert chunk(Darcy(resolution=64), 250) == 2**18 // 64**2
    assert chunk(Darcy(resolution=64), 250, method="gcro-dr") == 250
    assert chunk(Darcy(resolution=512), 85) == LANES
    assert chunk(Darcy(resolution=512), 5) == 5
    assert chunk(Darcy(resolution=512, dimension=3), 9) == 1
    assert chunk(Decay(resolution=64), 250, method="4 steps, checked") == 2**17 // (2 * 64**2)
    assert chunk(Darcy(resolution=64), 10**6, method="spectral", device="cuda") == 2**22 // 64**2
