"""The page on large batches: tables, what must hold of them, and their picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fieldwright.gallery.large_batch import burgers_map, glyphs
from fieldwright.gallery.large_batch.burgers_map import Knee, burgers_data, compare_phases, find_knee
from fieldwright.gallery.large_batch.effort import FULL, QUICK, Effort
from fieldwright.gallery.large_batch.glyphs import GHOST, Walk, compare_plans, walks
from fieldwright.gallery.page import Cell, Claim, Reproduction, Table, spread
from fieldwright.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce_large_batch(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure the generalisation gap, the same on a PDE, the batch that pays and the diffusion of the weights."""
    effort = QUICK if quick else FULL
    plans = compare_plans(effort, reporter)
    data, test = burgers_data(effort.maps)
    phases = compare_phases(effort, data, test, reporter)
    knees = [find_knee(effort, data, seed, reporter) for seed in effort.few_seeds]
    return page(effort, plans, phases, knees, walks(effort, reporter))


def page(
    effort: Effort,
    plans: Sequence[glyphs.Finish],
    phases: Sequence[burgers_map.Finish],
    knees: Sequence[Knee],
    walked: Sequence[Walk],
) -> Reproduction:
    """The page of what was measured."""
    return Reproduction(
        title="Large batches",
        source=(
            "E. Hoffer, I. Hubara, D. Soudry, *Train longer, generalize better: closing the generalization gap in "
            "large batch training of neural networks*, NeurIPS 2017, "
            "[arXiv 1705.08741](https://arxiv.org/abs/1705.08741); "
            "S. McCandlish, J. Kaplan, D. Amodei and others, *An empirical model of large-batch training*, 2018, "
            "[arXiv 1812.06162](https://arxiv.org/abs/1812.06162)."
        ),
        introduction=INTRODUCTION,
        tables=[plan_table(plans, effort), phase_table(phases, effort), knee_table(knees, effort), walk_table(walked)],
        claims=claims(effort, plans, phases, knees, walked),
        figure=draw(knees, walked),
        caption="Left: steps to the target by batch, and the fitted law; right: distance of the weights from the start",
    )


INTRODUCTION = """
The first paper finds that large batches generalise worse because they take fewer updates, and that as many updates
with a learning rate scaled by the square root of the batch close the gap fully (ResNet44 on CIFAR-10: 92.83 % with
batches of 128, 86.10 % with 4096 in the same epochs, 89.30 % with the scaled rate, 90.50 % with ghost batch
normalisation too, 93.07 % with as many updates). The second predicts from the noise of the gradient beyond which
batch more samples a step save no steps. Both are measured here on digits drawn by this page (no data set of others is
needed) and on a map of Burgers' equation.
"""


def _rows(
    finishes: Sequence[glyphs.Finish | burgers_map.Finish], measured: str, values: Sequence[float]
) -> list[dict[str, Cell]]:
    """A row for every way to train: what was measured with all its seeds, the median of the seconds."""
    rows: list[dict[str, Cell]] = []
    for name in dict.fromkeys(finish.name for finish in finishes):
        own = [(one, value) for one, value in zip(finishes, values, strict=True) if one.name == name]
        rows.append(
            {
                "training": name,
                "updates": own[0][0].updates,
                measured: spread([value for _, value in own]),
                "CPU seconds": statistics.median(one.seconds for one, _ in own),
            }
        )
    return rows


