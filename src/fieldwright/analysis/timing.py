"""Seconds per sample of several contenders on the same samples, repeats interleaved.

Interleaving (one repeat of everybody, then the next) spreads whatever else the machine does over all contenders; the
median is the figure, the fastest and slowest repeat are its spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fieldwright.errors import InputError
from fieldwright.progress import SILENT, Reporter


@dataclass(frozen=True)
class Contender:
    """Something to time: ``run(n)`` handles the first n samples and returns the seconds that count.

    ``least`` samples make one fair call (1 for what goes one by one, more for what works in batches) and ``most`` is
    as many as there are.
    """

    name: str
    run: Callable[[int], float]
    least: int
    most: int


@dataclass(frozen=True)
class Timing:
    """Seconds per sample: median, fastest and slowest over ``repeats`` calls of ``samples`` samples each."""

    seconds: float
    fastest: float
    slowest: float
    repeats: int
    samples: int


def measure(
    contenders: Sequence[Contender], *, repeats: int = 5, budget: float = 1.0, reporter: Reporter = SILENT
) -> dict[str, Timing]:
    """Time every contender, in rounds, and return `Timing` by name.

    Each is called once to warm up (compilation, caches) and once to size its calls: as many samples as fit in
    ``budget`` seconds, between its least and its most. Where already the least exceeds the budget, that second call is
    its only repeat.

    Errors: `InputError` for no repeats or two contenders of one name.
    """
    if repeats < 1:
        raise InputError(f"timing: repeats = {repeats}; at least 1 is needed")
    if len({c.name for c in contenders}) < len(contenders):
        raise InputError(f"timing: names must differ, got {', '.join(c.name for c in contenders)}")
    sizes: dict[str, int] = {}
    spent: dict[str, list[float]] = {}
    for contender in contenders:
        sizes[contender.name], first = _fitting_samples(contender, budget)
        spent[contender.name] = [] if first is None else [first]
    rounds = [c for c in contenders if not spent[c.name]]
    with reporter.stage("Timing surrogate and solvers", total=repeats * len(rounds)) as stage:
        for _ in range(repeats):
            for contender in rounds:
                samples = sizes[contender.name]
                spent[contender.name].append(contender.run(samples) / samples)
                stage.advance()
    return {
        name: Timing(statistics.median(times), min(times), max(times), len(times), sizes[name])
        for name, times in spent.items()
    }


def timed(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _fitting_samples(contender: Contender, budget: float) -> tuple[int, float | None]:
    """Samples a call, and seconds per sample where the sizing call itself must do as the measurement."""
    least = min(contender.least, contender.most)
    contender.run(least)
    seconds = contender.run(least)
    if seconds > budget:
        return least, seconds / least
    fitting = int(budget / seconds * least) if seconds > 0 else contender.most
    return max(least, min(contender.most, fitting)), None
