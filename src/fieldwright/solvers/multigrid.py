"""Multigrid preconditioned conjugate gradients for batches of symmetric positive definite systems, compiled by numba.

Two dimensions: `multigrid_2d`. Samples are solved in groups of `LANES`, one sample per SIMD lane, and groups are shared
out to threads. A sample's bits depend on that sample alone: not on its group, the batch or the number of threads.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers import multigrid_2d, multigrid_3d
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.stencil import Solution, StencilSystem

DEFAULT_ITERATIONS = 200


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
    coefficients = system.coefficients.detach().cpu().double().contiguous().numpy()
    rhs = system.rhs.detach().cpu().double().contiguous().numpy()
    values = np.zeros_like(rhs) if guess is None else guess.detach().cpu().double().numpy().copy()
    place = np.array([system.offsets.index(offset) for offset in _neighbours(len(system.shape))])
    counts, residuals = np.zeros(system.batch, np.int64), np.zeros(system.batch)
    limit = DEFAULT_ITERATIONS if max_iterations is None else max_iterations
    local = threading.local()
    method = multigrid_2d if len(system.shape) == 2 else multigrid_3d

    def solve(first: int) -> None:
        # The last group is filled up by repeating its first sample.
        samples = np.arange(first, first + LANES)
        samples[samples >= system.batch] = first
        if not hasattr(local, "workspace"):
            local.workspace = method.Workspace.of(*system.shape)
        w = local.workspace
        work = (getattr(w, f.name) for f in fields(w))
        method.solve_group(
            coefficients, rhs, place, samples, *work, rtol, limit, system.nullspace, values, counts, residuals
        )

    groups = range(0, system.batch, LANES)
    threads = min(torch.get_num_threads(), len(groups))
    if threads <= 1:
        for first in groups:
            solve(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(solve, groups))
    residual = torch.from_numpy(residuals)
    return Solution(
        values=torch.from_numpy(values).to(system.rhs.device),
        converged=(residual <= rtol) & torch.from_numpy(np.isfinite(values).reshape(system.batch, -1).all(1)),
        iterations=torch.from_numpy(counts),
        residual=residual,
        seconds=time.perf_counter() - start,
        method="multigrid",
    )


def _neighbours(dimension: int) -> list[tuple[int, ...]]:
    """The zero offset, then per axis from last to first the lower and the upper neighbour."""
    zero = (0,) * dimension
    steps = [
        tuple(sign * int(i == axis) for i in range(dimension))
        for axis in reversed(range(dimension))
        for sign in (-1, 1)
    ]
    return [zero, *steps]
