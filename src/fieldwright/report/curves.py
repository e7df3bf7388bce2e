"""The report's line figures: learning curve, spectrum of the error, estimate against truth, time per sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from fieldwright.analysis import Evaluation, Timing
from fieldwright.report.quantities import duration, power_of_ten
from fieldwright.report.svg import BLUE, GREEN, GREY, INK, MUTED, ORANGE, inline_svg, new_figure

WIDTH, HEIGHT = 4.7, 3.3
"""Inches: the width of half a desktop page, and little more than a phone's."""

MOST_POINTS = 400
"""Points drawn of a longer series: more cannot be told apart and only weigh on the page."""


def learning_curve(metrics: Sequence[Mapping[str, float | None]]) -> str | None:
    """Training loss and validation error against the step; None where fewer than two steps are on record.

    Where a training logged how far its weights are outside a constraint ("constraint_excess"), that is drawn too, over
    a shade up to the step from which on they are inside.
    """
    series = {name: _series(metrics, name) for name in ("train_loss", "valid_l2", "constraint_excess")}
    if all(len(steps) < 2 for steps, _ in series.values()):
        return None
    looks = {
        "train_loss": ("training loss", {"color": GREY, "linewidth": 1.2}),
        "valid_l2": ("validation, relative L2", {"color": BLUE, "marker": "o", "markersize": 3.5}),
        "constraint_excess": ("outside the constraint", {"color": ORANGE, "linestyle": "--", "linewidth": 1.2}),
    }
    outside = [row["step"] for row in metrics if (row.get("constraint_excess") or 0) > 0]
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        if outside:
            axes.axvspan(0, max(step for step in outside if step is not None), color=ORANGE, alpha=0.08, linewidth=0)
        for name, (label, look) in looks.items():
            steps, values = series[name]
            if len(steps):
                axes.plot(steps, values, label=label, **look)
        axes.set(xlabel="training step", yscale="log")
        readable_log(axes, "y")
        axes.legend()
        return inline_svg(figure, "learning-curve", "Training loss and validation error against the training step.")


def cost_curve(metrics: Sequence[Mapping[str, float | None]]) -> str | None:
    """Training loss and validation error against training operations, with a line where a phase begins.

    None where there is one phase alone, of which the learning curve says the same, or no operations are on record.
    """
    rows = [row for row in metrics if row.get("flops")]
    begins = [
        before["flops"] or 0.0
        for before, row in itertools.pairwise(rows)
        if before.get("phase") is not None and row.get("phase") != before.get("phase")
    ]
    if not begins:
        return None
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for name, label, look in (
            ("train_loss", "training loss", {"color": GREY, "linewidth": 1.2}),
            ("valid_l2", "validation, relative L2", {"color": BLUE, "marker": "o", "markersize": 3.5}),
        ):
            points = [(row["flops"], row[name]) for row in rows if (row.get(name) or 0) > 0]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **look)
        for flops in begins:
            axes.axvline(flops, color=MUTED, linestyle="--", linewidth=1)
        axes.set(xlabel="training operations (FLOPs)", yscale="log")
        readable_log(axes, "y")
        axes.legend()
        return inline_svg(figure, "cost-curve", "Training loss and validation error against training operations.")


def error_spectrum(evaluation: Evaluation) -> str:
    """Mean energy of truth and error by wavenumber, logarithmic on both axes."""
    wavenumber = evaluation.arrays["wavenumber"]
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for name, label, colour, style in (
            ("truth_spectrum", "truth", INK, "-"),
            ("error_spectrum", "error of the prediction", ORANGE, "--"),
        ):
            energy = evaluation.arrays[name]
            shown = (wavenumber > 0) & (energy > 1e-14 * evaluation.arrays["truth_spectrum"].max())
            axes.plot(wavenumber[shown], energy[shown], style, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="wavenumber (half-waves per box)", ylabel="energy")
        readable_log(axes, "x")
        readable_log(axes, "y")
        axes.legend()
        return inline_svg(figure, "spectrum", "Mean energy of the true fields and of the error against the wavenumber.")


