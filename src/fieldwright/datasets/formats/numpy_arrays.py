"""NumPy's ``.npy`` and ``.npz``: arrays by name, read in place, and written entry by entry.

What is written has a field per array, (N, *space) or (N, T, *space), the coordinates ``x``, ``y``, ``z`` and ``t``, and
the parameters by their names.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fieldwright.atomic import written_beside
from fieldwright.datasets.formats.export import Target, channels
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
from fieldwright.datasets.formats.stored import FileRegion
from fieldwright.errors import DataError, FieldwrightError
from fieldwright.grids import AXES
from fieldwright.settings import first_line

_COPY_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<26xHH")


def read_numpy(places: Sequence[Path], reading: Reading) -> Source:
    """An ``.npz`` file, or ``.npy`` files as one set, each array named by its file.

    Errors: `DataError` for damaged files, objects of Python and arrays whose meaning cannot be told.
    """
    arrays: dict[str, Plain] = {}
    for place in places:
        if not zipfile.is_zipfile(place):
            arrays[place.stem] = _npy(place)
            continue
        found, texts = open_npz(place, reading)
        if PASSPORT in texts:
            return source_of_passport(texts[PASSPORT], _opener(found), (place,), "numpy")
        arrays |= found
    name = places[0].stem if len(places) == 1 else places[0].parent.name
    return source_of_arrays(name, arrays, tuple(places), reading, format="numpy")


def open_npz(place: Path, reading: Reading) -> tuple[dict[str, Plain], dict[str, str]]:
    """The arrays of real numbers of an ``.npz`` file, none of them read, and its texts.

    Compressed arrays are unpacked beside the target, or into memory where they are small.

    Errors: `DataError` for a damaged file or one that holds objects of Python.
    """
    arrays, texts = {}, {}
    try:
        with zipfile.ZipFile(place) as archive, open(place, "rb") as raw:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as file:
                    shape, reversed_, kind = _header(file, f"{place}: '{name}'")
                    begin = file.tell()
                    if kind.kind in "US" and entry.file_size < reading.budget:
                        file.seek(0)
                        texts[name] = str(np.lib.format.read_array(file, allow_pickle=False).reshape(-1)[0])
                    elif kind.kind in "fiub" and entry.compress_type == zipfile.ZIP_STORED:
                        raw.seek(entry.header_offset)
                        sizes = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
                        offset = entry.header_offset + _LOCAL_HEADER.size + sum(sizes) + begin
                        arrays[name] = Plain(FileRegion(place, offset, shape, kind), reversed_)
                    elif kind.kind in "fiub":
                        arrays[name] = Plain(_unpacked(file, shape, kind, reading, f"{place}: '{name}'"), reversed_)
    except FieldwrightError:
        raise
    except Exception as error:  # the readers of damaged archives raise anything; all of it means the same
        raise DataError(f"{place}: is damaged ({first_line(error)})") from error
    return arrays, texts


def _npy(place: Path) -> Plain:
    try:
        with open(place, "rb") as file:
            shape, reversed_, kind = _header(file, str(place))
            if kind.kind not in "fiub":
                raise DataError(f"{place}: holds {kind}, not real numbers")
            return Plain(FileRegion(place, file.tell(), shape, kind), reversed_)
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{place}: is damaged, or no file of NumPy's ({first_line(error)})") from error


def _header(file: Any, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape on the disk, whether the axes lie there in reverse, and the type of the numbers."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise DataError(f"{where}: holds objects of Python, which are never loaded")
    return (shape[::-1] if fortran else shape), bool(fortran), kind


def _unpacked(file: IO[bytes], shape: tuple[int, ...], kind: np.dtype, reading: Reading, where: str) -> Any:
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size <= reading.budget:
        return np.frombuffer(file.read(size), kind).reshape(shape)
    if shutil.disk_usage(reading.scratch).free < size:
        raise DataError(f"{where} does not fit into {reading.scratch} once it is unpacked")
    with tempfile.NamedTemporaryFile(dir=reading.scratch, suffix=".unpacked", delete=False) as target:
        shutil.copyfileobj(file, target, _COPY_BYTES)
    return FileRegion(Path(target.name), 0, shape, kind)


def _opener(arrays: Mapping[str, Plain]) -> Any:
    return lambda name: arrays[name].array


def lost_in_numpy(target: Target) -> list[str]:
    """Sentences on what others do not see in the file."""
    source = target.source
    kept = ("the names of the fields", "the times", "the grid's coordinates", "the parameters", "the splits")
    return lost_facts(source, kept_by_others=kept)


def write_npz(target: Target) -> list[Path]:
    """An ``.npz`` file per split: ``NAME.npz`` where there is one, else ``NAME_train.npz`` and so on; returns them.

    Errors: `StorageError` when they cannot be written, `DataError` for a value that is not finite.
    """
    return [_write(one) for one in target.file_per_split()]


def _write(target: Target) -> Path:
    source, space = target.source, "".join(AXES[: target.source.grid.dimension])
    members = channels(source)
    names = {channel.name for channel in members}
    placed = {
        channel.name: Placed(channel.name, "n" + "t" * channel.variable.time_varying + space) for channel in members
    }
    with written_beside(target.path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for channel in members:
            frames = (len(source.times),) if channel.variable.time_varying else ()
            shape = (len(target.together()), *frames, *source.grid.shape)
            rows = (block for _, _, block in target.blocks([channel], of=len(members)))
            append_rows(archive, channel.name, shape, rows)
        small = {axis: source.grid.axis(i).numpy() for i, axis in enumerate(space)}
        small |= {"t": source.times} if not source.steady else {}
        small |= {s.name: scalar_rows(s, target.selections) for s in source.scalars}
        for name, values in small.items():
            if name not in names:
                append_array(archive, name, values)
        append_array(archive, PASSPORT, np.array(passport(source, placed, target.selections)))
    return target.path


def append_rows(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """An array of float32 whose rows come block after block."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(entry, header)
        for block in blocks:
            entry.write(np.ascontiguousarray(block, "<f4").tobytes())


def append_array(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    """An array that is in memory."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)
