"""The assembly of -∇·(a∇u) + c u = f: bodies inside the box, reactions and boundary data."""

import dataclasses
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems import diffusion_system
from fieldwright.problems.diffusion import face_conductances, wall_source
from fieldwright.solvers import solve

MIXED = Boundary.parse([["dirichlet", "neumann"], ["neumann", "dirichlet"]], 2)


def random_coefficient(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def test_a_body_is_solved_as_if_it_were_alone_with_insulated_sides() -> None:
    grid, walls = Grid((12, 10)), Boundary.parse("neumann", 2)
    a, f = random_coefficient(2, 12, 10), random_coefficient(2, 12, 10)
    body = torch.zeros(12, 10, dtype=torch.bool)
    body[3:9, 2:7] = True
    whole = solve(diffusion_system(a, f, grid, walls, body=body, reaction=2.0), rtol=1e-12, method="scipy").values
    small = Grid((6, 5), "cell", (0.0, 0.0), (6 / 12, 5 / 10))
    inside = (slice(None), slice(3, 9), slice(2, 7))
    alone = solve(diffusion_system(a[inside], f[inside], small, walls, reaction=2.0), rtol=1e-12, method="scipy").values
    torch.testing.assert_close(whole[inside], alone, rtol=1e-10, atol=1e-12)
    assert not whole[:, ~body].any()


def test_cells_outside_a_body_are_rows_of_their_own_whatever_stands_there() -> None:
    grid, body = Grid((6, 6)), random_coefficient(2, 6, 6) > 0.8
    a, f = random_coefficient(2, 6, 6), random_coefficient(2, 6, 6)
    system = diffusion_system(a, f, grid, MIXED, body=body)
    spoilt = diffusion_system(torch.where(body, a, torch.nan), torch.where(body, f, torch.inf), grid, MIXED, body=body)
    assert torch.equal(spoilt.coefficients, system.coefficients)
    assert torch.equal(spoilt.rhs, system.rhs)
    matrix = torch.from_numpy(system.to_csr(1).toarray())
    outside = ~body[1].flatten()
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix[outside], torch.diag(matrix.diagonal())[outside])


def test_conductances_vanish_at_walls_and_at_the_surface_of_a_body() -> None:
    grid, body = Grid((4, 3)), torch.ones(1, 4, 3, dtype=torch.bool)
    body[0, 2, 1] = False
    along_x, along_y = face_conductances(torch.ones(1, 4, 3, dtype=torch.float64), grid, MIXED, body=body)
    assert along_x[0].tolist() == [[16, 16, 16], [16, 0, 16], [16, 0, 16], [0, 0, 0]]
    torch.testing.assert_close(along_y[0, :, 1], torch.tensor([9.0, 9.0, 0.0, 9.0], dtype=torch.float64))
    assert not along_y[0, :, 2].any()


def test_a_reaction_makes_row_sums_and_takes_the_kernel_away() -> None:
    grid, walls = Grid((5, 5)), Boundary.parse("neumann", 2)
    a, c = random_coefficient(1, 5, 5), random_coefficient(1, 5, 5)
    system = diffusion_system(a, a, grid, walls, reaction=c)
    assert not system.nullspace
    torch.testing.assert_close(system.apply(torch.ones_like(a)), c, rtol=1e-12, atol=1e-11)
    assert diffusion_system(a, a, grid, walls).nullspace


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_linear_fields_are_reproduced_from_their_values_and_slopes_at_the_walls(dimension: int) -> None:
    grid = Grid((5, 6, 4)[:dimension])
    walls = Boundary.parse([["dirichlet", "neumann"], ["neumann", "dirichlet"], "dirichlet"][:dimension], dimension)
    slopes = torch.tensor([1.0, -3.0, 0.5], dtype=torch.float64)[:dimension]
    u = (2.0 + torch.tensordot(slopes, grid.coordinates(), 1))[None]
    a = torch.ones_like(u)
    system = diffusion_system(a, wall_source(a, u, grid, walls), grid, walls)
    torch.testing.assert_close(solve(system, rtol=1e-12, method="scipy").values, u, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("walls", [MIXED, Boundary.parse("dirichlet", 2), Boundary.parse("neumann", 2)])
def test_solutions_with_boundary_data_converge_to_second_order(walls: Boundary) -> None:
    errors = []
    for n in (64, 128):
        grid = Grid((n, n))
        x, y = grid.coordinates()
        u, a = (torch.exp(x) * torch.cos(2 * y + 0.3))[None], (1 + x * (1 - x) * y * (1 - y))[None]
        # Δu = -3u; a = 1 on the walls, so that the flux there is the slope.
        across, along = (1 - 2 * x) * y * (1 - y), x * (1 - x) * (1 - 2 * y)
        f = 3 * a * u - across * u + 2 * along * torch.exp(x) * torch.sin(2 * y + 0.3)
        source = f + wall_source(a, u, grid, walls)
        system = diffusion_system(a, source, grid, walls)
        if system.nullspace:
            system = dataclasses.replace(system, rhs=source - source.mean())
            u = u - u.mean()
        value = solve(system, rtol=1e-11, method="scipy").values
        errors.append(float((value - u).norm() / u.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_assembly_is_differentiable_in_all_that_it_is_given() -> None:
    grid, body = Grid((3, 4)), torch.ones(3, 4, dtype=torch.bool)
    body[1, 1] = False
    given = [random_coefficient(1, 3, 4).requires_grad_() for _ in range(4)]

    def residual(a, f, c, g):
        source = f + wall_source(a, g, grid, MIXED, body=body)
        return diffusion_system(a, source, grid, MIXED, body=body, reaction=c).residual(torch.ones_like(f))

    assert torch.autograd.gradcheck(residual, given)


def test_a_body_without_a_unique_solution_is_refused() -> None:
    ones = torch.ones(1, 4, 4, dtype=torch.float64)
    with pytest.raises(InputError, match="no unique solution"):
        diffusion_system(ones, ones, Grid((4, 4)), Boundary.parse("neumann", 2), body=ones[0] > 0)
    with pytest.raises(InputError, match="at least 3"):
        wall_source(ones[..., :2], ones[..., :2], Grid((4, 2)), MIXED)
