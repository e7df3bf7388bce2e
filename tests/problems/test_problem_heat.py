import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fieldwright.datasets import generate
from fieldwright.datasets.plan import read_plan
from fieldwright.grids import Boundary
from fieldwright.problems.heat import Heat

MIXED = [["dirichlet", "neumann"], ["neumann", "dirichlet"]]
WAVES = {
    ("periodic", "periodic"): (2 * math.pi, torch.sin),
    ("dirichlet", "dirichlet"): (3 * math.pi, torch.sin),
    ("neumann", "neumann"): (2 * math.pi, torch.cos),
    ("dirichlet", "neumann"): (1.5 * math.pi, torch.sin),
    ("neumann", "dirichlet"): (0.5 * math.pi, torch.cos),
}


@pytest.mark.parametrize(
    ("dimension", "walls"),
    [
        (1, "periodic"), (1, "dirichlet"), (1, "neumann"), (2, "periodic"), (2, MIXED), (2, ["neumann", "dirichlet"]),
        (3, "dirichlet"), (3, "periodic"),
    ],
)  # fmt: skip
def test_a_mode_that_meets_the_walls_decays_at_its_rate(dimension: int, walls) -> None:
    problem = Heat(resolution=10, dimension=dimension, walls=walls, diffusivity=0.03, duration=0.5, frames=5)
    x, mode, square = problem.grid.coordinates(), torch.ones(()), 0.0
    for axis, pair in enumerate(Boundary.parse(walls, dimension).sides):
        wave, function = WAVES[pair]
        mode, square = mode * function(wave * x[axis]), square + wave**2
    states, solution = problem.trajectory(mode[None, None])
    assert bool(solution.converged.all())
    decay = torch.exp(-0.03 * square * problem.times).reshape(-1, *[1] * dimension)
    torch.testing.assert_close(states[0, :, 0], decay * mode, rtol=0, atol=1e-14)


def test_each_instance_decays_by_its_own_diffusivity() -> None:
    problem = Heat(resolution=8, dimension=1, diffusivity=[0.01, 0.1], duration=1.0, frames=1)
    inputs = torch.stack([torch.sin(2 * math.pi * problem.grid.axis(0)).expand(3, -1), torch.zeros(3, 8)], 1)
    inputs[:, 1] = torch.tensor([0.01, 0.05, 0.1], dtype=torch.float64)[:, None]
    states, _ = problem.trajectory(inputs)
    torch.testing.assert_close(
        states[:, 1, 0], inputs[:, 0] * torch.exp(-4 * math.pi**2 * inputs[:, 1]), rtol=1e-13, atol=1e-15
    )


def test_initial_states_have_the_asked_deviation() -> None:
    fields = Heat(resolution=32, deviation=2.0).sample(range(200), 0)
    assert float(fields.square().mean().sqrt()) == pytest.approx(2.0, rel=0.05)
    assert float(fields.mean((1, 2, 3)).abs().max()) < 1e-13


def test_mean_stays_between_insulated_walls_and_not_between_cold_ones() -> None:
    for walls, kept in (("periodic", True), ("neumann", True), ("dirichlet", False)):
        problem = Heat(resolution=12, walls=walls)
        assert ("mean temperature" in problem.laws(*_solved(problem))) == kept
        assert all(float(law.defect().max()) < 1e-13 for law in problem.laws(*_solved(problem)).values())


def _solved(problem: Heat) -> tuple:
    inputs = problem.sample([0, 1], 0)
    return inputs, problem.trajectory(inputs)[0], problem.times


def test_generated_data_are_the_trajectories(tmp_path: Path) -> None:
    problem = Heat(resolution=8, diffusivity=[0.01, 0.1], frames=3)
    generate(problem, tmp_path, counts={"train": 3, "valid": 1, "test": 1}, seed=2, rtol=1e-8)
    inputs = problem.sample(range(3), 2)
    states, _ = problem.trajectory(inputs, rtol=1e-8, method=read_plan(tmp_path).method)  # type: ignore[union-attr]
    with h5py.File(next((tmp_path / "data/train").glob("*.hdf5"))) as file:
        np.testing.assert_array_equal(file["t0_fields/temperature"][:], states[:, :, 0].float().numpy())
        np.testing.assert_array_equal(file["scalars/diffusivity"][:], inputs[:, 1, 0, 0].float().numpy())
