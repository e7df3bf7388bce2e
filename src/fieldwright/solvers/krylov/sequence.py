"""A batch of stencil systems solved one after the other, sorted, in pieces, each recycling within itself (SKR).

Sorted by similarity (`ordering`), the samples are cut into pieces of about `PIECE`, and the pieces are shared out to
threads. Where the cuts are depends on the batch alone, so the bits do not depend on the number of threads. Results come
back in the batch's own order.

A guard watches over the recycling, because a recycled space can be worse than none: the first systems of a piece are
solved both ways, and where recycling has not saved products the rest of the piece does without.

Source: H. Wang et al., "Accelerating data generation for neural operators via Krylov subspace recycling", ICLR 2024;
the guard and the earlier factors as preconditioner are ours.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.constant_operator import ConstantOperator, nearest_constant_operator
from fieldwright.solvers.krylov.arnoldi import KrylovWork
from fieldwright.solvers.krylov.linear_maps import DiagonalMatrix, StencilMatrices
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
from fieldwright.solvers.krylov.single import recycled_gcro_dr
from fieldwright.solvers.krylov.subspaces import smallest_invariant_subspace, subspace_distance
from fieldwright.solvers.ordering import Parameters, similarity_order
from fieldwright.solvers.stencil import Solution, StencilSystem
from fieldwright.solvers.threads import on_threads

PRECONDITIONERS = ("auto", "none", "jacobi", "ssor", "ilu(0)", "spectral", "earlier lu")

RESTART = 40
RECYCLE = 20
# Long enough that the first system of a piece, which has nothing to start from, does not count; short enough to share.
PIECE = 32
GUARDED = 2
MAX_ITERATIONS = 2000
# Complete factors of an earlier sample stay small in 2D up to this size.
FACTOR_UNKNOWNS = 40_000
# Factors that have needed so many iterations are renewed: about what a factorisation costs.
RENEW_FROM = 25
MAX_BYTES = 4 * 2**30


@dataclass(frozen=True)
class SequenceReport:
    """How a sequence went.

    ``order``     the samples as they were solved; ``pieces`` the places in it where a piece begins
    ``recycling`` for each piece, whether the guard left recycling on
    ``products``  with the matrix, per sample, without the guard's second solves
    ``distances`` per sample δ(Q, U) between the invariant subspace of the sample's eigenvalues nearest to zero and the
                  space it started from (NaN where there was none); empty unless asked for
    """

    order: Int64[np.ndarray, " sample"]
    pieces: Int64[np.ndarray, " piece"]
    recycling: Bool[np.ndarray, " piece"]
    products: Int64[np.ndarray, " sample"]
    distances: Float64[np.ndarray, " measured"] = field(default_factory=lambda: np.zeros(0))


def supports_gmres(system: StencilSystem) -> str | None:
    """Why neither `gmres` nor `gcro_dr` should take the system, or None."""
    bytes_needed = 8 * system.unknowns * (RESTART + RECYCLE + 8)
    if bytes_needed > MAX_BYTES:
        return (
            f"a Krylov basis of {system.unknowns} unknowns needs {bytes_needed / 2**30:.0f} GiB for each thread, above"
            f" the limit of {MAX_BYTES / 2**30:.0f}"
        )
    if system.nullspace and system.kind != "spd":
        return f"a singular system is taken only where it is positive semi-definite, not of kind '{system.kind}'"
    return None


def gmres(
    system: StencilSystem,
    *,
    rtol: float,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch of any kind by GMRES(40), one sample after the other.

    Preconditioned on the right by the nearest constant operator (positive definite systems), by the complete factors of
    an earlier sample (symmetric indefinite ones in 2D), or by ILU(0).

    Errors: `SolverError` for a system that `supports_gmres` refuses.
    """
    return solve_sequence(system, rtol=rtol, guess=guess, max_iterations=max_iterations, recycle=0)[0]


