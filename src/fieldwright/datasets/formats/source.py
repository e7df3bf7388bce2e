"""What a converter reads from: fields of many samples, each with the place of its numbers, whatever file they lie in.

A format's reader makes a `Source` without reading any field: it finds arrays and says what their axes mean, a letter
each. Reading some samples, moving the axes into one order and converting to float32 is then the same for all formats.

    n        samples
    t        stored times
    x, y, z  space
    v, w     components of a vector, and the second ones of a tensor
    c        channels, of which one is picked
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fieldwright.datasets.formats.stored import read_slice
from fieldwright.datasets.remote import RemoteFile
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError, InputError
from fieldwright.grids import AXES, Grid

Role = Literal["input", "output"]
Place = Path | RemoteFile
SPLITS = ("train", "valid", "test")
AXIS_WORDS = {
    "n": "samples",
    "t": "times",
    "x": "x",
    "y": "y",
    "z": "z",
    "v": "components",
    "w": "components",
    "c": "channels",
}
_SPACE = "".join(AXES)


@dataclass(frozen=True)
class Part:
    """An array and what its axes mean.

    ``array`` has ``shape`` and ``dtype`` and is sliced like NumPy's: an HDF5 or Zarr dataset, a region of a file.
    ``picked`` are letters with the one index to take along each. Numbers are stored divided by ``scale``.
    """

    array: Any
    axes: str
    picked: tuple[tuple[str, int], ...] = ()
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.array.shape) or len(set(self.axes)) != len(self.axes):
            raise InputError(f"axes '{self.axes}' for an array of shape {tuple(self.array.shape)}")

    @property
    def varying(self) -> str:
        """The letters along which the values differ."""
        return "".join(letter for letter in self.axes if letter not in dict(self.picked))

    def size(self, letter: str) -> int:
        """The number of entries along an axis."""
        return int(self.array.shape[self.axes.index(letter)])

    def read(self, samples: slice, grid: Grid) -> np.ndarray:
        """Some samples as float32 of axes ([n,] [t,] *space, [v, [w]]), spread along the axes of space it lacks."""
        picked = dict(self.picked)
        key = tuple(
            slice(picked[a], picked[a] + 1) if a in picked else samples if a == "n" else slice(None) for a in self.axes
        )
        block = read_slice(self.array, key)
        block = block.reshape([size for a, size in zip(self.axes, block.shape, strict=True) if a not in picked])
        space = _SPACE[: grid.dimension]
        letters = [a for a in f"nt{space}vw" if a in self.varying]
        block = block.transpose([self.varying.index(a) for a in letters])
        with np.errstate(
            over="ignore"
        ):  # what is too large turns infinite, and is refused where all values are checked
            block = np.asarray(block if self.scale == 1 else block * self.scale, np.float32)
        if set(space) <= set(letters):
            return block
        spread = [a for a in f"nt{space}vw" if a in letters or a in space]
        block = block[tuple(slice(None) if a in letters else None for a in spread)]
        shape = list(block.shape)
        for axis, size in zip(space, grid.shape, strict=True):
            shape[spread.index(axis)] = size
        return np.broadcast_to(block, shape)


@dataclass(frozen=True)
class Variable:
    """A field: one part that has all its components, or a part per component.

    An output without an axis of time, in a steady source, is the solution.
    """

    name: str
    role: Role
    parts: tuple[Part, ...]
    order: int = 0
    unit: str = "1"
    description: str = ""

    @property
    def sample_varying(self) -> bool:
        return any("n" in part.varying for part in self.parts)

    @property
    def time_varying(self) -> bool:
        return any("t" in part.varying for part in self.parts)

    def read(self, samples: slice, grid: Grid) -> np.ndarray:
        """Some samples as float32 of axes ([n,] [t,] *space, *components)."""
        blocks = [part.read(samples, grid) for part in self.parts]
        if self.order == 0 or "v" in self.parts[0].axes:
            return blocks[0]
        return np.stack(blocks, axis=-1).reshape(*blocks[0].shape, *(grid.dimension,) * self.order)


@dataclass(frozen=True)
class Source:
    """A set of ``samples`` samples on one grid, ready to be read piece by piece.

    ``times`` are the stored times, none for a steady set. ``sides`` are the conditions at the walls, where the format
    tells. ``scalars`` hold the numbers of all samples. ``splits`` says which samples belong to which split by the
    convention of the source. ``notes`` are sentences for the person who converts it: what was assumed or left out.

    Errors: `DataError` when arrays do not fit each other, or none can be an input or an output.
    """

    name: str
    format: str
    files: tuple[Place | str, ...]
    samples: int
    grid: Grid
    variables: tuple[Variable, ...]
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sides: Sides = field(default_factory=Sides)
    scalars: tuple[StoredScalar, ...] = ()
    splits: Mapping[str, tuple[range, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in ("input", "output") if self.steady else ("output",):
            if not any(variable.role == role for variable in self.variables):
                raise DataError(f"{self.place}: holds no array known as an {role}; name one by --map NAME={role}")
        if self.samples < 1:
            raise DataError(f"{self.place}: holds no sample")
        for variable in self.variables:
            self._check(variable)

    @property
    def steady(self) -> bool:
        return self.times.size == 0

    @property
    def place(self) -> str:
        """The file, or the first of the files, for sentences."""
        return str(self.files[0])

    def _check(self, variable: Variable) -> None:
        sizes = {"n": self.samples, "t": len(self.times), "v": self.grid.dimension, "w": self.grid.dimension}
        sizes |= dict(zip(AXES, self.grid.shape, strict=False))
        for part in variable.parts:
            for letter in part.varying:
                if part.size(letter) != sizes.get(letter, 0):
                    shape = tuple(int(n) for n in part.array.shape)
                    raise DataError(
                        f"{self.place}: '{variable.name}' of shape {shape} has {part.size(letter)}"
                        f" {AXIS_WORDS[letter]} where the set has {sizes.get(letter, 0)}"
                    )


@dataclass(frozen=True)
class Reading:
    """How a source is to be read: what the user said, and where large arrays may be put in another order.

    ``roles`` are the user's words for names (see `roles`), ``grid`` for points without coordinates. ``scratch`` is a
    directory for temporary files, ``budget`` the bytes that one array may take in memory, ``opened`` has the HDF5 files
    that have been looked through already, ``handles`` what else is open; `close` closes both.
    """

    scratch: Path
    roles: Mapping[str, str] = field(default_factory=dict)
    grid: str = ""
    budget: int = 1 << 27
    opened: dict[Any, Any] = field(default_factory=dict)
    handles: list[Any] = field(default_factory=list)

    def close(self) -> None:
        """Close all files that reading has opened."""
        for handle in [*self.handles, *(file.handle for file in self.opened.values())]:
            handle.close()
