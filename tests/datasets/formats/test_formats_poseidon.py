"""Poseidon's sets are read by the layout that each name stands for, and written so that others open them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert
from fieldwright.datasets.formats.poseidon import set_of_name
from fieldwright.errors import DataError
from reading import Converted

RANDOM = np.random.default_rng(0)


def write(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values.astype(np.float32), chunks=(1, *values.shape[1:]))
    return path


@pytest.mark.parametrize("name", ["NS-Sines", "NS-PwC", "NS-BB"])
def test_incompressible_flow_has_a_velocity_and_perhaps_a_tracer(tmp_path: Path, name: str):
    velocity = RANDOM.standard_normal((20, 5, 3 if name == "NS-PwC" else 2, 8, 8))
    found = Converted(write(tmp_path / f"{name}.nc", velocity=velocity))
    assert found.summary.samples == {"train": 17, "valid": 1, "test": 2}
    np.testing.assert_array_equal(found.field("velocity"), np.float32(velocity[:17, :, :2].transpose(0, 1, 3, 4, 2)))
    np.testing.assert_array_equal(found.line("time"), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(found.line("x"), np.arange(8) / 8)
    assert found.summary.fields == ["output velocity"] + ["output tracer"] * (name == "NS-PwC")
    if name == "NS-PwC":
        np.testing.assert_array_equal(found.field("tracer", "test"), np.float32(velocity[18:, :, 2]))


def test_shear_layer_is_stored_with_its_axes_swapped(tmp_path: Path):
    velocity = RANDOM.standard_normal((3, 4, 2, 6, 8))
    found = Converted(write(tmp_path / "NS-SL.nc", velocity=velocity))
    assert found.summary.shape == (8, 6)
    np.testing.assert_array_equal(found.field("velocity"), np.float32(velocity.transpose(0, 1, 4, 3, 2)))
    assert any("y, x" in note for note in found.summary.notes)


def test_kolmogorov_flow_gets_the_forcing_that_its_loader_makes(tmp_path: Path):
    found = Converted(write(tmp_path / "FNS-KF.nc", solution=RANDOM.standard_normal((3, 4, 2, 8, 8))))
    x, y = np.meshgrid(np.linspace(0, 1, 8), np.linspace(0, 1, 8), indexing="ij")
    np.testing.assert_allclose(found.field("forcing"), 0.1 * np.sin(2 * np.pi * (x + y)), rtol=0, atol=1e-8)
    assert FieldDataset(found.root).input_names == ["velocity_x", "velocity_y", "forcing"]


@pytest.mark.parametrize(
    ("name", "key", "channels"), [("CE-RP", "data", 5), ("CE-RM", "solution", 4), ("CE-KH", "data", 4)]
)
def test_compressible_flow_has_density_velocity_pressure(tmp_path: Path, name: str, key: str, channels: int):
    data = RANDOM.standard_normal((3, 4, channels, 8, 8))
    found = Converted(write(tmp_path / f"{name}.nc", **{key: data}))
    names = ["density", "velocity", "pressure", "tracer"][: channels - 1]
    assert found.summary.fields == [f"output {field}" for field in names]
    np.testing.assert_array_equal(found.field("pressure"), np.float32(data[:, :, 3]))
    np.testing.assert_array_equal(found.field("velocity")[..., 1], np.float32(data[:, :, 2]))


def test_gravity_has_its_potential_and_leaves_out_what_their_loader_does(tmp_path: Path):
    solution = RANDOM.standard_normal((3, 11, 6, 8, 8))
    found = Converted(write(tmp_path / "GCE-RT.nc", solution=solution))
    np.testing.assert_array_equal(found.field("potential"), np.float32(solution[:, :, 5]))
    assert any("channels [4] of 'solution'" in note for note in found.summary.notes)


@pytest.mark.parametrize("name", ["Wave-Layer", "Wave-Gauss"])
def test_waves_have_their_speed_as_a_constant_input(tmp_path: Path, name: str):
    solution, c = RANDOM.standard_normal((3, 6, 8, 8)), RANDOM.random((3, 8, 8))
    found = Converted(write(tmp_path / f"{name}.nc", solution=solution, c=c))
    assert (found.summary.fields, found.steady) == (["output u", "input c"], False)
    np.testing.assert_array_equal(found.field("u"), np.float32(solution))
    np.testing.assert_array_equal(found.field("c"), np.float32(c))


def test_steady_sets(tmp_path: Path):
    one, two = RANDOM.standard_normal((2, 4, 8, 8))
    found = Converted(write(tmp_path / "Poisson-Gauss.nc", source=one, solution=two))
    assert (found.summary.fields, found.steady) == (["input source", "output solution"], True)
    np.testing.assert_array_equal(found.field("solution"), np.float32(two))
    assert found.walls() == {"x_wall dirichlet", "y_wall dirichlet"}
    found = Converted(write(tmp_path / "SE-AF.nc", solution=np.stack([one, two], 1)))
    assert (found.summary.fields, found.steady) == (["input shape", "output density"], True)
    np.testing.assert_array_equal(found.field("density"), np.float32(two))
    found = Converted(write(tmp_path / "ACE.nc", solution=RANDOM.standard_normal((3, 5, 8, 8))))
    assert found.summary.fields == ["output u"]


def test_helmholtz_has_a_group_per_sample_and_a_number_that_becomes_a_channel(tmp_path: Path):
    a, u, bc = RANDOM.random((12, 8, 8)), RANDOM.random((12, 8, 8)), RANDOM.random(12)
    with h5py.File(tmp_path / "Helmholtz.h5", "w") as file:
        for i in range(12):  # Sample_10 comes before Sample_2 in the file
            for name, values in (("a", a[i]), ("u", u[i]), ("bc", bc[i])):
                file.create_dataset(f"Sample_{i}/{name}", data=values)
    found = Converted(tmp_path / "Helmholtz.h5", split="train=1")
    np.testing.assert_array_equal(found.field("a"), np.float32(a))
    np.testing.assert_array_equal(found.field("u"), np.float32(u))
    data = FieldDataset(found.root)
    assert data.input_names == ["a", "bc"]
    np.testing.assert_array_equal(data.inputs[:, 1, 3, 3], np.float32(bc))


@pytest.mark.parametrize(
    ("name", "arrays", "words"),
    [
        ("NS-Sines", {"speed": (3, 4, 2, 8, 8)}, "holds no array 'velocity'; it has speed"),
        ("NS-Sines", {"velocity": (3, 4, 8, 8)}, "'velocity' has 4 axes; 5 are this set's"),
        (
            "Wave-Gauss",
            {"solution": (3, 4, 8, 8), "c": (2, 8, 8)},
            "'c' of shape (2, 8, 8) has 2 samples where the set has 3",
        ),
        ("Helmholtz", {"a": (3, 8, 8)}, "holds no group Sample_0"),
    ],
)
def test_files_of_another_make_are_one_sentence(tmp_path: Path, name: str, arrays: dict, words: str):
    path = write(tmp_path / f"{name}.nc", **{key: np.zeros(shape) for key, shape in arrays.items()})
    with pytest.raises(DataError) as caught:
        convert(path, tmp_path / "target")
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_name_of_no_set_is_refused_when_poseidon_is_asked_for(tmp_path: Path):
    path = write(tmp_path / "mine.nc", solution=np.zeros((3, 4, 8, 8)))
    with pytest.raises(DataError, match="its name is that of none of Poseidon's sets: NS-SL, NS-, FNS-KF"):
        convert(path, tmp_path / "target", source_format="poseidon")
    assert [set_of_name(stem) for stem in ("NS-SL", "NS-Gauss", "CE-RPUI", "ns-sines", "GCE-RT_2")] == [
        "NS-SL", "NS-", "CE-", "", "GCE-RT"
    ]  # fmt: skip


def test_what_is_written_has_their_variables_and_opens_in_xarray(make, tmp_path: Path):
    convert(make("steady"), tmp_path / "steady.nc")
    with h5py.File(tmp_path / "steady.nc") as file:
        assert (file["source"].shape, file["solution"].shape) == ((12, 6, 5), (12, 6, 5))
    convert(make("vorticity"), tmp_path / "w.nc")
    with h5py.File(tmp_path / "w.nc") as file, h5py.File(tmp_path / "ours/vorticity/data/test/a_0.hdf5") as test:
        np.testing.assert_array_equal(file["solution"][-3:], test["t0_fields/w"])
    with h5py.File(make("flow") / "data/train/a_0.hdf5", "r+") as file:
        del file["t0_fields/mask"], file["t0_fields/density"]
        file["t0_fields"].attrs["field_names"] = np.array([], h5py.string_dtype())
    convert(tmp_path / "ours/flow/data/train/a_0.hdf5", tmp_path / "flow.nc")
    with h5py.File(tmp_path / "flow.nc") as file:
        assert file["velocity"].shape == (7, 3, 2, 6, 5)
    xarray = pytest.importorskip("xarray", reason="xarray comes with the extra formats")
    with xarray.open_dataset(tmp_path / "flow.nc", engine="h5netcdf", decode_times=False) as opened:
        assert opened["velocity"].dims == ("sample", "time", "channel", "x", "y")
        np.testing.assert_array_equal(opened["time"], [0, 0.5, 1.5])
        assert opened["velocity"].attrs["units"] == "m/s"
