"""Groups of parameters learn at their own rates, and a resumed training with groups ends in the same bits."""

import csv

import pytest
import torch
from tiny_training import tiny_data
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training import GroupRates, Phase, train
from fieldwright.training.optimizers import OPTIMIZERS, load_named_state, named_state
from fieldwright.training.parameter_groups import FACTOR, optimizer_groups


class Parted(nn.Module):
    """Two layers, each a group; their parameters come in the other order than the groups do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(inputs)))

    def parameter_groups(self) -> dict[str, list[str]]:
        return {"head": ["head.weight", "head.bias"], "body": ["body.weight", "body.bias"]}


def moved(before: nn.Module, after: nn.Module) -> dict[str, float]:
    old = dict(before.named_parameters())
    return {name: float((p - old[name]).detach().abs().max()) for name, p in after.named_parameters()}


def test_the_first_step_of_each_group_is_its_rate(tmp_path):
    operator = Parted()
    phase = Phase(
        steps=1, warmup=0, weight_decay=0.0, learning_rate=1e-3, clip=None, groups={"head": GroupRates(rate=10)}
    )
    train(operator, [phase], tiny_data(), directory=tmp_path, seed=0)
    steps = moved(Parted(), operator)  # the first step of Adam is the rate times the sign of the gradient
    assert steps["head.weight"] == pytest.approx(1e-2, rel=1e-2)
    assert steps["body.weight"] == pytest.approx(1e-3, rel=1e-2)
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["learning_rate"]) == pytest.approx(1e-3)


def test_a_group_of_rate_zero_stays_and_decays_are_each_groups_own(tmp_path):
    operator = Parted()
    groups = {"body": GroupRates(rate=0), "head": GroupRates(weight_decay=0.25)}
    train(operator, [Phase(steps=5, groups=groups)], tiny_data(), directory=tmp_path, seed=0)
    steps = moved(Parted(), operator)
    assert steps["body.weight"] == steps["body.bias"] == 0
    assert steps["head.weight"] > 0
    found = {FACTOR: [], "weight_decay": []}
    for group in optimizer_groups(operator, groups, 0.5):
        for key, values in found.items():
            values.append(group[key])
    assert found == {FACTOR: [1.0, 0.0], "weight_decay": [0.25, 0.5]}


def test_frozen_parameters_are_in_no_group():
    operator = Parted()
    operator.body.requires_grad_(False)
    (group,) = optimizer_groups(operator, {"head": GroupRates(rate=2)}, 0.0)
    assert [id(p) for p in group["params"]] == [id(p) for p in operator.head.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_by_name_survives_the_order_of_groups(name):
    def begun() -> tuple[nn.Module, torch.optim.Optimizer]:
        operator = Parted()
        return operator, OPTIMIZERS[name](optimizer_groups(operator, {"head": GroupRates(rate=3)}, 1e-3), 1e-2, 1e-3)

    def steps(operator: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            operator(torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)).square().sum().backward()
            optimizer.step()

    whole, optimizer = begun()
    steps(whole, optimizer, 5)
    first, early = begun()
    steps(first, early, 3)
    second, late = begun()
    second.load_state_dict(first.state_dict())
    load_named_state(second, late, named_state(first, early))
    steps(second, late, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    state = named_state(second, late)
    assert {n: s["exp_avg"].shape for n, s in state.items()} == {n: p.shape for n, p in second.named_parameters()}


def test_a_resumed_training_with_groups_ends_in_the_same_bits(tmp_path):
    from dataclasses import replace

    from test_resume import Interrupted, PowerCut

    phases = [Phase(steps=25, batch_size=6, groups={"body": GroupRates(rate=0.1, weight_decay=0.0)})]
    data, whole, cut = tiny_data(), Parted(), Parted()
    train(whole, phases, data, directory=tmp_path / "whole", seed=1)
    broken = replace(data, train=Interrupted(data.train_samples, 11))
    with pytest.raises(PowerCut):
        train(Parted(), phases, broken, directory=tmp_path / "cut", seed=1, checkpoint_seconds=0)
    train(cut, phases, data, directory=tmp_path / "cut", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_what_an_operator_does_not_know_is_refused():
    with pytest.raises(InputError, match="'tail'; Parted has head, body"):
        optimizer_groups(Parted(), {"tail": GroupRates()}, 0.0)
    with pytest.raises(InputError, match="Linear does not say"):
        optimizer_groups(nn.Linear(1, 1), {"tail": GroupRates()}, 0.0)

    class Forgetful(Parted):
        def parameter_groups(self):
            return {"head": ["head.weight"]}

    with pytest.raises(InputError, match="not every parameter of Forgetful"):
        optimizer_groups(Forgetful(), {"head": GroupRates()}, 0.0)
