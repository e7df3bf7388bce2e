"""Pictures of a dataset's samples."""

from __future__ import annotations

import io
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


def draw_samples(path: str | Path, out_png: str | Path, *, split: str | None = None, count: int = 3) -> Path:
    """Draw the first samples of a split, a row each, a column per input and output field; fields in 3D by their middle
    slice. Without ``split`` the first of train, valid and test that is there.

    Errors: `DataError` for a dataset that cannot be read, `StorageError` when the picture cannot be written.
    """
    # Here and not above: every worker of a cluster imports this room, and none of them draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = dataset_directory(Path(path))
    dataset = FieldDataset(root, split or _first_split(root), verify=False)
    rows = min(count, len(dataset))
    inputs, outputs = dataset.batch(range(rows))
    columns = [(name, inputs[:, c].numpy()) for c, name in enumerate(dataset.input_names)]
    columns += [(name, outputs[:, c].numpy()) for c, name in enumerate(dataset.output_names)]
    figure = Figure(figsize=(3.4 * len(columns), 2.9 * rows), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    places = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, values) in enumerate(columns):
        unit = dataset.units.get(name, "1")
        label = name if unit == "1" else f"{name} [{unit}]"
        for row in range(rows):
            _draw(figure, places[row, column], values[row], dataset.grid, label)
            places[row, column].set_title(f"{label}, sample {row}", fontsize=10)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    target = Path(out_png)
    write_atomically(target, buffer.getvalue())
    return target


def _draw(figure: Figure, place: Axes, values: np.ndarray, grid: Grid, label: str) -> None:
    if grid.dimension == 1:
        place.plot(grid.axis(0).numpy(), values, color="black", linewidth=1.2)
        place.set_xlabel("x")
        place.set_ylabel(label)
        return
    if grid.dimension == 3:
        values = values[:, :, values.shape[2] // 2]
    # Axis 0 is x, to the right; imshow wants rows, from below.
    extent = (grid.lower[0], grid.upper[0], grid.lower[1], grid.upper[1])
    image = place.imshow(values.T, origin="lower", extent=extent, cmap=_COLOURS, interpolation="nearest")
    place.set_xlabel("x")
    place.set_ylabel("y")
    figure.colorbar(image, ax=place, shrink=0.85)


def _first_split(root: Path) -> str:
    for split in ("train", "valid", "test"):
        if any((root / "data" / split).glob("*.h*5")):
            return split
    raise DataError(f"{root}: has no split that holds a shard")
