"""Cut, flipped, empty, foreign: every damage is one sentence that names the file, and leaves nothing half."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from fieldwright.cli import run_command
from fieldwright.datasets import write_fields
from fieldwright.datasets.formats import convert
from fieldwright.datasets.formats.detect import format_of, recognise, split_of_name
from fieldwright.errors import DataError, FieldwrightError, InputError

MATLAB = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
RANDOM = np.random.default_rng(0)
A, U = RANDOM.random((6, 16, 16)), RANDOM.random((6, 16, 16))


def whole_files(directory: Path) -> dict[str, bytes]:
    """A sound file of every kind, by its name."""
    scipy.io.savemat(directory / "five.mat", {"coeff": A, "sol": U})
    scipy.io.savemat(directory / "packed.mat", {"coeff": A, "sol": U}, do_compression=True)
    write_fields(directory / "seven.mat", {"coeff": A, "sol": U}, version="7.3")
    np.savez(directory / "plain.npz", a=A, u=U)
    np.savez_compressed(directory / "packed.npz", a=A, u=U)
    with h5py.File(directory / "2D_Darcy.hdf5", "w") as file:
        line = np.float32((np.arange(16) + 0.5) / 16)
        for name, values in (("nu", A), ("tensor", U[:, None]), ("x-coordinate", line), ("y-coordinate", line)):
            file[name] = values
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


def sentence(path: Path, target: Path) -> str:
    """What converting says, or nothing where the damage is to numbers alone."""
    said = ""
    try:
        convert(path, target)
    except DataError as error:
        said = str(error)
    assert "\n" not in said
    assert not list(target.rglob("*.partial"))
    return said


def test_cut_files_are_refused(tmp_path: Path):
    for name, content in whole_files(tmp_path).items():
        path = tmp_path / name
        for part in (0.02, 0.5, 0.98):
            path.write_bytes(content[: int(part * len(content))])
            said = sentence(path, tmp_path / f"{name}-{part}")
            assert str(path) in said, (name, part, said)


def test_flipped_bits_are_refused_or_change_numbers_alone(tmp_path: Path):
    choice, found = random.Random(0), []
    for name, content in whole_files(tmp_path).items():
        path = tmp_path / name
        for number in range(4 if b"HDF\r\n" in content[:520] else 12):
            damaged = bytearray(content)
            damaged[choice.randrange(min(600, len(content)))] ^= 1 << choice.randrange(8)
            path.write_bytes(damaged)
            said = sentence(path, tmp_path / f"{name}-{number}")
            assert not said or path.stem in said, said
            found.append(said)
    assert any(found)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.hdf5", b"", "is empty"),
        ("a.hdf5", pickle.dumps({"a": 1}), "is of no known kind"),
        ("a.hdf5", bytes(10_000), "is of no known kind"),
        ("a.csv", b"x,y\n1,2\n", "is of no known kind"),
        ("a.npz", b"PK\x03\x04" + bytes(50), "is damaged"),
        (
            "a.mat",
            MATLAB + b"\x0e\x00\x00\x00\xff\xff\xff\x7f",
            "is cut short",
        ),
        ("a.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01XX", "is damaged"),
        (
            "a.mat",
            MATLAB + b"\x0f\x00\x00\x00\x04\x00\x00\x00abcd",
            "does not unpack",
        ),
        ("a.npy", b"\x93NUMPY\x01\x00\x02\x00{}", "is damaged"),
    ],
)
def test_things_that_are_no_set_are_named(tmp_path: Path, name: str, content: bytes, words: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        convert(tmp_path / name, tmp_path / "target")
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("joined", [False, True])
def test_chunk_that_does_not_unpack_is_one_sentence(tmp_path: Path, joined: bool):
    path = tmp_path / "a.h5"
    for name in ["a_train.h5", "a_test.h5"] if joined else ["a.h5"]:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for field in ("a", "u"):
                file.create_dataset(field, data=RANDOM.random((4, 8, 6)), chunks=(1, 8, 6), compression="gzip")
            place = file["u"].id.get_chunk_info(2).byte_offset
        with open(path, "r+b") as raw:
            raw.seek(place)
            raw.write(bytes(40))
    with pytest.raises(DataError, match=r"a.*\.h5: /u cannot be read") as caught:
        convert(tmp_path if joined else path, tmp_path / "target", roles=["a=input:nxy,u=output:nxy"])
    assert "\n" not in str(caught.value)


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path: Path):
    np.arange(48.0).tofile(tmp_path / "secret")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros((2, 4, 6))
        file.create_dataset("u", shape=(2, 4, 3), dtype="f8", external=[(str(tmp_path / "secret"), 0, 192)])
    with pytest.raises(DataError, match="keeps '/u' in another file"):
        convert(tmp_path / "a.h5", tmp_path / "target")


def test_notes_of_ours_that_do_not_hold_are_refused(make, tmp_path: Path):
    convert(make("vorticity"), tmp_path / "w.h5", format="physicsnemo", split="train=1")
    for note, words in (
        ("{", "its note of Fieldwright is damaged"),
        ('{"version": 99}', "was written by another version"),
        ('{"version": 1, "name": "w", "samples": 12, "grid": [[6, 5], "hexagonal", [], []]}', "hexagonal"),
    ):
        with h5py.File(tmp_path / "w.h5", "r+") as file:
            file.attrs["fieldwright"] = note
        with pytest.raises(DataError, match=words) as caught:
            convert(tmp_path / "w.h5", tmp_path / "target")
        assert str(tmp_path / "w.h5") in str(caught.value)


def test_array_that_shrank_behind_its_note_is_named(make, tmp_path: Path):
    convert(make("vorticity"), tmp_path / "w.h5", format="physicsnemo", split="train=1")
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["w"]
        file["w"] = np.zeros((12, 4, 6, 4), np.float32)
    with pytest.raises(DataError, match=r"'w' of shape \(12, 4, 6, 4\) has 4 y where the set has 5"):
        convert(tmp_path / "w.h5", tmp_path / "target")


def test_places_that_hold_nothing_or_several_things_are_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "holds no file of a known kind"), (tmp_path / "nowhere", "is not there")):
        with pytest.raises(DataError, match=words):
            convert(path, tmp_path / "target")
    (tmp_path / "empty" / "a.npy").write_bytes(b"")
    (tmp_path / "empty" / "a.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds files of several kinds \(\.mat, \.npy\); name one, as in '.*/\*\.mat'"):
        convert(tmp_path / "empty", tmp_path / "target")
    with pytest.raises(InputError, match="--from: 'pdbench'; did you mean 'pdebench'"):
        recognise(str(tmp_path), "pdbench")


def test_target_that_is_unclear_or_unknown_is_one_sentence(make, tmp_path: Path):
    source = make("steady")
    for target, options, words in (
        ("a.h5", {}, "may be pdebench's or physicsnemo's; say which by --to"),
        ("a", {"format": "mat"}, "--to: 'mat'; did you mean 'matlab'"),
        ("a", {"limit": 0}, "--limit 0; at least 1"),
        ("a", {"split": "half"}, "--split: 'half'"),
    ):
        with pytest.raises(InputError, match=words):
            convert(source, tmp_path / target, **options)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FieldwrightError, match="cannot write"):
        convert(source, tmp_path / "file" / "target")


def test_content_decides_and_not_the_ending(tmp_path: Path):
    for name, content in whole_files(tmp_path).items():
        kind = format_of(tmp_path / name)
        (tmp_path / "renamed.data").write_bytes(content)
        assert format_of(tmp_path / "renamed.data") == kind
    words = ("a_train_16", "training-set", "darcy_val", "valid", "x.test", "smooth2", "strain", "latest", "validated")
    assert [split_of_name(word) for word in words] == ["train", "train", "valid", "valid", "test", "test", "", "", ""]


def test_command_converts_and_says_what_it_did(make, tmp_path: Path, capsys):
    source = make("steady")
    arguments = ["convert", str(source), str(tmp_path / "a.npz"), "--limit", "2", "--json"]
    assert run_command(arguments) == 0
    out, err = capsys.readouterr()
    assert '"samples": {"train": 2, "valid": 2, "test": 2}' in out
    assert "convert: not in numpy: kept for Fieldwright alone" in err
    assert "convert Steady: 6 samples" in err
    assert run_command(["convert", str(tmp_path / "a_test.npz"), str(tmp_path / "back"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "Steady: 2 test samples of input permeability, output pressure on 6 x 5 points, in 1 shards at "
    )
    assert err == ""
    assert run_command(["convert", str(tmp_path / "a_test.npz"), "x", "--map", "pressure"]) == 2
    assert capsys.readouterr().err.startswith("fieldwright: --map: 'pressure'; write NAME=ROLE")
