"""The rules of The Well's format, stated again from its description and independent of our writer."""

from __future__ import annotations

import h5py
import numpy as np

ROOT = {"dataset_name": str, "grid_type": str, "n_spatial_dims": np.integer, "n_trajectories": np.integer}
GROUPS = ("dimensions", "scalars", "t0_fields", "t1_fields", "t2_fields", "boundary_conditions")


def violations(path: str) -> list[str]:
    """Every rule that the file breaks."""
    found: list[str] = []

    def require(condition: bool, rule: str) -> None:
        if not condition:
            found.append(rule)

    with h5py.File(path, "r") as file:
        for name, kind in ROOT.items():
            require(isinstance(file.attrs.get(name), kind), f"root attribute {name} is {kind}")
        require(file.attrs["grid_type"] in ("cartesian", "spherical"), "grid_type")
        for name in GROUPS:
            require(isinstance(file.get(name), h5py.Group), f"group {name}")
        for name in file.attrs["simulation_parameters"]:
            require(name in file.attrs and name in file["scalars"], f"parameter {name} is attribute and scalar")
        n, axes = int(file.attrs["n_trajectories"]), list(file["dimensions"].attrs["spatial_dims"])
        require(len(axes) == file.attrs["n_spatial_dims"], "spatial_dims has n_spatial_dims entries")
        steps = file["dimensions/time"].shape[-1]
        space = tuple(file["dimensions"][axis].shape[-1] for axis in axes)
        for name in ("time", *axes):
            entry = file["dimensions"][name]
            require(entry.dtype == np.float32, f"{name} is float32")
            require(entry.ndim == 1 + bool(entry.attrs["sample_varying"]), f"{name} has one axis")
            require(bool(entry.attrs["time_varying"]) == (name == "time"), f"time_varying of {name}")
        names = list(file["scalars"].attrs["field_names"])
        require(set(names) == set(file["scalars"]), "scalars' field_names are its arrays")
        for name in names:
            entry = file["scalars"][name]
            require(entry.dtype == np.float32, f"scalar {name} is float32")
            require(entry.shape == leading(entry, n, steps), f"shape of scalar {name}")
        for order in range(3):
            group = file[f"t{order}_fields"]
            names = list(group.attrs["field_names"])
            require(all(isinstance(name, str) for name in names), f"field_names of order {order} are texts")
            require(set(names) == set(group), f"field_names of order {order} are its arrays")
            for name in names:
                entry = group[name]
                require(entry.dtype == np.float32, f"{name} is float32")
                require(entry.chunks is None and entry.id.get_offset() is not None, f"{name} is contiguous")
                require(entry.attrs["dim_varying"].dtype == bool, f"dim_varying of {name} is boolean")
                require(entry.attrs["dim_varying"].tolist() == [True] * len(axes), f"{name} varies along all axes")
                expected = (*leading(entry, n, steps), *space, *[len(axes)] * order)
                require(entry.shape == expected, f"shape of {name}")
                require(order < 2 or {"symmetric", "antisymmetric"} <= set(entry.attrs), f"symmetry of {name}")
        for name, entry in file["boundary_conditions"].items():
            require(entry.attrs["bc_type"] in ("WALL", "OPEN", "PERIODIC"), f"bc_type of {name}")
            require(entry.attrs["bc_type"].lower() in name, f"{name} contains its type")
            dims = list(entry.attrs["associated_dims"])
            require(all(d in axes and d in name for d in dims), f"{name} contains its axes")
            require(entry.attrs["associated_fields"].dtype == object, f"associated_fields of {name}")
            require({"sample_varying", "time_varying"} <= set(entry.attrs), f"varying of {name}")
            require(entry["mask"].dtype == bool, f"mask of {name} is boolean")
            require(
                entry["mask"].shape == tuple(file["dimensions"][d].shape[-1] for d in dims), f"mask shape of {name}"
            )
    return found


def leading(entry: h5py.Dataset, samples: int, steps: int) -> tuple[int, ...]:
    for name in ("sample_varying", "time_varying"):
        assert isinstance(entry.attrs[name], np.bool_), f"{name} of {entry.name}"
    return (samples,) * bool(entry.attrs["sample_varying"]) + (steps,) * bool(entry.attrs["time_varying"])
