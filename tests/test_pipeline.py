"""Runs: what they leave on disk, what they skip, what they refuse, and that a killed one ends like an unharmed one."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from decay_problem import Decay
from fieldwright.analysis import Evaluation
from fieldwright.datasets import FieldDataset, Normalizer, read_fields, write_fields
from fieldwright.errors import DataError, FieldwrightError, InputError, RecipeError, StorageError
from fieldwright.norms import relative_l2
from fieldwright.operators import FourierOperator
from fieldwright.pipeline import (
    STAGES,
    RunDirectory,
    evaluate_again,
    figures,
    five_figures,
    predict_file,
    report_again,
    run,
    summarise_run,
)
from fieldwright.pipeline import stages as stages_module
from fieldwright.pipeline.directory import recipe_difference
from fieldwright.progress import Reporter
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate


@pytest.fixture
def copied_run(tiny_run, tmp_path):
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


def times_of_change(directory: Path) -> dict[str, int]:
    return {str(p.relative_to(directory)): p.stat().st_mtime_ns for p in directory.rglob("*") if p.name != ".lock"}


def assert_same_weights(run: Path, other: Path) -> None:
    first, second = (load_file(d / "surrogate" / "model.safetensors") for d in (run, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_run_leaves_what_the_design_promises(tiny_run):
    for name in ("recipe.yaml", "environment.json", "run.json", "metrics.csv", "report.html", "evaluation.json",
                 "evaluation.npz", "dataset/stats.yaml", "surrogate/config.json", "surrogate/model.safetensors",
                 "surrogate/surrogate.json"):  # fmt: skip
        assert (tiny_run / name).stat().st_size > 0, name
    assert not list(tiny_run.rglob("*.partial"))
    assert list(RunDirectory(tiny_run).stages()) == list(STAGES)
    facts = json.loads((tiny_run / "environment.json").read_text())
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__
    assert facts["threads"] >= 1


def test_recorded_recipe_is_the_one_that_was_asked_for(tiny_run, tiny_overrides):
    recipe = load_recipe("darcy", tiny_overrides)
    assert RunDirectory(tiny_run).read_recipe() == recipe
    assert yaml.safe_load((tiny_run / "recipe.yaml").read_text())["operator"]["width"] == 6


def test_figures_are_those_of_the_stored_surrogate_and_data(tiny_run):
    facts = figures(summarise_run(RunDirectory(tiny_run)))
    inputs, outputs = FieldDataset(tiny_run / "dataset", "test").arrays()
    surrogate = Surrogate.load(tiny_run)
    errors = relative_l2(surrogate.fields(inputs).double(), outputs.double(), surrogate.problem.grid).numpy()
    assert facts["median_relative_l2"] == pytest.approx(float(np.median(errors)), rel=1e-5)
    assert facts["worst_relative_l2"] == pytest.approx(float(errors.max()), rel=1e-5)
    assert facts["p95_relative_l2"] == pytest.approx(float(np.percentile(errors, 95)), rel=1e-5)
    assert (facts["train_samples"], facts["test_samples"]) == (24, 8)
    json.dumps(facts, allow_nan=False)


def test_break_even_follows_from_the_recorded_times(tiny_run):
    summary = summarise_run(RunDirectory(tiny_run))
    facts, speed = figures(summary), summary.evaluation.speed
    gain = speed.fastest.seconds - speed.batched.seconds if speed.fastest else 0
    if gain <= 0:
        assert facts["break_even"] is None
    else:
        assert facts["break_even"] == pytest.approx(summary.preparation_seconds / gain, abs=1)


def test_five_figures_are_five_lines_between_verdict_and_report(tiny_run):
    lines = five_figures(summarise_run(RunDirectory(tiny_run))).splitlines()
    assert len(lines) == 7
    assert lines[-1] == f"Report: {tiny_run / 'report.html'}"


def test_same_command_does_nothing_twice(copied_run, tiny_overrides):
    before = times_of_change(copied_run)
    run(load_recipe("darcy", tiny_overrides), copied_run, device="cpu")
    assert times_of_change(copied_run) == before


def test_changed_recipe_is_refused_with_the_difference(copied_run, tiny_overrides):
    before = times_of_change(copied_run)
    with pytest.raises(RecipeError, match=r"training.steps was 12, asked 13; seed was 0, asked 4"):
        run(load_recipe("darcy", [*tiny_overrides, "training.steps=13", "seed=4"]), copied_run)
    assert times_of_change(copied_run) == before


def test_difference_of_recipes_names_added_and_removed_keys():
    old, new = load_recipe("darcy"), load_recipe("poisson")
    difference = recipe_difference(old, new)
    assert "problem.kind was darcy, asked poisson" in difference
    assert "problem.low was 3.0, asked absent" in difference
    assert recipe_difference(old, old) == []


def test_lost_product_is_made_again(copied_run, tiny_overrides):
    (copied_run / "report.html").unlink()
    run(load_recipe("darcy", tiny_overrides), copied_run, device="cpu")
    assert "<html" in (copied_run / "report.html").read_text()


def test_run_stops_where_it_is_told_and_goes_on(copied_run, tiny_overrides, tmp_path):
    recipe = load_recipe("darcy", tiny_overrides)
    summary = run(recipe, tmp_path / "steps", device="cpu", until="generate")
    assert summary is not None
    assert list(summary.stages) == ["generate"]
    with pytest.raises(DataError, match="has not been evaluated"):
        figures(summary)
    summary = run(recipe, tmp_path / "steps", device="cpu", until="train")
    assert list(summary.stages) == ["generate", "train"]
    assert_same_weights(tmp_path / "steps", copied_run)
    with pytest.raises(RecipeError, match="stage 'evaluat'"):
        run(recipe, tmp_path / "steps", until="evaluat")


def test_another_process_is_kept_out(copied_run, tiny_overrides):
    (copied_run / "report.html").unlink()
    with (
        RunDirectory(copied_run).locked(),
        pytest.raises(RecipeError, match="another run is at work here"),
    ):
        run(load_recipe("darcy", tiny_overrides), copied_run)


def test_plan_says_problem_samples_operator_budget_and_place(tiny_overrides, tmp_path):
    said = stages_module.plan(load_recipe("darcy", tiny_overrides), tmp_path / "there")
    for word in (
        "darcy at 16 x 16",
        "24 training",
        "8 validation",
        "8 test",
        "multigrid",
        "12 steps",
        "seed 0",
        "there",
    ):
        assert word in said
    assert not (tmp_path / "there").exists()


def test_impossible_run_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    recipe = load_recipe("darcy", ["operator.levels=6", "operator.smoothing=[[1, 0]]"])
    with pytest.raises(RecipeError, match="smoothing"):
        run(recipe, tmp_path / "run")
    with pytest.raises(StorageError, match=r"needs 1e\+\d+ GiB|needs \d"):
        run(load_recipe("darcy", ["data.train=1000000000000"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


NETS = """
import torch

