"""`solve`: the front door of the solvers. Checks the systems, chooses a method, solves, and mends what failed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError, SolverError
from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers.compilation import announce_compilation
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.methods import TABLE
from fieldwright.solvers.pilot import LAST_RESORT, Choice, Pilot, choose_by_rules
from fieldwright.solvers.stencil import Solution, StencilSystem

METHODS: dict[str, str] = {
    "auto": "by rules and a pilot on some of the systems: the method that solves all of them soonest",
    **{name: method.description for name, method in TABLE.items()},
}

# Fewer groups of systems than this for each thread are not worth a pilot.
PILOT_GROUPS = 8
# Where the samples go that a method leaves unsolved: the first takes care of itself, up to pivoting.
FALL_BACKS = ("direct", LAST_RESORT)
FALL_BACK_UNKNOWNS = 200_000
# What trials have solved is solved again with all the rest where it is a smaller part of the batch than this: to put a
# large array together from parts, memory has to be asked for and filled once more.
WORTH_KEEPING = 0.05


def choose(
    system: StencilSystem,
    *,
    rtol: float = 1e-8,
    pilot: bool = True,
    total: int | None = None,
    reporter: Reporter = SILENT,
) -> Choice:
    """The method that solves ``total`` systems like these to ``rtol`` soonest (by default, as many as there are).

    Rules order the methods; with ``pilot`` the promising ones are tried on the systems at hand, where the whole set is
    large enough to pay for it. A pilot measures time, so its answer may differ between runs: who needs the same bits
    again keeps ``Choice.method``.
    """
    total = system.batch if total is None else total
    if system.batch == 0 or not pilot or total < PILOT_GROUPS * LANES * torch.get_num_threads():
        return choose_by_rules(system, rtol, max(1, total))
    return Pilot(system, rtol=rtol, total=total, keep=False, reporter=reporter).run()


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

    ``method``          one of `METHODS`; "auto" chooses as `choose` does, and keeps what a pilot has solved
                        where that is more than a twentieth of the batch.
                        `Solution.method` names the method, `Solution.notes` says why
    ``guess``           where to start; a good one saves iterations
    ``max_iterations``  per sample; without it a sample that the method leaves unsolved goes to elimination, at last
                        with exchange of rows, and is counted in `Solution.fallbacks`; with it, it is reported as not
                        converged

    A zero right-hand side has the solution zero. The bits of a sample's solution depend on its own system, the
    tolerance and the method, not on the batch it comes in, nor on the number of threads (but for "gcro-dr", which
    starts from what its neighbours left, and "gmres" on symmetric indefinite systems, preconditioned by a neighbour's
    factors). With "auto" the method, and in a pilot that of each sample, may differ
    between runs.

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
    _check_range(system, rtol)
    if system.batch == 0:
        none = torch.zeros(0, dtype=torch.int64)
        return Solution(torch.zeros_like(system.rhs), none.bool(), none, none.double(), 0.0, method)
    parts: list[Solution] = []
    notes: tuple[str, ...] = ()
    if method == "auto":
        if max_iterations is None and system.batch >= PILOT_GROUPS * LANES * torch.get_num_threads():
            check = lambda place: _check_entries(system, place)  # noqa: E731
            pilot = Pilot(system, rtol=rtol, total=system.batch, guess=start, keep=True, check=check, reporter=reporter)
            choice = pilot.run()
            if sum(len(part.values) for part in pilot.solved) > WORTH_KEEPING * system.batch:
                parts = pilot.solved
        else:
            choice = choose_by_rules(system, rtol, system.batch)
        method, notes = choice.method, (f"{choice.method}: {choice.reason}",)
    elif (refusal := TABLE[method].refuse(system)) is not None:
        raise SolverError(f"solve: method '{method}' does not fit: {refusal}")
    done = sum(len(part.values) for part in parts)
    rest = system if done == 0 else system.select(slice(done, None))
    # Multigrid leaves a sample with a NaN or a negative diagonal unsolved and its neighbours alone, so the look at
    # every entry can wait until something failed: it costs a tenth of the solve, and torch's threads, once woken for
    # it, go on spinning for a while beside those of the solver.
    late = method == "multigrid"
    if not late:
        _check_entries(system, slice(done, None))
    if rest.batch > 0:
        announce_compilation(reporter, method)
        following = None if start is None else start[done:]
        parts.append(TABLE[method].solve(rest, rtol=rtol, guess=following, max_iterations=max_iterations))
    solution = _joined(parts, method)
    if late and solution.failed:
        _check_entries(system)
    if max_iterations is None:
        solution = _mend(system, solution, method, rtol)
        notes += _remarks(solution)
    return replace(solution, notes=solution.notes + notes)


def _remarks(solution: Solution) -> tuple[str, ...]:
    """One sentence for the samples that no method solved."""
    failed = solution.failed
    if not failed:
        return ()
    listed = ", ".join(map(str, failed[:10])) + (f" and {len(failed) - 10} more" if len(failed) > 10 else "")
    residual = float(solution.residual[failed[0]])
    return (f"unsolved: sample {listed} (residual {residual:.2g}); such a matrix is singular, or nearly so",)


def _joined(parts: list[Solution], method: str) -> Solution:
    """The solutions of consecutive parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    values = [part.values for part in parts]
    # NumPy asks the system for large pages, which makes writing a large array for the first time four times faster.
    shape = (sum(len(part) for part in values), *values[0].shape[1:])
    whole = torch.from_numpy(np.empty(shape)) if values[0].device.type == "cpu" else values[0].new_empty(shape)
    return Solution(
        values=torch.cat(values, out=whole),
        converged=torch.cat([part.converged for part in parts]),
        iterations=torch.cat([part.iterations for part in parts]),
        residual=torch.cat([part.residual for part in parts]),
        seconds=sum(part.seconds for part in parts),
        method=method,
        fallbacks=sum(part.fallbacks for part in parts),
        notes=parts[-1].notes,
    )


