"""GCRO-DR against a plain restatement of it in dense algebra: harmonic Ritz problem, cycles, whole sequences."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from assembled import convection, diffusion, fields, two_phase

from fieldwright.solvers.krylov import ilu0, recycled_gcro_dr, restarted_gmres, subspace_distance
from fieldwright.solvers.krylov.arnoldi import Cycle, KrylovWork
from fieldwright.solvers.krylov.harmonic_ritz import dominant_subspace, renew


class Plain:
    """GCRO-DR(m, k) for B z = b as it is written down: scaled U, the generalised eigenproblem, full products."""

    def __init__(self, m, k):
        self.m, self.k, self.U = m, k, None

    def solve(self, B, b, rtol):
        r, steps, history = b.copy(), 0, []
        C = U = np.zeros((len(b), 0), B.dtype)
        if self.U is not None:
            C, R = np.linalg.qr(B @ self.U)
            U = self.U @ np.linalg.inv(R)
            r = r - C @ (C.conj().T @ r)
        while np.linalg.norm(r) > rtol * np.linalg.norm(b):
            V, H, E, y = self._cycle(B, C, r, rtol * np.linalg.norm(b), history)
            steps += H.shape[1]
            scale = np.diag(1 / np.linalg.norm(U, axis=0)) if U.shape[1] else np.zeros((0, 0))
            W, T = np.hstack([C, V]), np.hstack([U @ scale, V[:, :-1]])
            G = np.block([[scale, E], [np.zeros((H.shape[0], C.shape[1])), H]]).astype(B.dtype)
            assert np.linalg.norm(B @ T - W @ G) < 1e-8 * np.linalg.norm(B)
            r = r - V @ (H @ y)
            P = self._ritz(G, W.conj().T @ T)
            Q, R = np.linalg.qr(G @ P)
            C, U = W @ Q, T @ P @ np.linalg.inv(R)
        self.U = U
        return steps, history

    def _cycle(self, B, C, r, target, history):
        V, columns, E = [r / np.linalg.norm(r)], [], []
        for j in range(self.m - C.shape[1]):
            w = B @ V[j]
            E.append(C.conj().T @ w)
            w = w - C @ E[-1]
            h = np.zeros(self.m + 2, B.dtype)
            for _ in range(2):
                for i, v in enumerate(V):
                    part = v.conj() @ w
                    h[i] += part
                    w = w - part * v
                w = w - C @ (C.conj().T @ w)
            h[j + 1] = np.linalg.norm(w)
            V.append(w / h[j + 1])
            columns.append(h)
            H = np.array(columns).T[: j + 2]
            right = np.zeros(j + 2, B.dtype)
            right[0] = np.linalg.norm(r)
            y = np.linalg.lstsq(H, right, rcond=None)[0]
            history.append(np.linalg.norm(right - H @ y))
            if history[-1] <= target:
                break
        return np.array(V).T, H, np.array(E).T.reshape(C.shape[1], len(columns)), y

    def _ritz(self, G, WT):
        """Eigenvectors of the k smallest |θ| of Gᴴ G ζ = θ Gᴴ Wᴴ T ζ; of a pair the real and imaginary parts."""
        theta, vectors = scipy.linalg.eig(G.conj().T @ G, G.conj().T @ WT)
        order = np.argsort(np.abs(theta), kind="stable")[: min(self.k, G.shape[1])]
        if np.iscomplexobj(G):
            return vectors[:, order]
        chosen = []
        for i in order:
            partner = [j for j in order if np.isclose(theta[j], theta[i].conj(), rtol=1e-8) and j != i]
            if abs(theta[i].imag) < 1e-9 * abs(theta[i]):
                chosen.append(vectors[:, i].real)
            elif partner and theta[i].imag > 0:
                chosen += [vectors[:, i].real, vectors[:, i].imag]
        return np.array(chosen).T


def sequence(kind):
    """Four slowly changing matrices with their right-hand sides."""
    rng = np.random.default_rng(0)
    if kind == "diffusion":
        a = two_phase((11, 12), 1, 0, 4.0) + 0.05 * fields((11, 12), 4, 1, 2.0)
        matrices = [diffusion(a).to_csr(i) for i in range(4)]
    elif kind == "convection":
        base = convection(11, 1, diffusivity=0.05).to_csr(0)
        matrices = [scipy.sparse.csr_array(base + 3.0 * i * scipy.sparse.eye_array(121)) for i in range(4)]
    else:
        n = 130
        base = scipy.sparse.diags_array(np.linspace(0.02, 3, n) * np.exp(0.4j * np.sin(np.arange(n))))
        noise = scipy.sparse.random_array((n, n), density=0.03, rng=rng)
        matrices = [scipy.sparse.csr_array(base + 0.05 * (1 + 0.1 * i) * noise) for i in range(4)]
    rhs = [rng.standard_normal(m.shape[0]) + 0 * m.dtype.type(1) for m in matrices]
    return matrices, rhs


@pytest.mark.parametrize("kind", ["diffusion", "convection", "complex"])
@pytest.mark.parametrize(("restart", "recycle"), [(16, 6), (12, 3), (20, 11)])
def test_a_sequence_takes_the_steps_of_the_method_as_written_down(kind, restart, recycle):
    matrices, rhs = sequence(kind)
    plain, space = Plain(restart, recycle), None
    for A, b in zip(matrices, rhs, strict=True):
        steps, history = plain.solve(A.toarray(), b, 1e-7)
        solution = recycled_gcro_dr(A, b, rtol=1e-7, restart=restart, recycle=recycle, space=space)
        space = solution.space
        assert solution.converged
        assert abs(solution.iterations - steps) <= 1
        common = min(solution.iterations, steps)
        ours, theirs = solution.history[:common] * np.linalg.norm(b), np.array(history[:common])
        assert np.allclose(np.log10(ours), np.log10(theirs), atol=0.05)


@pytest.mark.parametrize("kind", ["diffusion", "convection", "complex"])
def test_a_preconditioned_sequence_is_that_of_the_product(kind):
    matrices, rhs = sequence(kind)
    plain, space = Plain(9, 4), None
    for A, b in zip(matrices, rhs, strict=True):
        M = ilu0(A)
        inverse = np.zeros(A.shape, A.dtype)
        for i, unit in enumerate(np.eye(A.shape[0], dtype=A.dtype)):
            out = np.empty_like(unit)
            M.solve(unit, out)
            inverse[:, i] = out
        steps, _ = plain.solve(A.toarray() @ inverse, b, 1e-8)
        solution = recycled_gcro_dr(A, b, rtol=1e-8, restart=9, recycle=4, space=space, preconditioner=M)
        space = solution.space
        assert abs(solution.iterations - steps) <= 1
        assert np.linalg.norm(b - A @ solution.value) <= 1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("kind", ["diffusion", "convection", "complex"])
def test_a_fresh_cycle_keeps_the_harmonic_ritz_vectors_of_gmres(kind):
    (A, *_), (b, *_) = sequence(kind)
    m, k = 14, 5
    work = KrylovWork.of(len(b), m, k, A.dtype)
    cycle = Cycle(work, 0)
    cycle.run(lambda x, out: np.copyto(out, A @ x), b, m, 0.0, [])
    V = cycle.basis[: m + 1].T.copy()
    overlap = renew(work, cycle, np.zeros((0, 0), A.dtype), k)
    H = V.conj().T @ A @ V[:, :m]
    # H_m + h² H_m⁻ᴴ e_m e_mᵀ, the form for restarted GMRES.
    tail = np.linalg.solve(H[:m].conj().T, np.eye(m)[:, -1]) * abs(H[m, m - 1]) ** 2
    theta, vectors = np.linalg.eig(H[:m] + np.outer(tail, np.eye(m)[-1]))
    order = np.argsort(np.abs(theta), kind="stable")
    kept = len(overlap)
    assert kept in (k - 1, k)
    wanted = (V[:, :m] @ vectors[:, order[:kept]]).T
    assert subspace_distance(wanted, work.vectors[:kept] + 0j) < 1e-7
    # The Ritz values are those of the space: Cᴴ U has the eigenvalues 1/θ.
    assert np.allclose(np.sort(np.abs(np.linalg.eigvals(overlap))), np.sort(1 / np.abs(theta[order[:kept]])), rtol=1e-7)


@pytest.mark.parametrize("kind", ["diffusion", "convection", "complex"])
def test_a_renewal_beside_a_recycled_space_keeps_images_and_overlaps(kind):
    (A, *_), (b, *_) = sequence(kind)
    m, k = 15, 6
    work = KrylovWork.of(len(b), m, k, A.dtype)
    apply = lambda x, out: np.copyto(out, A @ x)  # noqa: E731
    z, r, overlap, held = np.zeros_like(b), b.copy(), np.zeros((0, 0), A.dtype), 0
    for _ in range(4):
        cycle = Cycle(work, held)
        cycle.run(apply, r, m, 0.0, [])
        cycle.advance(z, r)
        overlap = renew(work, cycle, overlap, k)
        held = len(overlap)
        C, U = work.rows[:held].T, work.vectors[:held].T
        assert np.linalg.norm(A @ U - C) < 1e-11
        assert np.linalg.norm(C.conj().T @ C - np.eye(held)) < 1e-12
        assert np.linalg.norm(C.conj().T @ U - overlap) < 1e-11 * np.linalg.norm(U)
        assert np.linalg.norm(C.conj().T @ r) < 1e-11 * np.linalg.norm(b)
        assert np.linalg.norm(b - A @ z - r) < 1e-11 * np.linalg.norm(b)


def test_cycles_never_raise_the_residual():
    for kind in ("diffusion", "convection", "complex"):
        matrices, rhs = sequence(kind)
        space = None
        for A, b in zip(matrices, rhs, strict=True):
            solution = recycled_gcro_dr(A, b, rtol=1e-9, restart=10, recycle=4, space=space)
            space = solution.space
            assert np.all(np.diff(solution.history) <= 1e-12)


def test_symmetric_problems_have_one_subspace_by_either_eigensolver():
    rng = np.random.default_rng(0)
    F = rng.standard_normal((12, 12))
    F = F + F.T
    tilted = F + 1e-7 * np.triu(rng.standard_normal((12, 12)))  # no longer taken for symmetric
    for count in range(1, 12):
        assert subspace_distance(dominant_subspace(F, count).T, dominant_subspace(tilted, count).T) < 1e-5


def test_recycling_on_the_same_matrix_gets_better_until_nothing_slow_is_left():
    A = sequence("diffusion")[0][0]
    rng, space, iterations = np.random.default_rng(1), None, []
    for _ in range(4):
        solution = recycled_gcro_dr(A, rng.standard_normal(132), restart=16, recycle=8, space=space)
        space = solution.space
        iterations.append(solution.iterations)
    assert max(iterations[1:]) < iterations[0]
    values = np.linalg.eigvalsh(A.toarray())
    # Conjugate gradients' bound for what is left of the spectrum without its eight smallest, which GMRES obeys.
    condition = values[-1] / values[8]
    rate = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
    assert iterations[-1] < 1.5 * np.log(2 * np.sqrt(values[-1] / values[8]) / 1e-8) / -np.log(rate)


def test_a_smaller_recycle_takes_the_first_vectors_of_a_larger_space():
    matrices, rhs = sequence("convection")
    space = recycled_gcro_dr(matrices[0], rhs[0], restart=20, recycle=10).space
    solution = recycled_gcro_dr(matrices[1], rhs[1], restart=20, recycle=4, space=space)
    assert solution.converged
    assert len(solution.space.vectors) <= 4


def test_no_recycling_is_restarted_gmres():
    for kind in ("diffusion", "complex"):
        (A, *_), (b, *_) = sequence(kind)
        plain = restarted_gmres(A, b, restart=15, rtol=1e-6)
        none = recycled_gcro_dr(A, b, restart=15, recycle=0, rtol=1e-6)
        assert np.array_equal(plain.value, none.value)
        assert none.space is None


def test_memory_that_fits_is_used_again_and_changes_nothing():
    matrices, rhs = sequence("convection")
    work = KrylovWork.of(121, 14, 5, np.dtype(float))
    for A, b in zip(matrices, rhs, strict=True):
        alone = recycled_gcro_dr(A, b, restart=14, recycle=5)
        again = recycled_gcro_dr(A, b, restart=14, recycle=5, work=work)
        assert np.array_equal(alone.value, again.value)
        assert not np.shares_memory(again.space.vectors, work.vectors)
    other = recycled_gcro_dr(matrices[0], rhs[0], restart=9, recycle=5, work=work)
    assert np.array_equal(other.value, recycled_gcro_dr(matrices[0], rhs[0], restart=9, recycle=5).value)
