"""`compare`: several operators on one dataset within one budget, each training a run of its own that can be resumed.

dataset/            made once, for all
OPERATOR-SEED/      a run: recipe.yaml, checkpoints/, metrics.csv, surrogate/, and score.json when it is finished
comparison.json     everything the report says
report.html
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fieldwright.analysis import ErrorSummary, Timing, field_errors, summarise
from fieldwright.analysis.timing import Contender, measure, timed
from fieldwright.atomic import write_atomically
from fieldwright.datasets import FieldDataset
from fieldwright.errors import DataError, TrainingError
from fieldwright.pipeline.contest import Budget, Entry, entries
from fieldwright.pipeline.directory import RunDirectory, storage_errors
from fieldwright.pipeline.environment import environment
from fieldwright.pipeline.run import do_stage
from fieldwright.pipeline.stages import device_name, plain
from fieldwright.progress import SILENT, Reporter
from fieldwright.recipe import Recipe, load_recipe, recipe_name
from fieldwright.report.comparison import Comparison, Competitor, Trained, comparison_sentence, write_comparison
from fieldwright.settings import first_line
from fieldwright.surrogate import Surrogate

SCORE = "score.json"
TIMED_SAMPLES = 64
"""Test samples on which predictions are timed."""


@dataclass(frozen=True)
class Contest:
    """What is compared: arguments as of `fieldwright.pipeline.contest.entries`, ``budget`` as `Budget.parse` reads."""

    recipe: str
    operators: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    budget: str | None = None
    seeds: int = 3

    def command(self, directory: Path) -> str:
        """The command line that compares the same."""
        words = ["fieldwright", "compare", self.recipe, *self.overrides, "--operators", ",".join(self.operators)]
        words += ["--budget", self.budget] if self.budget else []
        words += [word for change in self.changes for word in ("--set", change)]
        return shlex.join([*words, "--seeds", str(self.seeds), "--out", str(directory)])


def compare(
    contest: Contest, directory: Path | str, *, device: str = "auto", reporter: Reporter = SILENT
) -> Comparison:
    """Train every operator from every seed, measure them on the test split and write the report.

    The same call on the same directory goes on: finished trainings are not made again, an interrupted one goes on from
    its checkpoint. More operators or seeds may be named than before.

    Errors: `RecipeError` before anything is made for an operator that cannot take the problem's grid, and for a
    directory of another recipe; what training raises.
    """
    budget = None if contest.budget is None else Budget.parse(contest.budget)
    every = entries(
        contest.recipe,
        contest.overrides,
        contest.operators,
        changes=contest.changes,
        budget=budget,
        seeds=contest.seeds,
    )
    device = device_name(device)
    shared, recipe = RunDirectory(Path(directory)), load_recipe(contest.recipe, contest.overrides)
    runs = [RunDirectory(shared.path / entry.directory) for entry in every]
    shared.check(recipe)
    for entry, run in zip(every, runs, strict=True):
        run.check(entry.recipe)
    reporter.notice(
        f"{len(contest.operators)} operators of {contest.seeds} seeds on {recipe.problem.kind},"
        f" {budget or 'as the recipe says'} each; results in {shared.path}"
    )
    with shared.locked():
        shared.claim(recipe)
        if not shared.finished("generate"):
            do_stage("generate", recipe, shared, device=device, reporter=reporter)
        for place, (entry, run) in enumerate(zip(every, runs, strict=True), start=1):
            if not (run.path / SCORE).exists():
                reporter.notice(f"{place} of {len(every)}: {entry.operator}, seed {entry.seed}")
                _train(entry, run, shared, device=device, reporter=reporter)
        timings = _timed(every, runs, shared, device, reporter)
        competitors = tuple(_competitor(name, every, runs, timings) for name in contest.operators)
        comparison = _comparison(contest, recipe, shared, every, competitors, budget, device)
        values = json.dumps(plain(comparison), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(shared.path / "comparison.json", values.encode() + b"\n")
        write_comparison(comparison, shared.report)
    return comparison


def comparison_lines(comparison: Comparison) -> list[str]:
    """The verdict and a line for each operator, the best first."""
    width = max(len(one.name) for one in comparison.competitors)
    return [
        comparison_sentence(comparison),
        *(
            f"  {one.name:{width}}  {100 * one.error:7.3f} % (median relative L2), {one.parameters:,} weights,"
            f" {1e3 * one.batched.seconds:.3g} ms a sample"
            for one in comparison.ranking
        ),
    ]


def _train(entry: Entry, run: RunDirectory, shared: RunDirectory, *, device: str, reporter: Reporter) -> None:
    with run.locked():
        run.claim(entry.recipe)
        with storage_errors(run.path):
            if not run.dataset.exists():
                run.dataset.symlink_to(os.path.relpath(shared.dataset, run.path), target_is_directory=True)
        if not run.finished("generate"):
            run.record("generate", shared.stages()["generate"])
        if not run.finished("train"):
            do_stage("train", entry.recipe, run, device=device, reporter=reporter)
        write_atomically(run.path / SCORE, json.dumps(_score(run, device), indent=2, allow_nan=False).encode() + b"\n")


def _score(run: RunDirectory, device: str) -> dict[str, Any]:
    surrogate = Surrogate.load(run.surrogate).to(device)
    inputs, outputs = FieldDataset(run.dataset, "test").arrays()
    fields = surrogate.fields(inputs)
    if not bool(fields.isfinite().all()):
        raise TrainingError(f"{run.path}: the operator predicts NaN or infinity on the test split")
    errors = field_errors(fields, outputs, surrogate.problem.grid)
    return {name: dataclasses.asdict(summarise(getattr(errors, name))) for name in ("l2", "h1")}


def _timed(
    every: Sequence[Entry], runs: Sequence[RunDirectory], shared: RunDirectory, device: str, reporter: Reporter
) -> dict[tuple[str, int | None], Timing]:
    """Seconds per sample of every operator, in batches (None) and one by one, all in turns."""
    inputs = FieldDataset(shared.dataset, "test").arrays()[0][:TIMED_SAMPLES]
    first = {entry.operator: run for entry, run in zip(every, runs, strict=True) if entry.seed == every[0].seed}
    loaded = {name: Surrogate.load(run.surrogate).to(device) for name, run in first.items()}
    keys = [(name, size) for name in loaded for size in (None, 1)]

    def prediction(name: str, size: int | None, samples: int) -> float:
        return timed(lambda: [loaded[name].fields(part).cpu() for part in inputs[:samples].split(size or samples)])

    contenders = [
        Contender(f"{name} {size}", lambda n, name=name, size=size: prediction(name, size, n), size or 16, len(inputs))
        for name, size in keys
    ]
    found = measure(contenders, budget=0.5, reporter=reporter)
    return {(name, size): found[f"{name} {size}"] for name, size in keys}


def _competitor(
    name: str,
    every: Sequence[Entry],
    runs: Sequence[RunDirectory],
    timings: dict[tuple[str, int | None], Timing],
) -> Competitor:
    mine = sorted(
        ((entry, run) for entry, run in zip(every, runs, strict=True) if entry.operator == name),
        key=lambda pair: pair[0].seed,
    )
    return Competitor(
        name=name,
        parameters=mine[0][0].parameters,
        flops=mine[0][0].flops,
        runs=tuple(_trained(entry, run) for entry, run in mine),
        batched=timings[name, None],
        one_by_one=timings[name, 1],
    )


def _trained(entry: Entry, run: RunDirectory) -> Trained:
    facts = run.stages()["train"]
    try:
        score = json.loads((run.path / SCORE).read_text())
        l2, h1 = (ErrorSummary(**score[name]) for name in ("l2", "h1"))
        with run.metrics.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["valid_relative_l2"]]
        curve = tuple((float(row["seconds"]), float(row["valid_relative_l2"])) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run.path}: not the run of a comparison: {first_line(error)}") from error
    return Trained(entry.seed, facts["steps"], facts["seconds"], l2, h1, curve)


def _comparison(
    contest: Contest,
    recipe: Recipe,
    shared: RunDirectory,
    every: Sequence[Entry],
    competitors: tuple[Competitor, ...],
    budget: Budget | None,
    device: str,
) -> Comparison:
    generation = shared.stages()["generate"]
    shape = " × ".join(map(str, recipe.build_problem().grid.shape))
    said = (inspect.getdoc(type(recipe.build_problem())) or recipe.problem.kind).partition("\n")[0]
    recipes = {entry.operator: entry.recipe.to_yaml() for entry in every if entry.seed == every[0].seed}
    return Comparison(
        title=f"{recipe_name(contest.recipe)}: {', '.join(contest.operators)}",
        problem=f"{said} Grid of {shape}, {recipe.data.train} training samples.",
        budget=str(budget) if budget else "as long as the recipe says",
        competitors=competitors,
        command=contest.command(shared.path),
        recipes=recipes,
        dataset={name: generation[name] for name in ("samples", "solver", "solve_seconds", "worst_residual")},
        environment=environment(device),
        threads=torch.get_num_threads(),
        device=torch.device(device).type,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
