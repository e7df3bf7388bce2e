"""Shards keep the rules of The Well's format, are whole or absent, and the same content gives the same bytes."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from format_rules import violations
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.atomic import checksum, write_atomically
from fieldwright.datasets import ShardContent, StoredField, StoredScalar, write_shard
from fieldwright.datasets.store import shard_pieces
from fieldwright.errors import InputError, StorageError
from fieldwright.grids import Boundary, Grid


@st.composite
def contents(draw: st.DrawFn) -> ShardContent:
    dimension, samples = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    steps = draw(st.sampled_from([1, 2, 5]))
    centring = draw(st.sampled_from(["node", "cell", "periodic"]))
    grid = Grid(tuple(draw(st.integers(2, 5)) for _ in range(dimension)), centring)
    side = st.sampled_from(["dirichlet", "neumann"])
    sides = [draw(st.one_of(st.tuples(side, side), st.just(("periodic", "periodic")))) for _ in range(dimension)]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def leading(sample_varying: bool, time_varying: bool) -> tuple[int, ...]:
        return (samples,) * sample_varying + (steps,) * time_varying

    fields = []
    for order in range(3):
        for number in range(draw(st.integers(0, 3))):
            varying = draw(st.tuples(st.booleans(), st.booleans()))
            shape = (*leading(*varying), *grid.shape, *[dimension] * order)
            fields.append(StoredField(f"field_{order}{number}", random.standard_normal(shape), order, *varying))
    scalars = [
        StoredScalar(f"scalar_{s:d}{t:d}", random.standard_normal(leading(s, t)), s, t)
        for s in (False, True)
        for t in (False, True)
        if draw(st.booleans())
    ]
    return ShardContent("made", grid, Boundary(tuple(sides)), samples, np.arange(steps), tuple(fields), tuple(scalars))


@settings(max_examples=40, deadline=None)
@given(contents())
def test_shard_keeps_every_rule_of_the_format_and_every_value(content: ShardContent):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "made.hdf5"
        assert write_shard(path, content) == checksum(path)
        assert violations(str(path)) == []
        with h5py.File(path) as file:
            for entry in content.fields:
                np.testing.assert_array_equal(file[f"t{entry.order}_fields/{entry.name}"], np.float32(entry.values))
            for entry in content.scalars:
                np.testing.assert_array_equal(file[f"scalars/{entry.name}"], np.float32(entry.values))
            for axis, name in enumerate("xyz"[: content.grid.dimension]):
                np.testing.assert_array_equal(file[f"dimensions/{name}"], content.grid.axis(axis).float())


def small(**changes: object) -> ShardContent:
    values = np.arange(2 * 4 * 3, dtype=np.float64).reshape(2, 4, 3)
    facts: dict = {
        "dataset_name": "small",
        "grid": Grid((4, 3)),
        "boundary": Boundary((("dirichlet", "neumann"), ("periodic", "periodic"))),
        "samples": 2,
        "times": np.array([0.0]),
        "fields": (StoredField("a", values, time_varying=False, unit="K", scale=0.25),),
    }
    return ShardContent(**{**facts, **changes})


def test_walls_of_different_kinds_are_told_apart_by_our_attribute(tmp_path: Path):
    write_shard(tmp_path / "s.hdf5", small())
    with h5py.File(tmp_path / "s.hdf5") as file:
        conditions = {
            name: (entry.attrs["bc_type"], entry.attrs["fieldwright_kind"], entry["mask"][:].tolist())
            for name, entry in file["boundary_conditions"].items()
        }
    assert conditions == {
        "x_wall_low": ("WALL", "dirichlet", [True, False, False, False]),
        "x_wall_high": ("WALL", "neumann", [False, False, False, True]),
        "y_periodic": ("PERIODIC", "periodic", [True, False, True]),
    }


def test_scaled_field_is_stored_in_its_unit_of_storage(tmp_path: Path):
    write_shard(tmp_path / "s.hdf5", small())
    with h5py.File(tmp_path / "s.hdf5") as file:
        stored = file["t0_fields/a"]
        assert stored.attrs["fieldwright_scale"] == 0.25
        assert stored.attrs["unit"] == "K"
        np.testing.assert_array_equal(stored[:] * 0.25, small().fields[0].values)


def test_same_content_gives_the_same_bytes():
    assert b"".join(shard_pieces(small())) == b"".join(shard_pieces(small()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_value_that_is_not_finite_in_single_precision_is_refused(value: float):
    values = np.zeros((2, 4, 3))
    values[1, 2, 0] = value
    with pytest.raises(InputError, match="'a' holds a value that is not finite"):
        small(fields=(StoredField("a", values, time_varying=False),))


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": (StoredField("a", np.zeros((2, 3, 4)), time_varying=False),)},
        {"scalars": (StoredScalar("s", np.zeros(3), sample_varying=True),)},
        {"scalars": (StoredScalar("a", np.zeros(())),)},
        {"samples": 0},
        {"boundary": Boundary.parse("dirichlet", 1)},
        {"per_sample": {"residual": np.zeros(3)}},
    ],
)
def test_content_that_does_not_fit_together_is_refused(changes: dict):
    with pytest.raises(InputError, match="shard"):
        small(**changes)


def test_full_disk_raises_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "s.hdf5"
    write_shard(path, small())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*s\.hdf5: No space left on device"):
        write_shard(path, small(dataset_name="other"))
    assert [p.name for p in tmp_path.iterdir()] == ["s.hdf5"]
    assert path.read_bytes() == before


def test_write_that_the_system_stops_half_way_leaves_nothing(tmp_path: Path):
    # A limit on file sizes makes the kernel itself refuse the write, as a full disk would.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*big"):
            write_atomically(tmp_path / "big", bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_raises_storage_error(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomically(tmp_path / "file" / "s.hdf5", b"bytes")
