"""Operators on disk: bits come back, damage is named in one sentence, a failed save leaves the old model."""

import inspect
import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

import fieldwright.operators.store as store
from fieldwright.errors import DataError, InputError, StorageError
from fieldwright.grids import Boundary
from fieldwright.operators import FourierOperator, MultigridOperator, build_operator, load_operator, save_operator

OURS = {
    "multigrid": MultigridOperator(2, 1, width=4, layers=2, levels=3, boundary=["periodic", ["neumann", "dirichlet"]]),
    "fourier": FourierOperator(2, 1, width=4, layers=2, modes=[4, 6], boundary="neumann", padding=0.1),
}


@pytest.fixture(params=OURS)
def operator(request) -> nn.Module:
    return OURS[request.param]


def equal_bits(a: nn.Module, b: nn.Module) -> bool:
    x = torch.randn(1, 2, 12, 10)
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one) and torch.equal(a(x), b(x))


def test_round_trip_keeps_all_bits_and_is_silent(operator, tmp_path, capfd):
    operator.save_pretrained(tmp_path / "model")
    assert equal_bits(operator, type(operator).from_pretrained(tmp_path / "model"))
    assert equal_bits(operator, load_operator(tmp_path / "model"))
    assert capfd.readouterr() == ("", "")


def test_configuration_is_the_whole_signature_as_plain_json(operator, tmp_path):
    save_operator(operator, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert set(config) == set(inspect.signature(type(operator)).parameters)


def test_a_bare_class_of_the_same_arguments_loads_it_strictly(tmp_path):
    class Bare(nn.Module, PyTorchModelHubMixin):
        def __init__(self, in_channels: int, out_channels: int, width: int, layers: int, levels: int, boundary: list):
            super().__init__()
            inner = MultigridOperator(
                in_channels, out_channels, width=width, layers=layers, levels=levels, boundary=boundary
            )
            self.cycles, self.mixing, self.head = inner.cycles, inner.mixing, inner.head

    OURS["multigrid"].save_pretrained(tmp_path / "model")
    loaded = Bare.from_pretrained(str(tmp_path / "model"), strict=True, local_files_only=True)
    assert all(torch.equal(w, loaded.state_dict()[k]) for k, w in OURS["multigrid"].state_dict().items())


def test_saving_over_a_model_keeps_other_files_and_leaves_no_scratch(operator, tmp_path):
    save_operator(OURS["multigrid"], tmp_path / "model")
    (tmp_path / "model" / "surrogate.json").write_text("{}")
    save_operator(operator, tmp_path / "model")
    assert equal_bits(operator, load_operator(tmp_path / "model"))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "surrogate.json",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_model(tmp_path, monkeypatch):
    save_operator(OURS["multigrid"], tmp_path / "model")

    def full(file: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_flush", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_operator(OURS["fourier"], tmp_path / "model")
    assert equal_bits(OURS["multigrid"], load_operator(tmp_path / "model"))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_file_in_the_way_is_a_storage_error(tmp_path):
    (tmp_path / "model").write_text("not a directory")
    with pytest.raises(StorageError, match="is a file"):
        save_operator(OURS["fourier"], tmp_path / "model")
    assert (tmp_path / "model").read_text() == "not a directory"


@pytest.fixture
def saved(tmp_path) -> Path:
    save_operator(OURS["multigrid"], tmp_path / "model")
    return tmp_path / "model"


def failure(directory: Path) -> str:
    with pytest.raises(DataError) as raised:
        MultigridOperator.from_pretrained(directory)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    assert "no such model directory" in failure(tmp_path / "modle")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, file):
    (saved / file).unlink()
    assert f"{file} is missing" in failure(saved)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_truncated_weights_are_damage(saved, keep):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "not readable as safetensors" in failure(saved)


def test_configuration_that_is_not_json_is_damage(saved):
    (saved / "config.json").write_bytes(b"\xff{")
    assert "not readable as JSON" in failure(saved)
    (saved / "config.json").write_text("[1]")
    assert "not an object" in failure(saved)


def test_files_of_two_saves_do_not_mix(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "activation": "relu"}))
    assert "different saves" in failure(saved)


