"""The papers' .mat files: both versions read equal, time is last, and what the arrays mean is found or asked for."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from fieldwright.datasets import read_fields, write_fields
from fieldwright.datasets.formats import convert
from fieldwright.errors import DataError, InputError
from reading import Converted

RANDOM = np.random.default_rng(0)


def write(path: Path, version: str, **arrays: np.ndarray) -> Path:
    """As MATLAB writes: version 5 by SciPy, compressed as MATLAB does or not; 7.3 in chunks, axes reversed."""
    if version == "7.3":
        write_fields(path, arrays, version="7.3")
    else:
        scipy.io.savemat(path, arrays, do_compression=version == "5 compressed")
    return path


VERSIONS = ["5", "5 compressed", "7.3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_navier_stokes_has_time_last_and_its_state_at_time_zero_apart(tmp_path: Path, version: str):
    # Samples, points and times are equal in number, so that no shape gives a hint.
    a, u, t = RANDOM.standard_normal((8, 8, 8)), RANDOM.standard_normal((8, 8, 8, 8)), np.arange(1.0, 9)[None]
    found = Converted(write(tmp_path / "NavierStokes_V1e-5_N8_T8.mat", version, a=a, u=u, t=t))
    assert found.summary.fields == ["output u"]
    np.testing.assert_array_equal(found.line("time"), np.arange(9))
    np.testing.assert_array_equal(found.field("u")[:, 0], np.float32(a))
    np.testing.assert_array_equal(found.field("u")[:, 1:], np.float32(u).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(found.line("x"), np.arange(8) / 8)


@pytest.mark.parametrize("version", VERSIONS)
def test_darcy_is_on_nodes_that_include_the_walls(tmp_path: Path, version: str):
    coeff, sol = RANDOM.choice([3.0, 12.0], (4, 9, 9)), RANDOM.standard_normal((4, 9, 9))
    smooth = RANDOM.standard_normal((4, 9, 9))
    path = write(tmp_path / "piececonst_r9_N4_smooth1.mat", version, coeff=coeff, sol=sol, Kcoeff=smooth, other=smooth)
    found = Converted(path)
    assert found.steady
    assert sorted(found.summary.fields) == ["input Kcoeff", "input coeff", "output sol"]
    np.testing.assert_array_equal(found.field("coeff"), np.float32(coeff))
    np.testing.assert_array_equal(found.field("sol"), np.float32(sol))
    np.testing.assert_array_equal(found.field("Kcoeff"), np.float32(smooth))
    np.testing.assert_array_equal(found.line("x"), np.linspace(0, 1, 9, dtype=np.float32))
    assert any("left out: 'other'" in note for note in found.summary.notes)


def test_two_darcy_files_are_the_training_and_the_test_set(tmp_path: Path):
    sets = {name: RANDOM.random((3, 5, 5)) for name in ("smooth1", "smooth2")}
    for name, values in sets.items():
        write(tmp_path / f"piececonst_r5_N3_{name}.mat", "5", coeff=values, sol=-values)
    found = Converted(tmp_path)
    assert found.summary.samples == {"train": 3, "test": 3}
    np.testing.assert_array_equal(found.field("coeff", "test"), np.float32(sets["smooth2"]))
    np.testing.assert_array_equal(found.field("sol"), -np.float32(sets["smooth1"]))


def test_burgers_is_a_map_from_one_field_to_another(tmp_path: Path):
    a, u = RANDOM.standard_normal((6, 64)), RANDOM.standard_normal((6, 64))
    path = write(tmp_path / "burgers_data_R10.mat", "5", a=a, u=u, a_smooth=a, a_x=a)
    found = Converted(path, split="train=0.5,valid=0.25,test=0.25")
    assert (found.steady, found.summary.fields) == (True, ["input a", "output u"])
    assert found.summary.samples == {"train": 3, "valid": 1, "test": 2}
    np.testing.assert_array_equal(found.field("u"), np.float32(u[:3]))
    np.testing.assert_array_equal(found.line("x"), (np.arange(64) / 64).astype(np.float32))
    evolving = tmp_path / "evolving"
    convert(path, evolving, roles=["a=initial"], split="train=1")
    with h5py.File(next(evolving.rglob("*.hdf5"))) as file:
        np.testing.assert_array_equal(file["t0_fields/u"], np.float32(np.stack([a, u], 1)))
        assert not file.attrs["fieldwright_steady"]


def test_finer_coefficient_is_thinned_to_the_points_of_the_solution(tmp_path: Path):
    coeff, sol = RANDOM.random((3, 17, 17)), RANDOM.random((3, 9, 9))
    path = write(tmp_path / "multiscale.mat", "7.3", coeff=coeff, sol=sol)
    found = Converted(path)
    np.testing.assert_array_equal(found.field("coeff"), np.float32(coeff[:, ::2, ::2]))
    assert any("'coeff'" in note and "thinned" in note for note in found.summary.notes)
    write(tmp_path / "odd.mat", "5", coeff=RANDOM.random((3, 16, 16)), sol=sol)
    with pytest.raises(DataError, match="'coeff' has 16 points along x where the output has 9"):
        convert(tmp_path / "odd.mat", tmp_path / "target")


def test_weak_form_papers_read_version_73_without_turning_it(tmp_path: Path):
    """Their arrays have samples first in the file itself; reading it as plain HDF5 takes them so."""
    mesh = np.stack(np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 1, 6), indexing="ij"))
    coe, u = RANDOM.random((4, 6, 6)), RANDOM.random((4, 6, 6))
    path = tmp_path / "weak.mat"
    write_fields(path, {"coe": coe.T, "u": u.T, "X": mesh[0].T, "Y": mesh[1].T}, version="7.3")
    found = Converted(path, source_format="hdf5")
    np.testing.assert_array_equal(found.field("coe"), np.float32(coe))
    np.testing.assert_array_equal(found.line("y"), np.linspace(0, 1, 6, dtype=np.float32))


def test_plasticity_takes_its_axes_from_its_user(tmp_path: Path):
    shape, output = RANDOM.random((5, 9)), RANDOM.random((5, 9, 7, 4, 3))
    path = write(tmp_path / "plas_N5_T4.mat", "5", input=shape, output=output)
    found = Converted(path, roles=["input=input:nx", "output=output:nxytc"], grid="node")
    assert found.summary.fields == ["input input", "output output_0", "output output_1", "output output_2"]
    np.testing.assert_array_equal(found.field("output_2"), np.float32(output[..., 2]).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.field("input"), np.float32(np.repeat(shape[:, :, None], 7, 2)))
    with pytest.raises(DataError, match=r"'output' of shape \(5, 9, 7, 4, 3\) does not say which axis is which"):
        convert(path, tmp_path / "target")


def test_integers_and_truth_values_of_matlab_are_numbers_and_texts_are_not(tmp_path: Path):
    path = write(tmp_path / "small.mat", "5", a=np.eye(4, dtype=bool), u=np.arange(16.0).reshape(4, 4), name="text")
    with h5py.File(tmp_path / "x", "w"):
        pass
    found = Converted(path, roles=["a=input:nx", "u=output:nx"])
    np.testing.assert_array_equal(found.field("a"), np.eye(4))
    assert not any("name" in note for note in found.summary.notes)


def test_version_4_is_read(tmp_path: Path):
    a = RANDOM.random((4, 16))
    scipy.io.savemat(tmp_path / "four.mat", {"a": a, "u": 2 * a}, format="4")
    np.testing.assert_array_equal(Converted(tmp_path / "four.mat").field("u"), np.float32(2 * a))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_what_is_written_reads_in_scipy_and_in_ours_as_the_papers_have_it(make, tmp_path: Path, version: str):
    convert(make("vorticity"), tmp_path / "w.mat", format=f"matlab-v{version}", limit=3)
    found = read_fields(tmp_path / "w_train.mat")
    with h5py.File(tmp_path / "ours/vorticity/data/train/a_0.hdf5") as file:
        w = file["t0_fields/w"][:3]
    np.testing.assert_array_equal(found["a"], w[:, 0])
    np.testing.assert_array_equal(found["u"], w[:, 1:].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found["t"], [[0.5, 1.5, 1.75]])
    assert scipy.io.matlab.matfile_version(str(tmp_path / "w_train.mat"))[0] == (1 if version == "5" else 2)
    if version == "5":
        contents = scipy.io.loadmat(tmp_path / "w_train.mat")
        np.testing.assert_array_equal(contents["u"], found["u"])
    convert(make("steady"), tmp_path / "darcy.mat", format=f"matlab-v{version}")
    found = read_fields(tmp_path / "darcy_test.mat")
    assert (found["coeff"].shape, found["sol"].shape, found["gravity"].item()) == ((3, 6, 5), (3, 6, 5), 9.75)
    assert found["rate"].shape == (1, 3)


def test_names_that_matlab_has_not_are_changed_and_clashes_refused(make, tmp_path: Path):
    with h5py.File(make("flow") / "data/train/a_0.hdf5", "r+") as file:
        del file["t0_fields/mask"]
        file["t0_fields"].move("density", "den sity")
        file["t0_fields"].attrs["field_names"] = ["den sity"]
    single = tmp_path / "ours/flow/data/train/a_0.hdf5"
    convert(single, tmp_path / "flow.mat")
    assert {"den_sity", "velocity_x", "velocity_y", "t"} <= read_fields(tmp_path / "flow.mat").keys()
    convert(tmp_path / "flow.mat", tmp_path / "back")
    with h5py.File(next((tmp_path / "back").rglob("*.hdf5"))) as back:
        assert list(back["t0_fields"].attrs["field_names"]) == ["den sity"]
    with h5py.File(single, "r+") as file:
        file["t0_fields"].copy("den sity", "den-sity")
        file["t0_fields"].attrs["field_names"] = ["den sity", "den-sity"]
    with pytest.raises(InputError, match="two fields have one name in MATLAB"):
        convert(single, tmp_path / "clash.mat")


def test_set_too_large_for_version_5_says_which_to_take(make, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("fieldwright.datasets.formats.matlab._V5_LIMIT_BYTES", 100)
    with pytest.raises(InputError, match=r"version 5 holds 2 GiB, --to matlab-v7\.3 more"):
        convert(make("steady"), tmp_path / "a.mat", format="matlab-v5")
    convert(make("steady"), tmp_path / "b.mat")
    assert scipy.io.matlab.matfile_version(str(tmp_path / "b_train.mat"))[0] == 2
