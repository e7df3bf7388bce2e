"""Poseidon's data sets, in NetCDF-4 files that its loader opens as HDF5.

A file's name says which set it is, and that says which variable holds what. All are on the unit square; times are those
of the loader, from 0 to 1. Samples are split by position: the last are the test set, before them the validation set.

Source: Poseidon, Herde et al. 2024 (arXiv 2405.19101), ``scOT/problems``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.datasets.formats.export import Target, channels
from fieldwright.datasets.formats.hdf5 import Hdf5File, open_hdf5
from fieldwright.datasets.formats.passport import PASSPORT, Placed, lost_facts, passport, source_of_passport
from fieldwright.datasets.formats.source import Part, Place, Reading, Role, Source, Variable
from fieldwright.datasets.formats.stored import Stacked
from fieldwright.datasets.formats.streamed_hdf5 import PlannedArray, streamed_hdf5
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError
from fieldwright.grids import AXES, Centring, Grid

_Entry = tuple[str, Role, str, str, tuple[int, ...]]


@dataclass(frozen=True)
class _Set:
    """A family of files; an entry of ``fields``: name, role, variable, letters of its axes, channels of components."""

    fields: tuple[_Entry, ...]
    centring: Centring
    side: str
    valid: int
    test: int


def _flow(variable: str, first: int, axes: str = "ntcxy") -> _Entry:
    return ("velocity", "output", variable, axes, (first, first + 1))


def _one(name: str, variable: str, channel: int) -> _Entry:
    return (name, "output", variable, "ntcxy", (channel,))


_WAVE = _Set((("u", "output", "solution", "ntxy", ()), ("c", "input", "c", "nxy", ())), "node", "open", 60, 240)
_STATE = (_one("density", "solution", 0), _flow("solution", 1), _one("pressure", "solution", 3))
_TURNED: tuple[_Entry, ...] = (
    ("velocity", "output", "velocity", "ntcyx", (0, 1)),
    ("tracer", "output", "velocity", "ntcyx", (2,)),
)
_EULER = (_one("density", "data", 0), _flow("data", 1), _one("pressure", "data", 3), _one("tracer", "data", 4))
_AIRFOIL: tuple[_Entry, ...] = (
    ("shape", "input", "solution", "ncxy", (0,)),
    ("density", "output", "solution", "ncxy", (1,)),
)
_POISSON: tuple[_Entry, ...] = (("source", "input", "source", "nxy", ()), ("solution", "output", "solution", "nxy", ()))
_HELMHOLTZ: tuple[_Entry, ...] = (("a", "input", "a", "nxy", ()), ("u", "output", "u", "nxy", ()))
_SETS: dict[str, _Set] = {
    "NS-SL": _Set(_TURNED, "periodic", "periodic", 120, 240),
    "NS-": _Set((_flow("velocity", 0), _one("tracer", "velocity", 2)), "periodic", "periodic", 120, 240),
    "FNS-KF": _Set((_flow("solution", 0),), "periodic", "periodic", 120, 240),
    "CE-RM": _Set(_STATE, "cell", "periodic", 100, 130),
    "CE-": _Set(_EULER, "cell", "periodic", 120, 240),
    "GCE-RT": _Set((*_STATE, _one("potential", "solution", 5)), "cell", "", 100, 130),
    "Wave-": _WAVE,
    "ACE": _Set((("u", "output", "solution", "ntxy", ()),), "periodic", "periodic", 60, 240),
    "SE-AF": _Set(_AIRFOIL, "node", "", 120, 240),
    "Poisson-Gauss": _Set(_POISSON, "node", "dirichlet", 120, 240),
    "Helmholtz": _Set(_HELMHOLTZ, "node", "dirichlet", 128, 512),
}


def set_of_name(stem: str) -> str:
    """The set that a file's name begins with, as in the tables above; empty where it is none."""
    return next((known for known in _SETS if stem.startswith(known)), "")


