"""A note by which Fieldwright reads back all that it wrote into another format.

Most formats have no place for units, walls, parameters or names. What they lack goes into a text in JSON, the passport,
at a place that other readers ignore: an attribute, an entry that nobody asks for. Reading a file that carries one
restores the set; everyone else sees a plain file of the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fieldwright.datasets.formats.export import Selection, channels
from fieldwright.datasets.formats.source import Part, Source, Variable
from fieldwright.datasets.formats.stored import Folded, Joined, Lifted
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError, FieldwrightError, InputError
from fieldwright.grids import Grid

PASSPORT = "fieldwright"
_VERSION = 1


@dataclass(frozen=True)
class Placed:
    """Where a channel has been put: array ``name`` of the target, with its axes.

    ``fold`` is the shape of its rows, where the array has them flat. ``initial`` names an array that holds the first
    stored time apart.
    """

    name: str
    axes: str
    picked: tuple[tuple[str, int], ...] = ()
    initial: str = ""
    fold: tuple[int, ...] = ()


def passport(
    source: Source,
    placed: Mapping[str, Placed],
    selections: Mapping[str, Selection],
    arrays_of_scalars: Mapping[str, str] | None = None,
) -> str:
    """The note on a file that holds the ``selections`` one after the other, each channel where ``placed`` says.

    Scalars that have no array of their own stand in the note.
    """
    by_variable: dict[str, list[Placed]] = {}
    for channel in channels(source):
        by_variable.setdefault(channel.variable.name, []).append(placed[channel.name])
    in_arrays = arrays_of_scalars or {}
    facts = {
        "version": _VERSION,
        "name": source.name,
        "samples": sum(map(len, selections.values())),
        "grid": [source.grid.shape, source.grid.centring, source.grid.lower, source.grid.upper],
        "sides": source.sides.sides,
        "times": source.times.tolist(),
        "fields": [
            {
                "name": v.name,
                "role": v.role,
                "order": v.order,
                "unit": v.unit,
                "description": v.description,
                "sample_varying": v.sample_varying,
                "parts": [[p.name, p.axes, p.picked, p.initial, p.fold] for p in by_variable[v.name]],
            }
            for v in source.variables
        ],
        "scalars": [
            [
                *(s.name, s.unit, s.sample_varying, s.time_varying, s.channel),
                in_arrays.get(s.name) or scalar_rows(s, selections).tolist(),
            ]
            for s in source.scalars
        ],
        "splits": _split_rows(selections),
        "provenance": {k: v for k, v in source.provenance.items() if isinstance(v, (str, int, float, bool))},
    }
    return json.dumps(facts)


def source_of_passport(text: str, array: Callable[[str], Any], files: tuple[Any, ...], format: str) -> Source:
    """The set that a file of ours holds; ``array`` opens an array of the file by its name.

    Errors: `DataError` when the note is damaged or does not fit the file.
    """
    where = str(files[0])
    try:
        facts = json.loads(text)
        if facts["version"] != _VERSION:
            raise DataError(f"{where}: was written by another version of Fieldwright")
        shape, centring, lower, upper = facts["grid"]
        return Source(
            name=str(facts["name"]),
            format=format,
            files=files,
            samples=int(facts["samples"]),
            grid=Grid(tuple(shape), centring, tuple(lower), tuple(upper)),
            variables=tuple(_variable(entry, array) for entry in facts["fields"]),
            times=np.asarray(facts["times"], np.float64).reshape(-1),
            sides=Sides(tuple((str(low), str(high)) for low, high in facts["sides"])),
            scalars=tuple(_scalar(entry, array) for entry in facts["scalars"]),
            splits={str(split): (range(int(a), int(b)),) for split, (a, b) in facts["splits"].items()},
            provenance=dict(facts["provenance"]),
        )
    except FieldwrightError as error:
        raise DataError(f"{where}: {error}") if isinstance(error, InputError) else error from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: its note of Fieldwright is damaged ({type(error).__name__}: {error})") from error


def _variable(entry: Mapping[str, Any], array: Callable[[str], Any]) -> Variable:
    parts = []
    for name, axes, picked, initial, fold in entry["parts"]:
        stored = array(name)
        stored = Folded(stored, fold) if fold else stored
        if initial:
            time = axes.index("t")
            stored = Joined([Lifted(array(initial), time), stored], time)
        chosen = tuple((str(letter), int(index)) for letter, index in picked)
        if not entry["sample_varying"]:
            chosen += (("n", 0),)
        parts.append(Part(stored, axes, chosen))
    return Variable(
        entry["name"], entry["role"], tuple(parts), int(entry["order"]), entry["unit"], entry["description"]
    )


def _scalar(entry: Sequence[Any], array: Callable[[str], Any]) -> StoredScalar:
    name, unit, by_sample, by_time, channel, values = entry
    if isinstance(values, str):
        stored = array(values)
        values = np.asarray(stored[tuple(slice(None) for _ in stored.shape)], np.float64)
        values = values.reshape(-1) if by_sample != by_time else values
    return StoredScalar(name, np.asarray(values, np.float64), bool(by_sample), bool(by_time), unit, bool(channel))


def _split_rows(selections: Mapping[str, Selection]) -> dict[str, tuple[int, int]]:
    """First and last row (exclusive) of each split."""
    found, place = {}, 0
    for split, selection in selections.items():
        found[split] = (place, place + len(selection))
        place += len(selection)
    return found


def scalar_rows(scalar: StoredScalar, selections: Mapping[str, Selection]) -> np.ndarray:
    """A scalar's values in float64, those of the selected samples where it varies with them."""
    values = np.asarray(scalar.values, np.float64)
    return np.concatenate([s.rows(values) for s in selections.values()]) if scalar.sample_varying else values


def lost_facts(source: Source, *, kept_by_others: Sequence[str]) -> list[str]:
    """Sentences on what readers of another format do not see of a source, and what no one gets back."""
    has = {
        "units": any(v.unit != "1" for v in source.variables),
        "the conditions at the walls": bool(source.sides.sides),
        "the grid's coordinates": True,
        "the times": not source.steady,
        "the parameters": bool(source.scalars),
        "the names of the fields": True,
        "the splits": True,
    }
    hidden = [what for what, present in has.items() if present and what not in kept_by_others]
    said = [f"kept for Fieldwright alone, in a note that other readers ignore: {', '.join(hidden)}"] if hidden else []
    alike = [v.name for v in source.variables if not v.sample_varying]
    if alike:
        said.append(f"written for every sample although the same for all: {', '.join(alike)}")
    return said
