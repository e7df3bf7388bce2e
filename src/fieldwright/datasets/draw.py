"""Pictures of a dataset's samples."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldwright.atomic import write_atomically
from fieldwright.datasets.inspect import dataset_directory
from fieldwright.datasets.read import FieldDataset
from fieldwright.errors import DataError
from fieldwright.grids import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Dark to light without a turn in brightness: the same picture on a grey printer and to colour-blind eyes.
_COLOURS = "cividis"
_FRAMES = 4


def draw_samples(path: str | Path, out_png: str | Path, *, split: str | None = None, count: int = 3) -> Path:
    """Draw the first samples of a split, a row each; without ``split`` of the first of train, valid and test there is.

    Of a steady sample there is a column per input and output field; of a trajectory one per field that stays and some
    frames of each field that evolves, in 1D all of them as an image over x and t. Fields in 3D are shown by their
    middle slice.

    Errors: `DataError` for a dataset that cannot be read, `StorageError` when the picture cannot be written.
    """
    # Here and not above: every worker of a cluster imports this room, and none of them draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = dataset_directory(Path(path))
    dataset = FieldDataset(root, split or _first_split(root), verify=False)
    rows = [_columns(dataset, sample) for sample in range(min(count, dataset.trajectories))]
    figure = Figure(figsize=(3.4 * len(rows[0]), 2.9 * len(rows)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    places = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for sample, row in enumerate(rows):
        for place, column in zip(places[sample], row, strict=True):
            _draw(figure, place, column, dataset.grid)
            place.set_title(f"{column.label}, sample {sample}{column.when}", fontsize=10)
        numbers = _numbers(dataset, sample)
        if numbers:
            places[sample][0].set_title(f"{numbers}\n{places[sample][0].get_title()}", fontsize=10, loc="left")
            places[sample][0].set_title("")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    target = Path(out_png)
    write_atomically(target, buffer.getvalue())
    return target


@dataclass(frozen=True)
class _Column:
    """One panel: a field, or a field of one dimension over time, where ``until`` is the last time."""

    label: str
    values: np.ndarray
    when: str = ""
    until: float | None = None


def _numbers(dataset: FieldDataset, sample: int) -> str:
    """The numbers of a sample in words: "viscosity 0.01 m²/s, ..."."""
    inputs, _ = dataset.batch([sample * (len(dataset) // dataset.trajectories)])
    units = {name: "" if unit == "1" else f" {unit}" for name, unit in dataset.units.items()}
    return ", ".join(
        f"{name} {float(inputs[0, c].flatten()[0]):.3g}{units[name]}"
        for c, name in enumerate(dataset.input_names)
        if name in dataset.number_names
    )


def _columns(dataset: FieldDataset, sample: int) -> list[_Column]:
    labels = {name: name if unit == "1" else f"{name} [{unit}]" for name, unit in dataset.units.items()}
    windows = len(dataset) // dataset.trajectories
    inputs, outputs = dataset.batch([sample * windows])
    fixed = [
        _Column(labels[name], inputs[0, c].numpy())
        for c, name in enumerate(dataset.input_names)
        if name not in dataset.output_names + dataset.number_names
    ]
    if dataset.steady:
        return fixed + [_Column(labels[n], outputs[0, c].numpy()) for c, n in enumerate(dataset.output_names)]
    times, states = dataset.trajectory(sample)
    if dataset.grid.dimension == 1:
        return fixed + [
            _Column(labels[name], states[:, c].numpy().T, until=float(times[-1]))
            for c, name in enumerate(dataset.output_names)
        ]
    frames = np.unique(np.linspace(0, len(times) - 1, _FRAMES).round().astype(int))
    return fixed + [
        _Column(labels[name], states[frame, c].numpy(), f", t = {times[frame]:.3g}")
        for c, name in enumerate(dataset.output_names)
        for frame in frames
    ]


def _draw(figure: Figure, place: Axes, column: _Column, grid: Grid) -> None:
    values = column.values
    if grid.dimension == 1 and column.until is None:
        place.plot(grid.axis(0).numpy(), values, color="black", linewidth=1.2)
        place.set_xlabel("x")
        place.set_ylabel(column.label)
        return
    if grid.dimension == 3:
        values = values[:, :, values.shape[2] // 2]
    # Axis 0 is x, to the right; imshow wants rows, from below.
    top = (0.0, column.until) if column.until is not None else (grid.lower[1], grid.upper[1])
    extent = (grid.lower[0], grid.upper[0], *top)
    aspect = "auto" if column.until is not None else "equal"
    image = place.imshow(values.T, origin="lower", extent=extent, cmap=_COLOURS, interpolation="nearest", aspect=aspect)
    place.set_xlabel("x")
    place.set_ylabel("y" if column.until is None else "t")
    figure.colorbar(image, ax=place, shrink=0.85)


def _first_split(root: Path) -> str:
    for split in ("train", "valid", "test"):
        if any((root / "data" / split).glob("*.h*5")):
            return split
    raise DataError(f"{root}: has no split that holds a shard")