def plan_table(finishes: Sequence[glyphs.Finish], effort: Effort) -> Table:
    """The generalisation gap."""
    rows = _rows(finishes, "right", [finish.accuracy for finish in finishes])
    return Table(
        heading="The generalisation gap, on digits",
        setting=(
            f"{effort.glyphs} training and {effort.test_glyphs} test images: digits of 12 type faces, turned, sheared "
            "and shifted at random, 8 x 8 pixels, noise of deviation 0.15. They are drawn by this page and stand in "
            "for the scanned digits on which this check was made before. A network of three convolutions (16, 32, 32 "
            f"channels) with batch normalisation; gradient descent with momentum 0.9, rate {glyphs.RATE:g} for batches "
            f"of {glyphs.SMALL}, a tenth of it after half and again after three quarters of the updates, clipped at 5, "
            f"{effort.glyph_epochs} epochs unless said otherwise. Warm-up as `training.transfer` sets it. Share of "
            f"test digits that are told right, median over {len(effort.seeds)} seeds (least to largest)."
        ),
        rows=rows,
        reading=(
            "Most of the gap is a lack of updates: the square-root rate wins back a part of it, more updates nearly "
            "all, at the cost of as many times the samples. Ghosts and noise: see the rows beside those without."
        ),
    )


def phase_table(finishes: Sequence[burgers_map.Finish], effort: Effort) -> Table:
    """The same on a PDE surrogate."""
    rows = _rows(finishes, "relative L2", [finish.error for finish in finishes])
    return Table(
        heading="A surrogate of Burgers' equation",
        setting=(
            f"u at 0 to u at {burgers_map.PROBLEM.duration:g}, viscosity {burgers_map.PROBLEM.viscosity:g}, "
            f"{burgers_map.POINTS} points, {effort.maps} training and {burgers_map.TEST} test samples; a perceptron "
            f"64-128-128-64, AdamW, cosine, rate {burgers_map.RATE:g} for batches of {burgers_map.SMALL}, "
            f"{effort.map_epochs} epochs unless said otherwise, batch {effort.map_batch} below the first row. The "
            f"phases are those that `training.transfer` makes of the first. Median over {len(effort.few_seeds)} seeds."
        ),
        rows=rows,
    )


def knee_table(knees: Sequence[Knee], effort: Effort) -> Table:
    """The batch from which larger ones are vain, predicted and measured."""
    return Table(
        heading="Which batch pays",
        setting=(
            f"The same map, AdamW at a constant rate, steps until the training error is below {effort.knee_error:.0%}, "
            f"the best of {len(effort.knee_rates)} rates for every batch (counted in fives, in twos for large ones). "
            "S_min (1 + B_crit / B) is fitted to log S. The noise scale is that which the callback `noise-scale` reads "
            "from the two halves of a batch of "
            f"{effort.knee_batches[len(effort.knee_batches) // 2]}, over about the last ten steps before the target."
        ),
        rows=[
            {
                "seed": knee.seed,
                **{f"steps, batch {batch}": steps for batch, steps in knee.steps.items()},
                "S_min": knee.least,
                "B_crit": knee.critical,
                "noise scale": f"{knee.scale.value:.3g} ({knee.scale.low:.3g} to {knee.scale.high:.3g})",
            }
            for knee in knees
        ],
        reading=(
            "The noise scale is that of the plain gradient, and AdamW does not step along it: the two may differ; "
            "as a prediction of the batch up to which more samples save steps, read it from below."
        ),
    )


def walk_table(walked: Sequence[Walk]) -> Table:
    """The logarithmic diffusion."""
    rows = []
    for name in dict.fromkeys(walk.name for walk in walked):
        own = [walk for walk in walked if walk.name == name]
        rows.append(
            {
                "training": name,
                "b of a + b log t": spread([walk.slope for walk in own], percent=False),
                "R² of a + b log t": spread([walk.logarithm for walk in own], percent=False),
                "R² of c t^p": spread([walk.power for walk in own], percent=False),
            }
        )
    return Table(
        heading="Diffusion of the weights",
        setting=(
            "Digits with noise 0.35, constant rate, no decay; ‖w_t - w_0‖ over all weights from step 5 on. Both laws "
            "have two constants and are fitted to the distances by least squares."
        ),
        rows=rows,
    )


