"""Convert a foreign file and hand over what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from format_rules import violations

from fieldwright.datasets.formats import convert


class Converted:
    """The shards of a converted set: arrays by field name, samples of a split one after the other."""

    def __init__(self, source: Path, **options: Any) -> None:
        self.root = source.with_name(f"{source.name}.converted")
        self.summary = convert(source, self.root, **options)
        for file in self.root.glob("data/*/*.hdf5"):
            assert violations(str(file)) == []

    def field(self, name: str, split: str = "train") -> np.ndarray:
        """The field's numbers; of a steady solution frame 1."""
        with h5py.File(next(self.root.glob(f"data/{split}/*.hdf5"))) as file:
            for group in ("t0_fields", "t1_fields", "t2_fields"):
                if name in file[group]:
                    array = file[group][name]
                    values = array[()] * np.float32(array.attrs["fieldwright_scale"])
                    solution = file.attrs["fieldwright_steady"] and array.attrs["time_varying"]
                    return values[:, 1] if solution else values
        raise KeyError(name)

    def attribute(self, name: str, key: str) -> Any:
        """An attribute of a field."""
        with h5py.File(next(self.root.glob("data/*/*.hdf5"))) as file:
            return next(file[g][name].attrs[key] for g in ("t0_fields", "t1_fields") if name in file[g])

    def line(self, name: str) -> np.ndarray:
        """Coordinates of an axis, or the stored times."""
        with h5py.File(next(self.root.glob("data/*/*.hdf5"))) as file:
            return file["dimensions"][name][()]

    def scalar(self, name: str, split: str = "train") -> np.ndarray:
        with h5py.File(next(self.root.glob(f"data/{split}/*.hdf5"))) as file:
            return file["scalars"][name][()]

    def walls(self) -> set[str]:
        """Names of the conditions at the walls, with our own word for each where there is one."""
        with h5py.File(next(self.root.glob("data/*/*.hdf5"))) as file:
            conditions = file["boundary_conditions"]
            return {f"{name} {entry.attrs.get('fieldwright_kind', '')}".strip() for name, entry in conditions.items()}

    @property
    def steady(self) -> bool:
        with h5py.File(next(self.root.glob("data/*/*.hdf5"))) as file:
            return bool(file.attrs["fieldwright_steady"])
