"""`plan`: pilots, the law of their errors, and what the data, the model and the hours for a target error are.

recipe.yaml  data-probe/  data-MOST/  pilots/   what was made; the same command goes on
pilots.csv                                      the run table, a row for every pilot
plan.json  report.html                          the answer
"""

from __future__ import annotations

import csv
import inspect
import io
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fieldwright.analysis import field_errors, plan_data, summarise
from fieldwright.atomic import write_atomically
from fieldwright.datasets import FieldDataset
from fieldwright.errors import InputError
from fieldwright.pipeline.accounts import LEAST_PILOTS, Accountant, device_ratio, joint_remark, next_pilot
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.pipeline.environment import environment
from fieldwright.pipeline.pilots import SMALLEST, Purse, Setting, first_setting, ladder, run_pilots
from fieldwright.pipeline.pilots import with_setting as recipe_with
from fieldwright.pipeline.stages import check_operator, device_name, generate_stage, plain, seeded_operator
from fieldwright.progress import SILENT, Reporter
from fieldwright.recipe import Recipe, load_recipe, recipe_name
from fieldwright.report.plan import Pilot, TargetPlan, write_plan
from fieldwright.report.quantities import duration, percent

MOST_SAMPLES = 512
"""The largest pilot, unless the recipe has fewer training samples or the user says otherwise."""
DATA_SHARE = 0.5
"""The share of the budget that data of pilots may take."""


@dataclass(frozen=True)
class Question:
    """What is asked: a recipe with ``overrides``, the target (median relative L2 on the test split), and limits.

    ``budget_seconds`` is for all pilots with their data, ``max_samples`` the largest pilot, ``seeds`` the trainings of
    the best model at each size. ``device_ratio`` is how many times faster a training step is on ``device_name`` than
    here; None: it is measured, where this machine has such a device.
    """

    recipe: str
    target: float
    overrides: tuple[str, ...] = ()
    budget_seconds: float = 600.0
    max_samples: int | None = None
    seeds: int = 1
    device_name: str | None = None
    device_ratio: float | None = None
    force: bool = False

    def command(self, directory: Path) -> str:
        """The command line that asks the same."""
        words = ["fieldwright", "plan", self.recipe, *self.overrides, "--target", f"{self.target:g}"]
        words += ["--budget-seconds", f"{self.budget_seconds:g}"]
        words += ["--max-samples", str(self.max_samples)] if self.max_samples is not None else []
        words += ["--seeds", str(self.seeds)] if self.seeds > 1 else []
        words += ["--device-name", self.device_name] if self.device_name is not None else []
        words += ["--device-ratio", f"{self.device_ratio:g}"] if self.device_ratio is not None else []
        return shlex.join([*words, *(["--force"] if self.force else []), "--out", str(directory)])


