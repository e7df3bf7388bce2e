"""Poisson's equation with sources and boundary values of every kind."""

import math

import pytest
import torch

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.generate import generate
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import Poisson, random_bumps
from fieldwright.problems.boundary_data import random_lifting
from fieldwright.problems.diffusion import wall_source

SIDES = [["dirichlet", "neumann"], ["neumann", "dirichlet"]]


def trace(field: torch.Tensor, axis: int, end: int) -> torch.Tensor:
    """Values on a wall, extrapolated from five cells."""
    weights = torch.tensor([315.0, -420.0, 378.0, -180.0, 35.0], dtype=torch.float64) / 128
    cells = range(5) if end == 0 else range(field.shape[axis] - 1, field.shape[axis] - 6, -1)
    return sum(w * field.select(axis, cell) for w, cell in zip(weights, cells, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["gaussian", "chebyshev"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_walls_meet_in_the_values_of_their_edges(kind, dimension: int) -> None:
    grid = Grid((40 if dimension == 2 else 16,) * dimension)
    lifting = random_lifting(grid, [0], 3, kind=kind, degree=4)[0]
    for end in (0, 1):
        across = trace(trace(lifting, 0, end), 0, 0)
        along = trace(trace(lifting, 1, 0), 0, end)
        torch.testing.assert_close(across, along, rtol=0, atol=1e-10)


def test_a_lifting_is_linear_between_its_walls_and_the_same_on_every_grid() -> None:
    coarse, fine = (random_lifting(Grid((n, n)), [7], 0, kind="chebyshev", degree=4)[0] for n in (10, 30))
    torch.testing.assert_close(fine[1::3, 1::3], coarse, rtol=1e-11, atol=1e-12)
    ends = random_lifting(Grid((9,)), range(2000), 0, kind="gaussian", deviation=2.0)
    assert float(ends.diff(n=2, dim=1).abs().max()) < 1e-12
    assert float(trace(ends, 1, 1).std()) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("walls", ["dirichlet", SIDES, "neumann"])
def test_the_solution_takes_the_values_and_slopes_of_the_lifting(walls) -> None:
    problem = Poisson(resolution=48, walls=walls, wall_values="chebyshev", degree=4)
    inputs = problem.sample([0], 1)
    outputs, solution = problem.solve(inputs, method="scipy")
    assert bool(solution.converged.all())
    assert torch.equal(problem.guess(inputs), inputs[:, 1:])
    u, g = outputs[0, 0], inputs[0, 1]
    for axis, pair in enumerate(problem.boundary.sides):
        for end, condition in enumerate(pair):
            if condition == "dirichlet":
                apart = (trace(u, axis, end) - trace(g, axis, end))[6:-6]
                assert float(apart.abs().max()) < 2e-2 * float(g.abs().max())
    inflow = wall_source(torch.ones_like(u)[None], g[None], problem.grid, problem.boundary)
    assert float(problem.balance(inputs, outputs)["flux"]) < 1e-10
    assert bool(inflow.any())


@pytest.mark.parametrize("walls", ["dirichlet", SIDES])
def test_a_harmonic_lifting_without_a_source_is_the_solution_to_second_order(walls) -> None:
    errors = []
    for n in (32, 64):
        problem = Poisson(resolution=n, walls=walls, wall_values="gaussian")
        x, y = problem.grid.coordinates()
        g = torch.exp(2 * x) * torch.cos(2 * y)
        outputs, _ = problem.solve(torch.stack([torch.zeros_like(g), g])[None], method="scipy")
        errors.append(float((outputs[0, 0] - g).norm() / g.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_bumps_are_the_source_of_the_published_set() -> None:
    problem = Poisson(resolution=16, source="bumps")
    bumps = random_bumps(problem.grid, [0, 9], 4, geometric=0.4, widths=(0.025, 0.1))
    assert torch.equal(problem.sample([0, 9], 4)[:, 0], bumps)


@pytest.mark.parametrize("source", ["gaussian", "bumps", "chebyshev"])
@pytest.mark.parametrize("walls", ["neumann", "periodic"])
def test_sources_sum_to_zero_where_no_wall_holds_a_value(source, walls: str) -> None:
    problem = Poisson(resolution=12, source=source, walls=walls)
    inputs = problem.sample([0, 1], 0)
    assert float(inputs.mean((2, 3)).abs().max()) < 1e-12
    outputs, solution = problem.solve(inputs, method="scipy")
    assert bool(solution.converged.all())
    assert float(outputs.mean((2, 3)).abs().max()) < 1e-12


def test_boundary_values_are_mirrored_with_the_box() -> None:
    problem = Poisson(resolution=10, wall_values="gaussian", walls=["neumann", "dirichlet"])
    inputs = problem.sample([0], 1)
    outputs, _ = problem.solve(inputs, method="scipy")
    assert len(problem.symmetries()) == 4
    for symmetry in problem.symmetries():
        moved, _ = problem.solve(symmetry(inputs), method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-8, atol=1e-10)


def test_residual_is_differentiable_in_source_boundary_and_outputs() -> None:
    problem = Poisson(resolution=4, wall_values="gaussian", walls=SIDES)
    inputs = problem.sample([0], 0).requires_grad_()
    outputs = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs))


def test_a_dataset_holds_the_boundary_and_begins_with_the_lifting(tmp_path) -> None:
    problem = Poisson(resolution=8, wall_values="gaussian")
    generate(problem, tmp_path / "data", counts={"train": 3}, seed=0, solver="scipy")
    inputs, outputs = FieldDataset(tmp_path / "data", "train").batch(range(3))
    assert inputs.shape == (3, 2, 8, 8)
    expected, _ = problem.trajectory(problem.sample(range(3), 0), method="scipy")
    torch.testing.assert_close(outputs, expected[:, 1].float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(expected[:, 0], problem.sample(range(3), 0)[:, 1:])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "waves"}, "gaussian, bumps, chebyshev"),
        ({"wall_values": "waves"}, "zero, gaussian, chebyshev"),
        ({"wall_values": "gaussian", "walls": "periodic"}, "a periodic box has none"),
        ({"wall_deviation": 0.0}, "positive number"),
        ({"source": "chebyshev", "degree": 80}, "0 to the resolution, 64"),
        ({"length": 0.005}, "too coarse"),
        ({"smoothness": 1.0}, "no effect without a length"),
        ({"walls": ["periodic", "dirichlet"]}, "all axes or on none"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Poisson(**settings)
    assert "\n" not in str(caught.value)
