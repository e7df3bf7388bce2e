"""The reader gives the stored numbers in any order, in any process, and one sentence for any damage."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fieldwright.datasets import FieldDataset, ShardContent, StoredField, write_fields, write_shard
from fieldwright.datasets.layout import survey
from fieldwright.errors import DataError, InputError
from fieldwright.grids import Boundary, Grid


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(-10, 9), max_size=12))
def test_batch_gives_the_samples_asked_for_in_their_order(dataset: Path, indices: list[int]):
    data = cached(dataset)
    inputs, outputs = data.arrays()
    some_inputs, some_outputs = data.batch(indices)
    assert torch.equal(some_inputs, inputs[indices])
    assert torch.equal(some_outputs, outputs[indices])


def cached(path: Path, known: dict = {}) -> FieldDataset:  # noqa: B006
    if path not in known:
        known[path] = FieldDataset(path, "train")
    return known[path]


def test_inputs_and_outputs_slice_like_arrays(dataset: Path):
    data = FieldDataset(dataset, "train")
    inputs, outputs = (tensor.numpy() for tensor in data.arrays())
    assert data.inputs.shape == inputs.shape
    assert len(data.outputs) == len(data) == 10
    np.testing.assert_array_equal(data.inputs[3], inputs[3])
    np.testing.assert_array_equal(data.outputs[2:9:3, 0, 1], outputs[2:9:3, 0, 1])
    np.testing.assert_array_equal(data.outputs[[4, -1]], outputs[[4, -1]])
    np.testing.assert_array_equal(np.asarray(data.inputs), inputs)


def test_facts_of_a_dataset(dataset: Path):
    data = FieldDataset(dataset, "valid")
    assert (data.name, data.steady, data.grid) == ("halving", True, Grid((8, 8)))
    assert data.units == {"a": "m", "u": "Pa"}
    assert data.attributes["seed"] == 7
    assert data.attributes["solver"] == "halving"


@pytest.mark.parametrize("index", [10, -11])
def test_index_out_of_range_is_an_input_error(dataset: Path, index: int):
    with pytest.raises(InputError, match=f"sample {index} of the split 'train'; it has 10 samples"):
        FieldDataset(dataset, "train").batch([0, index])


def test_reading_goes_on_in_forked_and_pickled_copies(dataset: Path):
    data = FieldDataset(dataset, "train")
    expected = data.batch([1, 9])[1]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(data.outputs.__getitem__, [[1, 9]] * 4):
            np.testing.assert_array_equal(found, expected)
    copy = pickle.dumps(data)
    assert len(copy) < 10_000
    assert torch.equal(pickle.loads(copy).batch([1, 9])[1], expected)


def test_torch_loader_with_workers_sees_every_sample(dataset: Path):
    class Items(torch.utils.data.Dataset):
        def __init__(self, data: FieldDataset) -> None:
            self.data = data

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.data.batch([index])[0][0]

    data = FieldDataset(dataset, "train")
    found = torch.cat(list(DataLoader(Items(data), batch_size=3, num_workers=2)))
    assert torch.equal(found, data.arrays()[0])


def test_time_dependent_data_comes_as_windows(moving: tuple[Path, ShardContent]):
    root, content = moving
    data = FieldDataset(root, "train")
    density, velocity, mask = (np.float32(entry.values) for entry in content.fields)
    assert data.input_names == ["density", "velocity_x", "velocity_y", "mask"]
    assert data.output_names == ["density", "velocity_x", "velocity_y"]
    assert len(data) == 3 * 4
    inputs, outputs = data.batch([0, 7, 11])
    for row, (sample, time) in enumerate([(0, 0), (1, 3), (2, 3)]):
        expected = [density[sample, time], *np.moveaxis(velocity[sample, time], -1, 0), mask]
        np.testing.assert_array_equal(inputs[row], expected)
        np.testing.assert_array_equal(outputs[row, 0], density[sample, time + 1])
        np.testing.assert_array_equal(outputs[row, 2], velocity[sample, time + 1, ..., 1])
    assert data.grid == content.grid


def rewrite(root: Path, change: Callable[[h5py.File], None]) -> Path:
    """Edit the only shard of a dataset without records, as a file from elsewhere."""
    path = next(root.glob("data/train/*.hdf5"))
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(file: h5py.File, name: str, values: np.ndarray, **options: object) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, **options).attrs.update(attributes)


@pytest.mark.parametrize(
    "options", [{"chunks": (1, 1, 6, 5), "compression": "gzip"}, {"dtype": ">f8"}, {"dtype": "<f2"}]
)
def test_chunked_compressed_and_foreign_number_types_are_read(moving: tuple[Path, ShardContent], options: dict):
    root, _ = moving
    expected = FieldDataset(root, "train").batch([5, 0, 5])[0]
    rewrite(root, lambda file: replace(file, "t0_fields/density", file["t0_fields/density"][:], **options))
    tolerance = 1e-3 if options.get("dtype") == "<f2" else 0
    torch.testing.assert_close(
        FieldDataset(root, "train").batch([5, 0, 5])[0], expected, rtol=tolerance, atol=tolerance
    )


def test_field_stored_without_an_axis_it_does_not_vary_along_is_spread_over_it(moving: tuple[Path, ShardContent]):
    root, _ = moving
    column = np.arange(6, dtype=np.float32)

    def change(file: h5py.File) -> None:
        replace(file, "t0_fields/mask", column)
        file["t0_fields/mask"].attrs["dim_varying"] = np.array([True, False])

    rewrite(root, change)
    np.testing.assert_array_equal(FieldDataset(root, "train").inputs[0][3], np.repeat(column[:, None], 5, axis=1))


@pytest.mark.parametrize("centring", ["node", "cell", "periodic"])
def test_grid_of_a_foreign_file_is_found_from_its_coordinates(tmp_path: Path, centring: str):
    grid = Grid((8, 5), centring, (0.0, 0.0), (2.0, 1.0))
    walls = Boundary.parse("periodic" if centring == "periodic" else "dirichlet", 2)
    field = StoredField("u", np.zeros((1, 2, 8, 5)))
    path = tmp_path / "data" / "train" / "u.hdf5"
    write_shard(path, ShardContent("foreign", grid, walls, 1, np.arange(2.0), (field,)))
    rewrite(tmp_path, lambda file: file.__delitem__("fieldwright"))
    found = FieldDataset(tmp_path, "train").grid
    assert (found.shape, found.centring) == (grid.shape, centring)
    np.testing.assert_allclose((found.lower, found.upper), (grid.lower, grid.upper), atol=1e-6)


def set_attribute(place: str, name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file[place].attrs.__setitem__(name, value)


def poison(file: h5py.File) -> None:
    file["t0_fields/density"][1, 2, 3, 4] = np.nan


def link_outside(file: h5py.File) -> None:
    del file["t0_fields/density"]
    file["t0_fields/density"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (poison, "sample 1 of 't0_fields/density' holds a NaN or infinite value"),
        (lambda file: file.__delitem__("t2_fields"), "has no group 't2_fields'"),
        (lambda file: file.__delitem__("boundary_conditions"), "has no group 'boundary_conditions'"),
        (lambda file: file.__delitem__("dimensions/time"), "has no array 'dimensions/time'"),
        (lambda file: file.attrs.__delitem__("n_trajectories"), "lacks the attribute n_trajectories"),
        (set_attribute("/", "n_trajectories", "three"), "n_trajectories = 'three'; a whole number"),
        (set_attribute("/", "n_trajectories", 4), "'t0_fields/density' of shape (3, 5, 6, 5)"),
        (set_attribute("/", "n_spatial_dims", 3), "2 axes ['x', 'y']"),
        (set_attribute("/", "dataset_name", 7), "dataset_name"),
        (set_attribute("t0_fields/density", "time_varying", "yes"), "true or false"),
        (set_attribute("t0_fields", "field_names", np.arange(2)), "not a list of texts"),
        (set_attribute("t0_fields/density", "fieldwright_scale", 0.0), "fieldwright_scale = 0.0"),
        (set_attribute("boundary_conditions/x_periodic", "bc_type", "Dirichlet"), "bc_type 'DIRICHLET'"),
        (lambda file: replace(file, "t0_fields/mask", np.ones((6, 5), int)), "of type int64"),
        (lambda file: replace(file, "t0_fields/mask", np.ones((5, 6))), "'t0_fields/mask' of shape (5, 6)"),
        (link_outside, "has a link in place of 't0_fields/density'"),
    ],
)
def test_broken_rule_is_one_sentence_that_names_the_file(
    moving: tuple[Path, ShardContent], change: Callable[[h5py.File], None], words: str
):
    root, _ = moving
    path = rewrite(root, change)
    with pytest.raises(DataError) as caught:
        FieldDataset(root, "train")
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_cut_at_any_multiple_of_four_kibibytes_is_refused(tmp_path: Path):
    whole = image(tmp_path)
    cuts = [tmp_path / f"cut_{size}.hdf5" for size in range(0, len(whole), 4096)]
    for path, size in zip(cuts, range(0, len(whole), 4096), strict=True):
        path.write_bytes(whole[:size])
    assert len(cuts) > 8
    for path, found in zip(cuts, survey(cuts), strict=True):
        assert isinstance(found, DataError), path
        assert str(path) in str(found)


def test_flipped_bits_are_refused_or_leave_a_layout_within_the_file(tmp_path: Path):
    whole = image(tmp_path)
    choice = random.Random(0)
    flipped = []
    for number in range(120):
        damaged = bytearray(whole)
        damaged[choice.randrange(4096)] ^= 1 << choice.randrange(8)
        path = tmp_path / f"flipped_{number}.hdf5"
        path.write_bytes(damaged)
        flipped.append(path)
    for path, found in zip(flipped, survey(flipped, seconds=2), strict=True):
        if isinstance(found, DataError):
            assert str(path) in str(found)
        else:
            size = path.stat().st_size
            ends = [f.offset + 4 * int(np.prod(f.shape)) for f in found.fields if f.offset is not None]
            assert all(end <= size for end in ends)


def image(directory: Path) -> bytes:
    field = StoredField("u", np.random.default_rng(0).standard_normal((4, 2, 32, 32)))
    content = ShardContent("whole", Grid((32, 32)), Boundary.parse("dirichlet", 2), 4, np.arange(2.0), (field,))
    write_shard(directory / "whole.hdf5", content)
    return (directory / "whole.hdf5").read_bytes()


def test_things_that_are_no_shard_are_named(tmp_path: Path):
    directory = tmp_path / "data" / "train"
    directory.mkdir(parents=True)
    path = directory / "a.hdf5"
    strange: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_bytes(b""), "is empty"),
        (lambda: path.write_bytes(pickle.dumps({"a": 1})), "is not an HDF5 file"),
        (lambda: path.write_bytes(bytes(10_000)), "is not an HDF5 file"),
        (lambda: path.unlink() or path.mkdir(), "is not a file"),
    ]
    for make, words in strange:
        make()
        with pytest.raises(DataError, match=words) as caught:
            FieldDataset(tmp_path, "train")
        assert str(path) in str(caught.value)
    path.rmdir()
    write_fields(tmp_path / "v73.mat", {"u": np.zeros((3, 3))}, version="7.3")
    shutil.move(tmp_path / "v73.mat", path)
    with pytest.raises(DataError, match="lacks the attribute n_trajectories"):
        FieldDataset(tmp_path, "train")


def test_changed_byte_of_ours_is_found_by_its_checksum(dataset: Path):
    path = dataset / "data" / "train" / "halving_00001.hdf5"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"halving_00001\.hdf5: is damaged, its checksum has changed"):
        FieldDataset(dataset, "train")
    FieldDataset(dataset, "train", verify=False)


def test_cut_or_missing_shard_of_ours_is_named(dataset: Path):
    path = dataset / "data" / "train" / "halving_00001.hdf5"
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(DataError, match=r"halving_00001\.hdf5: is cut short"):
        FieldDataset(dataset, "train")
    path.unlink()
    with pytest.raises(DataError, match=r"halving_00001\.hdf5: is missing; 1 of 3 'train' shards"):
        FieldDataset(dataset, "train")


def test_missing_dataset_and_split_say_what_there_is(dataset: Path, tmp_path: Path):
    with pytest.raises(DataError, match="is not there"):
        FieldDataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no split 'validation'; it has test, train, valid"):
        FieldDataset(dataset, "validation")


def test_shards_of_two_datasets_do_not_mix(dataset: Path, moving: tuple[Path, ShardContent]):
    source = next(dataset.glob("data/test/*.hdf5"))
    shutil.copy(source, moving[0] / "data" / "train" / "zz.hdf5")
    with pytest.raises(DataError, match=r"zz\.hdf5: its dataset_name is halving, but moving in moving_0\.hdf5"):
        FieldDataset(moving[0], "train")
