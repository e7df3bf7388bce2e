"""What solvers cost at the surrogate's accuracy.

A comparison is honest where both sides are equally wrong: each solver is stopped as soon as its error against the
reference is no larger than the surrogate's median error, and its time counts without assembling the systems, which
favours the solver. McGreivy and Hakim (2024) found that 79 % of the papers that claim to beat a solver did neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.analysis.timing import Contender, Timing, measure, timed
from fieldwright.errors import FieldwrightError
from fieldwright.grids import Grid, resample
from fieldwright.norms import relative_l2
from fieldwright.problems import EvolutionProblem, Problem, TrajectoryWindow
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import first_line
from fieldwright.solvers import METHODS

TOLERANCES: tuple[float, ...] = (0.5, 0.3, 0.2, *(m * 10.0**-k for k in range(1, 9) for m in (1, 0.5, 0.2)))[:-2]
"""Relative residuals tried, loosest first, down to 1e-8."""

BASELINE = "scipy"
"""The method that most people would call: `scipy.sparse.linalg.spsolve`, one sample after the other."""

_FEWEST_POINTS = 4

SolverKind = Literal["ours", "scipy", "user"]


@runtime_checkable
class TimedSurrogate(Protocol):
    """What is timed: ``fields(inputs)`` predicts physical outputs on ``device``, without an error estimate."""

    @property
    def device(self) -> torch.device: ...

    def fields(self, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SolverSpeed:
    """One solver at the surrogate's accuracy.

    ``rtol`` is the loosest relative residual whose median relative L2 error, ``error``, is within the target; a problem
    in time has its number of time steps in the ``name`` instead. Both are None for the user's own solver, whose seconds
    are taken as given, as is the ``timing``.
    """

    name: str
    kind: SolverKind
    seconds: float
    rtol: float | None = None
    error: float | None = None
    timing: Timing | None = None


@dataclass(frozen=True)
class SpeedComparison:
    """Seconds per sample at equal accuracy, the surrogate on ``device``, all on ``threads`` threads.

    ``target``         the surrogate's median relative L2 error, which every solver reaches
    ``batched``        the surrogate on batches, ``one_by_one`` on single samples
    ``left_out``       methods that do not solve this problem, with the reason
    """

    target: float
    batched: Timing
    one_by_one: Timing
    solvers: tuple[SolverSpeed, ...]
    left_out: dict[str, str]
    threads: int
    device: str

    @property
    def fastest(self) -> SolverSpeed | None:
        """The fastest of our solvers."""
        ours = [s for s in self.solvers if s.kind == "ours"]
        return min(ours, key=lambda s: s.seconds) if ours else None

    @property
    def rivals(self) -> tuple[SolverSpeed, ...]:
        """The rows of a break-even table: our fastest solver, SciPy's and the user's."""
        others = tuple(s for s in self.solvers if s.kind != "ours")
        return ((self.fastest, *others)) if self.fastest else others


def loosest_tolerance(
    problem: Problem,
    inputs: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel_out *space"],
    *,
    method: str,
    target: float,
) -> tuple[float, float] | None:
    """The loosest of `TOLERANCES` at which ``method`` errs by at most ``target`` (median relative L2), and that error.

    None where even the tightest does not suffice.

    Errors: what `Problem.solve` raises for a method that does not fit the problem.
    """
    for rtol in TOLERANCES:
        outputs, _ = problem.solve(inputs, rtol=rtol, method=method)
        error = float(relative_l2(outputs.double(), truth.double(), problem.grid).quantile(0.5))
        if error <= target:
            return rtol, error
    return None


def compare_speed(
    surrogate: TimedSurrogate,
    problem: Problem,
    inputs: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel_out *space"],
    *,
    target: float,
    baseline_seconds: float | None = None,
    pilots: int = 8,
    repeats: int = 5,
    budget: float = 1.0,
    reporter: Reporter = SILENT,
) -> SpeedComparison:
    """Time the surrogate and every solver of `METHODS` at a relative L2 error of ``target``, on the same samples.

    ``baseline_seconds``  seconds a sample of the user's own solver, as stated by the user
    ``pilots``            samples on which each solver's tolerance is found
    ``repeats, budget``   see `measure`
    """
    doubles = inputs.double()
    most = len(inputs)
    left_out: dict[str, str] = {}
    find = _time_steps if isinstance(problem, EvolutionProblem | TrajectoryWindow) else _methods
    found = find(problem, doubles, truth, target=target, pilots=pilots, left_out=left_out)

    def solver_run(entry: _Sufficient) -> Callable[[int], float]:
        return lambda n: entry.problem.solve(entry.inputs[:n], rtol=entry.rtol or 1e-8, method=entry.method)[1].seconds

    def surrogate_run(size: int | None) -> Callable[[int], float]:
        # Copying to the CPU waits for an accelerator to finish.
        return lambda n: timed(lambda: [surrogate.fields(part).cpu() for part in inputs[:n].split(size or n)])

    # Sixteen samples fill the SIMD lanes of a batched solver; fewer would be charged for empty lanes.
    contenders = [
        Contender("surrogate, batched", surrogate_run(None), 16, most),
        Contender("surrogate, one by one", surrogate_run(1), 1, most),
        *(Contender(one.name, solver_run(one), 1 if one.method == BASELINE else 16, most) for one in found),
    ]
    times = measure(contenders, repeats=repeats, budget=budget, reporter=reporter)
    solvers = [
        SolverSpeed(
            name="scipy.sparse.linalg.spsolve, one by one" if one.method == BASELINE else one.name,
            kind="scipy" if one.method == BASELINE else "ours",
            seconds=times[one.name].seconds,
            rtol=one.rtol,
            error=one.error,
            timing=times[one.name],
        )
        for one in found
    ]
    if baseline_seconds is not None:
        solvers.append(SolverSpeed("your own solver", "user", baseline_seconds))
    return SpeedComparison(
        target=target,
        batched=times["surrogate, batched"],
        one_by_one=times["surrogate, one by one"],
        solvers=tuple(solvers),
        left_out=left_out,
        threads=torch.get_num_threads(),
        device=surrogate.device.type,
    )


@dataclass(frozen=True)
class _Sufficient:
    """A solver's setting that errs by no more than the target: of this problem, on these inputs, by this method."""

    name: str
    problem: Problem
    inputs: Float[Tensor, "batch channel *space"]
    method: str
    rtol: float | None
    error: float


