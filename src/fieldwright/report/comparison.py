"""`write_comparison`: several operators side by side, as one self-contained HTML page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldwright.analysis import ErrorSummary, Timing
from fieldwright.atomic import write_atomically
from fieldwright.report.comparison_curves import cost_figure, learning_figure
from fieldwright.report.quantities import SPACE, count, duration, number, percent, plural
from fieldwright.report.rendering import render_page
from fieldwright.report.tables import P95, Table, fact_rows


@dataclass(frozen=True)
class Trained:
    """One training: what its operator errs by on the test set, and its validation error (s, relative L2) on the way."""

    seed: int
    steps: int
    seconds: float
    l2: ErrorSummary
    h1: ErrorSummary
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Competitor:
    """An operator: its size, operations of a forward pass on a sample, its trainings, and its time per sample."""

    name: str
    parameters: int
    flops: int
    runs: tuple[Trained, ...]
    batched: Timing
    one_by_one: Timing

    @property
    def error(self) -> float:
        """Mean over seeds of the median relative L2 error."""
        return statistics.fmean(run.l2.median for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """Operators trained on the same data within the same budget, and how to do it again."""

    title: str
    problem: str
    budget: str
    competitors: tuple[Competitor, ...]
    command: str
    recipes: Mapping[str, str] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    device: str = "cpu"
    created: str = ""

    @property
    def ranking(self) -> tuple[Competitor, ...]:
        """The competitors, the most accurate first."""
        return tuple(sorted(self.competitors, key=lambda one: one.error))


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page to ``path``: nothing but this one file is needed to read it, and no network.

    Errors: `StorageError` when it cannot be written; a page that stood there before then stays.
    """
    write_atomically(path, render_comparison(comparison).encode())


def render_comparison(comparison: Comparison) -> str:
    """The page as text. Everything that comes from outside (names, recipes, command) is escaped."""
    ranking = comparison.ranking
    return render_page(
        "comparison.html",
        comparison=comparison,
        sentence=comparison_sentence(comparison),
        errors=error_table(ranking),
        costs=cost_table(ranking),
        learning=learning_figure([(one.name, [run.curve for run in one.runs]) for one in ranking]),
        parameters=cost_figure(
            [(one.name, float(one.parameters), _errors(one)) for one in ranking], "parameters", "weights"
        ),
        speed=cost_figure([(one.name, one.batched.seconds, _errors(one)) for one in ranking], "speed", "s per sample"),
        seeds=plural(len(ranking[0].runs), "seed"),
        threads=plural(comparison.threads, "thread"),
        dataset=fact_rows(comparison.dataset),
        environment=fact_rows(comparison.environment),
    )


def comparison_sentence(comparison: Comparison) -> str:
    """Who is best, by how much, and whether the seeds say so too."""
    best, *others = comparison.ranking
    said = f"{best.name} errs least: {percent(best.error)} (median relative L2, mean over seeds)"
    if not others:
        return f"{said}; it is alone."
    second = others[0]
    apart = max(_errors(best)) < min(_errors(second))
    fair = (
        f"in every one of {len(best.runs)} seeds"
        if apart and len(best.runs) > 1
        else "by one seed alone"
        if apart
        else "but their seeds overlap"
    )
    return f"{said}, {number(second.error / best.error)} times less than {second.name}, {fair}."


def error_table(competitors: Sequence[Competitor]) -> Table:
    """Mean and spread over the seeds of median, 95th percentile and worst relative L2 error and of the median in H1."""
    return Table(
        ("Operator", "L2 median", f"L2 {P95}", "L2 worst", "H1 median", "Steps", "Training time"),
        tuple(
            (
                one.name,
                *(_spread([getattr(run.l2, what) for run in one.runs]) for what in ("median", "p95", "worst")),
                _spread([run.h1.median for run in one.runs]),
                count(round(statistics.fmean(run.steps for run in one.runs))),
                duration(statistics.fmean(run.seconds for run in one.runs)),
            )
            for one in competitors
        ),
    )


def cost_table(competitors: Sequence[Competitor]) -> Table:
    """Weights, operations, and seconds per sample and per step."""
    return Table(
        ("Operator", "Weights", "FLOPs of a sample", "One prediction, in batches", "One by one", "A training step"),
        tuple(
            (
                one.name,
                f"{one.parameters:,}",
                number(one.flops, 3),
                _range(one.batched),
                _range(one.one_by_one),
                duration(statistics.fmean(run.seconds / run.steps for run in one.runs)),
            )
            for one in competitors
        ),
    )


def _errors(one: Competitor) -> list[float]:
    return [run.l2.median for run in one.runs]


def _spread(values: Sequence[float]) -> str:
    mean = percent(statistics.fmean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({percent(min(values))} to {percent(max(values))})"


def _range(timing: Timing) -> str:
    return f"{duration(timing.seconds)} ({duration(timing.fastest)}{SPACE}to{SPACE}{duration(timing.slowest)})"
