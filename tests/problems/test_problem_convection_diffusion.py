"""Convection and diffusion: both schemes, winds without divergence, and symmetries that turn the wind."""

import dataclasses
import math

import pytest
import torch

from fieldwright.datasets.generate import generate
from fieldwright.datasets.read import FieldDataset
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import ConvectionDiffusion, diffusion_system
from fieldwright.problems.random_winds import swirling_wind, uniform_wind

MIXED = [["dirichlet", "neumann"], ["neumann", "dirichlet"]]
PROFILES = {
    ("dirichlet", "dirichlet"): lambda s: torch.sin(math.pi * s),
    ("neumann", "neumann"): lambda s: torch.cos(math.pi * s),
    ("dirichlet", "neumann"): lambda s: torch.sin(math.pi / 2 * s),
    ("neumann", "dirichlet"): lambda s: torch.cos(math.pi / 2 * s),
}


@pytest.mark.parametrize("walls", ["dirichlet", ["neumann", "dirichlet"], MIXED])
@pytest.mark.parametrize(("scheme", "order", "sizes"), [("upwind", 1.0, (64, 128)), ("central", 2.0, (16, 32))])
def test_solutions_converge_with_the_order_of_the_scheme(scheme, order: float, sizes, walls) -> None:
    errors = []
    for n in sizes:
        problem = ConvectionDiffusion(resolution=n, diffusivity=0.2, speed=0.5, scheme=scheme, walls=walls)
        x = problem.grid.coordinates().requires_grad_()
        sides = problem.boundary.sides
        exact = PROFILES[sides[0]](x[0]) * PROFILES[sides[1]](x[1])
        wind = torch.stack(
            [torch.sin(x[0]) * torch.cos(2 * x[1]) + 0.3, 0.2 - torch.cos(x[0]) * torch.sin(2 * x[1]) / 2]
        )
        (slope,) = torch.autograd.grad(exact.sum(), x, create_graph=True)
        curved = sum(torch.autograd.grad(slope[i].sum(), x, retain_graph=True)[0][i] for i in range(2))
        source = (-0.2 * curved + (wind * slope).sum(0)).detach()
        outputs, _ = problem.solve(torch.cat([source[None], wind.detach()])[None], method="scipy")
        errors.append(float((outputs[0, 0] - exact.detach()).norm() / exact.detach().norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_a_layer_at_the_far_wall_is_the_exponential_one(dimension: int) -> None:
    # b = 1 along x and f = 1: u = x - (e^((x-1)/ε) - e^(-1/ε)) / (1 - e^(-1/ε)).
    n, epsilon = 24, 0.1
    walls = ["dirichlet", "neumann", "neumann"][:dimension]
    problem = ConvectionDiffusion(
        resolution=n, dimension=dimension, diffusivity=epsilon, scheme="central", wind="uniform", walls=walls
    )
    wind = torch.zeros(1, dimension, *problem.grid.shape, dtype=torch.float64)
    wind[:, 0] = 1.0
    outputs, _ = problem.solve(torch.cat([torch.ones_like(wind[:, :1]), wind], 1), method="scipy")
    x = problem.grid.coordinates()[0]
    end = math.exp(-1 / epsilon)
    exact = x - (torch.exp((x - 1) / epsilon) - end) / (1 - end)
    assert float((outputs[0, 0] - exact).abs().max()) < 1.5 / n**2 / epsilon


@pytest.mark.parametrize(
    "problem",
    [
        ConvectionDiffusion(resolution=12, diffusivity=1e-4),
        ConvectionDiffusion(resolution=12, diffusivity=1e-4, walls=MIXED, wind="uniform"),
        ConvectionDiffusion(resolution=12, diffusivity=0.05, scheme="central", wind="uniform"),
        ConvectionDiffusion(resolution=5, dimension=3, diffusivity=1e-3, wind="uniform"),
    ],
)
def test_matrices_are_m_matrices_up_to_the_peclet_number_that_is_allowed(problem: ConvectionDiffusion) -> None:
    system = problem.system(problem.sample([0], 2))
    assert system.kind == "general"
    matrix = torch.from_numpy(system.to_csr(0).toarray())
    off = matrix - torch.diag(matrix.diagonal())
    assert float(off.max()) <= 0
    assert float(matrix.sum(1).min()) > -1e-9 * float(matrix.abs().max())
    assert float(torch.linalg.inv(matrix).min()) > -1e-12
    assert not torch.equal(matrix, matrix.T)


def test_without_a_wind_it_is_the_diffusion_problem() -> None:
    problem = ConvectionDiffusion(resolution=10, diffusivity=0.3, walls=MIXED)
    inputs = problem.sample([0], 0)
    inputs[:, 1:] = 0
    plain = diffusion_system(torch.full_like(inputs[:, 0], 0.3), inputs[:, 0], problem.grid, problem.boundary)
    assert torch.equal(problem.system(inputs).coefficients, plain.coefficients)


@pytest.mark.parametrize("grid", [Grid((24, 24)), Grid((32, 16), "periodic", upper=(2.0, 1.0))])
def test_swirling_winds_have_no_divergence_and_the_stated_speed(grid: Grid) -> None:
    wind = swirling_wind(grid, range(5), 0)
    fastest = wind.square().sum(1).amax((1, 2)).sqrt()
    assert 0.85 < float(fastest.min()) <= float(fastest.max()) <= 1.0
    spectrum = torch.fft.fft2(wind)
    k = [
        2 * math.pi * torch.fft.fftfreq(n, h, dtype=torch.float64)
        for n, h in zip(grid.shape, grid.spacing, strict=True)
    ]
    divergence = k[0][:, None] * spectrum[:, 0] + k[1] * spectrum[:, 1]
    assert float(divergence.abs().max()) < 1e-10 * float(spectrum.abs().max())


def test_winds_are_the_same_on_every_grid_and_in_every_batch() -> None:
    coarse, fine = (swirling_wind(Grid((n, n)), [3, 8], 1) for n in (12, 36))
    torch.testing.assert_close(fine[..., 1::3, 1::3], coarse, rtol=1e-11, atol=1e-12)
    assert torch.equal(swirling_wind(Grid((12, 12)), [8], 1)[0], coarse[1])
    unit = uniform_wind(Grid((3, 4, 5)), range(500), 0)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(500, 3, 4, 5, dtype=torch.float64))
    assert float(unit[..., 0, 0, 0].mean(0).abs().max()) < 5 / math.sqrt(3 * 500)


@pytest.mark.parametrize(
    "problem",
    [
        ConvectionDiffusion(resolution=12, diffusivity=[0.01, 0.1]),
        ConvectionDiffusion(resolution=5, dimension=3, diffusivity=0.1, wind="uniform"),
    ],
)
def test_solution_commutes_with_every_symmetry_that_turns_the_wind(problem: ConvectionDiffusion) -> None:
    inputs = problem.sample([0], 1)
    outputs, _ = problem.solve(inputs, method="scipy")
    assert len(problem.symmetries()) == {2: 8, 3: 48}[problem.dimension]
    for symmetry in problem.symmetries():
        moved, _ = problem.solve(symmetry(inputs), method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-8, atol=1e-10)


def test_drawn_numbers_are_inputs_or_scale_the_wind() -> None:
    problem = ConvectionDiffusion(resolution=9, diffusivity=[0.1, 1.0], speed=[1.0, 4.0])
    assert [field.name for field in problem.inputs] == ["source", "wind_x", "wind_y", "diffusivity"]
    inputs = problem.sample(range(40), 0)
    assert 0.1 <= float(inputs[:, 3].min()) < 0.3 < float(inputs[:, 3].max()) <= 1.0
    speeds = inputs[:, 1:3].square().sum(1).amax((1, 2)).sqrt()
    assert 0.8 <= float(speeds.min()) < 2 < float(speeds.max()) <= 4.0
    fixed = dataclasses.replace(problem, diffusivity=float(inputs[7, 3, 0, 0]))
    ours, theirs = problem.system(inputs[7:8]), fixed.system(inputs[7:8, :3])
    assert torch.equal(ours.coefficients, theirs.coefficients)


@pytest.mark.parametrize("scheme", ["upwind", "central"])
def test_residual_is_differentiable_in_inputs_and_outputs(scheme) -> None:
    problem = ConvectionDiffusion(resolution=4, wind="uniform", diffusivity=[0.5, 1.0], scheme=scheme, walls=MIXED)
    inputs = problem.sample([0], 0).requires_grad_()
    outputs = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs))


