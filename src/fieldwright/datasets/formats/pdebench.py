"""PDEBench's HDF5 files: an array per name (``.hdf5``), or a group per sample (``.h5``).

Coordinates are cell centres. Times are one more than the stored states, and cut. Of the first kind the first tenth of
the samples is the test set, of the second the last, as PDEBench's loaders have it. A coefficient with a solution and no
times is the steady Darcy problem.

Source: PDEBench, Takamoto et al. 2022 (arXiv 2210.07182), its data generators and loaders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from fieldwright.datasets.formats.coordinates import grid_from_coordinates, rising_times
from fieldwright.datasets.formats.hdf5 import Hdf5File, open_hdf5
from fieldwright.datasets.formats.joined import joined
from fieldwright.datasets.formats.passport import PASSPORT, source_of_passport
from fieldwright.datasets.formats.source import Part, Place, Reading, Source, Variable
from fieldwright.datasets.formats.stored import Stacked
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError
from fieldwright.grids import AXES, Grid

_INPUTS = ("nu",)
_CONFIG_BYTES = 1 << 16
_WALLS = (("Darcy", "dirichlet"), ("diff-react", "neumann"), ("diff-sorp", ""), ("rdb", "open"), ("trans", "open"),
          ("Advection|Burgers|ReacDiff|periodic", "periodic"))  # fmt: skip
_CHANNELS = {"diff-react": ("u", "v"), "diff-sorp": ("u",), "rdb": ("h",)}


def read_pdebench(places: Sequence[Place], reading: Reading) -> Source:
    """Files of either kind, as one set.

    Errors: `DataError` for a file that is neither, or whose arrays do not fit each other.
    """
    return joined([_read(place, reading) for place in places])


def _read(place: Place, reading: Reading) -> Source:
    file = open_hdf5(place, reading.opened)
    if any(name.endswith("-coordinate") for name in file.arrays):
        return _array_per_name(file)
    if {"velocity", "t"} <= file.arrays.keys():
        return _incompressible(file)
    return _group_per_sample(file)


def _array_per_name(file: Hdf5File) -> Source:
    where = str(file.place)
    names = [name for name in file.numeric() if not name.endswith("-coordinate") and "/" not in name]
    axes = [axis for axis in AXES if f"{axis}-coordinate" in file.arrays]
    if not names or not axes:
        raise DataError(f"{where}: holds no fields or no x-coordinate; it has {', '.join(file.arrays)}")
    note = file.text("/", PASSPORT)
    if note:
        return source_of_passport(note, file.need, (file.place,), "pdebench")
    grid = _grid(file, [f"{axis}-coordinate" for axis in axes])
    space, parts = "".join(axes), {}
    for name in names:
        rank = len(file.arrays[name]["shape"])
        if rank not in (len(space) + 1, len(space) + 2):
            raise DataError(f"{where}: '{name}' has {rank} axes; sample, time and {', '.join(space)} are expected")
        parts[name] = Part(file.need(name), ("nt" if rank == len(space) + 2 else "n") + space)
    steps = max(part.size("t") if "t" in part.axes else 0 for part in parts.values())
    times = np.zeros(0)
    if steps > 1:
        times = _cut_times(file.need("t-coordinate")[()], steps, where)
    else:  # a steady solution has an axis of one time
        parts = {name: Part(p.array, p.axes, (("t", 0),) if "t" in p.axes else ()) for name, p in parts.items()}
    samples = next(iter(parts.values())).size("n")
    tenth = max(1, samples // 10) if samples > 1 else 0
    return Source(
        name=file.place.stem,
        format="pdebench",
        files=(file.place,),
        samples=samples,
        grid=grid,
        variables=tuple(_variables(parts, len(space))),
        times=times,
        sides=_sides(file.place.stem, len(space)),
        scalars=tuple(StoredScalar(name, np.asarray(value)) for name, value in _parameters(file).items()),
        splits={"train": (range(tenth, samples),), "test": (range(tenth),)},
    )


def _variables(parts: Mapping[str, Part], dimension: int) -> list[Variable]:
    """A variable per array, the velocity's components together."""
    velocity = [f"V{axis}" for axis in AXES[:dimension]]
    found = []
    for name, part in parts.items():
        if name == velocity[0] and set(velocity) <= parts.keys():
            found.append(Variable("velocity", "output", tuple(parts[v] for v in velocity), order=1))
        elif name not in velocity or not set(velocity) <= parts.keys():
            found.append(Variable(name, "input" if name in _INPUTS else "output", (part,)))
    return found


