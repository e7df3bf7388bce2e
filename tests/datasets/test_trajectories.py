"""Trajectories on disk: vectors, fields that stay, numbers and clocks, in The Well's layout and back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from decay_problem import Decay, Forced
from fieldwright.datasets import FieldDataset, draw_samples, generate
from fieldwright.datasets.plan import read_plan
from fieldwright.errors import InputError
from fieldwright.problems import ShallowWater

COUNTS = {"train": 6, "valid": 2, "test": 2}


@pytest.fixture(scope="module")
def decays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "decays"
    generate(Decay(), root, counts=COUNTS, seed=3, rtol=1e-6, shard_samples=4)
    return root


def test_file_holds_a_vector_over_time_a_field_that_stays_and_a_number_per_sample(decays: Path) -> None:
    problem = Decay()
    inputs = problem.sample(range(4), 3)
    states, _ = problem.trajectory(inputs, rtol=1e-6, method=read_plan(decays).method)  # type: ignore[union-attr]
    with h5py.File(decays / "data/train/decay_00000.hdf5") as file:
        assert list(file["t1_fields"].attrs["field_names"]) == ["w"]
        assert file["t1_fields/w"].shape == (4, 5, 8, 8, 2)
        np.testing.assert_array_equal(file["t1_fields/w"][:], states.movedim(2, -1).float().numpy())
        assert file["t0_fields/map"].shape == (4, 8, 8)
        assert not file["t0_fields/map"].attrs["time_varying"]
        assert file["scalars/k"].attrs["sample_varying"]
        assert file["scalars/k"][:].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(file["dimensions/time"][:], problem.times)
        assert not file.attrs["fieldwright_steady"]
        assert (file["fieldwright/residual"][:] <= 1e-6).all()


def test_reading_gives_windows_whose_channels_are_the_problems_inputs_and_outputs(decays: Path) -> None:
    problem, dataset = Decay(), FieldDataset(decays, "train")
    assert dataset.input_names == [f.name for f in problem.inputs] == ["w_x", "w_y", "k", "map"]
    assert dataset.output_names == ["w_x", "w_y"]
    assert len(dataset) == COUNTS["train"] * problem.frames
    inputs, outputs = dataset.batch([5 * problem.frames - 1])  # the last window of sample 4
    expected = problem.sample([4], 3)
    states, _ = problem.trajectory(expected, rtol=1e-6, method=read_plan(decays).method)  # type: ignore[union-attr]
    assert torch.equal(outputs[0], states[0, -1].float())
    assert torch.equal(inputs[0, :2], states[0, -2].float())
    by_name = dict(zip(dataset.input_names, inputs[0], strict=True))
    assert by_name["k"].unique().tolist() == [5.0]
    assert torch.equal(by_name["map"], expected[0, 3].float())


def test_clock_is_stored_once_and_read_as_the_time_of_each_window(tmp_path: Path) -> None:
    generate(Forced(), tmp_path, counts=COUNTS, seed=0, rtol=1e-6)
    dataset = FieldDataset(tmp_path, "train")
    assert dataset.input_names == ["u", "start"]
    inputs, outputs = dataset.batch(range(4, 8))  # all windows of sample 1
    np.testing.assert_allclose(inputs[:, 1, 0], Forced().times[:-1], rtol=1e-6)
    np.testing.assert_allclose(outputs[:, 0, 0], 1 + Forced().times[1:].sin(), rtol=1e-5)


def test_what_blows_up_is_reported_by_index_and_never_stored(tmp_path: Path) -> None:
    summary = generate(Decay(blows_up=2, steps=16), tmp_path, counts=COUNTS, seed=0)
    assert summary.failed["train"] == [2]
    assert summary.samples["train"] == 5
    dataset = FieldDataset(tmp_path, "train")
    assert float(dataset.outputs[:].max()) < 2


def test_a_trajectory_is_its_initial_state_and_the_outputs_of_its_windows(decays: Path) -> None:
    dataset = FieldDataset(decays, "train")
    assert dataset.trajectories == COUNTS["train"]
    for index in (0, 3, 4, 5):  # the last of one shard and the first of the next among them
        times, states = dataset.trajectory(index)
        np.testing.assert_allclose(times, Decay().times)
        inputs, outputs = dataset.batch(range(4 * index, 4 * index + 4))
        assert torch.equal(states[0], inputs[0, :2])
        assert torch.equal(states[1:], outputs)
    with pytest.raises(InputError, match="trajectory 6 of the split 'train'; it has 6"):
        dataset.trajectory(6)


@pytest.mark.parametrize("problem", [Decay(), Forced()])
def test_trajectories_are_drawn_over_time(tmp_path: Path, problem) -> None:
    generate(problem, tmp_path, counts={"valid": 2}, seed=0, rtol=1e-4)
    picture = imread(draw_samples(tmp_path, tmp_path / "samples.png"))
    panels = 2 * 4 + 1 if isinstance(problem, Decay) else 1
    assert picture.shape[1] == pytest.approx(340 * panels, rel=0.02)
    assert picture[..., :3].std() > 0.05


def test_open_sides_are_stored_as_open_and_the_others_as_what_they_are(tmp_path: Path) -> None:
    problem = ShallowWater(resolution=8, walls=[["outflow", "reflecting"], "periodic"], frames=1, duration=0.01)
    generate(problem, tmp_path, counts={"train": 1}, seed=0)
    with h5py.File(next((tmp_path / "data/train").glob("*.hdf5"))) as file:
        found = {name: str(entry.attrs["bc_type"]) for name, entry in file["boundary_conditions"].items()}
        assert found == {"x_open_low": "OPEN", "x_wall_high": "WALL", "y_periodic": "PERIODIC"}
        assert file["boundary_conditions/x_open_low/mask"][:].tolist() == [True] + 7 * [False]
