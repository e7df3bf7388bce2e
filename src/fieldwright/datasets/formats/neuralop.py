"""neuraloperator's ``.pt`` files: a dictionary of tensors ``x`` and ``y``, one file to train on and one to test on.

Inputs and outputs of one channel have no axis of channels, (N, s, s); what has several has it behind the samples. An
axis that only ``y`` has there is time's, as in their Burgers data. Files are loaded with ``weights_only=True``, which
builds tensors and plain values and calls nothing.

Source: neuraloperator 2.0, ``neuralop/data/datasets/pt_dataset.py``.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldwright.atomic import written_beside
from fieldwright.datasets.formats.export import Selection, Target, channels, finite, operator_inputs
from fieldwright.datasets.formats.passport import PASSPORT, Placed, lost_facts, passport, source_of_passport
from fieldwright.datasets.formats.plain_arrays import Plain, source_of_arrays
from fieldwright.datasets.formats.source import Reading, Source
from fieldwright.datasets.store import Sides
from fieldwright.errors import DataError
from fieldwright.grids import AXES

_HALVES = (torch.float16, torch.bfloat16)


class TensorArray:
    """A tensor, mapped from its file, that is sliced like an array and gives arrays of NumPy."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.shape = tuple(tensor.shape)
        self.dtype = self[tuple(slice(0, 0) for _ in self.shape)].dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        part = self.tensor[key]
        return (part.float() if part.dtype in _HALVES else part).numpy()


def read_neuralop(place: Path, reading: Reading) -> Source:
    """One file.

    Errors: `DataError` for a file that holds anything but tensors and plain values by name, or no ``x`` and ``y``.
    """
    contents = _load(place)
    tensors = {
        name: TensorArray(v) for name, v in contents.items() if isinstance(v, torch.Tensor) and not v.is_complex()
    }
    note = contents.get(PASSPORT)
    if isinstance(note, str) and "y" in tensors:
        return source_of_passport(note, tensors.__getitem__, (place,), "neuralop")
    for name in ("x", "y"):
        if name not in tensors:
            raise DataError(f"{place}: holds no tensor '{name}'; it has {', '.join(map(str, contents)) or 'none'}")
    of_x, of_y = _axes(tensors, place)
    roles = {"x": f"input:{of_x}", "y": f"output:{of_y}", **reading.roles}
    space = [n for letter, n in zip(of_y, tensors["y"].shape, strict=True) if letter in AXES]
    # Their Darcy data are nodes with those of the walls, of odd number in full; the others live on a torus.
    nodes = "darcy" in place.stem.lower() or all(n % 2 for n in space)
    source = source_of_arrays(
        place.stem,
        {name: Plain(array) for name, array in tensors.items()},
        (place,),
        replace(reading, roles=roles),
        format="neuralop",
        centring="node" if nodes else "periodic",
    )
    return source if nodes else replace(source, sides=Sides((("periodic", "periodic"),) * source.grid.dimension))


def lost_in_neuralop(target: Target) -> list[str]:
    """Sentences on what their loaders do not see."""
    source = target.source
    said = lost_facts(source, kept_by_others=("the splits",))
    counts = [len(operator_inputs(source)), len(channels(source, "output"))]
    if max(counts) > 1:
        said.append(
            f"{counts[0]} inputs and {counts[1]} outputs stand along an axis of channels, which their reader adds where"
            " there is one"
        )
    if "test" not in target.selections:
        said.append("their loaders need a test file too, and there is no test split")
    return said


def write_neuralop(target: Target) -> list[Path]:
    """A file ``NAME_SPLIT_SIZE.pt`` per split in the directory ``target.path``; returns them.

    Of what evolves, ``x`` is the first stored state and ``y`` all of them.

    Errors: `StorageError` when they cannot be written, `DataError` for a value that is not finite.
    """
    source, size = target.source, target.source.grid.shape[0]
    written = []
    for split, selection in target.selections.items():
        path = target.path / f"{source.name}_{split}_{size}.pt"
        with written_beside(path) as partial:
            _write(target, {split: selection}, partial)
        written.append(path)
    return written


