"""Pieces read from files in any order of axes are those of the whole array; grids are found again from coordinates."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets.formats.coordinates import grid_from_coordinates, rising_times, stated_grid
from fieldwright.datasets.formats.export import Selection
from fieldwright.datasets.formats.roles import assign, deduced_axes, habit
from fieldwright.datasets.formats.samples_first import samples_first
from fieldwright.datasets.formats.source import Part, Reading, Source, Variable
from fieldwright.datasets.formats.stored import FileRegion, Folded, Joined, Lifted, Stacked, Thinned
from fieldwright.datasets.formats.streamed_hdf5 import PlannedArray, streamed_hdf5
from fieldwright.errors import DataError, InputError, StorageError
from fieldwright.grids import Grid

SIZES = {"n": 5, "t": 3, "x": 4, "y": 6, "z": 2, "v": 3, "w": 3, "c": 2}
GRID = Grid((4, 6, 2))


@settings(max_examples=60, deadline=None)
@given(axes=st.permutations("ntxyzvwc"), start=st.integers(0, 4), count=st.integers(1, 5), channel=st.integers(0, 1))
def test_axes_in_any_order_come_in_one(axes: list[str], start: int, count: int, channel: int):
    values = np.random.default_rng(0).standard_normal([SIZES[a] for a in axes])
    part = Part(values, "".join(axes), (("c", channel),))
    expected = values.transpose([axes.index(a) for a in "ntxyzvwc"])[start : start + count, ..., channel]
    np.testing.assert_array_equal(part.read(slice(start, start + count), GRID), np.float32(expected))


@settings(max_examples=30, deadline=None)
@given(present=st.sets(st.sampled_from("ntxyz"), min_size=1))
def test_axes_of_space_that_are_absent_are_filled(present: set[str]):
    axes = [a for a in "ntxyz" if a in present]
    values = np.random.default_rng(0).standard_normal([SIZES[a] for a in axes])
    read = Part(values, "".join(axes)).read(slice(1, 4), GRID)
    wanted = [a for a in "nt" if a in present]
    full = values.reshape([SIZES[a] if a in present else 1 for a in (*wanted, *"xyz")])
    full = np.broadcast_to(full, [*[SIZES[a] for a in wanted], *GRID.shape])
    np.testing.assert_array_equal(read, np.float32(full[1:4] if "n" in present else full))


def test_axes_that_do_not_fit_are_refused():
    for axes in ("nx", "nxx"):
        with pytest.raises(InputError, match=f"axes '{axes}'"):
            Part(np.zeros((3, 4, 5)), axes)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_arrays_put_together_are_sliced_like_arrays(data: st.DataObject):
    whole = np.arange(7 * 6 * 4.0).reshape(7, 6, 4)
    cuts = sorted(data.draw(st.sets(st.integers(1, 5), max_size=3)))
    axis = 1
    pieces = np.split(whole, cuts, axis)
    key = tuple(
        slice(start := data.draw(st.integers(0, n - 1)), data.draw(st.integers(start + 1, n))) for n in whole.shape
    )
    lifted = (*key[:2], slice(0, 1), key[2])
    for array, expected, chosen in (
        (Joined(pieces, axis), whole, key),
        (Stacked(7, lambda index: whole[index]), whole, key),
        (Lifted(whole, 2), whole[:, :, None], lifted),
        (Folded(whole.reshape(7, 24), (6, 4)), whole, key),
        (Thinned(np.repeat(np.repeat(whole, 2, 1), 3, 2), (1, 2, 3)), whole, key),
    ):
        assert array.shape == expected.shape
        np.testing.assert_array_equal(array[chosen], expected[chosen])


def test_region_of_a_file_is_its_numbers_and_ends_with_the_file(tmp_path: Path):
    values = np.arange(24, dtype=">f8").reshape(4, 3, 2)
    (tmp_path / "raw").write_bytes(b"seven.." + values.tobytes())
    region = FileRegion(tmp_path / "raw", 7, values.shape, values.dtype)
    np.testing.assert_array_equal(region[1:3, :, 0:1], values[1:3, :, :1])
    with pytest.raises(DataError, match="is cut short; an array would end at byte 200 of 199"):
        FileRegion(tmp_path / "raw", 8, values.shape, values.dtype)


def test_member_of_another_shape_is_named():
    with pytest.raises(DataError, match=r"sample 2 has shape \(3,\) where the first has \(4,\)"):
        Stacked(3, lambda index: np.zeros(3 if index == 2 else 4))[0:3, 0:4]


@pytest.mark.parametrize("budget", [1, 300, 4000, 1 << 20])
@pytest.mark.parametrize("chunks", [None, (2, 6, 1, 12), (1, 1, 4, 2)])
def test_samples_are_brought_to_the_front_slab_by_slab(tmp_path: Path, budget: int, chunks: tuple[int, ...] | None):
    values = np.random.default_rng(0).standard_normal((3, 6, 4, 12))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("u", data=values, chunks=chunks)
        part = Part(array, "tyxn")
        source = Source("a", "test", (tmp_path,), 12, Grid((4, 6)), (Variable("u", "output", (part,)),), np.arange(3.0))
        turned = samples_first(source, Reading(tmp_path, budget=budget), samples_at_once=4)
        found = turned.variables[0].parts[0]
        assert (found.axes[0], found.array is array) == (("n", False) if chunks != (1, 1, 4, 2) else ("t", True))
        for start in range(12):
            expected = np.float32(values[..., start : start + 1].transpose(3, 0, 2, 1))
            np.testing.assert_array_equal(turned.variables[0].read(slice(start, start + 1), source.grid), expected)


def test_reordering_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: os.statvfs_result((0,) * 10) and type("Disk", (), {"free": 10})()
    )
    part = Part(Joined([np.zeros((3, 4, 12))]), "tyn")
    source = Source(
        "a", "test", (tmp_path,), 12, Grid((4,)), (Variable("u", "output", (Part(part.array, "txn"),)),), np.arange(3.0)
    )
    with pytest.raises(StorageError, match="needed to reorder an array"):
        samples_first(source, Reading(tmp_path, budget=1), samples_at_once=1)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=3),
    centring=st.sampled_from(["node", "cell", "periodic"]),
    corner=st.sampled_from([0.0, -1.0, 0.125, -2.5, 100.0]),
    length=st.sampled_from([1.0, 2.0, 2 * np.pi, 0.3, 500.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_grid_is_found_again_from_its_coordinates(
    sizes: list[int], centring: str, corner: float, length: float, dtype: type
):
    corner = 0.0 if length == 2 * np.pi else corner
    grid = Grid(tuple(sizes), centring, (corner,) * len(sizes), (corner + length,) * len(sizes))
    lines = [grid.axis(i).numpy().astype(dtype) for i in range(grid.dimension)]
    found = grid_from_coordinates(lines, centring, "file")
    assert found.shape == grid.shape
    for line, axis in zip(lines, range(grid.dimension), strict=True):
        np.testing.assert_allclose(
            found.axis(axis).numpy().astype(dtype), line, rtol=2e-7 if dtype is np.float32 else 1e-12
        )
    if dtype is np.float32 and length != 0.3:
        assert (found.lower, found.upper) == (grid.lower, grid.upper)


def test_centring_is_guessed_from_where_points_begin():
    for centring, periodic in (("cell", False), ("node", False), ("periodic", True)):
        grid = Grid((8, 4), centring)
        lines = [grid.axis(i).numpy() for i in range(2)]
        assert grid_from_coordinates(lines, None, "file", periodic=periodic) == grid


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([0.0], "has 1 coordinate along x"),
        ([0.0, 1.0, 3.0], "not evenly spaced"),
        ([1.0, 0.5, 0.0], "not evenly spaced and rising"),
        ([0.0, np.nan, 1.0], "that are not finite"),
    ],
)
def test_coordinates_of_no_grid_are_refused(line: list[float], words: str):
    with pytest.raises(DataError, match=words):
        grid_from_coordinates([np.array(line)], "node", "file")
    with pytest.raises(DataError, match="do not rise"):
        rising_times(np.array([0.0, 1.0, 1.0]), "file")


def test_stated_grid_reads_what_the_user_writes():
    assert stated_grid((4, 5), "", "node") == Grid((4, 5), "node")
    assert stated_grid((4, 5), "cell -1:1", "node") == Grid((4, 5), "cell", (-1.0, -1.0), (1.0, 1.0))
    assert stated_grid((4, 5), "periodic 0:2, 0:1e-1", "node").upper == (2.0, 0.1)
    for text in ("nodes", "cell 0", "cell a:b", "cell 0:1 0:1 0:1", "cell 1:0"):
        with pytest.raises(InputError):
            stated_grid((4, 5), text, "node")


def test_habits_of_names():
    names = {"coeff": (4, 9, 9), "sol": (4, 9, 9), "x": (9,), "y": (4, 9, 9), "t": (1, 5), "u": (4,), "other": (4, 9)}
    assert {name: habit(name, shape) for name, shape in names.items()} == {
        "coeff": "input", "sol": "output", "x": "x", "y": "output", "t": "time", "u": "skip", "other": "skip"
    }  # fmt: skip
    with pytest.raises(DataError, match="holds no array 'sl'; did you mean 'sol'"):
        assign(names, {"sl": "input"}, "file")


@pytest.mark.parametrize(
    ("shapes", "times", "dimension", "last", "expected"),
    [
        ({"a": (9, 8), "u": (9, 8)}, None, None, False, {"a": "nx", "u": "nx"}),
        ({"a": (9, 8, 8), "u": (9, 8, 8, 5)}, None, None, True, {"a": "nxy", "u": "nxyt"}),
        ({"a": (9, 8, 8), "u": (9, 5, 8, 8)}, 5, None, False, {"a": "nxy", "u": "ntxy"}),
        ({"a": (9, 8, 8), "u": (9, 8, 8, 5)}, 5, None, False, {"a": "nxy", "u": "nxyt"}),
        ({"a": (9, 1, 8, 8), "u": (9, 1, 8, 8)}, None, None, False, {"a": "ncxy", "u": "ncxy"}),
        ({"u": (9, 8, 8, 8)}, None, 3, False, {"u": "nxyz"}),
        ({"u": (9, 8, 8, 8)}, None, None, False, None),
        ({"a": (9, 8, 8), "u": (9, 5, 8, 8)}, None, None, False, None),
        ({"u": (9,)}, None, None, False, None),
    ],
)
def test_axes_are_deduced_where_one_reading_is_possible(shapes, times, dimension, last, expected):
    if expected is None:
        with pytest.raises(DataError, match="does not say which axis is which"):
            deduced_axes(shapes, times=times, dimension=dimension, time_last=last, where="file")
    else:
        assert deduced_axes(shapes, times=times, dimension=dimension, time_last=last, where="file") == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=4), st.integers(1, 7))
def test_selection_is_cut_into_pieces_in_its_order(parts: list[tuple[int, int]], step: int):
    selection = Selection(tuple(range(start, start + count) for start, count in parts))
    every = list(itertools.chain.from_iterable(selection.ranges))
    found = [(place + i, sample) for place, piece in selection.blocks(step)
             for i, sample in enumerate(range(piece.start, piece.stop))]  # fmt: skip
    assert [sample for _, sample in found] == every
    assert [place for place, _ in found] == list(range(len(every)))
    assert [i for piece in selection.pieces(2, 5) for i in range(piece.start, piece.stop)] == every[2:5]


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 9), last=st.booleans(), header=st.booleans(), cut=st.integers(1, 9))
def test_streamed_file_holds_the_rows_written_into_its_skeleton(rows: int, last: bool, header: bool, cut: int):
    values = np.random.default_rng(0).standard_normal((rows, 3, 4)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.h5"
        with streamed_hdf5(
            path,
            {"group/u": PlannedArray((rows, 3, 4), {"unit": "m"}, rows_last=last)},
            small={"t": np.arange(3.0)},
            attributes={"/": {"long": "x" * 100_000}, "group": {"config": "a: 1"}},
            header=b"head" if header else b"",
        ) as file:
            for start in range(0, rows, cut):
                file.write("group/u", start, values[start : start + cut])
            assert not path.exists()
        with h5py.File(path) as found:
            np.testing.assert_array_equal(found["group/u"], values.T if last else values)
            assert (found["group/u"].attrs["unit"], found["group"].attrs["config"]) == ("m", "a: 1")
            assert len(found.attrs["long"]) == 100_000
        assert path.read_bytes().startswith(b"head" if header else b"\x89HDF")


def test_disk_that_fills_up_costs_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def attempt(path: Path) -> None:
        with streamed_hdf5(path, {"u": PlannedArray((2, 3))}) as file:
            file.write("u", 0, np.zeros((2, 3)))

    for name in ("posix_fallocate", "pwrite"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(StorageError, match=r"cannot write .*a\.h5: No space left on device"):
                attempt(tmp_path / "a.h5")
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        attempt(tmp_path / "file" / "a.h5")
