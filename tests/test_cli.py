"""The command line as scripts and people see it: streams, exit codes, JSON, help."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldwright import cli
from fieldwright.cli import run_command
from fieldwright.datasets import read_fields
from fieldwright.errors import TrainingError
from fieldwright.training import TrainingStopped

COMMANDS = (
    "run", "generate", "inspect", "convert", "train", "evaluate", "predict", "report", "list", "compare", "plan",
    "doctor", "reproduce",
)  # fmt: skip


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_help_names_every_command(capsys):
    assert run_command([]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command, capsys):
    assert run_command([command, "--help"]) == 0
    assert f"Example: fieldwright {command}" in " ".join(capsys.readouterr().out.split())


def test_help_answers_without_loading_torch():
    code = "import sys; from fieldwright import cli; cli.run_command(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_run_ends_with_figures_in_json(in_tmp, tiny_run, tiny_overrides, capsys):
    shutil.copytree(tiny_run, in_tmp / "runs" / "darcy")
    assert run_command(["run", "darcy", *tiny_overrides, "--json"]) == 0
    facts = last_json(capsys)
    expected = {
        "median_relative_l2", "p95_relative_l2", "worst_relative_l2", "train_samples", "test_samples",
        "generate_seconds", "train_seconds", "solver", "break_even", "report",
    }  # fmt: skip
    assert expected <= facts.keys()
    assert facts["report"] == str(Path("runs/darcy/report.html"))
    assert 0 < facts["median_relative_l2"] <= facts["p95_relative_l2"] <= facts["worst_relative_l2"]


def test_run_from_nothing_says_its_plan_first_and_its_report_last(in_tmp, tiny_overrides, capsys):
    arguments = ["run", "poisson", *tiny_overrides, "evaluation.shifts=false", "--seed", "5", "--device", "cpu"]
    assert run_command([*arguments, "--out", "mine"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0].startswith("poisson at 16 x 16: 24 training")
    assert "seed 5" in err.splitlines()[0]
    assert out.splitlines()[-1] == f"Report: {Path('mine/report.html')}"
    assert (in_tmp / "mine" / "report.html").exists()


def test_quiet_is_quiet(in_tmp, tiny_run, tiny_overrides, capsys):
    shutil.copytree(tiny_run, in_tmp / "runs" / "darcy")
    assert run_command(["run", "darcy", *tiny_overrides, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "splits"),
    [
        (["samples=12"], {"train": 12}),
        (["samples=5", "data.test=3"], {"train": 5, "test": 3}),
        (["data.train=4", "data.valid=2", "data.test=3"], {"train": 4, "valid": 2, "test": 3}),
    ],
)
def test_generate_makes_the_samples_asked_for(in_tmp, capsys, asked, splits):
    arguments = ["generate", "darcy", *asked, "problem.resolution=8", "data.shard_samples=4", "--json", "--out", "set"]
    assert run_command(arguments) == 0
    facts = last_json(capsys)
    assert facts["splits"] == splits
    assert facts["samples"] == sum(splits.values())
    assert facts["shards"] == sum(-(-n // 4) for n in splits.values())
    assert facts["solve_seconds"] > 0
    assert facts["solver"] != "auto"


def test_generate_without_overrides_makes_the_recipes_splits_and_counts_what_failed(in_tmp, capsys):
    recipe = {
        "problem": {"kind": "darcy", "resolution": 8},
        "data": {"train": 5, "valid": 1, "test": 2, "solver": "scipy"},
        "operator": {"kind": "fourier"},
        "training": {"steps": 1},
    }
    Path("small.yaml").write_text(json.dumps(recipe))
    assert run_command(["generate", "small.yaml", "--json"]) == 0
    facts = last_json(capsys)
    assert (facts["splits"], facts["path"]) == ({"train": 5, "valid": 1, "test": 2}, str(Path("datasets/small")))
    assert facts["failed"] == {"train": [], "valid": [], "test": []}


def test_generate_refuses_samples_that_are_no_number(in_tmp, capsys):
    assert run_command(["generate", "darcy", "samples=many"]) == 2
    assert "data.train: 'many'" in capsys.readouterr().err


def test_inspect_finds_the_dataset_of_a_run_and_draws_it(tiny_run, tmp_path, capsys):
    assert run_command(["inspect", str(tiny_run), "--draw", str(tmp_path / "samples.png"), "--json"]) == 0
    facts = last_json(capsys)
    assert facts["sound"]
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert run_command(["inspect", str(tiny_run / "dataset")]) == 0
    assert "permeability" in capsys.readouterr().out


def test_predict_writes_beside_the_input_unless_told(tiny_run, in_tmp, capsys):
    np.save("a.npy", np.full((2, 16, 16), 4.0))
    assert run_command(["predict", str(tiny_run), "a.npy", "--device", "cpu", "--json"]) == 0
    assert last_json(capsys)["output"] == "a-predicted.npy"
    arguments = ["predict", str(tiny_run), "a.npy", "--out", "b.h5", "--solve", "1e-7", "--device", "cpu"]
    assert run_command(arguments) == 0
    assert "2 samples written to b.h5" in capsys.readouterr().out
    assert read_fields("b.h5")["residual"].max() <= 1e-7


def test_report_and_evaluate_work_on_a_run(tiny_run, tmp_path, capsys):
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    assert run_command(["report", str(copy), "--json"]) == 0
    assert last_json(capsys)["report"] == str(copy / "report.html")
    assert run_command(["evaluate", str(copy), "--device", "cpu", "--quiet", "--json"]) == 0
    assert last_json(capsys)["test_samples"] == 8


def test_list_names_everything_with_one_line(capsys):
    assert run_command(["list", "--json"]) == 0
    sections = last_json(capsys)
    assert set(sections) == {"problems", "operators", "recipes", "solvers", "gallery"}
    assert {"darcy", "poisson"} <= set(sections["problems"])
    assert {"multigrid", "fourier"} <= set(sections["operators"])
    assert {"darcy", "darcy-lognormal", "poisson"} <= set(sections["recipes"])
    lines = [line for names in sections.values() for line in names.values()]
    assert all(line and "\n" not in line for line in lines)
    assert run_command(["list", "solvers"]) == 0
    assert "scipy" in capsys.readouterr().out


def test_list_tells_what_operators_cost_on_the_grid_asked_for(capsys):
    assert run_command(["list", "--operators", "--grid", "16,24", "--channels", "2,1", "--json"]) == 0
    facts = last_json(capsys)
    assert (facts["grid"], facts["channels"]) == ([16, 24], [2, 1])
    assert {"name", "dimensions", "takes", "parameters", "flops", "paper"} <= facts["operators"][0].keys()
    assert run_command(["list", "--operators", "--grid", "16", "--dimension", "1"]) == 0
    said = capsys.readouterr().out
    assert "16 points" in said
    assert "ICLR 2021" in said


def test_doctor_looks_at_everything(capsys):
    assert run_command(["doctor", "--json"]) == 0
    checks = last_json(capsys)
    expected = {"python", "packages", "threads", "compiled kernels", "disk", "accelerator", "browser"}
    assert set(checks) == expected
    assert checks["packages"]["good"]
    assert run_command(["doctor"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rn"], "Did you mean 'run'"),
        (["run"], "RECIPE"),
        (["run", "darcy", "--sed", "3"], "--sed"),
        (["run", "darcy", "--seed", "x"], "--seed"),
        (["run", "darcy", "--seed", "-1"], "--seed"),
        (["predict", "nowhere", "in.npy", "--solve", "x"], "--solve"),
        (["run", "darci"], "did you mean 'darcy'"),
        (["run", "darcy", "training.stps=3"], "did you mean 'steps'"),
        (["run", "darcy", "--device", "tpu", "training.steps=1"], "device"),
        (["list", "solver"], "did you mean 'solvers'"),
        (["list", "--grid", "16"], "are for --operators"),
        (["list", "--operators", "--grid", "16,many"], "whole numbers"),
        (["list", "--operators", "--channels", "1"], "two numbers"),
        (["list", "--operators", "--grid", "8,8", "--dimension", "3"], "in dimension 3"),
        (["generate", "darcy", "samples=2", "--cluster", "lokal"], "did you mean 'local'"),
        (["generate", "darcy", "samples=2", "--cluster-option", "cores=1"], "--cluster slurm"),
        (["generate", "darcy", "samples=2", "--cluster", "slurm", "--cluster-option", "cores"], "write KEY=VALUE"),
        (["generate", "darcy", "samples=2", "--nodes", "3"], "--plan"),
        (["generate", "darcy", "samples=2", "--device", "tpu"], "device 'tpu'"),
        (["generate", "darcy", "samples=2", "data.solver=4 steps"], "data.solver"),
        (["generate", "darcy", "samples=1000000000"], "GiB"),
        (["reproduce", "no-such-method"], "no-such-method"),
        (["evaluate", "nowhere"], "not a run directory"),
        (["report", "nowhere"], "not a run directory"),
        (["predict", "nowhere", "in.npy"], "holds no surrogate"),
        (["inspect", "nowhere"], "nowhere"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(in_tmp, capsys, arguments, words):
    assert run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert list(in_tmp.iterdir()) == []


def test_interruption_is_130_and_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_do_stages", interrupted)
    assert run_command(["run", "darcy"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_training_that_was_asked_to_stop_says_so_in_its_own_words(monkeypatch, capsys):
    def stopped(*_, **__):
        raise TrainingStopped("training stopped at step 3; the same command goes on from there")

    monkeypatch.setattr(cli, "_do_stages", stopped)
    assert run_command(["train", "darcy"]) == 130
    said = capsys.readouterr().err
    assert said == "fieldwright: training stopped at step 3; the same command goes on from there\n"


def test_training_error_is_one_line(monkeypatch, capsys):
    def diverged(*_, **__):
        raise TrainingError("loss is no longer finite\nat step 3")

    monkeypatch.setattr(cli, "_do_stages", diverged)
    assert run_command(["train", "darcy"]) == 2
    assert capsys.readouterr().err == "fieldwright: loss is no longer finite at step 3\n"


def test_defects_of_ours_keep_their_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_do_stages", broken)
    with pytest.raises(ZeroDivisionError):
        run_command(["run", "darcy"])


def test_two_processes_train_one_run(tmp_path, tiny_overrides):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "fieldwright", "run", "darcy", *tiny_overrides, "evaluation.shifts=false", "--device", "cpu",
        "--out", "both", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(done.stdout.splitlines()) == 1
    assert facts["train_steps"] == 12
    assert (tmp_path / "both" / "report.html").exists()
