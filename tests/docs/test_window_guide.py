"""The guide's recipe for windows of trajectories fits together, and its operator learns the map, on less of it."""

from pathlib import Path

import torch

from fieldwright.datasets import Normalizer
from fieldwright.pipeline.stages import check_operator, plan, seeded_operator
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate
from fieldwright.training import TrainingData, train

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TINY = ["problem.known=3", "problem.predicted=2", "problem.evolution.resolution=16", "problem.evolution.warm_up=0",
        "operator.known=3", "operator.predicted=2", "operator.width=8", "operator.layers=2", "operator.modes=8",
        "operator.latent_steps=3", "operator.time_modes=3",
        "training.steps=120"]  # fmt: skip


def test_the_recipe_as_it_stands_can_be_run(tmp_path):
    assert "spatiotemporal_fourier operator" in plan(load_recipe(EXAMPLES / "turbulence-window.yaml"), tmp_path / "run")


def test_a_trained_surrogate_predicts_the_window_and_any_times_of_it(tmp_path):
    recipe = load_recipe(EXAMPLES / "turbulence-window.yaml", TINY)
    problem, operator = recipe.build_problem(), seeded_operator(recipe)
    check_operator(operator, problem, recipe.operator.kind)
    inputs = problem.sample(range(8), seed=0)
    outputs, _ = problem.solve(inputs)
    a, u = inputs.float(), outputs.float()
    data = TrainingData((a, u), (a, u), Normalizer.fit(a), Normalizer.fit(u), problem.grid)
    train(operator, recipe.training.to_phases(), data, directory=tmp_path, seed=0)
    Surrogate(operator, data.inputs, data.outputs, problem).save(tmp_path / "surrogate")
    surrogate = Surrogate.load(tmp_path / "surrogate")
    fields = surrogate.predict(inputs).fields
    still = problem.guess(inputs)
    assert (fields - outputs).norm() < 0.8 * (still - outputs).norm()
    with torch.no_grad():
        later = surrogate.operator(data.inputs.encode(a), torch.tensor([0.25, 0.5]))
    assert torch.allclose(data.outputs.decode(later).double(), fields, atol=1e-4)
