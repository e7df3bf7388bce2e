"""The Well's own loader opens our datasets with its default constructor and returns our numbers bit for bit.

It pins a version of fsspec that other packages cannot live with, so it is run in an environment of its own: the Python
named by FIELDWRIGHT_THE_WELL_PYTHON, or the one in ``.venv-the-well`` beside the project's.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fieldwright.datasets import FieldDataset, ShardContent
from fieldwright.datasets.statistics import write_statistics

LOCAL = Path(__file__).parents[2] / ".venv-the-well" / "bin" / "python"
PYTHON = os.environ.get("FIELDWRIGHT_THE_WELL_PYTHON") or (str(LOCAL) if LOCAL.exists() else "")

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="no environment with the_well: `make well` makes one, or name it by FIELDWRIGHT_THE_WELL_PYTHON"
)

READ = """
import sys
import h5py, numpy, torch
from the_well.data import WellDataset
from the_well.data.data_formatter import DefaultChannelsFirstFormatter
from the_well.data.normalization import RMSNormalization, ZScoreNormalization
root, out = sys.argv[1:3]
found = {}
data = WellDataset(path=root, well_split_name="train")
items = [data[i] for i in range(len(data))]
for key in items[0]:
    found[key] = torch.stack([item[key] for item in items]).numpy()
formatter = DefaultChannelsFirstFormatter(data.metadata)
batch = next(iter(torch.utils.data.DataLoader(data, batch_size=len(data))))
inputs, outputs = formatter.process_input(batch)
found["formatted_inputs"], found["formatted_outputs"] = inputs[0].numpy(), outputs.numpy()
for kind in (ZScoreNormalization, RMSNormalization):
    scaled = WellDataset(path=root, well_split_name="train", use_normalization=True, normalization_type=kind)
    found[kind.__name__] = torch.stack([scaled[i]["output_fields"] for i in range(len(scaled))]).numpy()
coordinates = data.to_xarray(backend="numpy")
for name in "xy":
    found[name] = coordinates[name].values
numpy.savez(out, **found)
"""


def read_by_the_well(root: Path) -> dict[str, np.ndarray]:
    out = root / "found.npz"
    # What steers this Python, such as PYTHONPATH, is not meant for that one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [PYTHON, "-c", READ, str(root), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as archive:
        return dict(archive)


def test_steady_dataset_opens_with_the_default_constructor(dataset: Path):
    found = read_by_the_well(dataset)
    data = FieldDataset(dataset, "train")
    inputs, outputs = (tensor.numpy() for tensor in data.arrays())
    np.testing.assert_array_equal(found["constant_fields"], np.moveaxis(inputs, 1, -1))
    np.testing.assert_array_equal(found["output_fields"][:, 0], np.moveaxis(outputs, 1, -1))
    np.testing.assert_array_equal(found["input_fields"], np.zeros_like(found["output_fields"]))
    np.testing.assert_array_equal(found["boundary_conditions"][0], np.zeros((2, 2)))
    np.testing.assert_array_equal(found["formatted_inputs"][:, 1:], inputs)
    np.testing.assert_array_equal(found["formatted_outputs"][:, 0], np.moveaxis(outputs, 1, -1))
    for axis, name in enumerate("xy"):
        np.testing.assert_array_equal(found[name], data.grid.axis(axis).float())
    both = np.concatenate([np.zeros_like(outputs), outputs])
    expected = (outputs - both.mean(dtype=float)) / both.std(dtype=float)
    np.testing.assert_allclose(found["ZScoreNormalization"][:, 0], np.moveaxis(expected, 1, -1), rtol=1e-4, atol=1e-5)
    expected = outputs / np.sqrt(np.square(both, dtype=float).mean())
    np.testing.assert_allclose(found["RMSNormalization"][:, 0], np.moveaxis(expected, 1, -1), rtol=1e-4)


def test_time_dependent_windows_are_theirs(moving: tuple[Path, ShardContent]):
    root, content = moving
    write_statistics(root)
    found = read_by_the_well(root)
    inputs, outputs = (tensor.numpy() for tensor in FieldDataset(root, "train").arrays())
    np.testing.assert_array_equal(found["input_fields"][:, 0], np.moveaxis(inputs[:, :3], 1, -1))
    np.testing.assert_array_equal(found["output_fields"][:, 0], np.moveaxis(outputs, 1, -1))
    np.testing.assert_array_equal(found["constant_fields"][..., 0], inputs[:, 3])
    np.testing.assert_array_equal(found["boundary_conditions"][0], np.full((2, 2), 2))
    for axis, name in enumerate("xy"):
        np.testing.assert_array_equal(found[name], content.grid.axis(axis).float())
