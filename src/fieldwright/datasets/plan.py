"""What a dataset is to hold: settled before the first sample is drawn, kept beside the data as ``dataset.json``.

Every shard's content follows from the plan and the shard's place in it, and from nothing else. So a generation can stop
anywhere and go on later, and the bits are those of one that never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fieldwright.atomic import write_atomically
from fieldwright.errors import DataError

PLAN_FILE = "dataset.json"
CONVERTED = "converted:"
"""How the kind of a plan begins whose samples were not generated but come from files of another format."""
FORMAT = 2
READABLE = (1, FORMAT)
"""Formats of plans that are understood; a dataset of format 1 can be read, and not be added to."""

SPLIT_SAMPLES = 1_000_000_000
SPLIT_ORIGINS: dict[str, int] = {"train": 0, "valid": SPLIT_SAMPLES, "test": 2 * SPLIT_SAMPLES}
"""The problem's sample index at which each split begins: far apart, so that no two splits share a draw."""

_SETTLED = ("method", "chunk_samples", "scales")


@dataclass(frozen=True)
class Shard:
    """Samples ``start`` to ``stop`` (exclusive) of a split; ``file`` and ``record`` are paths below the dataset."""

    split: str
    start: int
    stop: int
    file: Path

    @property
    def record(self) -> Path:
        """Where the shard's checksum and timings lie."""
        return self.file.with_suffix(".json")

    @property
    def indices(self) -> range:
        """The problem's sample indices."""
        origin = SPLIT_ORIGINS[self.split]
        return range(origin + self.start, origin + self.stop)

    def __str__(self) -> str:
        return f"{self.file} ({self.split} samples {self.start} to {self.stop - 1})"


@dataclass(frozen=True)
class Plan:
    """The settings of a generation.

    ``solver`` is what was asked for, ``method`` the method that every shard is solved with: it is settled once, because
    two methods that meet the same tolerance differ in their last bits. So is ``chunk_samples``, how many samples are
    drawn and solved together: the last bits of a batched solver may depend on who shares the batch. ``scales`` are the
    units of storage per field.
    """

    kind: str
    settings: dict[str, Any]
    seed: int
    counts: dict[str, int]
    shard_samples: int
    solver: str
    rtol: float
    device: str = "cpu"
    method: str = ""
    chunk_samples: int = 0
    scales: dict[str, float] | None = None
    format: int = FORMAT

    @property
    def name(self) -> str:
        """A word for file names and The Well's ``dataset_name``."""
        return self.kind.rpartition(":")[2].lower()

    def shards(self) -> list[Shard]:
        """All shards, split after split."""
        found = []
        for split, count in self.counts.items():
            for number, start in enumerate(range(0, count, self.shard_samples)):
                file = Path("data") / split / f"{self.name}_{number:05d}.hdf5"
                found.append(Shard(split, start, min(start + self.shard_samples, count), file))
        return found

    def check_same(self, other: Plan, root: Path) -> None:
        """Errors: `DataError` naming the first setting in which ``other`` (on disk at ``root``) differs."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        for name in [*mine, *(theirs.keys() - mine.keys())]:
            if name.partition(".")[0] in _SETTLED:
                continue
            if mine.get(name) != theirs.get(name):
                raise DataError(
                    f"{root}: holds a dataset with {name} = {theirs.get(name)!r}, not {mine.get(name)!r};"
                    " choose another directory, or delete that one"
                )

    def write(self, root: Path) -> None:
        """Write the plan into a dataset's directory, whole or not at all."""
        write_atomically(root / PLAN_FILE, json.dumps(asdict(self), indent=2).encode() + b"\n")


def read_plan(root: Path) -> Plan | None:
    """The plan of a dataset of ours; None where there is none.

    Errors: `DataError` for a file that is no plan.
    """
    path = root / PLAN_FILE
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text())
        if facts.get("format") not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise DataError(f"{path}: has format {facts.get('format')!r}; this version reads {known}")
        return Plan(**facts)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is damaged ({error})") from error


@dataclass(frozen=True)
class Record:
    """What is known of a finished shard: its checksum and size, which samples failed and how the solver fared.

    ``failed`` are indices within the split. ``samples`` may be 0: then every sample failed and there is no file.
    ``worst_residual`` is the largest true relative residual of the float64 solutions, before rounding to float32.
    ``solve_seconds`` and ``draw_seconds`` are those of all threads over their number. ``moments`` are the shard's part
    of the dataset's statistics: `fieldwright.datasets.statistics.ShardMoments`, as plain values.
    """

    samples: int
    sha256: str
    bytes: int
    failed: list[int]
    worst_residual: float
    solve_seconds: float
    draw_seconds: float = 0.0
    moments: dict[str, Any] | None = None

    def write(self, path: Path, *, writer: str = "") -> None:
        """Write the record beside its shard, whole or not at all; ``writer`` as in `write_atomically`."""
        write_atomically(path, json.dumps(asdict(self), indent=2).encode() + b"\n", writer=writer)


def read_record(path: Path) -> Record | None:
    """A shard's record; None where there is none.

    Errors: `DataError` for a file that is no record.
    """
    if not path.is_file():
        return None
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error})") from error


def finished(root: Path, shard: Shard) -> Record | None:
    """The shard's record when it is whole on disk; None when it has still to be made."""
    record = read_record(root / shard.record)
    if record is None or record.samples == 0:
        return record
    file = root / shard.file
    return record if file.is_file() and file.stat().st_size == record.bytes else None


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
