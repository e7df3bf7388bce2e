import dataclasses
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.problems import PROBLEMS, Darcy, Poisson, Problem, SteadyProblem, diffusion_system
from fieldwright.solvers import solve

MIXED = [["dirichlet", "neumann"], ["neumann", "dirichlet"]]


def manufactured(problem: Problem, smooth: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coefficient, source and solution with u = Π sin or cos matched to the walls, on the problem's cells."""
    x = problem.grid.coordinates().requires_grad_()
    waves = {
        ("dirichlet", "dirichlet"): lambda s: torch.sin(2 * math.pi * s),
        ("neumann", "neumann"): lambda s: torch.cos(math.pi * s),
        ("dirichlet", "neumann"): lambda s: torch.sin(math.pi / 2 * s),
        ("neumann", "dirichlet"): lambda s: torch.cos(math.pi / 2 * s),
        ("periodic", "periodic"): lambda s: torch.sin(2 * math.pi * s) + torch.cos(4 * math.pi * s),
    }
    u = torch.ones(())
    for axis, pair in enumerate(problem.boundary.sides):
        u = u * waves[pair](x[axis])
    a = 1.0 + 0.5 * torch.sin(3 * x.sum(0)) if smooth else torch.ones_like(u)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    source = torch.zeros_like(u)
    for axis in range(problem.grid.dimension):
        source = source - torch.autograd.grad((a * slope[axis]).sum(), x, retain_graph=True)[0][axis]
    return a.detach()[None], source.detach()[None], u.detach()[None]


@pytest.mark.parametrize(
    ("make", "smooth", "sizes"),
    [
        (lambda n: Darcy(resolution=n, dimension=1), True, (32, 64, 128)),
        (lambda n: Darcy(resolution=n), True, (16, 32, 64)),
        (lambda n: Darcy(resolution=n, walls=MIXED), True, (16, 32, 64)),
        (lambda n: Darcy(resolution=n, walls=["neumann", "dirichlet"]), True, (16, 32, 64)),
        (lambda n: Darcy(resolution=n, dimension=3), True, (8, 12, 16)),
        (lambda n: Poisson(resolution=n), False, (16, 32, 64)),
        (lambda n: Poisson(resolution=n, walls="neumann"), False, (16, 32, 64)),
        (lambda n: Poisson(resolution=n, walls="periodic"), False, (16, 32, 64)),
    ],
)
def test_discrete_solution_converges_to_the_manufactured_one_to_second_order(make, smooth, sizes) -> None:
    errors = []
    for n in sizes:
        problem = make(n)
        a, f, u = manufactured(problem, smooth)
        system = diffusion_system(a, f, problem.grid, problem.boundary)
        if system.nullspace:
            system = dataclasses.replace(system, rhs=f - f.mean())
        value = solve(system, rtol=1e-10, method="scipy").values
        errors.append(float((value - u).norm() / u.norm()))
    orders = [math.log(errors[i] / errors[i + 1]) / math.log(sizes[i + 1] / sizes[i]) for i in range(2)]
    assert orders[-1] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    "problem", [Darcy(resolution=10), Darcy(resolution=6, dimension=3), Darcy(resolution=9, walls=MIXED)]
)
def test_matrix_is_symmetric_with_row_sums_from_walls_and_positive_inverse(problem: Darcy) -> None:
    inputs = problem.sample([0], 3)
    system = problem.system(inputs)
    matrix = system.to_csr(0).toarray()
    assert abs(matrix - matrix.T).max() == 0
    sums = matrix.sum(1).reshape(problem.grid.shape)
    n, h = problem.resolution, problem.grid.spacing[0]
    wall = torch.zeros(problem.grid.shape, dtype=torch.float64)
    for axis, pair in enumerate(problem.boundary.sides):
        for condition, cell in zip(pair, (0, n - 1), strict=True):
            if condition == "dirichlet":
                wall.select(axis, cell).add_(2 / h**2)
    expected = wall * inputs[0, 0]
    torch.testing.assert_close(torch.from_numpy(sums), expected, rtol=1e-10, atol=1e-9)
    # An M-matrix: the inverse has no negative entry, so a positive source gives a positive pressure.
    assert (torch.linalg.inv(torch.from_numpy(matrix)) > 0).all()


