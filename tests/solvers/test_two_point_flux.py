import itertools

import pytest
import torch

from fieldwright.grids import Boundary, Grid
from fieldwright.problems import diffusion_system
from fieldwright.solvers.two_point_flux import TwoPointFlux

WALLS = [
    ("neumann", (5,)),
    ("dirichlet", (4, 5)),
    ("periodic", (4, 5)),
    ([["dirichlet", "neumann"], ["neumann", "neumann"], ["neumann", "dirichlet"]], (3, 4, 5)),
]


def random_state(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("walls", "shape"), WALLS)
def test_uniform_operator_is_the_five_point_laplacian_of_its_walls(walls, shape: tuple[int, ...]) -> None:
    centring = "periodic" if walls == "periodic" else "cell"
    grid = Grid(shape, centring, (0.0,) * len(shape), tuple(1.0 + 0.5 * a for a in range(len(shape))))
    boundary = Boundary.parse(walls, len(shape))
    operator, u = TwoPointFlux.uniform(grid, boundary), random_state(shape)
    system = diffusion_system(torch.ones_like(u), torch.zeros_like(u), grid, boundary)
    torch.testing.assert_close(operator.apply(u), system.apply(u), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(operator.diagonal.expand_as(u), system.diagonal, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(6,), (4, 5), (3, 4, 3)])
def test_each_face_moves_what_it_takes_from_one_cell_into_the_next(shape: tuple[int, ...]) -> None:
    faces = []
    for axis in range(len(shape)):
        face = random_state(shape, axis + 1).abs()
        face.select(axis + 1, -1).zero_()
        faces.append(face)
    operator, u = TwoPointFlux(tuple(faces), None, Boundary.parse("neumann", len(shape))), random_state(shape)
    expected = torch.zeros_like(u)
    for cell in itertools.product(*map(range, shape)):
        for axis, face in enumerate(faces):
            beyond = list(cell)
            beyond[axis] += 1
            if beyond[axis] < shape[axis]:
                here, there = (slice(None), *cell), (slice(None), *beyond)
                flux = face[here] * (u[here] - u[there])
                expected[here] += flux
                expected[there] -= flux
    torch.testing.assert_close(operator.apply(u), expected, rtol=1e-13, atol=1e-13)
    assert float(operator.apply(u).flatten(1).sum(1).abs().max()) < 1e-13
    assert float(operator.apply(torch.ones_like(u)).abs().max()) == 0


def test_shifted_systems_are_the_shift_plus_tau_times_the_operator() -> None:
    grid, walls = Grid((4, 5)), Boundary.parse([["dirichlet", "neumann"], ["neumann", "neumann"]], 2)
    operator, u = TwoPointFlux.uniform(grid, walls), random_state((4, 5))
    shift, tau = random_state((4, 5), 3).abs() + 0.1, torch.tensor([0.2, 3.0], dtype=torch.float64).reshape(2, 1, 1)
    system = operator.shifted(shift, tau, u)
    torch.testing.assert_close(system.apply(u), shift * u + tau * operator.apply(u), rtol=1e-12, atol=1e-10)
    assert bool((torch.linalg.eigvalsh(torch.from_numpy(system.to_csr(1).toarray())) > 0).all())


def test_application_is_differentiable_and_follows_the_precision_asked_for() -> None:
    operator = TwoPointFlux.uniform(Grid((3, 3)), Boundary.parse("dirichlet", 2))
    assert torch.autograd.gradcheck(operator.apply, (random_state((3, 3)).requires_grad_(),))
    single = random_state((3, 3)).float()
    assert operator.to(single).apply(single).dtype == torch.float32
