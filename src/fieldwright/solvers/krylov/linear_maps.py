"""What a Krylov method multiplies by: matrices by diagonals or by rows, and functions, behind one face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Int64, Num

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.krylov.matrix_kernels import diagonals_product, rows_product
from fieldwright.solvers.stencil import StencilSystem

Vector = Num[np.ndarray, " n"]


class LinearMap(Protocol):
    """A square matrix known by its products; ``dtype`` is float64 or complex128."""

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> np.dtype: ...

    def product(self, x: Vector, out: Vector) -> None:
        """out = A x; ``out`` may not share memory with ``x``."""
        ...


@dataclass(frozen=True)
class DiagonalMatrix:
    """A matrix by flat diagonals: (A x)_i = Σ_d values[d, i] x[i + offsets[d]].

    ``offsets`` are increasing and distinct, zero among them; values that would meet no entry of x are zero.
    """

    offsets: Int64[np.ndarray, " diagonal"]
    values: Num[np.ndarray, "diagonal n"]

    @property
    def size(self) -> int:
        return self.values.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @cached_property
    def main(self) -> int:
        """Index of the main diagonal."""
        return int(np.searchsorted(self.offsets, 0))

    def product(self, x: Vector, out: Vector) -> None:
        """out = A x."""
        diagonals_product(self.offsets, self.values, x, out)

    def to_csr(self) -> scipy.sparse.csr_array:
        """The same matrix in CSR, stored zeros left out."""
        n = self.size
        padded = [np.roll(line, int(o)) for o, line in zip(self.offsets, self.values, strict=True)]
        matrix = scipy.sparse.dia_array((np.array(padded), self.offsets), shape=(n, n)).tocsr()
        matrix.eliminate_zeros()
        return scipy.sparse.csr_array(matrix)


@dataclass(frozen=True)
class RowMatrix:
    """A matrix by rows (CSR) with sorted columns."""

    starts: Int64[np.ndarray, " n_1"]
    columns: Int64[np.ndarray, " entry"]
    values: Num[np.ndarray, " entry"]

    @property
    def size(self) -> int:
        return len(self.starts) - 1

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def product(self, x: Vector, out: Vector) -> None:
        """out = A x."""
        rows_product(self.starts, self.columns, self.values, x, out)

    def to_csr(self) -> scipy.sparse.csr_array:
        """The same matrix as SciPy's."""
        return scipy.sparse.csr_array((self.values, self.columns, self.starts), shape=(self.size,) * 2)


@dataclass(frozen=True)
class FunctionMap:
    """A function x -> A x of vectors."""

    function: Callable[[np.ndarray], Any]
    size: int
    dtype: np.dtype

    def product(self, x: Vector, out: Vector) -> None:
        """out = A x. Errors: `InputError` for a result of another size, or a complex one where numbers are real."""
        result = np.asarray(self.function(x))
        if result.shape != out.shape:
            raise InputError(f"krylov: the function returned shape {result.shape} for a vector of {len(x)} entries")
        if np.iscomplexobj(result) and not np.iscomplexobj(out):
            raise InputError("krylov: the function returned complex numbers; give it a complex right-hand side")
        out[:] = result


def as_linear_map(source: object, *, like: Vector) -> LinearMap:
    """A `LinearMap` of a SciPy sparse matrix or array, a NumPy matrix, a SciPy `LinearOperator` or a function.

    ``like`` is the right-hand side, which gives the size, and the type of a function's results.

    Errors: `InputError` for a matrix that is not square, does not fit ``like``, or for another type of source.
    """
    n = len(like)
    if isinstance(source, (DiagonalMatrix, RowMatrix, FunctionMap)):
        found: LinearMap = source
        if found.size != n:
            raise InputError(f"krylov: a matrix of {found.size} unknowns for a right-hand side of {n}")
        return found
    shape = getattr(source, "shape", None)
    if shape is not None and tuple(shape) != (n, n):
        raise InputError(
            f"krylov: a matrix of shape {tuple(shape)} for a right-hand side of {n}; it must be square is needed"
        )
    if scipy.sparse.issparse(source):
        return row_matrix(source)
    if isinstance(source, np.ndarray):
        matrix = source.astype(np.result_type(source, np.float64))
        return FunctionMap(lambda x: matrix @ x, n, matrix.dtype)
    if isinstance(source, scipy.sparse.linalg.LinearOperator):
        return FunctionMap(source.matvec, n, np.result_type(source.dtype or float, np.float64))
    if callable(source):
        return FunctionMap(source, n, np.result_type(like, np.float64))
    raise InputError(
        f"krylov: '{type(source).__name__}' is no operator; a matrix, a LinearOperator or a function is needed"
    )


def row_matrix(source: Any) -> RowMatrix:
    """A SciPy sparse matrix by rows, duplicates summed and columns sorted (the source stays as it is)."""
    matrix = scipy.sparse.csr_array(source, copy=True)
    matrix.sum_duplicates()
    values = matrix.data.astype(np.result_type(matrix.dtype, np.float64))
    return RowMatrix(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), values)


class StencilMatrices:
    """The matrices of a batch of stencil systems, by diagonals; the pattern is worked out once.

    An axis that wraps around splits an offset into two diagonals.
    """

    def __init__(self, system: StencilSystem) -> None:
        rows, columns, places = system.pattern
        distance = columns - rows
        self._offsets = np.union1d(distance, [0]).astype(np.int64)
        self._line = np.searchsorted(self._offsets, distance)
        self._row, self._place = rows, places
        # Two offsets of a small periodic grid may name the same entry, whose values then add up.
        self._repeats = len(np.unique(rows * system.unknowns + columns)) < len(rows)
        self._size = system.unknowns
        self._coefficients = system.coefficients.detach().cpu().double().flatten(1).numpy()

    def __len__(self) -> int:
        return len(self._coefficients)

    def __getitem__(self, sample: int) -> DiagonalMatrix:
        values = np.zeros((len(self._offsets), self._size))
        entries = self._coefficients[sample][self._place]
        if self._repeats:
            np.add.at(values, (self._line, self._row), entries)
        else:
            values[self._line, self._row] = entries
        return DiagonalMatrix(self._offsets, values)


def check_finite(vector: Vector, what: str) -> None:
    """Errors: `SolverError` when a vector holds NaN or infinity."""
    if not np.isfinite(vector).all():
        raise SolverError(f"krylov: the {what} holds a NaN or infinite entry")


def as_vector(rhs: object, dtype: np.dtype | None = None) -> Vector:
    """A right-hand side or guess as a contiguous vector of float64 or complex128.

    Errors: `InputError` when it is not one-dimensional or holds no numbers; `SolverError` for NaN or infinity.
    """
    vector = np.asarray(rhs)
    if vector.ndim != 1 or vector.dtype.kind not in "fiuc":
        raise InputError(
            f"krylov: a right-hand side of shape {vector.shape} and type {vector.dtype}; a vector is needed"
        )
    kind = np.result_type(vector, np.float64 if dtype is None else dtype)
    vector = np.ascontiguousarray(vector, dtype=kind)
    check_finite(vector, "right-hand side")
    return cast(np.ndarray, vector)
