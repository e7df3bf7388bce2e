"""The files that the guide shows work as they stand, and are as short as it says."""

import importlib
import importlib.util
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldwright.datasets import FieldDataset
from fieldwright.norms import relative_l2
from fieldwright.pipeline import run
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TINY = ["data.train=8", "data.valid=2", "data.test=2", "problem.resolution=16", "training.steps=3",
        "evaluation.resolutions=[]", "evaluation.shifts=false", "evaluation.samples=2"]  # fmt: skip


@pytest.fixture
def example(monkeypatch):
    """Imports a file of docs/examples by name, with that directory as the current one."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for file in EXAMPLES.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_own_problem_takes_under_forty_lines():
    assert len((EXAMPLES / "screened_poisson.py").read_text().splitlines()) < 40


def test_own_problem_converges_to_second_order(example):
    errors = []
    for resolution in (16, 32):
        problem = example("screened_poisson").ScreenedPoisson(resolution)
        exact = (math.pi * problem.grid.coordinates()).sin().prod(0)[None, None]
        solved, solution = problem.solve((2 * math.pi**2 + problem.kappa**2) * exact)
        assert bool(solution.converged.all())
        errors.append(float(relative_l2(solved, exact, problem.grid)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_own_problem_runs_from_its_recipe(example, tmp_path):
    operator = ["operator.width=4", "operator.layers=1", "operator.levels=2"]
    summary = run(load_recipe("screened-poisson.yaml", TINY + operator), tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()
    assert summary.evaluation is not None
    surrogate = Surrogate.load(tmp_path / "run")
    source = surrogate.problem.sample(range(2), seed=5)
    certified = surrogate.solve(source, rtol=1e-6)
    assert bool((certified.solution.residual <= 1e-6).all())


def test_own_problem_in_time_takes_under_forty_lines():
    assert len((EXAMPLES / "fisher.py").read_text().splitlines()) < 40


def test_own_problem_in_time_grows_logistically_where_it_is_uniform_and_mode_by_mode_where_it_is_thin(example):
    problem = example("fisher").Fisher(resolution=64, diffusivity=20.0, growth=0.5, duration=4.0, frames=4)
    x = problem.grid.axis(0) * 2 * math.pi / 100
    uniform, thin = torch.full_like(x, 0.2), 1e-9 * torch.cos(3 * x)
    states, solution = problem.trajectory(torch.stack([uniform, thin])[:, None], rtol=1e-9)
    assert bool(solution.converged.all())
    grown = torch.exp(0.5 * problem.times)[:, None]
    torch.testing.assert_close(
        states[0, :, 0], 0.2 * grown / (0.8 + 0.2 * grown) * torch.ones_like(x), rtol=1e-8, atol=0
    )
    rate = 0.5 - 20.0 * (3 * 2 * math.pi / 100) ** 2
    expected = thin * torch.exp(rate * problem.times)[:, None]
    torch.testing.assert_close(states[1, :, 0], expected, rtol=1e-6, atol=1e-15)


def test_own_problem_in_time_generates_from_its_recipe(example, tmp_path):
    asked = ["data.train=3", "data.valid=1", "data.test=1", "problem.resolution=64", "problem.growth=[0.5, 2]"]
    run(load_recipe("fisher.yaml", asked), tmp_path / "run", until="generate")
    data = FieldDataset(tmp_path / "run" / "dataset", "train")
    assert (data.input_names, data.output_names, len(data)) == (["density", "growth"], ["density"], 30)


def test_own_operator_runs_from_the_command_line(example, tmp_path):
    recipe = load_recipe("darcy", [*TINY, "operator.kind=plain_cnn:PlainCNN", "operator.width=4", "operator.layers=2"])
    run(recipe, tmp_path / "run", until="train")
    surrogate = Surrogate.load(tmp_path / "run")
    assert any(type(module).__name__ == "PlainCNN" for module in surrogate.operator.modules())
    assert surrogate.fields(surrogate.problem.sample(range(2), seed=5)).shape == (2, 1, 16, 16)


def test_own_data_is_trained_on(example, tmp_path):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((20, 2, 12, 12)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "outputs.npy", inputs.cumsum(2)[:, :1])
    prediction = example("own_data").main(
        tmp_path / "inputs.npy", tmp_path / "outputs.npy", directory=tmp_path / "run", steps=3
    )
    assert prediction.shape == (1, 1, 12, 12)
    assert bool(torch.isfinite(prediction).all())


def test_every_command_the_documentation_shows_exists():
    from fieldwright.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    shown = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), flags=re.DOTALL)
        shown |= {word for block in blocks for word in re.findall(r"^fieldwright (\w+)", block, flags=re.MULTILINE)}
    assert shown
    assert shown <= known


def test_every_recipe_override_the_documentation_shows_is_allowed(example):
    lines = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        lines += re.findall(r"^fieldwright (?:run|train) (\S+) (.*?)(?:#.*)?$", page.read_text(), flags=re.MULTILINE)
    assert lines
    for recipe, rest in lines:
        if "/" in recipe:  # of a run that the reader has made
            continue
        overrides = [word for word in rest.split() if "=" in word and not word.startswith("--")]
        if "operator.kind=neuralop." in rest and importlib.util.find_spec("neuralop") is None:  # the peer is an extra
            overrides = [word for word in overrides if not word.startswith("operator.")]
        load_recipe(recipe, overrides)