def test_operator_and_matrix_agree_on_every_kind_of_wall() -> None:
    generator = torch.Generator().manual_seed(0)
    for problem in (
        Darcy(resolution=7, walls=MIXED),
        Poisson(resolution=6, walls="periodic"),
        Darcy(resolution=5, dimension=3),
    ):
        system = problem.system(problem.sample([0, 1], 0))
        u = torch.rand(2, *problem.grid.shape, dtype=torch.float64, generator=generator)
        by_matrix = torch.from_numpy(system.to_csr(1) @ u[1].flatten().numpy()).reshape(problem.grid.shape)
        torch.testing.assert_close(system.apply(u)[1], by_matrix, rtol=1e-12, atol=1e-9)


def test_two_phase_permeability_takes_two_values_in_equal_shares() -> None:
    values = Darcy(resolution=32).sample(range(200), 0)
    assert set(values.unique().tolist()) == {3.0, 12.0}
    assert float((values == 12.0).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_log_normal_permeability_has_the_stated_deviation() -> None:
    problem = Darcy(resolution=32, coefficient="log-normal", deviation=0.8, tau=8.0)
    assert float(problem.sample(range(400), 0).log().square().mean().sqrt()) == pytest.approx(0.8, rel=0.05)


@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (Darcy(resolution=8), 8),
        (Darcy(resolution=6, dimension=3), 48),
        (Darcy(resolution=8, dimension=1), 2),
        (Darcy(resolution=8, walls=MIXED), 2),
        (Darcy(resolution=8, walls=["neumann", "dirichlet"]), 4),
        (Poisson(resolution=8, walls="periodic"), 2),
    ],
)
def test_solution_commutes_with_every_symmetry_of_the_box(problem: Problem, count: int) -> None:
    symmetries = problem.symmetries()
    assert len(symmetries) == count
    inputs = problem.sample([0], 1)
    outputs, _ = problem.solve(inputs, method="scipy")
    assert torch.equal(symmetries[0](inputs), inputs)
    images = {symmetry(inputs).numpy().tobytes() for symmetry in symmetries}
    assert len(images) == count
    for symmetry in symmetries:
        moved, _ = problem.solve(symmetry(inputs), method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "kind", sorted(kind for kind, problem in PROBLEMS.items() if issubclass(problem, SteadyProblem))
)
def test_exact_solutions_have_no_residual_and_balance_their_fluxes(kind: str) -> None:
    problem = PROBLEMS[kind](resolution=32)  # type: ignore[call-arg]
    inputs = problem.sample([0, 1, 2], 5)
    outputs, solution = problem.solve(inputs, method="scipy")
    assert bool(solution.converged.all())
    scale = problem.system(inputs).rhs.norm()  # type: ignore[attr-defined]
    assert float(problem.residual(inputs, outputs).norm() / scale) < 1e-10
    assert all(float(defect.max()) < 1e-10 for defect in problem.balance(inputs, outputs).values())
    assert float(problem.residual(inputs, torch.zeros_like(outputs)).norm() / scale) == pytest.approx(1.0)


def test_residual_is_differentiable_in_inputs_and_outputs() -> None:
    problem = Darcy(resolution=4)
    inputs = problem.sample([0], 0).requires_grad_()
    outputs = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs), atol=1e-4, rtol=1e-6)


def test_shifts_leave_the_training_distribution_and_keep_the_grid() -> None:
    for problem in (Darcy(resolution=16), Darcy(resolution=16, coefficient="log-normal"), Poisson(resolution=16)):
        here = problem.sample([0], 0)
        assert problem.shifts()
        for name, other in problem.shifts().items():
            assert other.grid == problem.grid, name
            assert not torch.equal(other.sample([0], 0), here), name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"coefficient": "uniform"}, "two-phase, log-normal, mixed, multiscale"),
        ({"dimension": 4}, "1, 2 and 3"),
        ({"resolution": 2}, "at least 4"),
        ({"low": -1.0}, "positive"),
        ({"walls": "neumann"}, "at least one Dirichlet"),
        ({"walls": "open"}, "dirichlet, neumann, periodic"),
        ({"walls": ["dirichlet"]}, "2 dimensions"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Darcy(**settings)
    assert "\n" not in str(caught.value)


def test_unusable_inputs_are_refused_by_name() -> None:
    problem = Darcy(resolution=8)
    good = problem.sample([0, 1], 0)
    with pytest.raises(InputError, match="sample 1 holds a NaN"):
        problem.solve(torch.where(torch.arange(2)[:, None, None, None] == 1, torch.nan, good))
    with pytest.raises(InputError, match=r"takes \(batch, 1, 8, 8\) with channels permeability"):
        problem.solve(good[..., :4])
    with pytest.raises(InputError, match="sample 0 is not positive"):
        problem.solve(-good)
