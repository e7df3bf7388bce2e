"""Samples per second from the same files: our `FieldDataset` against `the_well`'s loader.

    python benchmarks/reading.py

Both read shuffled batches of 32 from the page cache in one process. Theirs runs in an environment of its own, as it
pins a version of fsspec: the Python named by FIELDWRIGHT_THE_WELL_PYTHON, or that of ``.venv-the-well``, made by

    python -m venv .venv-the-well && .venv-the-well/bin/pip install torch==2.13.0 the_well

It is measured twice: as its constructor comes, and "lean", with all that a training on plain fields can do without
switched off (``return_grid=False, boundary_return_type=None``).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldwright.datasets import FieldDataset, ShardContent, StoredField, write_shard
from fieldwright.grids import Boundary, Grid
from record import median_ratio, record

BATCH = 32
ROUNDS = 3
CASES = {
    "64 x 64": ((64, 64), 512),
    "128 x 128": ((128, 128), 512),
    "256 x 256": ((256, 256), 128),
    "32 x 32 x 32": ((32, 32, 32), 256),
}

THEIRS = """
import json, sys, time, torch
from importlib import metadata
from torch.utils.data import DataLoader
from the_well.data import WellDataset
torch.set_num_threads(1)
options = {"default": {}, "lean": {"return_grid": False, "boundary_return_type": None}}[sys.argv[2]]
dataset = WellDataset(path=sys.argv[1], well_split_name="train", **options)
loader = DataLoader(dataset, batch_size=int(sys.argv[3]), shuffle=True)
start, count = time.perf_counter(), 0
while time.perf_counter() - start < 2:
    for batch in loader:
        count += len(batch["output_fields"])
        if time.perf_counter() - start > 2:
            break
rate = count / (time.perf_counter() - start)
print(json.dumps({"rate": rate, "version": metadata.version("the_well")}))
"""


def main() -> None:
    python = the_well_python()
    torch.set_num_threads(1)
    rows, version = [], ""
    for title, (shape, samples) in CASES.items():
        rates: dict[str, list[float]] = {"ours": [], "default": [], "lean": []}
        with tempfile.TemporaryDirectory() as directory:
            write_case(Path(directory), shape, samples)
            for _ in range(ROUNDS):
                rates["ours"].append(our_rate(Path(directory)))
                for mode in ("default", "lean"):
                    facts = their_rate(python, directory, mode)
                    rates[mode].append(facts["rate"])
                    version = facts["version"]
        rows.append(
            {
                "grid": title,
                "fieldwright [samples/s]": statistics.median(rates["ours"]),
                "the_well [samples/s]": statistics.median(rates["default"]),
                "the_well, lean [samples/s]": statistics.median(rates["lean"]),
                "ratio": median_ratio(rates["ours"], rates["default"]),
                "ratio to lean": median_ratio(rates["ours"], rates["lean"]),
            }
        )
        print(rows[-1], file=sys.stderr)
    notes = (
        f"the_well {version}. Shuffled batches of {BATCH}, one process, one thread, files in the page cache, two fields"
        f" a sample (coefficient and solution), median of {ROUNDS} rounds in turn. 'lean' is the_well's loader without"
        " grids and boundary codes."
    )
    print(record("reading", rows, title="Reading: samples per second from the same files", notes=notes))


def the_well_python() -> str:
    """The interpreter that has the_well; exits with a sentence where there is none."""
    local = Path(__file__).parents[1] / ".venv-the-well" / "bin" / "python"
    python = os.environ.get("FIELDWRIGHT_THE_WELL_PYTHON") or (str(local) if local.exists() else None)
    if python is None:
        sys.exit("reading: no environment with the_well; set FIELDWRIGHT_THE_WELL_PYTHON or make .venv-the-well")
    return python


def write_case(root: Path, shape: tuple[int, ...], samples: int) -> None:
    """Two shards of random fields in the layout of a steady problem."""
    random = np.random.default_rng(0)
    for shard in range(2):
        half = samples // 2
        solution = np.zeros((half, 2, *shape), np.float32)
        solution[:, 1] = random.standard_normal((half, *shape))
        fields = (
            StoredField("permeability", random.standard_normal((half, *shape)), time_varying=False),
            StoredField("pressure", solution),
        )
        content = ShardContent(
            dataset_name="reading",
            grid=Grid(shape),
            boundary=Boundary.parse("dirichlet", len(shape)),
            samples=half,
            times=np.array([0.0, 1.0]),
            fields=fields,
            steady=True,
        )
        write_shard(root / "data" / "train" / f"reading_{shard}.hdf5", content)


def our_rate(root: Path) -> float:
    dataset = FieldDataset(root, "train")
    generator = torch.Generator().manual_seed(0)
    dataset.arrays()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        for indices in torch.randperm(len(dataset), generator=generator).split(BATCH):
            inputs, _ = dataset.batch(indices)
            count += len(inputs)
    return count / (time.perf_counter() - start)


def their_rate(python: str, directory: str, mode: str) -> dict[str, Any]:
    command = [python, "-c", THEIRS, directory, mode, str(BATCH)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
