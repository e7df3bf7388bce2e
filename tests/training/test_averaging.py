import pytest
import torch
from torch import nn

from fieldwright.training.averaging import WeightAverage


def test_average_follows_its_recurrence():
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    weights = [0.5, -1.0, 2.0, 4.0, 8.0]
    layer.weight.data.fill_(weights[0])
    average = WeightAverage.of(layer, 0.3)
    expected = weights[0]
    for t, weight in enumerate(weights[1:]):
        layer.weight.data.fill_(weight)
        average.update(layer)
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight
        assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-14)


def test_average_of_constant_weights_is_the_weights():
    layer = nn.Linear(3, 2)
    average = WeightAverage.of(layer, 0.999)
    for _ in range(50):
        average.update(layer)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(average.weights[name], parameter.data)


def test_applied_gives_the_operators_own_weights_back_in_bits():
    layer = nn.Linear(3, 2)
    average = WeightAverage.of(layer, 0.5)
    own = torch.randn(2, 3)
    layer.weight.data.copy_(own)
    with average.applied(layer):
        assert torch.equal(layer.weight, average.weights["weight"])
    assert torch.equal(layer.weight, own)


def test_average_begins_as_a_copy():
    layer = nn.Linear(2, 2)
    average = WeightAverage.of(layer, 0.9)
    before = average.weights["weight"].clone()
    layer.weight.data.zero_()
    assert torch.equal(average.weights["weight"], before)
