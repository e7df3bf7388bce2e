"""MATLAB's ``.mat`` files, as in the papers of the Fourier neural operator and their descendants.

The names of axes are MATLAB's: samples first, time last. On the disk they lie in reverse, in version 5 because MATLAB
stores column by column, in version 7.3 because that is how it hands them to HDF5. What is written is ``coeff`` and
``sol`` of a steady set with one of each, ``a`` (the state at time 0), ``u`` and ``t`` of one that evolves, and
otherwise arrays by the fields' own names.

Source: Li et al. 2021 (arXiv 2010.08895), their data and scripts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.io.matlab

from fieldwright.atomic import written_beside
from fieldwright.datasets.formats.export import Channel, Target, channels
from fieldwright.datasets.formats.hdf5 import open_hdf5
from fieldwright.datasets.formats.mat_version5 import header_of, variables
from fieldwright.datasets.formats.passport import (
    PASSPORT,
    Placed,
    lost_facts,
    passport,
    scalar_rows,
    source_of_passport,
)
from fieldwright.datasets.formats.plain_arrays import Plain, source_of_arrays
from fieldwright.datasets.formats.source import Reading, Source
from fieldwright.datasets.formats.streamed_hdf5 import PlannedArray, streamed_hdf5
from fieldwright.errors import DataError, InputError
from fieldwright.grids import AXES, Centring
from fieldwright.settings import first_line

_V5_LIMIT_BYTES = 2**31 - 2**16
_V73_HEADER = b"MATLAB 7.3 MAT-file, Platform: any, Created by: Fieldwright HDF5 schema 1.00 .".ljust(116) + bytes(8)
_V73_MARK = b"\x00\x02IM"
_NUMBERS = (b"double", b"single", b"logical")


def read_matlab(place: Path, reading: Reading) -> Source:
    """One file of either version.

    Errors: `DataError` for a damaged file, or arrays whose meaning cannot be told.
    """
    try:
        major, _ = scipy.io.matlab.matfile_version(str(place))
    except (ValueError, OSError, scipy.io.matlab.MatReadError) as error:
        raise DataError(f"{place}: is damaged, or no MAT-file ({first_line(error)})") from error
    read = {0: _version4, 1: _version5, 2: _version73}[major]
    arrays, note = read(place, reading)
    if note:
        return source_of_passport(note, lambda name: arrays[name].array, (place,), "matlab")
    centring = _centring(arrays)
    return source_of_arrays(place.stem, arrays, (place,), reading, format="matlab", centring=centring, time_last=True)


def _version5(place: Path, reading: Reading) -> tuple[dict[str, Plain], str]:
    found = variables(place, reading.scratch)
    arrays = {v.name: Plain(v.array, reversed=True) for v in found if v.text is None}
    return arrays, next((v.text or "" for v in found if v.name == PASSPORT), "")


def _version4(place: Path, reading: Reading) -> tuple[dict[str, Plain], str]:
    contents = scipy.io.loadmat(str(place))
    return {k: Plain(v) for k, v in contents.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu"}, ""


def _version73(place: Path, reading: Reading) -> tuple[dict[str, Plain], str]:
    file = open_hdf5(place, reading.opened)
    arrays, note = {}, ""
    for name in file.numeric():
        dataset = file.handle[name]
        label = dataset.attrs.get("MATLAB_class", b"double")
        if name == PASSPORT and label == b"char":
            note = "".join(map(chr, dataset[()].reshape(-1).tolist()))
        elif (label in _NUMBERS or b"int" in label) and "MATLAB_empty" not in dataset.attrs:
            arrays[name] = Plain(dataset, reversed=True)
    return arrays, note


def _centring(arrays: Mapping[str, Plain]) -> Centring:
    """The papers' grids: of Darcy nodes, with those of the walls and so of odd number; of the rest a torus."""
    shape = max((plain.shape for plain in arrays.values()), key=np.prod, default=())
    return "node" if "coeff" in arrays or (len(shape) > 1 and shape[1] % 2) else "periodic"


def lost_in_matlab(target: Target) -> list[str]:
    """Sentences on what others do not see in the file."""
    source = target.source
    members = _members(source)
    kept = ["the times", "the grid's coordinates", "the parameters", "the splits"]
    renamed = [f"{channel.name} as {name}" for name, channel, _ in members if name not in ("a", channel.name)]
    said = lost_facts(source, kept_by_others=[*kept, "the names of the fields"])
    return said + ([f"written under other names: {', '.join(renamed)}"] if renamed else [])


def write_matlab(target: Target, *, version: str = "") -> list[Path]:
    """A file per split, named as `write_npz` names them; returns them.

    ``version`` is "5" or "7.3"; by default the older one, as far as its limit of 2 GiB a variable allows.

    Errors: `InputError` for version 5 of a larger set, `StorageError` when they cannot be written, `DataError` for a
    value that is not finite.
    """
    return [_write(one, version) for one in target.file_per_split()]