def _methods(
    problem: Problem,
    inputs: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel_out *space"],
    *,
    target: float,
    pilots: int,
    left_out: dict[str, str],
) -> list[_Sufficient]:
    """Every method of `METHODS` that gets there, at its loosest tolerance."""
    found: list[_Sufficient] = []
    for method in METHODS:
        if method == "auto":
            continue
        # As in `fieldwright.solvers.choose`: one 32³ system alone can take seconds and gigabytes.
        if method == "direct" and problem.grid.dimension == 3 and found:
            left_out[method] = "elimination fills in too much in three dimensions to compete"
            continue
        # A factorisation's error does not depend on the tolerance: one sample tells, where eight may take minutes.
        some = slice(1 if method == BASELINE else pilots)
        try:
            loosest = loosest_tolerance(problem, inputs[some], truth[some], method=method, target=target)
        except FieldwrightError as error:
            left_out[method] = first_line(error)
            continue
        if loosest is None:
            left_out[method] = f"does not reach an error of {target:.1e}"
        else:
            found.append(_Sufficient(method, problem, inputs, method, *loosest))
    return found


def _time_steps(
    problem: Problem,
    inputs: Float[Tensor, "batch channel *space"],
    truth: Float[Tensor, "batch channel_out *space"],
    *,
    target: float,
    pilots: int,
    left_out: dict[str, str],
) -> list[_Sufficient]:
    """The fewest time steps that get there, on the problem's grid and on coarser ones.

    A coarser grid is the solver's cheapest way to be as wrong as a surrogate: there, states are brought to it and the
    answer back, which is not counted.
    """
    found: list[_Sufficient] = []
    other, resolutions = problem, _coarser_resolutions(min(problem.grid.shape))
    while True:
        shape = " × ".join(map(str, other.grid.shape)) + "-point" * (problem.grid.dimension == 1)
        there = resample(inputs, problem.grid, other.grid, order=_mean_or_cubic(problem.grid, other.grid))
        for steps in (2**k for k in range(13)):
            answer, _ = other.solve(there[:pilots], method=f"{steps} steps")
            back = resample(answer.double(), other.grid, problem.grid)
            error = float(relative_l2(back, truth[:pilots].double(), problem.grid).nan_to_num(torch.inf).quantile(0.5))
            if error <= target:
                name = f"{steps}-step {shape}"
                found.append(_Sufficient(name, other, there, f"{steps} steps", None, error))
                break
            if getattr(other, "adaptive", False):
                break
        if not found or found[-1].problem is not other:
            left_out[shape] = f"does not reach an error of {target:.1e}"
            return found
        other = _first_that_is_one(problem, resolutions, left_out)
        if other is None:
            return found


def _coarser_resolutions(finest: int) -> Iterator[int]:
    """Three quarters of a resolution, a half, three eighths, a quarter, ...: a solver may be cheapest in between."""
    for halvings in range(finest.bit_length()):
        for resolution in (3 * finest // 2 ** (halvings + 2), finest // 2 ** (halvings + 1)):
            if resolution >= _FEWEST_POINTS:
                yield resolution


def _first_that_is_one(problem: Problem, resolutions: Iterator[int], left_out: dict[str, str]) -> Problem | None:
    """The problem at the first resolution that it can have; where it can have none of them, why not the first."""
    refused: dict[str, str] = {}
    for resolution in resolutions:
        try:
            return problem.at(resolution)
        except (FieldwrightError, TypeError) as error:
            refused = refused or {f"{resolution} points an axis": first_line(error)}
    left_out |= refused
    return None


def _mean_or_cubic(source: Grid, target: Grid) -> Literal[0, 3]:
    return 0 if source.centring == target.centring == "cell" else 3
