"""Krylov methods for systems of any kind: restarted GMRES, and GCRO-DR that recycles from one system to the next."""

from fieldwright.solvers.krylov.linear_maps import DiagonalMatrix, LinearMap, RowMatrix, StencilMatrices
from fieldwright.solvers.krylov.preconditioned_system import KrylovSolution, RecycledSpace
from fieldwright.solvers.krylov.preconditioners import (
    NONE,
    ConstantInverse,
    EarlierFactors,
    Jacobi,
    Preconditioner,
    ilu0,
    ssor,
)
from fieldwright.solvers.krylov.sequence import SequenceReport, gcro_dr, gmres, solve_sequence, supports_gmres
from fieldwright.solvers.krylov.single import recycled_gcro_dr, restarted_gmres
from fieldwright.solvers.krylov.subspaces import smallest_invariant_subspace, subspace_distance

__all__ = [
    "NONE",
    "ConstantInverse",
    "DiagonalMatrix",
    "EarlierFactors",
    "Jacobi",
    "KrylovSolution",
    "LinearMap",
    "Preconditioner",
    "RecycledSpace",
    "RowMatrix",
    "SequenceReport",
    "StencilMatrices",
    "gcro_dr",
    "gmres",
    "ilu0",
    "recycled_gcro_dr",
    "restarted_gmres",
    "smallest_invariant_subspace",
    "solve_sequence",
    "ssor",
    "subspace_distance",
    "supports_gmres",
]
