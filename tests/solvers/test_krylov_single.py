"""GMRES and GCRO-DR on one matrix: the same solutions as dense solves, SciPy's counts, bases that are orthonormal."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from assembled import convection, diffusion, fields, helmholtz

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.krylov import (
    EarlierFactors,
    Jacobi,
    RecycledSpace,
    StencilMatrices,
    ilu0,
    recycled_gcro_dr,
    restarted_gmres,
    ssor,
)
from fieldwright.solvers.krylov.arnoldi import Cycle, KrylovWork
from fieldwright.solvers.krylov.harmonic_ritz import dominant_subspace
from fieldwright.solvers.krylov.linear_maps import as_linear_map

RNG = np.random.default_rng


def matrix(kind, n=90):
    """A sparse matrix of a kind, well enough conditioned for a dense solve to be the truth."""
    noise = scipy.sparse.random_array((n, n), density=0.06, rng=RNG(1))
    shifted = scipy.sparse.eye_array(n) * 2.5 + noise
    if kind == "complex":
        shifted = shifted + 1j * scipy.sparse.random_array((n, n), density=0.06, rng=RNG(2))
    if kind == "symmetric":
        shifted = shifted + shifted.T
    if kind == "indefinite":
        half = np.where(np.arange(n) % 3 == 0, -1.0, 1.0)
        shifted = scipy.sparse.diags_array(3 * half) + 0.2 * (noise + noise.T)
    return scipy.sparse.csr_array(shifted)


def right_hand_side(A, seed=3):
    b = RNG(seed).standard_normal(A.shape[0])
    return b + 1j * RNG(seed + 1).standard_normal(A.shape[0]) if A.dtype.kind == "c" else b


KINDS = ["general", "symmetric", "indefinite", "complex"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recycle", [0, 1, 6])
def test_solutions_equal_those_of_dense_elimination(kind, recycle):
    A = matrix(kind)
    b = right_hand_side(A)
    exact = np.linalg.solve(A.toarray(), b)
    for preconditioner in (None, Jacobi(A), ilu0(A), ssor(A, relaxation=1.2), EarlierFactors(A + 0.1 * A.T)):
        solution = recycled_gcro_dr(A, b, rtol=1e-11, restart=14, recycle=recycle, preconditioner=preconditioner)
        assert solution.converged
        assert np.linalg.norm(solution.value - exact) < 1e-9 * np.linalg.norm(exact)
        assert solution.residual == pytest.approx(np.linalg.norm(b - A @ solution.value) / np.linalg.norm(b), abs=1e-14)
        assert len(solution.history) == solution.iterations <= solution.products


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restart", [5, 12, 200])
def test_gmres_takes_the_steps_that_scipy_takes(kind, restart):
    A = matrix(kind)
    b = right_hand_side(A)
    theirs = []
    scipy.sparse.linalg.gmres(
        A, b, rtol=1e-8, restart=restart, maxiter=100, callback=theirs.append, callback_type="pr_norm"
    )
    ours = restarted_gmres(A, b, rtol=1e-8, restart=restart)
    assert ours.iterations == len(theirs)
    assert np.allclose(ours.history, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cycle_keeps_the_arnoldi_relation(kind):
    A = matrix(kind).toarray()
    n, steps = len(A), 9
    work = KrylovWork.of(n, steps, 0, A.dtype)
    cycle = Cycle(work, 0)
    r = right_hand_side(A)
    claimed = []
    cycle.run(as_linear_map(A, like=r).product, r, steps, 0.0, claimed)
    V = cycle.basis[: steps + 1].T
    assert np.linalg.norm(V.conj().T @ V - np.eye(steps + 1)) < 1e-12
    hessenberg = V.conj().T @ A @ V[:, :steps]
    assert np.linalg.norm(A @ V[:, :steps] - V @ hessenberg) < 1e-12 * np.linalg.norm(A)
    least = np.linalg.lstsq(hessenberg, V.conj().T @ r, rcond=None)[0]
    assert claimed[-1] == pytest.approx(np.linalg.norm(r - A @ (V[:, :steps] @ least)), rel=1e-9)
    z, remainder = np.zeros_like(r), r.copy()
    cycle.advance(z, remainder)
    assert np.linalg.norm(remainder - (r - A @ z)) < 1e-12 * np.linalg.norm(r)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_recycled_space_is_mapped_to_an_orthonormal_one(kind, preconditioned):
    A = matrix(kind)
    M = ilu0(A) if preconditioned else None
    space = None
    for seed in range(3):
        shifted = scipy.sparse.csr_array(A + 0.02 * seed * matrix("general"))
        solution = recycled_gcro_dr(
            shifted, right_hand_side(A, seed), rtol=1e-10, restart=12, recycle=5, preconditioner=M, space=space
        )
        space = solution.space
        C, U = space.images.T, space.vectors.T
        assert C.shape[1] in (4, 5)
        assert np.linalg.norm(C.conj().T @ C - np.eye(C.shape[1])) < 1e-12
        dense = shifted.toarray()
        if M is not None:
            inverse = np.array([_solved(M, column) for column in np.eye(A.shape[0], dtype=dense.dtype)]).T
            dense = dense @ inverse
        assert np.linalg.norm(dense @ U - C) < 1e-10


def _solved(M, r):
    out = np.empty_like(r)
    M.solve(r, out)
    return out


def test_deflation_removes_the_eigenvalues_it_has_found():
    n, small = 300, 6
    values = np.concatenate([np.geomspace(1e-4, 1e-3, small), np.linspace(1, 2, n - small)])
    A, b = scipy.sparse.diags_array(values).tocsr(), np.ones(n)
    first = recycled_gcro_dr(A, b, rtol=1e-10, restart=20, recycle=small)
    second = recycled_gcro_dr(A, b, rtol=1e-10, restart=20, recycle=small, space=first.space)
    absent = restarted_gmres(scipy.sparse.diags_array(values[small:]).tocsr(), b[small:], rtol=1e-10, restart=20)
    assert second.converged
    assert first.iterations > second.iterations + 20
    assert abs(second.iterations - absent.iterations) <= 1
    # What is recycled is the span of the first unit vectors.
    Q, _ = np.linalg.qr(second.space.vectors.T)
    assert np.linalg.norm(Q[small:]) < 1e-4


def test_recycling_the_right_space_solves_without_a_step():
    A = matrix("general")
    x = RNG(0).standard_normal((2, A.shape[0]))
    b = A @ (x[0] - 2 * x[1])
    solution = recycled_gcro_dr(A, b, rtol=1e-10, restart=10, recycle=3, space=RecycledSpace(x, x))
    assert solution.converged
    assert solution.iterations == 0
    assert solution.products == 3  # two images and the check


def test_dependent_directions_are_dropped():
    A = matrix("general")
    x = RNG(0).standard_normal((4, A.shape[0]))
    x[2] = x[0] - 3 * x[1]
    x[3] = 0.0
    solution = recycled_gcro_dr(A, right_hand_side(A), rtol=1e-10, restart=12, recycle=5, space=RecycledSpace(x, x))
    assert solution.converged
    C = solution.space.images
    assert np.linalg.norm(C @ C.T - np.eye(len(C))) < 1e-12


def test_a_space_that_does_not_suit_is_not_used():
    A = matrix("general")
    b = right_hand_side(A)
    alone = recycled_gcro_dr(A, b, restart=12, recycle=5)
    other = RNG(0).standard_normal((3, A.shape[0]))
    for space in (
        RecycledSpace(other[:, :50], other[:, :50]),
        RecycledSpace(other + 0j, other + 0j),
        RecycledSpace(other, other, "ilu(0)"),
    ):
        solution = recycled_gcro_dr(A, b, restart=12, recycle=5, space=space)
        assert np.array_equal(solution.value, alone.value)
        assert solution.products == alone.products


def test_conjugate_pairs_are_kept_together():
    # Eigenvalues 3 ± i, 2, 1 ± 2i (modulus 2.24), 0.5: three of the largest would cut the second pair.
    blocks = [np.array([[3, 1], [-1, 3]]), np.array([[1, 2], [-2, 1]]), np.array([[2.0]]), np.array([[0.5]])]
    rotation, _ = np.linalg.qr(RNG(0).standard_normal((6, 6)))
    F = rotation @ scipy.linalg.block_diag(*blocks) @ rotation.T
    for count, kept in ((1, 0), (2, 2), (3, 2), (4, 4), (5, 5), (6, 6)):
        Y = dominant_subspace(F, count)
        assert Y.shape == (6, kept)
        assert np.linalg.norm(F @ Y - Y @ (Y.T @ F @ Y)) < 1e-13
        expected = np.sort(np.abs(np.linalg.eigvals(F)))[6 - kept :]
        assert np.allclose(np.sort(np.abs(np.linalg.eigvals(Y.T @ F @ Y))), expected) or kept == 0
    assert dominant_subspace(F + 0j, 3).shape == (6, 3)


def test_a_hermitian_problem_is_solved_as_such():
    F = RNG(0).standard_normal((7, 7)) + 1j * RNG(1).standard_normal((7, 7))
    F = F + F.conj().T
    Y = dominant_subspace(F, 3)
    values = np.linalg.eigvalsh(F)
    largest = values[np.argsort(-np.abs(values))[:3]]
    assert np.allclose(np.diag(Y.conj().T @ F @ Y), largest)


@pytest.mark.parametrize("recycle", [0, 8])
@pytest.mark.parametrize(
    "system",
    [convection(12, 1), helmholtz((12, 12), 1, wavenumber=8.0), diffusion(fields((12, 12), 1, 0, 50.0))],
    ids=["convection", "helmholtz", "diffusion"],
)
def test_matrices_by_diagonals_by_rows_and_as_functions_give_one_solution(system, recycle):
    by_diagonals, by_rows = StencilMatrices(system)[0], system.to_csr(0)
    b = system.rhs.reshape(-1).numpy()
    exact = np.linalg.solve(by_rows.toarray(), b)
    sources = [by_diagonals, by_rows, by_rows.toarray(), scipy.sparse.linalg.aslinearoperator(by_rows)]
    for source in [*sources, lambda x: by_rows @ x]:
        solution = recycled_gcro_dr(source, b, rtol=1e-11, restart=30, recycle=recycle, preconditioner=ilu0(by_rows))
        assert solution.converged
        assert np.linalg.norm(solution.value - exact) < 1e-8 * np.linalg.norm(exact)


def test_a_guess_is_where_the_iteration_starts():
    A = matrix("general")
    b = right_hand_side(A)
    exact = np.linalg.solve(A.toarray(), b)
    near = restarted_gmres(A, b, guess=exact * (1 + 1e-4), rtol=1e-8)
    assert near.iterations < restarted_gmres(A, b, rtol=1e-8).iterations
    there = restarted_gmres(A, b, guess=exact, rtol=1e-8)
    assert (there.iterations, there.products) == (0, 1)


def test_zero_has_the_solution_zero():
    A = matrix("general")
    solution = recycled_gcro_dr(A, np.zeros(A.shape[0]), guess=np.ones(A.shape[0]))
    assert solution.converged
    assert not solution.value.any()
    assert (solution.iterations, solution.residual) == (0, 0.0)


def test_small_matrices_have_no_room_for_a_restart():
    for n in (1, 2, 3):
        A = np.diag(np.arange(1.0, n + 1))
        solution = recycled_gcro_dr(A, np.ones(n))
        assert solution.converged
        assert np.allclose(solution.value, 1 / np.arange(1, n + 1))


def test_a_singular_matrix_is_solved_in_its_range_and_reported_outside():
    A = scipy.sparse.diags_array([1.0, 2.0, 3.0, 0.0]).tocsr()
    inside = recycled_gcro_dr(A, np.array([1.0, 1.0, 1.0, 0.0]))
    assert inside.converged
    outside = recycled_gcro_dr(A, np.ones(4))
    assert not outside.converged
    assert outside.residual == pytest.approx(0.5)
    assert outside.iterations < 20


def test_an_iteration_that_meets_nan_is_reported():
    solution = restarted_gmres(lambda x: x * np.nan, np.ones(4))
    assert not solution.converged
    assert not solution.residual <= 1.0 or solution.residual == 1.0


def test_a_limit_is_kept():
    A = matrix("general")
    for recycle in (0, 4):
        solution = recycled_gcro_dr(A, right_hand_side(A), rtol=1e-12, restart=8, recycle=recycle, max_iterations=11)
        assert not solution.converged
        assert solution.iterations == 11
        assert solution.residual == pytest.approx(solution.history[-1], rel=1e-9)


def test_a_residual_that_only_the_recurrence_sees_is_not_taken_for_convergence():
    A = matrix("general")
    wrong = 1e-7 * RNG(5).standard_normal(A.shape)

    class Drifting:
        """Products that change once the iteration has begun, as rounding of a float32 preconditioner does."""

        calls = 0

        def __call__(self, x):
            self.calls += 1
            return A @ x + (wrong @ x if self.calls % 7 == 3 else 0)

    b = right_hand_side(A)
    solution = restarted_gmres(Drifting(), b, rtol=1e-9)
    assert solution.converged == (np.linalg.norm(b - A @ solution.value) <= 1e-9 * np.linalg.norm(b))
    assert solution.iterations > restarted_gmres(A, b, rtol=1e-9).iterations


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rtol": 0.0}, InputError, "rtol = 0.0"),
        ({"restart": 5, "recycle": 5}, InputError, "restart = 5 and recycle = 5"),
        ({"recycle": -1}, InputError, "recycle = -1"),
        ({"max_iterations": -1}, InputError, "max_iterations = -1"),
        ({"guess": np.ones(3)}, InputError, "guess of 3 entries"),
        ({"guess": np.full(4, np.inf)}, SolverError, "NaN or infinite"),
        ({"rhs": np.array([1.0, np.nan, 1.0, 1.0])}, SolverError, "NaN or infinite"),
        ({"rhs": np.ones((4, 1))}, InputError, "a vector is needed"),
        ({"rhs": np.ones(3)}, InputError, "right-hand side of 3"),
        ({"matrix": np.ones((4, 3))}, InputError, r"shape \(4, 3\)"),
        ({"matrix": "A"}, InputError, "'str' is no operator"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments, error, message):
    call = {"matrix": np.eye(4), "rhs": np.ones(4)} | arguments
    with pytest.raises(error, match=message) as caught:
        recycled_gcro_dr(**call)
    assert "\n" not in str(caught.value)