def rollout_curve(evaluation: Evaluation) -> str | None:
    """Errors of roll-outs against the frame, and those of persistence; None where nothing was rolled out."""
    if evaluation.rollout is None:
        return None
    arrays = evaluation.arrays
    errors = arrays["rollout_error"][:, 1:]
    frames = np.arange(1, errors.shape[1] + 1)
    # Ranks and not interpolation, which infinite errors of lost trajectories would spoil.
    low, median, high = np.quantile(errors, (0.05, 0.5, 0.95), axis=0, method="inverted_cdf")
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        drawn = np.isfinite(high)
        axes.fill_between(
            frames[drawn], low[drawn], high[drawn], color=BLUE, alpha=0.18, linewidth=0, label="5 to 95 %"
        )
        axes.plot(frames, median, "o-", color=BLUE, markersize=3.5, label="roll-out, median")
        axes.plot(frames, arrays["rollout_persistence"][1:], "--", color=MUTED, label="initial state kept, median")
        axes.set(xlabel="frame", ylabel="relative L2 error", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        readable_log(axes, "y")
        axes.legend()
        return inline_svg(
            figure, "rollout", "Relative L2 error of roll-outs against the frame, beside that of persistence."
        )


def estimate_scatter(evaluation: Evaluation) -> str | None:
    """Error estimate and error bound against the true error, sample by sample; None without any estimate."""
    looks = {
        "in distribution": ("o", BLUE, "estimate, test set"),
        "shift": ("^", ORANGE, "estimate, out of distribution"),
        "resolution": ("s", GREEN, "estimate, other resolutions"),
    }
    rows = [(i, row) for i, row in enumerate(evaluation.errors) if row.estimate]
    if not rows:
        return None
    arrays = evaluation.arrays
    with new_figure(WIDTH, WIDTH * 0.86) as figure:
        axes = figure.subplots()
        bounds = np.concatenate([arrays[f"bound_{i}"] for i, _ in rows])
        errors = np.concatenate([arrays[f"error_{i}"] for i, _ in rows])
        bounded = np.concatenate([arrays[f"energy_error_{i}"] for i, _ in rows])
        finite = np.isfinite(bounds)
        if finite.any():
            axes.plot(
                *_thinned(bounded[finite], bounds[finite]), "_", color=GREY, markersize=5, label="bound, energy norm"
            )
        labelled: set[str] = set()
        for i, row in reversed(rows):
            marker, colour, label = looks[row.kind]
            axes.plot(
                *_thinned(arrays[f"error_{i}"], arrays[f"estimate_{i}"]),
                marker,
                color=colour,
                markersize=3.5,
                markerfacecolor=colour if row.kind == "in distribution" else "white",
                label=None if label in labelled else label,
            )
            labelled.add(label)
        every = np.concatenate([errors, bounded[finite]])
        span = np.array([every.min() / 1.3, every.max() * 1.3])
        axes.plot(span, span, "-", color=INK, linewidth=1, label="estimate = truth")
        for factor in (0.5, 2):
            axes.plot(span, factor * span, ":", color=MUTED, linewidth=1, label="factor 2" if factor == 2 else None)
        axes.set(xscale="log", yscale="log", xlim=span, xlabel="true relative error", ylabel="estimate, bound")
        readable_log(axes, "x")
        readable_log(axes, "y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=1.4)
        return inline_svg(
            figure,
            "estimate",
            "Error estimate against the true L2 error, and bound against the true energy error, of each sample.",
        )


def time_per_sample(evaluation: Evaluation) -> str:
    """Seconds per sample at the same accuracy: the median as a mark, the range of the repeats as a bar."""
    speed = evaluation.speed
    bars: list[tuple[str, float, Timing | None, str, str]] = [
        ("surrogate, in batches", speed.batched.seconds, speed.batched, "o", BLUE),
        ("surrogate, one by one", speed.one_by_one.seconds, speed.one_by_one, "o", BLUE),
    ]
    looks = {"ours": ("s", ORANGE), "scipy": ("D", GREEN), "user": ("^", INK)}
    for solver in sorted(speed.solvers, key=lambda s: s.seconds):
        name = {"ours": f"our {solver.name} solver"}.get(solver.kind, solver.name)
        bars.append((name, solver.seconds, solver.timing, *looks[solver.kind]))
    with new_figure(WIDTH, 0.9 + 0.42 * len(bars)) as figure:
        axes = figure.subplots()
        axes.set(xscale="log", xlabel="seconds per sample", ylim=(len(bars) - 0.55, -0.75), yticks=[])
        times = [t for _, s, timing, *_ in bars for t in ((s, timing.fastest, timing.slowest) if timing else (s,))]
        axes.set_xlim(min(times) / 1.6, max(max(times) * 1.6, min(times) * 30))
        readable_log(axes, "x")
        axes.spines["left"].set_visible(False)
        for place, (name, seconds, timing, marker, colour) in enumerate(bars):
            axes.text(
                0.0,
                place - 0.28,
                f"{name}: {duration(seconds)}",
                transform=axes.get_yaxis_transform(),
                verticalalignment="center",
                fontsize=8.5,
            )
            axes.axhline(place, color=GREY, linewidth=0.5, linestyle=":")
            if timing:
                axes.plot((timing.fastest, timing.slowest), (place, place), "-", color=colour, linewidth=4, alpha=0.4)
            axes.plot(seconds, place, marker, color=colour, markersize=6)
        return inline_svg(figure, "times", "Seconds per sample of the surrogate and of each solver, logarithmic.")


def _series(metrics: Sequence[Mapping[str, float | None]], name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], value) for row in metrics if (value := row.get(name)) is not None]
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(1) & (array[:, 1] > 0)]
    every = max(1, -(-len(array) // MOST_POINTS))
    return array[::every, 0], array[::every, 1]


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = max(1, -(-len(x) // MOST_POINTS))
    return x[::every], y[::every]


def readable_log(axes: Axes, which: Literal["x", "y"]) -> None:
    """Label 1, 2 and 5 of each decade below two decades, every digit below two thirds of one, else powers of ten.

    Labels are plain text: matplotlib's own are formulas, whose pieces a browser cannot select as one number.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = np.log10(high / low)
    axis.set_minor_formatter(NullFormatter())
    if decades < 2:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades > 2 / 3 else range(1, 10)))
        axis.set_major_formatter(lambda value, _: f"{value:.3g}")
    else:
        if decades > 4:
            axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: power_of_ten(round(math.log10(value))))
