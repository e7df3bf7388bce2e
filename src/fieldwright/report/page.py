"""`write_report`: an evaluation and the facts of its run as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from fieldwright.analysis import Evaluation
from fieldwright.atomic import write_atomically
from fieldwright.report.curves import (
    cost_curve,
    error_spectrum,
    estimate_scatter,
    learning_curve,
    rollout_curve,
    time_per_sample,
)
from fieldwright.report.facts import RunFacts
from fieldwright.report.fields import sample_panels
from fieldwright.report.quantities import duration, percent, plural
from fieldwright.report.rendering import render_page
from fieldwright.report.tables import (
    batch_table,
    break_even_table,
    defect_table,
    error_table,
    estimate_table,
    fact_rows,
)
from fieldwright.report.verdict import certified_sentence, key_figures, rollout_sentence, verdict

VIEWS = {
    1: "",
    2: "The first axis runs to the right, the second upwards.",
    3: "The mid-plane of the third axis is shown; the first axis runs to the right, the second upwards.",
}


def write_report(evaluation: Evaluation, facts: RunFacts, path: Path) -> None:
    """Write the report to ``path``: nothing but this one file is needed to read it, and no network.

    Errors: `StorageError` when it cannot be written; a report that stood there before then stays.
    """
    write_atomically(path, render_report(evaluation, facts).encode())


def render_report(evaluation: Evaluation, facts: RunFacts) -> str:
    """The page as text. Everything that comes from outside (names, recipe, command) is escaped."""
    return render_page(
        "page.html",
        evaluation=evaluation,
        facts=facts,
        speed=evaluation.speed,
        verdict=verdict(evaluation, facts),
        key_figures=key_figures(evaluation, facts),
        errors=error_table(evaluation),
        estimates=estimate_table(evaluation),
        defects=defect_table(evaluation),
        break_even=break_even_table(evaluation, facts),
        batches=batch_table(facts.batches),
        batch_advice=str(facts.batches),
        notes=[f"{row.name}: {row.note}." for row in evaluation.errors if row.note],
        mean_field=percent(evaluation.mean_field),
        target=evaluation.speed.target,
        threads=plural(evaluation.speed.threads, "thread"),
        preparation=duration(facts.preparation_seconds),
        samples=sample_panels(evaluation),
        images=evaluation.grid.dimension > 1,
        view=VIEWS[evaluation.grid.dimension],
        learning_curve=learning_curve(facts.metrics),
        cost_curve=cost_curve(facts.metrics),
        spectrum=error_spectrum(evaluation),
        scatter=estimate_scatter(evaluation),
        rollout=rollout_curve(evaluation),
        rollout_sentence=rollout_sentence(evaluation.rollout) if evaluation.rollout else "",
        times=time_per_sample(evaluation),
        certified=certified_sentence(evaluation.certified),
        run_facts=_run_facts(facts),
        environment=fact_rows(facts.environment),
        checksums=tuple(facts.checksums.items()),
        percent=percent,
    )


def _run_facts(facts: RunFacts) -> tuple[tuple[str, str], ...]:
    stages = tuple((f"{name} (time)", duration(seconds)) for name, seconds in facts.stage_seconds.items())
    return (
        ("operator", facts.operator),
        ("parameters", f"{facts.parameters:,}"),
        ("solver of the data", facts.solver),
        ("seed", str(facts.seed)),
        *stages,
        *fact_rows(facts.dataset),
    )
