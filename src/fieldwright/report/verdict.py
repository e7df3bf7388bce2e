"""The verdict in a sentence, and the figures that matter."""

from __future__ import annotations

from dataclasses import dataclass

from fieldwright.analysis import BreakEven, CertifiedSolves, ErrorSummary, Evaluation, RolloutErrors
from fieldwright.report.facts import RunFacts
from fieldwright.report.quantities import count, duration, number, percent, plural

LEARNED = 0.5
"""A surrogate has learned its problem when its median error is below this share of the mean field's."""


@dataclass(frozen=True)
class Verdict:
    """One plain sentence, and remarks that qualify it."""

    sentence: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class KeyFigure:
    """A figure to be seen first: what it is, its value as text, and a few words beside it."""

    label: str
    value: str
    note: str


def verdict(evaluation: Evaluation, facts: RunFacts) -> Verdict:
    """When to use the surrogate and when the solver, and what to beware of."""
    rows = evaluation.break_even(facts.preparation_seconds)
    return Verdict(
        _sentence(evaluation, rows),
        (
            *_against_others(rows),
            *_rolled_out(evaluation),
            *_beyond_training(evaluation),
            *_broken_bounds(evaluation),
        ),
    )


def key_figures(evaluation: Evaluation, facts: RunFacts) -> tuple[KeyFigure, ...]:
    """The five figures that matter: error, time a prediction, time of the solver, break-even, preparation."""
    error = _test_error(evaluation)
    speed = evaluation.speed
    rows = evaluation.break_even(facts.preparation_seconds)
    against = rows[0] if rows else None
    generate, train = (facts.stage_seconds.get(name, 0.0) for name in ("generate", "train"))
    return (
        KeyFigure(
            "Median relative L2 error",
            percent(error.median),
            f"95th percentile {percent(error.p95)}, worst {percent(error.worst)}; {plural(error.count, 'test sample')}",
        ),
        KeyFigure(
            "One prediction",
            duration(speed.batched.seconds),
            f"in batches; {duration(speed.one_by_one.seconds)} one by one",
        ),
        KeyFigure(
            "Fastest solver",
            duration(against.solver_seconds) if against else "none",
            f"{against.name}, at the same accuracy" if against else "no solver takes this problem",
        ),
        KeyFigure(
            "Break-even",
            _count_or_never(against),
            "samples until data and training are paid for" if against and against.count is not None
            else "the solver stays cheaper" if against else "nothing to compare with",
        ),
        KeyFigure(
            "Preparation",
            duration(facts.preparation_seconds),
            f"{duration(generate)} generating data, {duration(train)} training",
        ),
    )  # fmt: skip


def certified_sentence(certified: CertifiedSolves | str) -> str:
    """How many iterations a prediction saves the solver, even if it is none, or why that is not known."""
    if isinstance(certified, str):
        return f"Not measured: {certified}."
    saved = certified.saved_median
    if saved > 0:
        worth = f"the prediction saves {saved:g}"
    else:
        worth = "the prediction saves none" if saved == 0 else f"the prediction costs {-saved:g} more"
    return (
        f"A certified solve starts the solver ({certified.method}) from the prediction and iterates to a relative"
        f" residual of {number(certified.rtol, 1)}, so that the answer carries the solver's guarantee. Over"
        f" {plural(certified.from_zero.count, 'test sample')} it took a median of {certified.from_prediction.median:g}"
        f" iterations from the prediction and {certified.from_zero.median:g} from zero: {worth} (between"
        f" {certified.saved_least:g} and {certified.saved_most:g})."
    ).replace("between -", "between −")


