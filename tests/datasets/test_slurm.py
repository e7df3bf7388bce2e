"""SLURM without SLURM: the real dask-jobqueue, with an sbatch that runs the job's script in the background."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_problem import Halving

from fieldwright.datasets import Cluster, generate
from fieldwright.errors import ClusterError, InputError
from fieldwright.progress import Reporter

# Found and not imported: importing dask-jobqueue takes Ctrl-C away from every test of this process.
if not importlib.util.find_spec("dask_jobqueue"):
    pytest.skip("Dask comes with the extra 'cluster'", allow_module_level=True)

SETTINGS = {"counts": {"train": 12, "test": 2}, "seed": 7, "shard_samples": 4}
OPTIONS = {"cores": "1", "memory": "2GB", "interface": "lo", "worker-extra-args": '["--no-dashboard"]'}

SBATCH = """#!/usr/bin/env bash
for script; do :; done
cp "$script" "$FAKE_SLURM/job-$$.sh"
setsid bash "$FAKE_SLURM/job-$$.sh" > "$FAKE_SLURM/job-$$.log" 2>&1 < /dev/null &
echo $! > "$FAKE_SLURM/job-$$.pid"
echo "Submitted batch job $$"
"""
SCANCEL = """#!/usr/bin/env bash
kill -KILL -- "-$(cat "$FAKE_SLURM/job-$1.pid")"
echo "$1" >> "$FAKE_SLURM/cancelled"
"""
REFUSAL = """#!/usr/bin/env bash
echo "sbatch: error: Batch job submission failed: Invalid account" >&2
exit 1
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with sbatch and scancel, first on PATH, in which jobs leave their scripts."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    yield folder
    for file in folder.glob("*.pid"):
        try:
            os.killpg(int(file.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_jobs_make_the_bits_of_one_process_and_are_cancelled_at_the_end(slurm: Path, tmp_path: Path, capsys):
    listener = signal.getsignal(signal.SIGINT)
    generate(Halving(), tmp_path / "here", **SETTINGS)
    cluster = Cluster("slurm:1", OPTIONS)
    generate(Halving(), tmp_path / "there", cluster=cluster, reporter=Reporter(), **SETTINGS)
    for path in [*(tmp_path / "here").glob("data/*/*.hdf5"), tmp_path / "here" / "stats.yaml"]:
        assert (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()
    (script,) = slurm.glob("job-*.sh")
    assert "--nthreads 1" in script.read_text()
    assert "#SBATCH --cpus-per-task=1" in script.read_text()
    assert (slurm / "cancelled").read_text().split() == [script.stem.partition("-")[2]]
    assert "1 SLURM job" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is listener


def test_refused_submission_is_told_in_the_words_of_sbatch(slurm: Path, tmp_path: Path):
    (slurm / "sbatch").write_text(REFUSAL)
    with pytest.raises(ClusterError, match="sbatch: error: Batch job submission failed: Invalid account"):
        generate(Halving(), tmp_path / "set", cluster=Cluster("slurm", OPTIONS), **SETTINGS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "how much cores and memory"),
        ({"cores": "1"}, "how much cores and memory"),
        ({**OPTIONS, "wolltime": "1:00:00"}, "unexpected keyword argument 'wolltime'"),
        ({**OPTIONS, "interface": "none-such"}, "none-such"),
    ],
)
def test_options_that_jobs_do_not_take_are_refused(slurm: Path, tmp_path: Path, options: dict, words: str):
    with pytest.raises(InputError, match=words) as caught:
        generate(Halving(), tmp_path / "set", cluster=Cluster("slurm:3", options), **SETTINGS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_machine_without_sbatch_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="sbatch is not on this machine's PATH"):
        generate(Halving(), tmp_path / "set", cluster="slurm:2", **SETTINGS)
