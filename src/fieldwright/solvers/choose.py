"""`solve`: the front door of the solvers. Checks the systems, chooses a method, solves, and mends what failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError, SolverError
from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers.compilation import announce_compilation
from fieldwright.solvers.direct import direct, supports_direct
from fieldwright.solvers.multigrid import multigrid, supports_multigrid
from fieldwright.solvers.reference import reference
from fieldwright.solvers.spectral import spectral, supports_spectral
from fieldwright.solvers.stencil import Solution, StencilSystem

METHODS: dict[str, str] = {
    "auto": "by rules, then a pilot: the fastest method that meets the tolerance",
    "multigrid": "conjugate gradients preconditioned by multigrid, compiled, samples in SIMD lanes (SPD, 2D and 3D)",
    "spectral": "conjugate gradients preconditioned by sine, cosine or Fourier transforms, on any device (SPD)",
    "direct": "LDL^T or LU on nested dissection, compiled, samples in SIMD lanes, refined (any kind)",
    "scipy": "scipy.sparse.linalg.spsolve, one sample after the other (any kind)",
}

PILOT_SAMPLES = 16
PILOT_FROM = 64
FALL_BACK_UNKNOWNS = 200_000


class Method(Protocol):
    """What every iterative or compiled method is: a function from a system and a tolerance to a `Solution`."""

    def __call__(
        self,
        system: StencilSystem,
        *,
        rtol: float,
        guess: Float[Tensor, "batch *space"] | None = None,
        max_iterations: int | None = None,
    ) -> Solution: ...


@dataclass(frozen=True)
class Choice:
    """A method for a family of systems, why, and the pilot's rates in systems a second (empty without a pilot)."""

    method: str
    reason: str
    rates: dict[str, float] = field(default_factory=dict)


def choose(system: StencilSystem, *, rtol: float = 1e-8, pilot: bool = True, reporter: Reporter = SILENT) -> Choice:
    """The fastest method that solves systems like these to ``rtol``.

    Rules narrow the choice to at most three; with ``pilot`` each of them solves up to `PILOT_SAMPLES` of the systems
    twice (the first time compiles) and the fastest that converged is taken, else the first by the rules. A pilot
    measures time, so its answer may differ between runs: who needs the same bits again keeps ``Choice.method``.
    """
    candidates = _candidates(system)
    if len(candidates) == 1:
        return Choice(candidates[0], "the only method for such systems")
    if not pilot:
        return Choice(candidates[0], f"by rule, ahead of {' and '.join(candidates[1:])}")
    some = system.select(slice(0, PILOT_SAMPLES))
    rates: dict[str, float] = {}
    for name in candidates:
        announce_compilation(reporter, name)
        runs = [_method(name)(some, rtol=rtol) for _ in range(2)]
        if bool(runs[-1].converged.all()) and runs[-1].fallbacks == 0:
            rates[name] = some.batch / max(runs[-1].seconds, 1e-9)
    if not rates:
        return Choice(candidates[0], "by rule: no method solved all systems of the pilot")
    best = max(rates, key=rates.__getitem__)
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in sorted(rates.items(), key=lambda item: -item[1]))
    return Choice(best, f"fastest in a pilot of {some.batch} (systems a second: {told})", rates)


def _candidates(system: StencilSystem) -> list[str]:
    """Methods to try, the likely best first."""
    if system.rhs.device.type != "cpu":
        return ["spectral"] if supports_spectral(system) is None else ["scipy"]
    found = [name for name in ("multigrid", "spectral") if _refusal(name, system) is None]
    # Elimination fills in too much in 3D to race against the iterations.
    if (not found or len(system.shape) < 3) and _refusal("direct", system) is None:
        found.append("direct")
    return found or ["scipy"]


def _method(name: str) -> Method:
    methods: dict[str, Method] = {"multigrid": multigrid, "spectral": spectral, "direct": direct, "scipy": reference}
    return methods[name]


