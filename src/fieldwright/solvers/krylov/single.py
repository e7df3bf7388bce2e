"""One system by restarted GMRES or by GCRO-DR, right-preconditioned, real or complex.

GMRES(m) seeks x = x_0 + M⁻¹ z, z in the Krylov space of A M⁻¹ and r_0, with the least ‖b - A x‖, and after m steps
starts again from there. GCRO-DR(m, k) is GMRES with deflated restarting whose recycled space is carried on.
Between cycles, and between systems, the space U of the k harmonic Ritz vectors that belong to the smallest |θ| is kept,
with C = B U orthonormal (B = A M⁻¹). A cycle takes C out of the residual, r ← (1 - C Cᴴ) r, and runs Arnoldi with
(1 - C Cᴴ) B, so the eigenvalues that U stands for no longer slow it down. For a new matrix C is recomputed from U by k
products and a QR factorisation.

Source: Y. Saad, M. H. Schultz, "GMRES", SIAM J. Sci. Stat. Comput. 7 (1986); M. L. Parks, E. de Sturler, G. Mackey,
D. D. Johnson, S. Maiti, "Recycling Krylov subspaces for sequences of linear systems", SIAM J. Sci. Comput. 28 (2006).
"""

from __future__ import annotations

import numpy as np

from fieldwright.errors import InputError
from fieldwright.solvers.krylov import vector_kernels as kernels
from fieldwright.solvers.krylov.arnoldi import Cycle, KrylovWork
from fieldwright.solvers.krylov.harmonic_ritz import renew
from fieldwright.solvers.krylov.preconditioned_system import (
    MAX_ITERATIONS,
    REFRESHES,
    KrylovSolution,
    PreconditionedSystem,
    RecycledSpace,
)
from fieldwright.solvers.krylov.preconditioners import Preconditioner
from fieldwright.solvers.threads import one_blas_thread

# Images of recycled vectors that depend on each other to this share are dropped.
DEPENDENT = 1e-12


def recycled_gcro_dr(
    matrix: object,
    rhs: object,
    *,
    space: RecycledSpace | None = None,
    preconditioner: Preconditioner | None = None,
    guess: object | None = None,
    restart: int = 40,
    recycle: int = 20,
    rtol: float = 1e-8,
    max_iterations: int = MAX_ITERATIONS,
    work: KrylovWork | None = None,
) -> KrylovSolution:
    """Solve A x = b by GCRO-DR(``restart``, ``recycle``) until ‖b - A x‖ <= ``rtol`` ‖b‖.

    ``matrix``          SciPy sparse, NumPy array, `LinearOperator`, `LinearMap`, or a function x -> A x
    ``space``           of an earlier `KrylovSolution`; one of another size, type or preconditioner is not used
    ``preconditioner``  M, applied on the right, so the residual is the system's own
    ``restart``         directions in all of a cycle (m), of which ``recycle`` (k) are kept; k = 0 is restarted GMRES
    ``work``            memory to use again; allocated when it does not fit

    Errors: `InputError` for arguments out of range or shapes that do not fit; `SolverError` for NaN or infinity.
    """
    if not 0 < rtol < 1:
        raise InputError(f"krylov: rtol = {rtol}; a number between 0 and 1 is needed")
    if not 0 <= recycle < restart:
        raise InputError(f"krylov: restart = {restart} and recycle = {recycle}; 0 <= recycle < restart is needed")
    if max_iterations < 0:
        raise InputError(f"krylov: max_iterations = {max_iterations}; a whole number of at least 0 is needed")
    system = PreconditionedSystem(matrix, rhs, preconditioner, guess)
    restart = min(restart, system.size)
    recycle = min(recycle, restart - 1)
    if work is None or not work.fits(system.size, restart, recycle, system.dtype):
        work = KrylovWork.of(system.size, restart, recycle, system.dtype)
    return _Solve(system, work, recycle, rtol, max_iterations).run(space)


def restarted_gmres(
    matrix: object,
    rhs: object,
    *,
    preconditioner: Preconditioner | None = None,
    guess: object | None = None,
    restart: int = 40,
    rtol: float = 1e-8,
    max_iterations: int = MAX_ITERATIONS,
    work: KrylovWork | None = None,
) -> KrylovSolution:
    """Solve A x = b by GMRES(``restart``) until ‖b - A x‖ <= ``rtol`` ‖b‖; arguments as those of `recycled_gcro_dr`."""
    return recycled_gcro_dr(
        matrix,
        rhs,
        preconditioner=preconditioner,
        guess=guess,
        restart=restart,
        recycle=0,
        rtol=rtol,
        max_iterations=max_iterations,
        work=work,
    )


