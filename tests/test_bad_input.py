"""What is wrong with what a user hands over: one line on stderr, exit code 2, nothing lost, nothing half-written."""

import errno
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldwright.cli import run_command
from fieldwright.datasets import write_fields

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

FEW = settings(MANY, max_examples=6)  # each opens every shard in a process of its own


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != ".lock"
    }


def refused(capsys, arguments: list[str], *words: str) -> str:
    """Run a command that must fail as the house has it, and return its line."""
    code = run_command(arguments)
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("fieldwright: ")
    for word in words:
        assert word in err
    return err


@pytest.fixture
def copied_run(tiny_run, tmp_path):
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@MANY
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30))
def test_any_override_to_a_finished_run_changes_nothing(tiny_run, tiny_overrides, capsys, text):
    before = snapshot(tiny_run)
    code = run_command(["run", "darcy", *tiny_overrides, "--out", str(tiny_run), "--quiet", "--", f"zz{text}"])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert snapshot(tiny_run) == before


@MANY
@given(
    size=st.one_of(
        st.integers(-5, 3),
        st.floats(),
        st.text("ab1-", max_size=4).filter(lambda text: not text.isdigit() or int(text) < 4),
        st.booleans(),
        st.none(),
    )
)
def test_impossible_resolution_makes_no_directory(tmp_path, capsys, size):
    out = tmp_path / "run"
    refused(capsys, ["run", "darcy", f"problem.resolution={size}", "--out", str(out), "--quiet"], "resolution")
    assert not out.exists()


def test_size_beyond_the_disk_is_refused_before_it_is_begun(tmp_path, capsys):
    out = tmp_path / "run"
    refused(capsys, ["run", "darcy", "data.train=1000000000000", "--out", str(out), "--quiet"], "GiB")
    assert not out.exists()


@pytest.mark.parametrize("name", ["missing.npy", "."])
def test_file_that_is_not_there(tiny_run, in_tmp, capsys, name):
    refused(capsys, ["predict", str(tiny_run), name, "--out", "out.npy", "--quiet"], name)
    assert list(in_tmp.iterdir()) == []


@MANY
@given(content=st.binary(max_size=200), ending=st.sampled_from([".npy", ".npz", ".h5", ".hdf5", ".mat", ".txt", ""]))
def test_any_file_that_is_no_array(tiny_run, tmp_path_factory, capsys, content, ending):
    folder = tmp_path_factory.mktemp("files")
    (folder / f"in{ending}").write_bytes(content)
    arguments = ["predict", str(tiny_run), str(folder / f"in{ending}"), "--out", str(folder / "out.npy"), "--quiet"]
    refused(capsys, arguments, f"in{ending}")
    assert not (folder / "out.npy").exists()


@MANY
@given(ending=st.sampled_from([".npy", ".npz", ".h5", ".mat"]), share=st.floats(0, 0.999))
def test_any_truncated_file(tiny_run, tmp_path_factory, capsys, ending, share):
    folder = tmp_path_factory.mktemp("files")
    file = folder / f"in{ending}"
    write_fields(file, {"permeability": np.random.default_rng(0).uniform(3, 12, (2, 16, 16))})
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    refused(capsys, ["predict", str(tiny_run), str(file), "--out", str(folder / "out.npy"), "--quiet"])
    assert not (folder / "out.npy").exists()


@MANY
@given(
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    place=st.tuples(st.integers(0, 2), st.integers(0, 15), st.integers(0, 15)),
    certified=st.booleans(),
)
def test_any_value_that_is_not_finite(tiny_run, tmp_path_factory, capsys, value, place, certified):
    folder = tmp_path_factory.mktemp("files")
    fields = np.full((3, 16, 16), 5.0)
    fields[place] = value
    np.save(folder / "in.npy", fields)
    arguments = ["predict", str(tiny_run), str(folder / "in.npy"), "--out", str(folder / "out.npy"), "--quiet"]
    refused(
        capsys, arguments + (["--solve", "1e-6"] if certified else []), f"sample {place[0]} holds a NaN or infinite"
    )
    assert not (folder / "out.npy").exists()