def _mend(system: StencilSystem, solution: Solution, method: str, rtol: float) -> Solution:
    """The solution with its failed samples solved by elimination, first in lanes and then one by one with pivoting."""
    failed = torch.tensor(solution.failed, dtype=torch.int64)
    if len(failed) == 0 or method in FALL_BACKS:
        return solution
    # In place: they were made in this call, and a copy of a large array costs as much as solving some.
    values, residual, seconds = solution.values, solution.residual, solution.seconds
    notes = solution.notes
    left = system.select(failed.to(system.rhs.device))
    for name in FALL_BACKS:
        too_large = name == LAST_RESORT and system.unknowns > FALL_BACK_UNKNOWNS
        if name not in TABLE or too_large or TABLE[name].refuse(left) is not None:
            continue
        mended = TABLE[name].solve(left, rtol=rtol)
        # Not "residual < old": a failed residual may be NaN.
        better = ~(mended.residual.cpu() >= residual[failed].cpu())
        chosen = failed[better]
        values[chosen], residual[chosen] = mended.values[better].to(values), mended.residual[better].to(residual)
        seconds += mended.seconds
        some = "sample" if len(failed) == 1 else "samples, the first"
        notes += (f"{len(failed)} {some} {int(failed[0])}, left unsolved by {method}, went to {name}",)
        break
    return replace(
        solution,
        values=values,
        residual=residual,
        converged=residual <= rtol,
        seconds=seconds,
        fallbacks=solution.fallbacks + len(failed),
        notes=notes,
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


def _check_entries(system: StencilSystem, place: slice = slice(None)) -> None:
    """Look at some of the samples: every number is finite, and diagonals of definite matrices are positive."""
    part = system.select(place)
    try:
        part.check_finite()
    except SolverError:
        # It names a sample of the part.
        system.check_finite()
    if system.kind == "spd":
        positive = (part.diagonal > 0).flatten(1).all(1)
        if not bool(positive.all()) and not (system.nullspace and system.unknowns == 1):
            sample = (place.start or 0) + int((~positive).nonzero()[0])
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
