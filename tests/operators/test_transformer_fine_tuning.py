"""Fine-tuning of the operator transformer, and trajectories from its own outputs."""

import math

import pytest
import torch
from torch import nn

from fieldwright.errors import InputError
from fieldwright.operators import OperatorTransformer, fine_tuning_groups, for_channels, roll_out


def small(in_channels: int = 2, out_channels: int = 2, **settings) -> OperatorTransformer:
    torch.manual_seed(0)
    return OperatorTransformer(in_channels, out_channels, width=12, depths=[2, 1], patch=2, window=4, **settings)


class Decay(nn.Module):
    """u' = -a u for one field u and its coefficient a, solved exactly."""

    def forward(self, inputs: torch.Tensor, lead_time: float) -> torch.Tensor:
        return inputs[:, :1] * torch.exp(-inputs[:, 1:] * lead_time)


def test_other_channels_change_only_the_weights_that_count_them():
    operator = small()
    other = for_channels(operator, 3, 1)
    weights, fresh = operator.state_dict(), other.state_dict()
    changed = {name for name in weights if not torch.equal(weights[name], fresh[name])}
    assert changed == {
        "embeddings.patch_embeddings.projection.weight",
        "patch_recovery.projection.weight",
        "patch_recovery.projection.bias",
        "patch_recovery.mixup.weight",
    }
    assert all(weight.isfinite().all() for weight in fresh.values())
    assert other(torch.randn(1, 3, 8, 12)).shape == (1, 1, 8, 12)


def test_the_same_channels_give_the_same_operator_with_memory_of_its_own():
    operator, x = small().double().eval(), torch.randn(1, 2, 8, 8, dtype=torch.float64)
    other = for_channels(operator, 2, 2)
    assert torch.equal(other(x), operator(x))
    assert not other.training
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not torch.equal(other(x), operator(x))


def test_one_more_output_keeps_the_embedding():
    operator = small()
    name = "embeddings.patch_embeddings.projection.weight"
    assert torch.equal(for_channels(operator, 2, 5).state_dict()[name], operator.state_dict()[name])


def test_groups_part_all_parameters_as_published():
    operator = small()
    groups = fine_tuning_groups(operator)
    names = [name for group in groups.values() for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in operator.named_parameters())
    assert {name: (g.learning_rate, g.weight_decay) for name, g in groups.items()} == {
        "backbone": (5e-5, 1e-6), "fields": (5e-4, 1e-6), "norms": (5e-4, 0.0), "biases": (5e-5, 0.0),
    }  # fmt: skip
    block = "encoder.layers.0.blocks.1"
    where = {name: kind for kind, group in groups.items() for name in group.parameters}
    assert where["embeddings.norm.weight.bias"] == "fields"
    assert where["patch_recovery.mixup.weight"] == "fields"
    assert where[f"{block}.layernorm_before.bias.weight"] == "norms"
    assert where["encoder.layers.0.downsample.norm.weight.weight"] == "norms"
    assert where["residual_blocks.0.0.norm.weight.weight"] == "norms"
    assert where[f"{block}.attention.self.continuous_position_bias_mlp.0.weight"] == "biases"
    assert where[f"{block}.attention.self.query.bias"] == "biases"
    assert where[f"{block}.attention.self.logit_scale"] == "backbone"
    assert where["residual_blocks.0.0.weight"] == "backbone"


def test_groups_leave_frozen_parameters_out():
    operator = small(conditioned=False)
    operator.encoder.requires_grad_(False)
    groups = fine_tuning_groups(operator, backbone=1e-3, weight_decay=0.1)
    assert not any(name.startswith("encoder.") for group in groups.values() for name in group.parameters)
    assert groups["backbone"].learning_rate == 1e-3
    assert "decoder.layers.0.blocks.0.layernorm_after.weight" in groups["norms"].parameters
    with pytest.raises(InputError, match="norms: -1"):
        fine_tuning_groups(operator, norms=-1)


def test_steps_of_an_exact_flow_compose_to_its_solution():
    inputs, steps = torch.rand(3, 2, 5, 4, dtype=torch.float64), [0.1, 0.4, 0.25, 0.0]
    trajectory = roll_out(Decay(), inputs, steps)
    times = torch.tensor(steps, dtype=torch.float64).cumsum(0)[:, None, None, None]
    expected = inputs[:, None, :1] * torch.exp(-inputs[:, None, 1:] * times)
    assert torch.allclose(trajectory, expected, atol=1e-14)


def test_steps_of_a_transformer_are_its_calls():
    operator, x = small(3, 2).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    trajectory = roll_out(operator, x, [0.5, 0.25])
    first = operator(x, 0.5)
    assert torch.equal(trajectory[:, 0], first)
    assert torch.equal(trajectory[:, 1], operator(torch.cat((first, x[:, 2:]), 1), 0.25))


def test_pushforward_takes_the_gradient_of_the_last_step_alone():
    scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    class Scale(nn.Module):
        def forward(self, inputs, lead_time):
            return scale * inputs

    inputs = torch.ones(1, 1, 1, dtype=torch.float64)
    for pushforward, slope in ((False, 3 * 2.0**2), (True, 2.0**2)):
        last = roll_out(Scale(), inputs, [1.0] * 3, pushforward=pushforward)[:, -1]
        assert torch.autograd.grad(last.sum(), scale)[0] == slope


def test_noise_has_its_deviation_and_follows_the_seed():
    inputs = torch.zeros(1, 1, 100, 100)

    class Still(nn.Module):
        def forward(self, inputs, lead_time):
            return inputs

    drawn = [
        roll_out(Still(), inputs, [1, 1, 1], noise=0.1, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[0][:, 0], inputs)
    assert drawn[0][:, 1].std() == pytest.approx(0.1, rel=0.03)
    assert drawn[0][:, 2].std() == pytest.approx(0.1 * math.sqrt(2), rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lead_times": []}, "one or more steps"),
        ({"lead_times": [0.5, -0.1]}, "finite and not negative"),
        ({"lead_times": [0.5], "noise": -1.0}, "noise: -1.0"),
        ({"lead_times": [0.5], "noise": 1.0}, "needs a generator"),
    ],
)
def test_impossible_roll_outs_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        roll_out(Decay(), torch.ones(1, 2, 4), **arguments)


def test_outputs_that_cannot_be_inputs_are_named():
    with pytest.raises(InputError, match="cannot be its inputs"):
        roll_out(small(2, 3), torch.randn(1, 2, 8, 8), [0.5, 0.5])
