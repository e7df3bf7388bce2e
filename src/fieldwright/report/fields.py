"""Sample fields as small panels: input, truth, prediction and error, on colour scales shared by all samples.

Lines in one dimension, images in two, the mid-plane of the last axis in three. Colour maps are monotone in lightness,
so that they read in greyscale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator

from fieldwright.analysis import Evaluation, ShownSample
from fieldwright.grids import Grid
from fieldwright.problems import Field
from fieldwright.report.quantities import number, power_of_ten
from fieldwright.report.svg import BLUE, INK, ORANGE, inline_svg, new_figure

MOST_PIXELS = 128
"""Finer images are thinned to at most this many points an axis: a panel shows no more."""

LOG_SPAN = 50
"""A positive input that spans more than this factor is shown on a logarithmic scale."""

MAPS = {"input": "cividis", "output": "viridis", "error": "Greys"}


@dataclass(frozen=True)
class Panel:
    """One drawn field: its title and its SVG."""

    title: str
    svg: str


@dataclass(frozen=True)
class SamplePanels:
    """The panels of one sample, in rows: all in one where there is one input and one output.

    ``numbers`` says the inputs that are numbers: "viscosity 0.01".
    """

    sample: ShownSample
    rows: tuple[tuple[Panel, ...], ...]
    numbers: str = ""


@dataclass(frozen=True)
class _Channel:
    """One channel of all shown samples, with the scale they share."""

    key: str
    title: str
    field: Field
    role: str
    values: np.ndarray
    norm: Normalize
    other: np.ndarray | None = None


def sample_panels(evaluation: Evaluation) -> tuple[SamplePanels, ...]:
    """Panels of every shown sample, inputs first, then truth, prediction and |error| of each output."""
    rows = _rows(evaluation)
    return tuple(
        SamplePanels(
            sample,
            tuple(tuple(Panel(c.title, _draw(c, place, sample.label, evaluation.grid)) for c in row) for row in rows),
            _numbers(evaluation, place),
        )
        for place, sample in enumerate(evaluation.shown)
    )


def _rows(evaluation: Evaluation) -> list[list[_Channel]]:
    """Inputs, then a row per output."""
    inputs, truth, prediction = (evaluation.arrays[n].astype(np.float64) for n in ("inputs", "truth", "prediction"))
    first = []
    for i, field in enumerate(evaluation.inputs):
        if field.number:
            continue
        values = _slice(inputs[:, i])
        first.append(_Channel(f"in{i}", f"Input: {field.name}", field, "input", values, _input_norm(values)))
    rows = [first]
    for i, field in enumerate(evaluation.outputs):
        true, guessed = _slice(truth[:, i]), _slice(prediction[:, i])
        norm = Normalize(min(true.min(), guessed.min()), max(true.max(), guessed.max()))
        error = np.abs(guessed - true)
        row = []
        if true.ndim == 2:  # lines of truth and prediction share a panel
            row.append(_Channel(f"out{i}", f"Output: {field.name}", field, "output", true, norm, guessed))
        else:
            row.append(_Channel(f"true{i}", f"Truth: {field.name}", field, "output", true, norm))
            row.append(_Channel(f"pred{i}", f"Prediction: {field.name}", field, "output", guessed, norm))
        scale = Normalize(0, error.max() or 1.0)
        row.append(_Channel(f"err{i}", f"Error of {field.name}", field, "error", error, scale))
        rows.append(row)
    return [rows[0] + rows[1]] if len(rows) == 2 and len(first) == 1 else rows


def _numbers(evaluation: Evaluation, place: int) -> str:
    inputs = evaluation.arrays["inputs"][place]
    return ", ".join(
        f"{field.name} {number(float(inputs[i].flat[0]), 3)}" + (f" {field.unit}" if field.unit != "1" else "")
        for i, field in enumerate(evaluation.inputs)
        if field.number
    )


def _slice(values: np.ndarray) -> np.ndarray:
    """(sample, *space) with at most two axes of space, thinned."""
    if values.ndim == 4:
        values = values[..., values.shape[-1] // 2]
    if values.ndim == 3:
        steps = [max(1, -(-n // MOST_PIXELS)) for n in values.shape[1:]]
        values = values[:, :: steps[0], :: steps[1]]
    return values


def _input_norm(values: np.ndarray) -> Normalize:
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > LOG_SPAN:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1.0)


def _draw(channel: _Channel, place: int, label: str, grid: Grid) -> str:
    name = f"{label}-{channel.key}"
    described = f"{channel.title} of the {label} sample."
    if channel.values.ndim == 2:
        return _lines(channel, place, grid, name, described)
    return _image(channel, place, grid, name, described)


def _image(channel: _Channel, place: int, grid: Grid, name: str, described: str) -> str:
    lengths = grid.lengths[:2]
    width, margin, below = 2.2, 0.16, 0.66
    side = width - 2 * margin
    tall = side * float(np.clip(lengths[1] / lengths[0], 0.4, 2.5))
    height = tall + below + 0.02
    with new_figure(width, height) as figure:
        # Placed by hand, so that panels side by side are of one size whatever their labels are.
        figure.set_layout_engine("none")
        axes = figure.add_axes((margin / width, below / height, side / width, tall / height))
        image = axes.imshow(
            channel.values[place].T,
            origin="lower",
            cmap=MAPS[channel.role],
            norm=channel.norm,
            interpolation="none",
            aspect="auto",
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        bar_axes = figure.add_axes((margin / width, (below - 0.14) / height, side / width, 0.09 / height))
        bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal")
        ticks, labels, unit = _scale(channel)
        bar.set_ticks(ticks, labels=labels, minor=False)
        bar.minorticks_off()
        bar.ax.tick_params(labelsize=10, length=2.5, pad=2)
        bar.set_label(unit, fontsize=10, labelpad=1)
        return inline_svg(figure, name, described)


def _scale(channel: _Channel) -> tuple[list[float], list[str], str]:
    """A few ticks, their labels, and the unit with the power of ten taken out of the labels."""
    low, high = float(channel.norm.vmin or 0.0), float(channel.norm.vmax or 0.0)
    unit = "" if channel.field.unit == "1" else channel.field.unit
    if isinstance(channel.norm, LogNorm):
        middle = math.sqrt(low * high)
        ticks = [float(f"{t:.1g}") for t in (low, middle, high)]
        ticks = [t for t in ticks if low <= t <= high] or [low, high]
        return ticks, [number(t, 1) for t in ticks], unit
    largest = max(abs(low), abs(high))
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    exponent = 0 if -2 <= exponent < 4 else exponent
    ticks = [float(t) for t in MaxNLocator(3).tick_values(low, high) if low <= t <= high]
    labels = [f"{t / 10.0**exponent:.4g}".replace("-", "−") for t in ticks]
    return ticks, labels, f"{power_of_ten(exponent)} {unit}".strip() if exponent else unit


def _lines(channel: _Channel, place: int, grid: Grid, name: str, described: str) -> str:
    x = grid.axis(0).numpy()
    with new_figure(3.0, 2.3) as figure:
        axes = figure.subplots()
        colour = {"input": INK, "output": INK, "error": ORANGE}[channel.role]
        axes.plot(x, channel.values[place], color=colour, label="truth" if channel.other is not None else None)
        if channel.other is not None:
            axes.plot(x, channel.other[place], "--", color=BLUE, label="prediction")
            figure.legend(loc="outside upper center", ncols=2)
        low, high = float(channel.norm.vmin or 0.0), float(channel.norm.vmax or 0.0)
        margin = 0.05 * (high - low)
        if isinstance(channel.norm, LogNorm):
            axes.set(yscale="log", ylim=(low / 1.1, 1.1 * high))
        else:
            axes.set_ylim(low - margin, high + margin)
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.set_xlabel("x")
        if channel.field.unit != "1":
            axes.set_ylabel(channel.field.unit)
        return inline_svg(figure, name, described)
