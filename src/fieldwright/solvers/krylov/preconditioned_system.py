"""One linear system A x = b with a right preconditioner, as the Krylov methods see it: B z = r, B = A M⁻¹, x = M⁻¹ z.

On the right the residual of the iteration is the residual of the system, so what is monitored is what is asked for.
Whatever the recurrences claim, a solve is over only when the residual recomputed from A says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

from fieldwright.errors import InputError
from fieldwright.solvers.krylov import vector_kernels as kernels
from fieldwright.solvers.krylov.linear_maps import LinearMap, as_linear_map, as_vector
from fieldwright.solvers.krylov.preconditioners import NONE, Preconditioner

# Where the recomputed residual exceeds the claimed one, the iteration goes on from it; so many times at most.
REFRESHES = 8
MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class RecycledSpace:
    """What one solve leaves to the next: U, one vector a row, and its images C = B U, which are orthonormal.

    A space belongs to one size, one type of numbers and one kind of preconditioner; elsewhere it is not used.
    """

    vectors: Num[np.ndarray, "kept n"]
    images: Num[np.ndarray, "kept n"]
    preconditioner: str = "none"

    def suits(self, size: int, dtype: np.dtype, preconditioner: str) -> bool:
        """Whether a system of this size and type, so preconditioned, can start from the space."""
        return (self.vectors.shape[1], self.vectors.dtype, self.preconditioner) == (size, dtype, preconditioner)


@dataclass(frozen=True)
class KrylovSolution:
    """What a Krylov solve of one system returns.

    ``residual``    ‖b - A x‖ / ‖b‖, recomputed from A in double precision; ``converged`` is residual <= rtol
    ``iterations``  Arnoldi steps; ``products`` all products with A, those of the set-up and the checks among them
    ``history``     the residual relative to ‖b‖ that the recurrence claimed after each step
    ``space``       what the next system of a sequence may start from
    """

    value: Num[np.ndarray, " n"]
    converged: bool
    iterations: int
    products: int
    residual: float
    history: Num[np.ndarray, " iteration"]
    space: RecycledSpace | None = None


class PreconditionedSystem:
    """A, M and b with the counters; x starts at ``guess``."""

    def __init__(
        self, source: object, rhs: object, preconditioner: Preconditioner | None, guess: object | None = None
    ) -> None:
        b = as_vector(rhs)
        self.map: LinearMap = as_linear_map(source, like=b)
        self.preconditioner: Preconditioner = NONE if preconditioner is None else preconditioner
        self.dtype = np.result_type(self.map.dtype, b, self.preconditioner.dtype)
        self.b = b.astype(self.dtype, copy=False)
        self.size = len(b)
        self.scale = float(np.linalg.norm(b))
        self.products = 0
        self.x = np.zeros(self.size, self.dtype) if guess is None else as_vector(guess, self.dtype).copy()
        if self.x.shape != b.shape:
            raise InputError(f"krylov: a guess of {len(self.x)} entries for {self.size} unknowns")
        if self.scale == 0.0:
            self.x[:] = 0.0
        self._between = np.empty(self.size, self.dtype)

    def apply(self, v: Num[np.ndarray, " n"], out: Num[np.ndarray, " n"]) -> None:
        """out = A M⁻¹ v."""
        if self.preconditioner is NONE:
            self.map.product(v, out)
        else:
            self.preconditioner.solve(v, self._between)
            self.map.product(self._between, out)
        self.products += 1

    def residual(self, out: Num[np.ndarray, " n"]) -> float:
        """out = b - A x, recomputed; returns its norm relative to b (0 for b = 0)."""
        if self.x.any():
            self.map.product(self.x, out)
            self.products += 1
            np.subtract(self.b, out, out=out)
        else:
            out[:] = self.b
        return float(kernels.norm(out)) / self.scale if self.scale > 0 else 0.0

    def correct(self, z: Num[np.ndarray, " n"]) -> None:
        """x += M⁻¹ z."""
        self.preconditioner.solve(z, self._between)
        self.x += self._between
