"""Runs of recipes that train for any lead time: from the recipe to predictions, roll-outs and the report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fieldwright.datasets import FieldDataset
from fieldwright.errors import FieldwrightError, InputError
from fieldwright.pipeline import predict_file, run
from fieldwright.progress import Reporter
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate
from fieldwright.training import LeadTimes

RECIPE = {
    "problem": {"kind": "heat", "resolution": 8, "dimension": 2, "frames": 4, "duration": 2.0},
    "data": {"train": 8, "valid": 3, "test": 3},
    "operator": {"kind": "transformer", "width": 6, "depths": [1, 1], "patch": 2},
    "training": {
        "steps": 6, "batch_size": 4, "pairs": "all", "objective": "group-l1", "schedule": "cosine",
        "groups": {"fields": {"rate": 10}, "norms": {"rate": 10, "weight_decay": 0}, "biases": {"weight_decay": 0}},
    },
    "evaluation": {"samples": 4, "shifts": False},
}  # fmt: skip


def write(directory: Path, **training) -> Path:
    tree = {**RECIPE, "training": {**RECIPE["training"], **training}}
    (directory / "heat-pairs.yaml").write_text(yaml.safe_dump(tree))
    return directory / "heat-pairs.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("lead-times")
    run(load_recipe(write(directory)), directory / "run", device="cpu")
    return directory / "run"


def test_a_run_has_a_report_and_a_surrogate_that_knows_its_lead_times(finished):
    assert (finished / "report.html").stat().st_size > 0
    surrogate = Surrogate.load(finished)
    assert surrogate.lead_times == LeadTimes(unit=2.0, longest=2.0)
    assert "lead_times" in json.loads((finished / "surrogate" / "surrogate.json").read_text())


def test_it_answers_any_lead_time_and_without_one_the_next_frame(finished):
    surrogate = Surrogate.load(finished)
    inputs, _ = FieldDataset(finished / "dataset", "test").batch(range(3))
    encoded = surrogate.inputs_normalizer.encode(inputs)
    for asked, fraction in ((None, 0.25), (0.5, 0.25), (0.7, 0.35), (0.0, 0.0)):
        with torch.no_grad():
            expected = surrogate.outputs_normalizer.decode(surrogate.operator(encoded, fraction))
        torch.testing.assert_close(surrogate.predict(inputs, asked).fields, expected)
    each = surrogate.fields(inputs, torch.tensor([0.5, 1.0, 1.5]))
    torch.testing.assert_close(each[1], surrogate.fields(inputs[1:2], 1.0)[0])
    assert not torch.equal(each[1], surrogate.fields(inputs[1:2], 0.5)[0])


def test_other_resolutions_are_told_the_lead_time_too(finished):
    surrogate = Surrogate.load(finished)
    inputs = surrogate.problem.at(16).sample(range(2), 0)
    assert not torch.equal(surrogate.fields(inputs, 0.5), surrogate.fields(inputs, 1.5))


def test_roll_outs_go_in_steps_of_a_frame_or_as_asked(finished):
    surrogate = Surrogate.load(finished)
    inputs, _ = FieldDataset(finished / "dataset", "test").batch(range(2))
    rolled = surrogate.roll_out(inputs, 2, lead_time=1.0)
    torch.testing.assert_close(rolled[:, 1], surrogate.fields(inputs, 1.0))
    torch.testing.assert_close(rolled[:, 2], surrogate.fields(rolled[:, 1], 1.0))
    torch.testing.assert_close(surrogate.roll_out(inputs, 1)[:, 1], surrogate.fields(inputs, 0.5))


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf"), torch.tensor([0.5, -1.0])])
def test_impossible_lead_times_are_refused(finished, wrong):
    inputs, _ = FieldDataset(finished / "dataset", "test").batch(range(2))
    with pytest.raises(InputError, match="finite and not negative"):
        Surrogate.load(finished).fields(inputs, wrong)
    with pytest.raises(InputError, match="3 of them for 2 samples"):
        Surrogate.load(finished).fields(inputs, torch.ones(3))


def test_beyond_the_trained_lead_times_it_warns(finished, recwarn):
    inputs, _ = FieldDataset(finished / "dataset", "test").batch(range(1))
    surrogate = Surrogate.load(finished)
    surrogate.fields(inputs, 2.0)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="3 is beyond the longest that the operator was trained on, 2"):
        surrogate.fields(inputs, 3.0)


def test_files_are_predicted_at_a_lead_time(finished, tmp_path, capsys):
    inputs, _ = FieldDataset(finished / "dataset", "test").batch(range(2))
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    predict_file(finished, tmp_path / "inputs.npy", tmp_path / "outputs.npy", lead_time=1.3, device="cpu")
    found = torch.from_numpy(np.load(tmp_path / "outputs.npy"))
    torch.testing.assert_close(found, Surrogate.load(finished).fields(inputs, 1.3)[:, 0])
    predict_file(
        finished, tmp_path / "inputs.npy", tmp_path / "far.npy", lead_time=5.0, device="cpu", reporter=Reporter()
    )
    assert "beyond the longest" in capsys.readouterr().err
    predict_file(finished, tmp_path / "inputs.npy", tmp_path / "rolled.npy", lead_time=1.0, frames=2, device="cpu")
    rolled = torch.from_numpy(np.load(tmp_path / "rolled.npy"))
    torch.testing.assert_close(rolled, Surrogate.load(finished).roll_out(inputs, 2, lead_time=1.0)[:, :, 0])


def test_a_surrogate_of_one_step_takes_no_lead_time(tmp_path):
    recipe = load_recipe(write(tmp_path, pairs=None))
    run(recipe, tmp_path / "run", device="cpu", until="train")
    surrogate = Surrogate.load(tmp_path / "run")
    assert surrogate.lead_times is None
    inputs, _ = FieldDataset(tmp_path / "run" / "dataset", "test").batch(range(1))
    surrogate.fields(inputs)
    with pytest.raises(InputError, match="knows one step only"):
        surrogate.fields(inputs, 0.5)


def test_a_pretrained_start_is_taken_over_reported_and_needed_once(finished, tmp_path, capsys):
    weights = load_file(finished / "surrogate" / "model.safetensors")
    recipe = load_recipe(write(tmp_path, pretrained=str(tmp_path / "published"), steps=1, learning_rate=1e-12))
    shutil.copytree(finished / "surrogate", tmp_path / "published")
    run(recipe, tmp_path / "run", device="cpu", until="train", reporter=Reporter())
    assert f"pretrained weights of {tmp_path / 'published'}: {len(weights)} taken over" in capsys.readouterr().err
    again = load_file(tmp_path / "run" / "surrogate" / "model.safetensors")
    assert all(torch.allclose(weights[name], again[name], atol=1e-9) for name in weights)
    shutil.rmtree(tmp_path / "published")
    shutil.rmtree(tmp_path / "run" / "surrogate")
    run(recipe, tmp_path / "run", device="cpu", until="train")  # goes on without it
    resumed = load_file(tmp_path / "run" / "surrogate" / "model.safetensors")
    assert all(torch.equal(again[name], resumed[name]) for name in again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["problem={kind: darcy}"], "training.pairs: 'darcy' is steady"),
        (["training.pairs=some"], "training.pairs: 'some'; allowed are next, first, later, all"),
        (["training.groups.tail.rate=2"], "'tail'; OperatorTransformer has backbone, fields, norms, biases"),
        (
            ["training.groups.fields.speed=2"],
            "training.groups.fields.speed: no such key; allowed are rate, weight_decay",
        ),
        (["training.pretrained=nowhere"], "nowhere: no such model directory"),
        (["training.roll_out.steps=0"], "training.roll_out.steps"),
        (["operator={kind: fourier, modes: 2, width: 4}", "training.groups={}"], "takes no lead time"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(tmp_path, changes, message):
    path = write(tmp_path)
    with pytest.raises(FieldwrightError, match=message.replace("[", r"\[")):
        run(load_recipe(path, changes), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "dataset").exists()
