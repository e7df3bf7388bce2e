"""DeepXDE's ``.npz`` for operators: branch inputs ``X0`` (N, sensors), trunk points ``X1`` (M, D), ``y`` (N, M).

The points must be those of a tensor-product grid, and the inputs known at all of them, to make fields. Of what evolves
a point is a place and a time, and the input is the first stored state.

Source: DeepXDE's data class ``TripleCartesianProd``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fieldwright.atomic import written_beside
from fieldwright.datasets.formats.coordinates import grid_from_coordinates
from fieldwright.datasets.formats.export import Channel, Target, channels, finite, operator_inputs
from fieldwright.datasets.formats.numpy_arrays import append_array, append_rows, open_npz
from fieldwright.datasets.formats.passport import PASSPORT, Placed, lost_facts, passport, source_of_passport
from fieldwright.datasets.formats.plain_arrays import Plain
from fieldwright.datasets.formats.source import Part, Reading, Source, Variable
from fieldwright.datasets.formats.stored import Folded
from fieldwright.errors import DataError, InputError
from fieldwright.grids import AXES


def read_deepxde(place: Path, reading: Reading) -> Source:
    """One file of the Cartesian form.

    Errors: `DataError` for the unaligned form, points of no grid, or inputs known elsewhere than the outputs.
    """
    arrays, texts = open_npz(place, reading)
    for name in ("X0", "X1", "y"):
        if name not in arrays or len(arrays[name].shape) != 2:
            raise DataError(f"{place}: holds no array '{name}' of two axes; it has {', '.join(arrays) or 'none'}")
    branch, trunk, values = arrays["X0"], arrays["X1"], arrays["y"]
    note = texts.get(PASSPORT)
    if note:
        return source_of_passport(note, lambda name: arrays[name].array, (place,), "deepxde")
    (samples, sensors), (points, dimension) = branch.shape, trunk.shape
    if values.shape != (samples, points):
        raise DataError(
            f"{place}: y has shape {values.shape} for {samples} inputs and {points} points; pairs are not read"
        )
    if any(plain.reversed for plain in (branch, values)):
        raise DataError(f"{place}: its arrays are stored column by column; save them row by row")
    lines = _lines(trunk, dimension, str(place))
    shape = tuple(map(len, lines))
    if sensors != points:
        raise DataError(
            f"{place}: its inputs are known at {sensors} sensors, its outputs at {points} points; not one grid"
        )
    axes = "n" + "".join(AXES[:dimension])
    return Source(
        name=place.stem,
        format="deepxde",
        files=(place,),
        samples=samples,
        grid=grid_from_coordinates(lines, None, str(place)),
        variables=(
            Variable("X0", "input", (Part(Folded(branch.array, shape), axes),)),
            Variable("y", "output", (Part(Folded(values.array, shape), axes),)),
        ),
    )


def _lines(trunk: Plain, dimension: int, where: str) -> list[np.ndarray]:
    """The coordinates along each axis of points that are a grid in C order."""
    points = trunk.values()
    if not 1 <= dimension <= 3:
        raise DataError(f"{where}: its points have {dimension} coordinates; 1, 2 or 3 make a grid")
    lines = [np.unique(points[:, i]) for i in range(dimension)]
    mesh = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, dimension)
    if mesh.shape != points.shape or not np.array_equal(mesh, points):
        raise DataError(f"{where}: its points X1 are not those of a grid, with the last coordinate fastest")
    return lines


def lost_in_deepxde(target: Target) -> list[str]:
    """Sentences on what others do not see in the file.

    Errors: `InputError` for a source of several outputs, for which the form has no place.
    """
    source = target.source
    outputs = [channel.name for channel in channels(source, "output")]
    if len(outputs) != 1:
        raise InputError(f"convert: DeepXDE's form has one output; the source has {len(outputs)}: {', '.join(outputs)}")
    said = lost_facts(source, kept_by_others=("the times", "the grid's coordinates", "the splits"))
    inputs = operator_inputs(source)
    if len(inputs) > 1:
        said.append(f"one after the other in X0: {', '.join(channel.name for channel in inputs)}")
    return said


def write_deepxde(target: Target) -> list[Path]:
    """A file per split, named as `write_npz` names them; returns them.

    Errors: `StorageError` when they cannot be written, `DataError` for a value that is not finite.
    """
    return [_write(one) for one in target.file_per_split()]


def _write(target: Target) -> Path:
    source, count = target.source, len(target.together())
    inputs, outputs = operator_inputs(source), channels(source, "output")
    frames, space = max(1, len(source.times)), source.grid.shape
    letters = "".join(AXES[: len(space)])
    lines = [source.grid.axis(i).numpy() for i in range(len(space))]
    lines += [source.times] if not source.steady else []
    fold = (len(inputs), *space)
    placed = {c.name: Placed("X0", f"nc{letters}", (("c", i),), fold=fold) for i, c in enumerate(inputs)}
    # Place by place, and at each all times, so that the last coordinate is the fastest.
    whole = (*space, frames) if not source.steady else space
    placed[outputs[0].name] = Placed("y", f"n{letters}" + "t" * (not source.steady), fold=whole)
    with written_beside(target.path) as partial, zipfile.ZipFile(partial, "w") as archive:
        append_rows(archive, "X0", (count, len(inputs) * source.grid.points), _branch(target, inputs))
        append_array(
            archive, "X1", np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines)).astype("<f4")
        )
        rows = (_last(block, source) for _, _, block in target.blocks(outputs))
        append_rows(archive, "y", (count, source.grid.points * frames), rows)
        append_array(archive, PASSPORT, np.array(passport(source, placed, target.selections)))
    return target.path


def _branch(target: Target, inputs: list[Channel]) -> Iterator[np.ndarray]:
    for _, samples in target.together().blocks(target.samples_at_once):
        columns = []
        for channel in inputs:
            block = finite(channel.read(samples, target.source.grid), target.source, channel.name, samples.start)
            block = block[:, 0] if channel.variable.time_varying else block
            columns.append(block.reshape(len(block), -1))
        yield np.concatenate(columns, 1)


def _last(block: np.ndarray, source: Source) -> np.ndarray:
    """A row per sample, with time behind space."""
    moved = block if source.steady else np.moveaxis(block, 1, -1)
    return moved.reshape(len(block), -1)
