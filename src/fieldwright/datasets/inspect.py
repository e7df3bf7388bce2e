"""What a dataset holds, and whether it still holds what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.datasets.layout import FieldLayout, Layout, survey
from fieldwright.datasets.plan import CONVERTED, Plan, finished, read_plan, read_record
from fieldwright.datasets.read import verify_file
from fieldwright.datasets.statistics import Moments, blocks
from fieldwright.errors import DataError
from fieldwright.progress import SILENT, Reporter


@dataclass(frozen=True)
class SplitFacts:
    """Stored samples, shards and bytes of a split; ``verified`` counts the shards whose checksum holds."""

    samples: int
    shards: int
    bytes: int
    verified: int


@dataclass(frozen=True)
class FieldFacts:
    """A field over all sound shards, in its physical unit."""

    name: str
    role: str
    unit: str
    mean: float
    std: float
    least: float
    largest: float


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found. ``troubles`` are sentences, none for a dataset that is whole and unchanged."""

    path: Path
    name: str
    shape: tuple[int, ...]
    fields: list[FieldFacts]
    splits: dict[str, SplitFacts]
    plan: Plan | None
    worst_residual: float | None
    failed: dict[str, list[int]]
    troubles: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.troubles

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path), "shape": list(self.shape), "sound": self.sound}

    def lines(self) -> list[str]:
        """The same for people."""
        size = " x ".join(map(str, self.shape)) or "unknown size"
        text = [f"{self.path}: {self.name or 'no readable shard'}, {size}"]
        if self.plan is not None:
            p = self.plan
            settings = ", ".join(f"{name}={value}" for name, value in p.settings.items())
            if p.kind.startswith(CONVERTED):
                text.append(f"  {CONVERTED} {settings}")
            else:
                text.append(f"  problem {p.kind}: {settings}")
                worst = "" if self.worst_residual is None else f", worst residual {self.worst_residual:.1e}"
                text.append(f"  seed {p.seed}, solver {p.method}, rtol {p.rtol:g}{worst}")
        for split, facts in self.splits.items():
            checked = f"{facts.verified} of {facts.shards} checksums hold"
            text.append(f"  {split}: {facts.samples} samples in {facts.shards} shards, {_size(facts.bytes)}, {checked}")
        for split, indices in self.failed.items():
            text.append(f"  {split}: {len(indices)} samples did not converge and are not stored: {indices}")
        for f in self.fields:
            unit = "" if f.unit == "1" else f" {f.unit}"
            spread = f"mean {f.mean:.4g}, std {f.std:.4g}, from {f.least:.4g} to {f.largest:.4g}"
            text.append(f"  {f.role} {f.name}: {spread}{unit}")
        return text + [f"  TROUBLE: {trouble}" for trouble in self.troubles]


def inspect(path: str | Path, *, reporter: Reporter = SILENT) -> Inspection:
    """Look at a dataset's directory, or at a run's directory that holds one: contents, statistics, every checksum.

    Damage is collected in ``troubles`` rather than raised, so that one look tells all.

    Errors: `DataError` when there is no dataset at ``path``.
    """
    root = dataset_directory(Path(path))
    plan = read_plan(root)
    troubles: list[str] = []
    if plan is not None:
        shards = plan.shards()
        missing = [str(s.file) for s in shards if finished(root, s) is None and not (root / s.file).is_file()]
        if missing:
            troubles.append(f"{root}: {len(missing)} of {len(shards)} shards are missing, first {missing[0]}")
    splits, layouts, records = {}, [], []
    for directory in sorted(p for p in (root / "data").iterdir() if p.is_dir()):
        files = sorted(p for p in directory.iterdir() if p.suffix in (".hdf5", ".h5"))
        unchanged, verified = [], 0
        with reporter.stage(f"check {directory.name}", total=len(files), unit="shards") as stage:
            for file in files:
                try:
                    verified += verify_file(file)
                    unchanged.append(file)
                except DataError as error:
                    troubles.append(str(error))
                stage.advance()
        surveyed = survey(unchanged)
        sound = [found for found in surveyed if isinstance(found, Layout)]
        troubles += [str(found) for found in surveyed if isinstance(found, DataError)]
        layouts += sound
        samples = sum(layout.samples for layout in sound)
        splits[directory.name] = SplitFacts(samples, len(files), sum(f.stat().st_size for f in files), verified)
        records += [(directory.name, read_record(p)) for p in sorted(directory.glob("*.json"))]
    known = [(split, record) for split, record in records if record is not None]
    failed = {split: sorted(i for s, record in known if s == split for i in record.failed) for split in splits}
    return Inspection(
        path=root,
        name=layouts[0].name if layouts else "",
        shape=layouts[0].grid.shape if layouts else (),
        fields=[_facts(layouts, name) for name in (f.name for f in layouts[0].fields)] if layouts else [],
        splits=splits,
        plan=plan,
        worst_residual=max((record.worst_residual for _, record in known), default=None),
        failed={split: indices for split, indices in failed.items() if indices},
        troubles=troubles,
    )


def dataset_directory(path: Path) -> Path:
    """``path`` itself, or the ``dataset`` in a run's directory.

    Errors: `DataError` when neither holds ``data/``.
    """
    for root in (path, path / "dataset"):
        if (root / "data").is_dir():
            return root
    raise DataError(f"{path}: {'holds no dataset (no data directory)' if path.exists() else 'is not there'}")


def _facts(layouts: list[Layout], name: str) -> FieldFacts:
    moments, least, largest = Moments(), np.inf, -np.inf
    for layout in layouts:
        for entry in layout.fields:
            if entry.name == name:
                for block in _physical(layout, entry):
                    moments.merge(block.reshape(-1, 1))
                    least, largest = min(least, float(block.min())), max(largest, float(block.max()))
    entry = next(f for f in layouts[0].fields if f.name == name)
    role = "field" if not layouts[0].steady else "output" if entry.time_varying else "input"
    return FieldFacts(name, role, entry.unit, float(moments.mean[0]), float(moments.std[0]), least, largest)


def _physical(layout: Layout, entry: FieldLayout) -> Iterator[np.ndarray]:
    """The field in its unit; of a steady problem the solution alone, not the guess stored before it."""
    last_only = layout.steady and entry.time_varying and entry.sample_varying
    for block in blocks(layout, entry):
        yield entry.scale * (block[:, -1] if last_only else block)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
