"""Preconditioners M of one matrix: none, Jacobi, SSOR, ILU(0), a fast transform, the LU factors of an earlier matrix.

Each is a solve (r, out) -> out = M⁻¹ r, linear in r, with a ``name`` by which a recycled space knows its kind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Int64, Num

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.constant_operator import ConstantOperator
from fieldwright.solvers.krylov.linear_maps import DiagonalMatrix, RowMatrix, Vector, row_matrix
from fieldwright.solvers.krylov.matrix_kernels import diagonals_solve, factor_diagonals, factor_rows, rows_solve

Matrix = DiagonalMatrix | RowMatrix | scipy.sparse.sparray | scipy.sparse.spmatrix


class Preconditioner(Protocol):
    """M⁻¹, an approximation of A⁻¹."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> np.dtype: ...

    def solve(self, r: Vector, out: Vector) -> None:
        """out = M⁻¹ r; ``out`` may not share memory with ``r``."""
        ...


class NoPreconditioner:
    """M = 1."""

    name = "none"
    dtype = np.dtype(np.float64)

    def solve(self, r: Vector, out: Vector) -> None:
        """out = r."""
        out[:] = r


NONE = NoPreconditioner()


class Jacobi:
    """M = diag A. Errors: `SolverError` naming a row whose diagonal entry is zero."""

    name = "jacobi"

    def __init__(self, matrix: Matrix) -> None:
        self._inverse = 1.0 / _checked_diagonal(_stored(matrix), "jacobi")
        self.dtype = self._inverse.dtype

    def solve(self, r: Vector, out: Vector) -> None:
        """out = D⁻¹ r."""
        np.multiply(r, self._inverse, out=out)


class TriangularFactors:
    """M = L U with a unit lower and an upper triangle on the pattern of A."""

    def __init__(self, name: str, matrix: DiagonalMatrix | RowMatrix, pivots: Num[np.ndarray, " n"]) -> None:
        """``matrix`` holds L below its diagonal, and above it U's rows over their pivots (``pivots``: the inverses)."""
        self.name = name
        self.dtype = matrix.dtype
        self.pivots = pivots
        self.stored = matrix
        if isinstance(matrix, DiagonalMatrix):
            beside = np.arange(len(matrix.offsets)) != matrix.main
            self._offsets, self._values = matrix.offsets[beside], np.ascontiguousarray(matrix.values[beside])
        else:
            self._diagonal = _places_of_diagonal(matrix, name)

    def solve(self, r: Vector, out: Vector) -> None:
        """out = U⁻¹ L⁻¹ r."""
        matrix = self.stored
        if isinstance(matrix, DiagonalMatrix):
            diagonals_solve(self._offsets, self._values, matrix.main, self.pivots, r, out)
        else:
            rows_solve(matrix.starts, matrix.columns, matrix.values, self._diagonal, self.pivots, r, out)


def ilu0(matrix: Matrix) -> TriangularFactors:
    """Incomplete LU without fill: L U agrees with A on the pattern of A (exact for tridiagonal matrices).

    Errors: `SolverError` naming the row where elimination met a zero or infinite pivot.
    """
    stored = _stored(matrix)
    pivots = np.ones(stored.size, stored.dtype)
    if isinstance(stored, DiagonalMatrix):
        _checked_diagonal(stored, "ilu(0)", zero_allowed=True)
        offsets, values = stored.offsets, stored.values.copy()
        lower = stored.main
        sums = offsets[:lower, None] + offsets[None, :]
        places = np.searchsorted(offsets, sums).clip(max=len(offsets) - 1)
        targets = np.where(offsets[places] == sums, places, -1)
        failed = factor_diagonals(offsets, values, lower, lower, targets, pivots)
        factors: DiagonalMatrix | RowMatrix = DiagonalMatrix(offsets, values)
    else:
        values = stored.values.copy()
        failed = factor_rows(stored.starts, stored.columns, values, _places_of_diagonal(stored, "ilu(0)"), pivots)
        factors = RowMatrix(stored.starts, stored.columns, values)
    if failed >= 0:
        raise SolverError(
            f"ilu(0): no pivot in row {failed}; the matrix needs a non-zero diagonal that elimination keeps"
        )
    return TriangularFactors("ilu(0)", factors, pivots)


