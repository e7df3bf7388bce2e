"""Preconditioners against their definitions as dense matrices, and matrices by diagonals against CSR."""

import numpy as np
import pytest
import scipy.sparse
import torch
from assembled import convection, diffusion, fields, unit_offsets

from fieldwright.errors import InputError, SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.constant_operator import nearest_constant_operator
from fieldwright.solvers.krylov import (
    NONE,
    ConstantInverse,
    DiagonalMatrix,
    EarlierFactors,
    Jacobi,
    StencilMatrices,
    ilu0,
    recycled_gcro_dr,
    ssor,
)
from fieldwright.solvers.krylov.linear_maps import row_matrix

RNG = np.random.default_rng


def solved(M, r):
    out = np.empty_like(r)
    M.solve(r, out)
    return out


def inverse_of(M, n, dtype=float):
    return np.array([solved(M, column) for column in np.eye(n, dtype=dtype)]).T


def nine_point(n, seed=0):
    offsets = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
    generator = torch.Generator().manual_seed(seed)
    coefficients = -torch.rand(1, 9, n, n, generator=generator, dtype=torch.float64)
    coefficients[:, offsets.index((0, 0))] = 9.0
    return StencilSystem(coefficients, coefficients[:, 0].clone(), offsets, Boundary.parse("dirichlet", 2), "general")


SYSTEMS = {
    "line": diffusion(fields((40,), 1, 0, 9.0)),
    "convection": convection(9, 1),
    "box": diffusion(fields((4, 5, 6), 1, 0, 9.0)),
    "nine points": nine_point(8),
    "periodic": diffusion(fields((7, 9), 1, 0, 9.0), walls="periodic", reaction=3.0),
    "channel": diffusion(fields((7, 9), 1, 0, 9.0), walls=["periodic", "dirichlet"]),
}


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS.keys())
def system(request):
    return request.param


