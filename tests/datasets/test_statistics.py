"""stats.yaml holds the moments of all samples, times and points, as plain NumPy gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets import ShardContent
from fieldwright.datasets.layout import read_layouts
from fieldwright.datasets.statistics import Moments, statistics, write_statistics


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 2**32 - 1), st.floats(-1e6, 1e6))
def test_merged_moments_are_those_of_the_whole(sizes: list[int], seed: int, offset: float):
    whole = np.random.default_rng(seed).standard_normal((sum(sizes), 2)) + offset
    moments = Moments()
    for block in np.split(whole, np.cumsum(sizes)[:-1]):
        moments.merge(block)
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.std, whole.std(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moments.rms, np.sqrt(np.square(whole).mean(0)), rtol=1e-12)


def test_statistics_of_scalars_vectors_and_constant_fields(moving: tuple[Path, ShardContent]):
    root, content = moving
    write_statistics(root)
    table = yaml.safe_load((root / "stats.yaml").read_text())
    density, velocity, mask = (np.float32(entry.values).astype(np.float64) for entry in content.fields)
    assert table["mean"]["density"] == pytest.approx(density.mean(), rel=1e-10)
    assert table["std"]["velocity"] == pytest.approx(velocity.reshape(-1, 2).std(0).tolist(), rel=1e-10)
    assert table["rms"]["mask"] == pytest.approx(np.sqrt(np.square(mask).mean()), rel=1e-10)
    changes = np.diff(velocity, axis=1).reshape(-1, 2)
    assert table["mean_delta"]["velocity"] == pytest.approx(changes.mean(0).tolist(), rel=1e-9)
    assert table["rms_delta"]["velocity"] == pytest.approx(np.sqrt(np.square(changes).mean(0)).tolist(), rel=1e-10)
    assert set(table["std_delta"]) == {"density", "velocity"}
    assert set(table["std"]) == {"density", "velocity", "mask"}


def test_statistics_of_a_steady_dataset_span_its_shards_and_both_pseudo_times(dataset: Path):
    files = sorted((dataset / "data" / "train").glob("*.hdf5"))
    assert len(files) == 3
    table = statistics(read_layouts(files))
    assert table == yaml.safe_load((dataset / "stats.yaml").read_text())
    # The guess is zero, so over both frames the mean of u is half that of the solution, a quarter of that of a.
    assert table["mean"]["u"] == pytest.approx(table["mean"]["a"] / 4, rel=1e-6)
    assert table["mean_delta"]["u"] == pytest.approx(table["mean"]["a"] / 2, rel=1e-6)


def test_numbers_are_numbers_to_yaml(dataset: Path):
    table = yaml.safe_load((dataset / "stats.yaml").read_text())
    assert all(isinstance(value, float) for part in table.values() for value in part.values())
