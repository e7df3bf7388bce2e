import csv
from dataclasses import replace

import pytest
import torch
from tiny_training import GRID, PHASES, SYMMETRIES, tiny_data, tiny_operator, tiny_training
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError, RecipeError, TrainingError
from fieldwright.grids import Grid
from fieldwright.norms import relative_h1, relative_l2
from fieldwright.training import Carried, Phase, PhysicalPrediction, TrainingData, train
from fieldwright.training.batches import SampleStream


def weights(operator: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in operator.parameters()])


def rows(directory) -> list[dict[str, str]]:
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    return directory, tiny_training(directory)


def test_training_learns(trained):
    _, summary = trained
    assert summary.validation.relative_l2 < 0.25
    assert summary.best.relative_l2 <= summary.validation.relative_l2
    assert summary.steps == 30 + -(-4 * 32 // 6)
    assert summary.seconds_per_step == summary.seconds / summary.steps
    assert summary.checkpoint.exists()
    assert summary.to_dict()["validation"]["relative_l2"] == summary.validation.relative_l2


def test_the_same_call_gives_the_same_bits(trained, tmp_path):
    _, summary = trained
    assert torch.equal(weights(tiny_training(tmp_path).operator), weights(summary.operator))


def test_validation_is_the_relative_error_in_physical_units(trained):
    _, summary = trained
    data = tiny_data()
    inputs, outputs = data.valid
    summary.operator.eval()
    with torch.no_grad():
        prediction = data.outputs.decode(summary.operator(data.inputs.encode(inputs)))
    for measured, relative in (("relative_l2", relative_l2), ("relative_h1", relative_h1)):
        expected = relative(prediction.double(), outputs.double(), GRID).mean()
        assert getattr(summary.validation, measured) == pytest.approx(float(expected), rel=1e-6)


def test_metrics_tell_the_run(trained):
    directory, summary = trained
    table = rows(directory)
    steps = [int(row["step"]) for row in table]
    assert steps == sorted(steps)
    assert steps[-1] == summary.steps
    assert {row["phase"] for row in table} == {"first", "second"}
    assert float(table[-1]["valid_relative_l2"]) == summary.validation.relative_l2
    assert float(table[-1]["fraction"]) == 1.0
    first = [row for row in table if row["phase"] == "first"]
    assert all(row["loss_h1"] == "" and row["loss"] == row["loss_l2"] for row in first)
    last = table[-1]
    assert float(last["loss"]) == pytest.approx(float(last["loss_l2"]) + float(last["loss_h1"]))
    for row in table:
        phase = {phase.name: phase for phase in PHASES}[row["phase"]]
        before = (int(row["phase_step"]) - 1) / (phase.steps or 4 * 32 / 6)
        assert float(row["learning_rate"]) == pytest.approx(phase.rate(min(before, 1.0)))


def test_torchs_own_generator_is_left_as_it_was(tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(3)
    operator = tiny_operator()
    torch.manual_seed(11)
    train(operator, [Phase(steps=2)], tiny_data(), directory=tmp_path, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_a_linear_map_is_learnt_to_round_off(tmp_path):
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 2, 4, generator=draws)
    outputs = torch.einsum("oi,bix->box", torch.tensor([[1.0, -2.0], [0.5, 3.0]]), inputs)
    unit = Normalizer(torch.zeros(2), torch.ones(2))
    data = TrainingData((inputs, outputs), (inputs, outputs), unit, unit, Grid((4,)))
    phase = Phase(steps=200, learning_rate=0.1, weight_decay=0.0)
    operator = nn.Conv1d(2, 2, 1)
    summary = train(operator, [phase], data, directory=tmp_path, seed=0)
    assert summary.validation.relative_l2 < 1e-4
    torch.testing.assert_close(operator.weight[..., 0], torch.tensor([[1.0, -2.0], [0.5, 3.0]]), atol=1e-3, rtol=0)


def one_step(tmp_path, name, **settings) -> torch.Tensor:
    phase = Phase(**{"steps": 1, "warmup": 0.0, "batch_size": 8, **settings})
    summary = train(tiny_operator(dropout=0.0), [phase], tiny_data(), directory=tmp_path / name, seed=0)
    return weights(summary.operator)


def test_accumulation_gives_the_step_of_the_whole_batch(tmp_path):
    whole = one_step(tmp_path, "whole", optimizer="adam", learning_rate=1e-3)
    for pieces in (3, 8, 20):
        parts = one_step(tmp_path, f"{pieces}", optimizer="adam", learning_rate=1e-3, accumulate=pieces)
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_clipped_by_norm(tmp_path):
    norms = []

    def measure(optimizer, *_):
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))

    hook = register_optimizer_step_pre_hook(measure)
    one_step(tmp_path, "free", clip=None)
    one_step(tmp_path, "clipped", clip=1e-3)
    hook.remove()
    free, clipped = norms
    assert free > 1e-2
    assert clipped == pytest.approx(1e-3, rel=1e-3)
    for name in ("free", "clipped"):  # what is recorded is the norm before clipping
        assert float(rows(tmp_path / name)[-1]["gradient_norm"]) == pytest.approx(free, rel=1e-5)


