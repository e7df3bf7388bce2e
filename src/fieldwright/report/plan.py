"""`write_plan`: how many samples a target error takes and what they cost, as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldwright.analysis import DataPlan
from fieldwright.atomic import write_atomically
from fieldwright.report.curves import HEIGHT, WIDTH, readable_log
from fieldwright.report.quantities import SPACE, count, duration, number, percent
from fieldwright.report.rendering import render_page
from fieldwright.report.svg import BLUE, GREY, INK, ORANGE, inline_svg, new_figure
from fieldwright.report.tables import Table, fact_rows


@dataclass(frozen=True)
class Pilot:
    """A small training: its size, model, updates and seed, and what it came to.

    Errors are medians over samples of the relative L2 error. ``flops`` are those of an update, ``config`` is the start
    of the checksum of its recipe, ``best`` says that it is its size's best by validation (or a repeat of that one).
    """

    samples: int
    width: int | None
    parameters: int
    updates: int
    seed: int
    train_error: float
    valid_error: float
    test_error: float
    seconds: float
    seconds_per_update: float
    flops: int
    config: str
    best: bool = False


@dataclass(frozen=True)
class Bill:
    """A full training: samples, the error the law expects of them, model, updates and what all of it takes (s).

    ``device_seconds`` is training on the device that was asked about.
    """

    samples: int
    error: float
    low: float
    high: float
    width: int | None
    parameters: int
    updates: int
    data_seconds: float
    training_seconds: float
    device_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Data and training, here."""
        return self.data_seconds + self.training_seconds


@dataclass(frozen=True)
class TargetPlan:
    """The answer of `fieldwright plan`.

    ``expected`` and ``safe`` reach the target with probability 1/2 and 0.9, ``hopeful`` with 0.1; None where the data
    plan refuses. ``outlook`` are bills at the largest pilot's size and its doublings, ``next_pilot`` a sentence.
    """

    title: str
    problem: str
    data: DataPlan
    pilots: tuple[Pilot, ...]
    hopeful: Bill | None
    expected: Bill | None
    safe: Bill | None
    outlook: tuple[Bill, ...]
    next_pilot: str
    assumptions: tuple[str, ...]
    remarks: tuple[str, ...]
    pilot_seconds: float
    command: str
    device: str = "cpu"
    device_name: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        plan, target = self.data, percent(self.data.target)
        if self.expected is None or self.safe is None:
            return f"No plan for {target} ({plan.status}): {plan.remarks[0] if plan.remarks else 'see below'}."
        if plan.status == "reached":
            return (
                f"{target} was reached by a pilot of {count(self.safe.samples)} training samples:"
                f" {duration(self.safe.seconds)} here."
            )
        refused = "" if plan.status == "reachable" else f" Answered by force although {plan.status}."
        return (
            f"{target} takes about {count(self.expected.samples)} training samples, {count(self.safe.samples)} to be"
            f" safe (probability 0.9): {duration(self.expected.seconds)} here, {duration(self.safe.seconds)} to be"
            f" safe.{refused}"
        )

    @property
    def lines(self) -> list[str]:
        """The answer for a terminal."""
        lines = [self.sentence]
        for name, bill in (("expected", self.expected), ("safe", self.safe)):
            if bill is not None:
                there = (
                    "" if bill.device_seconds is None else f", {duration(bill.device_seconds)} on {self.device_name}"
                )
                lines.append(
                    f"  {name:8}  {bill.samples:,} samples, width {bill.width or 'as it is'} ({bill.parameters:,}"
                    f" weights), {bill.updates:,} updates: data {duration(bill.data_seconds)}, training"
                    f" {duration(bill.training_seconds)}{there}"
                )
        return [*lines, *(f"  {text}" for text in (*self.assumptions, *self.remarks, self.next_pilot) if text)]


def write_plan(plan: TargetPlan, path: Path) -> None:
    """Write the page to ``path``: nothing but this one file is needed to read it, and no network.

    Errors: `StorageError` when it cannot be written; a page that stood there before then stays.
    """
    write_atomically(path, render_plan(plan).encode())


