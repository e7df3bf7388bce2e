"""PDEBench's files of both kinds are read as they lie, with their traps, and written so that its loaders open them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from fieldwright.datasets.formats import convert, recognise
from fieldwright.errors import DataError, InputError
from reading import Converted

RANDOM = np.random.default_rng(0)


def centres(n: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return (low + (np.arange(n) + 0.5) * (high - low) / n).astype(np.float32)


def array_per_name(
    path: Path, fields: dict[str, np.ndarray], lines: dict[str, np.ndarray], **attributes: float
) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file.create_dataset(name, data=values.astype(np.float32))
        for axis, line in lines.items():
            file.create_dataset(f"{axis}-coordinate", data=line)
        file.attrs.update(attributes)
    return path


def test_burgers_has_cell_centres_one_time_too_many_and_the_first_tenth_as_test(tmp_path: Path):
    u = RANDOM.standard_normal((20, 5, 16))
    lines = {"x": centres(16), "t": np.linspace(0, 2, 6, dtype=np.float32)}
    path = array_per_name(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5", {"tensor": u}, lines)
    found = Converted(path)
    assert (found.summary.source_format, found.summary.samples) == ("pdebench", {"train": 18, "test": 2})
    np.testing.assert_array_equal(found.field("tensor", "test"), np.float32(u[:2]))
    np.testing.assert_array_equal(found.field("tensor"), np.float32(u[2:]))
    np.testing.assert_array_equal(found.line("x"), lines["x"])
    np.testing.assert_array_equal(found.line("time"), lines["t"][:5])
    assert found.walls() == {"x_periodic periodic"}
    assert found.scalar("Nu") == np.float32(0.01)
    assert not found.steady


def test_darcy_has_no_times_and_is_steady(tmp_path: Path):
    nu, tensor = RANDOM.choice([0.1, 1.0], (10, 8, 8)), RANDOM.standard_normal((10, 1, 8, 8))
    lines = {"x": centres(8), "y": centres(8)}
    path = array_per_name(tmp_path / "2D_DarcyFlow_beta0.1_Train.hdf5", {"nu": nu, "tensor": tensor}, lines, beta=0.1)
    found = Converted(path)
    assert found.steady
    assert found.summary.fields == ["input nu", "output tensor"]
    np.testing.assert_array_equal(found.field("nu"), np.float32(nu[1:]))
    np.testing.assert_array_equal(found.field("tensor"), np.float32(tensor[1:, 0]))
    assert found.walls() == {"x_wall dirichlet", "y_wall dirichlet"}
    assert found.scalar("beta") == np.float32(0.1)


@pytest.mark.parametrize(("kind", "wall"), [("periodic", "x_periodic periodic"), ("trans", "x_open")])
def test_flow_in_two_dimensions_has_a_velocity_of_two_components(tmp_path: Path, kind: str, wall: str):
    fields = {name: RANDOM.standard_normal((3, 4, 8, 6)) for name in ("density", "pressure", "Vx", "Vy")}
    lines = {"x": centres(8), "y": centres(6), "t": np.linspace(0, 0.2, 5, dtype=np.float32)}
    path = tmp_path / f"2D_CFD_Rand_M0.1_Eta1e-08_Zeta0.01_{kind}_128_Train.hdf5"
    array_per_name(path, fields, lines, eta=1e-8, zeta=0.01, M=0.1)
    found = Converted(path, split="train=1")
    np.testing.assert_array_equal(found.field("velocity"), np.float32(np.stack([fields["Vx"], fields["Vy"]], -1)))
    np.testing.assert_array_equal(found.field("pressure"), np.float32(fields["pressure"]))
    assert {found.scalar(name).item() for name in ("eta", "zeta", "M")} == {
        np.float32(v).item() for v in (1e-8, 0.01, 0.1)
    }
    assert wall in found.walls()


def test_flow_in_one_dimension_has_a_velocity_of_one_component(tmp_path: Path):
    fields = {name: RANDOM.standard_normal((3, 4, 8)) for name in ("density", "pressure", "Vx")}
    lines = {"x": centres(8, -1, 1), "t": np.linspace(0, 1, 5, dtype=np.float32)}
    path = array_per_name(tmp_path / "1D_CFD_Shock_Eta1e-08_Zeta1e-08_trans_Train.hdf5", fields, lines, eta=1e-8)
    found = Converted(path, split="train=1")
    np.testing.assert_array_equal(found.field("velocity"), np.float32(fields["Vx"])[..., None])
    np.testing.assert_array_equal(found.line("x"), lines["x"])
    assert found.walls() == {"x_open"}


def group_per_sample(path: Path, data: np.ndarray, lines: dict[str, np.ndarray], **sim: list[float]) -> Path:
    with h5py.File(path, "w") as file:
        for i in range(len(data)):
            group = file.create_group(f"{i:04d}")
            group.create_dataset("data", data=data[i].astype(np.float32), compression="lzf")
            for axis, line in lines.items():
                group.create_dataset(f"grid/{axis}", data=line)
            group.attrs["config"] = yaml.safe_dump({"sim": {name: values[i] for name, values in sim.items()}})
    return path


def test_diffusion_reaction_is_stored_with_y_first_and_the_last_tenth_is_test(tmp_path: Path):
    data = RANDOM.standard_normal((20, 4, 6, 6, 2))
    lines = {"x": centres(6, -1, 1), "y": centres(6, -1, 1), "t": np.linspace(0, 5, 5, dtype=np.float32)}
    path = group_per_sample(tmp_path / "2D_diff-react_NA_NA.h5", data, lines, k=[0.005] * 20, seed=list(range(20)))
    found = Converted(path)
    assert found.summary.samples == {"train": 18, "test": 2}
    np.testing.assert_array_equal(found.field("u"), np.float32(data[:18, ..., 0]).transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(found.field("v", "test"), np.float32(data[18:, ..., 1]).transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(found.line("time"), lines["t"][:4])
    np.testing.assert_array_equal(found.line("x"), lines["x"])
    np.testing.assert_array_equal(found.scalar("seed", "test"), [18, 19])
    assert found.scalar("k") == np.float32(0.005)
    assert found.walls() == {"x_wall neumann", "y_wall neumann"}
    assert any("y, x" in note for note in found.summary.notes)


@pytest.mark.parametrize(("stem", "name"), [("1D_diff-sorp_NA_NA", "u"), ("2D_rdb_NA_NA", "h"), ("unknown", "data_0")])
def test_groups_are_read_in_the_order_of_their_names_as_text(tmp_path: Path, stem: str, name: str):
    data = RANDOM.standard_normal((12, 3, 8, 1)) if "1D" in stem else RANDOM.standard_normal((12, 3, 8, 8, 1))
    lines = {"x": centres(8), "y": centres(8), "t": np.arange(3, dtype=np.float32)}
    lines = {axis: line for axis, line in lines.items() if axis != "y" or data.ndim == 5}
    found = Converted(group_per_sample(tmp_path / f"{stem}.h5", data, lines), split="train=1")
    np.testing.assert_array_equal(found.field(name), np.float32(data[..., 0]))


def test_incompressible_flow_joins_the_files_of_its_seeds(tmp_path: Path):
    velocity, force = RANDOM.standard_normal((2, 4, 5, 8, 8, 2)), RANDOM.standard_normal((2, 4, 8, 8, 2))
    particles = RANDOM.random((2, 4, 5, 8, 8, 1))
    for seed in (0, 1):
        with h5py.File(tmp_path / f"ns_incom_inhom_2d_512-{seed}.h5", "w") as file:
            options = {"compression": "lzf", "shuffle": True}
            file.create_dataset("velocity", data=velocity[seed], dtype="f4", chunks=(1, 1, 8, 8, 2), **options)
            file.create_dataset("particles", data=particles[seed], dtype="f4", chunks=(1, 1, 8, 8, 1), **options)
            file.create_dataset("force", data=force[seed], dtype="f4")
            file.create_dataset("t", data=np.tile(np.float32([0, 0.1, 0.2, 0.3, 0.4]), (4, 1)))
            file.attrs.update({"config": yaml.safe_dump({"NU": 0.01, "sim": {"NU": 0.01}}), "latestIndex": 4})
    found = Converted(tmp_path)
    assert found.summary.samples == {"train": 8}
    np.testing.assert_array_equal(found.field("velocity"), np.float32(np.concatenate(velocity)))
    np.testing.assert_array_equal(found.field("particles"), np.float32(np.concatenate(particles))[..., 0])
    np.testing.assert_array_equal(found.field("force"), np.float32(np.concatenate(force)))
    np.testing.assert_array_equal(found.line("time"), np.float32([0, 0.1, 0.2, 0.3, 0.4]))


def test_seeds_of_two_grids_or_units_do_not_join(tmp_path: Path):
    for n in (8, 6):
        lines = {"x": centres(n), "t": np.arange(4, dtype=np.float32)}
        array_per_name(tmp_path / f"a_{n}.hdf5", {"tensor": np.zeros((3, 4, n))}, lines)
    with pytest.raises(DataError, match=r"a_8\.hdf5: its grid is .*, but .* in .*a_6\.hdf5"):
        convert(tmp_path, tmp_path / "target")


@pytest.mark.parametrize(
    ("fields", "lines", "words"),
    [
        ({"tensor": np.zeros((3, 4, 8))}, {"x": centres(8), "t": np.arange(7.0)}, "has 7 times for 4 stored states"),
        ({"tensor": np.zeros((3, 4, 8))}, {"x": centres(6), "t": np.arange(4.0)}, "has 8 x where the set has 6"),
        ({"tensor": np.zeros((3, 4, 8))}, {"x": centres(8)}, "holds no array 't-coordinate'; it has"),
        ({"tensor": np.zeros((3, 4, 8))}, {"x": centres(8) ** 2, "t": np.arange(4.0)}, "not evenly spaced"),
        ({"tensor": np.zeros((3, 4, 2, 8))}, {"x": centres(8), "t": np.arange(4.0)}, "has 4 axes; sample, time and x"),
        (
            {"tensor": np.where(np.arange(3)[:, None, None] == 2, np.nan, np.zeros((3, 4, 8)))},
            {"x": centres(8), "t": np.arange(4.0)},
            "sample 2 of 'tensor' holds a NaN",
        ),
        ({}, {"x": centres(8)}, "holds no fields"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path, fields: dict, lines: dict, words: str):
    path = array_per_name(tmp_path / "odd.hdf5", fields, lines)
    with pytest.raises(DataError) as caught:
        convert(path, tmp_path / "target")
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_what_is_written_is_what_their_loaders_look_for(make, tmp_path: Path):
    steady, moving = make("steady"), make("vorticity")
    convert(steady, tmp_path / "darcy.hdf5", format="pdebench")
    with h5py.File(tmp_path / "darcy.hdf5") as file:
        assert (file["nu"].shape, file["tensor"].shape) == ((12, 6, 5), (12, 1, 6, 5))
        assert (file["nu"].dtype, file.attrs["gravity"], "t-coordinate" in file) == (np.float32, 9.75, False)
        np.testing.assert_array_equal(file["x-coordinate"], centres(6, 0, 2))
    convert(moving, tmp_path / "w.hdf5", format="pdebench")
    with h5py.File(tmp_path / "w.hdf5") as file, h5py.File(moving / "data/test/a_0.hdf5") as test:
        assert file["tensor"].shape == (12, 4, 6, 5)
        np.testing.assert_array_equal(file["t-coordinate"], [0, 0.5, 1.5, 1.75, 2])
        np.testing.assert_array_equal(file["tensor"][:3], test["t0_fields/w"])
    convert(moving, tmp_path / "w.h5", format="pdebench")
    with h5py.File(tmp_path / "w.h5") as file, h5py.File(moving / "data/test/a_0.hdf5") as test:
        assert sorted(file) == [f"{i:04d}" for i in range(12)]
        assert file["0000/data"].shape == (4, 6, 5, 1)
        np.testing.assert_array_equal(file["0011/data"][..., 0], test["t0_fields/w"][2])
        np.testing.assert_array_equal(file["0005/grid/t"], [0, 0.5, 1.5, 1.75])
        assert yaml.safe_load(file["0000"].attrs["config"]) == {"sim": {}}
    assert recognise(str(tmp_path / "w.h5")).format == "pdebench"


def test_fewer_groups_than_their_loader_needs_are_mentioned_and_too_many_refused(make, tmp_path: Path, monkeypatch):
    from fieldwright.datasets.formats import pdebench_writing

    moving = make("vorticity")
    lost = convert(moving, tmp_path / "w.h5", format="pdebench").lost
    assert any("its single-file loader reads the grid of group 0023" in sentence for sentence in lost)
    monkeypatch.setattr(pdebench_writing, "_MOST_GROUPS", 11)
    with pytest.raises(InputError, match="12 samples; groups of four digits hold 11"):
        convert(moving, tmp_path / "many.h5", format="pdebench")
