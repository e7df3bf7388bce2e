import pytest
import torch

from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.newton import ImplicitStep, implicit_step
from fieldwright.solvers.two_point_flux import TwoPointFlux

DEGREES = torch.tensor([1.0, 2.5, 6.0], dtype=torch.float64)


def power(u: torch.Tensor, samples: torch.Tensor):
    m = DEGREES[samples].reshape(-1, *[1] * (u.ndim - 1))
    filled = u.clamp_min(0.0)
    return filled ** (m + 1) / (m + 1), filled**m


def melting(u: torch.Tensor, samples: torch.Tensor):
    return (u - 0.6).clamp_min(0.0), (u >= 0.6).double()


def drops(shape: tuple[int, ...], batch: int = 3) -> torch.Tensor:
    """A bump with compact support per sample, each a little larger."""
    places = Grid(shape).coordinates() - 0.4
    sizes = 0.15 + 0.05 * torch.arange(batch, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    return 1.5 * (1 - places.square().sum(0) / sizes**2).clamp_min(0.0)


def step(shape, walls, potential, tau: float, b=None, **options) -> tuple[ImplicitStep, torch.Tensor, TwoPointFlux]:
    b = drops(shape) if b is None else b
    operator = TwoPointFlux.uniform(Grid(shape), Boundary.parse(walls, len(shape)))
    taus = torch.full((len(b),), tau, dtype=torch.float64)
    return implicit_step(b, b, taus, operator, potential, positive=True, **options), b, operator


CASES = [
    ((40,), "neumann"), ((40,), "dirichlet"), ((40,), "periodic"),
    ((12, 14), "neumann"), ((12, 14), "dirichlet"), ((12, 12), "periodic"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "walls"), CASES)
@pytest.mark.parametrize(("potential", "damped"), [(power, True), (melting, False)])
def test_states_solve_the_implicit_equation(shape, walls: str, potential, damped: bool) -> None:
    found, b, operator = step(shape, walls, potential, 0.02, damped=damped)
    assert bool(found.converged.all())
    defect = found.state + 0.02 * operator.apply(potential(found.state, torch.arange(3))[0]) - b
    assert float(defect.abs().sum() / b.abs().sum()) < 1e-7
    assert float((found.state - b).abs().max()) > 0.1
    assert float(found.state.min()) >= 0
    torch.testing.assert_close(found.potential, potential(found.state, torch.arange(3))[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", [(60,), (12, 14)])
@pytest.mark.parametrize(("potential", "damped"), [(power, True), (melting, False)])
def test_closed_walls_keep_the_mass_to_round_off_for_steps_of_any_size(shape, potential, damped: bool) -> None:
    for tau in (1e-4, 0.1, 10.0):
        found, b, _ = step(shape, "neumann", potential, tau, damped=damped)
        assert bool(found.converged.all())
        torch.testing.assert_close(found.state.flatten(1).sum(1), b.flatten(1).sum(1), rtol=1e-13, atol=0)


def test_more_at_the_start_is_nowhere_less_later() -> None:
    less, b, _ = step((50,), "neumann", power, 0.05)
    more, _, _ = step((50,), "neumann", power, 0.05, b=b + 0.1 * drops((50,)).flip(1))
    assert float((more.state - less.state).min()) > -1e-9


@pytest.mark.parametrize("shape", [(40,), (12, 14)])
def test_bits_of_a_sample_do_not_depend_on_its_batch(shape) -> None:
    together, b, operator = step(shape, "neumann", power, 0.05)
    for sample in range(3):
        alone = implicit_step(
            b[[sample]], b[[sample]], torch.tensor([0.05], dtype=torch.float64), operator,
            lambda u, samples, own=sample: power(u, torch.full_like(samples, own)), positive=True,
        )  # fmt: skip
        assert torch.equal(alone.state[0], together.state[sample])


def test_what_does_not_converge_is_nan_and_leaves_its_neighbours_alone() -> None:
    sound, b, _ = step((40,), "neumann", power, 0.05)
    b[1, 3] = torch.nan
    broken, _, _ = step((40,), "neumann", power, 0.05, b=b)
    assert broken.converged.tolist() == [True, False, True]
    assert bool(broken.state[1].isnan().all())
    assert torch.equal(broken.state[[0, 2]], sound.state[[0, 2]])
    cut_short, _, _ = step((40,), "neumann", power, 0.05, limit=1)
    assert not bool(cut_short.converged.any())
    assert bool(cut_short.state.isnan().all())


def test_empty_cells_stay_empty_when_nothing_flows_in() -> None:
    found, _, _ = step((40,), "neumann", power, 0.05, b=torch.zeros(3, 40, dtype=torch.float64))
    assert bool(found.converged.all())
    assert float(found.state.abs().max()) == 0
    frozen = 0.5 * drops((40,)).clamp_max(1.0)
    stays, _, _ = step((40,), "neumann", melting, 0.05, b=frozen, damped=False)
    assert torch.equal(stays.state, frozen)