class Narrow(torch.nn.Module):
    def __init__(self, in_channels):
        super().__init__()

    def forward(self, inputs):
        return inputs[..., 1:]

class Plain(torch.nn.Module):
    def __init__(self, in_channels, out_channels, width=4):
        super().__init__()
        convolution = lambda a, b: torch.nn.Conv2d(a, b, 3, padding=1)
        self.net = torch.nn.Sequential(
            convolution(in_channels, width), torch.nn.GELU(), convolution(width, out_channels)
        )

    def forward(self, inputs):
        return self.net(inputs)
"""


def test_operator_of_wrong_outputs_is_refused_before_anything_is_written(in_tmp):
    (in_tmp / "users_nets.py").write_text(NETS)
    with pytest.raises(RecipeError, match=r"users_nets:Narrow returned fields of shape \(1, 1, 16, 15\)"):
        run(load_recipe("darcy", ["operator.kind=users_nets:Narrow", "problem.resolution=16"]), in_tmp / "run")
    assert not (in_tmp / "run").exists()


def test_users_network_goes_all_the_way(in_tmp):
    (in_tmp / "users_nets.py").write_text(NETS)
    overrides = [
        "operator.kind=users_nets:Plain", "problem.resolution=8", "data.train=8", "data.valid=4", "data.test=4",
        "training.steps=3", "evaluation.shifts=false", "evaluation.resolutions=[]", "evaluation.samples=2",
    ]  # fmt: skip
    summary = run(load_recipe("darcy", overrides), in_tmp / "run", device="cpu")
    assert summary is not None
    assert figures(summary)["test_samples"] == 4


def test_single_stages_of_a_run_can_be_done_again(copied_run):
    (copied_run / "report.html").unlink()
    assert report_again(copied_run).read_text().count("<html") == 1
    before = Evaluation.load(copied_run)
    summary = evaluate_again(copied_run, device="cpu")
    assert summary.evaluation is not None
    assert summary.evaluation.test == before.test
    for again in (report_again, evaluate_again):
        with pytest.raises(DataError, match="not a run directory"):
            again(copied_run / "dataset")


@pytest.mark.parametrize("name", ["recipe.yaml", "run.json", "evaluation.json", "metrics.csv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2", b"{}", b"null"])
def test_damaged_run_is_refused_in_one_sentence(copied_run, name, content):
    (copied_run / name).write_bytes(content)
    with pytest.raises(FieldwrightError) as caught:
        report_again(copied_run)
    assert "\n" not in str(caught.value)


def test_stage_that_fails_leaves_nothing_recorded(tmp_path, tiny_overrides, monkeypatch):
    def full(*_, **__):
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr(importlib.import_module("fieldwright.pipeline.run"), "generate_stage", full)
    recipe = load_recipe("darcy", tiny_overrides)
    with pytest.raises(StorageError):
        run(recipe, tmp_path / "run")
    assert RunDirectory(tmp_path / "run").stages() == {}


def test_progress_is_a_line_a_stage_where_there_is_no_terminal(tmp_path, tiny_overrides, capsys):
    reporter = Reporter(console=Console(stderr=True, force_terminal=False))
    run(load_recipe("darcy", tiny_overrides), tmp_path / "run", device="cpu", until="train", reporter=reporter)
    out, err = capsys.readouterr()
    assert out == ""
    said = [line.partition(" ")[0] for line in err.splitlines()]
    assert said[0] == "darcy"
    assert [word for word in said if word in ("generate", "train")] == ["generate", "train"]


def as_command(arguments: list[str], directory: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "fieldwright", *arguments],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_run_ends_in_the_same_bits(tmp_path, tiny_overrides):
    long = [*tiny_overrides, "training.steps=40", "data.solver=scipy"]
    command = ["train", "darcy", *long, "--out", "killed", "--device", "cpu", "--quiet"]
    killed = as_command(command, tmp_path)
    while killed.poll() is None and not (tmp_path / "killed" / "metrics.csv").exists():
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not RunDirectory(tmp_path / "killed").finished("train")
    again = as_command(command, tmp_path)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    run(load_recipe("darcy", long), tmp_path / "whole", device="cpu", until="train")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".mat"])
def test_prediction_goes_from_file_to_file(tiny_run, tmp_path, ending):
    surrogate = Surrogate.load(tiny_run)
    inputs = surrogate.problem.sample(range(3), 7)
    write_fields(tmp_path / f"in{ending}", {"permeability": inputs[:, 0].numpy()})
    facts = predict_file(tiny_run, tmp_path / f"in{ending}", tmp_path / f"out{ending}", device="cpu")
    arrays = read_fields(tmp_path / f"out{ending}")
    fields = arrays["pressure"] if ending != ".npy" else next(iter(arrays.values()))
    np.testing.assert_allclose(fields, surrogate.fields(inputs)[:, 0].numpy(), rtol=1e-6, atol=1e-9)
    assert facts["samples"] == 3
    if ending != ".npy":
        expected = surrogate.predict(inputs).error_estimate.numpy()
        np.testing.assert_allclose(arrays["error_estimate"].ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (1, 1, 16, 16)])
def test_one_sample_may_come_without_its_axes(tiny_run, tmp_path, shape):
    np.save(tmp_path / "in.npy", np.full(shape, 5.0, np.float32))
    predict_file(tiny_run, tmp_path / "in.npy", tmp_path / "out.npy", device="cpu")
    assert np.load(tmp_path / "out.npy").shape == (1, 16, 16)


def test_certified_prediction_satisfies_the_system(tiny_run, tmp_path):
    problem = Surrogate.load(tiny_run).problem
    inputs = problem.sample(range(2), 7)
    np.save(tmp_path / "in.npy", inputs[:, 0].numpy())
    predict_file(tiny_run, tmp_path / "in.npy", tmp_path / "out.npz", rtol=1e-7, device="cpu")
    arrays = read_fields(tmp_path / "out.npz")
    solved = torch.from_numpy(arrays["pressure"])
    assert torch.all(problem.system(inputs).relative_residual(solved) <= 1e-7)
    assert {"residual", "iterations", "iterations_without_guess"} <= arrays.keys()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.ones((2, 16, 16)), "b": np.ones((2, 16, 16))}, "holds a, b; the surrogate needs permeability"),
        ({"permeability": np.ones((2, 2, 16, 16))}, "channels permeability"),
        ({"permeability": np.full((2, 16, 16), np.nan)}, "sample 0 holds a NaN"),
        ({"permeability": np.ones((2, 16, 12))}, "inputs of shape"),
        ({"permeability": np.ones(7)}, "inputs of shape"),
    ],
)
def test_fields_that_do_not_fit_are_refused(tiny_run, tmp_path, arrays, words):
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises((DataError, InputError), match=words):
        predict_file(tiny_run, tmp_path / "in.npz", tmp_path / "out.npz", device="cpu")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_roll_out_goes_from_file_to_file(tmp_path, ending):
    problem = Decay()
    torch.manual_seed(0)
    operator = FourierOperator(4, 2, modes=2, width=4, layers=1, boundary="periodic", centring="periodic")
    names = (tuple(f.name for f in problem.inputs), tuple(f.name for f in problem.outputs))
    inputs, outputs = (Normalizer(torch.zeros(len(n)), torch.ones(len(n)), n) for n in names)
    surrogate = Surrogate(operator, inputs, outputs, problem)
    surrogate.save(tmp_path / "run")
    first = problem.sample(range(3), 7)
    np.save(tmp_path / "in.npy", first.numpy())
    predict_file(tmp_path / "run", tmp_path / "in.npy", tmp_path / f"out{ending}", frames=3, device="cpu")
    arrays = read_fields(tmp_path / f"out{ending}")
    expected = surrogate.roll_out(first, 3).numpy()
    if ending == ".npy":
        np.testing.assert_allclose(next(iter(arrays.values())), expected, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.stack([arrays["w_x"], arrays["w_y"]], 2), expected, rtol=1e-6)
    with pytest.raises(InputError, match="not certified"):
        predict_file(tmp_path / "run", tmp_path / "in.npy", tmp_path / "o.npy", frames=3, rtol=1e-6, device="cpu")


def test_negative_permeability_cannot_be_certified(tiny_run, tmp_path):
    np.save(tmp_path / "in.npy", np.full((1, 16, 16), -1.0))
    with pytest.raises(InputError, match="not positive"):
        predict_file(tiny_run, tmp_path / "in.npy", tmp_path / "out.npy", rtol=1e-6, device="cpu")
    with pytest.raises(InputError, match="no relative residual"):
        predict_file(tiny_run, tmp_path / "in.npy", tmp_path / "out.npy", rtol=2.0, device="cpu")
