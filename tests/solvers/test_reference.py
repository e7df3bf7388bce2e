"""SciPy, one sample after the other."""

import torch
from assembled import convection, diffusion, exact, fields, helmholtz

from fieldwright.solvers.reference import reference


def test_agrees_with_dense_algebra_for_every_wall(walls):
    f = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = diffusion(fields((7, 6), 2, 0, 8.0), f, walls)
    solution = reference(system, rtol=1e-10)
    assert solution.failed == []
    assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-9 * float(exact(system).abs().max()))


def test_takes_any_kind():
    for system in (convection(9, 2), helmholtz((9, 8), 2)):
        assert torch.allclose(reference(system).values, exact(system), atol=1e-10)


def test_zero_right_hand_side_has_the_solution_zero():
    system = diffusion(fields((5, 5), 2, 0, 2.0), torch.zeros(2, 5, 5, dtype=torch.float64))
    solution = reference(system)
    assert torch.equal(solution.values, torch.zeros(2, 5, 5, dtype=torch.float64))
    assert solution.failed == []


def test_a_singular_matrix_is_reported_without_a_warning(recwarn):
    system = diffusion(fields((4, 4), 2, 0, 2.0))
    system.coefficients[1] = 0.0
    assert reference(system).failed == [1]
    assert len(recwarn) == 0