def read_poseidon(place: Place, reading: Reading) -> Source:
    """One set's file.

    Errors: `DataError` for a file whose name is no set's, or without that set's variables.
    """
    file = open_hdf5(place, reading.opened)
    note = file.text("/", PASSPORT)
    if note:
        return source_of_passport(note, file.need, (place,), "poseidon")
    known = set_of_name(place.stem)
    if not known:
        raise DataError(f"{place}: its name is that of none of Poseidon's sets: {', '.join(_SETS)}")
    chosen = _SETS[known]
    samples, arrays, scalars = _helmholtz(file) if known == "Helmholtz" else _arrays(file, chosen)
    variables = tuple(v for entry in chosen.fields if (v := _variable(entry, arrays)) is not None)
    _, _, key, axes, _ = chosen.fields[0]
    shape = arrays[key].shape
    grid = Grid(tuple(int(shape[axes.index(axis)]) for axis in "xy"), chosen.centring)
    steps = int(shape[axes.index("t")]) if "t" in axes else 0
    notes = []
    for key, array in arrays.items():
        picked = {c for _, _, variable, _, chosen_ones in chosen.fields if variable == key for c in chosen_ones}
        unread = sorted(set(range(int(array.shape[axes.index("c")]))) - picked) if picked else []
        if unread:
            notes.append(f"left out: channels {unread} of '{key}', which Poseidon's loader does not read")
    if known == "NS-SL":
        notes.append("the axes of velocity are taken as y, x, in which this set is stored")
    if known == "FNS-KF":
        variables = (*variables, _kolmogorov_forcing(grid))
        notes.append(
            "the forcing, which is not in the file, is 0.1 sin(2 pi (x + y)), made as Poseidon's loader makes it"
        )
    return Source(
        name=place.stem,
        format="poseidon",
        files=(place,),
        samples=samples,
        grid=grid,
        variables=variables,
        times=np.arange(steps) / max(1, steps - 1) if steps else np.zeros(0),
        sides=Sides(((chosen.side, chosen.side),) * 2 if chosen.side else ()),
        scalars=scalars,
        splits=_splits(samples, chosen),
        notes=tuple(notes),
    )


def _arrays(file: Hdf5File, chosen: _Set) -> tuple[int, dict[str, Any], tuple[StoredScalar, ...]]:
    arrays = {}
    for _, _, variable, axes, _ in chosen.fields:
        dataset = file.need(variable)
        if len(dataset.shape) != len(axes):
            raise DataError(f"{file.place}: '{variable}' has {len(dataset.shape)} axes; {len(axes)} are this set's")
        arrays[variable] = dataset
    return int(next(iter(arrays.values())).shape[0]), arrays, ()


def _helmholtz(file: Hdf5File) -> tuple[int, dict[str, Any], tuple[StoredScalar, ...]]:
    """A group per sample: coefficient, solution, and the number that the solution has on the boundary."""
    count = sum(name.startswith("Sample_") and name.endswith("/u") for name in file.arrays)
    for index in range(count):
        for name in ("a", "u", "bc"):
            file.need(f"Sample_{index}/{name}")
    if not count:
        raise DataError(f"{file.place}: holds no group Sample_0")

    def member(name: str) -> Stacked:
        return Stacked(count, lambda index: file.handle[f"Sample_{index}/{name}"])

    walls = np.array([float(np.asarray(file.handle[f"Sample_{i}/bc"][()]).reshape(-1)[0]) for i in range(count)])
    scalar = StoredScalar("bc", walls, sample_varying=True, channel=True)
    return count, {"a": member("a"), "u": member("u")}, (scalar,)


def _variable(entry: _Entry, arrays: Mapping[str, Any]) -> Variable | None:
    """The field; None for a channel that not every set of the family has, such as the tracer."""
    name, role, key, axes, picked = entry
    array = arrays[key]
    if not picked:
        return Variable(name, role, (Part(array, axes),))
    if max(picked) >= array.shape[axes.index("c")]:
        return None
    parts = tuple(Part(array, axes, (("c", c),)) for c in picked)
    return Variable(name, role, parts, order=int(len(parts) > 1))


def _kolmogorov_forcing(grid: Grid) -> Variable:
    x, y = (np.linspace(0, 1, n) for n in grid.shape)
    return Variable("forcing", "input", (Part(0.1 * np.sin(2 * np.pi * (x[:, None] + y)), "xy"),))


