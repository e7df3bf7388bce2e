"""neuraloperator's .pt files: one file a split, channels where there are several, and nothing but tensors loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert
from fieldwright.errors import DataError
from reading import Converted

RANDOM = torch.Generator().manual_seed(0)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=dtype)


def test_darcy_has_a_boolean_coefficient_and_a_file_to_train_and_to_test(tmp_path: Path):
    x, y = random(8, 16, 16) > 0, random(8, 16, 16)
    torch.save({"x": x[:6], "y": y[:6]}, tmp_path / "darcy_train_16.pt")
    torch.save({"x": x[6:], "y": y[6:]}, tmp_path / "darcy_test_16.pt")
    found = Converted(tmp_path)
    assert (found.summary.source_format, found.summary.samples) == ("neuralop", {"train": 6, "test": 2})
    assert found.summary.fields == ["input x", "output y"]
    np.testing.assert_array_equal(found.field("x"), x[:6].float())
    np.testing.assert_array_equal(found.field("y", "test"), y[6:])
    assert FieldDataset(found.root).grid.centring == "node"


def test_burgers_has_times_behind_the_samples_and_a_viscosity(tmp_path: Path):
    x, y = random(8, 16, dtype=torch.float64), random(8, 17, 16, dtype=torch.float64)
    torch.save({"x": x, "y": y, "visc": torch.tensor([[0.01]])}, tmp_path / "burgers_train_16.pt")
    found = Converted(tmp_path / "burgers_train_16.pt")
    assert found.summary.times == 17
    np.testing.assert_array_equal(found.field("y"), y.float())
    np.testing.assert_array_equal(found.field("x"), x.float())
    assert found.scalar("visc") == np.float32(0.01)
    assert found.walls() == {"x_periodic periodic"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_channels_and_other_types_are_read(tmp_path: Path, dtype: torch.dtype):
    x, y = (100 * random(5, 3, 8, 6)).to(dtype), (100 * random(5, 1, 8, 6)).to(dtype)
    torch.save({"x": x, "y": y}, tmp_path / "nsforcing_train_8.pt")
    found = Converted(tmp_path / "nsforcing_train_8.pt")
    assert found.summary.fields == ["input x_0", "input x_1", "input x_2", "output y"]
    np.testing.assert_array_equal(found.field("x_2"), x[:, 2].float())
    np.testing.assert_array_equal(found.field("y"), y[:, 0].float())


def test_legacy_file_that_is_no_archive_is_read(tmp_path: Path):
    x = random(4, 8, 8)
    torch.save({"x": x, "y": -x}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(Converted(tmp_path / "old.pt").field("y"), -x)


def test_what_is_written_is_what_their_loader_takes(make, tmp_path: Path):
    summary = convert(make("steady"), tmp_path / "files", format="neuralop")
    assert summary.files == ["Steady_train_6.pt", "Steady_valid_6.pt", "Steady_test_6.pt"]
    contents = torch.load(tmp_path / "files" / "Steady_test_6.pt", weights_only=True)
    inputs, outputs = FieldDataset(tmp_path / "ours/steady", "test").arrays()
    assert torch.equal(contents["x"], inputs[:, 0])  # the rate is a number, not a field
    assert torch.equal(contents["y"], outputs[:, 0])
    convert(make("flow"), tmp_path / "flow", format="neuralop")
    contents = torch.load(tmp_path / "flow" / "flow_train_6.pt", weights_only=True)
    assert (contents["x"].shape, contents["y"].shape) == ((7, 4, 6, 5), (7, 3, 3, 6, 5))
    assert torch.equal(contents["x"][:, :3], contents["y"][:, :, 0])
    assert not list((tmp_path / "flow").glob("*.partial*"))


def test_missing_test_file_is_mentioned(make, tmp_path: Path):
    lost = convert(make("steady"), tmp_path / "files", format="neuralop", split="train=1").lost
    assert any("need a test file too" in sentence for sentence in lost)


class Trap:
    def __reduce__(self) -> tuple:
        return (open, ("trap-was-sprung", "w"))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"x": Trap(), "y": torch.zeros(3)}, "holds objects of Python, which are never loaded"),
        ([torch.zeros(3)], "holds a list, not tensors by name"),
        ({"a": torch.zeros(3)}, "holds no tensor 'x'; it has a"),
        ({"x": torch.zeros(3, 4, 5, 6, 7), "y": torch.zeros(3, 4)}, "cannot be told"),
        ({"x": torch.zeros(3, 4), "y": torch.zeros(2, 4)}, "has 2 samples, but 'x' has 3"),
    ],
)
def test_files_of_another_make_are_one_sentence(in_tmp: Path, contents: object, words: str):
    torch.save(contents, "set_train_4.pt")
    with pytest.raises(DataError, match=words) as caught:
        convert("set_train_4.pt", "target")
    assert "set_train_4.pt" in str(caught.value)
    assert not Path("trap-was-sprung").exists()


def test_damaged_files_are_one_sentence(tmp_path: Path):
    torch.save({"x": random(4, 8, 8), "y": random(4, 8, 8)}, tmp_path / "set.pt")
    whole = (tmp_path / "set.pt").read_bytes()
    for content in (b"", whole[:300], whole[:-400], b"\x80\x02garbage", whole[:60] + bytes(300) + whole[360:]):
        (tmp_path / "set.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"set\.pt"):
            convert(tmp_path / "set.pt", tmp_path / "target", source_format="neuralop")
