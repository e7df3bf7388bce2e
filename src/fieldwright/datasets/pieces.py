"""An HDF5 file as pieces of memory: what the library writes itself, and large arrays that it only finds room for.

Handed an array, the library copies it into the image of a file, and copies that once more to hand it back: three times
the memory, and most of the time goes into pages of memory touched for the first time. An array of one contiguous block
can as well go from where it is to its place in the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import h5py
import numpy as np

_PAGE = 1 << 16


class Room:
    """A file being put together; `place` gives an array its dataset, whose numbers follow when the file is read out."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self._placed: list[tuple[h5py.Dataset, np.ndarray]] = []

    def place(self, group: h5py.Group, name: str, values: np.ndarray) -> h5py.Dataset:
        """A dataset for a contiguous array, as one contiguous block."""
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        dataset = group.create_dataset(name, shape=values.shape, dtype=values.dtype, dcpl=settings)
        self._placed.append((dataset, values))
        return dataset

    def blocks(self) -> list[tuple[int, memoryview]]:
        """(offset in the file, bytes) of every placed array, in the order of the file."""
        found = [(dataset.id.get_offset(), values.reshape(-1).data.cast("B")) for dataset, values in self._placed]
        return sorted((place, block) for place, block in found if len(block))


def file_pieces(fill: Callable[[Room], None]) -> list[memoryview]:
    """The bytes of the file that ``fill`` fills, in order; the same content gives the same bytes."""
    sheet = _Sheet()
    # v110 is the newest file format that releases 1.10 of the library still read.
    with h5py.File(sheet, "w", libver=("earliest", "v110")) as file:
        room = Room(file)
        fill(room)
        file.flush()
        blocks = room.blocks()
    pieces: list[memoryview] = []
    end = 0
    for place, block in blocks:
        pieces += [sheet.bytes(end, place), block]
        end = place + len(block)
    pieces.append(sheet.bytes(end, sheet.size))
    return [piece for piece in pieces if len(piece)]


class _Sheet(io.RawIOBase):
    """A file in memory that keeps the pages that were written to; the others are zero and take no memory."""

    def __init__(self) -> None:
        self.size = 0
        self._place = 0
        self._pages: dict[int, bytearray] = {}

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int | None = None) -> int:
        self.size = self._place if size is None else size
        return self.size

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        for start, page, within, length in _spans(self._place, len(view)):
            held = self._pages.setdefault(page, bytearray(_PAGE))
            held[within : within + length] = view[start : start + length]
        self._place += len(view)
        self.size = max(self.size, self._place)
        return len(view)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self.size - self._place))
        view[:length] = self.bytes(self._place, self._place + length)
        self._place += length
        return length

    def bytes(self, start: int, stop: int) -> memoryview:
        """A copy of the bytes from ``start`` to ``stop``."""
        found = bytearray(max(0, stop - start))
        for place, page, within, length in _spans(start, len(found)):
            if page in self._pages:
                found[place : place + length] = self._pages[page][within : within + length]
        return memoryview(found)


def _spans(start: int, length: int) -> list[tuple[int, int, int, int]]:
    """(place in the span, page, place in the page, length) of every page that a span of bytes touches."""
    found, done = [], 0
    while done < length:
        page, within = divmod(start + done, _PAGE)
        part = min(length - done, _PAGE - within)
        found.append((done, page, within, part))
        done += part
    return found
