import pytest
import torch
from pydantic import ValidationError
from torch import nn

from fieldwright.training import Phase
from fieldwright.training.kappa_choice import build_kappa
from fieldwright.training.optimizers import OPTIMIZERS, build_optimizer, load_named_state, named_state, trainable


def a_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def some_steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for step in range(count):
        optimizer.zero_grad()
        draws = torch.Generator().manual_seed(step)
        network(torch.randn(5, 3, generator=draws)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_by_name_goes_on_in_the_same_bits(name):
    whole, first = a_network(), a_network()
    some_steps(whole, OPTIMIZERS[name](list(whole.parameters()), 1e-2, 1e-3), 3)
    begun = OPTIMIZERS[name](list(first.parameters()), 1e-2, 1e-3)
    some_steps(first, begun, 3)

    second = a_network()
    second.load_state_dict(first.state_dict())
    resumed = OPTIMIZERS[name](list(second.parameters()), 1e-2, 1e-3)
    load_named_state(second, resumed, named_state(first, begun))
    continued = OPTIMIZERS[name](list(whole.parameters()), 1e-2, 1e-3)
    load_named_state(whole, continued, named_state(first, begun))
    some_steps(second, resumed, 2)
    some_steps(whole, continued, 2)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_first_step_of_adamw_is_the_sign_of_the_gradient_after_the_decay():
    parameter = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = OPTIMIZERS["adamw"]([parameter], 0.1, 0.5)
    parameter.grad = torch.tensor([4.0, -5.0])
    optimizer.step()
    torch.testing.assert_close(
        parameter.data, torch.tensor([2.0, -3.0]) * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([1.0, -1.0])
    )


def test_adam_adds_the_decay_to_the_gradient():
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = OPTIMIZERS["adam"]([parameter], 0.1, 1.0)
    parameter.grad = torch.tensor([-1.0])  # -1 + decay * 2 = 1: the sign turns
    optimizer.step()
    torch.testing.assert_close(parameter.data, torch.tensor([1.9]))


def test_complex_parameters_are_trained():
    parameter = nn.Parameter(torch.tensor([1 + 1j]))
    optimizer = OPTIMIZERS["adamw"]([parameter], 0.1, 0.0)
    (parameter.abs() ** 2).sum().backward()
    optimizer.step()
    assert abs(parameter.item()) < abs(1 + 1j)


def test_frozen_parameters_are_left_out_and_unnamed_ones_start_fresh():
    network = a_network()
    network[0].weight.requires_grad_(False)
    assert list(trainable(network)) == ["0.bias", "2.weight", "2.bias"]
    optimizer = OPTIMIZERS["adamw"](list(trainable(network).values()), 1e-2, 0.0)
    some_steps(network, optimizer, 2)
    state = named_state(network, optimizer)
    fresh = OPTIMIZERS["adamw"](list(trainable(network).values()), 1e-2, 0.0)
    load_named_state(network, fresh, {"2.bias": state["2.bias"]})
    assert list(named_state(network, fresh)) == ["2.bias"]
    assert float(named_state(network, fresh)["2.bias"]["step"]) == 2


def test_settings_reach_the_optimizer():
    phase = Phase(
        steps=1, optimizer={"kind": "lion-k", "kappa": {"kind": "huber", "epsilon": 0.5}, "betas": [0.9, 0.99]}
    )
    optimizer = build_optimizer(phase.optimizer, list(a_network().parameters()), 1e-2, 1e-3)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert optimizer.param_groups[0]["kappa"] == build_kappa({"kind": "huber", "epsilon": 0.5})
    assert phase.model_dump(mode="json")["optimizer"]["kappa"]["epsilon"] == 0.5


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("lion_k", "did you mean 'lion-k'"),
        ({"kind": "lion-k", "kapa": "sign"}, "no setting 'kapa'; did you mean 'kappa'"),
        ({"kind": "lion-k", "kappa": "sing"}, "did you mean 'sign'"),
        ({"kind": "lion-k", "state": "int8"}, "float32, bfloat16"),
        ({"kind": "lion-k", "betas": [0.9]}, "two are needed"),
        ({"kind": "adamw", "kappa": "sign"}, "no setting 'kappa'"),
        ({"kappa": "sign"}, "optimizer 'None'"),
    ],
)
def test_wrong_settings_are_refused_when_the_phase_is_stated(choice, words):
    with pytest.raises(ValidationError, match=words):
        Phase(steps=1, optimizer=choice)


def test_a_rate_that_a_decay_would_overshoot_is_refused_when_the_phase_is_stated():
    with pytest.raises(ValidationError, match="less than 1"):
        Phase(steps=1, optimizer="lion-k", learning_rate=0.5, weight_decay=2.0)
