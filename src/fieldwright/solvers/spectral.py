"""Conjugate gradients preconditioned by the constant-coefficient operator, over a whole batch, in plain torch.

Two preconditioners, both one transform forth and one back (`constant_operator`), in float32:

* *plain*   M = L,                 κ(M⁻¹A) <= max a / min a:  best for small contrast, jumps or not;
* *scaled*  M = D^½ L D^½,         D = diag A / diag L:       best for large smooth contrast (Concus and Golub 1973).

Iterations do not grow with the number of points. Samples whose contrast is above `PROBE_CONTRAST` run a few iterations
of both and go on with the better one, each sample by its own residual. A sample's bits do not depend on the others in
the batch, nor on the number of threads: blocks run on one thread each and every product is per sample.

Source: P. Concus, G. H. Golub, "Use of fast direct methods for the efficient numerical solution of nonseparable
elliptic equations", SIAM J. Numer. Anal. 10 (1973).
"""

from __future__ import annotations

import time

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers.conjugate_gradients import ConjugateGradients
from fieldwright.solvers.constant_operator import ConstantOperator, nearest_constant_operator
from fieldwright.solvers.folded_basis import FoldedBasis
from fieldwright.solvers.padded_stencil import PaddedStencil
from fieldwright.solvers.stencil import Solution, StencilSystem
from fieldwright.solvers.threads import on_threads

PROBE_CONTRAST = 10.0
PROBE_ITERATIONS = 6
MAX_ITERATIONS = 1000
ROUNDS = 6
# Points of a block: its fields share the cache of a core, and are long enough to hide the calls.
BLOCK_POINTS = 2**16
# An accelerator takes blocks larger by this factor.
DEVICE_BLOCK = 64


def supports_spectral(system: StencilSystem) -> str | None:
    """Why the method cannot take the system, or None."""
    if system.kind != "spd":
        return f"spectral-preconditioned conjugate gradients need a positive definite system, not kind '{system.kind}'"
    try:
        nearest_constant_operator(system.select(slice(0, 1)))
    except SolverError as error:
        return str(error)
    return None


