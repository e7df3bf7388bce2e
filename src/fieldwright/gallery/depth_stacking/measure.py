"""The page of depth stacking: both races, what must hold of them, and their picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fieldwright.gallery.depth_stacking.effort import FULL, QUICK, Effort
from fieldwright.gallery.depth_stacking.language_race import (
    GROWTHS,
    INTERPOLATE,
    RANDOM,
    SCRATCH,
    STACK,
    ZERO,
    Run,
    at_tuned_rate,
    loss_at_equal_flops,
    race_on_text,
    speed_ups,
    text_rows,
)
from fieldwright.gallery.depth_stacking.operator_race import (
    BATCH,
    LEARNING_RATE,
    OPERATOR_STACK,
    OperatorRun,
    operator_rows,
    operator_speed_ups,
    race_on_operators,
)
from fieldwright.gallery.page import Claim, Reproduction, Table
from fieldwright.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CARD, PAPER = 0.34, 0.546
"""Speed-ups: the least of an independent run of this experiment, and the paper's for 7 billion parameters."""


def reproduce_depth_stacking(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure the races on text and on a PDE family."""
    effort = QUICK if quick else FULL
    runs = race_on_text(effort, reporter)
    operators = race_on_operators(effort, reporter)
    return Reproduction(
        title="Depth stacking",
        source=(
            "W. Du, T. Luo, Z. Qiu, Z. Huang, Y. Shen, R. Cheng, Y. Guo, J. Fu, *Stacking Your Transformers: A Closer "
            "Look at Model Growth for Efficient LLM Pre-Training*, NeurIPS 2024, "
            "[arXiv 2405.15319](https://arxiv.org/abs/2405.15319)."
        ),
        introduction=INTRODUCTION,
        tables=[text_table(runs, effort), operator_table(operators, effort)],
        claims=claims(runs, operators),
        figure=draw(runs, operators),
        caption="Loss against training operations, those of the shallow network included",
    )


INTRODUCTION = """
Train a shallow network for a while, repeat its blocks until it is deep, and go on: the paper reaches the loss of a
language model of 7 billion parameters, trained from scratch on 300 billion tokens, with 194 billion, a speed-up of
54.6 %. This page does it with a quarter of a million parameters on the source of Python's standard library, and with an
operator transformer on a family of equations. Operations of the shallow network always count. The plain alternative is
the deep network from scratch, at the learning rate that serves it best among those tried, which is then everybody's.
"""


def text_table(runs: Sequence[Run], effort: Effort) -> Table:
    """The section of the race on text."""
    shape = effort.shape
    return Table(
        heading="Next characters of Python's standard library",
        setting=(
            f"{shape.layers} blocks of Llama's kind, width {shape.width}, {shape.heads} heads, context "
            f"{shape.context}, batch 12, AdamW (0.9, 0.95), decay 0.1, constant rate after a warm-up of 50 steps, clip "
            "1; after a growth the optimizer is fresh, the warm-up begins again and data are drawn afresh. Scratch has "
            f"{effort.scratch_steps} steps; grown 4 times from {shape.layers // 4} blocks after {effort.base_steps} "
            f"steps, then {effort.stack_steps} steps (other ways {effort.other_steps}, first seed alone). Losses in "
            f"nats a character on {effort.windows} held-out windows; operations are 6 (L (4 w² + 3 w m + T w) + w V) a "
            "character. The speed-up is between runs of a seed; its median, least and largest are given."
        ),
        rows=text_rows(list(runs)),
        reading=(
            "The zero way keeps the function and the stack does not, yet the stack is ahead in the end: what counts is "
            "what a copy knows and not where the loss starts. Which blocks become neighbours counts too: repeated in "
            "place they are further from what they were trained for."
        ),
    )


def operator_table(operators: Sequence[OperatorRun], effort: Effort) -> Table:
    """The section of the race on a PDE family."""
    return Table(
        heading="An operator transformer on Darcy flow",
        setting=(
            f"{effort.samples} samples of log-normal Darcy flow on {effort.points} x {effort.points} cells. Width 24, "
            f"one level, 8 + 8 blocks from scratch for {effort.operator_steps} steps; grown from 2 + 2 after "
            f"{effort.operator_base_steps} steps and trained on to about the same operations, as phases of one "
            f"training (`prepare: {{kind: stack, factor: 4}}`). AdamW at {LEARNING_RATE:g}, batch {BATCH}, constant "
            "rate, relative L2."
        ),
        rows=operator_rows(operators),
        reading=(
            "Validation errors of a few samples waver, and so does the place where a curve first meets another's end: "
            "read the speed-ups with the final errors beside them."
        ),
    )


def claims(runs: Sequence[Run], operators: Sequence[OperatorRun]) -> list[Claim]:
    """The statements that the page is there to bear out; the last two are the paper's size and ours on a PDE."""
    listed = list(runs)
    gains = [-1.0 if gain is None else gain for gain in speed_ups(listed, STACK)]
    zero = at_tuned_rate(listed, ZERO)[0]
    first = zero.seed
    ends = {way: loss_at_equal_flops(listed, way, first) for way in (STACK, ZERO, RANDOM, INTERPOLATE)}
    jump = abs((zero.grown_loss or 0.0) - (zero.base_loss or 0.0))
    own = [-1.0 if gain is None else gain for gain in operator_speed_ups(operators, OPERATOR_STACK)]
    return [
        Claim(
            "On text the stack's speed-up at scratch's final loss is at least 34 % with every seed",
            listed_gains(gains),
            min(gains) >= CARD,
        ),
        Claim(
            "The zero way keeps the function: the loss after it is the loss before it", f"{jump:.1e} nats", jump < 1e-5
        ),
        Claim(
            "At equal operations stack ends below zero, zero below random, random below interpolation",
            ", ".join(f"{way} {loss:.3f}" for way, loss in ends.items()),
            ends[STACK] < ends[ZERO] < ends[RANDOM] < ends[INTERPOLATE],
        ),
        Claim(
            "Interpolation ends above the stack at equal operations",
            f"{ends[INTERPOLATE]:.3f} against {ends[STACK]:.3f}", ends[INTERPOLATE] > ends[STACK],
        ),
        Claim(
            "The stack's median speed-up on text reaches the paper's 54.6 %",
            listed_gains([statistics.median(gains)]), statistics.median(gains) >= PAPER,
        ),
        Claim(
            "On Darcy flow the stacked transformer has scratch's final error with fewer operations, with every seed",
            listed_gains(own), min(own) > 0,
        ),
    ]  # fmt: skip


def listed_gains(gains: Sequence[float]) -> str:
    """Speed-ups of the seeds; -1 stands for an end that was never reached."""
    return ", ".join("never" if gain == -1 else f"{gain:.1%}" for gain in gains)


def draw(runs: Sequence[Run], operators: Sequence[OperatorRun]) -> Figure:
    """The page's picture: both races, loss against operations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    text, fields = figure.subplots(1, 2)
    listed = list(runs)
    for number, way in enumerate((SCRATCH, *GROWTHS)):
        for run in at_tuned_rate(listed, way):
            flops = [f / 1e12 for f, _ in run.points]
            text.plot(flops, [loss for _, loss in run.points], color=f"C{number}", linewidth=1.2,
                      label=way if run.seed == runs[0].seed else None)  # fmt: skip
    finals = [run.final for run in at_tuned_rate(listed, SCRATCH)]
    text.set(xlabel="training operations, 10¹²", ylabel="held-out loss, nats a character", title="text")
    text.set_ylim(min(finals) - 0.15, max(finals) + 1.2)
    for number, way in enumerate(dict.fromkeys(run.way for run in operators)):
        for run in operators:
            if run.way == way:
                fields.plot([f / 1e9 for f, _ in run.points], [100 * e for _, e in run.points], color=f"C{number}",
                            linewidth=1.2, label=way if run.seed == operators[0].seed else None)  # fmt: skip
    fields.set(xlabel="training operations, 10⁹", ylabel="validation, relative L2 %", title="Darcy flow", yscale="log")
    for axes in (text, fields):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