def _splits(samples: int, chosen: _Set) -> dict[str, tuple[range, ...]]:
    """By position, as the loader does; a file with fewer samples than its set keeps the proportions."""
    held = chosen.valid + chosen.test
    test, valid = (chosen.test, chosen.valid) if samples > held else (samples // 10, samples // 20)
    train = samples - test - valid
    ranges = {"train": range(train), "valid": range(train, train + valid), "test": range(train + valid, samples)}
    return {split: (part,) for split, part in ranges.items() if len(part)}


def lost_in_poseidon(target: Target) -> list[str]:
    """Sentences on what its loader does not see."""
    source = target.source
    said = lost_facts(source, kept_by_others=("the times", "the grid's coordinates", "units"))
    if source.grid.shape != (128, 128):
        said.append(f"its loader takes 128 x 128 points; these are {' x '.join(map(str, source.grid.shape))}")
    if all(name == variable for name, (variable, _) in _layout(source)[0].items()):
        said.append("no set of Poseidon's has these fields; they are written under their own names")
    counts = ", ".join(f"{split} {len(s)}" for split, s in target.selections.items())
    said.append(f"its loader has the sizes of the splits in its program; here they are, one after the other: {counts}")
    return said


def write_poseidon(target: Target) -> list[Path]:
    """One file with the splits one after the other and dimension scales, which xarray opens too; returns it.

    Errors: `StorageError` when it cannot be written, `DataError` for a value that is not finite.
    """
    source, count = target.source, len(target.together())
    places, joint = _layout(source)
    space = "".join(AXES[: source.grid.dimension])
    grouped = len([c for c in channels(source) if places[c.name][0] == joint]) if joint else 0
    planned, placed, scales = {}, {}, {}
    for channel in channels(source):
        name, index = places[channel.name]
        times = (len(source.times),) if channel.variable.time_varying else ()
        lead, several = (count, *times), name == joint and grouped > 1
        planned[name] = PlannedArray(
            (*lead, *((grouped,) if several else ()), *source.grid.shape), {"units": channel.variable.unit}
        )
        axes = "n" + "t" * bool(times) + "c" * several + space
        placed[channel.name] = Placed(name, axes, (("c", index),) if several else ())
        dimensions = {"n": "sample", "t": "time", "c": "channel"} | {axis: axis for axis in space}
        scales[name] = tuple(dimensions[letter] for letter in axes)
    small: dict[str, np.ndarray] = {axis: source.grid.axis(i).numpy() for i, axis in enumerate(space)}
    small |= {"sample": np.arange(count), "time": source.times, "channel": np.arange(max(1, grouped))}
    used = {scale for names in scales.values() for scale in names}
    note = passport(source, placed, target.selections)
    with streamed_hdf5(
        target.path,
        planned,
        small={name: values for name, values in small.items() if name in used},
        attributes={"/": {PASSPORT: note, **{s.name: float(s.values) for s in source.scalars if _constant(s)}}},
        scales=scales,
    ) as file:
        rows: dict[str, list[np.ndarray]] = {}
        for channel, first, block in target.blocks(channels(source)):
            name, _ = places[channel.name]
            rows.setdefault(name, []).append(block)
            if len(rows[name]) == (grouped if name == joint and grouped > 1 else 1):
                members = rows.pop(name)
                axis = 2 if channel.variable.time_varying else 1
                file.write(name, first, np.stack(members, axis) if len(members) > 1 else members[0])
    return [target.path]


def _constant(scalar: StoredScalar) -> bool:
    return not (scalar.sample_varying or scalar.time_varying)


def _layout(source: Source) -> tuple[dict[str, tuple[str, int]], str]:
    """Where each channel goes: a variable and a place in it; and the variable that several channels share."""
    outputs, inputs = channels(source, "output"), channels(source, "input")
    names = [channel.name for channel in outputs]
    flow = ["velocity_x", "velocity_y"]
    if source.steady and (len(inputs), len(outputs)) == (1, 1):
        return {inputs[0].name: ("source", 0), outputs[0].name: ("solution", 0)}, ""
    if not source.steady and names[:2] == flow and names[2:] in ([], ["tracer"]) and not inputs:
        return {name: ("velocity", i) for i, name in enumerate(names)}, "velocity"
    state = ["density", *flow, "pressure"]
    if not source.steady and names[:4] == state and names[4:] in ([], ["tracer"]) and not inputs:
        return {name: ("data", i) for i, name in enumerate(names)}, "data"
    if not source.steady and len(outputs) == 1 and len(inputs) <= 1:
        return {names[0]: ("solution", 0), **{channel.name: ("c", 0) for channel in inputs}}, ""
    return {channel.name: (channel.name, 0) for channel in (*outputs, *inputs)}, ""
