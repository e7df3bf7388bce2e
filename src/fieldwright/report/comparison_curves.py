"""Figures of a comparison: error against time, against weights and against seconds per sample."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fieldwright.report.curves import HEIGHT, WIDTH, readable_log
from fieldwright.report.svg import BLUE, GREEN, GREY, INK, ORANGE, inline_svg, new_figure

LOOKS = tuple(
    (colour, line, marker)
    for line, markers in (("-", "osD^v"), ("--", "Pd<>*"))
    for colour, marker in zip((BLUE, ORANGE, GREEN, INK, GREY), markers, strict=True)
)
"""Colour, line and mark of each operator: told apart in greyscale too."""


def learning_figure(curves: Sequence[tuple[str, Sequence[Sequence[tuple[float, float]]]]]) -> str:
    """Validation error against seconds of training, a line for each operator and seed."""
    with new_figure(1.5 * WIDTH, 1.2 * HEIGHT) as figure:
        axes = figure.subplots()
        for place, (name, runs) in enumerate(curves):
            colour, line, marker = LOOKS[place % len(LOOKS)]
            for number, run in enumerate(runs):
                points = [(s, e) for s, e in run if s > 0 and e > 0]
                if points:
                    axes.plot(
                        *zip(*points, strict=True), line, color=colour, marker=marker, markersize=3, linewidth=1.2,
                        alpha=1.0 if number == 0 else 0.45, label=name if number == 0 else None,
                    )  # fmt: skip
        axes.set(xlabel="seconds of training", ylabel="validation, relative L2", yscale="log")
        if axes.lines:
            readable_log(axes, "y")
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=2.4)
        return inline_svg(figure, "learning", "Validation error of each operator and seed against seconds of training.")


def cost_figure(points: Sequence[tuple[str, float, Sequence[float]]], name: str, label: str) -> str:
    """Median error on the test set against a cost, a mark for the mean over seeds and a bar from least to most."""
    with new_figure(WIDTH, 1.2 * HEIGHT) as figure:
        axes = figure.subplots()
        for place, (operator, cost, errors) in enumerate(points):
            colour, _, marker = LOOKS[place % len(LOOKS)]
            axes.plot((cost, cost), (min(errors), max(errors)), "-", color=colour, linewidth=4, alpha=0.4)
            axes.plot(cost, statistics.fmean(errors), marker, color=colour, markersize=6, label=operator)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="test, relative L2 (median)")
        axes.margins(0.12)
        readable_log(axes, "x")
        readable_log(axes, "y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=1.4)
        return inline_svg(figure, name, f"Median test error of each operator against {label}.")