class _Solve:
    """One system on its way from the guess to the solution."""

    def __init__(
        self, system: PreconditionedSystem, work: KrylovWork, recycle: int, rtol: float, max_iterations: int
    ) -> None:
        self._system, self._work = system, work
        self._recycle, self._rtol, self._limit = recycle, rtol, max_iterations
        self._held = 0
        self._overlap = np.zeros((0, 0), system.dtype)
        self._history: list[float] = []

    def run(self, space: RecycledSpace | None) -> KrylovSolution:
        system, work = self._system, self._work
        r = work.residual
        residual = system.residual(r)
        if residual > self._rtol:
            residual = self._iterate(space, residual)
        return KrylovSolution(
            value=system.x,
            converged=bool(residual <= self._rtol),
            iterations=len(self._history),
            products=system.products,
            residual=residual,
            history=np.array(self._history) / system.scale if system.scale > 0 else np.zeros(0),
            space=self._kept() or space,
        )

    def _iterate(self, space: RecycledSpace | None, residual: float) -> float:
        """Rounds of cycles, each until the recurrence claims convergence; returns the true residual."""
        system, work = self._system, self._work
        z, r = work.correction, work.residual
        if space is not None and self._recycle > 0:
            self._adopt(space)
        target = self._rtol * system.scale
        for _ in range(REFRESHES):
            z[:] = 0.0
            if self._held > 0:
                self._project(z, r)
            ended = self._cycles(target)
            system.correct(z)
            previous, residual = residual, system.residual(r)
            if residual <= self._rtol or ended or not residual < 0.5 * previous:
                break
            # The recurrence had drifted below the truth; aim lower from here.
            target *= 0.9
        return residual

    def _cycles(self, target: float) -> bool:
        """Cycles until the recurrence's residual is at most ``target``; True when there is nothing more to be done."""
        system, work = self._system, self._work
        z, r = work.correction, work.residual
        if kernels.norm(r) <= target:
            return False
        while True:
            left = self._limit - len(self._history)
            if left <= 0:
                return True
            cycle = Cycle(work, self._held)
            cycle.run(system.apply, r, left, target, self._history)
            if cycle.steps == 0 or not np.isfinite(cycle.residual):
                return True
            cycle.advance(z, r)
            # Two BLAS threads take five times as long over such small eigenproblems as one.
            with one_blas_thread():
                self._overlap = renew(work, cycle, self._overlap, self._recycle)
            self._held = len(self._overlap)
            if cycle.residual <= target:
                return False
            if cycle.exhausted:
                return True

    def _adopt(self, space: RecycledSpace) -> None:
        """C from the products with U, where the space suits this system."""
        system, work = self._system, self._work
        if not space.suits(system.size, system.dtype, system.preconditioner.name):
            return
        count = min(len(space.vectors), self._recycle)
        work.vectors[:count] = space.vectors[:count]
        for i in range(count):
            system.apply(work.vectors[i], work.rows[i])
        self._held = _orthonormalise(work, count)
        self._overlap = np.zeros((self._held, self._held), system.dtype)
        kernels.products(work.rows, self._held, work.vectors, self._held, self._overlap)

    def _project(self, z: np.ndarray, r: np.ndarray) -> None:
        """r ← (1 - C Cᴴ) r, z ← z + U Cᴴ r, twice, so that no more than rounding of r is left in C."""
        work, held = self._work, self._held
        h = np.zeros((held, 1), r.dtype)
        for _ in range(2):
            kernels.products(work.rows, held, r[None], 1, h)
            kernels.add_combination(work.vectors, held, h[:, 0], z)
            kernels.add_combination(work.rows, held, -h[:, 0], r)

    def _kept(self) -> RecycledSpace | None:
        if self._held == 0:
            return None
        work = self._work
        return RecycledSpace(
            work.vectors[: self._held].copy(), work.rows[: self._held].copy(), self._system.preconditioner.name
        )


def _orthonormalise(work: KrylovWork, count: int) -> int:
    """QR of the first ``count`` rows (images), the same combinations made of the vectors; returns how many are kept.

    An image whose part outside the span of those before is at most `DEPENDENT` times the longest is dropped, and its
    vector with it; the others close ranks.
    """
    images, vectors = work.rows, work.vectors
    _, h, scratch = work.small
    longest = max((float(kernels.norm(images[j])) for j in range(count)), default=0.0)
    kept = 0
    for j in range(count):
        if kept < j:
            images[kept], vectors[kept] = images[j], vectors[j]
        _, after = kernels.orthogonalise(images, kept, h, scratch)
        if DEPENDENT * longest < after < np.inf:
            kernels.add_combination(vectors, kept, -h[:kept], vectors[kept])
            vectors[kept] /= after
            kept += 1
    return kept
