"""The page of template mixtures: the contest, what must hold of it, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from fieldwright.gallery.page import Cell, Claim, Reproduction, Table, spread
from fieldwright.gallery.template_mixture_growth.contest import (
    FULL,
    HALF,
    MIXTURE,
    NET2NET,
    ORTHOGONAL,
    PAIR,
    PAIR_LONG,
    PLAIN,
    QUICK,
    SCRATCH,
    STRONG,
    TEMPLATE_LONG,
    Contest,
    Effort,
    Outcome,
    perceptron,
)
from fieldwright.growth import merge
from fieldwright.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = {
    HALF: 0.217,
    PAIR: 0.199,
    SCRATCH: 0.201,
    "grown from one half: new units without effect": 0.181,
    NET2NET: 0.177,
    PLAIN: 0.173,
    "template member alone": 0.200,
    MIXTURE: 0.169,
    ORTHOGONAL: 0.169,
}
"""What an earlier run of ours on a set of the same kind reached, mean over two seeds."""


def reproduce_template_mixture_growth(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure all ways to the whole width within the same operations."""
    effort = QUICK if quick else FULL
    contest = Contest(effort, reporter)
    outcomes, change = contest.run(), exactness()
    return Reproduction(
        title="Template-mixture growth",
        source=(
            "C. Pham, P. Teterwak, S. Nelson, B. Plummer, *MixtureGrowth: Growing Neural Networks by Recombining "
            "Learned Parameters*, WACV 2024, [arXiv 2311.04251](https://arxiv.org/abs/2311.04251)."
        ),
        introduction=INTRODUCTION,
        tables=[table(outcomes, effort, contest.budget)],
        claims=claims(outcomes, change),
        figure=draw(outcomes),
        caption="Relative L2 errors on unseen samples, every seed a mark; grey: right after growth",
    )


INTRODUCTION = """
Two networks of half the width, trained apart, become one of the whole width; weights are linear combinations of
templates, and growth adds coefficients. The paper grows classifiers of images, gains 2 to 2.5 points over earlier ways
of growing on CIFAR-100 and ImageNet, and reaches the large network from scratch with 61 to 70 % of its operations. Its
coefficients between members start orthogonal; here they start at zero by default, where the merged network is exactly
the mean of its members. This page regresses the solution operator of Burgers' equation.
"""


def exactness() -> float:
    """Relative difference of two merged perceptrons in float64 from the mean of the two."""
    members = []
    for seed in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            members.append(perceptron(96).double())
    draws = torch.Generator().manual_seed(0)
    change = merge(members, templates=2, probe=torch.randn(16, 1, 64, generator=draws, dtype=torch.float64)).change
    assert change is not None
    return change


def table(outcomes: Sequence[Outcome], effort: Effort, budget: float) -> Table:
    """The section of the page."""
    rows: list[Mapping[str, Cell]] = [
        {
            "method": one.name,
            "weights": one.weights,
            "operations": f"{100 * one.flops / budget:.0f} %",
            "learning rate": one.rate,
            "relative L2": spread(one.errors),
            "right after growth": spread(one.before) if one.before else None,
            "earlier run": f"{100 * REFERENCE[one.name]:.1f} %" if one.name in REFERENCE else None,
        }
        for one in outcomes
    ]
    return Table(
        heading="Ways to a whole width",
        setting=(
            f"u_t + u u_x = 0.02 u_xx on a periodic [0, 2π], u(0) → u(1) on 64 points, from six waves "
            f"with coefficients N(0, 0.5²) / k; {effort.samples} training, {effort.test_samples} validation and "
            f"{effort.test_samples} test samples. A perceptron 64-{effort.width}-{effort.width}-{effort.width}-64 with "
            f"GELU, halves {effort.width // 2} wide; Adam, batch 64, cosine, relative L2 loss, float32. Operations are "
            "counted, forward and backward, the combination of templates with them: 100 % is the whole width for "
            f"{effort.epochs:g} epochs, a half takes {effort.half_epochs:g} epochs, and what is left goes to the phase "
            f"after growth. Every method has the learning rate that is best for it on the validation samples, of "
            f"{_rates(effort.rates)} before and {_rates(effort.grown_rates)} after growth. Median over "
            f"{len(effort.seeds)} seeds (least to largest). The earlier run was ours, on samples whose scale is not on "
            "record: compare orders and not digits."
        ),
        rows=rows,
        reading=(
            "Templates do more than growth: a member made of them is ahead of a plain half of the same size, and "
            "what is merged from such members is ahead of every other single network. But their average, trained "
            "longer instead of merged, has the smallest error here, and two halves cost less to evaluate than the "
            "whole width. A merge is worth its phase where one network has to come out of it, or has to go on "
            "learning. Growing from one half is no gain over training the whole width from the start."
        ),
    )


def claims(outcomes: Sequence[Outcome], change: float) -> list[Claim]:
    """The statements that the page is there to bear out."""
    error = {one.name: one.median for one in outcomes}
    found = {one.name: one for one in outcomes}
    apart = max(abs(a / b - 1) for a, b in zip(found[PLAIN].before, found[PAIR].errors, strict=True))
    mixture = error[MIXTURE]

    def below(other: str, what: str) -> Claim:
        return Claim(
            f"The mixture is below {what}, within the same operations",
            f"{mixture:.2%} against {error[other]:.2%}",
            mixture < error[other],
        )

    return [
        Claim("Merged in float64, two networks are their mean to 1e-12", f"{change:.1e}", change <= 1e-12),
        Claim("Right after the merge the error is that of the two averaged", f"within {apart:.1e}", apart < 1e-4),
        Claim("The mixture's error is at most the earlier run's 16.9 %", f"{mixture:.2%}", mixture <= 0.169),
        below(SCRATCH, "the whole width from scratch"),
        below(NET2NET, "Net2Net"),
        below(PLAIN, "the plain merge of two halves"),
        below(PAIR_LONG, "the average of two halves trained longer"),
        below(TEMPLATE_LONG, "the average of two template members trained longer"),
        Claim(
            "Coefficients that start orthogonal at full strength, as published, end above those that start at zero",
            f"{error[STRONG]:.2%} against {mixture:.2%}",
            error[STRONG] > mixture,
        ),
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """The page's picture: a line of marks for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(outcomes):
        axes.plot([100 * e for e in one.before], [place] * len(one.before), "o", color="0.7")
        axes.plot([100 * e for e in one.errors], [place] * len(one.errors), "ko", alpha=0.7)
    axes.set_yticks(range(len(outcomes)), [one.name for one in outcomes])
    axes.invert_yaxis()
    least = min(error for one in outcomes for error in one.errors)
    most = max(error for one in outcomes for error in one.errors)
    axes.set(xlabel="relative L2 error, %", xlim=(80 * least, 120 * most))
    axes.grid(alpha=0.3)
    return figure


def _rates(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
