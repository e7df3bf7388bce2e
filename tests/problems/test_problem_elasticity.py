"""Linear elasticity: patch test, rigid motions, convergence, and a beam that bends as beams do."""

import math

import pytest
import torch

from fieldwright.datasets.generate import generate
from fieldwright.datasets.read import FieldDataset
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import Elasticity
from fieldwright.problems.elasticity import clamped_plate, elastic_plate
from fieldwright.solvers import solve
from fieldwright.solvers.stencil import shifted

GRID = Grid((6, 7), "node", upper=(1.0, 1.2))


def random_modulus(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def stress(gradient: torch.Tensor, modulus, ratio: float, plane: str) -> torch.Tensor:
    """σ of a displacement gradient (component, axis, ...)."""
    mu = modulus / (2 * (1 + ratio))
    lam = modulus * ratio / ((1 + ratio) * (1 - 2 * ratio) if plane == "strain" else 1 - ratio**2)
    pressure = lam * (gradient[0, 0] + gradient[1, 1])
    identity = torch.eye(2, dtype=torch.float64).reshape(2, 2, *[1] * (gradient.ndim - 2))
    return mu * (gradient + gradient.transpose(0, 1)) + pressure * identity


def internal_force(stiffness: dict, displacement: torch.Tensor) -> torch.Tensor:
    return sum(c * shifted(displacement, offset, (False,) * 3) for offset, c in stiffness.items())  # type: ignore[return-value]


@pytest.mark.parametrize("plane", ["strain", "stress"])
def test_linear_displacements_are_balanced_inside_and_pull_at_the_walls_with_their_stress(plane) -> None:
    gradient = torch.tensor([[0.3, 2.0], [1.0, -0.7]], dtype=torch.float64)
    u = torch.tensordot(gradient, GRID.coordinates(), 1)[None] + 4.0
    stiffness = elastic_plate(torch.ones(1, 6, 7, dtype=torch.float64), GRID, poisson_ratio=0.3, plane=plane)
    force = internal_force(stiffness, u)
    assert float(force[..., 1:-1, 1:-1].abs().max()) < 1e-11
    # The traction σ·n of a side, spread over its nodes: h per node, divided by h² as the system is.
    sigma, h = stress(gradient, 1.0, 0.3, plane), GRID.spacing[0]
    torch.testing.assert_close(force[0, :, -1, 2], sigma[:, 0] / h, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(force[0, :, 2, 0], -sigma[:, 1] / h, rtol=1e-11, atol=1e-11)


def test_rigid_motions_and_nothing_else_are_free_of_stress() -> None:
    grid = Grid((4, 5), "node", upper=(0.6, 0.8))
    stiffness = elastic_plate(random_modulus(1, 4, 5), grid, poisson_ratio=0.3, plane="strain")
    columns = torch.eye(40, dtype=torch.float64).reshape(40, 2, 4, 5)
    matrix = torch.cat([internal_force(stiffness, column[None]) for column in columns]).reshape(40, 40)
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=0)
    values = torch.linalg.eigvalsh(matrix)
    assert float(values[:3].abs().max()) < 1e-12 * float(values[-1])
    assert float(values[3]) > 1e-3 * float(values[-1])
    x, y = grid.coordinates()
    for motion in (torch.stack([torch.ones_like(x), 0 * x]), torch.stack([-y, x])):
        assert float(internal_force(stiffness, motion[None]).abs().max()) < 1e-11


@pytest.mark.parametrize(
    ("plane", "clamped"), [("strain", "left, right, bottom, top"), ("stress", "left,right"), ("strain", "left")]
)
def test_solutions_converge_to_second_order(plane, clamped: str) -> None:
    errors, ratio = [], 0.3
    for n in (33, 65):
        problem = Elasticity(
            resolution=n, plane=plane, load="gaussian", modulus="log-normal", poisson_ratio=ratio, clamped=clamped
        )
        x = problem.grid.coordinates().requires_grad_()
        shape = torch.ones(())
        for axis, pair in enumerate(problem.boundary.sides):
            # Zero on clamped sides; with double zeros on free ones, which leaves them without traction.
            both = pair == ("dirichlet", "dirichlet")
            shape = shape * (torch.sin(math.pi * x[axis]) if both else 16 * (x[axis] * (1 - x[axis])) ** 2)
        exact = torch.stack([shape * torch.cos(x[1] + 0.3 * x[0]), shape * torch.exp(0.5 * x[0])])
        modulus = 1 + 0.5 * torch.sin(2 * x.sum(0))
        gradient = torch.stack([torch.autograd.grad(part.sum(), x, create_graph=True)[0] for part in exact])
        sigma = stress(gradient, modulus, ratio, plane)
        force = [
            -sum(torch.autograd.grad(sigma[i, j].sum(), x, retain_graph=True)[0][j] for j in range(2)) for i in range(2)
        ]
        outputs, _ = problem.solve(torch.stack([modulus, *force]).detach()[None], rtol=1e-9, method="scipy")
        errors.append(float((outputs[0] - exact.detach()).norm() / exact.detach().norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_hanging_strip_stretches_by_its_weight() -> None:
    # ν = 0 leaves no contraction: u_y'' E = f, fixed above and free below.
    problem = Elasticity(resolution=9, modulus="uniform", high=4.0, poisson_ratio=0.0, clamped="top", force=3.0)
    outputs, _ = problem.solve(problem.sample([0], 0), method="scipy")
    y = problem.grid.axis(1)
    exact = (3.0 / 4.0) * (y**2 - 1) / 2
    torch.testing.assert_close(outputs[0, 1], exact.expand(9, 9), rtol=1e-9, atol=1e-12)
    assert float(outputs[0, 0].abs().max()) < 1e-12


def test_systems_are_symmetric_positive_definite_with_clamped_rows_of_their_own() -> None:
    problem = Elasticity(resolution=6, clamped="left, top")
    system = problem.system(problem.sample([1], 0))
    assert system.kind == "spd"
    matrix = torch.from_numpy(system.to_csr(0).toarray())
    assert torch.equal(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0
    held = torch.zeros(2, 6, 6, dtype=torch.bool)
    held[:, 0], held[:, :, -1] = True, True
    rows = matrix[held.flatten()]
    assert int((rows != 0).sum()) == int(held.sum())
    assert not system.rhs[0][held].any()


@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (Elasticity(resolution=9), 2),
        (Elasticity(resolution=9, clamped="left"), 1),
        (Elasticity(resolution=9, load="gaussian", clamped="left,right,top,bottom"), 8),
        (Elasticity(resolution=9, load="gaussian", clamped="left,bottom"), 2),
    ],
)
def test_solution_commutes_with_every_symmetry_that_turns_the_displacement(problem: Elasticity, count: int) -> None:
    inputs = problem.sample([0], 1)
    outputs, solution = problem.solve(inputs, method="scipy")
    assert bool(solution.converged.all())
    assert len(problem.symmetries()) == count
    for symmetry in problem.symmetries():
        moved, _ = problem.solve(symmetry(inputs), method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-8, atol=1e-11)


def test_energy_is_half_the_work_of_the_load() -> None:
    problem = Elasticity(resolution=12, load="gaussian")
    inputs = problem.sample([0, 1], 0)
    outputs, _ = problem.solve(inputs, rtol=1e-12, method="scipy")
    work = (outputs * problem.system(inputs).rhs).flatten(1).sum(1)
    torch.testing.assert_close(problem.energy_norm(inputs, outputs).square(), work, rtol=1e-9, atol=0)
    assert float(problem.balance(inputs, outputs)["flux"].max()) < 1e-9


def test_moduli_are_drawn_as_documented() -> None:
    phases = Elasticity(resolution=16).sample(range(50), 0)
    assert set(phases.unique().tolist()) == {1.0, 5.0}
    smooth = Elasticity(resolution=33, modulus="log-normal", load="gaussian", force=2.0, tau=8.0).sample(range(200), 0)
    weights = Grid((33, 33), "node").quadrature()
    deviations = (smooth.square() * weights).sum((2, 3)).mean(0).sqrt()
    assert float((smooth[:, 0].log().square() * weights).sum((1, 2)).mean().sqrt()) == pytest.approx(0.5, rel=0.05)
    assert deviations[1:].tolist() == pytest.approx([2.0, 2.0], rel=0.05)
    even = Elasticity(resolution=31, modulus="uniform", high=2.0).sample([0], 0)
    assert torch.equal(even, torch.full_like(even, 2.0))


def test_residual_is_differentiable_in_inputs_and_outputs() -> None:
    problem = Elasticity(resolution=4, load="gaussian")
    inputs = problem.sample([0], 0).requires_grad_()
    outputs = torch.rand(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs))


def test_a_dataset_holds_the_displacement_as_a_vector(tmp_path) -> None:
    problem = Elasticity(resolution=8)
    generate(problem, tmp_path / "data", counts={"train": 2}, seed=0, solver="scipy")
    data = FieldDataset(tmp_path / "data", "train")
    assert list(data.output_names) == ["displacement_x", "displacement_y"]
    expected, _ = problem.solve(problem.sample([0, 1], 0), method="scipy")
    torch.testing.assert_close(data.batch([0, 1])[1], expected.float(), rtol=1e-5, atol=1e-6)


def test_shifts_are_harder_relatives() -> None:
    assert set(Elasticity(resolution=16).shifts()) == {"contrast 10 instead of 5", "correlation length halved"}
    assert "log-deviation 1.5 times as large" in Elasticity(resolution=16, modulus="log-normal").shifts()
    assert Elasticity(resolution=16, modulus="uniform").shifts() == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clamped": ""}, "one or more of left, right, bottom, top"),
        ({"clamped": "left, floor"}, "one or more of left, right, bottom, top"),
        ({"poisson_ratio": 0.49}, "0 to 0.45"),
        ({"modulus": "soft"}, "two-phase, log-normal, uniform"),
        ({"plane": "flat"}, "strain, stress"),
        ({"load": "wind"}, "gravity, gaussian"),
        ({"force": 0.0}, "positive number"),
        ({"resolution": 3}, "at least 4"),
        ({"alpha": 0.5}, "alpha > 1"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Elasticity(**settings)
    assert "\n" not in str(caught.value)


def test_unusable_moduli_and_elements_are_refused_by_name() -> None:
    problem = Elasticity(resolution=6)
    inputs = problem.sample([0, 1], 0)
    inputs[1, 0, 2, 2] = 0.0
    with pytest.raises(InputError, match="modulus of sample 1"):
        problem.solve(inputs)
    with pytest.raises(InputError, match="squares are needed"):
        elastic_plate(
            random_modulus(1, 6, 6), Grid((6, 6), "node", upper=(1.0, 2.0)), poisson_ratio=0.3, plane="stress"
        )


def test_a_plate_may_be_clamped_by_hand_on_any_sides() -> None:
    force = torch.ones(1, 2, 6, 7, dtype=torch.float64)
    stiffness = elastic_plate(random_modulus(1, 6, 7), GRID, poisson_ratio=0.2, plane="stress")
    system = clamped_plate(stiffness, force, Elasticity(clamped="right").boundary)
    values = solve(system, rtol=1e-10, method="scipy").values
    assert not values[:, :, -1].any()
    assert bool((values[:, :, :-1].abs() > 0).all())
