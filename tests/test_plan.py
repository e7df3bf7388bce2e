"""`plan`: pilots searched and kept, the law's answer priced, bad questions refused before any work."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fieldwright.cli import run_command
from fieldwright.datasets import FieldDataset
from fieldwright.errors import InputError, RecipeError
from fieldwright.pipeline import Question, plan_facts, plan_target, planned_recipe
from fieldwright.pipeline import pilots as pilots_module
from fieldwright.pipeline.accounts import growth_of
from fieldwright.pipeline.pilots import Purse, Setting, _search, ladder, with_setting
from fieldwright.pipeline.stages import train_stage
from fieldwright.recipe import load_recipe
from fieldwright.report.plan import Pilot, TargetPlan, render_plan

TINY = (
    "problem.resolution=16", "operator.kind=fourier", "operator.width=4", "operator.modes=3", "operator.layers=1",
    "data.valid=8", "data.test=8", "training.steps=16", "training.batch_size=4", "training.learning_rate=0.02",
    "training.optimizer=adamw",
)  # fmt: skip
QUESTION = Question("darcy", 0.05, TINY, budget_seconds=1e6, max_samples=64, force=True)


def law_pilot(samples: int, width: int | None, updates: int, valid: float, train: float = 0.0) -> Pilot:
    """A pilot as the search sees it."""
    return Pilot(samples, width, 100, updates, 0, train, valid, valid, 1.0, 0.1, 1000, "")


def answered(question: Question, directory: Path) -> TargetPlan:
    """A plan whose errors are those of a law, as tiny trainings have none, and without a search; pilots are trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilots_module, "_error", law_errors)
        patch.setattr(pilots_module, "_neighbours", lambda _: iter(()))
        return plan_target(question, directory, device="cpu")


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("plan") / "finished"
    answered(QUESTION, directory)
    return directory


def law_errors(_surrogate, _dataset, split: str, trajectories: int | None = None) -> float:
    if trajectories is not None:
        law_errors.samples = trajectories  # type: ignore[attr-defined]
        return 0.01
    noise = 0.02 * math.sin(law_errors.samples)  # type: ignore[attr-defined]
    return 0.8 * law_errors.samples**-0.5 * math.exp(noise)  # type: ignore[attr-defined]


def test_sizes_double_from_sixteen():
    assert ladder(512) == [16, 32, 64, 128, 256, 512]
    assert ladder(100) == [16, 32, 64]
    assert ladder(3) == [16]


def test_search_finds_the_best_of_a_bowl_and_never_trains_twice():
    """Validation error |log2(updates/64)| + |width/8 - 1| + 1: its only best is at 64 updates, width 8."""
    made = []

    def train_one(setting: Setting) -> Pilot:
        assert setting not in made
        made.append(setting)
        width = setting.width or 0
        error = 1 + abs(math.log2(setting.updates / 64)) + abs(width / 8 - 1)
        return law_pilot(16, width, setting.updates, error)

    best, settled = _search(train_one(Setting(4, 8)), train_one, None)
    assert (best.width, best.updates, settled) == (8, 64, True)


def test_search_goes_on_while_the_training_samples_are_not_learnt():
    """Updates lower the error by 1 % a doubling: too little to go on for, unless the training error is as high."""

    def train_one(setting: Setting) -> Pilot:
        valid = 0.99 ** math.log2(setting.updates)
        return law_pilot(16, None, setting.updates, valid, train=valid if setting.updates < 512 else 0.1)

    assert _search(train_one(Setting(None, 8)), train_one, None)[0].updates == 512
    learnt = dataclasses.replace(train_one(Setting(None, 8)), train_error=0.1)
    assert _search(learnt, train_one, None) == (learnt, True)


