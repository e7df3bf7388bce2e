"""A source made of arrays that have no more than names: NumPy's, MATLAB's, and HDF5 files of no known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fieldwright.datasets.formats.coordinates import grid_from_coordinates, rising_times, stated_grid
from fieldwright.datasets.formats.roles import FIELD_ROLES, assign, deduced_axes
from fieldwright.datasets.formats.source import Part, Place, Reading, Source, Variable
from fieldwright.datasets.formats.stored import Joined, Lifted, Thinned, read_slice
from fieldwright.datasets.store import StoredScalar
from fieldwright.errors import DataError
from fieldwright.grids import AXES, Centring, Grid


@dataclass(frozen=True)
class Plain:
    """An array as its file names it. The axes of a ``reversed`` one lie on the disk in the opposite order."""

    array: Any
    reversed: bool = False
    unit: str = "1"
    description: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = tuple(int(n) for n in self.array.shape)
        return sizes[::-1] if self.reversed else sizes

    def values(self) -> np.ndarray:
        """All numbers, in the order of the axes' names."""
        whole = read_slice(self.array, tuple(slice(None) for _ in self.array.shape))
        return whole.T if self.reversed else whole


@dataclass(frozen=True)
class _Field:
    """An array with its role and the letters of its axes, in the order in which its file names them."""

    name: str
    role: str
    axes: str
    plain: Plain
    stated: bool

    @property
    def part(self) -> Part:
        return Part(self.plain.array, self.axes[::-1] if self.plain.reversed else self.axes)

    def size(self, letter: str) -> int:
        return self.plain.shape[self.axes.index(letter)]


def source_of_arrays(
    name: str,
    arrays: Mapping[str, Plain],
    files: tuple[Place | str, ...],
    reading: Reading,
    *,
    format: str,
    centring: Centring = "cell",
    time_last: bool = False,
) -> Source:
    """The source that the user's words for arrays, and otherwise the field's habits, make of them.

    Points without coordinates are those of a ``centring`` grid on the unit box, unless the user states another.

    Errors: `DataError` for arrays that do not fit together, or whose role or axes cannot be told.
    """
    where = str(files[0])
    if not arrays:
        raise DataError(f"{where}: holds no array of real numbers")
    roles = assign({key: plain.shape for key, plain in arrays.items()}, reading.roles, where)
    notes = [f"left out: '{key}' {arrays[key].shape}" for key, entry in roles.items() if entry.role == "skip"]
    lines = {entry.role: arrays[key].values() for key, entry in roles.items() if entry.role in (*AXES, "time")}
    stated = {key: entry.axes for key, entry in roles.items() if entry.axes}
    open_ones = {k: arrays[k].shape for k, e in roles.items() if e.role in FIELD_ROLES and not e.axes}
    if not stated and not open_ones:
        listed = ", ".join(f"'{key}' {plain.shape}" for key, plain in arrays.items())
        raise DataError(
            f"{where}: no array has a name that tells its role; say it by --map NAME=input; it has {listed}"
        )
    known = [sum(letter in AXES for letter in axes) for axes in stated.values()]
    if open_ones:
        stated |= deduced_axes(
            open_ones,
            times=lines["time"].size if "time" in lines else None,
            dimension=max(known) if known else sum(axis in lines for axis in AXES) or None,
            time_last=time_last,
            where=where,
        )
    fields = [
        _Field(key, roles[key].role, stated[key], arrays[key], key in reading.roles) for key in roles if key in stated
    ]
    _check_sizes(fields, where)
    moving = [field.name for field in fields if field.role == "input" and "t" in field.axes]
    notes += [f"'{key}' varies in time, and so is an output as well" for key in moving]
    times = _times(fields, lines.get("time"), where, notes)
    fields, times = _with_initial_state(fields, times, where, notes)
    grid = _grid(fields, lines, reading, centring, where, notes)
    samples = max((f.size("n") for f in fields if "n" in f.axes), default=1)
    numbers = [(key, arrays[key]) for key, entry in roles.items() if entry.role == "parameter"]
    return Source(
        name=name,
        format=format,
        files=files,
        samples=samples,
        grid=grid,
        variables=tuple(v for f in fields for v in _variables(_on_grid(f, grid, where, notes), grid)),
        times=times,
        scalars=tuple(_scalar(key, plain, samples, len(times), where) for key, plain in numbers),
        notes=tuple(notes),
    )


