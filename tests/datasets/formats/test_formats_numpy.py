"""NumPy's and DeepXDE's arrays: names and axes as the user says them, whatever their order on the disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert
from fieldwright.datasets.formats.roles import parse_map
from fieldwright.errors import DataError, InputError
from reading import Converted

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["stored", "compressed", "columns", "big-endian", "integers"])
def test_arrays_of_every_kind_are_read_alike(tmp_path: Path, kind: str):
    a, u = RANDOM.integers(0, 99, (5, 6, 4)).astype(float), RANDOM.integers(0, 99, (5, 6, 4)).astype(float)
    kinds = {
        "columns": np.asfortranarray,
        "big-endian": lambda x: x.astype(">f4"),
        "integers": lambda x: x.astype("u1"),
    }
    turn = kinds.get(kind, np.asarray)
    save = np.savez_compressed if kind == "compressed" else np.savez
    save(tmp_path / "set.npz", inputs=turn(a), outputs=turn(u))
    found = Converted(tmp_path / "set.npz")
    assert found.summary.fields == ["input inputs", "output outputs"]
    np.testing.assert_array_equal(found.field("inputs"), a)
    np.testing.assert_array_equal(found.field("outputs"), u)


@pytest.mark.parametrize(
    ("axes", "grid", "order"),
    [
        ("ntxy", "node -1:1", (0, 1, 2, 3)),
        ("nxyt", "periodic 0:6.283185307 0:1", (0, 3, 1, 2)),
        ("tyxn", "cell", (3, 0, 2, 1)),
    ],
)
def test_axes_are_those_that_the_user_says(tmp_path: Path, axes: str, grid: str, order: tuple[int, ...]):
    u = RANDOM.standard_normal((4, 6, 5, 7))
    np.savez(tmp_path / "set.npz", u=u, t=np.arange(u.shape[axes.index("t")]) / 2, mask=u[0])
    found = Converted(tmp_path / "set.npz", roles=[f"u=output:{axes}, mask=skip"], grid=grid)
    np.testing.assert_array_equal(found.field("u"), np.float32(u.transpose(order)))
    data = FieldDataset(found.root)
    assert data.grid.centring == grid.split()[0]
    assert (data.grid.lower, data.grid.upper) == {
        "node": ((-1, -1), (1, 1)), "periodic": ((0, 0), (6.283185307, 1)), "cell": ((0, 0), (1, 1))
    }[data.grid.centring]  # fmt: skip


def test_elasticity_on_a_point_cloud_has_the_sample_last(tmp_path: Path):
    sigma, xy = RANDOM.random((20, 8)), RANDOM.random((20, 2, 8))
    np.save(tmp_path / "Random_UnitCell_sigma_10.npy", sigma)
    np.save(tmp_path / "Random_UnitCell_XY_10.npy", xy)
    roles = ["Random_UnitCell_sigma_10=output:xn", "Random_UnitCell_XY_10=input:xcn"]
    found = Converted(tmp_path, roles=roles, split="train=0.75,test=0.25")
    np.testing.assert_array_equal(found.field("Random_UnitCell_sigma_10"), np.float32(sigma.T[:6]))
    np.testing.assert_array_equal(found.field("Random_UnitCell_XY_10_1", "test"), np.float32(xy[:, 1].T[6:]))


def test_vectors_and_numbers_per_sample_are_what_they_are(tmp_path: Path):
    velocity, viscosity = RANDOM.standard_normal((4, 3, 5, 6, 2)), RANDOM.random(4)
    np.savez(tmp_path / "set.npz", velocity=velocity, viscosity=viscosity, density=1.25)
    found = Converted(tmp_path / "set.npz", roles=["velocity=output:ntxyv,density=parameter"])
    np.testing.assert_array_equal(found.field("velocity"), np.float32(velocity))
    np.testing.assert_array_equal(found.scalar("viscosity"), np.float32(viscosity))
    assert found.scalar("density") == 1.25
    data = FieldDataset(found.root)
    assert data.input_names == ["velocity_x", "velocity_y", "viscosity"]
    np.testing.assert_array_equal(data.inputs[:, 2, 0, 0], np.float32(np.repeat(viscosity, 2)))


def test_file_that_names_its_coordinates_needs_no_words(tmp_path: Path):
    x, y, t = np.linspace(0, 2, 6), np.linspace(-1, 1, 5), np.array([0.0, 0.1, 0.4])
    u, f = RANDOM.standard_normal((4, 3, 6, 5)), RANDOM.standard_normal((4, 6, 5))
    np.savez(tmp_path / "set.npz", u=u, f=f, x=x, y=y, t=t)
    found = Converted(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.field("u"), np.float32(u))
    np.testing.assert_array_equal(found.field("f"), np.float32(f))
    for name, line in (("x", x), ("y", y), ("time", t)):
        np.testing.assert_array_equal(found.line(name), np.float32(line))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["u"], "write NAME=ROLE"),
        (["=input"], "write NAME=ROLE"),
        (["u=inputs"], "did you mean 'input'"),
        (["u=input:nxq"], "axes 'nxq'"),
        (["u=input:nn"], "axes 'nn'"),
        (["t=time:n"], "axes 'n'"),
        (["u=input", "u=output"], "'u' is given twice"),
    ],
)
def test_words_that_say_nothing_are_one_sentence(entries: list[str], words: str):
    with pytest.raises(InputError) as caught:
        convert("nowhere", "target", roles=entries)
    assert words in str(caught.value)
    assert parse_map(["a=input:nx,b=output", "t=time"]) == {"a": "input:nx", "b": "output", "t": "time"}


@pytest.mark.parametrize(
    ("arrays", "roles", "words"),
    [
        ({"p": (4, 6, 5)}, [], "no array has a name that tells its role"),
        ({"u": (4, 6, 5)}, ["v=input"], "holds no array 'v'"),
        ({"u": (4, 6, 5, 7)}, [], "does not say which axis is which"),
        ({"u": (4, 6, 5)}, [], "holds no array known as an input; name one by --map NAME=input"),
        ({"a": (4, 6, 5), "u": (3, 6, 5)}, [], "'u' has 3 samples, but 'a' has 4"),
        ({"a": (4, 6, 7), "u": (4, 6, 5)}, [], "'a' has 7 points along y where the output has 5"),
        ({"u": (4, 3, 6, 5), "t": (4,)}, ["u=output:ntxy"], "has 4 times for the 3 of its fields"),
        ({"u": (4, 6, 5)}, ["u=output:ntxy"], "'u' has 3 axes (4, 6, 5), not the 4 of 'ntxy'"),
        ({"u": (4, 3, 6), "re": (7,)}, ["u=output:ntx", "re=parameter"], "the parameter 're' has shape (7,)"),
        ({"u": (4, 3, 6)}, ["u=output:nty"], "space is x, x y or x y z"),
        ({"u": (4, 3, 6), "x": (5,)}, ["u=output:ntx"], "has coordinates of (5,) points for a field of (6,)"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(tmp_path: Path, arrays: dict, roles: list[str], words: str):
    np.savez(
        tmp_path / "set.npz", **{name: np.arange(np.prod(shape)).reshape(shape) / 7 for name, shape in arrays.items()}
    )
    with pytest.raises(DataError) as caught:
        convert(tmp_path / "set.npz", tmp_path / "target", roles=roles)
    assert str(tmp_path / "set.npz") in str(caught.value)
    assert words in str(caught.value)


class Trap:
    def __reduce__(self) -> tuple:
        return (open, ("trap-was-sprung", "w"))


def test_objects_of_python_are_never_loaded(in_tmp: Path):
    np.save("a.npy", np.array([Trap()], object), allow_pickle=True)
    np.savez("b.npz", u=np.array([Trap()], object))
    np.savez("c.npz", X=np.array([np.zeros((2, 3)), np.zeros((4, 1))], object), y=np.zeros((2, 4)))
    Path("d.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy"):
        with pytest.raises(DataError, match=name):
            convert(name, "target", source_format="numpy")
    assert not Path("trap-was-sprung").exists()


def test_what_is_written_is_plain_for_everyone(make, tmp_path: Path):
    convert(make("flow"), tmp_path / "flow.npz")
    with np.load(tmp_path / "flow_valid.npz", allow_pickle=False) as found:
        assert {name: found[name].shape for name in ("density", "velocity_x", "mask", "t", "x", "y")} == {
            "density": (2, 3, 6, 5), "velocity_x": (2, 3, 6, 5), "mask": (2, 6, 5), "t": (3,), "x": (6,), "y": (5,)
        }  # fmt: skip
        np.testing.assert_array_equal(found["t"], [0, 0.5, 1.5])


def test_deepxde_is_read_and_written_in_its_cartesian_form(make, tmp_path: Path):
    x, y = np.linspace(0, 1, 4), np.linspace(-1, 1, 3)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    branch, values = RANDOM.random((5, 12)), RANDOM.random((5, 12))
    np.savez(tmp_path / "aligned.npz", X0=branch, X1=points, y=values)
    found = Converted(tmp_path / "aligned.npz")
    assert found.summary.source_format == "deepxde"
    np.testing.assert_array_equal(found.field("X0"), np.float32(branch).reshape(5, 4, 3))
    np.testing.assert_array_equal(found.field("y"), np.float32(values).reshape(5, 4, 3))
    np.testing.assert_array_equal(found.line("y"), np.float32(y))
    convert(make("vorticity"), tmp_path / "w.npz", format="deepxde", split="train=4")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as out:
        assert (out["X0"].shape, out["X1"].shape, out["y"].shape) == ((4, 30), (120, 3), (4, 120))
        data = FieldDataset(tmp_path / "ours/vorticity")
        # A point is x, y and t; the branch has the state at time 0.
        place = int(np.flatnonzero((out["X1"] == out["X1"][1 * 5 * 4 + 2 * 4 + 0]).all(1))[0])
        np.testing.assert_allclose(out["X1"][place], [2 * np.pi / 6, -1 + 2 * 0.4, 0], rtol=1e-6)
        assert out["y"][3, place] == data.inputs[9, 0, 1, 2]
        assert out["X0"][3].reshape(6, 5)[1, 2] == data.inputs[9, 0, 1, 2]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X0": (5, 7), "X1": (12, 1), "y": (5, 12)}, "at 7 sensors, its outputs at 12 points"),
        ({"X0": (12, 7), "X1": (12, 1), "y": (12, 1)}, "pairs are not read"),
        ({"X0": (5, 12), "X1": (12, 2), "y": (5, 12)}, "not those of a grid"),
        ({"X0": (5, 12), "X1": (12, 4), "y": (5, 12)}, "4 coordinates; 1, 2 or 3"),
        ({"X0": (5, 12, 1), "X1": (12, 2), "y": (5, 12)}, "no array 'X0' of two axes"),
    ],
)
def test_deepxde_of_other_forms_is_refused(tmp_path: Path, arrays: dict, words: str):
    made = {name: np.sort(RANDOM.random(shape), 0) for name, shape in arrays.items()}
    np.savez(tmp_path / "set.npz", **made)
    with pytest.raises(DataError, match=words):
        convert(tmp_path / "set.npz", tmp_path / "target")
