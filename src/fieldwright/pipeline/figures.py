"""A finished run in figures: as plain values for scripts, and as the five lines that a person reads."""

from __future__ import annotations

from typing import Any

from fieldwright.errors import DataError
from fieldwright.pipeline.run import RunSummary


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
    """The five figures that matter, a line each, and where the report is.

    Errors: `DataError` for a run that has not been evaluated.
    """
    facts = figures(summary)
    evaluation = summary.evaluation
    assert evaluation is not None  # `figures` has seen to it
    fastest = evaluation.speed.fastest
    against = f", {fastest.name} {_seconds(fastest.seconds)} at the same error" if fastest else ""
    counts = "; ".join(
        f"{'never' if count is None else f'after {count:,} samples'} against {name}"
        for name, count in facts["break_evens"].items()
    )
    lines = (
        ("median error", f"{facts['median_relative_l2']:.2%} relative L2 on {facts['test_samples']} unseen samples"),
        ("95th percentile", f"{facts['p95_relative_l2']:.2%}, worst {facts['worst_relative_l2']:.2%}"),
        ("error estimate", f"within a factor of 2 of the true error for {_share(facts['estimate_within_factor_2'])}"),
        ("time per sample", f"surrogate {_seconds(facts['surrogate_seconds_per_sample'])}{against}"),
        ("break-even", counts or "no solver reached this error"),
        ("report", facts["report"] or "not written"),
    )
    return "\n".join(f"{name:16} {text}" for name, text in lines)


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _share(value: float | None) -> str:
    return "no sample (the problem states no linear system)" if value is None else f"{value:.0%} of the samples"
