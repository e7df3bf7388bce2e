"""How far two subspaces are apart: the quality of a recycled space for the next matrix.

    δ(Q, C) = ‖(1 - Π_C) Π_Q‖₂,

the sine of the largest principal angle between Q, the invariant subspace of the few eigenvalues nearest to zero, and C.
Where δ is small the recycled space deflates those eigenvalues from the first step on; near 1 it misses one of them.

Source: M. L. Parks et al., SIAM J. Sci. Comput. 28 (2006), theorem 3.1; the measure of H. Wang et al., ICLR 2024.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Num

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.krylov.linear_maps import DiagonalMatrix, RowMatrix

# Matrices up to this size are decomposed densely.
DENSE = 400

Rows = Num[np.ndarray, "vector n"]


def subspace_distance(invariant: Num[np.ndarray, "one n"], recycled: Num[np.ndarray, "other m"]) -> float:
    """δ(Q, C) for spans given by the rows of two arrays, which need not be orthonormal (nor complete in rank).

    Errors: `InputError` for vectors of different lengths, or an empty ``invariant``.
    """
    if invariant.shape[1] != recycled.shape[1] or len(invariant) == 0:
        raise InputError(
            f"subspace_distance: subspaces of shapes {invariant.shape} and {recycled.shape} do not compare"
        )
    Q = scipy.linalg.orth(invariant.T)
    C = scipy.linalg.orth(recycled.T) if len(recycled) > 0 else np.zeros((Q.shape[0], 0))
    outside = Q - C @ (C.conj().T @ Q)
    return float(min(1.0, np.linalg.norm(outside, 2)))


def smallest_invariant_subspace(matrix: object, count: int = 3) -> Rows:
    """Orthonormal basis (as rows) of the invariant subspace of the ``count`` eigenvalues of least modulus.

    ``matrix`` is a SciPy sparse or NumPy matrix, or one by diagonals or rows. A real matrix gives a real basis; where
    the last eigenvalue is half of a conjugate pair, its partner is taken as well.

    Errors: `SolverError` for a singular matrix, `InputError` when there are not so many eigenvalues.
    """
    sparse = scipy.sparse.csc_array(
        matrix.to_csr() if isinstance(matrix, (DiagonalMatrix, RowMatrix)) else cast("scipy.sparse.sparray", matrix)
    )
    n = len(sparse.indptr) - 1
    if not 1 <= count < n:
        raise InputError(f"smallest_invariant_subspace: {count} of {n} eigenvalues; from 1 to {n - 1} are possible")
    if n <= DENSE:
        values, vectors = np.linalg.eig(sparse.toarray())
    else:
        # SciPy's type hints know neither the pair that comes back nor a tolerance that is not whole.
        nearest = cast(Any, scipy.sparse.linalg.eigs)
        try:
            values, vectors = nearest(sparse, k=min(count + 2, n - 2), sigma=0.0, v0=np.ones(n), tol=1e-10)
        except RuntimeError as error:
            raise SolverError(f"smallest_invariant_subspace: {error}") from None
    order = np.argsort(np.abs(values), kind="stable")
    if sparse.dtype.kind == "c":
        return scipy.linalg.orth(vectors[:, order[:count]]).T.copy()
    # A conjugate pair spans one real plane; cut in two, it leaves the sum of the eigenvalues complex.
    cut = abs(values[order[:count]].sum().imag) > 1e-10 * np.abs(values[order[:count]]).max()
    chosen = vectors[:, order[: count + 1 if cut else count]]
    return scipy.linalg.orth(np.concatenate([np.real(chosen), np.imag(chosen)], axis=1), rcond=1e-8).T.copy()
