"""Datasets of ours to be converted, and what to compare them by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from fieldwright.datasets import ShardContent, StoredField, StoredScalar
from fieldwright.grids import Boundary, Grid

COUNTS = {"train": 7, "valid": 2, "test": 3}


def steady_content(count: int, seed: int) -> ShardContent:
    random = np.random.default_rng(seed)
    pressure = random.standard_normal((count, 6, 5))
    return ShardContent(
        dataset_name="Steady",
        grid=Grid((6, 5), "cell", (0.0, 0.0), (2.0, 1.0)),
        boundary=Boundary.parse([("dirichlet", "neumann"), "dirichlet"], 2),
        samples=count,
        times=np.array([0.0, 1.0]),
        fields=(
            StoredField("permeability", random.random((count, 6, 5)), time_varying=False, unit="m^2", description="k"),
            StoredField("pressure", np.stack([0 * pressure, pressure], 1), unit="Pa", scale=0.25),
        ),
        scalars=(
            StoredScalar("gravity", np.array(9.75), unit="m/s^2"),
            StoredScalar("rate", random.random(count), sample_varying=True, unit="1/s", channel=True),
        ),
        steady=True,
        provenance={"seed": 3},
    )


def vorticity_content(count: int, seed: int) -> ShardContent:
    random = np.random.default_rng(seed)
    return ShardContent(
        dataset_name="vorticity",
        grid=Grid((6, 5), "periodic", (0.0, -1.0), (2 * np.pi, 1.0)),
        boundary=Boundary.parse("periodic", 2),
        samples=count,
        times=np.array([0.0, 0.5, 1.5, 1.75]),
        fields=(StoredField("w", random.standard_normal((count, 4, 6, 5)), unit="1/s"),),
    )


def flow_content(count: int, seed: int) -> ShardContent:
    random = np.random.default_rng(seed)
    return ShardContent(
        dataset_name="flow",
        grid=Grid((6, 5), "node"),
        boundary=Boundary.parse("neumann", 2),
        samples=count,
        times=np.array([0.0, 0.5, 1.5]),
        fields=(
            StoredField("density", random.random((count, 3, 6, 5)), unit="kg/m^3"),
            StoredField("velocity", random.standard_normal((count, 3, 6, 5, 2)), order=1, unit="m/s"),
            StoredField("mask", np.random.default_rng(0).random((6, 5)), sample_varying=False, time_varying=False),
        ),
    )


CONTENTS: dict[str, Callable[[int, int], ShardContent]] = {
    "steady": steady_content,
    "vorticity": vorticity_content,
    "flow": flow_content,
}


def assert_same_dataset(ours: Path, theirs: Path) -> None:
    """Every number, name, unit, point, time, wall and split of one dataset is the other's, whatever its shards."""
    for split in COUNTS:
        first, second = (merged(sorted((root / "data" / split).glob("*.hdf5"))) for root in (ours, theirs))
        assert first.keys() == second.keys()
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name], err_msg=name)


def merged(shards: list[Path]) -> dict[str, np.ndarray]:
    """All arrays and attributes of the shards of a split, in physical units, samples one after the other."""
    found: dict[str, np.ndarray] = {}
    for shard in shards:
        with h5py.File(shard) as file:
            for group in ("dimensions", "scalars", "t0_fields", "t1_fields", "t2_fields"):
                for name, array in file[group].items():
                    place = f"{group}/{name}"
                    values = array[()] * np.float32(array.attrs.get("fieldwright_scale", 1))
                    alone = place not in found or not array.attrs["sample_varying"]
                    found[place] = values if alone else np.concatenate([found[place], values])
                    for key in ("unit", "description", "sample_varying", "time_varying", "fieldwright_channel"):
                        found[f"{place}.{key}"] = np.asarray(str(array.attrs.get(key, "")))
            for name, entry in file["boundary_conditions"].items():
                found[f"wall {name}"] = np.asarray(entry.attrs["fieldwright_kind"])
            for key in ("dataset_name", "fieldwright_steady", "n_spatial_dims"):
                found[key] = np.asarray(file.attrs[key])
            for key in ("centring", "lower", "upper"):
                found[key] = np.asarray(file["fieldwright"].attrs[key])
    return found
