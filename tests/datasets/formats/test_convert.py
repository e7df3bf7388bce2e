"""A set converted into any format and back is the set; what others cannot see of it is said; nothing half is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from format_rules import violations
from our_datasets import COUNTS, assert_same_dataset

from fieldwright.datasets import FieldDataset, inspect
from fieldwright.datasets.formats import WRITABLE, convert
from fieldwright.errors import InputError, StorageError
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


WAYS = [
    *(("steady", format) for format in TARGETS),
    *(("vorticity", format) for format in ("pdebench", "matlab-v5", "matlab-v7.3", "neuralop", "deepxde", "poseidon")),
    *(("flow", format) for format in ("pdebench", "poseidon", "numpy", "physicsnemo", "neuralop", "well")),
]


@pytest.mark.parametrize(("kind", "format"), WAYS)
def test_set_survives_the_way_to_any_format_and_back(make, kind: str, format: str):
    ours = make(kind)
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


def test_format_of_one_output_refuses_several(make):
    with pytest.raises(InputError, match="has one output; the source has 3: density, velocity_x, velocity_y"):
        converted(make("flow"), "deepxde", "set.npz")


def test_every_format_that_is_written_is_tested_here():
    assert set(TARGETS) | {"matlab"} == set(WRITABLE)


def test_converted_set_is_inspected_as_one(make):
    ours = make("vorticity")
    convert(ours, ours.parent / "again", limit=2)
    found = inspect(ours.parent / "again")
    assert found.sound
    assert any(line.startswith("  converted: source=") for line in found.lines())
    assert not any("solver" in line for line in found.lines())


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
