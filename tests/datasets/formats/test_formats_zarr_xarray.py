"""Zarr of both formats and NetCDF of both kinds: axes are taken by their names, and units are kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert
from fieldwright.errors import DataError, InputError
from reading import Converted

xarray = pytest.importorskip("xarray", reason="xarray comes with the extra formats")
zarr = pytest.importorskip("zarr", reason="zarr comes with the extra formats")
pytest.importorskip("h5netcdf", reason="h5netcdf comes with the extra formats")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr", "ignore::FutureWarning")

RANDOM = np.random.default_rng(0)
X, Y, TIMES = np.linspace(0, 2, 6), np.linspace(-1, 1, 5), np.array([0.0, 0.5, 1.25])


def heat() -> xarray.Dataset:
    """Axes of time, y, x and samples in an order of nobody's; a conductivity for all times, a number per sample."""
    return xarray.Dataset(
        {
            "temperature": (("time", "y", "x", "sample"), RANDOM.standard_normal((3, 5, 6, 4)), {"units": "K"}),
            "conductivity": (("x", "sample", "y"), RANDOM.random((6, 4, 5)), {"units": "W/m/K", "long_name": "k"}),
            "rate": (("sample",), RANDOM.random(4), {"units": "1/s"}),
            "label": (("sample",), np.array(list("abcd"))),
        },
        coords={"x": X, "y": ("y", Y, {"units": "m"}), "time": ("time", TIMES, {"units": "days since 2000-01-01"})},
    )


def check_heat(found: Converted, expected: xarray.Dataset) -> None:
    assert found.summary.fields == ["input conductivity", "output temperature"]
    temperature = expected["temperature"].transpose("sample", "time", "x", "y").values
    conductivity = expected["conductivity"].transpose("sample", "x", "y").values
    np.testing.assert_array_equal(found.field("temperature"), np.float32(temperature))
    np.testing.assert_array_equal(found.field("conductivity"), np.float32(conductivity))
    np.testing.assert_array_equal(found.scalar("rate"), np.float32(expected["rate"]))
    for name, line in (("x", X), ("y", Y), ("time", TIMES)):
        np.testing.assert_array_equal(found.line(name), np.float32(line))
    assert found.attribute("temperature", "unit") == "K"
    assert found.attribute("conductivity", "description") == "k"
    assert any("left out: 'label'" in note for note in found.summary.notes)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_both_formats_by_the_names_of_its_axes(tmp_path: Path, version: int):
    data = heat()
    encoding = {"temperature": {"chunks": (1, 5, 6, 4)}}
    data.to_zarr(tmp_path / "heat.zarr", zarr_format=version, encoding=encoding, consolidated=version == 2)
    found = Converted(tmp_path / "heat.zarr")
    assert found.summary.source_format == "zarr"
    check_heat(found, data)


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_netcdf_of_both_kinds_by_the_names_of_its_axes(tmp_path: Path, engine: str):
    data = heat()
    data.to_netcdf(tmp_path / "heat.nc", engine=engine)
    found = Converted(tmp_path / "heat.nc")
    assert found.summary.source_format == "netcdf"
    check_heat(found, data)


def test_packed_integers_come_in_their_units(tmp_path: Path):
    data = xarray.Dataset({"u": (("time", "x"), np.round(RANDOM.random((3, 6)) * 100) / 100)}, {"x": X, "time": TIMES})
    packing = {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -1}
    data.to_netcdf(tmp_path / "u.nc", engine="h5netcdf", encoding={"u": packing})
    np.testing.assert_allclose(Converted(tmp_path / "u.nc").field("u")[0], data["u"], atol=1e-6)


def test_single_run_without_samples_is_one_trajectory_and_several_join(tmp_path: Path):
    runs = RANDOM.standard_normal((2, 3, 6))
    for i in range(2):
        data = xarray.Dataset({"u": (("time", "x"), runs[i])}, {"x": X, "time": TIMES})
        data.to_netcdf(tmp_path / f"run_{i}.nc", engine="h5netcdf")
    found = Converted(tmp_path)
    np.testing.assert_array_equal(found.field("u"), np.float32(runs))
    assert len(FieldDataset(found.root)) == 4


