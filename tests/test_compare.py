"""`compare`: equal data and budgets for all, finished trainings kept, bad contests refused before any work."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fieldwright.cli import run_command
from fieldwright.errors import InputError, RecipeError
from fieldwright.operators.flops import step_flops
from fieldwright.pipeline import Contest, RunDirectory, compare, run
from fieldwright.pipeline.contest import Budget, entries
from fieldwright.pipeline.stages import seeded_operator
from fieldwright.report import render_comparison
from fieldwright.training import TrainingStopped
from fieldwright.training import loop as training_loop

TINY = ("problem.resolution=16", "data.train=12", "data.valid=4", "data.test=4", "training.batch_size=4")
CONTEST = Contest(
    "darcy", ("unet", "fourier"), TINY, ("unet.width=4", "fourier.modes=4", "fourier.width=6"), "6steps", seeds=2
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("compare") / "finished"
    compare(CONTEST, directory, device="cpu")
    return directory


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [("60s", "seconds", 60), ("5min", "seconds", 300), ("1.5h", "seconds", 5400), ("1e13flops", "flops", 1e13),
     ("2000 steps", "steps", 2000)],
)  # fmt: skip
def test_budgets_are_read_as_people_write_them(text, kind, amount):
    assert Budget.parse(text) == Budget(kind, amount)


@pytest.mark.parametrize("text", ["", "60", "s", "-3s", "1e400s", "1.2.3s", "3 weeks", "0steps"])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="--budget"):
        Budget.parse(text)


def test_a_budget_in_flops_is_as_many_steps_as_it_pays_for():
    budget = Budget("flops", 1e9)
    for entry in entries("darcy", TINY, ["unet", "fourier"], budget=budget):
        (phase,) = entry.recipe.training.to_phases()
        assert phase.seconds is None
        step = step_flops(seeded_operator(entry.recipe), torch.zeros(4, 1, 16, 16))
        assert phase.steps == int(1e9 // step)
    with pytest.raises(RecipeError, match="one step takes"):
        entries("darcy", TINY, ["unet"], budget=Budget("flops", 1e3))


def test_entries_share_their_data_and_take_turns_at_being_first():
    every = entries("darcy", [*TINY, "seed=5"], ["unet", "fourier", "resnet"], seeds=3)
    assert {entry.recipe.data_seed for entry in every} == {5}
    assert [entry.seed for entry in every] == [5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert [entry.operator for entry in every[::3]] == ["unet", "fourier", "resnet"]
    assert len({entry.directory for entry in every}) == 9


def test_changes_concern_one_operator_and_the_recipes_own_keeps_its_settings():
    own, other = entries(
        "darcy", [*TINY, "operator.width=9"], ["multigrid", "unet"], changes=["unet.width=4", "unet.training.clip=2.0"]
    )
    assert (own.recipe.operator.settings["width"], own.recipe.operator.settings["levels"]) == (9, 6)
    assert other.recipe.operator.settings["width"] == 4
    assert (own.recipe.training.clip, other.recipe.training.clip) == (1.0, 2.0)


def test_every_run_has_the_same_data_the_steps_asked_for_and_its_own_seed(compared):
    values = json.loads((compared / "comparison.json").read_text())
    assert [one["name"] for one in values["competitors"]] == ["unet", "fourier"]
    for one in values["competitors"]:
        assert [trained["seed"] for trained in one["runs"]] == [0, 1]
        assert all(trained["steps"] == 6 for trained in one["runs"])
        assert one["runs"][0]["l2"]["median"] != one["runs"][1]["l2"]["median"]
    datasets = {(compared / f"{name}-{seed}" / "dataset").resolve() for name in ("unet", "fourier") for seed in (0, 1)}
    assert datasets == {(compared / "dataset").resolve()}


def test_a_run_alone_gives_the_same_bits_as_its_recipe(compared, tmp_path):
    recipe = RunDirectory(compared / "fourier-1").read_recipe()
    run(recipe, tmp_path / "alone", device="cpu", until="train")
    alone, beside = (
        load_file(place / "surrogate" / "model.safetensors") for place in (tmp_path / "alone", compared / "fourier-1")
    )
    assert alone.keys() == beside.keys()
    assert all(torch.equal(weight, beside[name]) for name, weight in alone.items())


def test_finished_trainings_are_kept_and_more_may_be_added(compared, tmp_path, monkeypatch):
    copy = shutil.copytree(compared, tmp_path / "copy", symlinks=True)
    made = []
    train = training_loop.train
    monkeypatch.setattr(
        "fieldwright.pipeline.stages.train", lambda *a, **k: made.append(k["directory"].name) or train(*a, **k)
    )
    compare(CONTEST, copy, device="cpu")
    assert made == []
    more = dataclasses.replace(CONTEST, operators=("unet", "fourier", "deeponet"), seeds=2)
    assert len(compare(more, copy, device="cpu").competitors) == 3
    assert sorted(made) == ["deeponet-0", "deeponet-1"]
    with pytest.raises(RecipeError, match=r"training\.steps was 6, asked 7"):
        compare(dataclasses.replace(CONTEST, budget="7steps"), copy, device="cpu")


def test_what_is_interrupted_goes_on(tmp_path, monkeypatch):
    done = []
    train = training_loop.train

    def stopped(*arguments, **keywords):
        done.append(keywords["directory"].name)
        if len(done) == 2:
            raise TrainingStopped("training stopped on request")
        return train(*arguments, **keywords)

    monkeypatch.setattr("fieldwright.pipeline.stages.train", stopped)
    contest = dataclasses.replace(CONTEST, seeds=1)
    with pytest.raises(TrainingStopped):
        compare(contest, tmp_path / "contest", device="cpu")
    compare(contest, tmp_path / "contest", device="cpu")
    assert done == ["unet-0", "fourier-0", "fourier-0"]


def test_the_report_holds_everything_in_one_file(compared):
    page = (compared / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert "fieldwright compare darcy" in page
    for name in ("unet", "fourier"):
        assert f">{name}</th>" in page


def test_names_in_the_report_are_escaped(compared):
    comparison = compare(CONTEST, compared, device="cpu")
    page = render_comparison(dataclasses.replace(comparison, title="<script>alert(1)</script>"))
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--operators", "unet,transfomer"], "did you mean 'transformer'"),
        (["--operators", "unet,unet"], "each once"),
        (["--operators", ","], "name one or more"),
        (["--operators", "unet", "--budget", "60"], "write 60s"),
        (["--operators", "unet", "--set", "resnet.width=3"], "OPERATOR.KEY=VALUE"),
        (["--operators", "unet", "--set", "unet.wdith=3"], "did you mean 'width'"),
        (["problem.resolution=8", "--operators", "fourier,latent_spectral"], "latent_spectral cannot take fields"),
        (
            ["problem.dimension=3", "problem.resolution=8", "--operators", "transformer"],
            "works on grids of dimension 2",
        ),
        (["training.phases=[{steps: 3}]", "--operators", "unet", "--budget", "3steps"], "list of phases"),
    ],
)
def test_a_contest_that_cannot_be_is_one_line_before_any_work(in_tmp, capsys, arguments, words):
    assert run_command(["compare", "darcy", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert list(in_tmp.iterdir()) == []


def test_the_command_line_ends_with_figures(compared, tmp_path, capsys):
    copy = shutil.copytree(compared, tmp_path / "copy", symlinks=True)
    asked = ["compare", "darcy", *TINY, "--operators", "unet,fourier", "--budget", "6steps", "--seeds", "2"]
    asked += [word for change in CONTEST.changes for word in ("--set", change)]
    assert run_command([*asked, "--out", str(copy), "--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["report"] == str(copy / "report.html")
    assert {"name", "parameters", "flops", "runs", "batched", "one_by_one"} <= facts["competitors"][0].keys()