@torch.no_grad()
def spectral(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    guess: Float[Tensor, "batch *space"] | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve a batch of symmetric positive definite systems; any device, 1 to 3 dimensions, any walls.

    Errors: `SolverError` for a kind other than "spd" or a stencil without positive couplings.
    """
    reason = supports_spectral(system)
    if reason is not None:
        raise SolverError(f"solve: {reason}")
    start = time.perf_counter()
    limit = MAX_ITERATIONS if max_iterations is None else max_iterations
    on_host = system.rhs.device.type == "cpu"
    places = blocks(system.batch, system.unknowns if on_host else max(1, system.unknowns // DEVICE_BLOCK))

    def block(place: slice | list[int]) -> tuple[Tensor, Tensor]:
        return _solve_block(system.select(place), rtol, None if guess is None else guess[place], limit)

    parts = on_threads(block, places) if on_host else [block(place) for place in places]
    values = torch.cat([u for u, _ in parts] or [system.rhs])[: system.batch]
    iterations = torch.cat([i for _, i in parts] or [torch.zeros(0, dtype=torch.int64)])[: system.batch]
    seconds = time.perf_counter() - start
    residual = system.relative_residual(values)
    return Solution(values, residual <= rtol, iterations, residual, seconds, "spectral")


def blocks(batch: int, unknowns: int) -> list[slice | list[int]]:
    """Runs of samples that fit a cache together. A lone sample at the end is listed twice.

    A batched product of one matrix is a plain product to torch, which rounds otherwise than one of two or more; so no
    block may have a single sample unless all have (on large grids).
    """
    size = max(1, BLOCK_POINTS // unknowns)
    places: list[slice | list[int]] = [slice(i, min(i + size, batch)) for i in range(0, batch, size)]
    if size > 1 and batch % size == 1:
        places[-1] = [batch - 1, batch - 1]
    return places


class SpectralPreconditioner:
    """z = M⁻¹ r in the precision ``dtype``, M = D^½ L D^½ (D = 1 for *plain*), with L scaled to mean diagonal 1."""

    def __init__(
        self,
        operator: ConstantOperator,
        *,
        scaling: Float[Tensor, "batch *space"] | None,
        kernel: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._kernel = kernel
        device = operator.shift.device
        last = len(operator.axes) - 1
        self._bases = [
            FoldedBasis(axis.matrix, dtype=dtype, device=device, contiguous=index == last)
            for index, axis in enumerate(operator.axes)
        ]
        self._padding = self._bases[-1].padding
        # Relative to the mean diagonal: physical units may be far outside the range of float32.
        inverse = operator.inverse_eigenvalues([line.order for line in self._bases])
        inverse = (inverse * _column(operator.diagonal.flatten(1).mean(1), inverse)).to(dtype)
        self._inverse = torch.nn.functional.pad(inverse, (0, self._padding))
        root = operator.mass.sqrt() if scaling is None else (operator.mass * scaling).sqrt()
        self._root = None if bool((root == 1).all()) else (1 / root).to(dtype)

    def __call__(self, r: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        z = r if self._root is None else r * self._root
        if self._padding > 0:
            z = torch.nn.functional.pad(z, (0, self._padding))
        for axis, line in enumerate(self._bases):
            z = line.forward(z, axis)
        z = z * self._inverse
        for axis, line in enumerate(self._bases):
            z = line.backward(z, axis)
        z = z.narrow(-1, 0, r.shape[-1])
        if self._root is not None:
            z = z * self._root
        if self._kernel:
            z = z - _column(z.flatten(1).mean(1), z)
        return z


def _solve_block(
    system: StencilSystem, rtol: float, guess: Float[Tensor, "batch *space"] | None, limit: int
) -> tuple[Float[Tensor, "batch *space"], Int[Tensor, " batch"]]:
    """Conjugate gradients with restarts from the true residual, which the recurrence may drift away from."""
    operator = nearest_constant_operator(system)
    stencil = PaddedStencil(system)
    f = stencil.pad(system.rhs)
    u = torch.zeros_like(f) if guess is None else stencil.pad(guess.to(f))
    target = rtol * torch.linalg.vecdot(f, f).sqrt()
    iterations = torch.zeros(system.batch, dtype=torch.int64, device=f.device)
    precondition: SpectralPreconditioner | None = None
    previous = torch.full_like(target, torch.inf)
    for _ in range(ROUNDS):
        r = torch.zeros_like(f)
        stencil.product(u, r)
        torch.sub(f, r, out=r)
        norm = torch.linalg.vecdot(r, r).sqrt()
        # Above the target, and still gaining: at round-off a restart gains nothing.
        wanted = (norm > target) & (norm < 0.5 * previous) & (iterations < limit)
        if not bool(wanted.any()):
            break
        previous = norm
        # The correction e of A e = r / ‖r‖: its residuals fit float32 whatever the units of f.
        size = torch.where(norm > 0, norm, 1.0)
        r /= size[:, None]
        goal = torch.where(wanted, 0.9 * target / size, torch.inf)
        if precondition is None:
            state, precondition = _probe(system, operator, stencil, r, goal, limit)
        else:
            state = ConjugateGradients(stencil, precondition, r, goal)
        state.run(limit - iterations)
        u.addcmul_(state.u, size[:, None])
        iterations += state.iterations
    values = stencil.interior(u).contiguous()
    if system.nullspace:
        values = values - _column(values.flatten(1).mean(1), values)
    return values, iterations.cpu()


def _probe(
    system: StencilSystem,
    operator: ConstantOperator,
    stencil: PaddedStencil,
    r: Float[Tensor, "batch padded"],
    goal: Float[Tensor, " batch"],
    limit: int,
) -> tuple[ConjugateGradients, SpectralPreconditioner]:
    """The iteration to go on with: plain, or plain and scaled side by side for a few steps where contrast is large."""
    scaling = system.diagonal / operator.diagonal
    plain = SpectralPreconditioner(operator, scaling=None, kernel=system.nullspace)
    contrast = scaling.flatten(1).amax(1) / scaling.flatten(1).amin(1)
    uncertain = (contrast > PROBE_CONTRAST) & (goal < torch.inf)
    if not bool(uncertain.any()):
        return ConjugateGradients(stencil, plain, r, goal), plain
    first = ConjugateGradients(stencil, plain, r.clone(), goal)
    first.run(min(PROBE_ITERATIONS, limit))
    second = ConjugateGradients(
        stencil, SpectralPreconditioner(operator, scaling=scaling, kernel=system.nullspace), r, goal
    )
    second.run(min(PROBE_ITERATIONS, limit))
    better = uncertain & (second.norm < first.norm)
    first.take(second, better)
    chosen = torch.where(_column(better, scaling), scaling, 1.0)
    first.precondition = SpectralPreconditioner(operator, scaling=chosen, kernel=system.nullspace)
    return first, first.precondition


def _column(per_sample: Tensor, like: Tensor) -> Tensor:
    return per_sample.reshape(-1, *[1] * (like.ndim - 1))
