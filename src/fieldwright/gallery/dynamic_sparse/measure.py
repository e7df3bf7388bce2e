"""The page of continual learning with sparse masks: what must hold of it, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fieldwright.gallery.dynamic_sparse.digits import (
    INDEPENDENT,
    accuracy,
    digit_runs,
    digit_table,
    digits,
)
from fieldwright.gallery.dynamic_sparse.effort import FULL, QUICK
from fieldwright.gallery.dynamic_sparse.equations import (
    EQUATIONS,
    MASKED,
    Learned,
    equation_data,
    equation_table,
    growth_table,
    learn_equations,
    median,
    same_bits,
)
from fieldwright.gallery.page import Claim, Reproduction
from fieldwright.progress import Reporter
from fieldwright.training.task_sequence import TaskMatrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Mapping[tuple[float, str], Sequence[TaskMatrix]]


def reproduce_continual_learning(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure the sequence of equations, the network that grows, and the digits."""
    effort = QUICK if quick else FULL
    data = equation_data(effort)
    learned = []
    for seed in effort.seeds:
        learned.append(learn_equations(data, effort, seed, reporter))
        reporter.notice(f"equations: seed {seed} learned")
    images = digits(effort)
    runs, plain = digit_runs(images, effort, reporter)
    return Reproduction(
        title="Continual learning with dynamic sparse training",
        source=(
            "M. O. Yildirim, E. C. Gok Yildirim, G. Sokar, D. C. Mocanu, J. Vanschoren, *Continual Learning with"
            " Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates*, CPAL 2024,"
            " [arXiv 2308.14831](https://arxiv.org/abs/2308.14831)."
        ),
        introduction=INTRODUCTION,
        tables=[
            equation_table(learned, effort),
            growth_table(learned),
            digit_table(images, effort.digit_epochs, runs, plain),
        ],
        claims=claims(learned, runs, plain),
        figure=draw(learned),
        caption="Mean relative L2 error of each equation at the end, every seed a mark",
    )


INTRODUCTION = """
One network learns tasks that come one after the other. Each gets a sparse mask on the weights, found while it trains,
and what it has trained is frozen for ever. The paper asks which mask serves best; its headline is that Erdős-Rényi
densities learn more at low sparsity and uniform ones are more reliable at high sparsity, without a single best rule of
growth. On networks as small as these that ordering is not to be seen, and is not claimed. What is claimed here is
stricter than the published code can keep: a learned task gives the same bits after all later ones, because biases and
all else that is not masked belong to the task and growth keeps to free entries.
"""


def claims(learned: Sequence[Learned], runs: Runs, plain: Sequence[TaskMatrix]) -> list[Claim]:
    """The statements that the page is there to bear out."""
    masked = {name: median(learned, "masked", name) for name in EQUATIONS}
    alone = {name: median(learned, "alone", name) for name in EQUATIONS}
    forgotten = {name: median(learned, "naive", name) / median(learned, "naive_then", name) for name in EQUATIONS}
    before_last = list(EQUATIONS)[:-1]
    grown = sorted(run.grown for run in learned)[len(learned) // 2]
    return [
        Claim(
            "Learned equations drift by exactly 0.0: the errors, digests and outputs of the four are the same in all"
            " bits after every later task and after growth",
            "the same" if all(map(same_bits, learned)) else "changed",
            all(map(same_bits, learned)),
        ),
        Claim(
            "Each equation's error is below the independent run's with masks",
            ", ".join(f"{name} {masked[name]:.1%} against {MASKED[name]:.1%}" for name in EQUATIONS),
            all(masked[name] < MASKED[name] for name in EQUATIONS),
        ),
        Claim(
            "Without masks every equation but the last is forgotten: its error grows more than twofold",
            ", ".join(f"{name} {forgotten[name]:.1f}-fold" for name in before_last),
            all(forgotten[name] > 2 for name in before_last),
        ),
        Claim(
            "Masks cost at most 2.5 times the error of a dense network for each equation with four times the weights",
            ", ".join(f"{name} {masked[name] / alone[name]:.2f}" for name in EQUATIONS),
            all(masked[name] <= 2.5 * alone[name] for name in EQUATIONS),
        ),
        Claim(
            "A full network refuses a fifth task, grows, and learns it as well as the third",
            f"{grown:.1%} against {masked['Burgers']:.1%}",
            all(run.refused for run in learned) and grown <= masked["Burgers"],
        ),
        *[
            Claim(
                f"Digits at {sparsity:.0%} sparsity, {distribution}: the independent run's accuracy or better",
                f"{accuracy(found):.1%} against {INDEPENDENT[sparsity, distribution]:.1%}",
                round(accuracy(found), 3) >= INDEPENDENT[sparsity, distribution],
            )
            for (sparsity, distribution), found in runs.items()
        ],
        Claim(
            "Backward transfer of the digits is exactly 0 with masks, and negative without",
            f"{max(abs(m.backward_transfer) for found in runs.values() for m in found):g} at most with,"
            f" {max(m.backward_transfer for m in plain):.2f} at best without",
            all(m.backward_transfer == 0 for found in runs.values() for m in found)
            and all(m.backward_transfer < 0 for m in plain),
        ),
    ]


def draw(learned: Sequence[Learned]) -> Figure:
    """The page's picture: for each equation a line of marks per way of learning."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    ways = (("alone", "a dense network each", "o"), ("masked", "masks", "s"), ("naive", "no masks", "x"))
    for shift, (which, label, mark) in enumerate(ways):
        for place, name in enumerate(EQUATIONS):
            own = [100 * getattr(run, which)[name] for run in learned]
            axes.plot(own, [place + 0.2 * (shift - 1)] * len(own), f"k{mark}", alpha=0.6,
                      label=label if place == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(EQUATIONS)), list(EQUATIONS))
    axes.invert_yaxis()
    axes.set(xlabel="relative L2 error, %", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
