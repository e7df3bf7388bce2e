import pytest
import torch

from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.newton import ImplicitStep, implicit_step, in_torch
from fieldwright.solvers.potentials import Potential
from fieldwright.solvers.two_point_flux import TwoPointFlux

NUMBERS = {"linear": [0.5, 1.0, 2.0], "power": [1.0, 2.5, 6.0], "threshold": [0.5, 0.6, 0.7]}
families = pytest.mark.parametrize("family", list(NUMBERS))


def potential_of(family, dimension: int) -> Potential:
    return Potential(family, torch.tensor(NUMBERS[family], dtype=torch.float64).reshape(-1, *[1] * dimension))


def drops(shape: tuple[int, ...], batch: int = 3) -> torch.Tensor:
    """A bump with compact support per sample, each a little larger."""
    places = Grid(shape).coordinates() - 0.4
    sizes = 0.15 + 0.05 * torch.arange(batch, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    return 1.5 * (1 - places.square().sum(0) / sizes**2).clamp_min(0.0)


def step(
    shape, walls, family, tau: float, *, b=None, solver=implicit_step, **options
) -> tuple[ImplicitStep, torch.Tensor, TwoPointFlux]:
    b = drops(shape) if b is None else b
    operator = TwoPointFlux.uniform(Grid(shape), Boundary.parse(walls, len(shape)))
    taus = torch.full((len(b),), tau, dtype=torch.float64)
    return solver(b, b, taus, operator, potential_of(family, len(shape)), **options), b, operator


CASES = [
    ((40,), "neumann"), ((40,), "dirichlet"), ((40,), "periodic"),
    ((12, 14), "neumann"), ((12, 14), "dirichlet"), ((12, 12), "periodic"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "walls"), CASES)
@families
def test_states_solve_the_implicit_equation(shape, walls: str, family) -> None:
    found, b, operator = step(shape, walls, family, 0.02)
    assert bool(found.converged.all())
    w, _ = potential_of(family, len(shape))(found.state)
    assert float((found.state + 0.02 * operator.apply(w) - b).abs().sum() / b.abs().sum()) < 1e-7
    assert float((found.state - b).abs().max()) > 0.1
    assert float(found.state.min()) >= 0
    torch.testing.assert_close(found.potential, w, rtol=1e-7, atol=1e-9)


@families
@pytest.mark.parametrize("walls", ["neumann", [["dirichlet", "neumann"]]])
def test_compiled_lines_and_torch_take_the_same_steps(family, walls) -> None:
    for tau in (1e-4, 0.05, 10.0):
        lines, _, _ = step((33,), walls, family, tau)
        batch, _, _ = step((33,), walls, family, tau, solver=in_torch)
        assert lines.iterations == batch.iterations
        torch.testing.assert_close(lines.state, batch.state, rtol=0, atol=1e-10)
        torch.testing.assert_close(lines.potential, batch.potential, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "solver"), [((60,), implicit_step), ((60,), in_torch), ((12, 14), implicit_step)])
@families
def test_closed_walls_keep_the_mass_to_round_off_for_steps_of_any_size(shape, solver, family) -> None:
    for tau in (1e-4, 0.1, 10.0):
        found, b, _ = step(shape, "neumann", family, tau, solver=solver)
        assert bool(found.converged.all())
        torch.testing.assert_close(found.state.flatten(1).sum(1), b.flatten(1).sum(1), rtol=1e-13, atol=0)


@families
def test_more_at_the_start_is_nowhere_less_later(family) -> None:
    less, b, _ = step((50,), "neumann", family, 0.05)
    more, _, _ = step((50,), "neumann", family, 0.05, b=b + 0.1 * drops((50,)).flip(1))
    assert float((more.state - less.state).min()) > -1e-9


@pytest.mark.parametrize(("shape", "solver"), [((40,), implicit_step), ((40,), in_torch), ((12, 14), implicit_step)])
def test_bits_of_a_sample_do_not_depend_on_its_batch(shape, solver) -> None:
    together, b, operator = step(shape, "neumann", "power", 0.05, solver=solver)
    tau = torch.tensor([0.05], dtype=torch.float64)
    for sample in range(3):
        potential = potential_of("power", len(shape)).select(torch.tensor([sample]))
        alone = solver(b[[sample]], b[[sample]], tau, operator, potential)
        assert torch.equal(alone.state[0], together.state[sample])


@pytest.mark.parametrize(("shape", "solver"), [((40,), implicit_step), ((40,), in_torch), ((12, 14), implicit_step)])
def test_what_does_not_converge_is_nan_and_leaves_its_neighbours_alone(shape, solver) -> None:
    sound, b, _ = step(shape, "neumann", "power", 0.05, solver=solver)
    b[1, 3] = torch.nan
    broken, _, _ = step(shape, "neumann", "power", 0.05, b=b, solver=solver)
    assert broken.converged.tolist() == [True, False, True]
    assert bool(broken.state[1].isnan().all())
    assert torch.equal(broken.state[[0, 2]], sound.state[[0, 2]])
    cut_short, _, _ = step(shape, "neumann", "power", 0.05, limit=1, solver=solver)
    assert not bool(cut_short.converged.any())
    assert bool(cut_short.state.isnan().all())


@pytest.mark.parametrize("solver", [implicit_step, in_torch])
def test_empty_cells_stay_empty_and_what_is_below_the_threshold_stays(solver) -> None:
    found, _, _ = step((40,), "neumann", "power", 0.05, b=torch.zeros(3, 40, dtype=torch.float64), solver=solver)
    assert bool(found.converged.all())
    assert float(found.state.abs().max()) == 0
    frozen = 0.3 * drops((40,))
    stays, _, _ = step((40,), "neumann", "threshold", 0.05, b=frozen, solver=solver)
    assert torch.equal(stays.state, frozen)


@families
def test_slope_is_the_derivative_of_the_potential(family) -> None:
    u = torch.tensor([[0.1, 0.55, 0.9, 2.0]] * 3, dtype=torch.float64).requires_grad_()
    potential = potential_of(family, 1)
    w, k = potential(u)
    (slope,) = torch.autograd.grad(w.sum(), u)
    torch.testing.assert_close(slope, k.detach())
    assert torch.autograd.gradcheck(
        lambda u, number: Potential(family, number)(u)[0], (u, potential.number.clone().requires_grad_())
    )
    below, none = potential(-u.detach())
    if potential.positive:
        assert float(below.abs().max()) == float(none.abs().max()) == 0
