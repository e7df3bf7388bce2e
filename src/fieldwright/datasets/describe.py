"""Say what HDF5 files hold, from a process of its own: ``python describe.py well|arrays SECONDS FILE...``.

A file that lies elsewhere is given as ``pipe:SIZE``; its bytes are asked for on stdout, a line ``OFFSET COUNT`` at a
time, and come on stdin. So the parent alone needs the way to it, and its cache serves both.

The HDF5 library can crash on a damaged or hostile file, and a crash must cost a sentence, not the run. So the first
look at any file happens here, in a child process that prints one JSON object a file: the layout, or ``{"error": ...}``.
One flipped bit can also send the library round in circles, so each file has a number of seconds.
Nothing of Fieldwright is imported, which keeps the child's start at a quarter of a second.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from typing import Any

import h5py
import numpy as np

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_STARTS = (0, 512, 1024, 2048)


class Unreadable(ValueError):
    """Something the format asks for that the file does not have."""


def describe(path: str, kind: str) -> dict[str, Any]:
    """The layout of a file of The Well (kind "well"), or of its arrays (kind "arrays"); errors are told, not raised."""
    try:
        if path.startswith("pipe:"):
            with _piped(int(path.removeprefix("pipe:"))) as file:
                return _well(file) if kind == "well" else _arrays(file)
        if not os.path.isfile(path):
            raise Unreadable("is not there" if not os.path.exists(path) else "is not a file")
        if os.path.getsize(path) == 0:
            raise Unreadable("is empty")
        if not h5py.is_hdf5(path):
            raise Unreadable("is not an HDF5 file")
        with h5py.File(path, "r", locking=False) as file:
            return _well(file) if kind == "well" else _arrays(file)
    except Unreadable as error:
        return {"error": str(error)}
    except Exception as error:  # whatever h5py raises here says one thing: the file is not sound
        reason = str(error).partition("\n")[0] or type(error).__name__
        return {"error": f"is damaged or incomplete ({reason})"}


class _Pipe(io.RawIOBase):
    """A file of ``size`` bytes that the parent process reads."""

    def __init__(self, size: int) -> None:
        self.size, self.position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self.position))
        if count:
            print(self.position, count, flush=True)
            buffer[:count] = sys.stdin.buffer.read(count)
            self.position += count
        return count


def _piped(size: int) -> h5py.File:
    pipe = _Pipe(size)
    signature = bytearray(8)
    if size == 0:
        raise Unreadable("is empty")
    # The signature stands at byte 0, or behind a block of the user's of 512 bytes or a doubling of that.
    if not any(pipe.seek(at) + 8 <= size and pipe.readinto(signature) and signature == _SIGNATURE for at in _STARTS):
        raise Unreadable("is not an HDF5 file")
    return h5py.File(pipe, "r")


def _well(file: h5py.File) -> dict[str, Any]:
    samples = _whole(file, "n_trajectories")
    dimension = _whole(file, "n_spatial_dims")
    dims = _words(_group(file, "dimensions"), "spatial_dims")
    if not 1 <= dimension <= 3 or len(dims) != dimension:
        raise Unreadable(f"has {len(dims)} axes {dims} where its attribute n_spatial_dims is {dimension}")
    times = _dataset(file, "dimensions/time")
    coordinates = [_dataset(file, f"dimensions/{name}") for name in dims]
    shape = [axis.shape[-1] for axis in coordinates]
    steps = times.shape[-1] if times.shape else 0
    return {
        "name": _text(file, "dataset_name"),
        "samples": samples,
        "steps": int(steps),
        "times": times[()].reshape(-1, steps)[0].astype(float).tolist() if steps else [],
        "shape": shape,
        "coordinates": [axis[()].reshape(-1, axis.shape[-1])[0].astype(float).tolist() for axis in coordinates],
        "fields": [field for order in range(3) for field in _fields(file, order, dims, samples, steps, shape)],
        "boundary": _boundary(_group(file, "boundary_conditions")),
        "attributes": _attributes(file),
        "own": _attributes(file["fieldwright"]) if "fieldwright" in file else {},
        "scalars": _scalars(_group(file, "scalars")),
        "numbers": _numbers(_group(file, "scalars"), samples, int(steps)),
    }


def _fields(
    file: h5py.File, order: int, dims: list[str], samples: int, steps: int, shape: list[int]
) -> list[dict[str, Any]]:
    title = f"t{order}_fields"
    found = []
    for name in _words(_group(file, title), "field_names"):
        dataset = _dataset(file, f"{title}/{name}")
        sample_varying = _flag(dataset, "sample_varying")
        time_varying = _flag(dataset, "time_varying")
        varying = [bool(v) for v in np.atleast_1d(_attribute(dataset, "dim_varying"))]
        if len(varying) != len(shape):
            raise Unreadable(f"has {len(varying)} entries in dim_varying of '{title}/{name}' for {len(shape)} axes")
        space = [n for n, kept in zip(shape, varying, strict=True) if kept]
        expected = (*[samples] * sample_varying, *[steps] * time_varying, *space, *[len(shape)] * order)
        if dataset.shape != expected:
            raise Unreadable(f"has '{title}/{name}' of shape {dataset.shape} where its attributes ask for {expected}")
        if dataset.dtype.kind != "f":
            raise Unreadable(f"has '{title}/{name}' of type {dataset.dtype}; floating point numbers are needed")
        found.append(
            {
                "name": name,
                "place": f"{title}/{name}",
                "order": order,
                "sample_varying": sample_varying,
                "time_varying": time_varying,
                "dim_varying": varying,
                "shape": list(dataset.shape),
                "dtype": dataset.dtype.str,
                "offset": _offset(dataset),
                "unit": str(dataset.attrs.get("unit", "1")),
                "scale": float(dataset.attrs.get("fieldwright_scale", 1.0)),
                "components": _components(dims, order),
            }
        )
    return found


def _components(dims: list[str], order: int) -> list[str]:
    names = [""]
    for _ in range(order):
        names = [name + axis for name in names for axis in dims]
    return names


def _offset(dataset: h5py.Dataset) -> int | None:
    # Chunked arrays have no offset, and one that was never written has none either.
    if dataset.chunks is not None or dataset.compression is not None:
        return None
    return dataset.id.get_offset()


def _boundary(group: h5py.Group) -> list[dict[str, Any]]:
    conditions = []
    for name in group:
        entry = group[name]
        kind = str(_attribute(entry, "bc_type")).upper()
        if kind not in ("WALL", "OPEN", "PERIODIC"):
            raise Unreadable(f"has the bc_type '{kind}' of '{name}'; allowed are WALL, OPEN and PERIODIC")
        conditions.append({"type": kind, "dims": _words(entry, "associated_dims")})
    return conditions


def _scalars(group: h5py.Group) -> dict[str, Any]:
    return {name: _plain(_dataset(group, name)[()]) for name in _words(group, "field_names")}


def _numbers(group: h5py.Group, samples: int, steps: int) -> list[dict[str, Any]]:
    """The scalars that are inputs of the problem, as a table of one row per sample and one column per time."""
    found = []
    for name in _words(group, "field_names"):
        dataset = _dataset(group, name)
        if not bool(dataset.attrs.get("fieldwright_channel", False)):
            continue
        by_sample, by_time = _flag(dataset, "sample_varying"), _flag(dataset, "time_varying")
        expected = (*[samples] * by_sample, *[steps] * by_time)
        if dataset.shape != expected or dataset.dtype.kind != "f":
            raise Unreadable(
                f"has 'scalars/{name}' of shape {dataset.shape} and type {dataset.dtype} where its attributes ask for"
                f" floating point numbers of shape {expected}"
            )
        values = dataset[()].reshape(samples if by_sample else 1, steps if by_time else 1)
        unit = str(dataset.attrs.get("unit", "1"))
        found.append({"name": name, "unit": unit, "values": values.astype(float).tolist()})
    return found


def _arrays(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(("#", "__")):
            _refuse_outside(item)
            unit = item.attrs.get("unit", item.attrs.get("units", "1"))
            found[name] = {"shape": list(item.shape or ()), "kind": item.dtype.kind, "unit": _word(unit)}
        _touch_attributes(item)

    file.visititems(visit)
    _touch_attributes(file)
    return {"arrays": found}


def _touch_attributes(item: Any) -> None:
    """Read all attributes, so that one that crashes the library does so here; for some types h5py has no word."""
    for name in item.attrs:
        with contextlib.suppress(TypeError, ValueError, OSError):
            item.attrs[name]


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    item = _linked(parent, name)
    if not isinstance(item, h5py.Group):
        raise Unreadable(f"has no group '{name}'")
    return item


def _dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    item = _linked(parent, name)
    if not isinstance(item, h5py.Dataset):
        raise Unreadable(f"has no array '{name}'")
    _refuse_outside(item)
    return item


def _linked(parent: h5py.Group, name: str) -> Any:
    for part in name.split("/"):
        # Links to other files could pull anything readable on this machine into a data set.
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is not None and not isinstance(link, h5py.HardLink):
            raise Unreadable(f"has a link in place of '{name}'; only arrays within the file are read")
        parent = parent[part] if link is not None else None  # type: ignore[assignment]
    return parent


def _refuse_outside(dataset: h5py.Dataset) -> None:
    if dataset.external or dataset.is_virtual:
        raise Unreadable(f"keeps '{dataset.name}' in another file; only arrays within the file are read")


def _attribute(item: Any, name: str) -> Any:
    if name not in item.attrs:
        where = f" of '{item.name.strip('/')}'" if item.name != "/" else ""
        raise Unreadable(f"lacks the attribute {name}{where}")
    return item.attrs[name]


def _whole(item: Any, name: str) -> int:
    value = _attribute(item, name)
    if np.ndim(value) or not isinstance(value, (int, np.integer)) or value < 0:
        raise Unreadable(f"has the attribute {name} = {value!r}; a whole number is needed")
    return int(value)


def _text(item: Any, name: str) -> str:
    value = _attribute(item, name)
    if not isinstance(value, str):
        raise Unreadable(f"has the attribute {name} = {value!r}; a text is needed")
    return value


def _flag(item: Any, name: str) -> bool:
    value = _attribute(item, name)
    if not isinstance(value, (bool, np.bool_, int, np.integer)):
        raise Unreadable(f"has the attribute {name} = {value!r} of '{item.name.strip('/')}'; true or false is needed")
    return bool(value)


def _words(item: Any, name: str) -> list[str]:
    value = np.atleast_1d(_attribute(item, name))
    if value.size and not all(isinstance(word, str) for word in value):
        raise Unreadable(f"has the attribute {name} of '{item.name.strip('/')}' that is not a list of texts")
    return [str(word) for word in value]


def _attributes(item: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in item.attrs.items()}


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return value if isinstance(value, (str, int, float, bool, list)) else str(value)


if __name__ == "__main__":
    for file_name in sys.argv[3:]:
        if hasattr(signal, "setitimer"):
            # Nothing handles this alarm: it ends the process, also one that is caught in a loop of the C library.
            signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
        print(json.dumps(describe(file_name, sys.argv[1])), flush=True)
