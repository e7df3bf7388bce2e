"""The compiled loops against NumPy, on vectors shorter than a block, as long, and longer by one."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from fieldwright.solvers.krylov import matrix_kernels
from fieldwright.solvers.krylov import vector_kernels as kernels
from fieldwright.solvers.krylov.linear_maps import row_matrix
from fieldwright.solvers.krylov.vector_kernels import BLOCK, MIXED

SIZES = [1, 7, MIXED, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]
DTYPES = [float, complex]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if dtype is complex else real


def orthonormal_rows(count, n, dtype, seed=0):
    return np.linalg.qr(numbers((n, count), dtype, seed))[0].T.copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_sums_and_combinations_are_those_of_numpy(n, dtype):
    rows, w = numbers((6, n), dtype), numbers(n, dtype, 1)
    for count in range(7):
        h = numbers(6, dtype, 2)
        added = w.copy()
        kernels.add_combination(rows, count, h, added)
        assert np.allclose(added, w + h[:count] @ rows[:count], rtol=1e-12, atol=1e-12)
        out = np.full((6, 3), np.nan, dtype)
        kernels.products(rows, count, rows[::-1].copy(), 3, out)
        assert np.allclose(out[:count], rows[:count].conj() @ rows[::-1][:3].T, rtol=1e-12, atol=1e-10)
    assert kernels.norm(w) == pytest.approx(np.linalg.norm(w), rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [s for s in SIZES if s > 6])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_orthogonalising_takes_the_rows_out_and_leaves_a_unit_vector(n, count, dtype):
    rows = np.zeros((count + 1, n), dtype)
    rows[:count] = orthonormal_rows(count, n, dtype)
    rows[count] = w = numbers(n, dtype, 1)
    h, scratch = np.zeros(count + 1, dtype), np.zeros(count + 1, dtype)
    before, after = kernels.orthogonalise(rows, count, h, scratch)
    expected = rows[:count].conj() @ w
    assert before == pytest.approx(np.linalg.norm(w), rel=1e-13)
    assert np.allclose(h[:count], expected, atol=1e-11)
    assert after == pytest.approx(np.linalg.norm(w - expected @ rows[:count]), rel=1e-11)
    assert np.allclose(rows.conj() @ rows.T, np.eye(count + 1), atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_orthogonality_does_not_suffer_from_cancellation(distance, dtype):
    n, count = 800, 12
    rows = np.zeros((count + 1, n), dtype)
    rows[:count] = orthonormal_rows(count, n, dtype)
    outside = numbers(n, dtype, 1)
    rows[count] = numbers(count, dtype, 2) @ rows[:count] + distance * outside
    h, scratch = np.zeros(count + 1, dtype), np.zeros(count + 1, dtype)
    _, after = kernels.orthogonalise(rows, count, h, scratch)
    assert np.abs(rows[:count].conj() @ rows[count]).max() < 2e-13
    assert after == pytest.approx(distance * np.linalg.norm(outside), rel=0.1)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_without_a_direction_is_left_as_it_is(bad):
    rows = np.zeros((2, 10))
    rows[0, 0] = 1.0
    rows[1] = bad
    _, after = kernels.orthogonalise(rows, 1, np.zeros(2), np.zeros(2))
    assert after == 0 or not np.isfinite(after)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotations_are_a_qr_factorisation_of_the_hessenberg_matrix(dtype):
    n, steps = 40, 9
    A = numbers((n, n), dtype)
    rows = np.zeros((steps + 1, n), dtype)
    rows[0] = orthonormal_rows(1, n, dtype)[0]
    column, g, scratch = np.zeros((3, steps + 1), dtype)
    triangle, coupling = np.zeros((steps + 1, steps), dtype), np.zeros((0, steps), dtype)
    cosines, sines = np.zeros((2, steps), dtype)
    g[0] = 2.5
    for j in range(steps):
        rows[j + 1] = A @ rows[j]
        _, _, residual = kernels.arnoldi_step(
            rows, 0, j, column, scratch, triangle, coupling, cosines, sines, g
        )  # fmt: skip
        hessenberg = rows[: j + 2].conj() @ A @ rows[: j + 1].T
        right = np.zeros(j + 2, dtype)
        right[0] = 2.5
        least = np.linalg.lstsq(hessenberg, right, rcond=None)[0]
        assert residual == pytest.approx(np.linalg.norm(right - hessenberg @ least), rel=1e-10)
    block = hessenberg.copy()
    kernels.rotate_rows(block, steps, cosines, sines)
    assert np.allclose(block[:steps], triangle[:steps], atol=1e-12)
    assert np.allclose(np.tril(triangle[:steps], -1), 0, atol=1e-12)
    assert np.allclose(block[steps], 0, atol=1e-12)
    kernels.rotate_back(block, steps, cosines, sines)
    assert np.allclose(block, hessenberg, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotations_take_a_zero_for_what_it_is(dtype):
    # The permutation e_1 -> e_2 -> e_3 has zeros on its Hessenberg diagonal.
    A = np.roll(np.eye(3), 1, axis=0).astype(dtype)
    rows = np.zeros((4, 3), dtype)
    rows[0, 0] = 1.0
    column, g, scratch = np.zeros((3, 4), dtype)
    triangle, coupling = np.zeros((4, 3), dtype), np.zeros((0, 3), dtype)
    cosines, sines = np.zeros((2, 3), dtype)
    g[0] = 1.0
    residuals = []
    for j in range(3):
        rows[j + 1] = A @ rows[j]
        residuals.append(
            kernels.arnoldi_step(rows, 0, j, column, scratch, triangle, coupling, cosines, sines, g)[2]
        )  # fmt: skip
    assert residuals == pytest.approx([1, 1, 0], abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, MIXED, MIXED + 1, 3 * MIXED - 2])
@pytest.mark.parametrize("fresh", [0, 1, 3, 4, 6])
def test_recombining_replaces_both_spaces_at_once(n, fresh, dtype):
    images, vectors, basis = numbers((9, n), dtype), numbers((6, n), dtype, 1), numbers((5, n), dtype, 2)
    mixes = [numbers((count, fresh), dtype, 3 + i) for i, count in enumerate((9, 4, 5))]
    expected_images = mixes[0].T @ images
    expected_vectors = mixes[1].T @ vectors[:4] + mixes[2].T @ basis
    rest = images[fresh:].copy(), vectors[fresh:].copy()
    kernels.recombine(images, 9, vectors, 4, basis, 5, *mixes)
    assert np.allclose(images[:fresh], expected_images, atol=1e-12)
    assert np.allclose(vectors[:fresh], expected_vectors, atol=1e-12)
    assert np.array_equal(images[fresh:], rest[0])
    assert np.array_equal(vectors[fresh:], rest[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 9, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("reach", [(-1, 0, 1), (-7, -1, 0, 1, 7), (-3, 0, 2), (-8, -7, -6, -1, 0, 1, 6, 7, 8), (0,)])
def test_products_by_diagonals_read_nothing_outside(n, reach, dtype):
    offsets = np.array(reach)
    values = numbers((len(reach), n), dtype)
    dense = np.zeros((n, n), dtype)
    for o, line in zip(reach, values, strict=True):
        inside = np.arange(max(0, -o), min(n, n - o))
        dense[inside, inside + o] = line[inside]
        outside = np.setdiff1d(np.arange(n), inside)
        line[outside] = np.nan  # would spread, were it read
    x, out = numbers(n, dtype, 1), np.full(n, np.nan, dtype)
    matrix_kernels.diagonals_product(offsets, values, x, out)
    assert np.allclose(out, dense @ x, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 9, 60])
@pytest.mark.parametrize("reach", [(1,), (1, 7), (2, 3), (1, 2, 5), (4,)])
def test_triangular_solves_undo_the_triangles(n, reach, dtype):
    offsets = np.array([-o for o in reach[::-1]] + list(reach))
    values = 0.3 * numbers((len(offsets), n), dtype)
    lower, upper = np.eye(n, dtype=dtype), np.eye(n, dtype=dtype)
    for o, line in zip(offsets, values, strict=True):
        inside = np.arange(max(0, -o), min(n, n - o))
        (lower if o < 0 else upper)[inside, inside + o] = line[inside]
    pivots = 1 + np.abs(numbers(n, dtype, 1))
    r, out = numbers(n, dtype, 2), np.full(n, np.nan, dtype)
    matrix_kernels.diagonals_solve(offsets, values, len(reach), pivots.astype(dtype), r, out)
    assert np.allclose(lower @ np.diag(1 / pivots) @ upper @ out, r, atol=1e-9)
    stored = row_matrix(scipy.sparse.csr_array(lower + upper))
    starts, columns = stored.starts, stored.columns
    place = np.flatnonzero(columns == np.repeat(np.arange(n), np.diff(starts))).astype(np.int64)
    by_rows = np.full(n, np.nan, dtype)
    matrix_kernels.rows_solve(starts, columns, stored.values.astype(dtype), place, pivots.astype(dtype), r, by_rows)
    assert np.allclose(by_rows, out, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_by_rows_take_empty_rows_for_zero(dtype):
    A = scipy.sparse.random_array((30, 30), density=0.05, rng=np.random.default_rng(0)).tocsr().astype(dtype)
    assert np.any(np.diff(A.indptr) == 0)
    matrix, x, out = row_matrix(A), numbers(30, dtype), np.full(30, np.nan, dtype)
    matrix_kernels.rows_product(matrix.starts, matrix.columns, matrix.values, x, out)
    assert np.allclose(out, A @ x)


def test_complete_patterns_are_factored_completely():
    # On a full pattern ILU(0) is LU without exchange of rows.
    A = numbers((12, 12), float) + 8 * np.eye(12)
    stored = row_matrix(scipy.sparse.csr_array(A))
    values, pivots = stored.values.copy(), np.ones(12)
    place = np.arange(12, dtype=np.int64) * 13
    assert matrix_kernels.factor_rows(stored.starts, stored.columns, values, place, pivots) == -1
    factors = values.reshape(12, 12)
    lower, upper = np.tril(factors, -1) + np.eye(12), np.triu(factors, 1) + np.eye(12)
    assert np.allclose(lower @ np.diag(1 / pivots) @ upper, A, atol=1e-12)
    offsets = np.arange(-11, 12)
    lines = np.array([np.r_[np.zeros(max(0, -o)), np.diagonal(A, o), np.zeros(max(0, o))] for o in offsets])
    sums = offsets[:11, None] + offsets[None]
    targets = np.where(np.abs(sums) <= 11, sums + 11, -1)
    by_diagonals = np.ones(12)
    assert matrix_kernels.factor_diagonals(offsets, lines, 11, 11, targets, by_diagonals) == -1
    assert np.allclose(by_diagonals, pivots, rtol=1e-10)
    assert np.allclose(np.diagonal(factors, 3), lines[14][:9], atol=1e-12)
