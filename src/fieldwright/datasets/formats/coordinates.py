"""A grid from the coordinates that a file holds, or from what its user says of points without any."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from fieldwright.errors import DataError, InputError
from fieldwright.grids import AXES, CENTRINGS, Centring, Grid

# Single precision leaves coordinates some 1e-7 of their size beside the line; a finer grid needs a larger share of h.
_UNEVEN = 1e-2
_ROUNDING = 4e-7


def grid_from_coordinates(
    coordinates: Sequence[np.ndarray], centring: Centring | None, where: str, *, periodic: bool = False
) -> Grid:
    """The grid whose points along axis i are ``coordinates[i]``.

    Without a ``centring`` points that begin half a step from zero are cell centres, others nodes, or periodic where the
    walls are. Ends of the box that single precision has moved are put back on the round number beside them.

    Errors: `DataError` for coordinates that are not evenly spaced, do not rise or are not finite.
    """
    lines = [np.asarray(axis, np.float64).reshape(-1) for axis in coordinates]
    steps = [_step(line, AXES[i], where) for i, line in enumerate(lines)]
    if centring is None:
        halves = [abs(line[0] - h / 2) <= _UNEVEN * h for line, h in zip(lines, steps, strict=True)]
        centring = "cell" if all(halves) else "periodic" if periodic else "node"
    before = {"cell": 0.5}.get(centring, 0.0)
    after = {"cell": 0.5, "periodic": 1.0}.get(centring, 0.0)
    lower, upper = [], []
    for given, line, h in zip(coordinates, lines, steps, strict=True):
        precise = np.asarray(given).dtype.itemsize > 4
        moved = (1e-12 if precise else _ROUNDING) * float(np.abs(line).max())
        lower.append(_round(line[0] - before * h, moved))
        upper.append(_round(line[-1] + after * h, moved))
    return Grid(tuple(map(len, lines)), centring, tuple(lower), tuple(upper))


def stated_grid(shape: Sequence[int], stated: str, default: Centring) -> Grid:
    """The grid of points without coordinates: ``stated`` is "", "node", "periodic 0:6.2832" or "cell -1:1 0:2".

    One range stands for all axes; without any the box is the unit box.

    Errors: `InputError` for a text of another form.
    """
    words = stated.replace(",", " ").split()
    centring = words[0] if words else default
    if centring not in CENTRINGS:
        raise InputError(f"--grid: '{stated}'; it begins with one of {', '.join(CENTRINGS)}")
    ranges = [re.fullmatch(r"([^:]+):([^:]+)", word) for word in words[1:]]
    try:
        bounds = [(float(r[1]), float(r[2])) for r in ranges if r is not None]
    except ValueError:
        bounds = []
    if len(bounds) < len(ranges) or len(ranges) not in (0, 1, len(shape)):
        raise InputError(
            f"--grid: '{stated}'; write it like '{centring} 0:1', or with one range for each of {len(shape)} axes"
        )
    box = bounds * len(shape) if len(bounds) == 1 else bounds or [(0.0, 1.0)] * len(shape)
    return Grid(tuple(shape), centring, tuple(b[0] for b in box), tuple(b[1] for b in box))  # type: ignore[arg-type]


def rising_times(times: np.ndarray, where: str) -> np.ndarray:
    """The stored times in float64.

    Errors: `DataError` when they are not finite or do not rise.
    """
    line = np.asarray(times, np.float64).reshape(-1)
    if not np.isfinite(line).all() or (np.diff(line) <= 0).any():
        raise DataError(f"{where}: its times do not rise from one to the next, or are not finite")
    return line


def _step(line: np.ndarray, axis: str, where: str) -> float:
    if len(line) < 2:
        raise DataError(f"{where}: has {len(line)} coordinate along {axis}; at least two are needed")
    if not np.isfinite(line).all():
        raise DataError(f"{where}: has coordinates along {axis} that are not finite")
    h = float(line[-1] - line[0]) / (len(line) - 1)
    off = float(np.abs(line - (line[0] + h * np.arange(len(line)))).max())
    if h <= 0 or off > max(_UNEVEN * h, _ROUNDING * float(np.abs(line).max())):
        raise DataError(
            f"{where}: its coordinates along {axis} are not evenly spaced and rising; no grid is made of them"
        )
    return h


def _round(value: float, moved: float) -> float:
    """The shortest decimal, or multiple of π/2, no further than ``moved`` from the value."""
    quarters = math.pi / 2 * round(value / (math.pi / 2))
    for near in (*(round(value, digits) for digits in range(4)), quarters, *(round(value, d) for d in range(4, 8))):
        if abs(near - value) <= moved:
            return near + 0.0  # not -0.0
    return float(value)
