"""A set converted into any format and back is the set; what others cannot see of it is said; nothing half is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from format_rules import violations
from our_datasets import COUNTS, assert_same_dataset

from fieldwright.atomic import checksum
from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import WRITABLE, convert
from fieldwright.errors import DataError, InputError, StorageError
from fieldwright.progress import Reporter

TARGETS = {
    "pdebench": "set.hdf5",
    "matlab-v5": "set.mat",
    "matlab-v7.3": "set.mat",
    "numpy": "set.npz",
    "poseidon": "set.nc",
    "neuralop": "files",
    "physicsnemo": "set.h5",
    "deepxde": "set.npz",
    "well": "again",
}


def converted(source: Path, format: str, name: str) -> Path:
    """The source in a format; returns what to read it back from."""
    target = source.parent / f"{source.name}-{format}" / name
    found = convert(source, target, format=format)
    return target if format in ("well", "neuralop") or len(found.files) == 1 else target.parent


@pytest.mark.parametrize("kind", ["steady", "vorticity", "flow"])
@pytest.mark.parametrize("format", TARGETS)
def test_set_survives_the_way_to_any_format_and_back(make, kind: str, format: str):
    ours = make(kind)
    if (format, kind) == ("deepxde", "flow"):
        with pytest.raises(InputError, match="has one output; the source has 3: density, velocity_x, velocity_y"):
            converted(ours, format, TARGETS[format])
        return
    back = ours.parent / "back"
    convert(converted(ours, format, TARGETS[format]), back)
    assert_same_dataset(ours, back)
    assert all(violations(str(file)) == [] for file in back.glob("data/*/*.hdf5"))


def test_group_per_sample_survives_too(make):
    ours = make("flow")
    convert(ours, ours.parent / "groups.h5", format="pdebench")
    convert(ours.parent / "groups.h5", ours.parent / "back")
    assert_same_dataset(ours, ours.parent / "back")
    with pytest.raises(InputError, match=r"a group per sample is for what evolves; name the file \.hdf5"):
        convert(make("steady"), ours.parent / "steady.h5", format="pdebench")


def test_every_format_that_is_written_is_tested_here():
    assert set(TARGETS) | {"matlab"} == set(WRITABLE)


def test_what_others_cannot_see_is_said_before_anything_is_written(make, capsys, monkeypatch):
    ours = make("flow")

    def stopped(*_: object, **__: object) -> None:
        raise StorageError("stopped before writing")

    monkeypatch.setattr("fieldwright.datasets.formats.pdebench_writing.streamed_hdf5", stopped)
    with pytest.raises(StorageError, match="stopped before writing"):
        convert(ours, ours.parent / "set.hdf5", format="pdebench", reporter=Reporter())
    said = capsys.readouterr().err
    assert "kept for Fieldwright alone, in a note that other readers ignore: units, the conditions at the walls" in said
    assert "written for every sample although the same for all: mask" in said
    assert "its coordinates are cell centres; these are those of a node grid" in said
    assert not (ours.parent / "set.hdf5").exists()


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train=0.75,valid=0.25", {"train": 9, "valid": 3}),
        ("test=2,train=5", {"test": 2, "train": 5}),
        ("train=1", {"train": 12}),
    ],
)
def test_split_by_shares_or_numbers_takes_samples_in_order(make, split: str, counts: dict[str, int]):
    ours = make("vorticity")
    found = convert(ours, ours.parent / "parted", split=split)
    assert found.samples == counts
    every = np.concatenate([FieldDataset(ours, name).arrays()[1].numpy() for name in COUNTS])
    place = 0
    for name, count in counts.items():
        windows = count * 3
        np.testing.assert_array_equal(
            FieldDataset(ours.parent / "parted", name).arrays()[1], every[place : place + windows]
        )
        place += windows


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train=0.8,valid=0.3", "asks for 1.1 of 1"),
        ("train=20", "asks for 20 of 12"),
        ("trian=0.5", "did you mean 'train'"),
        ("train=many", "write it like train=0.8"),
        ("train=0", "is above 0"),
        ("train", "write it like train=0.8"),
    ],
)
def test_impossible_split_is_one_sentence(make, split: str, words: str):
    with pytest.raises(InputError, match=words):
        convert(make("vorticity"), "parted", split=split)


def test_limit_takes_the_first_samples_of_each_split(make):
    ours = make("steady")
    assert convert(ours, ours.parent / "few", limit=2).samples == {"train": 2, "valid": 2, "test": 2}
    few, all_ = FieldDataset(ours.parent / "few"), FieldDataset(ours)
    np.testing.assert_array_equal(few.arrays()[1], all_.arrays()[1][:2])
    with pytest.raises(InputError, match="at least 1"):
        convert(ours, ours.parent / "none", limit=0)


def test_shards_are_of_the_size_asked_for_and_give_the_same_set(make):
    ours = make("flow")
    found = convert(ours, ours.parent / "small", shard_bytes=6000)
    assert found.shards > 3
    assert_same_dataset(ours, ours.parent / "small")


def test_conversion_goes_on_where_it_was_stopped(make, monkeypatch):
    ours = make("flow")
    whole, parts = ours.parent / "whole", ours.parent / "parts"
    convert(ours, whole, shard_bytes=6000)
    from fieldwright.datasets.formats import native

    written: list[Path] = []

    def write(path: Path, content: object) -> str:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        return real(path, content)

    real = native.write_shard
    monkeypatch.setattr(native, "write_shard", write)
    with pytest.raises(KeyboardInterrupt):
        convert(ours, parts, shard_bytes=6000)
    with pytest.raises(DataError, match="is missing"):
        FieldDataset(parts, "test")
    stamps = {file: file.stat().st_mtime_ns for file in written}
    monkeypatch.setattr(native, "write_shard", real)
    # One of the finished ones is damaged meanwhile: it is made again, the others are not.
    damaged = bytearray(written[1].read_bytes())
    damaged[-9] ^= 1
    written[1].write_bytes(damaged)
    convert(ours, parts, shard_bytes=6000)
    assert_same_dataset(whole, parts)
    assert all(file.stat().st_mtime_ns == stamps[file] for file in (written[0], written[2]))
    for file in whole.glob("data/*/*.hdf5"):
        assert checksum(file) == checksum(parts / file.relative_to(whole))
    assert not list(ours.parent.glob(".*conversion"))


def test_other_settings_or_another_source_for_the_same_directory_are_refused(make):
    ours = make("steady")
    target = ours.parent / "target"
    convert(ours, target, limit=2)
    with pytest.raises(DataError, match="holds a dataset with .*limit"):
        convert(ours, target, limit=1)
    with pytest.raises(DataError, match="holds a dataset that was not converted"):
        convert(ours, make("flow"))
    file = ours / "data/train/a_0.hdf5"
    os.utime(file, (0, 5))
    os.utime(ours / "data/valid/a_0.hdf5", (0, 0))
    os.utime(ours / "data/test/a_0.hdf5", (0, 0))
    with pytest.raises(DataError, match=r"holds a dataset with settings\.source\.changed"):
        convert(ours, target, limit=2)


CONVERT = """
import sys
from fieldwright.datasets.formats import convert
convert(sys.argv[1], sys.argv[2], format=sys.argv[3], roles=["u=output:ntxy"], shard_bytes=2**17)
"""


@pytest.mark.parametrize(("format", "name"), [("well", "target"), ("pdebench", "target.hdf5")])
def test_killed_conversion_leaves_nothing_half_and_can_be_given_again(tmp_path: Path, format: str, name: str):
    values = np.random.default_rng(0).standard_normal((600, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "u.npy", values)
    source, target = tmp_path / "u.npy", tmp_path / name
    child = subprocess.Popen([sys.executable, "-c", CONVERT, str(source), str(target), format])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (list(tmp_path.rglob("*.hdf5*"))):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    for file in tmp_path.rglob("*.hdf5"):
        with h5py.File(file) as whole:
            whole.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
    convert(source, target, format=format, roles=["u=output:ntxy"], shard_bytes=2**17)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.glob(".*conversion"))
    back = target if format == "well" else tmp_path / "back"
    if format != "well":
        convert(target, back)
    windows = FieldDataset(back, "train").arrays()
    np.testing.assert_array_equal(windows[0].numpy()[:, 0], values[:, :-1].reshape(-1, 32, 32))
    np.testing.assert_array_equal(windows[1].numpy()[:, 0], values[:, 1:].reshape(-1, 32, 32))