def ssor(matrix: Matrix, *, relaxation: float = 1.0) -> TriangularFactors:
    """Symmetric successive over-relaxation, M = (D + ωL) D⁻¹ (D + ωU) / (ω (2 - ω)).

    Errors: `InputError` for ω outside (0, 2); `SolverError` naming a row whose diagonal entry is zero.
    """
    if not 0 < relaxation < 2:
        raise InputError(f"ssor: relaxation = {relaxation}; a number between 0 and 2 is needed")
    stored = _stored(matrix)
    inverse = 1.0 / _checked_diagonal(stored, "ssor")
    pivots = relaxation * (2 - relaxation) * inverse
    if isinstance(stored, DiagonalMatrix):
        values = relaxation * stored.values
        n = stored.size
        for line, offset in zip(values[: stored.main], stored.offsets[: stored.main], strict=True):
            line[-offset:] *= inverse[: n + offset]
        values[stored.main + 1 :] *= inverse
        return TriangularFactors("ssor", DiagonalMatrix(stored.offsets, values), pivots)
    row = np.repeat(np.arange(stored.size), np.diff(stored.starts))
    scale = np.where(stored.columns < row, inverse[stored.columns], inverse[row])
    return TriangularFactors(
        "ssor", RowMatrix(stored.starts, stored.columns, relaxation * stored.values * scale), pivots
    )


class EarlierFactors:
    """M = the complete LU factors of another matrix, such as an earlier one of a sequence (SuperLU).

    Errors: `SolverError` for a singular matrix.
    """

    name = "earlier lu"

    def __init__(self, matrix: Matrix) -> None:
        columns = scipy.sparse.csc_array(_stored(matrix).to_csr())
        try:
            self._factors = scipy.sparse.linalg.splu(columns)
        except RuntimeError as error:
            raise SolverError(f"earlier lu: the matrix is singular ({error})") from None
        self.dtype = columns.dtype

    def solve(self, r: Vector, out: Vector) -> None:
        """out = M⁻¹ r."""
        if np.iscomplexobj(r) and self.dtype.kind != "c":
            out[:] = self._factors.solve(np.real(r).copy()) + 1j * self._factors.solve(np.imag(r).copy())
        else:
            out[:] = self._factors.solve(r)


class ConstantInverse:
    """M = the constant-coefficient operator nearest to a stencil system, inverted by trigonometric transforms.

    ``operator`` may hold a batch, of which ``sample`` is taken.
    """

    name = "spectral"
    dtype = np.dtype(np.float64)

    def __init__(self, operator: ConstantOperator, shape: tuple[int, ...], sample: int = 0) -> None:
        mine = replace(operator, strength=operator.strength[[sample]], shift=operator.shift[[sample]])
        self._shape = shape
        self._bases = [axis.matrix.numpy() for axis in operator.axes]
        self._inverse = mine.inverse_eigenvalues()[0].numpy()
        self._root = operator.mass.sqrt()[0].expand(shape).contiguous().numpy()

    def solve(self, r: Vector, out: Vector) -> None:
        """out = M⁻¹ r, by one transform to modes and one back."""
        field = r.reshape(self._shape) / self._root
        for axis, basis in enumerate(self._bases):
            field = _along(field, basis, axis)
        field = field * self._inverse
        for axis, basis in enumerate(self._bases):
            field = _along(field, basis.T, axis)
        np.divide(field, self._root, out=out.reshape(self._shape))


def _along(field: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Multiply by a matrix along one axis."""
    last = field.ndim - 1
    if axis == last:
        return field @ matrix.T
    return (
        np.matmul(matrix, field) if axis == last - 1 else np.moveaxis(np.tensordot(matrix, field, (1, axis)), 0, axis)
    )


def _stored(matrix: Matrix) -> DiagonalMatrix | RowMatrix:
    if isinstance(matrix, (DiagonalMatrix, RowMatrix)):
        return matrix
    if scipy.sparse.issparse(matrix):
        return row_matrix(matrix)
    raise InputError(f"preconditioner: '{type(matrix).__name__}' has no entries; a sparse matrix is needed")


def _checked_diagonal(
    matrix: DiagonalMatrix | RowMatrix, name: str, *, zero_allowed: bool = False
) -> Num[np.ndarray, " n"]:
    if isinstance(matrix, DiagonalMatrix):
        diagonal = matrix.values[matrix.main]
    else:
        diagonal = cast(np.ndarray, matrix.to_csr().diagonal())
    bad = np.flatnonzero(~np.isfinite(diagonal) | ((diagonal == 0) & (not zero_allowed)))
    if len(bad) > 0:
        raise SolverError(
            f"{name}: the diagonal entry of row {bad[0]} is {diagonal[bad[0]]}; it must be finite, not zero"
        )
    return diagonal


def _places_of_diagonal(matrix: RowMatrix, name: str) -> Int64[np.ndarray, " n"]:
    row = np.repeat(np.arange(matrix.size), np.diff(matrix.starts))
    places = np.flatnonzero(matrix.columns == row)
    if len(places) < matrix.size:
        missing = int(np.setdiff1d(np.arange(matrix.size), matrix.columns[places])[0])
        raise SolverError(f"{name}: row {missing} has no diagonal entry; the pattern must hold all of them")
    return places.astype(np.int64)