def _check_sizes(fields: list[_Field], where: str) -> None:
    for field in fields:
        if len(field.axes) != len(field.plain.shape):
            raise DataError(
                f"{where}: '{field.name}' has {len(field.plain.shape)} axes {field.plain.shape}, not the"
                f" {len(field.axes)} of '{field.axes}'"
            )
    for letter, word in (("n", "samples"), ("t", "stored times")):
        sizes = {field.name: field.size(letter) for field in fields if letter in field.axes}
        first = next(iter(sizes.items()), None)
        for name, size in sizes.items():
            if first is not None and size != first[1]:
                raise DataError(f"{where}: '{name}' has {size} {word}, but '{first[0]}' has {first[1]}")


def _times(fields: list[_Field], line: np.ndarray | None, where: str, notes: list[str]) -> np.ndarray:
    """The stored times of what evolves; none where nothing does."""
    count = next((field.size("t") for field in fields if "t" in field.axes), 0)
    if line is None and count:
        notes.append(f"no times are stored: taken as 1 to {count}")
        return np.arange(1.0, count + 1)
    if line is None or not count:
        return np.zeros(0)
    if line.size != count:
        raise DataError(f"{where}: has {line.size} times for the {count} of its fields")
    return rising_times(line, where)


def _with_initial_state(
    fields: list[_Field], times: np.ndarray, where: str, notes: list[str]
) -> tuple[list[_Field], np.ndarray]:
    """The initial state put before the output's first stored time, at time 0."""
    outputs = [field for field in fields if field.role == "output"]
    for position, field in enumerate(fields):
        # The papers' Navier-Stokes files: `a` is the vorticity at time 0, `u` the one at later times.
        published = (field.name, [o.name for o in outputs]) == ("a", ["u"]) and not field.stated
        if published and times.size and times[0] > 0 and field.axes == outputs[0].axes.replace("t", ""):
            fields = [*fields[:position], replace(field, role="initial"), *fields[position + 1 :]]
            notes.append("'a' is taken as 'u' at time 0; --map a=input keeps it apart")
    initial = next((field for field in fields if field.role == "initial"), None)
    if initial is None:
        return fields, times
    if len(outputs) != 1 or initial.axes.replace("t", "") != outputs[0].axes.replace("t", ""):
        raise DataError(
            f"{where}: '{initial.name}' is the initial state of one output with the same axes; it has {len(outputs)}"
        )
    if times.size and times[0] <= 0:
        raise DataError(f"{where}: its first stored time is {times[0]:g}; an initial state needs later ones")
    states, axes = [], outputs[0].axes
    axes = axes if "t" in axes else axes + "t"
    on_disk = axes[::-1] if outputs[0].plain.reversed else axes
    for field in (initial, outputs[0]):
        if field.plain.reversed != outputs[0].plain.reversed:
            raise DataError(f"{where}: '{initial.name}' and '{outputs[0].name}' lie in files of two kinds")
        array = field.plain.array
        states.append(array if "t" in field.axes else Lifted(array, on_disk.index("t")))
    joined = Plain(Joined(states, on_disk.index("t")), outputs[0].plain.reversed, outputs[0].plain.unit)
    evolving = replace(outputs[0], axes=axes, plain=joined)
    kept = [evolving if f is outputs[0] else f for f in fields if f is not initial]
    return kept, np.concatenate([[0.0], times if times.size else [1.0]])


