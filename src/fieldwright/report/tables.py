"""The report's tables as rows of text, each cell with the heading it stands under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fieldwright.analysis import ErrorSummary, Evaluation, SolverSpeed, Timing
from fieldwright.report.facts import RunFacts
from fieldwright.report.quantities import SPACE, count, duration, number, percent, shape
from fieldwright.training.noise_scale import BatchAdvice


@dataclass(frozen=True)
class Table:
    """Headings and rows; the first cell of a row is its heading. ``group`` rows name the group they open."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


P95 = f"95{SPACE}%"
KINDS = {"in distribution": "as trained", "shift": "other distribution", "resolution": "other resolution"}


def error_table(evaluation: Evaluation) -> Table:
    """Median, 95th percentile and worst of relative L2 and H1 errors, a row per set of samples."""
    return Table(
        ("Samples", *(f"{n} {q}" for n in ("L2", "H1") for q in ("median", P95, "worst")), "Grid", "Count", "Kind"),
        tuple(
            (
                row.name,
                *_three(row.l2),
                *_three(row.h1),
                shape(row.shape) if row.shape else "–",
                count(row.l2.count) if row.l2 else "0",
                KINDS[row.kind],
            )
            for row in evaluation.errors
        ),
    )


def defect_table(evaluation: Evaluation) -> Table:
    """Residual and conservation defects of the predictions, and of the stored reference beside them."""
    return Table(
        ("Defect", "Median", P95, "Worst", "Reference, worst"),
        tuple(
            (
                row.name,
                number(row.prediction.median),
                number(row.prediction.p95),
                number(row.prediction.worst),
                number(row.truth.worst) if row.truth else "–",
            )
            for row in evaluation.defects
        ),
    )


def batch_table(advice: BatchAdvice | None) -> Table | None:
    """Steps and times to the same loss at half, the same, twice and four times the batch."""
    if advice is None:
        return None
    return Table(
        ("Batch", "Steps", "Least", "Most", "Time, devices in proportion", "Time, this device"),
        tuple(
            (
                f"{row['batch']:g}",
                *(f"{row[name]:,.0f}" for name in ("steps", "least steps", "most steps")),
                *(
                    "–" if (seconds := row[f"seconds, {where}"]) is None else duration(seconds)
                    for where in ("as many devices", "same device")
                ),
            )
            for row in advice.rows()
        ),
    )


def estimate_table(evaluation: Evaluation) -> Table:
    """How estimate and bound compare with the true error, a row per set of samples."""
    return Table(
        ("Samples", "Correlation", "Within a factor 2", "Estimate / truth", "Bound / truth", "Bound violated"),
        tuple(
            (
                row.name,
                "–" if quality.correlation is None else f"{quality.correlation:.2f}".replace("-", "−"),
                percent(quality.within_factor_2),
                number(quality.median_ratio),
                "no bound" if quality.median_bound is None else number(quality.median_bound),
                f"{quality.violations} of {quality.bounded}",
            )
            for row in evaluation.errors
            if (quality := row.estimate)
        ),
    )


def break_even_table(evaluation: Evaluation, facts: RunFacts) -> Table:
    """What each solver costs at the surrogate's accuracy and from how many samples on the surrogate is cheaper."""
    speeds = {solver.name: solver for solver in evaluation.speed.solvers}
    rows = []
    for row in evaluation.break_even(facts.preparation_seconds):
        speed = speeds[row.name]
        rows.append(
            (
                f"our fastest: {row.name}" if row.kind == "ours" else row.name,
                "as stated by you" if speed.error is None else percent(speed.error),
                _stopped_at(speed),
                _with_spread(row.solver_seconds, speed.timing),
                duration(row.surrogate_seconds),
                "never" if row.count is None else f"{count(row.count)} samples",
            )
        )
    return Table(
        ("Against", "Its error", "Stopped at residual", "Its time", "Surrogate's time", "Break-even"), tuple(rows)
    )


def fact_rows(values: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Names and values as text: nested mappings with dotted names, floats to three digits, nothing as a dash."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += fact_rows(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((prefix + name, ", ".join(map(str, value)) or "–"))
        elif isinstance(value, float):
            rows.append((prefix + name, number(value, 3)))
        else:
            rows.append((prefix + name, "–" if value is None else str(value)))
    return tuple(rows)


def _three(summary: ErrorSummary | None) -> tuple[str, str, str]:
    if summary is None:
        return ("–", "–", "–")
    return percent(summary.median), percent(summary.p95), percent(summary.worst)


def _stopped_at(speed: SolverSpeed) -> str:
    if speed.kind == "scipy":
        return "direct"
    if speed.rtol is None and speed.kind == "ours":
        return "time steps"
    return "–" if speed.rtol is None else number(speed.rtol, 1)


def _with_spread(seconds: float, timing: Timing | None) -> str:
    if timing is None or timing.repeats < 2:
        return duration(seconds)
    return f"{duration(seconds)} ({duration(timing.fastest)} to {duration(timing.slowest)})"
