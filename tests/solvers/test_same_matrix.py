"""One matrix, many right-hand sides: eliminated once or diagonalised by transforms."""

from dataclasses import replace

import pytest
import torch
from assembled import convection, dense, diffusion, exact, fields, helmholtz, two_phase
from components import complex_helmholtz, elasticity, swapped_pairs

from fieldwright.errors import SolverError
from fieldwright.solvers import solve
from fieldwright.solvers.direct import direct
from fieldwright.solvers.one_matrix import Matrix, of_one_matrix
from fieldwright.solvers.same_matrix import _by_dense, same_matrix, supports_same_matrix
from fieldwright.solvers.transform import supports_transform, transform


def _shared(system, batch, seed=0):
    """Random right-hand sides for the first matrix of a system, in its range."""
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(batch, *system.shape, generator=generator, dtype=torch.float64)
    if system.nullspace:
        f = f - f.flatten(1).mean(1).reshape(-1, *[1] * len(system.shape))
    coefficients = system.coefficients[:1].repeat(batch, *[1] * (system.coefficients.ndim - 1))
    return replace(system, coefficients=coefficients, rhs=f)


def _close(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-9 * float(b.abs().max()))


@pytest.mark.parametrize("kind", ["spd", "general"])
def test_agrees_with_dense_algebra_for_every_wall(walls, kind):
    system = replace(_shared(diffusion(fields((9, 7), 1, 0, 8.0), walls=walls), 11), kind=kind)
    solution = same_matrix(system, rtol=1e-11)
    assert solution.failed == []
    assert solution.fallbacks == 0
    assert _close(solution.values, exact(system))


@pytest.mark.parametrize(
    "system",
    [
        convection(17, 1),
        helmholtz((16, 15), 1),
        diffusion(two_phase((7, 8, 9), 1, 0, 10.0)),
        complex_helmholtz(8, 1),
        elasticity(8, 1),
    ],
    ids=["convection", "Helmholtz", "3D", "complex", "elasticity"],
)
def test_gives_the_solution_of_the_general_path_to_round_off(system):
    system = _shared(system, 10)
    once, each = same_matrix(system, rtol=1e-12), direct(system, rtol=1e-12)
    assert once.failed == []
    assert torch.all(once.residual <= 1e-12)
    assert torch.allclose(once.residual, system.relative_residual(once.values), atol=1e-14)
    condition = float(torch.linalg.cond(dense(system)))
    assert float((once.values - each.values).abs().max()) <= 1e-12 * condition * float(each.values.abs().max())


@pytest.mark.parametrize("centring", ["cell", "node"])
@pytest.mark.parametrize("shape", [(8, 6), (7, 5)])
def test_a_transform_inverts_constant_coefficients_for_every_wall(walls, centring, shape):
    system = _shared(diffusion(torch.full((1, *shape), 3.0, dtype=torch.float64), walls=walls, centring=centring), 5)
    solution = transform(system, rtol=1e-11)
    assert solution.failed == []
    assert _close(solution.values, exact(system))
    assert torch.allclose(solution.residual, system.relative_residual(solution.values), atol=1e-14)
    assert torch.equal(transform(system, rtol=1e-6, guess=solution.values).values, solution.values)


def test_a_transform_is_refused_where_coefficients_vary():
    varying = _shared(diffusion(fields((8, 8), 1, 0, 2.0)), 2)
    assert supports_transform(varying) == "the coefficients are not constant"
    with pytest.raises(SolverError, match="not constant"):
        transform(varying)
    assert "kind 'general'" in str(supports_transform(_shared(convection(8, 1), 2)))


def test_matrices_that_differ_are_refused_and_inside_a_batch_left_out():
    different = diffusion(fields((8, 8), 3, 0, 2.0))
    assert supports_same_matrix(different) == "the samples' matrices differ"
    with pytest.raises(SolverError, match="matrices differ"):
        solve(different, method="same-matrix")
    hidden = _shared(different, 5)
    hidden.coefficients[2, 0] *= 1.5
    assert of_one_matrix(hidden).tolist() == [True, True, False, True, True]
    assert same_matrix(hidden, rtol=1e-10).failed == [2]
    mended = solve(hidden, rtol=1e-10, method="same-matrix")
    assert mended.failed == []
    assert mended.fallbacks == 1
    assert _close(mended.values, exact(hidden))


def test_factors_are_those_of_the_coefficients_even_after_they_were_changed():
    system = _shared(diffusion(fields((8, 8), 1, 0, 2.0)), 3)
    first = same_matrix(system, rtol=1e-10).values
    system.coefficients.mul_(2.0)
    assert _close(2 * same_matrix(system, rtol=1e-10).values, first)
    assert Matrix(system) == Matrix(system.select([1]))
    assert Matrix(system) != Matrix(replace(system, kind="symmetric"))


def test_coefficients_that_are_one_array_seen_many_times_are_taken_as_they_are():
    system = _shared(diffusion(fields((9, 8), 1, 0, 2.0)), 9)
    seen = replace(system, coefficients=system.coefficients[:1].expand_as(system.coefficients))
    assert torch.equal(same_matrix(seen, rtol=1e-10).values, same_matrix(system, rtol=1e-10).values)


@pytest.mark.parametrize("method", [same_matrix, transform])
def test_bits_do_not_depend_on_the_batch_or_threads(method):
    system = _shared(diffusion(torch.full((1, 20, 13), 2.0, dtype=torch.float64)), 19)
    together = method(system, rtol=1e-10).values
    assert torch.equal(together[11:12], method(system.select([11]), rtol=1e-10).values)
    assert torch.equal(together[[3, 18]], method(system.select([3, 18]), rtol=1e-10).values)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(method(system, rtol=1e-10).values, together)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("wall", ["dirichlet", "neumann"])
def test_dense_factors_of_an_accelerator_give_the_same_solutions(wall):
    system = _shared(diffusion(fields((8, 7), 1, 0, 8.0), walls=wall), 6)
    values, residual, _ = _by_dense(system, torch.tensor([0, 1, 2, 4, 5]), 1e-11, None, 4)
    kept = [0, 1, 2, 4, 5]
    assert torch.all(residual[kept] <= 1e-11)
    assert bool(residual[3].isinf())
    assert _close(values[kept], exact(system)[kept])


def test_a_matrix_that_needs_exchange_of_rows_is_factored_by_pivoting():
    system = swapped_pairs(4)
    solution = same_matrix(system, rtol=1e-12)
    assert solution.failed == []
    assert solution.fallbacks == 4
    assert torch.allclose(solution.values, system.rhs[:, [2, 3, 0, 1]], rtol=0, atol=1e-14)


def test_a_singular_matrix_is_reported():
    system = _shared(diffusion(torch.ones(1, 6, 6, dtype=torch.float64), walls="neumann"), 3)
    lost = replace(system, nullspace=False, rhs=torch.ones_like(system.rhs))
    assert same_matrix(lost, rtol=1e-9).failed == [0, 1, 2]


def test_a_zero_right_hand_side_and_a_guess_take_no_corrections():
    system = _shared(diffusion(fields((8, 8), 1, 0, 2.0)), 3)
    system.rhs[1] = 0.0
    solution = same_matrix(system, rtol=1e-10)
    assert torch.all(solution.values[1] == 0)
    assert solution.iterations.tolist() == [1, 0, 1]
    again = same_matrix(system, rtol=1e-8, guess=solution.values)
    assert again.iterations.tolist() == [0, 0, 0]
    assert torch.equal(again.values, solution.values)
