"""Several files that are one set: a file per split, per seed or per part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fieldwright.datasets.formats.source import Part, Source, Variable
from fieldwright.datasets.formats.stored import Joined
from fieldwright.datasets.store import StoredScalar
from fieldwright.errors import DataError


def joined(sources: Sequence[Source]) -> Source:
    """The samples of several sources one after the other; their splits keep their names.

    Errors: `DataError` naming the file and the first thing in which it differs: grid, times, walls, fields or units.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    for other in sources[1:]:
        for what, ours, theirs in _comparable(first, other):
            if ours != theirs:
                raise DataError(f"{other.place}: its {what} {theirs}, but {ours} in {first.place}")
    ends = np.cumsum([source.samples for source in sources]).tolist()
    splits: dict[str, tuple[range, ...]] = {}
    for source, end in zip(sources, ends, strict=True):
        shift = end - source.samples
        for split, ranges in source.splits.items():
            moved = tuple(range(part.start + shift, part.stop + shift) for part in ranges)
            splits[split] = (*splits.get(split, ()), *moved)
    return replace(
        first,
        files=tuple(file for source in sources for file in source.files),
        samples=ends[-1],
        variables=tuple(_variable([s.variables[i] for s in sources], sources) for i in range(len(first.variables))),
        scalars=tuple(_scalar([s.scalars[i] for s in sources], sources) for i in range(len(first.scalars))),
        splits=splits,
        notes=tuple(dict.fromkeys(note for source in sources for note in source.notes)),
    )


def _comparable(first: Source, other: Source) -> list[tuple[str, Any, Any]]:
    def fields(source: Source) -> list[str]:
        return [f"{v.role} {v.name} [{v.unit}]{' over time' * v.time_varying}" for v in source.variables]

    def axes(source: Source) -> list[str]:
        return [part.axes for v in source.variables for part in v.parts]

    def numbers(source: Source) -> list[str]:
        return [f"{s.name} [{s.unit}]{' over time' * s.time_varying}" for s in source.scalars]

    same_times = first.times.shape == other.times.shape and np.allclose(first.times, other.times, rtol=1e-6, atol=0)
    return [
        ("grid is", first.grid, other.grid),
        ("times are", _shown(first.times), _shown(first.times) if same_times else _shown(other.times)),
        ("walls are", first.sides.sides, other.sides.sides),
        ("fields are", fields(first), fields(other)),
        ("fields have the axes", axes(first), axes(other)),
        ("parameters are", numbers(first), numbers(other)),
    ]


def _shown(times: np.ndarray) -> str:
    return f"{len(times)} from {times[0]:g} to {times[-1]:g}" if len(times) else "none"


def _variable(members: Sequence[Variable], sources: Sequence[Source]) -> Variable:
    parts = []
    for position, part in enumerate(members[0].parts):
        several = [member.parts[position] for member in members]
        if "n" in part.varying:
            parts.append(replace(part, array=Joined([p.array for p in several], part.axes.index("n"))))
        else:
            parts.append(_same_or_repeated(several, sources))
    return replace(members[0], parts=tuple(parts))


def _same_or_repeated(parts: Sequence[Part], sources: Sequence[Source]) -> Part:
    """A field that is one for all samples of a file: of the set where the files agree, else one per sample."""
    values = [np.asarray(part.array[tuple(slice(None) for _ in part.array.shape)]) for part in parts]
    if all(np.array_equal(values[0], other) for other in values[1:]) or "n" in parts[0].axes:
        return parts[0]
    repeated = [_Repeated(value, source.samples) for value, source in zip(values, sources, strict=True)]
    return replace(parts[0], array=Joined(repeated), axes="n" + parts[0].axes)


class _Repeated:
    """An array given as that of each of ``count`` samples."""

    def __init__(self, values: np.ndarray, count: int) -> None:
        self.values, self.dtype, self.shape = values, values.dtype, (count, *values.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        return np.broadcast_to(self.values, self.shape)[key]


def _scalar(members: Sequence[StoredScalar], sources: Sequence[Source]) -> StoredScalar:
    first = members[0]
    rows = []
    for member, source in zip(members, sources, strict=True):
        values = np.asarray(member.values, np.float64)
        rows.append(values if member.sample_varying else np.broadcast_to(values, (source.samples, *values.shape)))
    if not any(m.sample_varying for m in members) and all(np.array_equal(m.values, first.values) for m in members):
        return first
    return replace(first, values=np.concatenate(rows), sample_varying=True)