def claims(
    effort: Effort,
    plans: Sequence[glyphs.Finish],
    phases: Sequence[burgers_map.Finish],
    knees: Sequence[Knee],
    walked: Sequence[Walk],
) -> list[Claim]:
    """The statements that the page is there to bear out."""
    right = {name: _median(f.accuracy for f in plans if f.name == name) for name in {f.name for f in plans}}
    small, same, root, linear, ghost, _, _, adapted, _ = (right[plan.name] for plan in glyphs.plans(effort.glyph_batch))
    error = {name: _median(f.error for f in phases if f.name == name) for name in {f.name for f in phases}}
    b_small, b_same, b_root, b_linear, _, b_eight, _ = (error[name] for name in burgers_map.phases(effort))
    ratios = [knee.critical / knee.scale.value for knee in knees]
    logs, powers = [walk.logarithm for walk in walked], [walk.power for walk in walked]
    named = {name: _median(w.slope for w in walked if w.name == name) for name in dict.fromkeys(w.name for w in walked)}
    slopes = list(named.values())
    return [
        Claim(
            "In the same epochs a large batch is worse, and the square-root rate wins a part back",
            f"{same:.2%} < {root:.2%} < {small:.2%}",
            same < root < small,
        ),
        Claim(
            "As many updates close the gap (to half a percent)",
            f"{adapted:.2%} against {small:.2%}",
            adapted > small - 0.005,
        ),
        Claim(
            "The linear rule is worse than the square root at this size",
            f"{linear:.2%} against {root:.2%}",
            linear < root,
        ),
        Claim(
            f"Ghosts of {GHOST} add to the square-root rate in the same epochs, as published",
            f"{ghost:.2%} against {root:.2%}",
            ghost > root,
        ),
        Claim(
            "Burgers: the square-root rate beats the same rate in the same epochs",
            f"{b_root:.2%} against {b_same:.2%}",
            b_root < b_same,
        ),
        Claim(
            "Burgers: a quarter of the updates of the small batch reach its error",
            f"{b_eight:.2%} against {b_small:.2%}",
            b_eight <= b_small,
        ),
        Claim(
            "Burgers: the linear rule is worse than the square root",
            f"{b_linear:.2%} against {b_root:.2%}",
            b_linear > b_root,
        ),
        Claim(
            "The noise scale predicts the critical batch within a factor of three, for every seed",
            ", ".join(f"{ratio:.2g}" for ratio in ratios),
            all(1 / 3 <= ratio <= 3 for ratio in ratios),
        ),
        Claim(
            "A logarithm of the step fits the distances better than a power, in every walk",
            f"R² {_median(logs):.2f} against {_median(powers):.2f}",
            all(a > b for a, b in zip(logs, powers, strict=True)),
        ),
        Claim(
            "With the square-root rate the large batch diffuses as fast as the small one (to a third)",
            f"slopes {', '.join(f'{slope:.2g}' for slope in slopes)}",
            abs(slopes[2] / slopes[0] - 1) < 1 / 3,
        ),
    ]


def draw(knees: Sequence[Knee], walked: Sequence[Walk]) -> Figure:
    """Steps by batch with the fitted law, and distances by step."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, knee in enumerate(knees):
        batches = np.geomspace(min(knee.steps), max(knee.steps))
        left.plot(list(knee.steps), list(knee.steps.values()), "o", color=f"C{number}", label=f"seed {knee.seed}")
        left.plot(batches, knee.least * (1 + knee.critical / batches), color=f"C{number}", linewidth=1)
        left.axvline(knee.scale.value, color=f"C{number}", linestyle=":", linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="batch (dotted: noise scale)", ylabel="steps to the target")
    left.legend(fontsize="small")
    for number, name in enumerate(dict.fromkeys(walk.name for walk in walked)):
        for walk in (walk for walk in walked if walk.name == name):
            label = name if walk.seed == walked[0].seed else None
            right.plot(walk.steps, walk.distances, ".-", color=f"C{number}", linewidth=1, label=label)
    right.set(xscale="log", xlabel="step", ylabel="distance from the start")
    right.legend(fontsize="small")
    return figure


def _median(values: object) -> float:
    return statistics.median(values)  # type: ignore[call-overload]
