"""`merge`: the surrogates of trained runs in one of as many times their width, as a run of its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fieldwright.atomic import write_atomically
from fieldwright.errors import DataError, InputError
from fieldwright.growth.merge import ALIKE, Merged, merge
from fieldwright.operators import OPERATORS, parameter_count
from fieldwright.pipeline.directory import RunDirectory, recipe_difference, storage_errors
from fieldwright.pipeline.run import run
from fieldwright.pipeline.stages import plain
from fieldwright.progress import SILENT, Reporter
from fieldwright.recipe import Recipe, Training, check_recipe
from fieldwright.surrogate import Surrogate
from fieldwright.training import MergeMembers
from fieldwright.training.merged_members import aligned_members
from fieldwright.training.metrics import MetricsTable, columns

RATE = 0.3
"""Learning rate of the fine-tuning as a share of that of the members' last phase: of the tuned ones of the gallery's
page, the grown networks' is so much lower."""


@dataclasses.dataclass(frozen=True)
class RunMerge:
    """What a merge of runs came to.

    ``difference``  largest relative difference, over a few drawn inputs, of the merged surrogate's fields from the mean
                    of its members', before fine-tuning
    ``likeness``    how alike the first two members' weights are, see `fieldwright.growth.merge.Merged`
    """

    directory: Path
    members: tuple[Path, ...]
    parameters: int
    member_parameters: int
    difference: float
    likeness: float
    fine_tuned: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return plain(self)

    @property
    def sentence(self) -> str:
        """What came of it, in a line."""
        tuned = f", fine-tuned for {self.fine_tuned} steps" if self.fine_tuned else ""
        return (
            f"{self.directory}: {len(self.members)} surrogates of {self.member_parameters:,} weights in one of"
            f" {self.parameters:,}, which begins within {self.difference:.1e} of their mean{tuned};"
            f" `fieldwright evaluate {self.directory}` says what it is worth"
        )


