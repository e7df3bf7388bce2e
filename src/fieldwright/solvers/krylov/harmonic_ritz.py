"""The harmonic Ritz vectors of a cycle, and the recycle space they span.

A cycle leaves B V̂ = Ŵ G with V̂ = [U V_p], Ŵ = [C V_{p+1}] orthonormal and G = [[1, Cᴴ B V_p], [0, H_p]]. Its harmonic
Ritz pairs solve Gᴴ G ζ = θ Gᴴ Ŵᴴ V̂ ζ; the k smallest |θ| approximate the eigenvalues that slow the iteration down. With
G = Q R (Q from the rotations that the cycle has made anyway) and y = R ζ this is

    F y = θ⁻¹ y,     F = Qᴴ (Ŵᴴ V̂) R⁻¹,

a standard problem for the *largest* eigenvalues: infinite θ are zeros here and never wanted, and scaling the columns of
U changes nothing. An orthonormal basis Y of the invariant subspace is all that is needed, because then

    C ← Ŵ Q Y,    U ← V̂ R⁻¹ Y,    Cᴴ U = Yᴴ F Y

has B U = C with C orthonormal. Y comes from the Schur form, reordered (so that conjugate pairs stay together), and from
the symmetric eigenproblem where B, and with it F, is Hermitian.

Source: M. L. Parks et al., "Recycling Krylov subspaces for sequences of linear systems", SIAM J. Sci. Comput. 28
(2006); R. B. Morgan, "GMRES with deflated restarting", SIAM J. Sci. Comput. 24 (2002).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Num

from fieldwright.solvers.krylov import vector_kernels as kernels
from fieldwright.solvers.krylov.arnoldi import Cycle, KrylovWork

# F counts as Hermitian when its defect is below this share of it.
HERMITIAN = 1e-8
# R's diagonal below this share of its largest: the cycle has no full rank and its space is not renewed.
SINGULAR = 1e-13


def renew(
    work: KrylovWork, cycle: Cycle, overlap: Num[np.ndarray, "held held"], recycle: int
) -> Num[np.ndarray, "kept kept"]:
    """Put the recycle space after a cycle in place of the one before; returns the new Cᴴ U.

    ``overlap`` is the old Cᴴ U. At most ``recycle`` vectors are kept, one fewer rather than half a conjugate pair.
    """
    k, p, steps = cycle.held, cycle.rank, cycle.steps
    size = k + p
    cosines, sines = work.rotations
    if min(recycle, size) == 0:
        return overlap
    R = np.eye(size, dtype=work.rows.dtype)
    R[:k, k:] = cycle.coupling
    R[k:, k:] = cycle.triangle
    diagonal = np.abs(np.diagonal(R)[k:])
    if not np.isfinite(R).all() or diagonal.min() <= SINGULAR * diagonal.max():
        return overlap
    # Ŵᴴ V̂; the Krylov vectors are orthogonal to C and among themselves.
    F = np.zeros((k + steps + 1, size), R.dtype)
    F[:k, :k] = overlap
    F[k : k + p, k:] = np.eye(p)
    if k > 0:
        beside = np.zeros((steps + 1, k), R.dtype)
        kernels.products(cycle.basis, steps + 1, work.vectors, k, beside)
        F[k:, :k] = beside
    kernels.rotate_rows(F[k:], steps, cosines, sines)
    F = scipy.linalg.solve_triangular(R.T, F[:size].T, lower=True, check_finite=False).T
    if not np.isfinite(F).all():
        return overlap
    Y = dominant_subspace(F, recycle)
    images = np.zeros((k + steps + 1, Y.shape[1]), R.dtype)
    images[:size] = Y
    kernels.rotate_back(images[k:], steps, cosines, sines)
    vectors = scipy.linalg.solve_triangular(R, Y, check_finite=False)
    kernels.recombine(
        work.rows, k + steps + 1, work.vectors, k, cycle.basis, p,
        images, np.ascontiguousarray(vectors[:k]), np.ascontiguousarray(vectors[k:]),
    )  # fmt: skip
    return Y.conj().T @ F @ Y


def dominant_subspace(F: Num[np.ndarray, "n n"], count: int) -> Num[np.ndarray, "n kept"]:
    """Orthonormal basis of the invariant subspace of the ``count`` eigenvalues of largest modulus.

    Real matrices give a real basis; a conjugate pair that would be cut in two is left out.
    """
    count = min(count, len(F))
    if np.linalg.norm(F - F.conj().T) <= HERMITIAN * np.linalg.norm(F):
        values, vectors = np.linalg.eigh((F + F.conj().T) / 2)
        chosen = np.argsort(-np.abs(values), kind="stable")[:count]
        return np.ascontiguousarray(vectors[:, chosen])
    real = F.dtype.kind != "c"
    gees, trsen = scipy.linalg.get_lapack_funcs(("gees", "trsen"), (F,))
    # SciPy's wrapper asks for a selection even where none is made.
    schur = gees(lambda *_: None, F)
    T, Z, values = schur[0], schur[-3], schur[2] + 1j * schur[3] if real else schur[2]
    order = np.argsort(-np.abs(values), kind="stable")
    chosen = np.zeros(len(F), np.int32)
    chosen[order[:count]] = 1
    if real:
        for i in np.flatnonzero(values.imag > 0):  # its conjugate comes next
            if chosen[i] != chosen[i + 1]:
                chosen[i] = chosen[i + 1] = 0
    kept = int(chosen.sum())
    Z = trsen(chosen, T, Z, job="N", lwork=max(1, len(F)))[1]
    return np.ascontiguousarray(Z[:, :kept])
