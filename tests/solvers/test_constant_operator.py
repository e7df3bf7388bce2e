"""The constant-coefficient operator is what its transforms diagonalise, for every wall and centring."""

import pytest
import torch
from assembled import dense, diffusion, fields

from fieldwright.errors import SolverError
from fieldwright.solvers.constant_operator import axis_modes, nearest_constant_operator
from fieldwright.solvers.stencil import StencilSystem


@pytest.mark.parametrize("centring", ["cell", "node"])
@pytest.mark.parametrize("shape", [(8, 6), (7, 5)])
def test_solve_inverts_the_assembled_constant_operator(walls, centring, shape):
    f = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    system = diffusion(torch.tensor([2.0, 5.0], dtype=torch.float64)[:, None, None].expand(2, *shape), f, walls,
                       centring=centring)  # fmt: skip
    u = nearest_constant_operator(system).solve(system.rhs)
    assert torch.allclose(system.apply(u), system.rhs, atol=1e-10)


@pytest.mark.parametrize("centring", ["cell", "node"])
def test_diagonal_and_row_sums_are_those_of_the_matrix(walls, centring):
    system = diffusion(torch.full((1, 6, 8), 3.0, dtype=torch.float64), walls=walls, centring=centring, reaction=2.0)
    operator = nearest_constant_operator(system)
    matrix = dense(system)
    assert torch.allclose(operator.diagonal.flatten(), matrix.diagonal(), rtol=1e-10)
    assert torch.allclose(operator.row_sums().flatten(), matrix.sum(1), atol=1e-8)
    assert float(operator.shift) == pytest.approx(2.0)


def test_modes_are_orthonormal_for_every_pair_of_walls():
    for centring in ("cell", "node"):
        for low in ("dirichlet", "neumann"):
            for high in ("dirichlet", "neumann"):
                for n in (1, 2, 5, 8):
                    modes = axis_modes(n, centring, low, high)
                    assert torch.allclose(modes.matrix @ modes.matrix.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
                    assert torch.all(modes.eigenvalues > -1e-12)


def test_strengths_follow_anisotropy():
    a = torch.full((1, 8, 8), 1.5, dtype=torch.float64)
    operator = nearest_constant_operator(diffusion(a, spacing=(0.1, 1.0)))
    assert torch.allclose(operator.strength, torch.tensor([[150.0, 1.5]], dtype=torch.float64))


def test_strength_is_the_geometric_mean_of_couplings():
    system = diffusion(fields((9,), 3, 0, 50.0))
    faces = -system.coefficients[:, 1, :-1]
    assert torch.allclose(nearest_constant_operator(system).strength[:, 0], faces.log().mean(1).exp())


def test_an_axis_without_positive_coupling_is_refused():
    system = diffusion(torch.ones(1, 4, 4, dtype=torch.float64))
    coefficients = system.coefficients.clone()
    coefficients[:, 3:] *= -1
    with pytest.raises(SolverError, match="no positive mean coupling along axis 1"):
        nearest_constant_operator(StencilSystem(coefficients, system.rhs, system.offsets, system.boundary))