def test_matrices_by_diagonals_are_those_in_csr(system):
    by_diagonals, by_rows = StencilMatrices(system)[0], system.to_csr(0)
    assert (by_diagonals.to_csr() - by_rows).count_nonzero() == 0
    x, out = RNG(0).standard_normal(system.unknowns), np.empty(system.unknowns)
    by_diagonals.product(x, out)
    assert np.allclose(out, by_rows @ x, rtol=1e-13, atol=1e-11)
    row_matrix(by_rows).product(x, out)
    assert np.allclose(out, by_rows @ x, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("shape", [(2, 2), (1, 5), (2, 3), (3, 2)])
def test_small_periodic_grids_add_up_what_falls_on_one_entry(shape):
    coefficients = torch.rand(1, 5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = StencilSystem(
        coefficients, coefficients[:, 0], unit_offsets(2), Boundary.parse("periodic", 2), "general", "periodic"
    )
    assert np.allclose(StencilMatrices(small)[0].to_csr().toarray(), small.to_csr(0).toarray(), atol=1e-15)


def test_ilu0_agrees_with_the_matrix_on_its_pattern(system):
    A = system.to_csr(0)
    product = np.linalg.inv(inverse_of(ilu0(A), A.shape[0]))
    stored = A.toarray() != 0
    assert np.allclose(product[stored], A.toarray()[stored], rtol=1e-9)


@pytest.mark.parametrize("name", ["line", "convection", "box", "nine points"])
def test_factors_by_diagonals_are_those_by_rows(name):
    system = SYSTEMS[name]
    by_diagonals, by_rows = StencilMatrices(system)[0], system.to_csr(0)
    r = RNG(0).standard_normal(system.unknowns)
    for make in (ilu0, ssor, Jacobi):
        assert np.allclose(solved(make(by_diagonals), r), solved(make(by_rows), r), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [float, complex])
def test_ilu0_is_exact_for_tridiagonal_matrices(dtype):
    n = 30
    lines = [
        RNG(i).standard_normal(n) + (1j * RNG(i + 9).standard_normal(n) if dtype is complex else 0) for i in range(3)
    ]
    lines[1] = lines[1] + 5
    A = scipy.sparse.diags_array([lines[0][1:], lines[1], lines[2][1:]], offsets=[-1, 0, 1]).tocsr()
    values = np.array([np.r_[0, lines[0][1:]], lines[1], np.r_[lines[2][1:], 0]])
    b = RNG(20).standard_normal(n).astype(dtype)
    for source in (A, DiagonalMatrix(np.array([-1, 0, 1]), values)):
        assert np.allclose(solved(ilu0(source), b), np.linalg.solve(A.toarray(), b), rtol=1e-10)
        assert recycled_gcro_dr(source, b, rtol=1e-10, preconditioner=ilu0(source)).iterations == 1


@pytest.mark.parametrize("relaxation", [0.7, 1.0, 1.5])
def test_ssor_is_its_product_of_triangles(system, relaxation):
    A = system.to_csr(0).toarray()
    D, L, U = np.diag(np.diag(A)), np.tril(A, -1), np.triu(A, 1)
    M = (D + relaxation * L) @ np.linalg.inv(D) @ (D + relaxation * U) / (relaxation * (2 - relaxation))
    for source in (system.to_csr(0), StencilMatrices(system)[0]):
        assert np.allclose(inverse_of(ssor(source, relaxation=relaxation), len(A)) @ M, np.eye(len(A)), atol=1e-10)


def test_jacobi_and_none_are_what_their_names_say(system):
    A, r = system.to_csr(0), RNG(0).standard_normal(system.unknowns)
    assert np.allclose(solved(Jacobi(A), r), r / A.diagonal(), rtol=1e-15)
    assert np.array_equal(solved(NONE, r), r)


def test_factors_of_the_matrix_itself_are_its_inverse(system):
    A, r = system.to_csr(0), RNG(0).standard_normal(system.unknowns)
    M = EarlierFactors(A)
    assert np.allclose(A @ solved(M, r), r, atol=1e-9)
    assert np.allclose(A @ solved(M, r + 2j * r[::-1]), r + 2j * r[::-1], atol=1e-9)
    assert np.allclose(solved(EarlierFactors(StencilMatrices(system)[0]), r), solved(M, r), rtol=1e-9)


@pytest.mark.parametrize("shape", [(12,), (6, 9), (4, 5, 6)])
def test_the_constant_inverse_inverts_constant_coefficients(shape, walls):
    walls = walls if len(shape) == 2 else "dirichlet"
    f = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = diffusion(torch.full((1, *shape), 3.0, dtype=torch.float64), f, walls)
    M = ConstantInverse(nearest_constant_operator(system), system.shape)
    u = solved(M, system.rhs.reshape(-1).numpy())
    assert np.allclose(system.to_csr(0) @ u, system.rhs.reshape(-1).numpy(), atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ilu0(scipy.sparse.csr_array([[0.0, 1.0], [1.0, 0.0]])), r"ilu\(0\): row 0 has no diagonal entry"),
        (lambda: ilu0(scipy.sparse.csr_array([[1.0, 1.0], [1.0, 1.0]])), r"ilu\(0\): no pivot in row 1"),
        (lambda: ilu0(DiagonalMatrix(np.array([-1, 0, 1]), np.ones((3, 2)))), r"ilu\(0\): no pivot in row 1"),
        (lambda: Jacobi(scipy.sparse.csr_array([[1.0, 1.0], [1.0, 0.0]])), "jacobi: the diagonal entry of row 1 is 0"),
        (lambda: ssor(scipy.sparse.csr_array([[1.0, 1.0], [1.0, 0.0]])), "ssor: the diagonal entry of row 1 is 0"),
        (lambda: EarlierFactors(scipy.sparse.csr_array([[1.0, 1.0], [1.0, 1.0]])), "singular"),
    ],
)
def test_matrices_without_a_preconditioner_are_refused_by_row(make, message):
    with pytest.raises(SolverError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_arguments_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="relaxation = 2"):
        ssor(scipy.sparse.eye_array(3).tocsr(), relaxation=2.0)
    with pytest.raises(InputError, match="has no entries"):
        ilu0(lambda x: x)
