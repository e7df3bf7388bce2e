"""Write a source as a dataset of ours: shard by shard, each whole or absent, to be gone on with after any end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldwright.atomic import PARTIAL
from fieldwright.datasets.formats.export import Selection, finite
from fieldwright.datasets.formats.source import SPLITS, Source, Variable
from fieldwright.datasets.locking import alone
from fieldwright.datasets.plan import CONVERTED, Plan, Record, Shard, finished, read_plan
from fieldwright.datasets.read import verify_file
from fieldwright.datasets.statistics import (
    STATISTICS_FILE,
    content_moments,
    merged_table,
    recorded_moments,
    write_table,
)
from fieldwright.datasets.store import ShardContent, StoredField, StoredScalar, storage_unit, write_shard
from fieldwright.errors import DataError, InputError
from fieldwright.progress import Reporter, Stage


def write_native(
    source: Source,
    selections: Mapping[str, Selection],
    root: Path,
    *,
    settings: Mapping[str, Any],
    shard_samples: int,
    reporter: Reporter,
) -> int:
    """The selected samples of each split as shards of ``shard_samples``; returns the number of shards.

    Shards that are there, of the same ``settings`` and with the checksum of their record, are kept.

    Errors: `DataError` when the directory holds another dataset or a value is not finite, `StorageError` when it cannot
    be written, `InputError` for a split that is none of train, valid and test.
    """
    for split in selections:
        if split not in SPLITS:
            raise InputError(f"convert: split '{split}'; a dataset has {', '.join(SPLITS)}")
    wanted = Plan(
        kind=CONVERTED + re.sub(r"[^\w.-]+", "_", source.name),
        settings=dict(settings),
        seed=0,
        counts={split: len(selections[split]) for split in SPLITS if len(selections.get(split, Selection(())))},
        shard_samples=shard_samples,
        solver="",
        rtol=0.0,
    )
    with alone(root):
        for left in [*root.glob(f"*{PARTIAL}"), *root.glob(f"data/*/*{PARTIAL}")]:
            left.unlink(missing_ok=True)
        plan = _settled(source, selections, wanted, root)
        shards = plan.shards()
        with reporter.stage(f"convert {source.name}", total=sum(plan.counts.values()), unit="samples") as stage:
            made = [_finish(source, selections[shard.split], plan, root, shard, reporter, stage) for shard in shards]
        if any(made) or not (root / STATISTICS_FILE).is_file():
            _write_statistics(source, root, shards)
    return len(shards)


def sample_bytes(source: Source) -> int:
    """Bytes that one sample takes in a shard."""
    total = 0
    for variable in source.variables:
        frames = len(source.times) if variable.time_varying else 1
        # A steady solution is stored with a guess.
        frames += source.steady and variable.role == "output"
        total += 4 * source.grid.points * source.grid.dimension**variable.order * frames
    return total


def _settled(source: Source, selections: Mapping[str, Selection], wanted: Plan, root: Path) -> Plan:
    existing = read_plan(root)
    if existing is not None:
        wanted.check_same(existing, root)
        return existing
    if (root / "data").is_dir() and any((root / "data").rglob("*.hdf5")):
        raise DataError(f"{root}: holds a dataset that was not converted; choose another directory, or delete that one")
    pilot = selections[next(iter(wanted.counts))].pieces(0, 1)[0]
    plan = replace(wanted, scales={v.name: _piloted_unit(source, v, pilot) for v in source.variables})
    plan.write(root)
    return plan


def _piloted_unit(source: Source, variable: Variable, pilot: slice) -> float:
    values = variable.read(pilot, source.grid)
    return storage_unit(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))))


def _finish(
    source: Source, selection: Selection, plan: Plan, root: Path, shard: Shard, reporter: Reporter, stage: Stage
) -> bool:
    """Make a shard unless it is there and sound; says whether it had to be made."""
    count = shard.stop - shard.start
    if finished(root, shard) is not None:
        try:
            verify_file(root / shard.file)
            stage.advance(count)
            return False
        except DataError:
            reporter.notice(f"convert: {shard.file} has changed since it was written, and is made again")
    content = _content(source, selection.pieces(shard.start, shard.stop), plan, count)
    digest = write_shard(root / shard.file, content)
    size = (root / shard.file).stat().st_size
    record = Record(
        samples=count,
        sha256=digest,
        bytes=size,
        failed=[],
        worst_residual=0.0,
        solve_seconds=0.0,
        moments={name: found.to_dict() for name, found in content_moments(content).items()},
    )
    record.write(root / shard.record)
    stage.advance(count)
    return True


def _write_statistics(source: Source, root: Path, shards: list[Shard]) -> None:
    """From the moments in the records of the train split, which takes no look at the data."""
    records = ((shard, finished(root, shard)) for shard in shards if shard.split == "train")
    train = [(shard, record) for shard, record in records if record is not None]
    if not train:
        return
    orders = {variable.name: variable.order for variable in source.variables}
    moments = (recorded_moments(root, shard, record, orders) for shard, record in train)
    write_table(root, merged_table(moments, orders, source.grid.dimension))


def _content(source: Source, pieces: list[slice], plan: Plan, count: int) -> ShardContent:
    indices = np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])
    return ShardContent(
        dataset_name=source.name,
        grid=source.grid,
        boundary=source.sides,
        samples=count,
        times=np.array([0.0, 1.0]) if source.steady else source.times,
        fields=tuple(
            _field(source, variable, pieces, (plan.scales or {})[variable.name]) for variable in source.variables
        ),
        scalars=tuple(_scalar(scalar, indices) for scalar in source.scalars),
        steady=source.steady,
        provenance={
            **source.provenance,
            "converted_from": source.format,
            "source_files": ", ".join(_name(file) for file in source.files[:20]),
            "notes": "; ".join(source.notes),
        },
        per_sample={"source_index": indices},
    )


def _field(source: Source, variable: Variable, pieces: list[slice], scale: float) -> StoredField:
    if variable.sample_varying:
        blocks = []
        for piece in pieces:
            blocks.append(finite(variable.read(piece, source.grid), source, variable.name, piece.start))
        values = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    else:
        values = finite(variable.read(pieces[0], source.grid), source, variable.name, 0)
    solution = source.steady and variable.role == "output"
    if solution:
        axis = int(variable.sample_varying)
        values = np.stack([np.zeros_like(values), values], axis)
    return StoredField(
        name=variable.name,
        values=values if scale == 1 else values / np.float32(scale),
        in_storage_unit=True,
        order=variable.order,
        sample_varying=variable.sample_varying,
        time_varying=variable.time_varying or solution,
        unit=variable.unit,
        scale=scale,
        description=variable.description,
    )


def _scalar(scalar: StoredScalar, indices: np.ndarray) -> StoredScalar:
    values = np.asarray(scalar.values, np.float64)
    return replace(scalar, values=values[indices]) if scalar.sample_varying else scalar


def _name(file: Any) -> str:
    return str(getattr(file, "name", file))