def gcro_dr(
    system: StencilSystem,
    *,
    rtol: float,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch of any kind by GCRO-DR(40, 20) along the similarity sort, preconditioned as `gmres`.

    A sample's bits depend on the batch that it is solved in, because it starts from what its neighbours left.

    Errors: `SolverError` for a system that `supports_gmres` refuses.
    """
    return solve_sequence(system, rtol=rtol, guess=guess, max_iterations=max_iterations)[0]


@torch.no_grad()
def solve_sequence(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
    restart: int = RESTART,
    recycle: int = RECYCLE,
    preconditioner: str = "auto",
    parameters: Parameters | None = None,
    ordering: str = "auto",
    piece: int = PIECE,
    guard: bool = True,
    measure_distances: bool = False,
) -> tuple[Solution, SequenceReport]:
    """Solve a batch as a sequence of related systems; ``recycle`` = 0 is GMRES(``restart``).

    ``parameters``      what similarity is measured by, as `similarity_order` takes it; by default the systems' own
                        diagonals (and skew parts, or right-hand sides where all matrices are the same)
    ``ordering``        a method of `similarity_order`; "none" keeps the batch's order
    ``piece``           systems that recycle from each other, about
    ``guard``           solve the first systems of a piece with and without recycling, and go on with what took less

    Errors: `InputError` for an unknown preconditioner or ordering; `SolverError` for a system that `supports_gmres`
    refuses.
    """
    if preconditioner not in PRECONDITIONERS:
        raise InputError(
            f"krylov: no preconditioner '{preconditioner}'; there are {', '.join(map(repr, PRECONDITIONERS))}"
        )
    if piece < 1:
        raise InputError(f"krylov: piece = {piece}; a whole number of at least 1 is needed")
    reason = supports_gmres(system)
    if reason is not None:
        raise SolverError(f"solve: {reason}")
    start = time.perf_counter()
    if preconditioner == "auto":
        preconditioner = default_preconditioner(system)
    related = recycle > 0 or preconditioner == "earlier lu"
    chosen = system_parameters(system) if parameters is None and related else parameters
    order = similarity_order(chosen, method=ordering) if related and system.batch > 2 else np.arange(system.batch)
    cuts = np.array_split(order, max(1, round(system.batch / piece)))
    chain = _Chain(
        system, guess, rtol, MAX_ITERATIONS if max_iterations is None else max_iterations, restart, recycle,
        preconditioner, guard and recycle > 0, measure_distances,
    )  # fmt: skip
    recycling = on_threads(chain.run, cuts)
    values = torch.from_numpy(chain.values).reshape(system.rhs.shape).to(system.rhs.device)
    report = SequenceReport(
        order=order,
        pieces=np.cumsum([0, *(len(cut) for cut in cuts[:-1])]),
        recycling=np.array(recycling),
        products=chain.products,
        distances=chain.distances if measure_distances else np.zeros(0),
    )
    residual = system.relative_residual(values)
    name = "gcro-dr" if recycle > 0 else "gmres"
    notes = [f"{name}({restart}{f', {recycle}' if recycle > 0 else ''}), preconditioner: {preconditioner}"]
    if recycle > 0:
        kept = sum(recycling)
        notes.append(
            f"{len(cuts)} pieces, sorted by '{ordering}'; recycling kept in {kept}, none in {len(cuts) - kept}"
        )
    solution = Solution(
        values=values,
        converged=residual <= rtol,
        iterations=torch.from_numpy(chain.iterations),
        residual=residual,
        seconds=time.perf_counter() - start,
        method=name,
        notes=tuple(notes),
    )
    return solution, report


def default_preconditioner(system: StencilSystem) -> str:
    """By kind: "spectral" where positive definite, "earlier lu" where symmetric, 2D and not large, else "ilu(0)"."""
    if system.batch == 0:
        return "none"
    if system.kind == "spd":
        try:
            nearest_constant_operator(system.select(slice(0, 1)))
        except SolverError:
            return "none" if system.nullspace else "ilu(0)"
        return "spectral"
    if system.kind == "symmetric" and len(system.shape) <= 2 and system.unknowns <= FACTOR_UNKNOWNS:
        return "earlier lu"
    return "ilu(0)"


def system_parameters(system: StencilSystem) -> tuple[Tensor, ...]:
    """What tells the systems of a batch apart: diagonals and, of general systems, skew parts; else right-hand sides."""
    parts: list[Tensor] = [system.diagonal]
    if system.kind == "general":
        for index, offset in enumerate(system.offsets):
            opposite = tuple(-o for o in offset)
            if offset > opposite and opposite in system.offsets:
                parts.append(system.coefficients[:, index] - system.coefficients[:, system.offsets.index(opposite)])
    varying = tuple(part for part in parts if bool((part != part[:1]).any()))
    return varying or (system.rhs,)


class _Chain:
    """The arrays of a batch, and the solution of one piece after the other."""

    def __init__(
        self,
        system: StencilSystem,
        guess: Tensor | None,
        rtol: float,
        max_iterations: int,
        restart: int,
        recycle: int,
        preconditioner: str,
        guard: bool,
        measure: bool,
    ) -> None:
        self._system = system.to("cpu")
        self._matrices = StencilMatrices(system)
        self._rhs = system.rhs.detach().cpu().double().flatten(1).numpy()
        self._guess = None if guess is None else guess.detach().cpu().double().flatten(1).numpy()
        self._rtol, self._limit = rtol, max_iterations
        self._restart, self._recycle = restart, recycle
        self._preconditioner, self._guard, self._measure = preconditioner, guard, measure
        self._local = threading.local()
        self.values = np.zeros_like(self._rhs)
        self.iterations = np.zeros(system.batch, np.int64)
        self.products = np.zeros(system.batch, np.int64)
        self.distances = np.full(system.batch, np.nan)

    def run(self, piece: Int64[np.ndarray, " sample"]) -> bool:
        """Solve the samples of a piece in turn; returns whether recycling was kept to its end."""
        recycling = self._recycle > 0
        space: RecycledSpace | None = None
        factors: EarlierFactors | None = None
        constant = self._constant_operator(piece)
        saved = 0
        for place, sample in enumerate(piece):
            matrix = self._matrices[sample]
            if self._preconditioner == "earlier lu":
                factors = factors or _factors(matrix)
            M = factors or self._prepare(matrix, constant, place)
            if self._measure and space is not None:
                self.distances[sample] = subspace_distance(smallest_invariant_subspace(matrix), space.vectors)
            solution = self._solve(int(sample), matrix, M, space if recycling else None)
            if self._guard and recycling and 1 <= place <= GUARDED:
                fresh = self._solve(int(sample), matrix, M, None)
                saved += fresh.products - solution.products
                recycling = place < GUARDED or saved > 0
            space = solution.space
            if factors is not None and solution.iterations > RENEW_FROM:
                factors = None
            self.values[sample] = solution.value
            self.iterations[sample], self.products[sample] = solution.iterations, solution.products
        return recycling

    def _solve(
        self, sample: int, matrix: DiagonalMatrix, M: Preconditioner, space: RecycledSpace | None
    ) -> KrylovSolution:
        solution = recycled_gcro_dr(
            matrix,
            self._rhs[sample],
            space=space,
            preconditioner=M,
            guess=None if self._guess is None else self._guess[sample],
            restart=self._restart,
            recycle=self._recycle,
            rtol=self._rtol,
            max_iterations=self._limit,
            work=self._work(matrix.size),
        )
        if self._system.nullspace:
            solution.value[:] -= solution.value.mean()
        return solution

    def _work(self, size: int) -> KrylovWork:
        restart = min(self._restart, size)
        recycle = min(self._recycle, restart - 1)
        if not hasattr(self._local, "work"):
            self._local.work = KrylovWork.of(size, restart, recycle, np.dtype(np.float64))
        return self._local.work

    def _constant_operator(self, piece: Int64[np.ndarray, " sample"]) -> ConstantOperator | None:
        """The nearest constant operators of a piece, where they are asked for and every sample has one."""
        if self._preconditioner != "spectral" or len(piece) == 0:
            return None
        try:
            return nearest_constant_operator(self._system.select(torch.from_numpy(piece)))
        except SolverError:
            return None

    def _prepare(self, matrix: DiagonalMatrix, constant: ConstantOperator | None, place: int) -> Preconditioner:
        """The preconditioner asked for; none where the matrix has no such."""
        if self._preconditioner == "spectral" and constant is not None:
            return ConstantInverse(constant, self._system.shape, place)
        try:
            if self._preconditioner == "ilu(0)":
                return ilu0(matrix)
            if self._preconditioner == "ssor":
                return ssor(matrix)
            if self._preconditioner == "jacobi":
                return Jacobi(matrix)
        except SolverError:
            return NONE
        return NONE


def _factors(matrix: DiagonalMatrix) -> EarlierFactors | None:
    try:
        return EarlierFactors(matrix)
    except SolverError:
        return None
