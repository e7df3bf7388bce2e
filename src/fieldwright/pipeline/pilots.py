"""Pilots of a plan: cheap trainings on nested shards of one dataset, each with the model and the updates that suit it.

data-MOST/dataset/                 made once; a pilot of n samples trains on the first n, all share validation and test
pilots/SAMPLES-WIDTH-UPDATES-SEED/ a run: recipe.yaml, checkpoints/, metrics.csv, surrogate/, and pilot.json at its end

One width and one number of updates for all sizes would put a false floor under the curve. So at every size the search
goes on from the best of the last one, takes whichever step (twice the updates, a wider or a narrower model) lowers the
validation error, and ends when none does, or the size's share of the budget or the recipe's updates are used up.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from fieldwright.analysis import field_errors, summarise
from fieldwright.analysis.data_plan import LEARNT
from fieldwright.atomic import write_atomically
from fieldwright.datasets import FieldDataset
from fieldwright.errors import DataError, FieldwrightError, RecipeError, TrainingError
from fieldwright.operators import parameter_count
from fieldwright.operators.flops import step_flops
from fieldwright.pipeline.directory import RunDirectory, storage_errors
from fieldwright.pipeline.stages import seeded_operator, train_stage
from fieldwright.progress import Reporter
from fieldwright.recipe import Named, Recipe
from fieldwright.report.plan import Pilot
from fieldwright.settings import first_line
from fieldwright.surrogate import Surrogate

SMALLEST = 16
"""Samples of the first pilot; every next one has twice as many."""
GAIN = 0.97
"""A step of the search is taken when it brings the validation error below this share; more updates of a model that has
not learnt its training samples are taken when they lower it at all."""
WIDER = 1.5
FIRST_UPDATES = 1 / 8
"""Updates of the first pilot, as a share of the recipe's."""
SHARE_GROWTH = 1.5
"""Each size has so many times the budget of the size before."""
TRAIN_ERRORS = 128
"""Training samples on which the training error is measured, at most."""


@dataclass(frozen=True)
class Setting:
    """What is searched: the width of the operator (None where it has none) and the number of updates."""

    width: int | None
    updates: int


@dataclass
class Purse:
    """Seconds that may be spent and those that were."""

    budget: float
    spent: float = 0.0

    def affords(self, seconds: float, share: float = 1.0) -> bool:
        """Whether ``seconds`` more fit into a ``share`` of the budget."""
        return self.spent + seconds <= share * self.budget


def ladder(most: int) -> list[int]:
    """The sizes 16, 32, 64, ... up to ``most``."""
    return [SMALLEST << k for k in range(max(0, int(math.log2(max(most, SMALLEST) / SMALLEST))) + 1)]


def first_setting(recipe: Recipe) -> Setting:
    """Where the search begins: the recipe's width, and an eighth of its updates.

    Errors: `RecipeError` for a recipe with a list of phases, which no one number of updates scales.
    """
    if recipe.training.phases is not None:
        raise RecipeError(
            "plan: the recipe has a list of phases, which no one number of updates scales; give one phase"
        )
    width = recipe.operator.settings.get("width")
    updates = int((recipe.training.steps or 1600) * FIRST_UPDATES)
    return Setting(width if isinstance(width, int) else None, max(8, updates))


def with_setting(recipe: Recipe, setting: Setting, *, samples: int | None = None, seed: int | None = None) -> Recipe:
    """The recipe with a width, updates, training samples and a seed of training; data are drawn as before."""
    limits = {"steps": setting.updates, "seconds": None, "epochs": None, "flops": None}
    operator = recipe.operator
    if setting.width is not None:
        operator = Named(kind=operator.kind, **{**operator.settings, "width": setting.width})
    data = {"seed": recipe.data_seed} | ({} if samples is None else {"train": samples})
    return recipe.model_copy(
        update={
            "operator": operator,
            "training": recipe.training.model_copy(update=limits),
            "data": recipe.data.model_copy(update=data),
            "seed": recipe.seed if seed is None else seed,
        }
    )


def run_pilots(
    recipe: Recipe,
    root: Path,
    dataset: Path,
    sizes: list[int],
    purse: Purse,
    *,
    seeds: int,
    device: str,
    reporter: Reporter,
) -> tuple[list[Pilot], list[str]]:
    """Every pilot as far as the purse allows, each told whether it is its size's best; and remarks on the search."""
    found: list[Pilot] = []
    remarks: list[str] = []

    def train_one(samples: int, setting: Setting, seed: int, share: float) -> Pilot | None:
        place = root / "pilots" / f"{samples}-{setting.width or 'fixed'}-{setting.updates}-{seed}"
        known = read_pilot(place)
        if known is None:
            chosen = with_setting(recipe, setting, seed=recipe.seed + seed)
            if not purse.affords(_expected_seconds(chosen, setting, found), share):
                return None
            known = _train(place, chosen, samples, setting, dataset, device=device, reporter=reporter)
        purse.spent += known.seconds
        found.append(known)
        return known

    best: list[Pilot] = []
    unsettled: list[int] = []
    setting = first_setting(recipe)
    shares = _shares(len(sizes))
    with reporter.stage("Pilots", total=len(sizes), unit="sizes") as stage:
        for samples, share in zip(sizes, shares, strict=True):
            first = train_one(samples, setting, 0, 1.0)
            if first is None:
                remarks.append(f"the budget ended before the pilot of {samples} samples")
                break
            chosen, settled = _search(first, lambda s, n=samples, q=share: train_one(n, s, 0, q), recipe.training.steps)
            unsettled += [] if settled else [samples]
            best.append(chosen)
            setting = Setting(chosen.width, chosen.updates)
            for seed in range(1, seeds):
                again = train_one(samples, setting, seed, 1.0)
                best += [] if again is None else [again]
            stage.advance(samples=str(samples), error=f"{100 * chosen.test_error:.2f} %")
    if unsettled:
        where = ", ".join(f"{samples:,}" for samples in unsettled)
        remarks.append(f"the search ended with its budget or the recipe's updates at {where} samples")
    marked = {(p.samples, p.width, p.updates, p.seed) for p in best}
    every = [Pilot(**{**asdict(p), "best": (p.samples, p.width, p.updates, p.seed) in marked}) for p in found]
    return every, remarks