def test_search_says_when_a_limit_ends_it():
    def train_one(setting: Setting) -> Pilot | None:
        return law_pilot(16, None, setting.updates, 1 / setting.updates) if setting.updates <= 64 else None

    first = law_pilot(16, None, 8, 1 / 8)
    best, settled = _search(first, train_one, None)
    assert (best.updates, settled) == (64, False)
    best, settled = _search(first, train_one, 32)
    assert (best.updates, settled) == (32, False)


def test_growth_is_the_slope_of_the_logarithms_between_none_and_one():
    for power, expected in ((0.5, 0.5), (-1.0, 0.0), (2.0, 1.0)):
        pilots = [law_pilot(n, 4, round(1e6 * n**power), 1.0) for n in (16, 32, 64, 128)]
        assert growth_of(pilots, "updates") == pytest.approx(expected, abs=1e-3)


def test_purse_counts_what_was_spent():
    assert Purse(10, spent=4).affords(6)
    assert not Purse(10, spent=4).affords(6.1)
    assert not Purse(10, spent=4).affords(2, share=0.5)


def test_pilots_train_on_nested_shards_of_one_dataset(planned, tmp_path):
    """Training on the first n of a larger dataset gives the bits of training on those samples alone."""
    recipe = load_recipe("darcy", TINY)
    work = pilots_module.RunDirectory(tmp_path / "alone")
    split = FieldDataset(planned / "data-64" / "dataset", "train")
    inputs, outputs = split.batch(range(16))
    seen = {}

    def watched(_operator, _phases, data, **_rest):
        seen["data"] = data
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldwright.pipeline.stages.train", watched)
        work.path.mkdir()
        work.dataset.symlink_to((planned / "data-64" / "dataset").resolve())
        with pytest.raises(InterruptedError):
            train_stage(recipe, work, device="cpu", reporter=pilots_module.Reporter(quiet=True), trajectories=16)
    samples = seen["data"].train_samples
    assert len(samples) == 16
    assert torch.equal(samples.batch(range(16))[0], inputs)
    assert torch.equal(samples.batch(range(16))[1], outputs)
    assert len(seen["data"].valid_samples) == 8