def test_the_operator_ends_with_averaged_weights(tmp_path):
    settings = {"steps": 4, "schedule": "constant", "warmup": 0.0, "clip": None}
    path = [weights(tiny_operator(dropout=0.0))]
    for steps in (1, 2, 3, 4):
        path.append(one_step(tmp_path, f"{steps}", **{**settings, "steps": steps}))
    average = path[0]
    for t, current in enumerate(path[1:]):
        decay = min(0.9, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * current
    torch.testing.assert_close(one_step(tmp_path, "average", **settings, ema=0.9), average, rtol=1e-5, atol=1e-7)


def test_symmetric_data_are_augmented_and_asymmetric_maps_are_seen(tmp_path):
    plain = one_step(tmp_path, "plain")
    operator = tiny_operator(dropout=0.0)
    phase = Phase(steps=1, warmup=0.0, batch_size=8)
    train(operator, [phase], tiny_data(), directory=tmp_path / "augmented", seed=0, symmetries=SYMMETRIES)
    assert not torch.equal(weights(operator), plain)


class Poisoned:
    """Training samples of which one is NaN."""

    def __init__(self, pair, bad):
        self.inputs, self.outputs, self.bad = *pair, bad

    def __len__(self):
        return len(self.inputs)

    def batch(self, indices):
        outputs = self.outputs[list(indices)].clone()
        if len(indices) == 6 and self.bad in list(indices):
            outputs[list(indices).index(self.bad)] = float("nan")
        return self.inputs[list(indices)], outputs


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    data = tiny_data()
    stream = SampleStream(32, 6, seed=3, phase=0)
    bad = int(stream.indices(4)[0])
    visited = [step for step in range(30) if bad in stream.indices(step).tolist()]
    poisoned = replace(data, train=Poisoned(data.train, bad))
    operator = tiny_operator()
    with pytest.raises(TrainingError, match=f"phase 'first'.*not finite at step {visited[0]}; the last good") as caught:
        train(operator, PHASES, poisoned, directory=tmp_path, seed=3, checkpoint_seconds=0)
    (name,) = [p.name for p in (tmp_path / "checkpoints").iterdir() if f"step-{visited[0]:08d}" in p.name]
    assert name in str(caught.value)
    assert bool(weights(operator).isfinite().all())


def test_prepare_makes_the_operator_and_the_optimizer_of_its_phase(tmp_path):
    received = []

    def widen(carried: Carried) -> Carried:
        received.append(carried)
        grown = nn.Sequential(carried.operator, nn.Conv2d(1, 1, 1))
        return Carried(grown, {f"0.{name}": state for name, state in carried.optimizer_state.items()})

    phases = [Phase(name="base", steps=3), Phase(name="grown", steps=2, prepare=widen)]
    summary = train(tiny_operator(), phases, tiny_data(), directory=tmp_path, seed=0)
    assert isinstance(summary.operator[1], nn.Conv2d)
    assert set(received[0].optimizer_state) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    final = torch.load(summary.checkpoint, weights_only=True)["optimizer"]
    assert float(final["0.0.weight"]["step"]) == 5  # three steps were carried over
    assert float(final["1.weight"]["step"]) == 2

    again = train(tiny_operator(), phases, tiny_data(), directory=tmp_path, seed=0)
    assert received[1].optimizer_state == {}
    assert torch.equal(weights(again.operator), weights(summary.operator))


def test_without_prepare_a_phase_has_a_fresh_optimizer(tmp_path):
    summary = train(
        tiny_operator(), [Phase(name="a", steps=3), Phase(name="b", steps=2)], tiny_data(), directory=tmp_path, seed=0
    )
    final = torch.load(summary.checkpoint, weights_only=True)["optimizer"]
    assert {float(state["step"]) for state in final.values()} == {2.0}


def test_frozen_parameters_stay(tmp_path):
    operator = tiny_operator()
    operator[0].requires_grad_(False)
    before = operator[0].weight.clone()
    train(operator, [Phase(steps=3)], tiny_data(), directory=tmp_path, seed=0)
    assert torch.equal(operator[0].weight, before)
    operator.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter that can be trained"):
        train(operator, [Phase(steps=3)], tiny_data(), directory=tmp_path / "b", seed=0)


def test_bfloat16_surrounds_the_operator_alone():
    seen = {}

    class Probe(nn.Module):
        def forward(self, x):
            product = torch.nn.functional.conv2d(x, torch.ones(1, 1, 1, 1))
            seen["inside"] = product.dtype
            return product

    data = tiny_data()
    fields = PhysicalPrediction(Probe(), data.inputs, data.outputs, bfloat16=True)(data.valid[0])
    assert seen["inside"] == torch.bfloat16
    assert fields.dtype == torch.float32


def test_bfloat16_trains(tmp_path):
    phase = Phase(steps=60, precision="bf16-mixed", learning_rate=1e-2)
    summary = train(tiny_operator(dropout=0.0), [phase], tiny_data(), directory=tmp_path, seed=0)
    assert summary.validation.relative_l2 < 0.3
    assert all(p.dtype == torch.float32 for p in summary.operator.parameters())


def test_compile_goes_through_torch_compile(tmp_path, monkeypatch):
    compiled = []
    original = torch.compile

    def eager(module, **settings):
        compiled.append(module)
        return original(module, backend="eager", **{k: v for k, v in settings.items() if k != "backend"})

    monkeypatch.setattr(torch, "compile", eager)
    operator = tiny_operator(dropout=0.0)
    train(operator, [Phase(steps=2, compile=True, batch_size=8, warmup=0.0)], tiny_data(), directory=tmp_path, seed=0)
    assert compiled
    assert torch.equal(weights(operator), one_step(tmp_path, "plain", steps=2))
    assert not any("_orig_mod" in name for name in operator.state_dict())


def test_a_budget_in_seconds_ends_the_phase(tmp_path):
    summary = train(tiny_operator(), [Phase(seconds=0.3)], tiny_data(), directory=tmp_path, seed=0)
    assert summary.steps >= 1
    assert summary.seconds >= 0.3
    assert rows(tmp_path)[-1]["fraction"] == "1.0"


def test_another_training_in_the_same_directory_is_refused(trained, tmp_path):
    directory, _ = trained
    changed = [PHASES[0].model_copy(update={"learning_rate": 0.5}), PHASES[1]]
    with pytest.raises(RecipeError, match=r"another training: phases.0.learning_rate was 0.01, here 0.5"):
        train(tiny_operator(), changed, tiny_data(), directory=directory, seed=3, symmetries=SYMMETRIES)
    with pytest.raises(RecipeError, match="seed was 3, here 4"):
        train(tiny_operator(), PHASES, tiny_data(), directory=directory, seed=4, symmetries=SYMMETRIES)
    with pytest.raises(RecipeError, match="another operator"):
        train(nn.Conv2d(1, 1, 1), PHASES, tiny_data(), directory=directory, seed=3, symmetries=SYMMETRIES)


def test_an_operator_with_another_output_is_refused_before_any_step(tmp_path):
    with pytest.raises(InputError, match=r"fields of shape \(8, 2, 8, 8\)"):
        train(nn.Conv2d(1, 2, 1), [Phase(steps=1)], tiny_data(), directory=tmp_path, seed=0)


def test_no_phases_is_an_error(tmp_path):
    with pytest.raises(InputError, match="at least one"):
        train(tiny_operator(), [], tiny_data(), directory=tmp_path, seed=0)
