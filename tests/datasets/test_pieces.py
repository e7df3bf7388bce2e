"""A file put together from pieces is the file that HDF5 would have written, and copies no array."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets.pieces import Room, _Sheet, file_pieces

ARRAYS = {
    "one": np.arange(7, dtype=np.float32),
    "large": np.random.default_rng(0).random((3, 50, 400)).astype(np.float32),
    "small": np.array([2.5], np.float32),
    "whole": np.arange(12, dtype=np.int64).reshape(3, 4),
}


def fill(room: Room) -> None:
    room.file.attrs["title"] = "a" * 300
    for number, (name, values) in enumerate(ARRAYS.items()):
        group = room.file.create_group(f"group {number}")
        group.create_dataset("beside", data=np.arange(number + 1))
        room.place(group, name, values).attrs["unit"] = "m/s"


def test_pieces_are_a_file_that_hdf5_reads(tmp_path: Path):
    (tmp_path / "file.h5").write_bytes(b"".join(file_pieces(fill)))
    with h5py.File(tmp_path / "file.h5") as file:
        assert file.attrs["title"] == "a" * 300
        for number, (name, values) in enumerate(ARRAYS.items()):
            stored = file[f"group {number}"][name]
            np.testing.assert_array_equal(stored[...], values)
            assert stored.dtype == values.dtype
            assert stored.attrs["unit"] == "m/s"
            assert stored.chunks is None
            assert file[f"group {number}/beside"][:].tolist() == list(range(number + 1))


def test_arrays_are_pieces_themselves_and_the_rest_is_small():
    pieces = file_pieces(fill)
    shared = [p for p in pieces if any(np.shares_memory(np.frombuffer(p, np.uint8), a) for a in ARRAYS.values())]
    assert sum(len(p) for p in shared) == sum(a.nbytes for a in ARRAYS.values())
    assert sum(len(p) for p in pieces) - sum(len(p) for p in shared) < 32768


def test_file_without_any_placed_array_is_one_piece(tmp_path: Path):
    (piece,) = file_pieces(lambda room: room.file.attrs.update(a=1))
    (tmp_path / "file.h5").write_bytes(piece)
    with h5py.File(tmp_path / "file.h5") as file:
        assert dict(file.attrs) == {"a": 1}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=70_000)), max_size=6),
    st.integers(0, 300_000),
)
def test_sheet_holds_what_a_file_would(writes: list[tuple[int, bytes]], size: int):
    sheet, plain = _Sheet(), io.BytesIO()
    for place, data in writes:
        for file in (sheet, plain):
            file.seek(place)
            file.write(data)
    assert sheet.seek(0, io.SEEK_END) == plain.seek(0, io.SEEK_END)
    whole = plain.getvalue()
    sheet.seek(3)
    found = bytearray(100_000)
    count = sheet.readinto(found)
    assert bytes(found[:count]) == whole[3 : 3 + count]
    assert sheet.tell() == 3 + count
    sheet.truncate(size)
    assert bytes(sheet.bytes(0, size)) == whole[:size].ljust(size, b"\0")