def plan_target(
    question: Question, directory: Path | str, *, device: str = "auto", reporter: Reporter = SILENT
) -> TargetPlan:
    """Train pilots as far as the budget goes, fit the law and say what the target takes. Finished pilots are kept.

    Errors: `InputError` for a question that makes no sense, too few pilots and errors that do not fall; `RecipeError`
    for a recipe of several phases, and a directory of another recipe; what generating and training raise.
    """
    recipe = load_recipe(question.recipe, question.overrides)
    device = device_name(device)
    _check(question, device)
    setting = first_setting(recipe)
    problem = recipe.build_problem()
    timed = any(phase.pairs is not None for phase in recipe.training.to_phases())
    check_operator(seeded_operator(recipe), problem, recipe.operator.kind, timed=timed)
    root = RunDirectory(Path(directory))
    root.check(recipe)
    reporter.notice(
        f"pilots for {percent(question.target)} on {recipe.problem.kind} within {duration(question.budget_seconds)};"
        f" results in {root.path}"
    )
    with root.locked():
        root.claim(recipe)
        sizes, seconds_per_sample, data_seconds = _data(question, recipe, root, reporter)
        purse = Purse(question.budget_seconds, data_seconds)
        dataset = _dataset(root, sizes[-1])
        pilots, remarks = run_pilots(
            recipe, root.path, dataset, sizes, purse, seeds=question.seeds, device=device, reporter=reporter
        )
        if setting.width is None:
            remarks.append(f"operator '{recipe.operator.kind}' has no width that could be searched; its size is fixed")
        write_atomically(root.path / "pilots.csv", _table(pilots, seconds_per_sample).encode())
        if len({pilot.samples for pilot in pilots if pilot.best}) < LEAST_PILOTS:
            raise InputError(
                f"plan: the budget of {duration(question.budget_seconds)} paid for pilots of fewer than {LEAST_PILOTS}"
                " sizes; give more --budget-seconds (finished pilots are kept), or a smaller problem"
            )
        answer = _answer(question, recipe, root, dataset, pilots, remarks, seconds_per_sample, purse, device)
        values = json.dumps(plan_facts(answer), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(root.path / "plan.json", values.encode() + b"\n")
        write_plan(answer, root.report)
    return answer


def planned_recipe(question: Question, plan: TargetPlan) -> Recipe:
    """The recipe of the safe plan.

    Errors: `InputError` when there is no plan, with the reason.
    """
    if plan.safe is None:
        raise InputError(f"run: {plan.sentence}")
    recipe = load_recipe(question.recipe, question.overrides)
    return recipe_with(recipe, Setting(plan.safe.width, plan.safe.updates), samples=plan.safe.samples)


def plan_facts(plan: TargetPlan) -> dict[str, Any]:
    """The answer as plain values, for JSON: without the posterior's grid, with its summary."""
    law = plan.data.law
    data = {
        "target": plan.data.target,
        "status": plan.data.status,
        "samples": {name: getattr(plan.data, name) for name in ("hopeful", "expected", "safe")},
        "inflation": plan.data.inflation,
        "hypotheses": law.weights,
        "exponent": dict(zip(("low", "median", "high"), law.exponent, strict=True)),
        "back_tests": [{**asdict(test), "inside": test.inside} for test in plan.data.back_tests],
    }
    rest = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name != "data"}
    remarks = [*plan.data.remarks, *(text for text in plan.remarks if text not in plan.data.remarks)]
    return plain({"sentence": plan.sentence, "plan": data, **rest, "remarks": remarks})


def _check(question: Question, device: str) -> None:
    if not (math.isfinite(question.target) and 0 < question.target < 1):
        raise InputError(f"--target {question.target:g}; a relative error between 0 and 1 is needed, such as 0.01")
    if not (math.isfinite(question.budget_seconds) and question.budget_seconds > 0):
        raise InputError(f"--budget-seconds {question.budget_seconds:g}; a positive number of seconds is needed")
    least = SMALLEST << (LEAST_PILOTS - 1)
    if question.max_samples is not None and question.max_samples < least:
        raise InputError(f"--max-samples {question.max_samples}; at least {least} are needed, for {LEAST_PILOTS} sizes")
    if question.seeds < 1:
        raise InputError(f"--seeds {question.seeds}; at least 1 is needed")
    ratio = question.device_ratio
    if ratio is not None and not (math.isfinite(ratio) and ratio > 0):
        raise InputError(f"--device-ratio {ratio:g}; how many times faster a step is there, above 0")
    if ratio is not None and question.device_name is None:
        raise InputError("--device-ratio is for --device-name")
    if question.device_name is not None and ratio is None and (device != "cpu" or not torch.cuda.is_available()):
        raise InputError(
            f"--device-name '{question.device_name}'; this machine cannot measure it, so give --device-ratio: how many"
            " times faster a training step is there (seconds_per_update in pilots.csv here, over that of a plan there)"
        )