def test_runs_in_two_units_do_not_join(tmp_path: Path):
    for unit in ("K", "degC"):
        data = xarray.Dataset({"u": (("time", "x"), np.zeros((3, 6)), {"units": unit})}, {"x": X, "time": TIMES})
        data.to_netcdf(tmp_path / f"run_{unit}.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"run_degC\.nc: its fields are \['output u \[degC\].*, but \['output u \[K\]"):
        convert(tmp_path, tmp_path / "target")


def test_zarr_without_names_takes_its_axes_from_its_user(tmp_path: Path):
    values = RANDOM.standard_normal((7, 3, 6)).astype(np.float32)
    for version in (2, 3):
        group = zarr.open_group(tmp_path / f"v{version}.zarr", mode="w", zarr_format=version)
        group.create_array("u", shape=values.shape, chunks=(7, 1, 6), dtype="f4")[:] = values
        found = Converted(tmp_path / f"v{version}.zarr", roles=["u=output:ntx"], shard_bytes=200)
        data = FieldDataset(found.root)
        np.testing.assert_array_equal(data.outputs[:, 0], values[:, 1:].reshape(-1, 6))
    alone = zarr.create_array(tmp_path / "alone.zarr", shape=(4, 3, 6), dtype="f8")
    alone[:] = 2.0
    assert (Converted(tmp_path / "alone.zarr", roles=["alone=output:ntx"]).field("alone") == 2).all()


def test_axes_of_other_names_are_said(tmp_path: Path):
    data = xarray.Dataset({"u": (("case", "tau", "xi"), RANDOM.random((4, 3, 6)))})
    data.to_netcdf(tmp_path / "u.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"has an axis 'case' of no known name; .*--map case=sample"):
        convert(tmp_path / "u.nc", tmp_path / "target")
    found = Converted(tmp_path / "u.nc", roles=["case=sample", "tau=time", "xi=x"], grid="periodic")
    np.testing.assert_array_equal(found.field("u"), np.float32(data["u"]))
    with pytest.raises(DataError, match="two of its axes"):
        convert(tmp_path / "u.nc", tmp_path / "target", roles=["case=sample", "tau=sample", "xi=x"])
    with pytest.raises(DataError, match="holds no variable or axis 'csae'; did you mean 'case'"):
        convert(tmp_path / "u.nc", tmp_path / "target", roles=["csae=sample"])


def test_channels_and_steady_sets_by_names(tmp_path: Path):
    data = xarray.Dataset(
        {
            "permeability": (("sample", "x", "y"), RANDOM.random((4, 6, 5))),
            "pressure": (("sample", "channel", "x", "y"), RANDOM.random((4, 2, 6, 5))),
        },
        {"x": X, "y": Y},
    )
    data.to_netcdf(tmp_path / "darcy.nc", engine="h5netcdf")
    found = Converted(tmp_path / "darcy.nc")
    assert (found.steady, found.summary.fields) == (
        True, ["input permeability", "output pressure_0", "output pressure_1"]
    )  # fmt: skip
    np.testing.assert_array_equal(found.field("pressure_1"), np.float32(data["pressure"][:, 1]))
    data.rename(permeability="a", pressure="b").to_netcdf(tmp_path / "named.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="holds no array known as an output; name one by --map NAME=output"):
        convert(tmp_path / "named.nc", tmp_path / "target")


@pytest.mark.parametrize("package", ["xarray", "zarr", "h5netcdf"])
def test_missing_package_is_one_sentence_with_the_command(tmp_path: Path, monkeypatch, package: str):
    data = xarray.Dataset({"u": (("time", "x"), np.zeros((3, 6)))}, {"x": X, "time": TIMES})
    data.to_zarr(tmp_path / "u.zarr")
    data.to_netcdf(tmp_path / "u.nc", engine="h5netcdf")
    monkeypatch.setitem(sys.modules, package, None)
    source = tmp_path / ("u.nc" if package == "h5netcdf" else "u.zarr")
    with pytest.raises(InputError, match=rf"needs the package {package}: pip install 'fieldwright\[formats\]'"):
        convert(source, tmp_path / "target")


def test_damaged_stores_are_one_sentence(tmp_path: Path):
    heat().to_zarr(tmp_path / "heat.zarr")
    (tmp_path / "heat.zarr" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"heat\.zarr: cannot be read"):
        convert(tmp_path / "heat.zarr", tmp_path / "target")
    (tmp_path / "classic.nc").write_bytes(b"CDF\x01" + bytes(40))
    with pytest.raises(DataError, match=r"classic\.nc"):
        convert(tmp_path / "classic.nc", tmp_path / "target")
    missing = heat()
    missing["temperature"][0, 0, 0, 2] = np.nan
    missing.to_netcdf(tmp_path / "gap.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="sample 2 of 'temperature' holds a NaN"):
        convert(tmp_path / "gap.nc", tmp_path / "target")


def test_store_at_an_address(tmp_path: Path):
    data = heat()
    data.to_zarr("memory://heat.zarr")
    data.to_netcdf(tmp_path / "heat.nc", engine="h5netcdf")
    import fsspec

    fsspec.filesystem("memory").pipe("/heat.nc", (tmp_path / "heat.nc").read_bytes())
    for address in ("memory://heat.zarr", "memory://heat.nc"):
        target = tmp_path / address.rpartition(".")[2]
        convert(address, target)
        expected = np.float32(data["temperature"].transpose("sample", "time", "x", "y"))
        np.testing.assert_array_equal(FieldDataset(target).inputs[:, 0].reshape(4, 2, 6, 5), expected[:, :2])
