"""Small datasets that several tests read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_problem import Halving

from fieldwright.datasets import ShardContent, StoredField, generate, write_shard
from fieldwright.grids import Boundary, Grid

COUNTS = {"train": 10, "valid": 3, "test": 4}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A fresh steady dataset of 17 samples in shards of 4."""
    generate(Halving(), tmp_path / "data set", counts=COUNTS, seed=7, shard_samples=4)
    return tmp_path / "data set"


@pytest.fixture
def moving(tmp_path: Path) -> tuple[Path, ShardContent]:
    """A time-dependent dataset of one shard: a scalar and a vector that vary, a mask that does not, five times."""
    random = np.random.default_rng(0)
    content = ShardContent(
        dataset_name="moving",
        grid=Grid((6, 5), "periodic"),
        boundary=Boundary.parse("periodic", 2),
        samples=3,
        times=np.arange(5.0),
        fields=(
            StoredField("density", random.standard_normal((3, 5, 6, 5)), unit="kg/m^3"),
            StoredField("velocity", random.standard_normal((3, 5, 6, 5, 2)), order=1, unit="m/s"),
            StoredField("mask", random.random((6, 5)), sample_varying=False, time_varying=False),
        ),
    )
    write_shard(tmp_path / "moving" / "data" / "train" / "moving_0.hdf5", content)
    return tmp_path / "moving", content
