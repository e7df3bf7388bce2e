"""HDF5 with an array per name or a sample per file, as PhysicsNeMo's readers take it and people make it themselves."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fieldwright.datasets.formats import convert
from fieldwright.errors import DataError
from reading import Converted

RANDOM = np.random.default_rng(0)


def write(path: Path, units: dict[str, str] | None = None, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
        for name, unit in (units or {}).items():
            file[name].attrs["units"] = unit
    return path


def test_physics_informed_darcy_has_an_axis_of_one_channel(tmp_path: Path):
    arrays = {name: RANDOM.random((4, 1, 8, 6), np.float32) for name in ("Kcoeff", "Kcoeff_x", "Kcoeff_y", "sol")}
    found = Converted(write(tmp_path / "darcy.hdf5", units={"sol": "Pa"}, **arrays))
    assert found.summary.source_format == "hdf5"
    for name, values in arrays.items():
        np.testing.assert_array_equal(found.field(name), values[:, 0])
    assert found.attribute("sol", "unit") == "Pa"


def test_folder_of_files_has_a_sample_in_each(tmp_path: Path):
    permeability, pressure = RANDOM.random((5, 8, 6)), RANDOM.random((5, 8, 6))
    for i in range(5):
        write(tmp_path / f"sample_{i}.h5", permeability=permeability[i], pressure=pressure[i])
    found = Converted(tmp_path, split="train=0.6,test=0.4")
    np.testing.assert_array_equal(found.field("permeability"), np.float32(permeability[:3]))
    np.testing.assert_array_equal(found.field("pressure", "test"), np.float32(pressure[3:]))


def test_pattern_picks_files(tmp_path: Path):
    for i in range(3):
        write(tmp_path / f"a_{i}.h5", a=np.full((8, 6), i), u=np.full((8, 6), -i))
    write(tmp_path / "b.h5", v=np.zeros(3))
    convert(str(tmp_path / "a_*.h5"), tmp_path / "target")
    with h5py.File(next((tmp_path / "target").rglob("*.hdf5"))) as file:
        np.testing.assert_array_equal(file["t0_fields/a"][:, 0, 0], [0, 1, 2])
    with pytest.raises(DataError, match="is not there"):
        convert(str(tmp_path / "c_*.h5"), tmp_path / "target")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": np.zeros((8, 6))}, "holds no array 'u', which"),
        ({"a": np.zeros((8, 7)), "u": np.zeros((8, 6))}, "'a' has the shape [8, 7], but [8, 6] in"),
        ({"a": np.zeros((8, 6), "S3"), "u": np.zeros((8, 6))}, "'a' has the kind S, but f in"),
    ],
)
def test_samples_that_differ_from_the_first_are_named(tmp_path: Path, change: dict, words: str):
    write(tmp_path / "a_0.h5", a=np.zeros((8, 6)), u=np.zeros((8, 6)))
    write(tmp_path / "a_1.h5", **change)
    with pytest.raises(DataError) as caught:
        convert(tmp_path, tmp_path / "target")
    assert str(caught.value).startswith(str(tmp_path / "a_1.h5"))
    assert words in str(caught.value)


def test_samples_in_two_units_do_not_mix(tmp_path: Path):
    write(tmp_path / "a_0.h5", units={"u": "m"}, a=np.zeros((8, 6)), u=np.zeros((8, 6)))
    write(tmp_path / "a_1.h5", units={"u": "km"}, a=np.zeros((8, 6)), u=np.zeros((8, 6)))
    with pytest.raises(DataError, match=r"a_1\.h5: 'u' has the unit km, but m in .*a_0\.h5"):
        convert(tmp_path, tmp_path / "target")


def test_files_of_splits_are_told_by_their_names(tmp_path: Path):
    sets = {split: RANDOM.random((count, 8, 6)) for split, count in (("train", 4), ("val", 1), ("test", 2))}
    for split, values in sets.items():
        write(tmp_path / f"darcy-{split}.h5", a=values, u=2 * values)
    found = Converted(tmp_path)
    assert found.summary.samples == {"train": 4, "valid": 1, "test": 2}
    np.testing.assert_array_equal(found.field("u", "test"), np.float32(2 * sets["test"]))


def test_what_is_written_has_the_sample_first_in_every_array(make, tmp_path: Path):
    convert(make("steady"), tmp_path / "steady.h5", format="physicsnemo")
    with h5py.File(tmp_path / "steady_test.h5") as file:
        assert {name: array.shape for name, array in file.items()} == {
            "permeability": (3, 1, 6, 5), "pressure": (3, 1, 6, 5), "rate": (3,)
        }  # fmt: skip
        assert file["pressure"].attrs["units"] == "Pa"
        assert file.attrs["gravity"] == 9.75
    convert(make("flow"), tmp_path / "flow.h5", format="physicsnemo", split="train=1")
    with h5py.File(tmp_path / "flow.h5") as file:
        assert (file["velocity_y"].shape, file["mask"].shape) == ((12, 3, 6, 5), (12, 1, 6, 5))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"p": np.zeros((3, 8, 6))}, "no array has a name that tells its role; say it by --map NAME=input"),
        ({"u": np.zeros((3, 8, 6), complex)}, "holds no array of real numbers"),
        ({"a": np.zeros((0, 8, 6)), "u": np.zeros((0, 8, 6))}, "holds no sample"),
        ({"a": np.full((3, 8, 6), np.inf), "u": np.zeros((3, 8, 6))}, "sample 0 of 'a' holds a NaN or infinite value"),
        ({"a": np.full((3, 8, 6), 1e300), "u": np.zeros((3, 8, 6))}, "sample 0 of 'a' holds a NaN or infinite value"),
    ],
)
def test_arrays_that_are_no_set_are_one_sentence(tmp_path: Path, arrays: dict, words: str):
    with pytest.raises(DataError) as caught:
        convert(write(tmp_path / "set.h5", **arrays), tmp_path / "target")
    assert str(caught.value).startswith(f"{tmp_path / 'set.h5'}: ")
    assert words in str(caught.value)
    assert not list(tmp_path.rglob("*.hdf5"))
