"""The stages of a run, each a function from what the directory holds to facts for ``run.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fieldwright.analysis import Evaluation, evaluate
from fieldwright.datasets import Cluster, FieldDataset, GenerationSummary, Normalizer, generate
from fieldwright.datasets.cost import CostModel, estimate_cost
from fieldwright.datasets.generate import check_room
from fieldwright.datasets.settle import sample_bytes
from fieldwright.errors import FieldwrightError, InputError, RecipeError
from fieldwright.growth import materialise
from fieldwright.operators import ForeignOperator, build_operator, load_pretrained
from fieldwright.operators.foreign import grid_taken_instead
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.problems import Problem
from fieldwright.progress import Reporter
from fieldwright.recipe import Recipe
from fieldwright.settings import first_line
from fieldwright.surrogate import Surrogate
from fieldwright.training import (
    ChannelLayout,
    ContinualOperator,
    Phase,
    TensorSamples,
    TrainingData,
    TrainingSummary,
    export_task,
    lead_times,
    save_tasks,
    train,
)
from fieldwright.training.batches import Samples
from fieldwright.training.parameter_groups import optimizer_groups
from fieldwright.training.trajectories import TensorTrajectories

FITTED_SAMPLES = 4096
"""Normalisation is fitted to the first so many training samples: more would not change it noticeably."""


def plan(recipe: Recipe, directory: Path) -> str:
    """One sentence that says what the run will do, after checking that it can: the operator fits, the disk has room.

    Errors: `RecipeError` when the operator refuses its settings or the problem's fields; `StorageError` when the disk
    cannot hold the dataset.
    """
    problem, operator = recipe.build_problem(), seeded_operator(recipe)
    timed = any(phase.pairs is not None for phase in recipe.training.to_phases())
    check_operator(operator, problem, recipe.operator.kind, timed=timed)
    for phase in recipe.training.to_phases():
        if phase.groups:
            optimizer_groups(operator, phase.groups, phase.weight_decay)
        if phase.pretrained is not None and not (directory / "checkpoints").exists():
            load_pretrained(operator, Path(phase.pretrained))
    counts = recipe.data.counts
    if not (directory / "dataset").exists():  # what is missing of one that is begun, `generate` knows
        check_room(directory, sample_bytes(problem) * sum(counts.values()))
    size = " x ".join(map(str, problem.grid.shape))
    weights = sum(p.numel() for p in operator.parameters())
    return (
        f"{recipe.problem.kind} at {size}: {counts['train']} training, {counts['valid']} validation and"
        f" {counts['test']} test samples by solver '{recipe.data.solver}', a {recipe.operator.kind} operator of"
        f" {weights:,} weights, {budget(recipe)}, seed {recipe.seed}; results in {directory}"
    )


def budget(recipe: Recipe) -> str:
    """What training may use, in words: "4000 steps of training in batches of 8"."""
    parts = []
    for phase in recipe.training.to_phases():
        limits = {"steps": phase.steps, "epochs": phase.epochs, "seconds": phase.seconds}
        given = " or ".join(f"{value:g} {unit}" for unit, value in limits.items() if value is not None)
        parts.append(
            f"{given} of {phase.batch_size} samples" if phase.steps else f"{given}, {phase.batch_size} samples a step"
        )
    return ", then ".join(parts)


def generate_stage(
    recipe: Recipe,
    path: Path,
    *,
    counts: dict[str, int] | None = None,
    device: str = "cpu",
    cluster: Cluster | None = None,
    reporter: Reporter,
) -> GenerationSummary:
    """Draw, solve and store what is missing of the dataset."""
    return generate(
        recipe.build_problem(),
        path,
        counts=counts or recipe.data.counts,
        seed=recipe.data_seed,
        solver=recipe.data.solver,
        rtol=recipe.data.rtol,
        shard_samples=recipe.data.shard_samples,
        device=device,
        cluster=cluster,
        reporter=reporter,
    )


def estimate_stage(
    recipe: Recipe, path: Path, *, counts: dict[str, int] | None = None, device: str = "cpu", reporter: Reporter
) -> CostModel:
    """Measure what generating the dataset would cost, without making it."""
    return estimate_cost(
        recipe.build_problem(),
        path,
        counts=counts or recipe.data.counts,
        seed=recipe.data_seed,
        solver=recipe.data.solver,
        rtol=recipe.data.rtol,
        shard_samples=recipe.data.shard_samples,
        device=device,
        reporter=reporter,
    )


def train_stage(
    recipe: Recipe, work: RunDirectory, *, device: str, reporter: Reporter, trajectories: int | None = None
) -> tuple[Surrogate, TrainingSummary]:
    """Train the operator on the stored samples, from the last checkpoint if there is one.

    ``trajectories`` is the number of samples, of a problem in time of trajectories, that are trained on: the first so
    many. None: all.
    """
    problem = recipe.build_problem()
    train_split, valid_split = (FieldDataset(work.dataset, split) for split in ("train", "valid"))
    phases = recipe.training.to_phases()
    samples = train_split if trajectories is None else _first(train_split, trajectories, phases)
    fitted = samples.batch(range(min(len(samples), FITTED_SAMPLES)))
    inputs, outputs = (
        Normalizer.fit(fields, names=names)
        for fields, names in zip(fitted, (train_split.input_names, train_split.output_names), strict=True)
    )
    timed = lead_times(phases, samples)
    if timed is not None:
        # A state is the same field before and after any lead time, and at no lead time the very same numbers.
        outputs = inputs.first(len(problem.outputs))
    operator = seeded_operator(recipe)
    summary = train(
        operator,
        phases,
        TrainingData(samples, valid_split, inputs, outputs, problem.grid, ChannelLayout.of(problem)),
        directory=work.path,
        seed=recipe.seed,
        device=device,
        symmetries=problem.symmetries() if recipe.training.augment else (),
        reporter=reporter,
    )
    operator = summary.operator
    if isinstance(operator, ContinualOperator):
        # The surrogate is the task learned last, alone; runs of other problems go on from the network of all tasks.
        operator.finish()
        save_tasks(operator, work.path / "tasks.safetensors")
        operator = export_task(operator, operator.names[-1])
    return Surrogate(materialise(operator), inputs, outputs, problem, timed), summary


def _first(split: FieldDataset, trajectories: int, phases: Sequence[Phase]) -> Samples:
    """The first trajectories of a split, held in memory."""
    if any(phase.pairs or phase.roll_out for phase in phases):
        whole = TensorTrajectories.of(split, torch.device("cpu"))  # type: ignore
        return TensorTrajectories(whole.inputs[:trajectories], whole.outputs[:trajectories], whole.times)
    windows = len(split) // split.trajectories
    return TensorSamples(*split.batch(range(trajectories * windows)))


def evaluate_stage(recipe: Recipe, work: RunDirectory, *, device: str, reporter: Reporter) -> Evaluation:
    """Read the test split, once, compare the surrogate with it and with the solvers, and keep what was found."""
    surrogate = Surrogate.load(work.surrogate).to(device_name(device))
    inputs, outputs = FieldDataset(work.dataset, "test").arrays()
    evaluation = evaluate(
        surrogate,
        surrogate.problem,
        inputs,
        outputs,
        settings=recipe.evaluation,
        seed=recipe.data_seed,
        baseline_seconds=recipe.baseline.seconds,
        reporter=reporter,
    )
    evaluation.save(work.path)
    return evaluation


def device_name(device: str) -> str:
    """The device's name, with "auto" as what training chooses for it.

    Errors: `InputError` for a device that is unknown or not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: '{device}'; {first_line(error)}") from error
    return device