def _write(target: Target, version: str) -> Path:
    source, count = target.source, len(target.together())
    members = _members(source)
    shapes = {name: (count, *_row_shape(source, channel, name)) for name, channel, _ in members}
    if len(shapes) < len(members):
        raise InputError(f"convert: two fields have one name in MATLAB: {', '.join(name for name, _, _ in members)}")
    largest = 4 * max(int(np.prod(shape)) for shape in shapes.values())
    if version == "5" and largest > _V5_LIMIT_BYTES:
        raise InputError(
            f"convert: a variable of {largest / 2**30:.1f} GiB; version 5 holds 2 GiB, --to matlab-v7.3 more"
        )
    placed = {
        channel.name: Placed(name, _axes(source, channel)[::-1], initial="a" if name == "u" and "a" in shapes else "")
        for name, channel, _ in members
    }
    small = {axis: source.grid.axis(i).numpy() for i, axis in enumerate(AXES[: source.grid.dimension])}
    small |= {"t": source.times[1:] if "a" in shapes else source.times} if not source.steady else {}
    small |= {_matlab_name(s.name): scalar_rows(s, target.selections) for s in source.scalars}
    small = {name: np.atleast_2d(values) for name, values in small.items() if name not in shapes}
    note = passport(source, placed, target.selections)
    if version == "7.3" or largest > _V5_LIMIT_BYTES:
        _write_version73(target, shapes, small, note)
    else:
        _write_version5(target, shapes, small, note)
    return target.path


def _write_version5(
    target: Target, shapes: Mapping[str, tuple[int, ...]], small: Mapping[str, np.ndarray], note: str
) -> None:
    image = io.BytesIO()
    scipy.io.savemat(image, {**small, PASSPORT: note}, format="5")
    with written_beside(target.path) as partial:
        begins = {}
        with open(partial, "wb") as file:
            file.write(image.getvalue())
            for name, shape in shapes.items():
                header, size = header_of(name, shape)
                file.write(header)
                begins[name] = file.tell()
                file.truncate(begins[name] + size)
                file.seek(begins[name] + size)
        for name, first, rows in _rows(target):
            # A map per block: its pages go to the disk with it.
            stored = np.memmap(partial, "<f4", "r+", begins[name], shapes[name][::-1])
            stored[..., first : first + len(rows)] = rows.T
            del stored


def _write_version73(
    target: Target, shapes: Mapping[str, tuple[int, ...]], small: Mapping[str, np.ndarray], note: str
) -> None:
    label = {"MATLAB_class": np.bytes_("single")}
    planned = {name: PlannedArray(shape, label, rows_last=True) for name, shape in shapes.items()}
    arrays: dict[str, np.ndarray] = {
        name: np.ascontiguousarray(np.asarray(values, np.float64).T) for name, values in small.items()
    }
    attributes: dict[str, dict[str, Any]] = {name: {"MATLAB_class": np.bytes_("double")} for name in small}
    characters = np.frombuffer(note.encode("ascii"), np.uint8).astype(np.uint16)[:, None]
    arrays |= {PASSPORT: characters}
    attributes[PASSPORT] = {"MATLAB_class": np.bytes_("char"), "MATLAB_int_decode": np.int32(2)}
    with streamed_hdf5(
        target.path, planned, small=arrays, attributes=attributes, header=_V73_HEADER + _V73_MARK
    ) as file:
        for name, first, rows in _rows(target):
            file.write(name, first, rows)


def _members(source: Source) -> list[tuple[str, Channel, slice | int]]:
    """The arrays of the file: name, channel, and which of its stored times."""
    every, members = slice(None), channels(source)
    inputs, outputs = channels(source, "input"), channels(source, "output")
    if source.steady and (len(inputs), len(outputs)) == (1, 1):
        return [("coeff", inputs[0], every), ("sol", outputs[0], every)]
    if len(members) == 1 and len(source.times) > 1 and source.times[0] == 0:
        return [("a", members[0], 0), ("u", members[0], slice(1, None))]
    return [(_matlab_name(channel.name), channel, every) for channel in members]


def _rows(target: Target) -> Iterator[tuple[str, int, np.ndarray]]:
    """Rows of each array in MATLAB's order of axes."""
    members = _members(target.source)
    distinct = list({channel.name: channel for _, channel, _ in members}.values())
    for channel, first, block in target.blocks(distinct):
        for name, member, chosen in members:
            if member.name == channel.name and channel.variable.time_varying:
                part = block[:, chosen]
                yield name, first, part if isinstance(chosen, int) else np.moveaxis(part, 1, -1)
            elif member.name == channel.name:
                yield name, first, block


def _row_shape(source: Source, channel: Channel, name: str) -> tuple[int, ...]:
    if not channel.variable.time_varying or name == "a":
        return source.grid.shape
    apart = any(other == "a" for other, _, _ in _members(source))
    return (*source.grid.shape, len(source.times) - apart)


def _axes(source: Source, channel: Channel) -> str:
    return "n" + "".join(AXES[: source.grid.dimension]) + "t" * channel.variable.time_varying


def _matlab_name(name: str) -> str:
    """Letters, digits and underscores, a letter first, at most 31."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (plain if plain[:1].isalpha() else f"v{plain}")[:31]