def step_operations(recipe: Recipe) -> int:
    """FLOPs of one update of a recipe.

    Errors: `RecipeError` for a setting that the operator refuses.
    """
    problem = recipe.build_problem()
    batch = torch.zeros(recipe.training.batch_size, len(problem.inputs), *problem.grid.shape)
    operator = seeded_operator(recipe)
    try:
        return step_flops(operator, batch)
    except (FieldwrightError, TypeError, RuntimeError):  # one that asks for a lead time, or is not counted
        return parameter_count(operator)


def read_pilot(place: Path) -> Pilot | None:
    """The pilot that was finished in a directory; None where there is none.

    Errors: `DataError` for a record that cannot be read.
    """
    file = place / "pilot.json"
    if not file.exists():
        return None
    try:
        return Pilot(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not the record of a pilot: {first_line(error)}") from error


def _search(first: Pilot, train_one: Callable[[Setting], Pilot | None], most: int | None) -> tuple[Pilot, bool]:
    """The best by validation, going on from ``first``; whether no further step would have helped."""
    best, settled, tried = first, True, {Setting(first.width, first.updates)}
    moved = True
    while moved:
        moved, settled = False, True
        # A model that has not learnt its own samples says nothing of data, however little the next updates help.
        unlearnt = best.train_error > LEARNT * best.valid_error
        for setting in _neighbours(Setting(best.width, best.updates)):
            if setting in tried:
                continue
            pilot = None if most is not None and setting.updates > most else train_one(setting)
            if pilot is None:
                settled = False
                continue
            tried.add(setting)
            needed = 1.0 if unlearnt and setting.updates > best.updates else GAIN
            if pilot.valid_error < needed * best.valid_error:
                best, moved = pilot, True
                break
    return best, settled


def _neighbours(setting: Setting) -> Iterator[Setting]:
    yield Setting(setting.width, 2 * setting.updates)
    if setting.width is not None:
        for width in (setting.width * WIDER, setting.width / WIDER):
            whole = max(2, round(width / 4) * 4 if width >= 8 else round(width))
            if whole != setting.width:
                yield Setting(whole, setting.updates)


def _shares(count: int) -> list[float]:
    """Shares of the budget that may be spent up to and with each size."""
    parts = [SHARE_GROWTH**k for k in range(count)]
    return [sum(parts[: k + 1]) / sum(parts) for k in range(count)]


def _expected_seconds(recipe: Recipe, setting: Setting, found: list[Pilot]) -> float:
    """From the last pilot of the same width, else from the last one in the proportion of the FLOPs; 0 for the first."""
    if not found:
        return 0.0
    same = [pilot for pilot in found if pilot.width == setting.width]
    if same:
        return setting.updates * same[-1].seconds_per_update
    return setting.updates * found[-1].seconds_per_update * step_operations(recipe) / found[-1].flops


def _train(
    place: Path, recipe: Recipe, samples: int, setting: Setting, dataset: Path, *, device: str, reporter: Reporter
) -> Pilot:
    work = RunDirectory(place)
    with work.locked():
        work.claim(recipe)
        with storage_errors(work.path):
            if not work.dataset.exists():
                work.dataset.symlink_to(os.path.relpath(dataset, work.path), target_is_directory=True)
        surrogate, summary = train_stage(recipe, work, device=device, reporter=reporter, trajectories=samples)
        surrogate.save(work.surrogate)
        pilot = Pilot(
            samples=samples,
            width=setting.width,
            parameters=parameter_count(surrogate.operator),
            updates=setting.updates,
            seed=recipe.seed,
            train_error=_error(surrogate, dataset, "train", samples),
            valid_error=_error(surrogate, dataset, "valid"),
            test_error=_error(surrogate, dataset, "test"),
            seconds=summary.seconds,
            seconds_per_update=summary.seconds_per_step,
            flops=step_operations(recipe),
            config=hashlib.sha256(recipe.to_yaml().encode()).hexdigest()[:12],
        )
        write_atomically(
            work.path / "pilot.json", json.dumps(asdict(pilot), indent=2, allow_nan=False).encode() + b"\n"
        )
        shutil.rmtree(work.path / "checkpoints", ignore_errors=True)
    return pilot


def _error(surrogate: Surrogate, dataset: Path, split: str, trajectories: int | None = None) -> float:
    """The median relative L2 error on a split, of "train" on what of it was trained on."""
    inputs, outputs = _arrays(FieldDataset(dataset, split), trajectories)
    fields = surrogate.fields(inputs)
    if not bool(fields.isfinite().all()):
        raise TrainingError(f"plan: a pilot predicts NaN or infinity on the {split} split")
    return summarise(field_errors(fields, outputs, surrogate.problem.grid).l2).median


def _arrays(samples: FieldDataset, trajectories: int | None) -> tuple[Tensor, Tensor]:
    if trajectories is None:
        return samples.arrays()
    windows = len(samples) // samples.trajectories
    return samples.batch(range(min(trajectories * windows, TRAIN_ERRORS)))
