"""The Arnoldi process with Givens rotations: one cycle of GMRES, alone or beside a recycled space.

With C (k orthonormal vectors) and B the preconditioned matrix, p steps from v_1 = r / ‖r‖, r ⊥ C, build V with

    B V_p = C (Cᴴ B V_p) + V_{p+1} H_p,      [C V_{p+1}] orthonormal,   H_p = Q [R; 0] upper Hessenberg,

and the least residual over V (with C taken along) has the norm of the last entry of the rotated right-hand side
Qᴴ ‖r‖ e_1, which is known at every step. Without C this is GMRES; with it, the inner iteration of GCRO-DR.

Source: Y. Saad, M. H. Schultz, "GMRES", SIAM J. Sci. Stat. Comput. 7 (1986); E. de Sturler, "Truncation strategies for
optimal Krylov subspace methods", SIAM J. Numer. Anal. 36 (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

from fieldwright.solvers.krylov import vector_kernels as kernels

Apply = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class KrylovWork:
    """Memory for one solve after the other of one size: long vectors as rows (C first, then V), small matrices."""

    rows: Num[np.ndarray, "row n"]
    vectors: Num[np.ndarray, "recycle n"]
    correction: Num[np.ndarray, " n"]
    residual: Num[np.ndarray, " n"]
    spare: Num[np.ndarray, " n"]
    triangle: Num[np.ndarray, "row restart"]
    coupling: Num[np.ndarray, "held restart"]
    rotations: Num[np.ndarray, "two restart"]
    small: Num[np.ndarray, "three row"]

    @classmethod
    def of(cls, size: int, restart: int, recycle: int, dtype: np.dtype) -> KrylovWork:
        """Room for ``restart`` directions, of which ``recycle`` are recycled."""
        return cls(
            rows=np.empty((restart + 1, size), dtype),
            vectors=np.empty((recycle, size), dtype),
            correction=np.empty(size, dtype),
            residual=np.empty(size, dtype),
            spare=np.empty(size, dtype),
            triangle=np.zeros((restart + 1, restart), dtype),
            coupling=np.zeros((recycle, restart), dtype),
            rotations=np.zeros((2, restart), dtype),
            small=np.zeros((3, restart + 1), dtype),
        )

    def fits(self, size: int, restart: int, recycle: int, dtype: np.dtype) -> bool:
        """Whether this is the memory that `of` would allocate."""
        return (self.rows.shape, self.rows.dtype, len(self.vectors)) == ((restart + 1, size), dtype, recycle)


class Cycle:
    """Arnoldi steps from one residual, beside the first ``held`` rows of the work.

    ``steps`` made, ``residual`` the norm after the last, ``exhausted`` when the space became invariant.
    """

    def __init__(self, work: KrylovWork, held: int) -> None:
        self._work = work
        self.held = held
        self.steps = 0
        self.residual = 0.0
        self.exhausted = False

    @property
    def basis(self) -> Num[np.ndarray, "row n"]:
        """V, one vector a row, of which there is one more than there are steps."""
        return self._work.rows[self.held :]

    def run(self, apply: Apply, r: Num[np.ndarray, " n"], steps: int, target: float, history: list[float]) -> None:
        """Step until the residual's norm is at most ``target``, the space is exhausted, or ``steps`` are made.

        ``apply`` is (x, out) -> out = B x. The norm after every step is appended to ``history``.
        """
        work, held = self._work, self.held
        column, g, scratch = work.small
        cosines, sines = work.rotations
        g[:] = 0.0
        g[0] = self.residual = float(kernels.norm(r))
        np.divide(r, self.residual, out=work.rows[held])
        for j in range(min(steps, work.triangle.shape[1] - held)):
            place = held + j + 1
            apply(work.rows[place - 1], work.rows[place])
            before, after, self.residual = kernels.arnoldi_step(
                work.rows, held, j, column, scratch, work.triangle, work.coupling, cosines, sines, g
            )
            if not math.isfinite(before):
                self.exhausted, self.residual = True, math.nan
                return
            self.steps = j + 1
            self.exhausted = not after > kernels.BREAKDOWN * before
            history.append(self.residual)
            if self.residual <= target or self.exhausted:
                return

    @property
    def rank(self) -> int:
        """Steps that count: R's last diagonal entry may vanish where a singular matrix ended the process."""
        p = self.steps
        diagonal = np.abs(np.diagonal(self._work.triangle)[:p])
        return p - 1 if p > 0 and not diagonal[-1] > kernels.BREAKDOWN * diagonal.max() else p

    @property
    def triangle(self) -> Num[np.ndarray, "rank rank"]:
        """R."""
        return self._work.triangle[: self.rank, : self.rank]

    @property
    def coupling(self) -> Num[np.ndarray, "held rank"]:
        """Cᴴ B V."""
        return self._work.coupling[: self.held, : self.rank]

    def advance(self, z: Num[np.ndarray, " n"], r: Num[np.ndarray, " n"]) -> None:
        """z += U y_C + V y_V and r -= B (U y_C + V y_V) with the y of the least residual, where B U = C.

        The new residual is r = V Q (0, …, 0, g_{p+1}).
        """
        work, p, rank = self._work, self.steps, self.rank
        t = np.zeros((p + 1, 1), r.dtype)
        t[rank:, 0] = work.small[1, rank : p + 1]
        y = work.small[1, :rank].copy()
        triangle = self.triangle
        for i in range(rank - 1, -1, -1):
            y[i] /= triangle[i, i]
            y[:i] -= y[i] * triangle[:i, i]
        kernels.add_combination(self.basis, rank, y, z)
        if self.held > 0:
            kernels.add_combination(work.vectors, self.held, -self.coupling @ y, z)
        kernels.rotate_back(t, p, work.rotations[0], work.rotations[1])
        r[:] = 0.0
        kernels.add_combination(self.basis, p + 1, t[:, 0], r)
