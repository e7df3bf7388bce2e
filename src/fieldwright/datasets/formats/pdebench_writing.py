"""Write PDEBench's HDF5 files, so that its own loaders open them: `pdebench` says how they are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fieldwright.datasets.formats.export import Channel, Target, channels
from fieldwright.datasets.formats.passport import PASSPORT, Placed, lost_facts, passport, scalar_rows
from fieldwright.datasets.formats.source import Source
from fieldwright.datasets.formats.streamed_hdf5 import PlannedArray, streamed_hdf5
from fieldwright.errors import InputError
from fieldwright.grids import AXES

_MOST_GROUPS = 10_000
_LEAST_GROUPS = 24
_KNOWN = ("tensor", "nu", "density", "pressure", "Vx", "Vy", "Vz")


def lost_in_pdebench(target: Target) -> list[str]:
    """Sentences on what PDEBench's loaders do not see."""
    source = target.source
    said = lost_facts(source, kept_by_others=("the grid's coordinates", "the times", "the parameters"))
    unknown = [name for name in _array_names(source).values() if name not in _KNOWN]
    if unknown:
        said.append(f"its loaders know {', '.join(_KNOWN)}; these stand beside them: {', '.join(unknown)}")
    if target.path.suffix == ".h5" and len(target.together()) < _LEAST_GROUPS:
        said.append(f"its single-file loader reads the grid of group 0023; there are {len(target.together())} groups")
    if source.grid.centring != "cell":
        said.append(f"its coordinates are cell centres; these are those of a {source.grid.centring} grid")
    return said


def write_pdebench(target: Target) -> list[Path]:
    """One file: an array per name where its ending is ``.hdf5``, a group per sample where it is ``.h5``; returns it.

    The splits stand in the order in which the loaders of that kind divide: test first, or test last.

    Errors: `InputError` for more samples than four digits count, `StorageError` when it cannot be written, `DataError`
    for a value that is not finite.
    """
    if target.path.suffix == ".h5":
        return [_write_groups(target.ordered("train", "valid", "test"))]
    return [_write_arrays(target.ordered("test", "valid", "train"))]


def _write_arrays(target: Target) -> Path:
    source, count, names = target.source, len(target.together()), _array_names(target.source)
    space = "".join(AXES[: source.grid.dimension])
    planned, placed = {}, {}
    for channel in channels(source):
        # Their steady solution has an axis of one time, their coefficient none.
        solution = source.steady and channel.variable.role == "output"
        steps = (1,) if solution else (len(source.times),) if channel.variable.time_varying else ()
        name = names[channel.name]
        planned[name] = PlannedArray((count, *steps, *source.grid.shape), {"unit": channel.variable.unit})
        placed[channel.name] = Placed(name, "n" + "t" * bool(steps) + space, (("t", 0),) if solution else ())
    small = {f"{axis}-coordinate": source.grid.axis(i).numpy().astype("<f4") for i, axis in enumerate(space)}
    if not source.steady:
        small["t-coordinate"] = _one_more(source.times)
    rows = {f"{PASSPORT}/{s.name}": scalar_rows(s, target.selections) for s in source.scalars if s.sample_varying}
    constants = {s.name: np.asarray(s.values, float) for s in source.scalars if not s.sample_varying}
    in_arrays = {s.name: f"{PASSPORT}/{s.name}" for s in source.scalars if s.sample_varying}
    note = passport(source, placed, target.selections, in_arrays)
    with streamed_hdf5(
        target.path, planned, small={**small, **rows}, attributes={"/": {PASSPORT: note, **constants}}
    ) as file:
        for channel, first, block in target.blocks(channels(source)):
            file.write(names[channel.name], first, block)
    return target.path


def _write_groups(target: Target) -> Path:
    source, count, members = target.source, len(target.together()), channels(target.source)
    if count > _MOST_GROUPS:
        raise InputError(
            f"convert: {count} samples; groups of four digits hold {_MOST_GROUPS}, a file ending in .hdf5 more"
        )
    if source.steady:
        raise InputError("convert: a group per sample is for what evolves; name the file .hdf5 for an array per name")
    space = "".join(AXES[: source.grid.dimension])
    shape = (len(source.times), *source.grid.shape, len(members))
    planned = {f"{i:04d}/data": PlannedArray(shape) for i in range(count)}
    small = {
        f"{i:04d}/grid/{axis}": source.grid.axis(k).numpy().astype("<f4")
        for i in range(count)
        for k, axis in enumerate(space)
    }
    small |= {f"{i:04d}/grid/t": source.times.astype("<f4") for i in range(count)}
    # What does not vary in time is written at all times, and read at the first.
    placed = {
        channel.name: Placed("data", f"nt{space}c", (("c", i), *([] if channel.variable.time_varying else [("t", 0)])))
        for i, channel in enumerate(members)
    }
    attributes: dict[str, dict[str, Any]] = {"/": {PASSPORT: passport(source, placed, target.selections)}}
    columns = {s.name: scalar_rows(s, target.selections) for s in source.scalars if not s.time_varying}
    for i in range(count):
        sim = {name: float(values[i] if values.ndim else values) for name, values in columns.items()}
        attributes[f"{i:04d}"] = {"config": yaml.safe_dump({"sim": sim})}
    with streamed_hdf5(target.path, planned, small=small, attributes=attributes) as file:
        gathered: list[np.ndarray] = []
        for channel, first, block in target.blocks(members):
            gathered.append(_over_time(channel, block, len(source.times)))
            if len(gathered) == len(members):
                for i, sample in enumerate(np.stack(gathered, -1)):
                    file.write(f"{first + i:04d}/data", 0, sample)
                gathered = []
    return target.path


def _over_time(channel: Channel, block: np.ndarray, steps: int) -> np.ndarray:
    """The block at every stored time, also of a field that is the same at all of them."""
    if channel.variable.time_varying:
        return block
    return np.broadcast_to(block[:, None], (len(block), steps, *block.shape[1:]))


def _one_more(times: np.ndarray) -> np.ndarray:
    step = times[-1] - times[-2] if len(times) > 1 else 1.0
    return np.append(times, times[-1] + step).astype("<f4")


def _array_names(source: Source) -> dict[str, str]:
    """The array of each channel, by the names that PDEBench's loaders look for where they fit."""
    inputs, outputs = channels(source, "input"), channels(source, "output")
    names = {channel.name: channel.name for channel in (*inputs, *outputs)}
    names |= {f"velocity_{axis}": f"V{axis}" for axis in AXES if f"velocity_{axis}" in names}
    if len(outputs) == 1 and len(inputs) == source.steady:
        names[outputs[0].name] = "tensor"
        names |= {channel.name: "nu" for channel in inputs}
    return names