def _refusal(name: str, system: StencilSystem) -> str | None:
    checks: dict[str, Callable[[StencilSystem], str | None]] = {
        "multigrid": supports_multigrid,
        "spectral": supports_spectral,
        "direct": supports_direct,
    }
    return checks[name](system) if name in checks else None


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
    """Solve every system of the batch until ‖f - A u‖₂ <= rtol ‖f‖₂, the residual recomputed in float64.

    ``method``          one of `METHODS`; "auto" follows the rules of `choose`, with a pilot for `PILOT_FROM` systems
                        or more. `Solution.method` names the method that was used
    ``guess``           where to start; a good one saves iterations
    ``max_iterations``  per sample; without it a sample that the method leaves unsolved goes to SciPy's pivoting LU and
                        is counted in `Solution.fallbacks`; with it, it is reported as not converged

    A zero right-hand side has the solution zero. The bits of a sample's solution depend on its own system, the
    tolerance and the method, not on the batch it comes in, nor on the number of threads.

    Errors: `InputError` for an unknown method, a tolerance outside (0, 1), or a guess that does not fit;
    `SolverError` for a NaN, a method that cannot take such systems, or a right-hand side that no u can meet.
    """
    if method not in METHODS:
        raise InputError(f"solve: no method '{method}'; there are {', '.join(METHODS)}")
    if not 0 < rtol < 1:
        raise InputError(f"solve: rtol = {rtol}; a number between 0 and 1 is needed")
    if max_iterations is not None and max_iterations < 0:
        raise InputError(f"solve: max_iterations = {max_iterations}; a whole number of at least 0 is needed")
    system = replace(system, coefficients=system.coefficients.detach().double(), rhs=system.rhs.detach().double())
    start = _checked_guess(system, guess)
    # Multigrid leaves a sample with a NaN or a negative diagonal unsolved and its neighbours alone, so the look at
    # every entry can wait until something failed: it costs a tenth of the solve, and torch's threads, once woken for
    # it, go on spinning for a while beside those of the solver.
    late = method == "multigrid"
    if not late:
        _check_entries(system)
    _check_range(system, rtol)
    if system.batch == 0:
        none = torch.zeros(0, dtype=torch.int64)
        return Solution(torch.zeros_like(system.rhs), none.bool(), none, none.double(), 0.0, method)
    notes: tuple[str, ...] = ()
    if method == "auto":
        choice = choose(system, rtol=rtol, pilot=system.batch >= PILOT_FROM, reporter=reporter)
        method, notes = choice.method, (f"{choice.method}: {choice.reason}",)
    refusal = _refusal(method, system)
    if refusal is not None:
        raise SolverError(f"solve: method '{method}' does not fit: {refusal}")
    announce_compilation(reporter, method)
    solution = _method(method)(system, rtol=rtol, guess=start, max_iterations=max_iterations)
    if late and solution.failed:
        _check_entries(system)
    if max_iterations is None and method not in ("scipy", "direct") and system.unknowns <= FALL_BACK_UNKNOWNS:
        solution = _mend(system, solution, rtol)
    return replace(solution, notes=solution.notes + notes)


def _mend(system: StencilSystem, solution: Solution, rtol: float) -> Solution:
    """The solution with its failed samples solved by a pivoting factorisation, where that is better."""
    failed = torch.tensor(solution.failed, dtype=torch.int64)
    if len(failed) == 0:
        return solution
    mended = reference(system.select(failed.to(system.rhs.device)), rtol=rtol)
    values, residual = solution.values.clone(), solution.residual.clone()
    # Not "residual < old": a failed residual may be NaN.
    better = ~(mended.residual.cpu() >= residual[failed].cpu())
    chosen = failed[better]
    values[chosen], residual[chosen] = mended.values[better], mended.residual[better].to(residual)
    return replace(
        solution,
        values=values,
        residual=residual,
        converged=residual <= rtol,
        seconds=solution.seconds + mended.seconds,
        fallbacks=solution.fallbacks + len(failed),
    )


def _checked_guess(
    system: StencilSystem, guess: Float[Tensor, "batch *space"] | None
) -> Float[Tensor, "batch *space"] | None:
    if guess is None:
        return None
    if guess.shape != system.rhs.shape:
        raise InputError(f"solve: a guess of shape {tuple(guess.shape)}; the system takes {tuple(system.rhs.shape)}")
    finite = guess.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        raise InputError(f"solve: the guess of sample {int((~finite).nonzero()[0])} holds a NaN or infinite value")
    # Starting anywhere but at zero, no relative tolerance can be met for a right-hand side of zero.
    solvable = system.rhs.flatten(1).any(1).reshape(-1, *[1] * (guess.ndim - 1))
    return torch.where(solvable, guess.to(system.rhs), 0.0)


def _check_entries(system: StencilSystem) -> None:
    system.check_finite()
    if system.kind == "spd":
        positive = (system.diagonal > 0).flatten(1).all(1)
        if not bool(positive.all()) and not (system.nullspace and system.unknowns == 1):
            sample = int((~positive).nonzero()[0])
            raise SolverError(f"system: sample {sample} is called positive definite, but its diagonal is not positive")


def _check_range(system: StencilSystem, rtol: float) -> None:
    if system.nullspace and system.kind != "general":
        # The kernel is the constants, so f is in the range if and only if it sums to zero.
        f = system.rhs.flatten(1)
        share = f.sum(1).abs() / (f.norm(dim=1) * f.shape[1] ** 0.5).clamp_min(torch.finfo(f.dtype).tiny)
        if bool((share > rtol).any()):
            sample = int((share > rtol).nonzero()[0])
            mean = float(f[sample].mean())
            raise SolverError(
                f"system: sample {sample} has a right-hand side with mean {mean:.3g}; where no wall holds a value,"
                " sources must sum to zero"
            )
