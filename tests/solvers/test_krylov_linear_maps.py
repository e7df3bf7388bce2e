"""What can be multiplied by: formats that give one product, a batch's matrices, and the system with its counters."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from assembled import convection, diffusion, fields

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.krylov import DiagonalMatrix, Jacobi, RowMatrix, StencilMatrices, restarted_gmres
from fieldwright.solvers.krylov.linear_maps import FunctionMap, as_linear_map, as_vector, row_matrix
from fieldwright.solvers.krylov.preconditioned_system import PreconditionedSystem, RecycledSpace

RNG = np.random.default_rng


def product(source, x):
    found = as_linear_map(source, like=x)
    out = np.full(len(x), np.nan, np.result_type(found.dtype, x))
    found.product(x, out)
    return out


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64, np.complex128])
def test_every_format_gives_the_product_of_the_dense_matrix(dtype):
    dense = np.round(3 * RNG(0).standard_normal((8, 8))).astype(dtype)
    sparse = scipy.sparse.csr_array(dense)
    for x in (RNG(1).standard_normal(8), RNG(1).standard_normal(8) + 1j):
        expected = dense @ x
        formats = [dense, sparse, sparse.tocsc(), sparse.tocoo(), scipy.sparse.csr_matrix(dense), row_matrix(sparse)]
        if not (np.iscomplexobj(dense) and not np.iscomplexobj(x)):  # a function's type is taken from the vector
            formats.append(lambda v: dense @ v)
        for source in [*formats, scipy.sparse.linalg.aslinearoperator(sparse)]:
            assert np.allclose(product(source, x), expected, rtol=1e-6)
        assert as_linear_map(sparse, like=x).dtype in (np.float64, np.complex128)


def test_duplicate_entries_of_a_matrix_are_summed_and_the_matrix_is_left_alone():
    source = scipy.sparse.csr_array(([1.0, 2.0, 5.0, 4.0], [1, 1, 0, 0], [0, 2, 4]), shape=(2, 2))
    matrix = row_matrix(source)
    assert matrix.values.tolist() == [3.0, 9.0]
    assert source.nnz == 4
    assert np.array_equal(matrix.to_csr().toarray(), [[0, 3], [9, 0]])


def test_columns_are_sorted():
    source = scipy.sparse.csr_array(([1.0, 2.0, 3.0], [2, 0, 1], [0, 2, 3, 3]), shape=(3, 3))
    assert row_matrix(source).columns.tolist() == [0, 2, 1]


def test_diagonals_know_their_main_one_and_their_sizes():
    matrix = DiagonalMatrix(np.array([-2, 0, 1]), np.ones((3, 5)))
    assert (matrix.main, matrix.size, matrix.dtype) == (1, 5, np.float64)
    dense = matrix.to_csr().toarray()
    assert np.array_equal(dense, np.eye(5) + np.eye(5, k=1) + np.eye(5, k=-2))


@pytest.mark.parametrize("walls", ["dirichlet", "periodic", ["periodic", "neumann"]])
def test_the_matrices_of_a_batch_are_those_of_its_samples(walls):
    system = diffusion(fields((5, 6), 3, 0, 9.0), walls=walls, reaction=1.0)
    matrices = StencilMatrices(system)
    assert len(matrices) == 3
    for sample in range(3):
        assert np.array_equal(matrices[sample].to_csr().toarray(), system.to_csr(sample).toarray())
    assert matrices[0].offsets is matrices[2].offsets


def test_gradients_and_single_precision_are_left_behind():
    system = convection(6, 1)
    learnt = StencilMatrices(type(system)(
        system.coefficients.clone().requires_grad_(), system.rhs, system.offsets, system.boundary, "general"
    ))  # fmt: skip
    assert np.array_equal(learnt[0].values, StencilMatrices(system)[0].values)
    assert as_vector(torch.ones(3).numpy()).dtype == np.float64


def test_the_system_counts_its_products_and_measures_its_residual():
    A = scipy.sparse.diags_array([1.0, 2.0, 4.0]).tocsr()
    b = np.array([1.0, 2.0, 2.0])
    system = PreconditionedSystem(A, b, Jacobi(A))
    out = np.empty(3)
    assert system.residual(out) == pytest.approx(1)
    assert np.array_equal(out, b)
    assert system.products == 0  # x = 0 needs none
    system.apply(b, out)
    assert np.allclose(out, b)  # B = A D⁻¹ = 1
    system.correct(b)
    assert np.allclose(system.x, [1, 1, 0.5])
    assert system.residual(out) == 0
    assert system.products == 2


def test_a_complex_part_anywhere_makes_the_system_complex():
    A, b = np.eye(3), np.ones(3)
    assert PreconditionedSystem(A, b, None).dtype == np.float64
    for source, rhs, guess in ((A + 0j, b, None), (A, b + 0j, None)):
        assert PreconditionedSystem(source, rhs, None, guess).dtype == np.complex128
    solution = restarted_gmres(2j * A, b)
    assert np.allclose(solution.value, -0.5j)


def test_a_space_suits_its_own_size_numbers_and_preconditioner():
    space = RecycledSpace(np.ones((2, 5)), np.ones((2, 5)), "jacobi")
    assert space.suits(5, np.dtype(float), "jacobi")
    assert not space.suits(6, np.dtype(float), "jacobi")
    assert not space.suits(5, np.dtype(complex), "jacobi")
    assert not space.suits(5, np.dtype(float), "none")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.ones((3, 4)), r"shape \(3, 4\)"),
        (scipy.sparse.eye_array(4), r"shape \(4, 4\)"),
        (FunctionMap(lambda x: x, 4, np.dtype(float)), "4 unknowns for a right-hand side of 3"),
        (RowMatrix(np.arange(5), np.arange(4), np.ones(4)), "4 unknowns for a right-hand side of 3"),
        (None, "'NoneType' is no operator"),
        ([[1.0]], "'list' is no operator"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(source, message):
    with pytest.raises(InputError, match=message) as caught:
        as_linear_map(source, like=np.ones(3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rhs", "error"),
    [(np.ones((2, 2)), InputError), (np.array(["a"]), InputError), (np.array([np.nan]), SolverError)],
)
def test_right_hand_sides_that_are_none_are_refused(rhs, error):
    with pytest.raises(error):
        as_vector(rhs)


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda x: x[:2], r"returned shape \(2,\)"), (lambda x: 1j * x, "complex right-hand side")],
)
def test_functions_that_return_something_else_are_refused(function, message):
    with pytest.raises(InputError, match=message):
        restarted_gmres(function, np.ones(4))
