"""Write shards: HDF5 files in the layout of The Well, extended by attributes that its readers ignore.

One shard holds N samples of T stored times on one grid of D dimensions:

    /                     dataset_name, grid_type, n_spatial_dims, n_trajectories, simulation_parameters
    /dimensions           time (T,), and one coordinate array per axis
    /scalars              numbers: (), (T,), (N,) or (N, T)
    /t0_fields            scalar fields   (N, T, X, Y, Z)
    /t1_fields            vector fields   (N, T, X, Y, Z, D)
    /t2_fields            tensor fields   (N, T, X, Y, Z, D, D)
    /boundary_conditions  one group per condition: bc_type WALL, OPEN or PERIODIC, and the mask of its points
    /fieldwright          ours: the grid's centring and box, where the samples come from, how well each was solved

A field that does not vary with the sample or with time lacks that axis. Arrays are float32 and contiguous, so each has
one byte offset in the file and can be memory-mapped.

Source: The Well, Ohana et al. 2024 (arXiv 2412.00568), format of release 1.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fieldwright.atomic import write_atomically
from fieldwright.datasets.pieces import Room, file_pieces
from fieldwright.errors import InputError
from fieldwright.grids import AXES, CONDITIONS, Boundary, Grid

_TEXT = h5py.string_dtype()
# The Well's normalisers clip standard deviations at 1e-4; a field ten times larger than that is safe.
_LEAST_NATURAL_SCALE = 1e-3


@dataclass(frozen=True)
class Sides:
    """The conditions at the walls of data made elsewhere: "wall" and "open" beside the words of `Boundary`.

    ``sides`` holds a pair of words per axis; none at all where nothing is known, which readers take as open.
    """

    sides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StoredField:
    """A field as it lies in a shard: ``values`` of shape ([sample,] [time,] *space, [component] * order).

    ``unit`` is that of the values. They are stored divided by ``scale``: The Well's normalisers clip standard
    deviations at 1e-4, so a field whose natural scale is far below one needs a smaller unit on disk.
    ``in_storage_unit`` says that ``values`` are divided already.
    """

    name: str
    values: np.ndarray
    order: int = 0
    sample_varying: bool = True
    time_varying: bool = True
    unit: str = "1"
    scale: float = 1.0
    in_storage_unit: bool = False
    description: str = ""


@dataclass(frozen=True)
class StoredScalar:
    """A number, or one per sample, per time or per both: ``values`` of shape ([sample,] [time]).

    ``channel`` marks a number that is an input of the problem: reading makes it a channel, constant over the grid.
    """

    name: str
    values: np.ndarray
    sample_varying: bool = False
    time_varying: bool = False
    unit: str = "1"
    channel: bool = False


@dataclass(frozen=True)
class ShardContent:
    """All that one shard holds.

    ``steady`` marks the two pseudo-times of a steady problem: frame 0 is the initial guess, frame 1 the solution.
    ``provenance`` are attributes of ``/fieldwright`` (seed, solver, tolerance ...), ``per_sample`` its arrays of
    length ``samples`` (index, residual, iterations).

    Errors: `InputError` for an array whose shape does not fit, a value that is not finite in float32, a name that is
    taken twice.
    """

    dataset_name: str
    grid: Grid
    boundary: Boundary | Sides
    samples: int
    times: np.ndarray
    fields: tuple[StoredField, ...]
    scalars: tuple[StoredScalar, ...] = ()
    steady: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    per_sample: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"shard: {self.samples} samples; at least one is needed")
        if len(self.boundary.sides) != self.grid.dimension and self.boundary != Sides():
            raise InputError(f"shard: {len(self.boundary.sides)} axes of walls for a {self.grid.dimension}D grid")
        names = [entry.name for entry in (*self.fields, *self.scalars)]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"shard: the name '{name}' is used twice")
        for entry in self.fields:
            components = (self.grid.dimension,) * entry.order
            _check(entry, (*self._leading(entry), *self.grid.shape, *components))
        for entry in self.scalars:
            _check(entry, self._leading(entry))
        for name, values in self.per_sample.items():
            if len(values) != self.samples:
                raise InputError(f"shard: {len(values)} entries of '{name}' for {self.samples} samples")

    def _leading(self, entry: StoredField | StoredScalar) -> tuple[int, ...]:
        return (self.samples,) * entry.sample_varying + (len(self.times),) * entry.time_varying


def storage_unit(size: float) -> float:
    """1 for a field of ordinary size; for a tiny one the power of two below it, which scales without rounding."""
    if size >= _LEAST_NATURAL_SCALE or size == 0 or not math.isfinite(size):
        return 1.0
    return 2.0 ** math.floor(math.log2(size))


def write_shard(path: Path, content: ShardContent, *, writer: str = "") -> str:
    """Write one shard, atomically; returns its SHA-256. The same content gives the same bytes.

    ``writer`` as in `write_atomically`.

    Errors: `StorageError` when it cannot be written; no file is left then.
    """
    return write_atomically(Path(path), *shard_pieces(content), writer=writer)


def shard_pieces(content: ShardContent) -> list[memoryview]:
    """The bytes of the shard's file, in pieces, of which the fields' are the arrays of the content where they can be.

    They are in memory because the HDF5 library cannot be trusted to survive a disk that fills up under it; a shard is
    small enough.
    """

    def fill(room: Room) -> None:
        _write_root(room.file, content)
        _write_dimensions(room.file, content)
        _write_scalars(room.file.create_group("scalars"), content)
        for order in range(3):
            chosen = [entry for entry in content.fields if entry.order == order]
            _write_fields(room, room.file.create_group(f"t{order}_fields"), chosen, content.grid.dimension)
        _write_boundary(room.file.create_group("boundary_conditions"), content)
        _write_own(room.file.create_group("fieldwright"), content)

    return file_pieces(fill)


def _write_root(file: h5py.File, content: ShardContent) -> None:
    constants = [s for s in content.scalars if not (s.sample_varying or s.time_varying)]
    file.attrs["dataset_name"] = content.dataset_name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = content.grid.dimension
    file.attrs["n_trajectories"] = content.samples
    file.attrs["simulation_parameters"] = _words(s.name for s in constants)
    for scalar in constants:
        file.attrs[scalar.name] = float(scalar.values)
    file.attrs["fieldwright_steady"] = content.steady


def _write_dimensions(file: h5py.File, content: ShardContent) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _words(AXES[: content.grid.dimension])
    arrays = {"time": content.times}
    arrays |= {AXES[i]: content.grid.axis(i).numpy() for i in range(content.grid.dimension)}
    for name, values in arrays.items():
        dataset = group.create_dataset(name, data=np.asarray(values, np.float32))
        dataset.attrs["sample_varying"] = False
        dataset.attrs["time_varying"] = name == "time"


def _write_scalars(group: h5py.Group, content: ShardContent) -> None:
    group.attrs["field_names"] = _words(s.name for s in content.scalars)
    for scalar in content.scalars:
        dataset = group.create_dataset(scalar.name, data=np.asarray(scalar.values, np.float32))
        dataset.attrs["sample_varying"] = scalar.sample_varying
        dataset.attrs["time_varying"] = scalar.time_varying
        dataset.attrs["unit"] = scalar.unit
        if scalar.channel:
            dataset.attrs["fieldwright_channel"] = True


def _write_fields(room: Room, group: h5py.Group, fields: list[StoredField], dimension: int) -> None:
    group.attrs["field_names"] = _words(entry.name for entry in fields)
    for entry in fields:
        dataset = room.place(group, entry.name, _stored(entry))
        dataset.attrs["dim_varying"] = np.ones(dimension, bool)
        dataset.attrs["sample_varying"] = entry.sample_varying
        dataset.attrs["time_varying"] = entry.time_varying
        if entry.order == 2:
            dataset.attrs["symmetric"] = False
            dataset.attrs["antisymmetric"] = False
        dataset.attrs["unit"] = entry.unit
        dataset.attrs["fieldwright_scale"] = entry.scale
        dataset.attrs["description"] = entry.description


def _write_boundary(group: h5py.Group, content: ShardContent) -> None:
    for axis, (low, high) in enumerate(content.boundary.sides):
        name, n = AXES[axis], content.grid.shape[axis]
        if low == high:
            conditions = {f"{name}_{_kind(low).lower()}": (low, [0, n - 1])}
        else:
            conditions = {
                f"{name}_{_kind(condition).lower()}_{end}": (condition, [place])
                for condition, end, place in ((low, "low", 0), (high, "high", n - 1))
            }
        for title, (condition, places) in conditions.items():
            mask = np.zeros(n, bool)
            mask[places] = True
            entry = group.create_group(title)
            entry.attrs["bc_type"] = _kind(condition)
            entry.attrs["associated_dims"] = _words([name])
            entry.attrs["associated_fields"] = _words([])
            entry.attrs["sample_varying"] = False
            entry.attrs["time_varying"] = False
            if condition in CONDITIONS:
                entry.attrs["fieldwright_kind"] = condition
            entry.create_dataset("mask", data=mask)


def _write_own(group: h5py.Group, content: ShardContent) -> None:
    group.attrs["centring"] = content.grid.centring
    group.attrs["lower"] = np.asarray(content.grid.lower)
    group.attrs["upper"] = np.asarray(content.grid.upper)
    for name, value in content.provenance.items():
        group.attrs[name] = value
    for name, values in content.per_sample.items():
        group.create_dataset(name, data=values)


def _kind(condition: str) -> str:
    # The Well's enumeration has no word for what a wall does; Dirichlet and Neumann are both its WALL.
    return {"periodic": "PERIODIC", "open": "OPEN"}.get(condition, "WALL")


def _words(words: Iterable[str]) -> np.ndarray:
    return np.array(list(words), dtype=_TEXT)


def _stored(entry: StoredField) -> np.ndarray:
    values = np.asarray(entry.values)
    divided = entry.in_storage_unit or entry.scale == 1
    return np.ascontiguousarray(values if divided else values / entry.scale, np.float32)


def _check(entry: StoredField | StoredScalar, shape: tuple[int, ...]) -> None:
    values = np.asarray(entry.values)
    if values.shape != shape:
        raise InputError(f"shard: '{entry.name}' has shape {values.shape}; its grid and samples need {shape}")
    # Half of float32's largest number leaves room for rounding; what is above it would be stored as infinity.
    limit = np.finfo(np.float32).max / 2
    with np.errstate(invalid="ignore"):
        sound = bool(values.min() > -limit) and bool(values.max() < limit)  # neither holds of NaN
    if not sound:
        raise InputError(f"shard: '{entry.name}' holds a value that is not finite in single precision")