def test_run_table_has_a_row_for_every_pilot(planned):
    with (planned / "pilots.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {int(row["samples"]) for row in rows} == {16, 32, 64}
    for row in rows:
        recorded = json.loads(
            (planned / "pilots" / f"{row['samples']}-{row['width']}-{row['updates']}-0" / "pilot.json").read_text()
        )
        assert float(row["test_error"]) == recorded["test_error"]
        assert float(row["sim_seconds"]) > 0
    assert sum(row["best"] == "True" for row in rows) == 3


def test_answer_is_the_law_priced(planned):
    facts = json.loads((planned / "plan.json").read_text())
    samples = facts["plan"]["samples"]
    assert samples["hopeful"] < 256 < samples["safe"]
    assert samples["expected"] == pytest.approx(256, rel=0.5)
    for name in ("hopeful", "expected", "safe"):
        bill = facts[name]
        assert bill["samples"] == samples[name]
        assert bill["data_seconds"] == pytest.approx(
            bill["samples"] / facts["expected"]["samples"] * facts["expected"]["data_seconds"]
        )
        assert bill["training_seconds"] > 0
        assert bill["device_seconds"] is None
    assert facts["outlook"][0]["samples"] == 64
    assert [bill["samples"] for bill in facts["outlook"]] == [64 << k for k in range(5)]
    page = (planned / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_finished_pilots_are_not_made_again(planned, monkeypatch):
    monkeypatch.setattr(pilots_module, "train_stage", lambda *_, **__: pytest.fail("a pilot was trained again"))
    before = json.loads((planned / "plan.json").read_text())
    again = plan_facts(answered(QUESTION, planned))
    for name in ("sentence", "plan", "pilots", "expected", "safe"):
        assert again[name] == before[name]


def test_stated_ratio_divides_the_training_and_says_whose_it_is(planned):
    question = dataclasses.replace(QUESTION, device_name="Big <GPU>", device_ratio=25.0)
    plan = answered(question, planned)
    assert plan.safe is not None
    assert plan.safe.device_seconds == pytest.approx(plan.safe.training_seconds / 25)
    assert any("as stated by the user and not measured" in text for text in plan.assumptions)
    assert "Big &lt;GPU&gt;" in render_plan(plan)
    assert "Big <GPU>" not in render_plan(plan)


def test_recipe_of_the_plan_is_the_safe_one(planned):
    plan = answered(QUESTION, planned)
    assert plan.safe is not None
    recipe = planned_recipe(QUESTION, plan)
    assert (recipe.data.train, recipe.training.steps) == (plan.safe.samples, plan.safe.updates)
    assert recipe.operator.settings["width"] == plan.safe.width
    assert (recipe.training.seconds, recipe.training.epochs) == (None, None)
    with pytest.raises(InputError, match="No plan for 5"):
        planned_recipe(QUESTION, dataclasses.replace(plan, safe=None))


def test_setting_changes_the_width_and_updates_and_nothing_else():
    recipe = load_recipe("darcy", TINY)
    changed = with_setting(recipe, Setting(12, 99), seed=5)
    assert (changed.operator.settings["width"], changed.training.steps, changed.seed) == (12, 99, 5)
    assert changed.data_seed == recipe.data_seed
    assert changed.problem == recipe.problem
    assert {**changed.operator.settings, "width": 4} == recipe.operator.settings


def test_pilots_of_one_recipe_and_setting_train_the_same_bits_again(planned, tmp_path):
    place = next((planned / "pilots").glob("16-4-*"))
    pilot = json.loads((place / "pilot.json").read_text())
    recipe = pilots_module.RunDirectory(place).read_recipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilots_module, "_error", law_errors)
        made = pilots_module._train(
            tmp_path / "again",
            recipe,
            16,
            Setting(4, pilot["updates"]),
            planned / "data-64" / "dataset",
            device="cpu",
            reporter=pilots_module.Reporter(quiet=True),
        )
    assert made.config == pilot["config"]
    first, second = (load_file(p / "surrogate" / "model.safetensors") for p in (place, tmp_path / "again"))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": 0.0}, "--target 0"),
        ({"target": 1.5}, "--target 1.5"),
        ({"target": math.nan}, "--target nan"),
        ({"budget_seconds": 0.0}, "--budget-seconds 0"),
        ({"max_samples": 32}, "--max-samples 32; at least 64"),
        ({"seeds": 0}, "--seeds 0"),
        ({"device_ratio": 3.0}, "--device-ratio is for --device-name"),
        ({"device_name": "H200", "device_ratio": -1.0}, "--device-ratio -1"),
        ({"budget_seconds": 1e-6}, "more than half of the budget"),
    ],
)
def test_bad_questions_are_refused_before_any_training(changes, said, tmp_path):
    with pytest.raises(InputError, match=said):
        plan_target(dataclasses.replace(QUESTION, **changes), tmp_path / "plan", device="cpu")
    assert not (tmp_path / "plan" / "pilots").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could measure it")
def test_device_without_a_ratio_is_not_guessed(tmp_path):
    with pytest.raises(InputError, match="cannot measure it, so give --device-ratio"):
        plan_target(dataclasses.replace(QUESTION, device_name="H200"), tmp_path / "plan", device="cpu")


def test_recipe_of_several_phases_is_refused(tmp_path):
    question = dataclasses.replace(QUESTION, overrides=(*TINY, "training.phases=[{steps: 4}, {steps: 4}]"))
    with pytest.raises(RecipeError, match="list of phases"):
        plan_target(question, tmp_path / "plan", device="cpu")


def test_command_line_says_no_in_one_line(tmp_path, capsys):
    arguments = ["darcy", *TINY, "--target", "7", "--out", str(tmp_path / "plan")]
    assert run_command(["plan", *arguments]) == 2
    assert run_command(["run", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("fieldwright: --target 7") for line in lines)
