"""The Well's files of other makers: vectors, tensors, constants, numbers per file, chunks, open walls; here or afar."""

from __future__ import annotations

from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
from format_rules import violations
from our_datasets import assert_same_dataset

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert
from fieldwright.errors import DataError, InputError
from reading import Converted

RANDOM = np.random.default_rng(0)
TEXT = h5py.string_dtype()


def shard(path: Path, *, samples: int, viscosity: float, seed: int, dims: tuple[str, str] = ("x", "y")) -> Path:
    """A file as The Well's own generators write it: chunked, with names and conditions of its own, none of ours."""
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "viscoelastic", "grid_type": "cartesian", "n_spatial_dims": 2,
                           "n_trajectories": samples, "nu": viscosity,
                           "simulation_parameters": np.array(["nu"], TEXT)})  # fmt: skip
        axes = file.create_group("dimensions")
        axes.attrs["spatial_dims"] = np.array(dims, TEXT)
        for name, line in (("time", np.arange(4) / 4), (dims[0], np.arange(8) / 8), (dims[1], np.linspace(0, 1, 6))):
            axes.create_dataset(name, data=line, dtype="f4").attrs.update(
                {"sample_varying": False, "time_varying": name == "time"}
            )
        numbers = file.create_group("scalars")
        numbers.attrs["field_names"] = np.array(["nu", "drive"], TEXT)
        numbers.create_dataset("nu", data=np.float32(viscosity)).attrs.update(
            {"sample_varying": False, "time_varying": False}
        )
        numbers.create_dataset("drive", data=random.random(4, np.float32)).attrs.update(
            {"sample_varying": False, "time_varying": True}
        )
        fields = {
            0: {"pressure": ((samples, 4, 8, 6), True, True), "wall": ((8, 6), False, False)},
            1: {"velocity": ((samples, 4, 8, 6, 2), True, True)},
            2: {"conformation": ((samples, 4, 8, 6, 2, 2), True, True)},
        }
        for order, entries in fields.items():
            group = file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = np.array(list(entries), TEXT)
            for name, (shape, by_sample, by_time) in entries.items():
                chunks = (1, 1, *shape[2:]) if by_sample else None
                data = random.standard_normal(shape, np.float32)
                array = group.create_dataset(name, data=data, chunks=chunks, compression="gzip" if chunks else None)
                array.attrs.update({"dim_varying": [True, True], "sample_varying": by_sample, "time_varying": by_time})
        conditions = file.create_group("boundary_conditions")
        for name, kind, axis, where in (("x_periodic", "PERIODIC", 0, [0, 7]), ("y_wall", "wall", 1, [0])):
            entry = conditions.create_group(name)
            mask = np.zeros((8, 6)[axis], bool)
            mask[where] = True
            entry.attrs.update({"bc_type": kind, "associated_dims": np.array([dims[axis]], TEXT),
                                "associated_fields": np.array([], TEXT),
                                "sample_varying": False, "time_varying": False})  # fmt: skip
            entry.create_dataset("mask", data=mask)
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    root = tmp_path / "foreign"
    shard(root / "data/train/a.hdf5", samples=3, viscosity=0.5, seed=0)
    shard(root / "data/train/b.hdf5", samples=2, viscosity=0.25, seed=1)
    shard(root / "data/valid/a.hdf5", samples=1, viscosity=0.5, seed=2)
    return root


