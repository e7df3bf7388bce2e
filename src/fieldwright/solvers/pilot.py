"""The choice of a method for a set of systems: by rules, then by trying the promising ones on a few of the systems.

Rules (`costs`) order the methods by what the whole set would cost. The first is tried, then every other that could
still be the fastest, on systems of the set itself, so that what a trial solves need not be solved again: it costs only
the difference to the best. A trial is not begun when it would overdraw the pilot's budget, a small part of what the
whole set is predicted to cost, and an iterative method is cut off where it has become slower than the best. Methods
that come out close are tried again in turn.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers.compilation import announce_compilation, preparation_seconds
from fieldwright.solvers.costs import Cost
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.methods import TABLE
from fieldwright.solvers.stencil import Solution, StencilSystem

# What all trials together may cost beyond the best method, as a part of the predicted whole.
BUDGET = 0.04
# The rules may be wrong by this factor either way.
UNCERTAINTY = 2.5
# Methods this close are tried again, so many times.
CLOSE, ROUNDS = 1.3, 3
# A method whose first trial took so many times the best one's is not tried again. The first trial of an iterative
# method is cut off after so many iterations.
HOPELESS, PROBED = 2.0, 4
LAST_RESORT = "scipy"
# Seconds of predicted work from which on trials may pay, and how long a trial should take at least: every call sets up
# its memory, which takes milliseconds.
WORTH, TRIAL = 1.0, 0.01


@dataclass(frozen=True)
class Choice:
    """A method for a family of systems, why, and what was found about the candidates.

    ``rates``    systems a second in the pilot (empty without one)
    ``seconds``  what the whole set was predicted to take with each method that was considered
    """

    method: str
    reason: str
    rates: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Trials:
    """What is known of one method: its cost by the rules, seconds a system of each timed trial, and iterations."""

    expected: Cost
    timed: list[float] = field(default_factory=list)
    iterations: list[float] = field(default_factory=list)

    @property
    def measured(self) -> float | None:
        """Seconds a system, or None before the first timed trial."""
        return statistics.median(self.timed) if self.timed else None

    @property
    def slowness(self) -> float:
        """How many times as long as expected the same work has taken on this machine."""
        known = self.expected._replace(iterations=statistics.fmean(self.iterations))
        return statistics.median(self.timed) / known.system


def ranked(system: StencilSystem, rtol: float, total: int) -> dict[str, Cost]:
    """The methods that run where the system is and what they would cost by the rules, the likely fastest first."""
    on_host = system.rhs.device.type == "cpu"
    threads = max(1, min(torch.get_num_threads(), -(-total // LANES))) if on_host else 1
    found = {}
    for name, method in TABLE.items():
        if on_host or method.accelerator or name == LAST_RESORT:
            cost = method.cost(system, rtol)
            found[name] = cost.scaled(1 / threads)._replace(setup=cost.setup)
    return dict(sorted(found.items(), key=lambda item: (item[0] == LAST_RESORT, item[1].total(total))))


def choose_by_rules(system: StencilSystem, rtol: float, total: int) -> Choice:
    """The first of `ranked` that takes the system."""
    return first_of(ranked(system, rtol, total), system, total)


def first_of(costs: dict[str, Cost], system: StencilSystem, total: int) -> Choice:
    """The choice of the first method that takes the system."""
    name = next(name for name in costs if TABLE[name].refuse(system) is None)
    within = 10 * costs[name].total(total)
    told = {
        other: seconds
        for other, cost in costs.items()
        if (seconds := cost.total(total)) <= within and TABLE[other].refuse(system) is None
    }
    return Choice(name, f"by rule ({_seconds(told, total)})", {}, told)


class Pilot:
    """The trials of methods on the systems of a batch; `run` makes the choice.

    ``total``  systems of the whole set, of which the batch may be a part
    ``keep``   every trial takes systems that no other has taken, and ``solved`` holds their solutions one after the
               other; otherwise all trials take the first systems
    ``check``  is called with the place of systems before they are first tried
    """

    def __init__(
        self,
        system: StencilSystem,
        *,
        rtol: float,
        total: int,
        keep: bool,
        guess: Float[Tensor, "batch *space"] | None = None,
        check: Callable[[slice], None] = lambda place: None,
        reporter: Reporter = SILENT,
    ) -> None:
        self.solved: list[Solution] = []
        self._done = 0
        self._system, self._rtol, self._total, self._keep = system, rtol, total, keep
        self._guess, self._check, self._reporter = guess, check, reporter
        self._costs = ranked(system, rtol, total)
        self._trials: dict[str, _Trials] = {}
        self._spent = 0.0

    def run(self) -> Choice:
        """Try what is promising and choose; by rule alone where nothing else is, or where the whole set is small."""
        by_rule = first_of(self._costs, self._system, self._total)
        first = self._costs[by_rule.method].total(self._total)
        rivals = [
            name
            for name, cost in self._costs.items()
            if name != by_rule.method
            and cost.total(self._total) < UNCERTAINTY**2 * first
            and TABLE[name].refuse(self._system) is None
        ]
        if first < WORTH or not rivals:
            return by_rule
        for name in (by_rule.method, *rivals):
            if self._promising(name):
                self._begin(name)
        for _ in range(ROUNDS):
            if not self._try_close_ones_again():
                break
        return self._choice()

    @property
    def _best(self) -> float | None:
        """Seconds a system of the fastest method so far."""
        return min((m for trials in self._trials.values() if (m := trials.measured) is not None), default=None)

    def _scaled(self, cost: Cost) -> Cost:
        """A cost by the rules on this machine."""
        known = [trials.slowness for trials in self._trials.values() if trials.timed]
        return cost.scaled(statistics.median(known) if known else 1.0)

    def _promising(self, name: str) -> bool:
        """Whether a method may be the fastest, and a trial of it stays within the budget."""
        best = self._best
        if best is None:
            return True
        expected, left = self._scaled(self._costs[name]), self._total - self._done
        setup = expected.setup + preparation_seconds(name)
        if setup + left * expected.system / UNCERTAINTY >= left * best or not self._room(name, 2):
            return False
        extra = setup + self._unit(name) * max(0.0, expected.system - best)
        likely_better = setup + left * expected.system < 0.8 * left * best
        return likely_better or self._spent + extra <= BUDGET * self._total * best

    def _room(self, name: str, trials: int) -> bool:
        """Whether there are systems left for so many trials."""
        return not self._keep or self._done + trials * self._unit(name) <= self._system.batch

    def _begin(self, name: str) -> None:
        """The first trials of a method: one that also makes ready what is kept, and one that is timed."""
        self._trials[name] = _Trials(self._costs[name])
        setup, best = self._scaled(self._costs[name]).setup + preparation_seconds(name), self._best
        announce_compilation(self._reporter, name)
        if best is None:
            self._try(name)
            self._try(name, timed=True)
            return
        iterative = TABLE[name].iterative
        each = self._try(name, PROBED if iterative else None) - setup / self._unit(name)
        limit = self._worth(name, each, best) if iterative else None
        if each <= HOPELESS * best and limit != 0 and self._room(name, 1):
            self._try(name, limit, timed=True)

    def _worth(self, name: str, probe: float, best: float) -> int:
        """Iterations after which a method is hopeless, by what a system took in a trial cut off after `PROBED`."""
        cost = self._costs[name]
        slowness = probe / (cost.base + cost.iteration * PROBED)
        return max(0, math.floor((HOPELESS * best / slowness - cost.base) / cost.iteration))

    def _try_close_ones_again(self) -> bool:
        """Another timed trial of each method close to the best; False where there is no question or no room left."""
        best = self._best or 0.0
        close = [n for n, t in self._trials.items() if t.measured is not None and t.measured < CLOSE * best]
        if len(close) < 2 or self._spent > BUDGET * self._total * best:
            return False
        if not self._room(max(close, key=self._unit), len(close)):
            return False
        for name in close:
            self._try(name, timed=True)
        return True

    def _unit(self, name: str) -> int:
        """Systems of one trial: groups that keep every thread busy, and enough of them to time."""
        group = TABLE[name].together * torch.get_num_threads()
        groups = max(1, round(TRIAL / (group * self._scaled(self._costs[name]).system)))
        return min(group * groups, self._system.batch)

    def _try(self, name: str, limit: int | None = None, *, timed: bool = False) -> float:
        """Seconds a system on the next systems; what was solved is kept, and a timed trial that was not cut off counts.

        ``limit``  iterations after which a method is cut off
        """
        unit = self._unit(name)
        first = self._done if self._keep else 0
        place = slice(first, first + unit)
        self._check(place)
        seconds, solution = self._run(name, place, limit)
        unsolved = len(solution.failed)
        spent = seconds
        if timed and not self._keep and unit > 1:
            # Few systems, and every call sets up its memory: the second half costs what systems of a large set do.
            half = unit // 2
            less, _ = self._run(name, slice(0, half), limit)
            spent += less
            seconds = max(seconds - less, 0.1 * seconds) * unit / (unit - half)
        cut_off = limit is not None and unsolved > 0
        kept = unit if self._keep and not cut_off else 0
        if kept:
            self.solved.append(solution)
            self._done += kept
        self._spent += max(0.0, spent - kept * (self._best or seconds / unit))
        if cut_off:
            return seconds / unit
        # What a method leaves unsolved is solved by elimination with exchange of rows.
        each = (seconds + unsolved * TABLE[LAST_RESORT].cost(self._system, self._rtol).system) / unit
        if timed:
            self._trials[name].timed.append(each)
            self._trials[name].iterations.append(float(solution.iterations.double().mean()))
        return each

    def _run(self, name: str, place: slice, limit: int | None) -> tuple[float, Solution]:
        """Seconds of wall time, and the solution of some of the systems."""
        some, guess = self._system.select(place), None if self._guess is None else self._guess[place]
        self._wait()
        start = time.perf_counter()
        solution = TABLE[name].solve(some, rtol=self._rtol, guess=guess, max_iterations=limit)
        self._wait()
        return time.perf_counter() - start, solution

    def _wait(self) -> None:
        """Until an accelerator has done what it was told."""
        if self._system.rhs.device.type == "cuda":
            torch.cuda.synchronize(self._system.rhs.device)

    def _choice(self) -> Choice:
        measured = {name: m for name, trials in self._trials.items() if (m := trials.measured) is not None}
        if not measured:
            return first_of(self._costs, self._system, self._total)
        name = min(measured, key=measured.__getitem__)
        seconds = {other: self._total * each for other, each in sorted(measured.items(), key=lambda item: item[1])}
        others = {
            other: self._scaled(cost).total(self._total) for other, cost in self._costs.items() if other not in measured
        }
        likely = {o: s for o, s in others.items() if s < 10 * seconds[name] and TABLE[o].refuse(self._system) is None}
        reason = f"fastest in a pilot ({_seconds(seconds, self._total)}"
        reason += f"; by rule {', '.join(f'{o} {s:.2g} s' for o, s in likely.items())})" if likely else ")"
        return Choice(name, reason, {n: 1 / m for n, m in measured.items()}, seconds | likely)


def _seconds(predicted: dict[str, float], total: int) -> str:
    return f"{total} systems: " + ", ".join(f"{name} {seconds:.2g} s" for name, seconds in predicted.items())