def _grid(
    fields: list[_Field],
    lines: Mapping[str, np.ndarray],
    reading: Reading,
    centring: Centring,
    where: str,
    notes: list[str],
) -> Grid:
    """The grid of the first output, or of the first field."""
    chosen = next((field for field in fields if field.role == "output"), fields[0])
    letters = [axis for axis in AXES if axis in chosen.axes]
    if not letters or letters != list(AXES[: len(letters)]):
        raise DataError(f"{where}: '{chosen.name}' has the axes '{chosen.axes}'; space is x, x y or x y z")
    shape = tuple(chosen.size(axis) for axis in letters)
    if set(letters) <= lines.keys():
        coordinates = [_line(lines[axis], axis, i, len(letters), where) for i, axis in enumerate(letters)]
        if tuple(map(len, coordinates)) == shape:
            stated = reading.grid.split()
            return grid_from_coordinates(coordinates, stated[0] if stated else None, where)  # type: ignore[arg-type]
        raise DataError(f"{where}: has coordinates of {tuple(map(len, coordinates))} points for a field of {shape}")
    if not reading.grid:
        notes.append(
            f"no coordinates are stored: points are taken as a {centring} grid on the unit box; --grid says otherwise"
        )
    return stated_grid(shape, reading.grid, centring)


def _line(values: np.ndarray, axis: str, position: int, dimension: int, where: str) -> np.ndarray:
    """The points along one axis, from a line or from a mesh that repeats it."""
    squeezed = np.squeeze(values)
    if squeezed.ndim <= 1:
        return np.atleast_1d(squeezed)
    if squeezed.ndim == dimension:
        along = np.moveaxis(squeezed, position, -1).reshape(-1, squeezed.shape[position])
        if (along == along[0]).all():
            return along[0]
        if dimension == 2 and (squeezed == squeezed[:1] if position else squeezed == squeezed[:, :1]).all():
            return squeezed[0] if position else squeezed[:, 0]
    raise DataError(
        f"{where}: the coordinates {axis} are not those of a grid of lines; --map them as inputs of a mapped grid"
    )


def _on_grid(field: _Field, grid: Grid, where: str, notes: list[str]) -> _Field:
    """The field on the grid's points: of a finer one, every so-manieth point."""
    steps = {}
    for axis, n in zip(AXES, grid.shape, strict=False):
        if axis in field.axes and field.size(axis) != n:
            # Nodes share both walls, cells and periodic points do not.
            fine, coarse = (field.size(axis) - 1, n - 1) if grid.centring == "node" else (field.size(axis), n)
            if coarse < 1 or fine % coarse or fine < coarse or grid.centring == "cell":
                raise DataError(
                    f"{where}: '{field.name}' has {field.size(axis)} points along {axis} where the output has {n},"
                    f" and no point of that {grid.centring} grid is one of its own"
                )
            steps[axis] = fine // coarse
    if not steps:
        return field
    notes.append(
        f"'{field.name}' of {field.plain.shape} is thinned to every {max(steps.values())}nd point of the output's grid"
    )
    part = field.part
    thinned = Thinned(part.array, [steps.get(letter, 1) for letter in part.axes])
    return replace(field, plain=replace(field.plain, array=thinned))


def _variables(field: _Field, grid: Grid) -> list[Variable]:
    part, count = field.part, field.size("c") if "c" in field.axes else 0
    order = int("v" in field.axes)
    role, unit, text = ("input" if field.role == "input" else "output"), field.plain.unit, field.plain.description
    if not count:
        return [Variable(field.name, role, (part,), order, unit, text)]
    names = [field.name] if count == 1 else [f"{field.name}_{i}" for i in range(count)]
    return [Variable(n, role, (replace(part, picked=(("c", i),)),), order, unit, text) for i, n in enumerate(names)]


def _scalar(name: str, plain: Plain, samples: int, times: int, where: str) -> StoredScalar:
    values = np.squeeze(plain.values())
    for by_sample, by_time in ((False, False), (True, False), (False, True), (True, True)):
        shape = (samples,) * by_sample + (times,) * by_time
        if values.shape == shape or values.size == int(np.prod(shape)) == 1:
            return StoredScalar(name, values.reshape(shape), by_sample, by_time, plain.unit, channel=by_sample)
    raise DataError(f"{where}: the parameter '{name}' has shape {plain.shape} for {samples} samples and {times} times")
