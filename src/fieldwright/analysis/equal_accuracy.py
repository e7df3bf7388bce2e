"""What solvers cost at the surrogate's accuracy.

A comparison is honest where both sides are equally wrong: each solver is stopped as soon as its error against the
reference is no larger than the surrogate's median error, and its time counts without assembling the systems, which
favours the solver. McGreivy and Hakim (2024) found that 79 % of the papers that claim to beat a solver did neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.analysis.timing import Contender, Timing, measure, timed
from fieldwright.errors import FieldwrightError
from fieldwright.norms import relative_l2
from fieldwright.problems import Problem
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import first_line
from fieldwright.solvers import METHODS

TOLERANCES: tuple[float, ...] = (0.5, 0.3, 0.2, *(m * 10.0**-k for k in range(1, 9) for m in (1, 0.5, 0.2)))[:-2]
"""Relative residuals tried, loosest first, down to 1e-8."""

BASELINE = "scipy"
"""The method that most people would call: `scipy.sparse.linalg.spsolve`, one sample after the other."""

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

    ``rtol`` is the loosest relative residual whose median relative L2 error, ``error``, is within the target; both are
    None for the user's own solver, whose seconds are taken as given, as is the ``timing``.
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
    truth: Float[Tensor, "batch channel *space"],
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
    truth: Float[Tensor, "batch channel *space"],
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
    accuracy: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    for method in METHODS:
        if method == "auto":
            continue
        # As in `fieldwright.solvers.choose`: one 32³ system alone can take seconds and gigabytes.
        if method == "direct" and problem.grid.dimension == 3 and accuracy:
            left_out[method] = "elimination fills in too much in three dimensions to compete"
            continue
        # A factorisation's error does not depend on the tolerance: one sample tells, where eight may take minutes.
        some = slice(1 if method == BASELINE else pilots)
        try:
            found = loosest_tolerance(problem, doubles[some], truth[some], method=method, target=target)
        except FieldwrightError as error:
            left_out[method] = first_line(error)
            continue
        if found is None:
            left_out[method] = f"does not reach an error of {target:.1e}"
        else:
            accuracy[method] = found

    def solver_run(method: str, rtol: float) -> Callable[[int], float]:
        return lambda n: problem.solve(doubles[:n], rtol=rtol, method=method)[1].seconds

    def surrogate_run(size: int | None) -> Callable[[int], float]:
        # Copying to the CPU waits for an accelerator to finish.
        return lambda n: timed(lambda: [surrogate.fields(part).cpu() for part in inputs[:n].split(size or n)])

    # Sixteen samples fill the SIMD lanes of a batched solver; fewer would be charged for empty lanes.
    contenders = [
        Contender("surrogate, batched", surrogate_run(None), 16, most),
        Contender("surrogate, one by one", surrogate_run(1), 1, most),
        *(
            Contender(method, solver_run(method, rtol), 1 if method == BASELINE else 16, most)
            for method, (rtol, _) in accuracy.items()
        ),
    ]
    times = measure(contenders, repeats=repeats, budget=budget, reporter=reporter)
    solvers = [
        SolverSpeed(
            name="scipy.sparse.linalg.spsolve, one by one" if method == BASELINE else method,
            kind="scipy" if method == BASELINE else "ours",
            seconds=times[method].seconds,
            rtol=rtol,
            error=error,
            timing=times[method],
        )
        for method, (rtol, error) in accuracy.items()
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
