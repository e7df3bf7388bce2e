"""Bring arrays whose samples are not the slowest axis into an order in which a sample lies together.

MATLAB's first index, the sample, runs fastest on disk: reading one sample of N would touch the whole file, and reading
all of them touch it N times. Such an array is turned once, through a temporary file: slabs that lie together in the
source are read one after the other, and each is spread over the samples of the target. Memory holds one slab.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.datasets.formats.source import Part, Reading, Source
from fieldwright.datasets.formats.stored import FileRegion, read_slice
from fieldwright.errors import StorageError


def samples_first(source: Source, reading: Reading, samples_at_once: int) -> Source:
    """The source with every part readable ``samples_at_once`` samples at a time, at a cost in proportion to them.

    Errors: `StorageError` when the temporary file does not fit on the disk.
    """
    turned: dict[int, Part] = {}

    def turn(part: Part) -> Part:
        if not _needs_turning(part, samples_at_once):
            return part
        # Channels share one array; it is turned once.
        if id(part.array) not in turned:
            turned[id(part.array)] = _turned(part, reading)
        return replace(turned[id(part.array)], picked=part.picked, scale=part.scale)

    variables = tuple(replace(v, parts=tuple(turn(part) for part in v.parts)) for v in source.variables)
    return replace(source, variables=variables)


def _needs_turning(part: Part, samples_at_once: int) -> bool:
    if "n" not in part.axes or isinstance(part.array, np.ndarray):
        return False
    position = part.axes.index("n")
    chunks = getattr(part.array, "chunks", None)
    if chunks:
        # Reading some samples decompresses the chunks they lie in, whole.
        return chunks[position] > max(4, 2 * samples_at_once) and part.array.shape[position] > samples_at_once
    return position > 0


def _turned(part: Part, reading: Reading) -> Part:
    array, position = part.array, part.axes.index("n")
    axes = "n" + part.axes.replace("n", "")
    shape = (part.size("n"), *(int(n) for i, n in enumerate(array.shape) if i != position))
    kind = np.dtype(np.float64 if array.dtype.itemsize > 4 and array.dtype.kind == "f" else np.float32)
    if math.prod(shape) * kind.itemsize <= reading.budget:
        whole = read_slice(array, tuple(slice(None) for _ in array.shape))
        return Part(np.ascontiguousarray(np.moveaxis(whole, position, 0)), axes)
    path = _room(reading.scratch, math.prod(shape) * kind.itemsize)
    for slab in _slabs(array, position, reading.budget):
        block = np.moveaxis(read_slice(array, slab), position, 0)
        target = np.memmap(path, kind, "r+", 0, shape)
        target[(slice(None), *(s for i, s in enumerate(slab) if i != position))] = block
        del target
    return Part(FileRegion(path, 0, shape, kind), axes)


def _room(directory: Path, size: int) -> Path:
    """An empty file of ``size`` bytes."""
    free = shutil.disk_usage(directory).free
    if free < size:
        raise StorageError(
            f"{directory}: {size / 2**30:.1f} GiB are needed to reorder an array; {free / 2**30:.1f} are free"
        )
    handle, name = tempfile.mkstemp(dir=directory, suffix=".turned")
    with os.fdopen(handle, "r+b") as file:
        file.truncate(size)
    return Path(name)


def _slabs(array: Any, position: int, budget: int) -> list[tuple[slice, ...]]:
    """Blocks that hold all samples, cut along the slowest other axes, along chunks where there are any."""
    shape = [int(n) for n in array.shape]
    chunks = getattr(array, "chunks", None) or [1] * len(shape)
    thickness = list(shape)
    for axis in range(len(shape)):
        if axis == position or math.prod(thickness) * array.dtype.itemsize <= budget:
            continue
        others = math.prod(thickness) // thickness[axis] * array.dtype.itemsize
        wanted = max(1, budget // others)
        thickness[axis] = min(shape[axis], max(chunks[axis], wanted // chunks[axis] * chunks[axis]))
    slabs: list[tuple[slice, ...]] = [()]
    for size, step in zip(shape, thickness, strict=True):
        slabs = [(*slab, slice(i, min(i + step, size))) for slab in slabs for i in range(0, size, step)]
    return slabs
