"""Zarr stores and xarray's data sets, NetCDF among them, whose axes have names: their order is whatever they say.

Needs zarr, or xarray with h5netcdf: the extra ``formats``. What varies in time is an output, what does not an input,
unless the user or a name's habit says otherwise.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.datasets.formats.coordinates import grid_from_coordinates, rising_times, stated_grid
from fieldwright.datasets.formats.hdf5 import open_hdf5
from fieldwright.datasets.formats.plain_arrays import Plain, source_of_arrays
from fieldwright.datasets.formats.roles import assignment, habit
from fieldwright.datasets.formats.source import Part, Place, Reading, Source, Variable
from fieldwright.datasets.formats.stored import Lifted
from fieldwright.datasets.remote import RemoteFile
from fieldwright.datasets.store import StoredScalar
from fieldwright.errors import DataError, InputError
from fieldwright.grids import AXES, Grid
from fieldwright.settings import allowed, first_line

_AXES = {
    **dict.fromkeys(("sample", "samples", "n", "batch", "trajectory", "ensemble", "member", "realization", "run"), "n"),
    **dict.fromkeys(("time", "t", "step", "timestep"), "t"),
    **dict.fromkeys(("x", "lon", "longitude"), "x"),
    **dict.fromkeys(("y", "lat", "latitude"), "y"),
    **dict.fromkeys(("z", "lev", "level", "altitude", "depth"), "z"),
    **dict.fromkeys(("channel", "c", "component", "band"), "c"),
}
_WORDS = {"sample": "n", "time": "t", "x": "x", "y": "y", "z": "z", "channel": "c"}


class _Named:
    """A variable of xarray's, sliced like an array; nothing of it is kept."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        self.shape, self.dtype = tuple(variable.shape), variable.dtype
        self.chunks = variable.encoding.get("chunks") or variable.encoding.get("chunksizes")

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.variable[key].values)


