"""`run`: the stages of a recipe in order, each done once."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwright.analysis import Evaluation
from fieldwright.atomic import write_atomically
from fieldwright.errors import RecipeError
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.pipeline.environment import environment
from fieldwright.pipeline.facts import generation_seconds, run_facts
from fieldwright.pipeline.stages import device_name, evaluate_stage, generate_stage, plain, plan, train_stage
from fieldwright.progress import SILENT, Reporter
from fieldwright.recipe import Recipe
from fieldwright.report import write_report

STAGES = ("generate", "train", "evaluate", "report")
"""The stages in order; each name is a key of ``run.json``."""


@dataclass(frozen=True)
class RunSummary:
    """A run as far as it has come: the facts of its finished stages, and its evaluation when there is one."""

    directory: Path
    stages: dict[str, dict[str, Any]]
    evaluation: Evaluation | None = None

    @property
    def preparation_seconds(self) -> float:
        """What the surrogate cost: generating the data and training."""
        return generation_seconds(self.stages["generate"]) + self.stages["train"]["seconds"]


def run(
    recipe: Recipe, directory: Path | str, *, device: str = "auto", until: str = "report", reporter: Reporter = SILENT
) -> RunSummary | None:
    """Do what is left to do of a recipe in ``directory``, up to and with the stage ``until``.

    Under torchrun every process trains and the first does everything else; the others return None.
    Errors: `RecipeError` for another recipe's directory or one in use, and what the stages raise.
    """
    if until not in STAGES:
        raise RecipeError(f"stage '{until}'; allowed are {', '.join(STAGES)}")
    work = RunDirectory(Path(directory))
    if int(os.environ.get("RANK", "0")) > 0:
        _join_training(recipe, work, device=device, until=until)
        return None
    device = device_name(device)
    work.check(recipe)
    reporter.notice(plan(recipe, work.path))
    with work.locked():
        work.claim(recipe)
        wanted = STAGES[: STAGES.index(until) + 1]
        missing = [stage for stage in wanted if not work.finished(stage)]
        if len(missing) < len(wanted):
            reporter.notice(f"done before: {', '.join(stage for stage in wanted if stage not in missing)}")
        if missing:
            facts = environment(device)
            write_atomically(work.path / "environment.json", json.dumps(facts, indent=2).encode() + b"\n")
        for stage in missing:
            do_stage(stage, recipe, work, device=device, reporter=reporter)
        return summarise_run(work)


def summarise_run(work: RunDirectory) -> RunSummary:
    """What a run directory holds.

    Errors: `DataError` when a file of it is damaged.
    """
    stages = work.stages()
    evaluation = Evaluation.load(work.path) if "evaluate" in stages else None
    return RunSummary(work.path, stages, evaluation)


def _join_training(recipe: Recipe, work: RunDirectory, *, device: str, until: str) -> None:
    # The other processes wait for the dataset by looking at the record, not at a barrier: generating may take hours
    # and barriers time out. If the first process fails, torchrun ends these.
    while "generate" not in work.stages():
        time.sleep(0.2)
    if until != "generate" and not work.finished("train"):
        train_stage(recipe, work, device=device, reporter=SILENT)


def do_stage(stage: str, recipe: Recipe, work: RunDirectory, *, device: str, reporter: Reporter) -> None:
    """Do one stage and record its facts."""
    if stage == "generate":
        facts = plain(generate_stage(recipe, work.dataset, reporter=reporter))
    elif stage == "train":
        surrogate, summary = train_stage(recipe, work, device=device, reporter=reporter)
        surrogate.save(work.surrogate)
        facts = plain(summary.to_dict())
    elif stage == "evaluate":
        facts = {"seconds": evaluate_stage(recipe, work, device=device, reporter=reporter).seconds}
    else:
        evaluation = Evaluation.load(work.path)
        write_report(evaluation, run_facts(recipe, work), work.report)
        facts = {"report": work.report.name}
    work.record(stage, facts)
