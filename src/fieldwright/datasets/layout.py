"""The layout of a file as plain facts: what arrays there are, and at which byte each begins."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fieldwright.datasets.remote import RemoteFile, look_from_afar
from fieldwright.errors import DataError
from fieldwright.grids import Grid

_FILES_PER_CHILD = 256
_SECONDS_PER_FILE = 10.0
_SECONDS_PER_REMOTE_FILE = 120.0  # of which most go to the network


@dataclass(frozen=True)
class FieldLayout:
    """Where one field lies: ``offset`` is None for an array that is chunked and has to be read through HDF5."""

    name: str
    place: str
    order: int
    sample_varying: bool
    time_varying: bool
    dim_varying: list[bool]
    shape: list[int]
    dtype: str
    offset: int | None
    unit: str
    scale: float
    components: list[str]

    @property
    def channels(self) -> list[str]:
        """Names of the field's components: ``velocity_x``, ``velocity_y``; a scalar field has its own name only."""
        return [f"{self.name}_{component}" if component else self.name for component in self.components]


@dataclass(frozen=True)
class NumberLayout:
    """A number that is an input: ``values`` of shape (samples or 1, times or 1)."""

    name: str
    unit: str
    values: np.ndarray


@dataclass(frozen=True)
class Layout:
    """What a file of The Well holds, read once; everything after that is byte offsets."""

    path: Path | RemoteFile
    name: str
    samples: int
    steps: int
    grid: Grid
    fields: tuple[FieldLayout, ...]
    attributes: dict[str, Any]
    own: dict[str, Any]
    scalars: dict[str, Any]
    numbers: tuple[NumberLayout, ...] = ()
    times: tuple[float, ...] = ()

    @property
    def steady(self) -> bool:
        return bool(self.attributes.get("fieldwright_steady", False))


def read_layouts(paths: Sequence[Path | RemoteFile]) -> list[Layout]:
    """The layouts of files in The Well's format, found in a child process.

    Errors: `DataError` naming the first file that is missing, damaged, cut short or not in the format, and why.
    """
    layouts = []
    for found in survey(paths):
        if isinstance(found, DataError):
            raise found
        layouts.append(found)
    return layouts


def survey(paths: Sequence[Path | RemoteFile], *, seconds: float = _SECONDS_PER_FILE) -> list[Layout | DataError]:
    """The layout of each file, or the error that `read_layouts` would raise for it."""
    results: list[Layout | DataError] = []
    for path, facts in zip(paths, look(paths, "well", seconds=seconds), strict=True):
        try:
            results.append(_layout(path, facts))
        except DataError as error:
            results.append(error)
    return results


def look(
    paths: Sequence[Path | RemoteFile], kind: Literal["well", "arrays"], *, seconds: float = _SECONDS_PER_FILE
) -> list[dict[str, Any]]:
    """What `describe` says of each file, found in a child process that may crash; "error" is what is wrong.

    After a crash another child goes on with the files behind the one that caused it; none gets more than ``seconds``.
    """
    facts: list[dict[str, Any]] = []
    while len(facts) < len(paths):
        rest = paths[len(facts) : len(facts) + _FILES_PER_CHILD]
        local = list(itertools.takewhile(lambda path: not isinstance(path, RemoteFile), rest))
        facts += _child(local, kind, seconds) if local else [_child_afar(rest[0], kind)]  # type: ignore[arg-type]
    return facts


def _child(paths: Sequence[Path | RemoteFile], kind: str, seconds: float) -> list[dict[str, Any]]:
    command = [*_command(kind, seconds), *map(str, paths)]
    child = subprocess.run(command, capture_output=True, check=False)
    facts = [json.loads(line) for line in child.stdout.splitlines()]
    if len(facts) < len(paths):
        facts.append(_crashed(child.returncode))
    return facts


def _child_afar(file: RemoteFile, kind: str) -> dict[str, Any]:
    facts, status = look_from_afar(file, _command(kind, _SECONDS_PER_REMOTE_FILE))
    return _crashed(status) if facts is None else facts


def _command(kind: str, seconds: float) -> list[str]:
    # -P keeps this directory, where modules are named like some of the standard library's, off the child's path.
    return [sys.executable, "-P", str(Path(__file__).with_name("describe.py")), kind, str(seconds)]


def _crashed(status: int) -> dict[str, Any]:
    endless = status == -getattr(signal, "SIGALRM", 0)
    how = "comes to no end with it" if endless else f"fails on it with status {status}"
    return {"error": f"is damaged (the HDF5 library {how})"}


def _layout(path: Path | RemoteFile, facts: dict[str, Any]) -> Layout:
    if "error" in facts:
        raise DataError(f"{path}: {facts['error']}")
    fields = tuple(FieldLayout(**entry) for entry in facts["fields"])
    if isinstance(path, RemoteFile):  # no bytes to map
        fields, size = tuple(replace(entry, offset=None) for entry in fields), 0
    else:
        size = os.path.getsize(path)
    for entry in fields:
        # A map that reaches past the end of its file would end the process on first touch.
        needed = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
        if entry.offset is not None and not 0 <= entry.offset <= size - needed:
            raise DataError(
                f"{path}: is cut short; '{entry.place}' would end at byte {entry.offset + needed} of {size}"
            )
        if not 0 < entry.scale < math.inf:
            raise DataError(f"{path}: has the attribute fieldwright_scale = {entry.scale} of '{entry.place}'")
    return Layout(
        path=path if isinstance(path, RemoteFile) else Path(path),
        name=facts["name"],
        samples=facts["samples"],
        steps=facts["steps"],
        grid=_grid(path, facts),
        fields=fields,
        attributes=facts["attributes"],
        own=facts["own"],
        scalars=facts["scalars"],
        times=tuple(facts.get("times", ())),
        numbers=tuple(
            NumberLayout(entry["name"], entry["unit"], np.array(entry["values"], np.float32))
            for entry in facts.get("numbers", [])
        ),
    )


def _grid(path: Path | RemoteFile, facts: dict[str, Any]) -> Grid:
    own, shape = facts["own"], tuple(facts["shape"])
    try:
        if {"centring", "lower", "upper"} <= own.keys():
            return Grid(shape, own["centring"], tuple(own["lower"]), tuple(own["upper"]))
        return _inferred_grid(facts["coordinates"], facts["boundary"])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: has coordinates that make no grid ({error})") from error


def _inferred_grid(coordinates: list[list[float]], boundary: list[dict[str, Any]]) -> Grid:
    """The format says where points are, not what they are midpoints of: take what the coordinates suggest."""
    shape = tuple(len(axis) for axis in coordinates)
    first = [axis[0] for axis in coordinates]
    steps = [(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else 1.0 for axis in coordinates]
    ends = [axis[-1] for axis in coordinates]
    if all(abs(a - h / 2) <= 1e-3 * h for a, h in zip(first, steps, strict=True)):
        upper = tuple(b + h / 2 for b, h in zip(ends, steps, strict=True))
        return Grid(shape, "cell", (0.0,) * len(shape), upper)
    wrapping = {name for condition in boundary if condition["type"] == "PERIODIC" for name in condition["dims"]}
    if len(wrapping) == len(shape):
        return Grid(shape, "periodic", tuple(first), tuple(b + h for b, h in zip(ends, steps, strict=True)))
    return Grid(shape, "node", tuple(first), tuple(ends))