def merge_runs(
    members: Sequence[Path | str],
    out: Path | str,
    *,
    fine_tune: int = 0,
    learning_rate: float | None = None,
    templates: int | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> RunMerge:
    """Merge the surrogates of trained runs into a new run directory, which `evaluate`, `predict` and `report` take.

    The new run has the recipe of the first member with a wider operator, and its dataset (hard links where the disk
    knows them). Its surrogate begins as the mean of the members. ``fine_tune`` steps of the first member's last phase
    follow, at ``learning_rate`` or 0.3 of that phase's; ``templates`` of each member make the weights meanwhile. What
    the members' training cost counts as the new run's.

    Errors: `InputError` for less than two members, members of other problems or architecture, the same weights, or
    normalisations that cannot be made the same; `DataError` for a member that is no trained run, or an ``out`` that
    exists; `StorageError` when it cannot be written.
    """
    sources = [RunDirectory(Path(member)) for member in members]
    work = RunDirectory(Path(out))
    if len(sources) < 2:
        raise InputError(f"merge: {len(sources)} runs; two or more are needed")
    if fine_tune < 0:
        raise InputError(f"fine_tune: {fine_tune}; a number of steps is needed, 0 for none")
    if work.path.exists() and any(work.path.iterdir()):
        raise DataError(f"{work.path}: exists; a merge wants a directory of its own")
    recipes = [source.read_recipe() for source in sources]
    for source, recipe in zip(sources, recipes, strict=True):
        if not source.finished("train"):
            raise DataError(f"{source.path}: has not been trained; `fieldwright run` does it")
        _check_same(recipes[0], recipe, sources[0].path, source.path)
    surrogates = [Surrogate.load(source.path) for source in sources]
    merged = merge(aligned_members([source.path for source in sources]))
    if merged.likeness > ALIKE:
        reporter.notice(f"the members' weights correlate by {merged.likeness:.4f}: other seeds would add more")
    begun = dataclasses.replace(surrogates[0], operator=merged.operator)
    recipe = _wider(recipes[0], sources, fine_tune, learning_rate, templates)
    difference = _difference(begun, surrogates)
    _take_over_data(sources[0], work)
    cost = sum(source.stages()["train"]["seconds"] for source in sources)
    if fine_tune:
        run(recipe, work.path, device=device, until="train", reporter=reporter)
        facts = work.stages()["train"]
        work.record("train", {**facts, "fine_tune_seconds": facts["seconds"], "seconds": facts["seconds"] + cost})
    else:
        with work.locked():
            work.claim(recipe)
            write_atomically(work.path / "environment.json", (sources[0].path / "environment.json").read_bytes())
            MetricsTable(work.metrics, columns(())).restart([])
            begun.save(work.surrogate)
            work.record("train", {"steps": 0, "seconds": cost, "seconds_per_step": 0.0, "checkpoint_seconds": 0.0})
    return _summary(work, sources, surrogates[0], merged, difference, fine_tune)


def _summary(
    work: RunDirectory,
    sources: Sequence[RunDirectory],
    first: Surrogate,
    merged: Merged,
    difference: float,
    fine_tune: int,
) -> RunMerge:
    return RunMerge(
        directory=work.path,
        members=tuple(source.path for source in sources),
        parameters=parameter_count(merged.operator),
        member_parameters=parameter_count(first.operator),
        difference=difference,
        likeness=merged.likeness,
        fine_tuned=fine_tune,
    )


def _check_same(first: Recipe, other: Recipe, here: Path, there: Path) -> None:
    for section in ("problem", "operator"):
        held = first.model_copy(update={section: getattr(other, section)})
        difference = recipe_difference(first, held)
        if difference:
            told = "; ".join(difference).replace(", asked ", f" in {here}, ")
            raise InputError(f"merge: {there} has another {section} ({told} in {there}); members agree in both")


def _wider(
    recipe: Recipe,
    sources: Sequence[RunDirectory],
    steps: int,
    learning_rate: float | None,
    templates: int | None,
) -> Recipe:
    """The recipe of the merged run: the wider operator and, where it is fine-tuned, the phase that does it."""
    kind = recipe.operator.kind
    counted = getattr(OPERATORS.get(kind), "channel_settings", ())
    if not counted:
        raise InputError(
            f"merge: operator {kind} does not say which of its settings count channels; write a recipe with the wider"
            " one, and 'prepare: {kind: merge, members: [...]}' in a phase of its training"
        )
    settings = {k: v * len(sources) if k in counted else v for k, v in recipe.operator.settings.items()}
    tree = recipe.model_dump(mode="json")
    tree["operator"] = {"kind": kind, **settings}
    if steps:
        last = recipe.training.to_phases()[-1]
        prepare = MergeMembers(members=tuple(str(s.path.resolve()) for s in sources), templates=templates)
        phase = last.model_dump(mode="json") | {
            "name": "merged",
            "steps": steps,
            "learning_rate": learning_rate or RATE * last.learning_rate,
            "schedule": "cosine",
            "prepare": prepare.model_dump(mode="json"),
            **dict.fromkeys(("epochs", "flops", "seconds", "pretrained")),
        }
        tree["training"] = Training(steps=steps, augment=recipe.training.augment, phases=[phase]).model_dump(
            mode="json"
        )
    return check_recipe(tree)


def _take_over_data(source: RunDirectory, work: RunDirectory) -> None:
    if not source.finished("generate"):
        raise DataError(f"{source.path}: its dataset is gone; the merged run needs it for training and evaluation")
    with storage_errors(work.path):
        work.path.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source.dataset, work.dataset, copy_function=_link)
    work.record("generate", source.stages()["generate"])


def _link(source: str, target: str) -> None:
    # Shards are written once and never changed, so two runs can hold the same file.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _difference(merged: Surrogate, members: Sequence[Surrogate]) -> float:
    inputs = members[0].problem.sample(range(4), 0)
    mean = torch.stack([member.fields(inputs).double() for member in members]).mean(0)
    off = (merged.fields(inputs).double() - mean).flatten(1).norm(dim=1) / mean.flatten(1).norm(dim=1)
    return float(off.max())
