"""PhysicsNeMo's HDF5: an array per name whose first axis is the sample; steady fields have an axis of one channel.

Its readers, and many people's own, take a folder of files with a sample each as well; `hdf5` reads both.

Source: PhysicsNeMo 2, its generic HDF5 reader and the data of its physics-informed Darcy example.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldwright.datasets.formats.export import Target, channels
from fieldwright.datasets.formats.passport import PASSPORT, Placed, lost_facts, passport, scalar_rows
from fieldwright.datasets.formats.streamed_hdf5 import PlannedArray, streamed_hdf5
from fieldwright.grids import AXES


def lost_in_physicsnemo(target: Target) -> list[str]:
    """Sentences on what others do not see in the file."""
    source = target.source
    kept = ("the names of the fields", "units", "the parameters", "the splits")
    return lost_facts(source, kept_by_others=kept)


def write_physicsnemo(target: Target) -> list[Path]:
    """A file per split, named as `write_npz` names them; returns them.

    Errors: `StorageError` when they cannot be written, `DataError` for a value that is not finite.
    """
    return [_write(one) for one in target.file_per_split()]


def _write(target: Target) -> Path:
    source, count, members = target.source, len(target.together()), channels(target.source)
    space = "".join(AXES[: source.grid.dimension])
    planned, placed = {}, {}
    for channel in members:
        lead = (len(source.times),) if channel.variable.time_varying else (1,)
        unit = {"units": channel.variable.unit, "description": channel.variable.description}
        planned[channel.name] = PlannedArray((count, *lead, *source.grid.shape), unit)
        varying = channel.variable.time_varying
        placed[channel.name] = Placed(
            channel.name, f"n{'t' if varying else 'c'}{space}", () if varying else (("c", 0),)
        )
    # The first axis of every array is the sample's, so a number for all stands in an attribute.
    rows = {s.name: scalar_rows(s, target.selections) for s in source.scalars if s.sample_varying}
    constants = {s.name: np.asarray(s.values, float) for s in source.scalars if not s.sample_varying}
    note = passport(source, placed, target.selections)
    with streamed_hdf5(
        target.path,
        planned,
        small={name: values for name, values in rows.items() if name not in planned},
        attributes={"/": {PASSPORT: note, **constants}},
    ) as file:
        for channel, first, block in target.blocks(members):
            file.write(channel.name, first, block)
    return target.path