def render_plan(plan: TargetPlan) -> str:
    """The page as text. Everything that comes from outside (names, recipe, command) is escaped."""
    return render_page(
        "plan.html",
        plan=plan,
        bills=bill_table([(n, getattr(plan, n)) for n in ("hopeful", "expected", "safe") if getattr(plan, n)], plan),
        outlook=bill_table([(number(b.samples / plan.data.law.curve.largest, 3), b) for b in plan.outlook], plan),
        pilots=pilot_table(plan.pilots),
        law=[f"{name}: {weight:.2f}" for name, weight in plan.data.law.weights.items()],
        exponent=[number(value) for value in plan.data.law.exponent],
        tests=back_test_table(plan.data),
        figure=curve_figure(plan),
        environment=fact_rows(plan.environment),
        spent=duration(plan.pilot_seconds),
    )


def bill_table(bills: Sequence[tuple[str, Bill]], plan: TargetPlan) -> Table:
    """What each plan needs and what the law expects of it."""
    there = (f"Training on {plan.device_name}",) if any(b.device_seconds is not None for _, b in bills) else ()
    return Table(
        ("Plan", "Samples", "Error, 90 % interval", "Width", "Weights", "Updates", "Data", "Training here", *there),
        tuple(
            (
                name,
                f"{bill.samples:,}",
                f"{percent(bill.error)} ({percent(bill.low)} to {percent(bill.high)})",
                str(bill.width or "–"),
                f"{bill.parameters:,}",
                f"{bill.updates:,}",
                duration(bill.data_seconds),
                duration(bill.training_seconds),
                *([duration(bill.device_seconds or 0)] if there else []),
            )
            for name, bill in bills
        ),
    )


def pilot_table(pilots: Sequence[Pilot]) -> Table:
    """Every training that was made; a mark for those that the law was fitted to."""
    return Table(
        ("Samples", "In the fit", "Width", "Weights", "Updates", "Seed", "Training", "Validation", "Test", "Time"),
        tuple(
            (
                f"{p.samples:,}",
                "yes" if p.best else "–",
                str(p.width or "–"),
                f"{p.parameters:,}",
                f"{p.updates:,}",
                str(p.seed),
                *(percent(error) for error in (p.train_error, p.valid_error, p.test_error)),
                duration(p.seconds),
            )
            for p in pilots
        ),
    )


def back_test_table(plan: DataPlan) -> Table:
    """Sizes predicted from those below them, and what was measured."""
    return Table(
        ("Samples", "Predicted", "Interval of 90 %", "Measured", "Inside"),
        tuple(
            (
                f"{test.predicted.size:g}",
                percent(test.predicted.median),
                f"{percent(test.predicted.low)} to {percent(test.predicted.high)}",
                percent(test.observed),
                "yes" if test.inside else "no",
            )
            for test in plan.back_tests
        ),
    )


def curve_figure(plan: TargetPlan) -> str:
    """Pilots, the law with its interval, and the target."""
    curve, target = plan.data.law.curve, plan.data.target
    far = max([8 * curve.largest, *(bill.samples for bill in (plan.expected, plan.safe) if bill is not None)])
    ratio = 1.3 * far / curve.sizes[0]
    sizes = [float(curve.sizes[0]) * ratio ** (k / 60) for k in range(61)]
    laws = [plan.data.predict(size) for size in sizes]
    with new_figure(1.5 * WIDTH, 1.2 * HEIGHT) as figure:
        axes = figure.subplots()
        axes.fill_between(
            sizes, [p.low for p in laws], [p.high for p in laws], color=BLUE, alpha=0.18, label="90 % interval"
        )
        axes.plot(sizes, [p.median for p in laws], "-", color=BLUE, label="law, median")
        others = [p for p in plan.pilots if not p.best]
        if others:
            axes.plot(
                [p.samples for p in others], [p.test_error for p in others], "x", color=GREY, markersize=4,
                label="pilots that lost on validation",
            )  # fmt: skip
        axes.plot(curve.sizes, [math.exp(y) for y in curve.log_errors], "o", color=INK, label="pilots")
        axes.axhline(target, color=ORANGE, linestyle="--", label=f"target {percent(target)}".replace(SPACE, " "))
        for bill, marker in ((plan.expected, "D"), (plan.safe, "s")):
            if bill is not None:
                name = "expected" if bill is plan.expected else "safe"
                axes.plot(bill.samples, target, marker, color=ORANGE, label=f"{name}: {count(bill.samples)}")
        axes.set(xscale="log", yscale="log", xlabel="training samples", ylabel="test, relative L2 (median)")
        readable_log(axes, "x")
        readable_log(axes, "y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=2.0)
        return inline_svg(figure, "law", "Test error against training samples: pilots, the fitted law and the target.")
