"""An evaluation on disk."""

import json

import numpy as np
import pytest

from fieldwright.analysis import Evaluation
from fieldwright.errors import DataError, StorageError


@pytest.fixture
def stored(evaluation, tmp_path):
    evaluation.save(tmp_path)
    return tmp_path


def test_what_is_saved_is_what_is_loaded(evaluation, stored):
    again = Evaluation.load(stored)
    assert again == evaluation
    assert again.arrays.keys() == evaluation.arrays.keys()
    for name, array in evaluation.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_figures_are_strict_json(stored):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads((stored / "evaluation.json").read_text(), parse_constant=refuse)


def test_saving_leaves_nothing_but_the_two_files(stored):
    assert sorted(p.name for p in stored.iterdir()) == ["evaluation.json", "evaluation.npz"]


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.npz"])
@pytest.mark.parametrize("damage", ["remove", "truncate", "empty"])
def test_a_missing_or_damaged_file_is_a_data_error(stored, name, damage):
    file = stored / name
    content = file.read_bytes()
    file.unlink()
    if damage != "remove":
        file.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    with pytest.raises(DataError, match="evaluation"):
        Evaluation.load(stored)


def change(stored, edit):
    file = stored / "evaluation.json"
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))


def test_a_missing_value_is_named(stored):
    change(stored, lambda values: values["speed"].pop("target"))
    with pytest.raises(DataError, match=r"speed\.target"):
        Evaluation.load(stored)


def test_a_value_of_the_wrong_type_is_named(stored):
    change(stored, lambda values: values["errors"][0]["l2"].update(median="small"))
    with pytest.raises(DataError, match=r"errors\.0\.l2\.median"):
        Evaluation.load(stored)


def test_another_format_is_refused(stored):
    change(stored, lambda values: values.update(format=99))
    with pytest.raises(DataError, match="format 99"):
        Evaluation.load(stored)


def test_arrays_are_never_unpickled(stored):
    np.savez(stored / "evaluation.npz", inputs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="evaluation"):
        Evaluation.load(stored)


def test_a_directory_that_cannot_be_written_is_a_storage_error(evaluation, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        evaluation.save(tmp_path / "file" / "below")
