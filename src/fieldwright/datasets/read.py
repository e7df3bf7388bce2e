"""Read datasets in The Well's layout: ours, and other people's.

A steady dataset of ours gives coefficients -> solution. A time-dependent one gives windows: the varying fields at a
stored time, and those that do not vary, -> the varying fields at the next stored time. Numbers that are marked as
inputs are channels that are constant over the grid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.atomic import checksum
from fieldwright.datasets.layout import Layout, read_layouts
from fieldwright.datasets.mapping import MappedFile
from fieldwright.datasets.plan import SPLIT_ORIGINS, finished, read_plan, read_record
from fieldwright.datasets.remote import RemoteFile, is_address, remote_exists, remote_files
from fieldwright.errors import DataError, InputError
from fieldwright.grids import Grid


class FieldDataset:
    """One split of a dataset: samples of input and output fields, channels first, in physical units, float32.

    ``path`` is the dataset's directory (the one that holds ``data/``), or its address: ``hf://datasets/...``,
    ``s3://...``, ``https://...``. With ``verify`` every shard's checksum is compared when it is opened, and files
    without one are searched for NaN and infinity; that reads all bytes once, and is left out at an address, where
    what is read comes block by block.

    Errors: `DataError`, one sentence that names the file, for anything missing, damaged, cut short or inconsistent.
    """

    def __init__(self, path: str | Path, split: str = "train", *, verify: bool = True) -> None:
        self.path: Path | str = str(path) if is_address(path) else Path(path)
        self.split = split
        local = split_files(self.path, split) if isinstance(self.path, Path) else []
        unrecorded = [file for file in local if not verify_file(file)] if verify else []
        files = local or split_files_afar(str(path), split)
        layouts = read_layouts(files)
        _check_agreement(layouts)
        first = layouts[0]
        self.name: str = first.name
        self.grid: Grid = first.grid
        self.attributes: dict[str, Any] = {**first.attributes, **first.own}
        self.steady: bool = first.steady or first.steps == 1
        self._files = [MappedFile(layout) for layout in layouts]
        self._windows = [1 if self.steady else layout.steps - 1 for layout in layouts]
        sizes = [layout.samples * windows for layout, windows in zip(layouts, self._windows, strict=True)]
        self._ends = np.cumsum(sizes)
        constant, varying = _channels(first, varying=False), _channels(first, varying=True)
        constant += [_Channel(number.name, number.unit, place, None) for place, number in enumerate(first.numbers)]
        self._channels: dict[str, list[_Channel]] = {
            "inputs": _in_order(constant if self.steady else varying + constant, first.own.get("inputs")),
            "outputs": _in_order(varying, first.own.get("outputs")),
        }
        for side, channels in self._channels.items():
            if not channels:
                raise DataError(f"{first.path}: holds no field that could serve as {side.removesuffix('s')}")
        if len(self) == 0:
            raise DataError(f"{self.path}: the split '{split}' holds no sample")
        for file in self._files:
            if file.layout.path in unrecorded:
                _check_finite(file)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def input_names(self) -> list[str]:
        return [channel.name for channel in self._channels["inputs"]]

    @property
    def output_names(self) -> list[str]:
        return [channel.name for channel in self._channels["outputs"]]

    @property
    def number_names(self) -> list[str]:
        """The inputs that are numbers, constant over the grid."""
        return [channel.name for channel in self._channels["inputs"] if channel.component is None]

    @property
    def units(self) -> dict[str, str]:
        """The unit of each channel, "1" where none is stated."""
        return {c.name: c.unit for side in ("outputs", "inputs") for c in self._channels[side]}

    @property
    def inputs(self) -> FieldArray:
        return FieldArray(self, "inputs")

    @property
    def outputs(self) -> FieldArray:
        return FieldArray(self, "outputs")

    def batch(
        self, indices: Sequence[int] | np.ndarray | Tensor
    ) -> tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "batch channel_out *space"]]:
        """Inputs and outputs of some samples, in the order asked for.

        Errors: `InputError` for an index out of range.
        """
        where = self._located(indices)
        return self._gather("inputs", where), self._gather("outputs", where)

    @property
    def trajectories(self) -> int:
        """The trajectories that the windows are cut from, each of one sample; of a steady dataset the samples."""
        return sum(file.layout.samples for file in self._files)

    def trajectory(self, index: int) -> tuple[Float[np.ndarray, " time"], Float[Tensor, "time channel_out *space"]]:
        """The stored times and states of one trajectory, the first included; of a steady sample guess and solution.

        Errors: `InputError` for an index out of range.
        """
        if not 0 <= index < self.trajectories:
            raise InputError(f"trajectory {index} of the split '{self.split}'; it has {self.trajectories}")
        number = 0
        while index >= self._files[number].layout.samples:
            index -= self._files[number].layout.samples
            number += 1
        layout, channels = self._files[number].layout, self._channels["outputs"]
        out = torch.empty(layout.steps, len(channels), *self.grid.shape)
        frames = np.arange(layout.steps)
        for c, channel in enumerate(channels):
            _copy(out.numpy()[:, c], frames, self._files[number], channel, np.full_like(frames, index), frames)
        return np.array(layout.times), out

    @cached_property
    def times(self) -> Float[Tensor, " time"]:
        """The stored times, the same for every trajectory.

        Errors: `DataError` when files of the split store different ones.
        """
        first = self._files[0].layout
        for file in self._files:
            if tuple(file.layout.times) != tuple(first.times):
                raise DataError(f"{file.layout.path}: stores other times than {first.path.name}")
        return torch.as_tensor(np.array(first.times), dtype=torch.float64)

    def frames(
        self, side: str, trajectories: Sequence[int] | np.ndarray, frames: Sequence[int] | np.ndarray
    ) -> Float[Tensor, "batch channel *space"]:
        """The "inputs" or "outputs" as they are at ``frames[i]`` of trajectory ``trajectories[i]``.

        Errors: `InputError` for a trajectory or frame out of range.
        """
        which, when = (np.asarray(numbers, dtype=np.int64).reshape(-1) for numbers in (trajectories, frames))
        ends = np.cumsum([file.layout.samples for file in self._files])
        if ((which < 0) | (which >= ends[-1])).any():
            raise InputError(f"trajectories of the split '{self.split}' are 0 to {int(ends[-1]) - 1}")
        owner = np.searchsorted(ends, which, side="right")
        steps = np.array([file.layout.steps for file in self._files])[owner]
        if ((when < 0) | (when >= steps)).any():
            raise InputError(f"frames of the split '{self.split}' are 0 to {int(steps.min()) - 1}")
        return self._copied(side, owner, which - np.concatenate([[0], ends])[owner], when)

    def arrays(self) -> tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "batch channel_out *space"]]:
        """The whole split in memory."""
        return self.batch(np.arange(len(self)))

    def _located(self, indices: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        outside = (wanted < -len(self)) | (wanted >= len(self))
        if outside.any():
            raise InputError(
                f"sample {int(wanted[outside][0])} of the split '{self.split}'; it has {len(self)} samples"
            )
        return np.where(wanted < 0, wanted + len(self), wanted)

    def _gather(self, side: str, where: np.ndarray) -> Tensor:
        owner = np.searchsorted(self._ends, where, side="right")
        windows = np.array(self._windows)[owner]
        trajectory, frame = np.divmod(where - np.concatenate([[0], self._ends])[owner], windows)
        if side == "outputs":
            frame = np.array([file.layout.steps for file in self._files])[owner] - 1 if self.steady else frame + 1
        return self._copied(side, owner, trajectory, frame)

    def _copied(self, side: str, owner: np.ndarray, trajectory: np.ndarray, frame: np.ndarray) -> Tensor:
        """The channels of a side at frames of trajectories, each counted within the file that owns it."""
        channels = self._channels[side]
        out = torch.empty(len(owner), len(channels), *self.grid.shape)
        target = out.numpy()
        for number in np.unique(owner):
            rows = np.flatnonzero(owner == number)
            for c, channel in enumerate(channels):
                _copy(target[:, c], rows, self._files[number], channel, trajectory[rows], frame[rows])
        return out


class FieldArray:
    """The inputs or outputs of a split as a read-only array of shape (sample, channel, *space): slice it like NumPy."""

    def __init__(self, dataset: FieldDataset, side: str) -> None:
        self._dataset = dataset
        self._side = side
        self.shape = (len(dataset), len(dataset._channels[side]), *dataset.grid.shape)
        self.dtype = np.dtype(np.float32)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        chosen = np.arange(len(self))[rows]
        values = self._dataset._gather(self._side, np.atleast_1d(chosen)).numpy()
        return values[0][rest] if chosen.ndim == 0 else values[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def split_files(root: Path, split: str) -> list[Path]:
    """The shards of a split, in order.

    Errors: `DataError` when the dataset, the split or one of its shards is not there.
    """
    directory = root / "data" / split
    if not root.is_dir():
        raise DataError(f"{root}: is not there, or is not a directory")
    plan = read_plan(root)
    if plan is not None and split in plan.counts:
        expected = [shard for shard in plan.shards() if shard.split == split]
        missing = [shard for shard in expected if finished(root, shard) is None]
        if missing:
            file = root / missing[0].file
            if file.is_file() and (root / missing[0].record).is_file():
                raise DataError(f"{file}: is cut short or overwritten; generate it again")
            raise DataError(
                f"{file}: is missing; {len(missing)} of {len(expected)} '{split}' shards are to be generated"
            )
    files = sorted(path for end in ("*.hdf5", "*.h5") for path in directory.glob(end))
    if not files:
        present = sorted(p.name for p in (root / "data").glob("*") if p.is_dir() and any(p.iterdir()))
        raise DataError(f"{root}: has no split '{split}'; it has {', '.join(present) or 'none'}")
    return files


def split_files_afar(address: str, split: str) -> list[RemoteFile]:
    """The shards of a split of a dataset at an address, in order.

    Errors: `DataError` when the dataset or the split is not there, or cannot be reached.
    """
    root = address.rstrip("/")
    files = remote_files(f"{root}/data/{split}", (".hdf5", ".h5"))
    if not files:
        present = [name for name in SPLIT_ORIGINS if remote_exists(f"{root}/data/{name}")]
        raise DataError(f"{address}: has no split '{split}'; it has {', '.join(present) or 'none'}")
    return files


def verify_file(file: Path) -> bool:
    """True when the file's bytes are those of its record, False when it has no record.

    Errors: `DataError` when they differ.
    """
    record = read_record(file.with_suffix(".json"))
    if record is None:
        return False
    try:
        found = checksum(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    if found != record.sha256:
        raise DataError(f"{file}: is damaged, its checksum has changed; delete it and generate it again")
    return True


@dataclass(frozen=True)
class _Channel:
    """One component of one stored field; ``position`` is the field's place in every file's layout.

    ``component`` is None for a number, whose ``position`` is its place among the numbers.
    """

    name: str
    unit: str
    position: int
    component: tuple[int, ...] | None


def _channels(layout: Layout, *, varying: bool) -> list[_Channel]:
    """The channels of the fields that do, or do not, vary with time."""
    dimension = layout.grid.dimension
    return [
        _Channel(name, field.unit, position, component)
        for position, field in enumerate(layout.fields)
        if field.time_varying == varying
        for name, component in zip(field.channels, np.ndindex((dimension,) * field.order), strict=True)
    ]


def _in_order(channels: list[_Channel], names: Any) -> list[_Channel]:
    """Channels in the order of their problem, where a dataset of ours says so; the format sorts by tensor order."""
    try:
        place = {name: i for i, name in enumerate(json.loads(names))}
    except (TypeError, ValueError):
        return channels
    return sorted(channels, key=lambda channel: place.get(channel.name, len(place)))


def _copy(
    target: np.ndarray, rows: np.ndarray, file: MappedFile, channel: _Channel, trajectory: np.ndarray, frame: np.ndarray
) -> None:
    """target[rows[i]] = the channel at (trajectory[i], frame[i]), in physical units."""
    if channel.component is None:
        values = file.layout.numbers[channel.position].values
        by_sample, by_time = (size > 1 for size in values.shape)
        chosen = values[trajectory if by_sample else 0, frame if by_time else 0]
        target[rows] = np.reshape(chosen, (-1, *[1] * (target.ndim - 1)))
        return
    field = file.layout.fields[channel.position]
    array = file.array(field)
    # Axes along which the field does not vary are absent on disk; here they have length one and broadcast.
    space = tuple(slice(None) if kept else None for kept in field.dim_varying)
    if isinstance(array, np.ndarray):
        along_samples = trajectory if field.sample_varying else np.zeros_like(trajectory)
        along_times = frame if field.time_varying else np.zeros_like(frame)
        lifted = array if field.sample_varying else array[None]
        lifted = lifted if field.time_varying else lifted[:, None]
        lifted = lifted[(slice(None), slice(None), *space, *channel.component)]
        for row, i, t in zip(rows.tolist(), along_samples.tolist(), along_times.tolist(), strict=True):
            target[row] = lifted[i, t]
    else:
        for row, i, t in zip(rows.tolist(), trajectory.tolist(), frame.tolist(), strict=True):
            leading = (i,) * field.sample_varying + (t,) * field.time_varying
            target[row] = np.asarray(array[leading])[(*space, *channel.component)]
    if field.scale != 1:
        target[rows] *= field.scale


def _check_agreement(layouts: list[Layout]) -> None:
    """Files that one reader sees as one dataset have one name, one grid and the same fields."""
    first = layouts[0]
    for other in layouts:
        for what, ours, theirs in (
            ("dataset_name", first.name, other.name),
            ("grid", first.grid, other.grid),
            ("fields", _signature(first), _signature(other)),
            ("steadiness", first.steady, other.steady),
        ):
            if ours != theirs:
                raise DataError(f"{other.path}: its {what} is {theirs}, but {ours} in {first.path.name}")
        if other.steps < 1:
            raise DataError(f"{other.path}: holds no stored time")


def _signature(layout: Layout) -> list[str]:
    fields = [f"{f.place}{' over time' * f.time_varying} [{f.unit}]" for f in layout.fields]
    return fields + [f"scalars/{n.name} [{n.unit}]" for n in layout.numbers]


def _check_finite(file: MappedFile) -> None:
    for field in file.layout.fields:
        array = file.array(field)
        leading = range(field.shape[0]) if field.sample_varying else [Ellipsis]
        for sample in leading:
            if not np.isfinite(np.asarray(array[sample])).all():
                where = f"sample {sample} of " if field.sample_varying else ""
                raise DataError(f"{file.layout.path}: {where}'{field.place}' holds a NaN or infinite value")
