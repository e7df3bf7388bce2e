import math

import pytest
import torch

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.exponential import diffusion_flow
from fieldwright.solvers.two_point_flux import TwoPointFlux


def random_operator(shape: tuple[int, ...], batch: int, seed: int = 0) -> TwoPointFlux:
    generator = torch.Generator().manual_seed(seed)
    faces = []
    for axis in range(len(shape)):
        face = 5 * torch.rand(batch, *shape, dtype=torch.float64, generator=generator)
        face.select(axis + 1, -1).zero_()
        faces.append(face)
    return TwoPointFlux(tuple(faces), None, Boundary.parse("neumann", len(shape)))


def random_state(shape: tuple[int, ...], batch: int) -> torch.Tensor:
    return torch.rand(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def matrix_of(operator: TwoPointFlux, sample: int) -> torch.Tensor:
    shape = operator.faces[0].shape[1:]
    one = TwoPointFlux(tuple(face[sample : sample + 1] for face in operator.faces), operator.wall, operator.boundary)
    columns = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return one.apply(columns).flatten(1).T


@pytest.mark.parametrize("shape", [(7,), (5, 9), (4, 3, 6)])
@pytest.mark.parametrize("tau", [0.0, 0.05, 4.0])
def test_flow_is_the_matrix_exponential(shape: tuple[int, ...], tau: float) -> None:
    operator, u = random_operator(shape, 3), random_state(shape, 3)
    flow = diffusion_flow(operator, tau)
    for found in (flow(u), flow.in_torch(u)):
        for sample in range(3):
            expected = torch.linalg.matrix_exp(-tau * matrix_of(operator, sample)) @ u[sample].flatten()
            torch.testing.assert_close(found[sample].flatten(), expected, rtol=0, atol=3e-14)


@pytest.mark.parametrize("multiple", [0.1, 10.0, 1e4])
def test_mass_and_bounds_are_kept_for_steps_of_any_size(multiple: float) -> None:
    operator = random_operator((12, 10), 2)
    explicit = 1 / float(operator.diagonal.max())
    u = (random_state((12, 10), 2) > 0.9).double()
    later = diffusion_flow(operator, multiple * explicit)(u)
    torch.testing.assert_close(later.flatten(1).sum(1), u.flatten(1).sum(1), rtol=1e-12, atol=0)
    assert float(later.min()) > -1e-13
    assert float(later.max()) < 1 + 1e-13
    if multiple == 1e4:
        means = u.flatten(1).mean(1)[:, None, None].expand_as(u)
        torch.testing.assert_close(later, means, rtol=0, atol=1e-10)


def test_two_half_steps_are_one_step() -> None:
    operator, u = random_operator((9, 8), 2), random_state((9, 8), 2)
    half = diffusion_flow(operator, 0.3)
    torch.testing.assert_close(half(half(u)), diffusion_flow(operator, 0.6)(u), rtol=0, atol=1e-13)


def test_one_operator_serves_a_whole_batch() -> None:
    operator = TwoPointFlux.uniform(Grid((6, 7)), Boundary.parse("neumann", 2))
    flow, u = diffusion_flow(operator, 0.01), random_state((6, 7), 4)
    torch.testing.assert_close(flow(u), flow.in_torch(u), rtol=0, atol=1e-14)
    assert torch.equal(flow(u)[2:3], flow(u[2:3]))


def test_bits_of_a_sample_do_not_depend_on_how_stiff_its_neighbours_are() -> None:
    operator, u = random_operator((8, 6), 3), random_state((8, 6), 3)
    faces = tuple(face * torch.tensor([1.0, 1e3, 1e-2]).double().reshape(3, 1, 1) for face in operator.faces)
    flow = diffusion_flow(TwoPointFlux(faces, None, operator.boundary), 0.1)
    assert len(set(flow.degrees.tolist())) == 3
    for sample in range(3):
        alone = diffusion_flow(TwoPointFlux(tuple(f[[sample]] for f in faces), None, operator.boundary), 0.1)
        assert torch.equal(alone(u[[sample]])[0], flow(u)[sample])
        assert torch.equal(alone.in_torch(u[[sample]])[0], flow.in_torch(u)[sample])


def test_flow_is_differentiable_in_the_state_and_the_conductances() -> None:
    operator = random_operator((3, 4), 2)
    u = random_state((3, 4), 2).requires_grad_()
    faces = [face.requires_grad_() for face in operator.faces]

    def later(u: torch.Tensor, *faces: torch.Tensor) -> torch.Tensor:
        return diffusion_flow(TwoPointFlux(faces, None, operator.boundary), 0.2)(u)

    assert torch.autograd.gradcheck(later, (u, *faces))


def test_a_broken_sample_is_nan_and_leaves_its_neighbours_alone() -> None:
    operator, u = random_operator((8, 6), 3), random_state((8, 6), 3)
    sound = diffusion_flow(operator, 0.1)(u)
    for wrong in (torch.nan, 1e30):
        faces = tuple(face.clone() for face in operator.faces)
        faces[0][1, 2, 2] = wrong
        later = diffusion_flow(TwoPointFlux(faces, None, operator.boundary), 0.1)(u)
        assert bool(later[1].isnan().all())
        assert torch.equal(later[[0, 2]], sound[[0, 2]])


def test_open_walls_are_refused() -> None:
    for word in ("dirichlet", "periodic"):
        with pytest.raises(SolverError, match="closed on every axis"):
            diffusion_flow(TwoPointFlux.uniform(Grid((4, 4)), Boundary.parse(word, 2)), 0.1)
