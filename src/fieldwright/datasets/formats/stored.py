"""Arrays that lie in files and are read slice by slice: parts of files, and arrays put together from several.

All have ``shape`` and ``dtype`` and take a tuple of slices, one per axis, as HDF5 and Zarr datasets do; what comes back
is in memory, and nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.errors import DataError, FieldwrightError
from fieldwright.settings import first_line

Key = tuple[slice, ...]


def read_slice(array: Any, key: Key) -> np.ndarray:
    """The numbers of an array at a key.

    Errors: `DataError` when they cannot be had: a damaged chunk, a filter that is not installed, a broken connection.
    """
    try:
        return np.asarray(array[key])
    except (FieldwrightError, MemoryError):
        raise
    except Exception as error:  # every library has its own for this
        file = getattr(array, "file", None)
        where = f"{getattr(file, 'filename', '') or 'the source'}: {getattr(array, 'name', 'an array')}"
        raise DataError(f"{where} cannot be read ({first_line(error)})") from error


@dataclass(frozen=True)
class FileRegion:
    """Numbers that lie in C order from byte ``offset`` of a file.

    Errors: `DataError` when the file ends before them.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __post_init__(self) -> None:
        end, size = self.offset + math.prod(self.shape) * self.dtype.itemsize, self.path.stat().st_size
        if end > size:
            raise DataError(f"{self.path}: is cut short; an array would end at byte {end} of {size}")

    def __getitem__(self, key: Key) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)[key]
        # A map per call: pages that were read are given back with it, and do not count as this process's memory.
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(mapped[key])


class Joined:
    """Arrays one after the other along an axis."""

    def __init__(self, arrays: Sequence[Any], axis: int = 0) -> None:
        self.arrays = list(arrays)
        self.axis = axis
        shape = [int(n) for n in arrays[0].shape]
        self.ends = np.cumsum([int(array.shape[axis]) for array in arrays])
        shape[axis] = int(self.ends[-1])
        self.shape = tuple(shape)
        self.dtype = np.result_type(*(array.dtype for array in arrays))

    def __getitem__(self, key: Key) -> np.ndarray:
        start, stop, _ = key[self.axis].indices(self.shape[self.axis])
        pieces = []
        for array, end in zip(self.arrays, self.ends.tolist(), strict=True):
            begin = end - int(array.shape[self.axis])
            low, high = max(start, begin), min(stop, end)
            if low < high:
                inner = (*key[: self.axis], slice(low - begin, high - begin), *key[self.axis + 1 :])
                pieces.append(read_slice(array, inner))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, self.axis)


class Stacked:
    """``count`` arrays of one shape along a leading axis, a sample each; ``member(i)`` opens one when it is read.

    Errors: `DataError` when a member has another shape than the first.
    """

    def __init__(self, count: int, member: Callable[[int], Any]) -> None:
        self.member = member
        first = member(0)
        self.shape = (count, *(int(n) for n in first.shape))
        self.dtype = first.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        blocks = []
        for index in range(*key[0].indices(self.shape[0])):
            array = self.member(index)
            if tuple(array.shape) != self.shape[1:]:
                raise DataError(f"sample {index} has shape {tuple(array.shape)} where the first has {self.shape[1:]}")
            blocks.append(read_slice(array, key[1:]))
        return np.stack(blocks)


class Lifted:
    """An array with one more axis, of length one, before axis ``position``."""

    def __init__(self, array: Any, position: int) -> None:
        self.array, self.position = array, position
        shape = [int(n) for n in array.shape]
        self.shape = (*shape[:position], 1, *shape[position:])
        self.dtype = array.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        p = self.position
        return np.expand_dims(read_slice(self.array, (*key[:p], *key[p + 1 :])), p)


class Folded:
    """An array of rows, each of which has a shape of its own: (N, M) as (N, *shape)."""

    def __init__(self, array: Any, shape: Sequence[int]) -> None:
        self.array = array
        self.shape = (int(array.shape[0]), *shape)
        self.dtype = array.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        rest = tuple(slice(None) for _ in self.array.shape[1:])
        block = read_slice(self.array, (key[0], *rest))
        return block.reshape(len(block), *self.shape[1:])[(slice(None), *key[1:])]


class Thinned:
    """Every ``steps[axis]``-th entry of an array, from the first."""

    def __init__(self, array: Any, steps: Sequence[int]) -> None:
        self.array, self.steps = array, tuple(steps)
        self.shape = tuple(-(-int(n) // step) for n, step in zip(array.shape, steps, strict=True))
        self.dtype = array.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        finer = []
        for chosen, step, size in zip(key, self.steps, self.shape, strict=True):
            start, stop, _ = chosen.indices(size)
            finer.append(slice(start * step, max(start, stop - 1) * step + 1, step))
        return read_slice(self.array, tuple(finer))
