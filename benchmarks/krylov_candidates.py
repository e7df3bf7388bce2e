"""The Krylov solvers that `recycling.py` compares, each a function from a sample's number to its solution."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
from threadpoolctl import threadpool_limits

from fieldwright.solvers import StencilSystem
from fieldwright.solvers.krylov import DiagonalMatrix, StencilMatrices, ilu0, recycled_gcro_dr

RTOL = 1e-6
MAX_ITERATIONS = 10_000

Answer = tuple[np.ndarray, int, int]


@dataclass
class Problem:
    """The systems of a setting in every format that a candidate takes, and two orders of them."""

    name: str
    system: StencilSystem
    order: np.ndarray
    diagonals: list[DiagonalMatrix] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    rhs: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        matrices = StencilMatrices(self.system)
        self.diagonals = [matrices[i] for i in range(len(matrices))]
        self.rows = [self.system.to_csr(i) for i in range(len(matrices))]
        self.rhs = self.system.rhs.flatten(1).numpy().copy()


class Ours:
    """Our GMRES or GCRO-DR along a sequence."""

    def __init__(self, problem: Problem, *, restart: int, recycle: int, carry: bool, incomplete: bool) -> None:
        self._problem, self._carry, self._incomplete = problem, carry, incomplete
        self._restart, self._recycle = restart, recycle
        self._space = None

    def __call__(self, sample: int) -> Answer:
        matrix = self._problem.diagonals[sample]
        solution = recycled_gcro_dr(
            matrix,
            self._problem.rhs[sample],
            preconditioner=ilu0(matrix) if self._incomplete else None,
            space=self._space if self._carry else None,
            restart=self._restart,
            recycle=self._recycle,
            rtol=RTOL,
            max_iterations=MAX_ITERATIONS,
        )
        self._space = solution.space
        return solution.value, solution.products, solution.iterations


class SciPy:
    """SciPy's gmres(40), left-preconditioned by our ILU(0) where asked."""

    def __init__(self, problem: Problem, *, incomplete: bool) -> None:
        self._problem, self._incomplete = problem, incomplete

    def __call__(self, sample: int) -> Answer:
        A, b = self._problem.rows[sample], self._problem.rhs[sample]
        M = None
        if self._incomplete:
            factors = ilu0(A)
            out = np.empty_like(b)

            def solve(r: np.ndarray) -> np.ndarray:
                factors.solve(np.ascontiguousarray(r), out)
                return out.copy()

            M = scipy.sparse.linalg.LinearOperator(A.shape, matvec=solve, dtype=float)
        steps: list[float] = []
        cycles = MAX_ITERATIONS // 40
        x, _ = scipy.sparse.linalg.gmres(
            A, b, rtol=RTOL, restart=40, maxiter=cycles, M=M, callback=steps.append, callback_type="pr_norm"
        )
        return x, len(steps) + -(-len(steps) // 40), len(steps)


def load_hpddm(path: Path) -> ctypes.CDLL:
    """The driver; its MPI may run as root and alone."""
    os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
    os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    library = ctypes.CDLL(str(path))
    # It has brought a BLAS of its own, which waits for its threads ever so busily.
    threadpool_limits(1, user_api="blas")
    library.hpddm_open.restype = ctypes.c_void_p
    return library


class Hpddm:
    """HPDDM's GMRES or GCRO-DR through a driver, right-preconditioned by our ILU(0) where asked.

    The driver has the C functions ``hpddm_open(n, starts, columns, diagonal)`` -> handle for a CSR pattern of 32-bit
    integers, ``hpddm_solve(handle, values, factors or NULL, rhs, x, options, carry, products)`` -> iterations, which
    solves from zero and counts the products (a long), and ``hpddm_close(handle)``. Factors stand on the pattern, L unit
    lower and U upper; without ``carry`` the recycled space is thrown away first.
    """

    def __init__(self, library: ctypes.CDLL, problem: Problem, *, method: str, carry: bool, incomplete: bool) -> None:
        self._library = library
        self._problem, self._carry, self._incomplete = problem, carry, incomplete
        first = problem.rows[0]
        self._starts, self._columns = first.indptr.astype(np.int32), first.indices.astype(np.int32)
        row = np.repeat(np.arange(first.shape[0]), np.diff(self._starts))
        self._diagonal = np.flatnonzero(self._columns == row).astype(np.int32)
        self._upper, self._row = self._columns > row, row
        self._options = (
            f"-hpddm_krylov_method {method} -hpddm_gmres_restart 40 -hpddm_recycle 20 -hpddm_tol {RTOL}"
            f" -hpddm_max_it {MAX_ITERATIONS} -hpddm_variant right -hpddm_verbosity 0"
        ).encode()
        self._handle = ctypes.c_void_p(
            self._library.hpddm_open(
                first.shape[0], *(_address(a) for a in (self._starts, self._columns, self._diagonal))
            )
        )

    def __call__(self, sample: int) -> Answer:
        values = np.ascontiguousarray(self._problem.rows[sample].data)
        b = self._problem.rhs[sample]
        x, products, factors = np.empty_like(b), ctypes.c_long(), None
        if self._incomplete:
            made = ilu0(self._problem.rows[sample])
            # The driver divides by the pivots itself; this conversion is a hundredth of the factorisation.
            factors = made.stored.values.copy()
            factors[self._upper] /= made.pivots[self._row[self._upper]]
        iterations = self._library.hpddm_solve(
            self._handle, _address(values), None if factors is None else _address(factors), _address(b), _address(x),
            self._options, int(self._carry), ctypes.byref(products),
        )  # fmt: skip
        return x, products.value, iterations


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