def test_a_dataset_holds_the_wind_as_a_vector(tmp_path) -> None:
    problem = ConvectionDiffusion(resolution=9)
    generate(problem, tmp_path / "data", counts={"train": 2}, seed=0, solver="scipy")
    inputs, outputs = FieldDataset(tmp_path / "data", "train").batch([0, 1])
    torch.testing.assert_close(inputs, problem.sample([0, 1], 0).float(), rtol=1e-6, atol=1e-6)
    expected, _ = problem.solve(problem.sample([0, 1], 0), method="scipy")
    torch.testing.assert_close(outputs, expected.float(), rtol=1e-5, atol=1e-6)
    assert set(problem.shifts()) == {"wind twice as fast", "correlation length halved"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scheme": "central", "diffusivity": 0.001}, r"may reach 7.81.* a resolution of 500 or more"),
        ({"scheme": "wiggly"}, "upwind and central"),
        ({"wind": "still"}, "uniform and swirling"),
        ({"dimension": 3}, "needs 2 dimensions"),
        ({"resolution": 8}, "9 points per axis"),
        ({"diffusivity": 0.0}, "diffusivity = 0.0"),
        ({"speed": [2.0, 1.0]}, "speed ="),
        ({"walls": "neumann"}, "at least one Dirichlet"),
        ({"deviation": 0.0}, "positive number"),
        ({"resolution": 2}, "at least 4"),
        ({"dimension": 5}, "1, 2 and 3"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ConvectionDiffusion(**settings)
    assert "\n" not in str(caught.value)


def test_the_central_scheme_is_allowed_up_to_a_cell_peclet_number_of_one() -> None:
    assert ConvectionDiffusion(resolution=50, scheme="central").cell_peclet == pytest.approx(1.0)
    with pytest.raises(InputError, match="oscillates above 1"):
        ConvectionDiffusion(resolution=49, scheme="central")


def test_a_diffusivity_that_is_not_positive_is_refused_by_name() -> None:
    problem = ConvectionDiffusion(resolution=9, diffusivity=[0.1, 1.0])
    inputs = problem.sample([0, 1], 0)
    inputs[1, 3] = 0.0
    with pytest.raises(InputError, match="diffusivity of sample 1"):
        problem.solve(inputs)
    with pytest.raises(InputError, match="at least 9 per axis"):
        swirling_wind(Grid((8, 8)), [0], 0)