def read_zarr(place: Path | str, reading: Reading) -> Source:
    """A store in a directory or at an address, of format 2 or 3, with names for its axes or without.

    Errors: `DataError` when it is damaged, or says too little.
    """
    zarr = _needed("zarr", "zarr")
    try:
        found = zarr.open(str(place), mode="r")
        arrays = dict(sorted(found.arrays())) if hasattr(found, "arrays") else {Path(str(place)).stem: found}
        named = all(_names(array) for array in arrays.values()) and hasattr(found, "arrays")
    except Exception as error:  # whatever a store raises means that it is not sound
        raise DataError(f"{place}: cannot be read as a Zarr store ({first_line(error)})") from error
    if not named:
        plain = {n: Plain(a, unit=str(a.attrs.get("units", "1"))) for n, a in arrays.items() if a.dtype.kind in "fiub"}
        return source_of_arrays(Path(str(place)).stem, plain, (place,), reading, format="zarr")
    xarray = _needed("xarray", "xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not consolidated
        opened = _opened(place, lambda: xarray.open_zarr(str(place), chunks=None, decode_times=False))
    return _source(opened, place, reading, "zarr")


def read_netcdf(place: Place, reading: Reading) -> Source:
    """A NetCDF file, of version 4 (which is HDF5) or classic.

    Errors: `DataError` when it is damaged, or says too little.
    """
    xarray = _needed("xarray", "xarray")
    classic = not isinstance(place, RemoteFile) and place.read_bytes()[:3] == b"CDF"
    if not classic:
        _needed("h5netcdf", "h5netcdf")
        open_hdf5(place, reading.opened)
    source = place.open() if isinstance(place, RemoteFile) else place
    # HDF5 wants all who open a file to agree on locks, and `open_hdf5` takes none.
    options: dict[str, Any] = (
        {"engine": "scipy"} if classic else {"engine": "h5netcdf", "driver_kwds": {"locking": False}}
    )
    opened = _opened(place, lambda: xarray.open_dataset(source, decode_times=False, cache=False, **options))
    reading.handles.append(opened)
    return _source(opened, place, reading, "netcdf")


def _source(opened: Any, place: Place | Path | str, reading: Reading, format: str) -> Source:
    where = str(place)
    letters = _letters(opened, reading.roles, where)
    roles, notes = _roles(opened, letters, reading.roles), []
    fields = {name: role for name, role in roles.items() if role in ("input", "output")}
    if not fields:
        shown = ", ".join(f"{name} {tuple(opened[name].dims)}" for name in opened.data_vars)
        raise DataError(
            f"{where}: no variable is known as a field; say it by --map NAME=output; it has {shown or 'none'}"
        )
    notes += [f"left out: '{name}'" for name, role in roles.items() if role == "skip"]
    space = [axis for axis in AXES if any(letters[d] == axis for name in fields for d in opened[name].dims)]
    # One or two axes may be y and z; here they are the first ones.
    renamed = dict(zip(space, AXES, strict=False))
    names = {renamed.get(letter, letter): dim for dim, letter in letters.items()}
    grid = _grid(opened, [names[axis] for axis in AXES[: len(space)]], reading, where, notes)
    evolving = any("t" in (letters[d] for d in opened[name].dims) for name in fields)
    times = _times(opened, names["t"], where, notes) if evolving else np.zeros(0)
    samples = int(opened.sizes[names["n"]]) if "n" in names else 1
    variables = [
        variable
        for name, role in fields.items()
        for variable in _variables(
            name, role, opened[name], "".join(renamed.get(letters[d], letters[d]) for d in opened[name].dims)
        )
    ]
    return Source(
        name=Path(where).stem,
        format=format,
        files=(place,),
        samples=samples,
        grid=grid,
        variables=tuple(variables),
        times=times,
        scalars=tuple(_scalar(name, opened[name], letters) for name, role in roles.items() if role == "parameter"),
        notes=tuple(notes),
    )


def _letters(opened: Any, roles: Mapping[str, str], where: str) -> dict[str, str]:
    """The letter of every axis that a variable has.

    Errors: `DataError` for one whose name nobody knows.
    """
    names = [*opened.dims, *opened.variables]
    for name in roles:
        if name not in names:
            raise DataError(f"{where}: holds no variable or axis '{name}'; {allowed(name, map(str, names))}")
    found = {}
    for dim in opened.dims:
        said = roles.get(dim, "")
        letter = _WORDS.get(said, _AXES.get(str(dim).lower(), ""))
        skipped = all(roles.get(name) == "skip" for name in opened.data_vars if dim in opened[name].dims)
        if not letter and not skipped:
            raise DataError(f"{where}: has an axis '{dim}' of no known name; say what it is, as in --map {dim}=sample")
        found[dim] = letter
    used = [letter for letter in found.values() if letter]
    if len(set(used)) < len(used):
        raise DataError(f"{where}: two of its axes {tuple(found)} mean the same; say which is which by --map")
    return found


def _roles(opened: Any, letters: Mapping[str, str], stated: Mapping[str, str]) -> dict[str, str]:
    found = {}
    # A store's listing has no order of its own.
    for name in sorted(opened.data_vars, key=str):
        axes = {letters[d] for d in opened[name].dims}
        word = stated.get(name, "")
        role = assignment(word).role if word else habit(str(name), opened[name].shape)
        if not word and opened[name].dtype.kind not in "fiub":
            role = "skip"
        elif not word and not axes & set(AXES):
            role = "parameter" if axes <= {"n", "t"} else "skip"
        elif not word and "t" in axes:
            role = "output"
        elif role not in ("input", "output", "parameter", "skip"):
            role = "skip"
        elif (
            not word and role == "skip" and any("t" in (letters[d] for d in v.dims) for v in opened.data_vars.values())
        ):
            role = "input"
        found[str(name)] = role
    return found


def _grid(opened: Any, dims: list[str], reading: Reading, where: str, notes: list[str]) -> Grid:
    lines = [np.asarray(opened[dim].values) for dim in dims if dim in opened.coords]
    if len(lines) == len(dims) and dims:
        stated = reading.grid.split()
        return grid_from_coordinates(lines, stated[0] if stated else None, where)  # type: ignore[arg-type]
    if not reading.grid:
        notes.append(
            "no coordinates are stored: points are taken as a cell grid on the unit box; --grid says otherwise"
        )
    return stated_grid([int(opened.sizes[dim]) for dim in dims], reading.grid, "cell")


def _times(opened: Any, dim: str, where: str, notes: list[str]) -> np.ndarray:
    if dim in opened.coords:
        return rising_times(np.asarray(opened[dim].values), where)
    notes.append(f"no times are stored: taken as 0 to {opened.sizes[dim] - 1}")
    return np.arange(float(opened.sizes[dim]))


def _variables(name: str, role: str, array: Any, axes: str) -> list[Variable]:
    stored: Any = _Named(array.variable)
    if "n" not in axes:
        stored, axes = Lifted(stored, 0), "n" + axes
    unit, text = str(array.attrs.get("units", "1")), str(array.attrs.get("long_name", ""))
    count = stored.shape[axes.index("c")] if "c" in axes else 0
    picks = [(("c", i),) for i in range(count)] or [()]
    names = [name] if len(picks) == 1 else [f"{name}_{i}" for i in range(count)]
    return [
        Variable(n, role, (Part(stored, axes, p),), unit=unit, description=text)  # type: ignore[arg-type]
        for n, p in zip(names, picks, strict=True)
    ]


def _scalar(name: str, array: Any, letters: Mapping[str, str]) -> StoredScalar:
    axes = "".join(letters[d] for d in array.dims)
    values = np.asarray(array.values, np.float64)
    values = values.T if axes == "tn" else values
    unit = str(array.attrs.get("units", "1"))
    return StoredScalar(name, values, "n" in axes, "t" in axes, unit, channel="n" in axes)


def _names(array: Any) -> Any:
    """The names of a Zarr array's axes, which formats 2 and 3 keep in different places."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return array.ndim == 0 or (names is not None and all(names))


def _opened(place: Any, open_it: Any) -> Any:
    try:
        return open_it()
    except Exception as error:  # whatever the engines raise means that the file is not sound
        raise DataError(f"{place}: cannot be read ({first_line(error)})") from error


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"convert: this needs the package {package}: pip install 'fieldwright[formats]'") from error