def _data(question: Question, recipe: Recipe, root: RunDirectory, reporter: Reporter) -> tuple[list[int], float, float]:
    """The sizes whose data the budget pays for, seconds per sample, and seconds that the data took."""
    probe = generate_stage(
        recipe, root.path / "data-probe" / "dataset", counts={"train": SMALLEST, "valid": 0, "test": 0},
        reporter=reporter,
    )  # fmt: skip
    each = (probe.solve_seconds + probe.draw_seconds) / SMALLEST
    others = recipe.data.valid + recipe.data.test
    sizes = ladder(question.max_samples or min(MOST_SAMPLES, recipe.data.train))
    kept = [n for n in sizes if (n + others) * each <= DATA_SHARE * question.budget_seconds]
    if len(kept) < LEAST_PILOTS:
        least = (SMALLEST << (LEAST_PILOTS - 1)) + others
        raise InputError(
            f"plan: {least} samples (pilots, validation, test) take {duration(least * each)}, more than half"
            f" of the budget of {duration(question.budget_seconds)}; give more --budget-seconds, or less data.valid"
        )
    made = generate_stage(
        recipe, _dataset(root, kept[-1]), reporter=reporter,
        counts={**recipe.data.counts, "train": kept[-1]},
    )  # fmt: skip
    total = made.solve_seconds + made.draw_seconds
    return kept, total / sum(made.samples.values()), total


def _dataset(root: RunDirectory, most: int) -> Path:
    return root.path / f"data-{most}" / "dataset"


def _answer(
    question: Question,
    recipe: Recipe,
    root: RunDirectory,
    dataset: Path,
    pilots: list[Pilot],
    remarks: list[str],
    seconds_per_sample: float,
    purse: Purse,
    device: str,
) -> TargetPlan:
    best = [pilot for pilot in pilots if pilot.best]
    largest = max((pilot for pilot in best if pilot.seed == recipe.seed), key=lambda pilot: pilot.samples)
    data = plan_data(
        [(pilot.samples, pilot.test_error) for pilot in best],
        question.target,
        best_guess=_best_guess(dataset),
        training_error=largest.train_error,
        force=question.force,
    )
    ratio, ratio_said = device_ratio(question.device_name, question.device_ratio, recipe, largest)
    accountant = Accountant(recipe, data, best, largest, seconds_per_sample, ratio)
    bills = {name: accountant.bill(size) for name in ("hopeful", "expected", "safe") if (size := getattr(data, name))}
    outlook = tuple(accountant.bill(round(data.law.curve.largest) << k) for k in range(5))
    shape = " × ".join(map(str, recipe.build_problem().grid.shape))
    said = (inspect.getdoc(type(recipe.build_problem())) or recipe.problem.kind).partition("\n")[0]
    return TargetPlan(
        title=f"{recipe_name(question.recipe)}: {percent(question.target)}",
        problem=f"{said} Grid of {shape}, operator {recipe.operator.kind}.",
        data=data,
        pilots=tuple(pilots),
        hopeful=bills.get("hopeful"),
        expected=bills.get("expected"),
        safe=bills.get("safe"),
        outlook=outlook,
        next_pilot=next_pilot(data, accountant),
        assumptions=(*accountant.assumptions, *ratio_said),
        remarks=(*data.remarks, *remarks, *joint_remark(pilots, bills.get("safe"))),
        pilot_seconds=purse.spent,
        command=question.command(root.path),
        device=device,
        device_name=question.device_name,
        environment=environment(device),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _best_guess(dataset: Path) -> float:
    """The median relative L2 error on the test split of the mean of the training outputs."""
    train, test = FieldDataset(dataset, "train"), FieldDataset(dataset, "test")
    truth = test.arrays()[1].double()
    mean = train.arrays()[1].double().mean(0, keepdim=True).expand_as(truth)
    return summarise(field_errors(mean, truth, train.grid).l2).median


def _table(pilots: Sequence[Pilot], seconds_per_sample: float) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*(f.name for f in fields(Pilot)), "sim_seconds"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(p), "sim_seconds": p.samples * seconds_per_sample} for p in pilots)
    return text.getvalue()
