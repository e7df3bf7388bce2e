"""HDF5 files of no known layout, also those of PhysicsNeMo's readers: an array per name, or a file per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fieldwright.datasets.formats.passport import PASSPORT, source_of_passport
from fieldwright.datasets.formats.plain_arrays import Plain, source_of_arrays
from fieldwright.datasets.formats.source import Place, Reading, Source
from fieldwright.datasets.formats.stored import Stacked
from fieldwright.datasets.layout import look
from fieldwright.datasets.remote import RemoteFile
from fieldwright.errors import DataError

_SECONDS = 120.0  # a file of ten thousand groups takes some of them
_NUMBERS = "fiub"


@dataclass(frozen=True)
class Hdf5File:
    """An open file that a child process has looked through: the shapes and kinds of all its arrays, by path."""

    place: Place
    handle: Any  # h5py.File, of whose items no type checker knows which are arrays
    arrays: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def numeric(self) -> list[str]:
        """The arrays of real numbers."""
        return [name for name, facts in self.arrays.items() if facts["kind"] in _NUMBERS]

    def text(self, item: str, name: str) -> str:
        """A text attribute of a group or array; empty where there is none."""
        value = self.handle[item].attrs.get(name, "")
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def number(self, item: str, name: str) -> float | None:
        """A numeric attribute; None where there is none, or it is no number."""
        value = np.asarray(self.handle[item].attrs.get(name, ""))
        return float(value.reshape(())) if value.size == 1 and value.dtype.kind in "fiu" else None

    def need(self, name: str) -> Any:
        """An array of numbers.

        Errors: `DataError` that says which arrays there are.
        """
        if name not in self.arrays:
            shown = ", ".join(list(self.arrays)[:12]) + (", ..." if len(self.arrays) > 12 else "")
            raise DataError(f"{self.place}: holds no array '{name}'; it has {shown or 'none'}")
        if self.arrays[name]["kind"] not in _NUMBERS:
            raise DataError(f"{self.place}: '{name}' holds {self.handle[name].dtype}, not real numbers")
        return self.handle[name]


def open_hdf5(place: Place, known: dict[Place, Hdf5File] | None = None) -> Hdf5File:
    """A file of anyone's, looked through in a child process that may crash before this one opens it.

    A file among the ``known`` is not looked through again, one that is not is put there.

    Errors: `DataError` when it is missing, damaged or not HDF5.
    """
    if known is not None and place in known:
        return known[place]
    (facts,) = look([place], "arrays", seconds=_SECONDS)
    if "error" in facts:
        raise DataError(f"{place}: {facts['error']}")
    source = place.open() if isinstance(place, RemoteFile) else place
    found = Hdf5File(place, h5py.File(source, "r", locking=False), facts["arrays"])
    if known is not None:
        known[place] = found
    return found


def read_hdf5(places: Sequence[Place], reading: Reading) -> Source:
    """The arrays at the root of a file, the sample their first axis; or of many files, a sample each.

    Errors: `DataError` for files that do not fit together or arrays whose meaning cannot be told.
    """
    first = open_hdf5(places[0], reading.opened)
    note = first.text("/", PASSPORT)
    if note and len(places) == 1:
        return source_of_passport(note, first.need, (places[0],), "hdf5")
    names = [name for name in first.numeric() if len(first.arrays[name]["shape"]) > 0]
    if len(places) == 1:
        arrays = {name: _plain(first, name, first.handle[name]) for name in names}
        return source_of_arrays(places[0].stem, arrays, tuple(places), reading, format="hdf5")
    for place, facts in zip(places, look(places, "arrays"), strict=True):
        _check_same(place, facts, first)
    arrays = {name: _plain(first, name, Stacked(len(places), _Member(places, name))) for name in names}
    name = Path(str(places[0])).parent.name
    return source_of_arrays(name, arrays, tuple(places), reading, format="hdf5")


@dataclass(frozen=True)
class _Member:
    """The array of one name in each of several files."""

    places: Sequence[Place]
    name: str

    def __call__(self, index: int) -> Any:
        place = self.places[index]
        return h5py.File(place.open() if isinstance(place, RemoteFile) else place, "r", locking=False)[self.name]


def _plain(file: Hdf5File, name: str, array: Any) -> Plain:
    return Plain(array, unit=file.arrays[name]["unit"], description=file.text(name, "description"))


def _check_same(place: Place, facts: dict[str, Any], first: Hdf5File) -> None:
    if "error" in facts:
        raise DataError(f"{place}: {facts['error']}")
    for name, ours in first.arrays.items():
        theirs = facts["arrays"].get(name)
        if theirs is None:
            raise DataError(f"{place}: holds no array '{name}', which {first.place} has")
        for what in ("shape", "kind", "unit"):
            if theirs[what] != ours[what]:
                raise DataError(f"{place}: '{name}' has the {what} {theirs[what]}, but {ours[what]} in {first.place}")