def test_set_of_others_becomes_one_of_ours(foreign: Path):
    found = Converted(foreign)
    assert found.summary.samples == {"train": 5, "valid": 1}
    with h5py.File(foreign / "data/train/a.hdf5") as a, h5py.File(foreign / "data/train/b.hdf5") as b:
        for place in ("t0_fields/pressure", "t1_fields/velocity", "t2_fields/conformation"):
            np.testing.assert_array_equal(found.field(place.rpartition("/")[2]), np.concatenate([a[place], b[place]]))
        np.testing.assert_array_equal(found.line("time"), a["dimensions/time"])
        # What differs between the files belongs to the samples.
        np.testing.assert_array_equal(found.field("wall")[[0, 4]], [a["t0_fields/wall"], b["t0_fields/wall"]])
        np.testing.assert_array_equal(found.scalar("drive")[[2, 3]], [a["scalars/drive"], b["scalars/drive"]])
    np.testing.assert_array_equal(found.scalar("nu"), np.float32([0.5, 0.5, 0.5, 0.25, 0.25]))
    assert found.walls() == {"x_periodic periodic", "y_wall_low", "y_open_high"}
    ours, theirs = FieldDataset(found.root), FieldDataset(foreign)
    assert ours.input_names == theirs.input_names
    for one, other in zip(ours.arrays(), theirs.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_axes_of_other_names_keep_their_order_and_walls(foreign: Path, tmp_path: Path):
    path = shard(tmp_path / "named.hdf5", samples=2, viscosity=0.5, seed=0, dims=("r", "s"))
    found = Converted(path)
    assert found.walls() == {"x_periodic periodic", "y_wall_low", "y_open_high"}
    with h5py.File(path) as file:
        np.testing.assert_array_equal(found.field("velocity"), file["t1_fields/velocity"])


def test_set_at_an_address_is_converted_as_it_is_on_the_disk(foreign: Path, make, tmp_path: Path):
    system = fsspec.filesystem("memory")
    for root in (foreign, make("flow")):
        for file in root.rglob("*.hdf5"):
            system.pipe(f"/{root.name}/{file.relative_to(root)}", file.read_bytes())
    convert("memory://foreign", tmp_path / "far")
    near = Converted(foreign).root
    for file in near.glob("data/*/*.hdf5"):
        with h5py.File(file) as ours, h5py.File(tmp_path / "far" / file.relative_to(near)) as theirs:
            for place in ("t0_fields/pressure", "t1_fields/velocity", "t2_fields/conformation", "scalars/nu"):
                np.testing.assert_array_equal(ours[place], theirs[place])
        assert violations(str(file)) == []
    convert("memory://flow/", tmp_path / "flow")
    assert_same_dataset(tmp_path / "ours/flow", tmp_path / "flow")
    convert("memory://flow/data/test/a_0.hdf5", tmp_path / "one.h5", format="pdebench")
    system.pipe("/groups.h5", (tmp_path / "one.h5").read_bytes())
    convert("memory://groups.h5", tmp_path / "groups")
    np.testing.assert_array_equal(
        FieldDataset(tmp_path / "groups").arrays()[0], FieldDataset(tmp_path / "flow", "test").arrays()[0]
    )


def test_what_cannot_be_read_from_an_address_says_so(tmp_path: Path):
    system = fsspec.filesystem("memory")
    system.pipe("/a/set.npz", b"PK")
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["u"] = np.zeros(3)
    system.pipe("/a/set.mat", (tmp_path / "a.mat").read_bytes())
    for address, words in (
        ("memory://a/set.npz", "is not an HDF5 file"),
        ("memory://nothing.h5", "is not there"),
    ):
        with pytest.raises(DataError, match=words):
            convert(address, tmp_path / "target")
    with pytest.raises(DataError, match="files of the format matlab are not read from an address; download it first"):
        convert("memory://a/set.mat", tmp_path / "target", source_format="matlab")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda file: file.attrs.__setitem__("grid_type", "spherical"),
            "its grid is spherical; Cartesian ones are converted",
        ),
        (lambda file: file["dimensions/time"].__setitem__(2, 0.0), "its times do not rise"),
        (lambda file: file["dimensions/x"].__setitem__(slice(None), np.arange(8) / 4), "its grid is"),
        (lambda file: file["t1_fields/velocity"].__setitem__((1, 2, 3), np.nan), "sample 1 of 'velocity' holds a NaN"),
        (lambda file: file["t0_fields/pressure"].attrs.__setitem__("unit", "bar"), "pressure [bar]"),
        (lambda file: file.__delitem__("t2_fields"), "has no group 't2_fields'"),
    ],
)
def test_files_that_differ_or_are_not_sound_are_one_sentence(foreign: Path, tmp_path: Path, change, words: str):
    with h5py.File(foreign / "data/train/a.hdf5", "r+") as file:
        change(file)
    with pytest.raises(DataError) as caught:
        convert(foreign, tmp_path / "target")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_for_arrays_are_refused_where_the_file_says_all(foreign: Path, tmp_path: Path):
    with pytest.raises(InputError, match="--map is for arrays without a known layout; this set is well's"):
        convert(foreign, tmp_path / "target", roles=["pressure=input"])
    with pytest.raises(DataError, match=r"has no data/train, data/valid or data/test"):
        convert(tmp_path, tmp_path / "target", source_format="well")
