"""Normalisation constants of the train split, in The Well's ``stats.yaml``.

For every field the mean μ, the standard deviation √E(v - μ)² and the root mean square √E v², over all samples, stored
times and grid points; for fields that vary with time also those of the differences of consecutive times. They are of
the numbers as stored. Vectors and tensors have them per component.

Moments are taken per block in float64 and merged by Chan, Golub and LeVeque's update, so that the data is read once and
a mean that is large beside the deviation costs no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fieldwright.atomic import write_atomically
from fieldwright.datasets.layout import FieldLayout, Layout, read_layouts
from fieldwright.datasets.mapping import MappedFile

STATISTICS_FILE = "stats.yaml"
_BLOCK_BYTES = 1 << 24


@dataclass
class Moments:
    """Count n, mean μ and Σ (v - μ)² per component; ``merge`` adds a block of shape (points, component)."""

    count: int = 0
    mean: Any = 0.0
    spread: Any = 0.0

    def merge(self, block: np.ndarray) -> None:
        """Take a block of shape (points, component) into the moments."""
        n = len(block)
        mean = block.mean(0)
        spread = np.square(block - mean).sum(0)
        total = self.count + n
        shift = mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.spread = self.spread + spread + np.square(shift) * (self.count * n / total)
        self.count = total

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.spread / self.count)

    @property
    def rms(self) -> np.ndarray:
        return np.sqrt(self.spread / self.count + np.square(self.mean))


def write_statistics(root: Path) -> None:
    """Compute the statistics of ``root/data/train`` and write them to ``root/stats.yaml``; without it, do nothing.

    Errors: `DataError` for a damaged shard, `StorageError` when it cannot be written.
    """
    files = sorted((root / "data" / "train").glob("*.hdf5"))
    if files:
        table = statistics(read_layouts(files))
        # PyYAML reads 1e-05 as a text and 1.0e-05 as a number; its own writer always puts the point.
        write_atomically(root / STATISTICS_FILE, yaml.safe_dump(table, sort_keys=True).encode())


def statistics(layouts: list[Layout]) -> dict[str, dict[str, Any]]:
    """The six tables of ``stats.yaml``: quantity -> field -> number, list or list of lists."""
    table: dict[str, dict[str, Any]] = {
        f"{quantity}{suffix}": {} for quantity in ("mean", "std", "rms") for suffix in ("", "_delta")
    }
    for position, field in enumerate(layouts[0].fields):
        values, changes = Moments(), Moments()
        for layout in layouts:
            for block in blocks(layout, layout.fields[position]):
                values.merge(_by_component(block, field))
                if field.time_varying and layout.steps > 1:
                    axis = int(field.sample_varying)
                    changes.merge(_by_component(np.diff(block, axis=axis), field))
        shape = (layouts[0].grid.dimension,) * field.order
        for suffix, moments in (("", values), ("_delta", changes)):
            if moments.count:
                for quantity in ("mean", "std", "rms"):
                    table[quantity + suffix][field.name] = getattr(moments, quantity).reshape(shape).tolist()
    return table


def blocks(layout: Layout, field: FieldLayout) -> Iterator[np.ndarray]:
    """The field's stored numbers in float64, samples first where it varies with them, some samples at a time."""
    array = MappedFile(layout).array(field)
    if not field.sample_varying:
        yield np.asarray(array[...], np.float64)
        return
    step = max(1, _BLOCK_BYTES // (8 * max(1, int(np.prod(field.shape[1:])))))
    for start in range(0, field.shape[0], step):
        yield np.asarray(array[start : start + step], np.float64)


def _by_component(block: np.ndarray, field: FieldLayout) -> np.ndarray:
    return block.reshape(-1, len(field.components))