@MANY
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=5).filter(lambda s: s[-2:] not in ([4, 4], [5, 5])))
def test_any_wrong_shape(tiny_run, tmp_path_factory, capsys, shape):
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "in.npy", np.full(shape, 5.0))
    refused(capsys, ["predict", str(tiny_run), str(folder / "in.npy"), "--out", str(folder / "out.npy"), "--quiet"])
    assert not (folder / "out.npy").exists()


def test_unknown_ending_of_the_output(tiny_run, in_tmp, capsys):
    np.save("in.npy", np.full((1, 16, 16), 5.0))
    refused(capsys, ["predict", str(tiny_run), "in.npy", "--out", "out.txt", "--quiet"], "out.txt")
    assert not Path("out.txt").exists()


@FEW
@given(share=st.floats(0, 0.999), split=st.sampled_from(["train", "valid", "test"]))
def test_truncated_shard_is_found_by_inspection(tiny_run, tmp_path_factory, capsys, share, split):
    copy = Path(shutil.copytree(tiny_run / "dataset", tmp_path_factory.mktemp("data") / "dataset"))
    shard = sorted((copy / "data" / split).glob("*.hdf5"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(share * len(whole))])
    refused(capsys, ["inspect", str(copy)], shard.name)


@FEW
@given(data=st.data())
def test_changed_byte_of_a_shard_is_found_by_inspection(tiny_run, tmp_path_factory, capsys, data):
    copy = Path(shutil.copytree(tiny_run / "dataset", tmp_path_factory.mktemp("data") / "dataset"))
    shard = sorted((copy / "data" / "train").glob("*.hdf5"))[0]
    content = bytearray(shard.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    shard.write_bytes(content)
    refused(capsys, ["inspect", str(copy)], shard.name)


def test_damaged_shard_stops_a_training_that_has_still_to_be_done(copied_run, tiny_overrides, capsys):
    shutil.rmtree(copied_run / "surrogate")
    shard = sorted((copied_run / "dataset" / "data" / "train").glob("*.hdf5"))[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    before = snapshot(copied_run)
    refused(capsys, ["train", "darcy", *tiny_overrides, "--out", str(copied_run), "--quiet"], shard.name)
    after = snapshot(copied_run)
    assert {name: after[name] for name in before if name != "environment.json"} == {
        name: content for name, content in before.items() if name != "environment.json"
    }


def test_shard_that_is_no_hdf5(copied_run, capsys):
    shard = sorted((copied_run / "dataset" / "data" / "test").glob("*.hdf5"))[0]
    shard.write_text("not at all")
    refused(capsys, ["inspect", str(copied_run)], shard.name)


def test_foreign_hdf5_is_no_dataset(tmp_path, capsys):
    (tmp_path / "data" / "train").mkdir(parents=True)
    with h5py.File(tmp_path / "data" / "train" / "x.hdf5", "w") as file:
        file["values"] = np.zeros(3)
    refused(capsys, ["inspect", str(tmp_path)], "x.hdf5")


def test_run_of_another_recipe(copied_run, tiny_overrides, capsys):
    before = snapshot(copied_run)
    changed = [*tiny_overrides, "training.learning_rate=0.5"]
    refused(
        capsys,
        ["run", "darcy", *changed, "--out", str(copied_run), "--quiet"],
        "training.learning_rate was 0.002, asked 0.5",
    )
    assert snapshot(copied_run) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_no_permission(tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(capsys, ["generate", "darcy", "samples=2", "--out", str(tmp_path / "closed" / "set"), "--quiet"], "closed")


@pytest.mark.parametrize("command", ["run", "generate"])
def test_directory_that_cannot_be_made(tmp_path, tiny_overrides, capsys, command):
    (tmp_path / "file").write_text("in the way")
    refused(capsys, [command, "darcy", *tiny_overrides, "--out", str(tmp_path / "file" / "run"), "--quiet"], "file")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("after_writes", range(0, 14, 3))
def test_full_disk_leaves_whole_files_and_the_same_command_goes_on(
    tmp_path, tiny_overrides, capsys, monkeypatch, after_writes
):
    quick = [*tiny_overrides, "training.steps=3"]
    command = ["train", "darcy", *quick, "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    left, fsync = [after_writes], os.fsync

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        refused(capsys, command, "No space left on device")
    assert not list(tmp_path.rglob("*.partial"))
    assert run_command(command) == 0
