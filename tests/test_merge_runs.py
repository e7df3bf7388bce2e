"""`fieldwright merge`: trained runs in one run whose surrogate begins as their mean, and goes on learning."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fieldwright.cli import run_command
from fieldwright.errors import DataError, FieldwrightError, InputError, RecipeError
from fieldwright.pipeline import RunDirectory, evaluate_again, merge_runs, run
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate

TINY = [
    "problem.resolution=32", "data.train=12", "data.valid=4", "data.test=4", "operator.width=6", "operator.modes=6",
    "operator.layers=2", "training.steps=8", "training.seconds=null", "evaluation.shifts=false",
]  # fmt: skip


def trained(directory, *overrides):
    run(load_recipe("burgers", [*TINY, *overrides]), directory, device="cpu", until="train")
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of other weights and other data, and so other normalisations; and one of another width."""
    place = tmp_path_factory.mktemp("members")
    wide = trained(place / "wide", "operator.width=8")
    return trained(place / "a"), trained(place / "b", "seed=1"), wide


def fields(directory, inputs):
    return Surrogate.load(directory).fields(inputs)


def samples(directory):
    return Surrogate.load(directory).problem.sample(range(5), 3).float()


def test_the_merged_surrogate_is_the_mean_of_its_members(runs, tmp_path):
    merged = merge_runs(runs[:2], tmp_path / "ab")
    assert Surrogate.load(runs[0]).outputs_normalizer != Surrogate.load(runs[1]).outputs_normalizer
    inputs = samples(runs[0])
    mean = (fields(runs[0], inputs) + fields(runs[1], inputs)) / 2
    apart = (fields(runs[0], inputs) - fields(runs[1], inputs)).norm() / mean.norm()
    assert (fields(tmp_path / "ab", inputs) - mean).norm() / mean.norm() < 1e-5 < 1e-2 < apart
    assert merged.difference < 1e-5
    assert RunDirectory(tmp_path / "ab").read_recipe().operator.settings["width"] == 12


def test_the_merged_run_is_evaluated_and_reported_like_any_other(runs, tmp_path):
    out = tmp_path / "ab"
    merge_runs(runs[:2], out)
    summary = evaluate_again(out, device="cpu")
    assert (out / "report.html").stat().st_size > 0
    both = sum(RunDirectory(member).stages()["train"]["seconds"] for member in runs[:2])
    assert summary.stages["train"]["seconds"] == pytest.approx(both)
    shutil.rmtree(out)  # hard links: the member's data stay
    assert RunDirectory(runs[0]).finished("generate")
    assert list(RunDirectory(runs[0]).dataset.rglob("*.hdf5"))


@pytest.mark.parametrize("templates", [None, 2])
def test_fine_tuning_goes_on_from_the_mean_and_leaves_a_plain_operator(runs, tmp_path, templates):
    out = tmp_path / "ab"
    merge_runs(runs[:2], out, fine_tune=6, learning_rate=1e-4, templates=templates)
    inputs = samples(runs[0])
    mean = (fields(runs[0], inputs) + fields(runs[1], inputs)) / 2
    moved = (fields(out, inputs) - mean).norm() / mean.norm()
    assert 1e-5 < moved < 0.1
    with safe_open(out / "surrogate" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "parametrizations" in name]  # noqa: SIM118 (not a mapping)
    recipe = RunDirectory(out).read_recipe()
    prepare = recipe.training.to_phases()[0].prepare
    assert prepare.kind == "merge"
    assert prepare.templates == templates
    before = (out / "surrogate" / "model.safetensors").read_bytes()
    run(recipe, out, device="cpu", until="train")  # all done: nothing happens
    assert (out / "surrogate" / "model.safetensors").read_bytes() == before


def test_the_recipe_of_a_merged_run_gives_the_same_bits_elsewhere(runs, tmp_path):
    merge_runs(runs[:2], tmp_path / "ab", fine_tune=4, templates=2)
    recipe = RunDirectory(tmp_path / "ab").read_recipe()
    shutil.copytree(runs[0] / "dataset", tmp_path / "again" / "dataset")
    run(recipe, tmp_path / "again", device="cpu", until="train")
    first, second = (load_file(tmp_path / p / "surrogate" / "model.safetensors") for p in ("ab", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("members", "settings", "kind", "word"),
    [
        ((0,), {}, InputError, "two or more"),
        ((0, 0), {}, InputError, "same in all weights"),
        ((0, 2), {}, InputError, "operator.width was 6"),
        ((0, 1), {"fine_tune": -1}, InputError, "number of steps"),
    ],
)
def test_what_cannot_be_merged_is_said_and_leaves_nothing(runs, tmp_path, members, settings, kind, word):
    with pytest.raises(kind, match=word):
        merge_runs([runs[i] for i in members], tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_member_of_another_problem_or_untrained_and_a_taken_directory_are_refused(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    recipe = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("viscosity: 0.1", "viscosity: 0.2"))
    with pytest.raises(InputError, match="another problem"):
        merge_runs([runs[0], other], tmp_path / "out")
    shutil.rmtree(other / "surrogate")
    (other / "recipe.yaml").write_text(recipe)
    with pytest.raises(DataError, match="not been trained"):
        merge_runs([runs[0], other], tmp_path / "out")
    with pytest.raises(DataError, match="exists"):
        merge_runs(runs[:2], other)
    with pytest.raises(DataError, match="not a run directory"):
        merge_runs([runs[0], tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_preparation_names_its_members(tmp_path):
    with pytest.raises(FieldwrightError, match="no such model directory"):
        load_and_prepare([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(RecipeError, match="members"):
        load_and_prepare([str(tmp_path / "a")])


def load_and_prepare(members):
    phase = {"name": "m", "steps": 1, "prepare": {"kind": "merge", "members": members}}
    recipe = load_recipe("burgers", [*TINY, f"training.phases={json.dumps([phase])}"])
    from fieldwright.pipeline.stages import seeded_operator
    from fieldwright.training import Carried

    return recipe.training.to_phases()[0].prepare(Carried(seeded_operator(recipe)))


def test_the_command_says_what_came_of_it(runs, tmp_path, capsys):
    out = tmp_path / "ab"
    assert run_command(["merge", str(runs[0]), str(runs[1]), "-o", str(out), "--json", "--quiet"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["directory"] == str(out)
    assert facts["parameters"] == sum(p.numel() for p in Surrogate.load(out).operator.parameters())
    assert run_command(["merge", str(runs[0]), str(runs[2]), "-o", str(tmp_path / "no"), "--quiet"]) == 2
    assert "members agree in both" in capsys.readouterr().err
    assert torch.isfinite(fields(out, samples(out))).all()