def seeded_operator(recipe: Recipe) -> nn.Module:
    """The untrained operator; its first weights follow from the recipe's seed.

    Errors: `RecipeError` for a setting that the constructor refuses.
    """
    problem = recipe.build_problem()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return build_operator(
                recipe.operator.kind,
                recipe.operator.settings,
                len(problem.inputs),
                len(problem.outputs),
                problem.grid.dimension,
                problem.boundary,
                centring=problem.grid.centring,
                shape=problem.grid.shape,
            )
        except RecipeError:
            raise
        except (FieldwrightError, TypeError, ValueError, RuntimeError) as error:
            raise RecipeError(f"operator: {first_line(error)}") from error


def check_operator(operator: nn.Module, problem: Problem, name: str, *, timed: bool = False) -> None:
    """Send one sample of zeros through the operator, with a lead time where it is to be ``timed``.

    Errors: `RecipeError` when it fails or returns fields of another shape.
    """
    shape = problem.grid.shape
    try:
        with torch.no_grad():
            fields = operator(
                torch.zeros(1, len(problem.inputs), *shape), **({"lead_time": torch.ones(1)} if timed else {})
            )
    except Exception as error:  # a foreign module may refuse a grid in any way
        raise RecipeError(
            f"operator: {name} cannot take fields of shape {shape}: {first_line(error)}{_instead(operator, problem)}"
        ) from error
    expected = (1, len(problem.outputs), *shape)
    found = tuple(getattr(fields, "shape", ()))
    if found != expected:
        raise RecipeError(
            f"operator: {name} returned fields of shape {found}; {expected} is needed{_instead(operator, problem)}"
        )


def _instead(operator: nn.Module, problem: Problem) -> str:
    if not isinstance(operator, ForeignOperator):
        return ""
    larger = grid_taken_instead(operator, len(problem.inputs), problem.grid.shape)
    return "" if larger is None else f"; it takes a grid of {' x '.join(map(str, larger))} points"


def plain(value: Any) -> Any:
    """A dataclass tree as JSON values: paths become text, NaN and infinity null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
