"""HDF5 files that are larger than memory, written so that a full disk costs a sentence.

The HDF5 library cannot be trusted to survive a disk that fills up under it. So it makes the file's skeleton only, with
every array at its place and not one number written; the room is then reserved, and numbers are written by the operating
system at the places that the skeleton tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fieldwright.atomic import written_beside
from fieldwright.errors import StorageError


@dataclass(frozen=True)
class PlannedArray:
    """An array of rows to come. With ``rows_last`` its axes lie reversed on the disk, and each row is a chunk."""

    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    rows_last: bool = False
    dtype: str = "<f4"


@dataclass
class StreamedFile:
    """A skeleton that takes rows: ``write("u", 5, block)`` puts the block's rows at 5, 6, ... of array "u"."""

    handle: int
    arrays: Mapping[str, PlannedArray]
    offsets: Mapping[str, Any]

    def write(self, name: str, first: int, block: np.ndarray) -> None:
        """Write rows, in the order of the planned shape whatever the order on the disk.

        Errors: `OSError` when the disk does not take them.
        """
        planned, offset = self.arrays[name], self.offsets[name]
        if planned.rows_last:
            for i, row in enumerate(block):
                self._put(offset[first + i], np.ascontiguousarray(row.T, planned.dtype))
        else:
            rows = np.ascontiguousarray(block, planned.dtype)
            self._put(offset + first * (rows.nbytes // max(1, len(rows))), rows)

    def _put(self, offset: int, values: np.ndarray) -> None:
        view = values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")
        while view:
            written = os.pwrite(self.handle, view, offset)
            view, offset = view[written:], offset + written


@contextmanager
def streamed_hdf5(
    path: Path,
    arrays: Mapping[str, PlannedArray],
    *,
    small: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    scales: Mapping[str, tuple[str, ...]] | None = None,
    header: bytes = b"",
) -> Iterator[StreamedFile]:
    """A file with room for ``arrays`` and with the ``small`` ones written, whole on the disk once the block is done.

    ``attributes`` are those of groups and of arrays of numbers that are small, ``scales`` names the small arrays that
    are the coordinates of an array's axes; ``header`` is put before the HDF5 part, in a block of 512 bytes.

    Errors: `StorageError` when the disk is full or cannot be written.
    """
    with written_beside(path) as partial:
        offsets = _skeleton(partial, arrays, small or {}, attributes or {}, scales or {}, bool(header))
        handle = os.open(partial, os.O_RDWR)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, os.fstat(handle).st_size)
            if header:
                os.pwrite(handle, header, 0)
            yield StreamedFile(handle, arrays, offsets)
        finally:
            os.close(handle)


def _skeleton(
    path: Path,
    arrays: Mapping[str, PlannedArray],
    small: Mapping[str, np.ndarray],
    attributes: Mapping[str, Mapping[str, Any]],
    scales: Mapping[str, tuple[str, ...]],
    block: bool,
) -> dict[str, Any]:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    offsets: dict[str, Any] = {}
    try:
        # v108: attributes of more than 64 KiB; v110: what releases 1.10 of the library still read.
        with h5py.File(path, "w", userblock_size=512 if block else None, libver=("v108", "v110")) as file:
            for name, values in small.items():
                file.create_dataset(name, data=values)
            for name, planned in arrays.items():
                kept = creation.copy()
                if planned.rows_last:
                    kept.set_chunk((*planned.shape[:0:-1], 1))
                shape = planned.shape[::-1] if planned.rows_last else planned.shape
                parent, _, last = name.rpartition("/")
                group = file.require_group(parent) if parent else file
                space = h5py.h5s.create_simple(shape)
                dataset = h5py.Dataset(
                    h5py.h5d.create(group.id, last.encode(), h5py.h5t.py_create(np.dtype(planned.dtype)), space, kept)
                )
                dataset.attrs.update(planned.attributes)
                offsets[name] = _chunk_offsets(dataset) if planned.rows_last else dataset.id.get_offset()
            for item, entries in attributes.items():
                (file.require_group(item) if item not in file else file[item]).attrs.update(entries)
            for name in {scale for names in scales.values() for scale in names if scale}:
                h5py.h5ds.set_scale(file[name].id, name.encode())
            for name, axes in scales.items():
                for axis, scale in enumerate(axes):
                    if scale:
                        h5py.h5ds.attach_scale(file[name].id, file[scale].id, axis)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write {path}: {str(error).partition(chr(10))[0]}") from error
    return offsets


def _chunk_offsets(dataset: h5py.Dataset) -> np.ndarray:
    """The place of each chunk, by its index along the last axis."""
    found = np.zeros(dataset.shape[-1], np.int64)

    def visit(chunk: Any) -> None:
        found[chunk.chunk_offset[-1]] = chunk.byte_offset

    dataset.id.chunk_iter(visit)
    return found
