"""Multigrid preconditioned conjugate gradients for batches of symmetric positive definite systems, compiled by numba.

Samples are solved in groups of `LANES`, one sample per SIMD lane; a group goes from start to end in one thread, so that
its fields stay in the cache (`multigrid_2d`, `multigrid_3d`), and groups are shared out to threads. Samples stop one by
one. A sample's bits depend on that sample alone: not on its group, the batch or the number of threads.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers import multigrid_2d, multigrid_3d
from fieldwright.solvers.checkerboard import (
    U_LINE_STEP,
    U_PLANE_STEP,
    add_corrections,
    layout,
    pack_couplings,
    pack_residuals,
    padded_size,
    right_hand_sides,
    unpack,
)
from fieldwright.solvers.lane_iteration import SCALARS
from fieldwright.solvers.lanes import LANES, aligned
from fieldwright.solvers.stencil import Solution, StencilSystem

DEFAULT_ITERATIONS = 200
# The recurrence's residual may lag the true one by rounding, so the iteration aims a little lower than asked, and
# starts again from the true residual where that was not enough.
MARGIN = 0.95
RESTARTS = 4


def supports_multigrid(system: StencilSystem) -> str | None:
    """Why `multigrid` cannot take a system, in a few words, or None when it can."""
    dimension = len(system.shape)
    if system.kind != "spd":
        return f"multigrid needs a symmetric positive definite system, not a {system.kind} one"
    if dimension not in (2, 3):
        return f"multigrid is for two or three dimensions, not {dimension}"
    if set(system.offsets) != set(_neighbours(dimension)) or len(system.offsets) != 2 * dimension + 1:
        return f"multigrid needs the {2 * dimension + 1}-point stencil"
    if any(system.boundary.periodic):
        return "multigrid does not wrap around a periodic axis"
    if min(system.shape) < 2:
        return "multigrid needs at least 2 unknowns along each axis"
    return None


@torch.no_grad()
def multigrid(
    system: StencilSystem,
    *,
    rtol: float,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve every system of the batch to ‖f - A u‖₂ <= rtol ‖f‖₂, or report the samples where that failed.

    ``torch.get_num_threads()`` threads share the groups. With ``nullspace`` solutions have mean zero, and a right-hand
    side that is not in the range is reported as not converged.

    Errors: `SolverError` for a system that `supports_multigrid` refuses.
    """
    reason = supports_multigrid(system)
    if reason is not None:
        raise SolverError(reason)
    start = time.perf_counter()
    batch = _Batch.of(system, guess)
    limit = DEFAULT_ITERATIONS if max_iterations is None else max_iterations
    local = threading.local()

    def solve(first: int) -> None:
        if not hasattr(local, "group"):
            local.group = _Group(system.shape)
        # The last group is filled up by repeating its first sample.
        samples = np.arange(first, first + LANES)
        samples[samples >= system.batch] = first
        local.group.solve(batch, samples, rtol=rtol, limit=limit, nullspace=system.nullspace)

    groups = range(0, system.batch, LANES)
    threads = min(torch.get_num_threads(), len(groups))
    if threads <= 1:
        for first in groups:
            solve(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(solve, groups))
    residual = torch.from_numpy(batch.residuals)
    return Solution(
        values=torch.from_numpy(batch.values.reshape(system.rhs.shape)).to(system.rhs.device),
        converged=residual <= rtol,
        iterations=torch.from_numpy(batch.counts),
        residual=residual,
        seconds=time.perf_counter() - start,
        method="multigrid",
    )


@dataclass(frozen=True)
class _Batch:
    """The systems as flat arrays, and what is found out about each."""

    coefficients: np.ndarray
    rhs: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    residuals: np.ndarray
    offsets: np.ndarray
    place: np.ndarray
    from_zero: bool

    @classmethod
    def of(cls, system: StencilSystem, guess: Tensor | None) -> _Batch:
        coefficients = system.coefficients.detach().cpu().double().contiguous().numpy()
        rhs = system.rhs.detach().cpu().double().contiguous().numpy()
        values = np.zeros_like(rhs) if guess is None else guess.detach().cpu().double().numpy().copy()
        return cls(
            coefficients=coefficients.reshape(-1),
            rhs=rhs.reshape(-1),
            values=values.reshape(-1),
            counts=np.zeros(system.batch, np.int64),
            residuals=np.zeros(system.batch),
            offsets=np.array(system.offsets),
            place=np.array([system.offsets.index(offset) for offset in _neighbours(len(system.shape))]),
            from_zero=guess is None,
        )


class _Group:
    """The arrays of one thread, in which it solves one group of samples after the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.method = multigrid_2d if len(shape) == 2 else multigrid_3d
        self.shape, self.grid = shape, layout(shape)
        self._clear()

    def _clear(self) -> None:
        """Arrays of zeros."""
        hierarchy = self.method.Hierarchy.of(self.shape)
        self.double, self.size = hierarchy.double, int(hierarchy.table[0, self.method.SIZE])
        self.arrays = [getattr(hierarchy, field.name) for field in fields(hierarchy)]
        self.padded = np.zeros((LANES, padded_size(self.shape)))
        self.row = aligned(self.shape[-1] // LANES + 1, np.float64)
        self.scalars = aligned(SCALARS, np.float64)

    def solve(self, batch: _Batch, samples: np.ndarray, *, rtol: float, limit: int, nullspace: bool) -> None:
        """Solve the systems ``samples``, one per lane, and write their places in the batch."""
        steps = (self.grid[U_PLANE_STEP], self.grid[U_LINE_STEP], 1)
        shifts = batch.offsets @ np.array(steps[-batch.offsets.shape[1] :])
        norms, sizes = np.zeros(LANES), np.zeros(LANES)
        active, counts = np.ones(LANES, np.bool_), np.zeros(LANES, np.int64)
        pack_couplings(batch.coefficients, batch.place, samples, self.grid, self.double, self.size)
        self.method.prepare(*self.arrays, nullspace)
        right_hand_sides(batch.rhs, batch.values, samples, self.grid, self.padded, self.row, norms)
        for restart in range(RESTARTS + 1):
            pack_residuals(
                batch.coefficients, shifts, batch.rhs, samples, self.grid, self.padded, norms, self.double, self.size,
                self.row, sizes, restart == 0 and batch.from_zero,
            )  # fmt: skip
            active &= (sizes > rtol) & (counts < limit)
            if restart == RESTARTS or not active.any():
                break
            self.method.iterate(*self.arrays, nullspace, self.scalars, active.copy(), MARGIN * rtol, limit, counts)
            add_corrections(self.double, len(shifts), self.size, self.grid, self.padded, norms, active, nullspace)
        unpack(batch.values, samples, self.grid, self.padded)
        batch.counts[samples], batch.residuals[samples] = counts, sizes
        # A NaN would stay in its lane: directions begin as 0 times what the last sample left.
        if not np.isfinite(sizes).all():
            self._clear()


def _neighbours(dimension: int) -> list[tuple[int, ...]]:
    """The zero offset, then per axis from last to first the lower and the upper neighbour."""
    zero = (0,) * dimension
    axes = [tuple(int(i == axis) for i in range(dimension)) for axis in reversed(range(dimension))]
    return [zero, *(tuple(sign * step for step in axis) for axis in axes for sign in (-1, 1))]
