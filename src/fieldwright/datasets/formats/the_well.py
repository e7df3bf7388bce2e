"""The Well's layout as a source: our datasets and other people's, on the disk or at an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from fieldwright.datasets.formats.coordinates import rising_times
from fieldwright.datasets.formats.joined import joined
from fieldwright.datasets.formats.source import Part, Place, Reading, Source, Variable
from fieldwright.datasets.formats.stored import FileRegion
from fieldwright.datasets.layout import FieldLayout, Layout, read_layouts
from fieldwright.datasets.read import verify_file
from fieldwright.datasets.remote import RemoteFile
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError
from fieldwright.grids import AXES

_GEOMETRY = ("centring", "lower", "upper")


def read_well(splits: Mapping[str, Sequence[Place]], reading: Reading) -> Source:
    """The shards of some splits, as one set in the order of the splits.

    Errors: `DataError` for a shard that is damaged or whose checksum has changed, and for shards that do not fit.
    """
    placed = [(split, place) for split, places in splits.items() for place in places]
    for _, place in placed:
        if not isinstance(place, RemoteFile):
            verify_file(place)
    sources = []
    for (split, _), layout in zip(placed, read_layouts([place for _, place in placed]), strict=True):
        source = _source(layout, reading)
        sources.append(replace(source, splits={split: (range(source.samples),)}))
    # Files of one set may differ in their constant numbers, which then are numbers of their samples.
    return joined(sources)


def _source(layout: Layout, reading: Reading) -> Source:
    place = layout.path
    if layout.attributes.get("grid_type", "cartesian") != "cartesian":
        raise DataError(f"{place}: its grid is {layout.attributes['grid_type']}; Cartesian ones are converted")
    handle: Any = h5py.File(place.open() if isinstance(place, RemoteFile) else place, "r", locking=False)
    reading.handles.append(handle)
    steady = layout.steady or layout.steps == 1
    kept = {name: value for name, value in layout.own.items() if name not in _GEOMETRY}
    return Source(
        name=layout.name,
        format="well",
        files=(place,),
        samples=layout.samples,
        grid=layout.grid,
        variables=tuple(_variable(layout, entry, handle, steady) for entry in layout.fields),
        times=np.zeros(0) if steady else _times(handle["dimensions/time"], str(place)),
        sides=_sides(handle),
        scalars=tuple(_scalar(handle["scalars"][name]) for name in layout.scalars),
        provenance=kept,
    )


def _variable(layout: Layout, entry: FieldLayout, handle: Any, steady: bool) -> Variable:
    space = "".join(axis for axis, kept in zip(AXES, entry.dim_varying, strict=False) if kept)
    axes = "n" * entry.sample_varying + "t" * entry.time_varying + space + "vw"[: entry.order]
    array: Any = handle[entry.place]
    if entry.offset is not None and not isinstance(layout.path, RemoteFile):
        array = FileRegion(layout.path, entry.offset, tuple(entry.shape), np.dtype(entry.dtype))
    # Of a steady problem's two pseudo-times the first is the guess.
    picked = (("t", layout.steps - 1),) if steady and entry.time_varying else ()
    role = "output" if entry.time_varying else "input"
    part = Part(array, axes, picked, entry.scale)
    description = str(handle[entry.place].attrs.get("description", ""))
    return Variable(entry.name, role, (part,), entry.order, entry.unit, description)


def _times(dataset: Any, where: str) -> np.ndarray:
    rows = np.atleast_2d(np.asarray(dataset[()], np.float64))
    if not np.allclose(rows, rows[:1], rtol=1e-6, atol=0):
        raise DataError(f"{where}: its samples are stored at different times, which cannot be converted")
    return rising_times(rows[0], where)


def _sides(handle: Any) -> Sides:
    """The condition at the ends of each axis; what is not marked is open, and nothing marked is nothing known."""
    names = [str(name) for name in handle["dimensions"].attrs["spatial_dims"]]
    sides = [["open", "open"] for _ in names]
    marked = False
    for entry in handle["boundary_conditions"].values():
        axes = [names.index(str(name)) for name in entry.attrs["associated_dims"] if str(name) in names]
        mask = np.asarray(entry["mask"][()], bool) if "mask" in entry else np.ones(2, bool)
        if len(axes) != 1 or mask.ndim != 1 or not mask.size:
            continue
        kind = entry.attrs.get("fieldwright_kind", str(entry.attrs["bc_type"]).lower())
        for end in (0, -1):
            if mask[end]:
                sides[axes[0]][end], marked = str(kind), True
    return Sides(tuple((low, high) for low, high in sides) if marked else ())


def _scalar(dataset: Any) -> StoredScalar:
    attributes = dataset.attrs
    by_sample, by_time = bool(attributes["sample_varying"]), bool(attributes["time_varying"])
    values = np.asarray(dataset[()], np.float64)
    # The format's page shows constants of shape (1,).
    values = values.reshape(()) if not by_sample and not by_time and values.size == 1 else values
    name = str(dataset.name).rpartition("/")[2]
    unit = attributes.get("unit", "1")
    channel = bool(attributes.get("fieldwright_channel", False))
    return StoredScalar(name, values, by_sample, by_time, unit if isinstance(unit, str) else "1", channel)
