"""The variables of a MAT-file of version 5, found by their headers; numbers are left where they lie.

The file is a header of 128 bytes and then elements: a type, a length, that many bytes, up to a multiple of 8. A
variable is an element that holds others: flags with its class, its sizes, its name, its numbers, column by column. Its
numbers may be stored in a smaller type than its class, and the whole element may be compressed.

Source: MATLAB's description of the MAT-file format, level 5.
"""

from __future__ import annotations

import math
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fieldwright.datasets.formats.stored import FileRegion
from fieldwright.errors import DataError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
}
_TEXT_CLASS, _SINGLE_CLASS, _NUMBER_CLASSES = 4, 7, range(6, 16)
_UTF8 = 16
_COMPLEX, _READ_BYTES = 0x0800, 1 << 20


@dataclass(frozen=True)
class MatVariable:
    """A variable: ``array`` has its axes in reverse, as they lie in the file; ``text`` is a text's."""

    name: str
    array: Any = None
    text: str | None = None


def variables(path: Path, scratch: Path) -> list[MatVariable]:
    """The arrays of real numbers and the texts of a file; what is compressed is unpacked into files in ``scratch``.

    Errors: `DataError` when the file is damaged or cut short.
    """
    found = []
    with open(path, "rb") as file:
        head = file.read(_HEADER)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if order is None:
            raise DataError(f"{path}: is damaged, or no MAT-file of version 5")
        size, position = path.stat().st_size, _HEADER
        while position + 8 <= size:
            file.seek(position)
            kind, length = struct.unpack(order + "II", file.read(8))
            if position + 8 + length > size:
                raise DataError(f"{path}: is cut short; a variable would end at byte {position + 8 + length} of {size}")
            if kind == _COMPRESSED:
                unpacked = _unpacked(file, length, path, scratch)
                with open(unpacked, "rb") as inner:
                    found += _matrix(inner, unpacked, 8, unpacked.stat().st_size, order, path)
            elif kind == _MATRIX:
                found += _matrix(file, path, position + 8, position + 8 + length, order, path)
            position += 8 + length  # padding is part of a matrix's length
    return found


def _matrix(file: BinaryIO, place: Path, start: int, end: int, order: str, path: Path) -> Iterator[MatVariable]:
    """The variable whose elements lie between two bytes; nothing for cells, structures and objects."""
    try:
        flags, position = _element(file, start, order)
        class_of, marks = struct.unpack(order + "I", flags[1][:4])[0] & 0xFF, flags[1]
        sizes, position = _element(file, position, order)
        shape = tuple(np.frombuffer(sizes[1], order + "i4").tolist())
        title, position = _element(file, position, order)
        name = title[1].decode("latin-1")
        if class_of not in (*_NUMBER_CLASSES, _TEXT_CLASS) or name.startswith("__") or math.prod(shape) == 0:
            return
        if struct.unpack(order + "I", marks[:4])[0] & _COMPLEX:
            return
        (kind, _, offset, length), _ = _located(file, position, order)
        number = np.dtype(order + _TYPES[kind])
        if length != math.prod(shape) * number.itemsize or offset + length > end:
            raise DataError(f"{path}: is damaged; '{name}' of shape {shape} has {length} bytes of {number}")
        if class_of == _TEXT_CLASS:
            file.seek(offset)
            raw = file.read(length)
            codes = np.frombuffer(raw, number).tolist()
            yield MatVariable(name, text=raw.decode(errors="replace") if kind == _UTF8 else "".join(map(chr, codes)))
        else:
            yield MatVariable(name, FileRegion(place, offset, shape[::-1], number))
    except (struct.error, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is damaged ({type(error).__name__} in a variable's header)") from error


def _located(file: BinaryIO, position: int, order: str) -> tuple[tuple[int, int, int, int], int]:
    """Type, place of its header, place and length of its bytes; and where the next element begins."""
    file.seek(position)
    kind, length = struct.unpack(order + "II", file.read(8))
    if kind >> 16:  # a small element: type and length in half a word each, and the bytes in the other word
        return (kind & 0xFFFF, position, position + 4, kind >> 16), position + 8
    return (kind, position, position + 8, length), position + 8 + -(-length // 8) * 8


def _element(file: BinaryIO, position: int, order: str) -> tuple[tuple[int, bytes], int]:
    (kind, _, offset, length), following = _located(file, position, order)
    if length > _READ_BYTES:
        raise ValueError("a header of that length")
    file.seek(offset)
    return (kind, file.read(length)), following


def _unpacked(file: BinaryIO, length: int, path: Path, scratch: Path) -> Path:
    """A file with a compressed element, unpacked."""
    machine = zlib.decompressobj()
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".unpacked", delete=False) as target:
        try:
            while length > 0:
                piece = file.read(min(length, _READ_BYTES))
                length -= len(piece)
                # In steps, so that what expands a thousandfold does not fill the memory.
                while piece:
                    target.write(machine.decompress(piece, _READ_BYTES))
                    piece = machine.unconsumed_tail
            target.write(machine.flush())
        except zlib.error as error:
            raise DataError(f"{path}: is damaged (a compressed variable does not unpack)") from error
    return Path(target.name)


def header_of(name: str, shape: tuple[int, ...]) -> tuple[bytes, int]:
    """The bytes before the numbers of an array in single precision, and how many bytes those take, padding included.

    ``shape`` is in MATLAB's order.
    """
    size = 4 * math.prod(shape)
    padded = -(-size // 8) * 8
    title = name.encode("ascii")
    parts = struct.pack("<IIII", 6, 8, _SINGLE_CLASS, 0)
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    parts += struct.pack("<II", 5, len(sizes)) + sizes.ljust(-(-len(sizes) // 8) * 8, b"\0")
    parts += struct.pack("<II", 1, len(title)) + title.ljust(-(-len(title) // 8) * 8, b"\0")
    parts += struct.pack("<II", 7, size)
    return struct.pack("<II", _MATRIX, len(parts) + padded) + parts, padded
