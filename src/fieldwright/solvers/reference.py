"""The reference: `scipy.sparse.linalg.spsolve` (SuperLU with partial pivoting), one sample after the other.

It is what most people would call, so it is the baseline of the benchmarks, and because it pivots it is also where the
other methods send the samples they fail on.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers.stencil import Solution, StencilSystem


def reference(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve each sample by a sparse LU factorisation; ``guess`` and ``max_iterations`` have no effect on it.

    With ``nullspace`` the first unknown is held at zero, the rest solved, and the mean taken off: the kernel is the
    constants, so this meets the dropped equation too whenever the system has a solution.
    ``seconds`` counts the calls of ``spsolve`` alone, not the conversion of the arrays to SciPy's format.
    """
    values = np.zeros((system.batch, system.unknowns))
    rhs = system.rhs.detach().cpu().double().reshape(system.batch, -1).numpy()
    first = 1 if system.nullspace else 0
    seconds = 0.0
    for sample in range(system.batch):
        if not rhs[sample].any():
            continue
        matrix = system.to_csr(sample)[first:, first:].tocsc()
        start = time.perf_counter()
        with warnings.catch_warnings():
            # A singular matrix is reported through `converged`: SciPy warns and returns NaN.
            warnings.simplefilter("ignore", scipy.sparse.linalg.MatrixRankWarning)
            values[sample, first:] = np.asarray(scipy.sparse.linalg.spsolve(matrix, rhs[sample, first:]))
        seconds += time.perf_counter() - start
        if system.nullspace:
            values[sample] -= values[sample].mean()
    u = torch.from_numpy(values).reshape(system.rhs.shape).to(system.rhs.device)
    residual = system.relative_residual(u).detach()
    return Solution(
        values=u,
        converged=residual <= rtol,
        iterations=torch.ones(system.batch, dtype=torch.int64),
        residual=residual,
        seconds=seconds,
        method="scipy",
    )