def test_weights_of_another_class_are_refused(saved):
    with pytest.raises(DataError, match="holds a MultigridOperator"):
        FourierOperator.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.weight"), "lacks weight 'head.weight'"),
        (lambda w: w.update(extra=torch.zeros(1)), "unknown weight 'extra'"),
        (lambda w: w.update({"head.weight": torch.zeros(3, 3)}), "has shape \\(3, 3\\), expected"),
    ],
)
def test_weights_are_loaded_strictly(saved, change, message):
    config, _, weights = store.read_model(saved)
    change(weights)
    with pytest.raises(DataError, match=message):
        store.restore(MultigridOperator, config, weights, saved)


def test_arguments_of_another_version_are_refused(saved):
    config, _, weights = store.read_model(saved)
    with pytest.raises(DataError, match="cannot be built"):
        store.restore(MultigridOperator, {**config, "colour": "red"}, weights, saved)


NETWORK = """
import torch
class Net(torch.nn.Module):
    def __init__(self, in_channels, out_channels, width=3):
        super().__init__()
        self.one = torch.nn.Conv2d(in_channels, width, 3, padding=1)
        self.two = torch.nn.Conv2d(width, out_channels, 3, padding=1)
    def forward(self, x):
        return self.two(self.one(x).relu())
class Timed(torch.nn.Module):
    def forward(self, x, lead_time=None):
        return x * (lead_time or 1.0)
class Tied(torch.nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.one = torch.nn.Linear(in_channels, in_channels)
        self.two = torch.nn.Linear(in_channels, in_channels)
        self.two.weight = self.one.weight
    def forward(self, x):
        return self.two(self.one(x.movedim(1, -1))).movedim(-1, 1)
number = 3
"""
WALLS = Boundary.parse("dirichlet", 2)


@pytest.fixture
def in_project(in_tmp) -> Path:
    (in_tmp / "my_networks.py").write_text(NETWORK)
    return in_tmp


def test_a_users_module_is_built_called_and_stored_like_ours(in_project):
    operator = build_operator("my_networks:Net", {"width": 5}, 2, 1, 2, WALLS)
    save_operator(operator, in_project / "model")
    loaded = load_operator(in_project / "model")
    x = torch.randn(1, 2, 9, 8)
    assert torch.equal(operator(x), loaded(x))
    with pytest.raises(InputError, match="no such argument"):
        operator(x, 0.5)
    timed = build_operator("my_networks:Timed", {}, 2, 2, 2, WALLS)
    assert torch.equal(timed(x, 0.5), x / 2)


def test_tied_weights_survive_the_round_trip(in_project):
    operator = build_operator("my_networks:Tied", {}, 2, 2, 2, WALLS)
    save_operator(operator, in_project / "model")
    loaded = load_operator(in_project / "model")
    assert torch.equal(operator(torch.ones(1, 2, 3, 3)), loaded(torch.ones(1, 2, 3, 3)))
    assert loaded.module.one.weight is loaded.module.two.weight


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("multigird", {}, "there are multigrid, fourier"),
        ("multigrid", {"wdith": 3}, "no setting 'wdith'"),
        ("no_such_module:Net", {}, "cannot be imported"),
        ("my_networks:Nett", {}, "no torch module class 'Nett'"),
        ("my_networks:number", {}, "no torch module class"),
        ("my_networks:Net", {"depth": 3}, "cannot be built"),
    ],
)
def test_operators_that_cannot_be_built_are_named(in_project, kind, settings, message):
    with pytest.raises(InputError, match=message):
        build_operator(kind, settings, 2, 1, 2, WALLS)


@pytest.mark.parametrize("kind", ["multigrid", "fourier"])
def test_operators_by_name_take_the_walls_of_the_problem(kind):
    walls = Boundary.parse([["neumann", "dirichlet"], "periodic", "periodic"], 3)
    operator = build_operator(kind, {"width": 3, "layers": 1}, 2, 1, 3, walls)
    assert operator._hub_mixin_config["boundary"] == walls.to_list()
    assert operator(torch.randn(1, 2, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


def test_a_module_that_does_not_know_its_arguments_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="build_operator"):
        save_operator(nn.Conv2d(1, 1, 1), tmp_path / "model")
