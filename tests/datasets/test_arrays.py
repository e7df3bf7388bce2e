"""Plain arrays survive every format; a .mat file reads the same in both its versions; damage is one sentence."""

from __future__ import annotations

import pickle
import random
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fieldwright.datasets import read_fields, write_fields
from fieldwright.errors import DataError, InputError, StorageError

FORMATS = [("a.npz", None), ("a.h5", None), ("a.hdf5", None), ("a.mat", "5"), ("a.mat", "7.3")]
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.dtype(">f8"), np.dtype(">f4"), np.int16, np.bool_]),
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements={"allow_nan": False},
)


@settings(max_examples=25, deadline=None)
@given(arrays, st.sampled_from([f for f in FORMATS if f[1] != "7.3" and not f[0].startswith("a.h")]))
def test_round_trip_keeps_values_shape_and_precision(values: np.ndarray, target: tuple[str, str | None]):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / target[0]
        write_fields(path, {"values": values}, version=target[1])
        found = read_fields(path)["values"]
    np.testing.assert_array_equal(found, values)
    assert found.shape == values.shape
    assert found.dtype == (np.float32 if values.dtype == np.float32 or values.dtype.str == ">f4" else np.float64)
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("name", "version"), FORMATS)
def test_every_format_reads_back_equal_and_by_name(tmp_path: Path, name: str, version: str | None):
    fields = {"a": np.random.default_rng(0).random((3, 4, 5)), "mask": np.eye(4, dtype=bool), "file": np.ones((2, 2))}
    write_fields(tmp_path / name, fields, version=version)
    found = read_fields(tmp_path / name)
    assert set(found) == set(fields)
    for key, values in fields.items():
        np.testing.assert_array_equal(found[key], values)
    assert list(read_fields(tmp_path / name, ["mask"])) == ["mask"]
    with pytest.raises(DataError, match="holds no array 'b'; it has"):
        read_fields(tmp_path / name, ["b"])


def test_both_versions_of_mat_read_equal_even_where_the_shape_gives_no_hint(tmp_path: Path):
    values = np.random.default_rng(1).random((4, 4, 4)).astype(np.float32)
    write_fields(tmp_path / "five.mat", {"u": values}, version="5")
    write_fields(tmp_path / "seven.mat", {"u": values}, version="7.3")
    assert scipy.io.matlab.matfile_version(str(tmp_path / "seven.mat")) == (2, 0)
    np.testing.assert_array_equal(read_fields(tmp_path / "five.mat")["u"], values)
    np.testing.assert_array_equal(read_fields(tmp_path / "seven.mat")["u"], values)
    with h5py.File(tmp_path / "seven.mat") as file:
        np.testing.assert_array_equal(file["u"][:], values.T)


def test_matlabs_own_conventions_in_73_files_are_kept(tmp_path: Path):
    """Texts and empties are stored as integers, cells as references; none of them is a field."""
    path = tmp_path / "matlab.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values, label in (("u", np.ones((2, 3)), "double"), ("title", np.ones((3, 1), np.uint16), "char")):
            file.create_dataset(name, data=values).attrs["MATLAB_class"] = np.bytes_(label)
        empty = file.create_dataset("nothing", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_class"], empty.attrs["MATLAB_empty"] = np.bytes_("double"), 1
        file.create_dataset("#refs#/a", data=np.ones(3))
    content = bytearray(path.read_bytes())
    content[:128] = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    path.write_bytes(content)
    assert {name: values.shape for name, values in read_fields(path).items()} == {"u": (3, 2)}


def test_npy_file_has_one_array_named_by_the_file(tmp_path: Path):
    write_fields(tmp_path / "pressure.npy", {"p": np.arange(3, dtype=">f4")})
    found = read_fields(tmp_path / "pressure.npy")
    np.testing.assert_array_equal(found["pressure"], [0, 1, 2])
    assert found["pressure"].dtype == np.float32
    assert found["pressure"].dtype.isnative


def test_format_is_found_by_content_not_by_ending(tmp_path: Path):
    for name in ("a.npz", "a.npy", "a.h5", "a.mat"):
        write_fields(tmp_path / name, {"a": np.eye(2)})
        renamed = (tmp_path / name).rename(tmp_path / f"{name}.data")
        np.testing.assert_array_equal(next(iter(read_fields(renamed).values())), np.eye(2))


class Trap:
    def __reduce__(self) -> tuple:
        return (open, ("trap-was-sprung", "w"))


def test_pickles_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "objects.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", a=np.array([Trap()], dtype=object))
    (tmp_path / "named.mat").write_bytes(pickle.dumps(Trap()))
    for name in ("plain.npy", "objects.npy", "objects.npz", "named.mat"):
        with pytest.raises(DataError, match=name):
            read_fields(tmp_path / name)
    assert not (tmp_path / "trap-was-sprung").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("x,y\n1,2\n"), "is none of"),
        (lambda path: np.save(path.open("wb"), np.array([1j])), "is complex"),
        (lambda path: np.save(path.open("wb"), np.array(["text"])), "holds no numeric array"),
        (lambda path: scipy.io.savemat(str(path), {"t": "text"}, appendmat=False), "holds no numeric array"),
    ],
)
def test_files_without_fields_are_one_sentence(tmp_path: Path, make, words: str):
    path = tmp_path / "given"
    make(path)
    with pytest.raises(DataError, match=words) as caught:
        read_fields(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("name", "version"), [("a.npy", None), *FORMATS])
def test_damaged_files_are_one_sentence_or_still_arrays(tmp_path: Path, name: str, version: str | None):
    path = tmp_path / name
    write_fields(path, {"a": np.random.default_rng(0).random((16, 16))}, version=version)
    whole, choice, sentences = path.read_bytes(), random.Random(1), []
    damaged = [whole[: len(whole) * part // 4] for part in (1, 2, 3)]
    for _ in range(2 if name.startswith("a.h") or version == "7.3" else 20):
        flipped = bytearray(whole)
        flipped[choice.randrange(min(len(whole), 400))] ^= 1 << choice.randrange(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            found = read_fields(path)
        except DataError as error:
            sentences.append(str(error))
        else:
            assert all(values.dtype.kind == "f" for values in found.values())
    assert sentences
    assert all(str(path) in sentence and "\n" not in sentence for sentence in sentences)


def test_impossible_writes_are_refused(tmp_path: Path):
    ones = np.ones(3)
    for name, fields, words in (
        ("a.csv", {"a": ones}, "unknown ending '.csv'"),
        ("a.npy", {"a": ones, "b": ones}, "2 arrays for a file that holds one"),
        ("a.mat", {"my field": ones}, "no MATLAB name"),
        ("a.npz", {"a": np.array(["text"])}, "only real numbers"),
    ):
        with pytest.raises(InputError, match=words):
            write_fields(tmp_path / name, fields)
    with pytest.raises(InputError, match="version '6'"):
        write_fields(tmp_path / "a.mat", {"a": ones}, version="6")
    with pytest.raises(StorageError, match="cannot write"):
        write_fields(Path("/dev/null/a.npy"), {"a": ones})
    assert list(tmp_path.iterdir()) == []
