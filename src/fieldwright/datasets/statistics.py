"""Normalisation constants of the train split, in The Well's ``stats.yaml``.

For every field the mean μ, the standard deviation √E(v - μ)² and the root mean square √E v², over all samples, stored
times and grid points; for fields that vary with time also those of the differences of consecutive times. They are of
the numbers as stored. Vectors and tensors have them per component.

Moments are taken per block in float64 and merged by Chan, Golub and LeVeque's update, so that the data is read once and
a mean that is large beside the deviation costs no digits. They are merged shard by shard: a shard's own are taken while
it is in memory and kept in its record, so that a dataset of any size has its statistics as soon as its last shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fieldwright.atomic import write_atomically
from fieldwright.datasets.layout import FieldLayout, Layout, read_layouts
from fieldwright.datasets.mapping import MappedFile
from fieldwright.datasets.plan import Record, Shard
from fieldwright.datasets.store import ShardContent
from fieldwright.errors import DataError

STATISTICS_FILE = "stats.yaml"
_BLOCK_BYTES = 1 << 24
# Numbers in float64 that a core's cache holds with their copies: six times faster than passes over all of a shard.
_CACHED_NUMBERS = 1 << 16


@dataclass
class Moments:
    """Count n, mean μ and Σ (v - μ)² per component; ``merge`` adds a block of shape (points, component)."""

    count: int = 0
    mean: Any = 0.0
    spread: Any = 0.0

    def merge(self, block: np.ndarray) -> None:
        """Take a block of shape (points, component) into the moments."""
        n = len(block)
        if n == 0:
            return
        # Sums run along contiguous memory; no BLAS, whose sums depend on its number of threads.
        columns = np.ascontiguousarray(block.T)
        mean = columns.sum(1) / n
        columns = columns - mean[:, None]
        columns *= columns
        self.add(Moments(n, mean, columns.sum(1)))

    def add(self, other: Moments) -> None:
        """Take all that other moments have seen into these."""
        if other.count == 0:
            return
        n, total = other.count, self.count + other.count
        shift = other.mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.spread = self.spread + other.spread + np.square(shift) * (self.count * n / total)
        self.count = total

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.spread / self.count)

    @property
    def rms(self) -> np.ndarray:
        return np.sqrt(self.spread / self.count + np.square(self.mean))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back to the bit."""
        return {"count": self.count, "mean": np.asarray(self.mean).tolist(), "spread": np.asarray(self.spread).tolist()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Moments:
        """Errors: `KeyError` or `TypeError` for what `to_dict` did not write."""
        return cls(int(facts["count"]), np.array(facts["mean"], np.float64), np.array(facts["spread"], np.float64))


@dataclass(frozen=True)
class FieldMoments:
    """Moments of a field's values and of their changes from one time to the next, in one shard."""

    values: Moments
    changes: Moments

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a shard's record; `from_dict` reads them back to the bit."""
        return {"values": self.values.to_dict(), "changes": self.changes.to_dict()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> FieldMoments:
        """Errors: `KeyError` or `TypeError` for what `to_dict` did not write."""
        return cls(Moments.from_dict(facts["values"]), Moments.from_dict(facts["changes"]))


def write_statistics(root: Path) -> None:
    """Compute the statistics of ``root/data/train`` and write them to ``root/stats.yaml``; without it, do nothing.

    Errors: `DataError` for a damaged shard, `StorageError` when it cannot be written.
    """
    files = sorted((root / "data" / "train").glob("*.hdf5"))
    if files:
        write_table(root, statistics(read_layouts(files)))


def write_table(root: Path, table: Mapping[str, Any]) -> None:
    """Write ``root/stats.yaml``. Errors: `StorageError`."""
    # PyYAML reads 1e-05 as a text and 1.0e-05 as a number; its own writer always puts the point.
    write_atomically(root / STATISTICS_FILE, yaml.safe_dump(dict(table), sort_keys=True).encode())


def statistics(layouts: list[Layout]) -> dict[str, dict[str, Any]]:
    """The six tables of ``stats.yaml``: quantity -> field -> number, list or list of lists."""
    orders = {field.name: field.order for field in layouts[0].fields}
    return merged_table(map(_layout_moments, layouts), orders, layouts[0].grid.dimension)


def merged_table(
    shards: Iterable[Mapping[str, FieldMoments]], orders: Mapping[str, int], dimension: int
) -> dict[str, dict[str, Any]]:
    """`statistics` of the moments of shards, in the order of the shards; ``orders`` are the fields' tensor orders."""
    total = {name: FieldMoments(Moments(), Moments()) for name in orders}
    for shard in shards:
        for name, found in total.items():
            found.values.add(shard[name].values)
            found.changes.add(shard[name].changes)
    table: dict[str, dict[str, Any]] = {
        f"{quantity}{suffix}": {} for quantity in ("mean", "std", "rms") for suffix in ("", "_delta")
    }
    for name, found in total.items():
        for suffix, moments in (("", found.values), ("_delta", found.changes)):
            if moments.count:
                for quantity in ("mean", "std", "rms"):
                    numbers = np.asarray(getattr(moments, quantity)).reshape((dimension,) * orders[name])
                    table[quantity + suffix][name] = numbers.tolist()
    return table


def content_moments(content: ShardContent) -> dict[str, FieldMoments]:
    """The moments of a shard's fields, from memory; their values are in the unit of storage."""
    dimension = content.grid.dimension
    return {
        entry.name: _field_moments(
            np.asarray(entry.values), entry.sample_varying, entry.time_varying, dimension**entry.order
        )
        for entry in content.fields
    }


def blocks(layout: Layout, field: FieldLayout) -> Iterator[np.ndarray]:
    """The field's stored numbers in float64, samples first where it varies with them, some samples at a time."""
    array = MappedFile(layout).array(field)
    if not field.sample_varying:
        yield np.asarray(array[...], np.float64)
        return
    step = max(1, _BLOCK_BYTES // (8 * max(1, int(np.prod(field.shape[1:])))))
    for start in range(0, field.shape[0], step):
        yield np.asarray(array[start : start + step], np.float64)


def recorded_moments(root: Path, shard: Shard, record: Record, names: Iterable[str]) -> dict[str, FieldMoments]:
    """The moments of the fields ``names`` that a shard's record holds. Errors: `DataError` for a damaged record."""
    facts = record.moments or {}
    try:
        return {name: FieldMoments.from_dict(facts[name]) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{root / shard.record}: is damaged ({error})") from error


def _layout_moments(layout: Layout) -> dict[str, FieldMoments]:
    file = MappedFile(layout)
    return {
        field.name: _field_moments(file.array(field), field.sample_varying, field.time_varying, len(field.components))
        for field in layout.fields
    }


def _field_moments(array: Any, sample_varying: bool, time_varying: bool, components: int) -> FieldMoments:
    """Of an array of shape ([sample,] [time,] *space, [component]); one pass, some numbers at a time."""
    moments = FieldMoments(Moments(), Moments())
    samples = array.shape[0] if sample_varying else 1
    steps = array.shape[int(sample_varying)] if time_varying else 1
    points = int(np.prod(array.shape)) // (samples * steps * components) if samples else 0
    width = max(1, min(points, _CACHED_NUMBERS // (steps * components)))
    group = max(1, _CACHED_NUMBERS // (steps * components * width))
    for first in range(0, samples, group):
        part = np.asarray(array[first : first + group] if sample_varying else array[...])
        part = part.reshape(-1, steps, points, components)
        for place in range(0, points, width):
            block = part[:, :, place : place + width].astype(np.float64)
            moments.values.merge(block.reshape(-1, components))
            if steps > 1:
                moments.changes.merge(np.diff(block, axis=1).reshape(-1, components))
    return moments
