"""One look at a dataset tells what it holds and every damage, and draws what can be looked at in grey."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from tiny_problem import Halving

from fieldwright.datasets import ShardContent, draw_samples, generate, inspect
from fieldwright.datasets.draw import _COLOURS
from fieldwright.errors import DataError


def test_sound_dataset_is_described(dataset: Path):
    found = inspect(dataset)
    assert found.sound
    assert (found.name, found.shape, found.worst_residual) == ("halving", (8, 8), 1e-12)
    assert {split: facts.samples for split, facts in found.splits.items()} == {"train": 10, "valid": 3, "test": 4}
    assert {split: facts.verified for split, facts in found.splits.items()} == {"train": 3, "valid": 1, "test": 1}
    a, u = found.fields
    assert (a.name, a.role, a.unit, u.name, u.role, u.unit) == ("a", "input", "m", "u", "output", "Pa")
    assert (u.mean, u.std, u.least) == pytest.approx((a.mean / 2, a.std / 2, a.least / 2), rel=1e-6)
    text = "\n".join(found.lines())
    assert "seed 7, solver halving" in text
    assert "3 of 3 checksums hold" in text
    assert json.loads(json.dumps(found.to_dict()))["sound"] is True


def test_run_directory_and_foreign_dataset_are_accepted(dataset: Path, moving: tuple[Path, ShardContent]):
    (dataset.parent / "run").mkdir()
    dataset.rename(dataset.parent / "run" / "dataset")
    assert inspect(dataset.parent / "run").sound
    found = inspect(moving[0])
    assert (found.plan, found.worst_residual, found.splits["train"].verified) == (None, None, 0)
    assert {field.role for field in found.fields} == {"field"}
    assert "moving" in "\n".join(found.lines())


def test_all_damage_is_told_at_once(dataset: Path):
    train = dataset / "data" / "train"
    changed = bytearray((train / "halving_00000.hdf5").read_bytes())
    changed[-1] ^= 1
    (train / "halving_00000.hdf5").write_bytes(changed)
    (train / "halving_00001.hdf5").unlink()
    (train / "stray.hdf5").write_text("not a shard")
    found = inspect(dataset)
    assert not found.sound
    text = "\n".join(found.troubles)
    assert "halving_00000.hdf5: is damaged, its checksum has changed" in text
    assert "1 of 5 shards are missing" in text
    assert "stray.hdf5: is not an HDF5 file" in text
    assert sum("TROUBLE" in line for line in found.lines()) == 3


def test_samples_that_failed_are_listed(tmp_path: Path):
    generate(Halving(stuck=[1]), tmp_path, counts={"train": 3}, seed=0)
    assert inspect(tmp_path).failed == {"train": [1]}
    assert "1 samples did not converge and are not stored: [1]" in "\n".join(inspect(tmp_path).lines())


def test_no_dataset_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="holds no dataset"):
        inspect(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        inspect(tmp_path / "nowhere")


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_samples_are_drawn_in_every_dimension(tmp_path: Path, dimension: int):
    generate(Halving(dimension=dimension), tmp_path, counts={"valid": 2}, seed=0)
    path = draw_samples(tmp_path, tmp_path / "samples.png")
    picture = imread(path)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 400
    assert picture[..., :3].std() > 0.05


def test_colours_grow_lighter_throughout_so_that_grey_paper_shows_the_same(dataset: Path):
    colours = matplotlib.colormaps[_COLOURS](np.linspace(0, 1, 64))[:, :3]
    brightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()