def _group_per_sample(file: Hdf5File) -> Source:
    where = str(file.place)
    groups = sorted(name.removesuffix("/data") for name in file.arrays if name.endswith("/data"))
    if not groups:
        raise DataError(f"{where}: holds neither coordinates nor groups with an array 'data'")
    shape = file.arrays[f"{groups[0]}/data"]["shape"]
    for group in groups:
        found = file.arrays[f"{group}/data"]["shape"]
        if found != shape:
            raise DataError(f"{where}: '{group}/data' has shape {tuple(found)}, but {tuple(shape)} in '{groups[0]}'")
    file.need(f"{groups[0]}/data")
    stacked = Stacked(len(groups), lambda index: file.handle[f"{groups[index]}/data"])
    note = file.text("/", PASSPORT)
    if note:
        return source_of_passport(note, {"data": stacked}.__getitem__, (file.place,), "pdebench")
    axes = [axis for axis in AXES if f"{groups[0]}/grid/{axis}" in file.arrays]
    grid = _grid(file, [f"{groups[0]}/grid/{axis}" for axis in axes])
    if len(shape) != len(axes) + 2:
        raise DataError(f"{where}: 'data' has {len(shape)} axes; time, {', '.join(axes)} and channels are expected")
    stem, notes, space = file.place.stem, [], "".join(axes)
    if "diff-react" in stem:
        # The generator writes y before x, and its readers call the axes x and y; the grid is square.
        space = "yx"
        notes.append("the axes of data are taken as y, x, in the order in which this set's generator writes them")
    words = next((words for key, words in _CHANNELS.items() if key in stem), ())
    names = words if len(words) == shape[-1] else [f"data_{i}" for i in range(shape[-1])]
    samples = len(groups)
    held = max(1, samples // 10) if samples > 1 else 0
    return Source(
        name=stem,
        format="pdebench",
        files=(file.place,),
        samples=samples,
        grid=grid,
        variables=tuple(
            Variable(name, "output", (Part(stacked, f"nt{space}c", (("c", i),)),)) for i, name in enumerate(names)
        ),
        times=_cut_times(file.need(f"{groups[0]}/grid/t")[()], shape[0], where),
        sides=_sides(stem, len(axes)),
        scalars=tuple(_configured(file, groups)),
        splits={"train": (range(samples - held),), "test": (range(samples - held, samples),)},
        notes=tuple(notes),
    )


def _incompressible(file: Hdf5File) -> Source:
    """Velocity and particle density over time and a force that does not change; a file per seed."""
    where = str(file.place)
    rows = np.asarray(file.need("t")[()], np.float64)
    if rows.ndim != 2 or not np.allclose(rows, rows[:1], rtol=1e-5):
        raise DataError(f"{where}: its samples are stored at different times")
    shape = file.arrays["velocity"]["shape"]
    variables = [Variable("velocity", "output", (Part(file.need("velocity"), "ntxyv"),), order=1)]
    if "particles" in file.arrays:
        variables.append(Variable("particles", "output", (Part(file.need("particles"), "ntxyc", (("c", 0),)),)))
    if "force" in file.arrays:
        variables.append(Variable("force", "input", (Part(file.need("force"), "nxyv"),), order=1))
    return Source(
        name=re.sub(r"-\d+$", "", file.place.stem),
        format="pdebench",
        files=(file.place,),
        samples=shape[0],
        grid=Grid(tuple(shape[2:4]), "cell"),
        variables=tuple(variables),
        times=rising_times(rows[0], where),
        scalars=tuple(_numbers_of(file.text("/", "config"), where)),
        splits={"train": (range(shape[0]),)},
    )


def _grid(file: Hdf5File, names: Sequence[str]) -> Grid:
    if not names:
        raise DataError(f"{file.place}: holds no coordinates")
    return grid_from_coordinates([file.need(name)[()] for name in names], "cell", str(file.place))


def _cut_times(times: np.ndarray, steps: int, where: str) -> np.ndarray:
    if len(times) not in (steps, steps + 1):
        raise DataError(
            f"{where}: has {len(times)} times for {steps} stored states; one each, or one more, is expected"
        )
    return rising_times(times[:steps], where)


def _sides(stem: str, dimension: int) -> Sides:
    word = next((word for pattern, word in _WALLS if re.search(pattern, stem)), "")
    return Sides(((word, word),) * dimension if word else ())


def _parameters(file: Hdf5File) -> dict[str, float]:
    """The numbers among the file's attributes, and those that only the file's name tells."""
    found = {name: file.number("/", name) for name in file.handle.attrs}
    known = {name: value for name, value in found.items() if value is not None}
    for word, value in re.findall(r"(beta|Nu|Rho|Eta|Zeta|M)([0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?)", file.place.stem):
        if word.lower() not in {name.lower() for name in known}:
            known[word] = float(value)
    # A field may have the name of a number, as the coefficient 'nu' beside the viscosity 'Nu' has not.
    return {name: value for name, value in known.items() if name not in file.arrays}


def _configured(file: Hdf5File, groups: Sequence[str]) -> list[StoredScalar]:
    """The numbers of the samples' configurations: one each where they differ, else one for all."""
    rows = [
        {s.name: float(s.values) for s in _numbers_of(file.text(g, "config"), f"{file.place}: {g}")} for g in groups
    ]
    found = []
    for name in rows[0]:
        column = [row.get(name) for row in rows]
        if any(value is None for value in column):
            continue
        values = np.array(column, np.float64)
        alike = bool((values == values[0]).all())
        found.append(StoredScalar(name, values[0] if alike else values, sample_varying=not alike))
    return found


def _numbers_of(config: str, where: str) -> list[StoredScalar]:
    """The numbers under ``sim`` of a generator's configuration in YAML."""
    if not config or len(config) > _CONFIG_BYTES:
        return []
    try:
        tree = yaml.load(config, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"{where}: its attribute config is no YAML") from error
    numbers: Any = tree.get("sim", tree) if isinstance(tree, dict) else {}
    if not isinstance(numbers, dict):
        return []
    return [
        StoredScalar(str(name), np.asarray(float(value)))
        for name, value in numbers.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
    ]
