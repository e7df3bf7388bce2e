"""A finished run in figures: as plain values for scripts, and as the five lines that a person reads."""

from __future__ import annotations

from typing import Any

from fieldwright.errors import DataError
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.pipeline.facts import run_facts
from fieldwright.pipeline.run import RunSummary
from fieldwright.report import key_figures, verdict


def figures(summary: RunSummary) -> dict[str, Any]:
    """The figures of a run as plain values, named as ``--json`` prints them.

    ``break_even`` counts samples against our fastest solver, None for never; the other solvers are in ``break_evens``.
    Errors: `DataError` for a run that has not been evaluated.
    """
    evaluation = summary.evaluation
    if evaluation is None or evaluation.test.l2 is None:
        raise DataError(f"{summary.directory}: has not been evaluated; `fieldwright run` does it")
    generation, training = summary.stages["generate"], summary.stages["train"]
    l2, quality, speed = evaluation.test.l2, evaluation.test.estimate, evaluation.speed
    break_evens = evaluation.break_even(summary.preparation_seconds)
    ours = [row.count for row in break_evens if row.kind == "ours"]
    report = summary.directory / "report.html"
    return {
        "directory": str(summary.directory),
        "median_relative_l2": l2.median,
        "p95_relative_l2": l2.p95,
        "worst_relative_l2": l2.worst,
        "train_samples": generation["samples"]["train"],
        "test_samples": l2.count,
        "generate_seconds": generation["seconds"],
        "solve_seconds": generation["solve_seconds"],
        "train_seconds": training["seconds"],
        "train_steps": training["steps"],
        "solver": generation["solver"],
        "surrogate_seconds_per_sample": speed.batched.seconds,
        "solver_seconds_per_sample": speed.fastest.seconds if speed.fastest else None,
        "estimate_within_factor_2": quality.within_factor_2 if quality else None,
        "break_even": ours[0] if ours else None,
        "break_evens": {row.name: row.count for row in break_evens},
        "report": str(report) if report.exists() else None,
    }


def five_figures(summary: RunSummary) -> str:
    """The verdict, the five figures that matter, a line each, and where the report is.

    Errors: `DataError` for a run that has not been evaluated.
    """
    work = RunDirectory(summary.directory)
    report = figures(summary)["report"]
    facts = run_facts(work.read_recipe(), work)
    assert summary.evaluation is not None  # `figures` has seen to it
    rows = [(f.label, f.value, f.note) for f in key_figures(summary.evaluation, facts)]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [f"  {label:{first}}  {value:>{second}}  {note}" for label, value, note in rows]
    return "\n".join([verdict(summary.evaluation, facts).sentence, *lines, f"Report: {report or 'not written'}"])