def _write(target: Target, selections: Mapping[str, Selection], partial: Path) -> None:
    source, (selection,) = target.source, selections.values()
    outputs, inputs, space = channels(source, "output"), operator_inputs(source), source.grid.shape
    frames = (len(source.times),) if not source.steady else ()
    arrays = {"x": (inputs, (), 0), "y": (outputs, frames, None)}
    tensors: dict[str, Any] = {}
    room = [partial.with_name(f"{partial.name}.{name}") for name in arrays]
    try:
        for path, (name, (members, times, frame)) in zip(room, arrays.items(), strict=True):
            lead = (len(selection), *((len(members),) if len(members) > 1 else ()))
            shape = (*lead, *times, *space)
            with open(path, "wb") as file:
                file.truncate(4 * int(np.prod(shape)))
            for place, samples in selection.blocks(target.samples_at_once):
                rows = np.memmap(path, np.float32, "r+", 0, shape)
                for c, channel in enumerate(members):
                    block = finite(channel.read(samples, source.grid), source, channel.name, samples.start)
                    block = block[:, frame] if frame is not None and channel.variable.time_varying else block
                    key = (slice(place, place + len(block)), *((c,) if len(members) > 1 else ()))
                    rows[key] = block
                del rows
                target.advance(len(range(samples.start, samples.stop)) if name == "y" else 0)
            # The tensor is the file, mapped: it may be larger than memory.
            tensors[name] = torch.from_file(str(path), shared=True, size=int(np.prod(shape))).reshape(shape)
        tensors[PASSPORT] = passport(source, _placed(source), selections)
        torch.save(tensors, partial)
    finally:
        for path in room:
            path.unlink(missing_ok=True)


def _placed(source: Source) -> dict[str, Placed]:
    space = "".join(AXES[: source.grid.dimension])
    found = {}
    for name, members in (("x", operator_inputs(source)), ("y", channels(source, "output"))):
        for c, channel in enumerate(members):
            time = "t" if name == "y" and not source.steady else ""
            several = len(members) > 1
            found[channel.name] = Placed(name, f"n{'c' * several}{time}{space}", (("c", c),) if several else ())
    return found


def _axes(tensors: Mapping[str, TensorArray], place: Path) -> tuple[str, str]:
    """The letters of the axes of x and of y."""
    x, y = tensors["x"].shape, tensors["y"].shape
    dimension = min(len(x), len(y)) - 1
    if len(x) == len(y) and dimension > 1 and len({*x[1:], *y[1:]}) > 1 and x[2:] == y[2:]:
        dimension -= 1  # both have channels, of which the numbers differ from the points
    if not 1 <= dimension <= 3 or max(len(x), len(y)) > dimension + 2:
        raise DataError(
            f"{place}: the axes of x {tuple(x)} and y {tuple(y)} cannot be told; say them by --map, as in x=input:nxy"
        )
    space = "".join(AXES[:dimension])
    behind = "t" if len(y) > len(x) and y[1] > 1 else "c"
    return (
        "n" + "c" * (len(x) - 1 - dimension) + space,
        "n" + behind * (len(y) - 1 - dimension) + space,
    )


def _load(place: Path) -> dict[str, Any]:
    if not place.is_file():
        raise DataError(f"{place}: is not there, or is not a file")
    try:
        contents = torch.load(place, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(place))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
        AttributeError,
        TypeError,
    ) as error:
        unsafe = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        why = "holds objects of Python, which are never loaded" if unsafe else "is damaged, or no file of torch.save"
        raise DataError(f"{place}: {why}") from error
    if not isinstance(contents, Mapping) or not all(isinstance(name, str) for name in contents):
        raise DataError(f"{place}: holds a {type(contents).__name__}, not tensors by name")
    return dict(contents)
