"""What the writers of other formats share: the channels of a set, its samples in some order, their values in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fieldwright.datasets.formats.source import Source, Variable
from fieldwright.errors import DataError
from fieldwright.grids import AXES, Grid


@dataclass(frozen=True)
class Channel:
    """One component of a field: ``velocity_x``."""

    name: str
    variable: Variable
    component: tuple[int, ...]

    def read(self, samples: slice, grid: Grid) -> np.ndarray:
        """Some samples as float32 of axes (n, [t,] *space), also of what is the same for all samples."""
        block = self.variable.read(samples, grid)[(..., *self.component)]
        if self.variable.sample_varying:
            return block
        return np.broadcast_to(block, (samples.stop - samples.start, *block.shape))


def channels(source: Source, role: str | None = None) -> list[Channel]:
    """The components of all fields, or of those of a role, in the order of the source."""
    found = []
    for variable in source.variables:
        if role in (None, variable.role):
            for component in np.ndindex((source.grid.dimension,) * variable.order):
                ending = "".join(AXES[i] for i in component)
                found.append(Channel(f"{variable.name}_{ending}" if ending else variable.name, variable, component))
    return found


def operator_inputs(source: Source) -> list[Channel]:
    """What an operator is given: the inputs of a steady set, else the fields at the first stored time, and inputs."""
    return channels(source, "input") if source.steady else [*channels(source, "output"), *channels(source, "input")]


@dataclass(frozen=True)
class Selection:
    """Samples of a source in the order in which they are to be written."""

    ranges: tuple[range, ...]

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def pieces(self, start: int, stop: int) -> list[slice]:
        """The source's samples that stand at places ``start`` to ``stop`` (exclusive)."""
        found, place = [], 0
        for part in self.ranges:
            low, high = max(start, place), min(stop, place + len(part))
            if low < high:
                found.append(slice(part.start + low - place, part.start + high - place))
            place += len(part)
        return found

    def blocks(self, samples: int) -> Iterator[tuple[int, slice]]:
        """Places in the target with the samples that go there, so many at a time."""
        for start in range(0, len(self), samples):
            place = start
            for piece in self.pieces(start, min(start + samples, len(self))):
                yield place, piece
                place += piece.stop - piece.start

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The entries of an array of one row per sample."""
        return np.concatenate([values[part.start : part.stop] for part in self.ranges])


def finite(block: np.ndarray, source: Source, name: str, first: int) -> np.ndarray:
    """The block.

    Errors: `DataError` naming the first sample that is not finite in single precision.
    """
    # Half of the largest number leaves room for rounding; NaN is neither above nor below.
    limit = np.finfo(np.float32).max / 2
    if block.size and not (block.min() > -limit and block.max() < limit):
        bad = np.argwhere(~(np.abs(block) < limit))[0]
        where = f"sample {first + int(bad[0])} of " if block.ndim > source.grid.dimension else ""
        raise DataError(f"{source.place}: {where}'{name}' holds a NaN or infinite value")
    return block


@dataclass(frozen=True)
class Target:
    """Where a set is to be written: a file or directory, with the samples of each split."""

    source: Source
    selections: Mapping[str, Selection]
    path: Path
    advance: Callable[[float], None] = field(default=lambda samples: None)
    block_bytes: int = 1 << 24

    @property
    def samples_at_once(self) -> int:
        """As many as make a block of one field."""
        frames = max(1, len(self.source.times))
        return max(1, self.block_bytes // (4 * self.source.grid.points * frames))

    def ordered(self, *splits: str) -> Target:
        """The same with its splits in another order."""
        return replace(self, selections={split: self.selections[split] for split in splits if split in self.selections})

    def together(self) -> Selection:
        """All samples, split after split."""
        return Selection(tuple(part for selection in self.selections.values() for part in selection.ranges))

    def file_per_split(self) -> list[Target]:
        """A target for each split: ``NAME_train.npz`` and so on, or this one where there is one split."""
        if len(self.selections) == 1:
            return [self]
        return [
            replace(
                self,
                selections={split: chosen},
                path=self.path.with_name(f"{self.path.stem}_{split}{self.path.suffix}"),
            )
            for split, chosen in self.selections.items()
        ]

    def blocks(self, members: Sequence[Channel], *, of: int = 0) -> Iterator[tuple[Channel, int, np.ndarray]]:
        """The values of channels with the rows where they go; what is not finite is refused.

        Progress is counted as if ``of`` channels were to come in all, or just these.

        Errors: `DataError` naming the sample and the field.
        """
        for place, samples in self.together().blocks(self.samples_at_once):
            for channel in members:
                block = channel.read(samples, self.source.grid)
                yield channel, place, finite(block, self.source, channel.name, samples.start)
                self.advance((samples.stop - samples.start) / (of or len(members)))
