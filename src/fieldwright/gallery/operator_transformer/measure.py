"""The page of the operator transformer: its sections, what must hold of them, and their picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fieldwright.gallery.operator_transformer.effort import FULL, QUICK, Effort
from fieldwright.gallery.operator_transformer.fidelity import (
    PUBLISHED,
    TOLERANCE,
    Agreement,
    agreements,
    counted,
    fidelity_table,
)
from fieldwright.gallery.operator_transformer.pairs_race import (
    ALL,
    BEYOND,
    FNO,
    PERSISTENCE,
    VANILLA,
    Finish,
    median,
    race_on_pairs,
    race_table,
)
from fieldwright.gallery.page import Claim, Reproduction
from fieldwright.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce_operator_transformer(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure the two sections: the published network, and training on pairs."""
    effort = QUICK if quick else FULL
    found, sizes = agreements(effort.sizes), counted()
    finishes, persistence = race_on_pairs(effort, reporter)
    return Reproduction(
        title="Operator transformer (Poseidon, scOT)",
        source=(
            "M. Herde, B. Raonić, T. Rohner, R. Käppeli, R. Molinaro, E. de Bézenac, S. Mishra, *Poseidon: Efficient "
            "Foundation Models for PDEs*, NeurIPS 2024, [arXiv 2405.19101](https://arxiv.org/abs/2405.19101)."
        ),
        introduction=INTRODUCTION,
        tables=[fidelity_table(found), race_table(finishes, persistence, effort)],
        claims=claims(found, sizes, finishes, persistence, effort),
        figure=draw(finishes, persistence, effort),
        caption="Errors at the last time, every seed a mark",
    )


INTRODUCTION = """
Poseidon's network takes a state and a lead time and returns the state so much later. It is pretrained on six fluid
operators, on all pairs of states of a trajectory, and fine-tuned on other equations with few samples. The paper's
headline, over fifteen tasks: the smallest published model reaches the error of a Fourier operator with a twentieth of
the samples (median 19.5), the largest with a fiftieth (49.8). Neither pretraining nor those data fit two cores. What
does: whether this is the published network, digit by digit, and what training on all pairs brings to a small one.
"""


def claims(
    found: Sequence[Agreement],
    sizes: Mapping[str, tuple[int, int]],
    finishes: Sequence[Finish],
    persistence: float,
    effort: Effort,
) -> list[Claim]:
    """The statements that the page is there to bear out."""
    worst = max(a.difference for a in found)
    few, many = effort.trajectories

    def both(which: str, count: int) -> tuple[float, float]:
        return median(finishes, ALL, count, which), median(finishes, VANILLA, count, which)

    statements = [
        Claim(
            f"The outputs are those of the published code to {TOLERANCE:g}",
            f"largest relative difference {worst:.1e}",
            worst < TOLERANCE,
        ),
        Claim(
            "Sizes T, B and L have the tensors and weights of the published checkpoints",
            ", ".join(f"{size}: {tensors:,} and {numbers:,}" for size, (tensors, numbers) in sizes.items()),
            dict(sizes) == PUBLISHED,
        ),
    ]
    for count in (few, many):
        ours, theirs = both("rolled", count)
        statements.append(
            Claim(
                f"Rolled out, all pairs are better than pairs from the first state, {count} trajectories",
                f"{ours:.1%} against {theirs:.1%}",
                ours < theirs,
            )
        )
    periodic, plain = median(finishes, BEYOND, many, "rolled"), median(finishes, FNO, many, "rolled")
    ours = median(finishes, ALL, many, "rolled")
    statements += [
        Claim(
            f"Windows that go around the periodic box roll out better by a quarter, {many} trajectories",
            f"{periodic:.1%} against {ours:.1%}",
            periodic < 0.75 * ours,
        ),
        Claim(
            f"The plain alternative, an FNO frame by frame, is better than all of them, {many} trajectories",
            f"{plain:.1%} against {min(periodic, ours):.1%}",
            plain < min(periodic, ours),
        ),
    ]
    trained = max(f.rolled for f in finishes)
    statements.append(
        Claim(
            "Every model beats the forecast that nothing changes",
            f"worst {trained:.1%} against {persistence:.1%}",
            all(f.rolled < persistence for f in finishes),
        )
    )
    ours, theirs = both("direct", many)
    statements.append(
        Claim(
            f"In one step of T, pairs from the first state, which always start there, win, {many} trajectories",
            f"{theirs:.1%} against {ours:.1%}",
            theirs < ours,
        )
    )
    return statements


def draw(finishes: Sequence[Finish], persistence: float, effort: Effort) -> Figure:
    """The page's picture: one step and roll-out of every model, for few and for more trajectories."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    labels = {
        VANILLA: "from the first state",
        ALL: "all pairs",
        BEYOND: "all pairs, periodic",
        FNO: "FNO, frame by frame",
    }
    for axes, count in zip(figure.subplots(1, 2, sharex=True, sharey=True), effort.trajectories, strict=True):
        for place, name in enumerate(labels):
            own = [f for f in finishes if f.name == name and f.trajectories == count]
            direct = [100 * f.direct for f in own if f.direct is not None]
            axes.plot(direct, [place - 0.1] * len(direct), "ko", label="one step")
            axes.plot([100 * f.rolled for f in own], [place + 0.1] * len(own), "kx", label="rolled out")
        axes.axvline(100 * persistence, color="grey", linestyle=":", label=PERSISTENCE)
        axes.set(xlabel="relative L1 error at T, %", title=f"{count} trajectories", xlim=(0, None))
        axes.set_yticks(range(len(labels)), list(labels.values()))
        axes.grid(alpha=0.3)
    axes.invert_yaxis()
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    axes.legend(list(unique.values()), list(unique), frameon=False, loc="lower right")
    return figure
