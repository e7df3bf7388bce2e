"""What the report says about a run beside its evaluation, gathered from the run's directory."""

from __future__ import annotations

import csv
import inspect
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fieldwright.datasets.plan import finished, read_plan
from fieldwright.errors import DataError
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.recipe import Recipe
from fieldwright.report.facts import RunFacts
from fieldwright.settings import first_line
from fieldwright.surrogate import Surrogate
from fieldwright.training.noise_scale import BatchAdvice, NoiseScale, NoiseScaleMeter


def run_facts(recipe: Recipe, work: RunDirectory) -> RunFacts:
    """The facts of an evaluated run.

    Errors: `DataError` when a file of the run is missing or damaged.
    """
    stages = work.stages()
    surrogate = Surrogate.load(work.surrogate)
    generation = stages["generate"]
    return RunFacts(
        title=work.path.resolve().name,
        problem=(inspect.getdoc(type(surrogate.problem)) or recipe.problem.kind).partition("\n")[0],
        operator=recipe.operator.kind,
        parameters=sum(p.numel() for p in surrogate.operator.parameters()),
        solver=generation["solver"],
        seed=recipe.seed,
        command=shlex.join(["fieldwright", "run", str(work.recipe_file), "--out", str(work.path)]),
        recipe=recipe.to_yaml(),
        stage_seconds={"generate": generation_seconds(generation), "train": stages["train"]["seconds"]},
        metrics=learning_curve(work.metrics),
        dataset={name: generation[name] for name in ("samples", "failed", "shards", "solve_seconds", "worst_residual")},
        checksums=checksums(work.dataset),
        batches=batch_advice(work.metrics, {phase.name: phase.batch_size for phase in recipe.training.to_phases()}),
        environment=_environment(work.path / "environment.json"),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def generation_seconds(generation: dict[str, Any]) -> float:
    """What the data cost. A generation that was interrupted knows the solver's seconds of all its parts, but its own
    of the last part only.
    """
    return max(generation["seconds"], generation["solve_seconds"])


def learning_curve(file: Path) -> list[dict[str, float | None]]:
    """Rows of ``metrics.csv`` as numbers; None where nothing was measured.

    Errors: `DataError` when it cannot be read.
    """
    names = {"step": "step", "loss": "train_loss", "valid_relative_l2": "valid_l2"}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            table = csv.DictReader(lines)
            if not set(names) <= set(table.fieldnames or ()):
                raise ValueError(f"no columns {', '.join(names)}")
            rows = list(table)
        # Runs of before have no operations, and few log a constraint.
        further = {name: name for name in ("flops", "constraint_excess") if name in (table.fieldnames or ())}
        order = {phase: float(number) for number, phase in enumerate(dict.fromkeys(row.get("phase") for row in rows))}
        return [
            {
                **{ours: float(row[theirs]) if row[theirs] else None for theirs, ours in (names | further).items()},
                "phase": order[row.get("phase")],
            }
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not the learning curve of a run: {first_line(error)}") from error


def batch_advice(file: Path, batch_sizes: Mapping[str, int]) -> BatchAdvice | None:
    """What other batch sizes would do, by the last noise scale in ``metrics.csv``; None where none was measured.

    ``batch_sizes`` are those of the phases by name.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    measured = [row for row in rows if row.get("noise_scale")]
    if not measured:
        return None
    last = measured[-1]
    value, low, high = (float(last[name]) for name in NoiseScaleMeter.columns)
    earlier = [float(row["seconds"]) for row in rows[: rows.index(last)] if row["phase"] != last["phase"]]
    return BatchAdvice(
        batch_sizes[last["phase"]],
        NoiseScale(value, 1.0, low, high, len(measured)),
        int(last["phase_step"]),
        float(last["seconds"]) - max(earlier, default=0.0),
    )


def checksums(dataset: Path) -> dict[str, str]:
    """SHA-256 of every shard, by its path below the dataset."""
    plan = read_plan(dataset)
    found = {} if plan is None else {str(shard.file): finished(dataset, shard) for shard in plan.shards()}
    return {name: record.sha256 for name, record in found.items() if record is not None and record.sha256}


def _environment(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {first_line(error)}") from error