def rollout_sentence(rollout: RolloutErrors) -> str:
    """How large the error is after a whole trajectory, what persistence would err by, and how many were lost."""
    began = (
        f"From {plural(rollout.trajectories, 'initial state')} that training never saw, each predicted state was given"
        f" back to the surrogate {rollout.frames} times, to time {number(rollout.duration)}."
    )
    lost = f" {count(rollout.lost)} of them ran into NaN or infinity." if rollout.lost else ""
    if rollout.last is None:
        return began + lost
    return (
        f"{began}{lost} The relative L2 error at the end has the median {percent(rollout.last.median)} (95th percentile"
        f" {percent(rollout.last.p95)}, worst {percent(rollout.last.worst)}); keeping the initial state would err by"
        f" {percent(rollout.persistence)}."
    )


def _sentence(evaluation: Evaluation, rows: tuple[BreakEven, ...]) -> str:
    error = _test_error(evaluation).median
    if error > LEARNED * evaluation.mean_field:
        close = "is not far from" if error < evaluation.mean_field else "is no better than"
        return (
            f"Do not use this surrogate: its median error of {percent(error)} {close} the"
            f" {percent(evaluation.mean_field)} of always answering the mean field; train it longer or on more data."
        )
    if not rows:
        return f"The surrogate has a median error of {percent(error)}; no solver was there to compare its time with."
    rival = rows[0]
    if rival.count is None:
        return (
            f"On this problem {_solver(rival)} is faster than the surrogate at the same accuracy"
            f" ({duration(rival.solver_seconds)} against {duration(rival.surrogate_seconds)} per sample, at"
            f" {percent(error)} error): use the solver."
        )
    return (
        f"From {plural_count(rival.count)} on, the surrogate (median error {percent(error)}) is cheaper than"
        f" {_solver(rival)} run to the same accuracy; for fewer, use the solver."
    )


def _against_others(rows: tuple[BreakEven, ...]) -> list[str]:
    remarks = []
    for row in rows[1:]:
        if row.count is None:
            remarks.append(f"Against {_solver(row)} ({duration(row.solver_seconds)} per sample) it never pays.")
        else:
            remarks.append(
                f"Against {_solver(row)} ({duration(row.solver_seconds)} per sample) it pays from"
                f" {plural_count(row.count)} on."
            )
    return remarks


def _rolled_out(evaluation: Evaluation) -> list[str]:
    rollout = evaluation.rollout
    if rollout is None:
        return []
    if rollout.lost:
        return [f"{count(rollout.lost)} of {plural(rollout.trajectories, 'roll-out')} ran into NaN or infinity."]
    assert rollout.last is not None  # None is lost
    return [f"Rolled out over {plural(rollout.frames, 'frame')} its median error is {percent(rollout.last.median)}."]


def _beyond_training(evaluation: Evaluation) -> list[str]:
    here = _test_error(evaluation).median
    remarks = []
    for kind, where in (("shift", "Out of distribution"), ("resolution", "At another resolution")):
        measured = [(row.l2.median, row.name) for row in evaluation.errors if row.kind == kind and row.l2]
        if measured and max(measured)[0] > 2 * here:
            worst, name = max(measured)
            remarks.append(f"{where} the median error grows to {percent(worst)} ({name}).")
    return remarks


def _broken_bounds(evaluation: Evaluation) -> list[str]:
    broken = sum(row.estimate.violations for row in evaluation.errors if row.estimate)
    if not broken:
        return []
    return [f"The error bound failed on {plural(broken, 'sample')}, which it must not: do not rely on it here."]


def _solver(row: BreakEven) -> str:
    return {"ours": f"our {row.name} solver", "scipy": row.name, "user": row.name}[row.kind]


def plural_count(value: int) -> str:
    """ "1 sample", "12,300 samples"."""
    return f"{count(value)}\N{NO-BREAK SPACE}sample" + ("" if value == 1 else "s")


def _count_or_never(row: BreakEven | None) -> str:
    if row is None:
        return "unknown"
    return "never" if row.count is None else count(row.count)


def _test_error(evaluation: Evaluation) -> ErrorSummary:
    summary = evaluation.test.l2
    assert summary is not None  # `evaluate` raises rather than leave the test row empty
    return summary
