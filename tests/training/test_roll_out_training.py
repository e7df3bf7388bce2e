"""Training on an operator's own outputs: what is rolled out, where noise enters, where gradients go."""

import pytest
import torch
from torch import nn

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training import ChannelLayout, Phase, RollOut, TensorTrajectories, TrainingData, train
from fieldwright.training.batches import Batch
from fieldwright.training.objectives import build_objective
from fieldwright.training.roll_out import RolledOut

GRID = Grid((4,))


def decay(fields: torch.Tensor, lead_time: torch.Tensor) -> torch.Tensor:
    """u e^{-k t} of (u, k)."""
    return fields[:, :1] * torch.exp(-fields[:, 1:2] * lead_time[:, None, None])


def batch(**settings) -> Batch:
    fields = 1 + torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    scale = torch.tensor([1.5], dtype=torch.float64)
    return Batch(fields, decay(fields, times), GRID, scale, lead_time=times, **settings)


def test_steps_are_equal_parts_of_each_lead_time_and_compose():
    asked: list[torch.Tensor] = []

    def watched(fields, lead_time):
        asked.append(lead_time)
        return decay(fields, lead_time)

    loss = RolledOut(build_objective("l2"), RollOut(steps=4))(watched, batch())["l2"]
    assert float(loss) < 1e-6
    assert len(asked) == 4
    assert all(torch.equal(times, torch.tensor([0.0, 0.125, 0.5], dtype=torch.float64)) for times in asked)


def test_gradients_of_a_push_forward_go_through_the_last_step_alone():
    size = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    given = batch()
    slopes = {}
    for pushforward in (False, True):
        objective = RolledOut(build_objective("group-l1"), RollOut(steps=3, pushforward=pushforward))
        loss = objective(lambda u, lead_time: size * decay(u, lead_time), given)["group-l1"]
        (slopes[pushforward],) = torch.autograd.grad(loss, size)
    # û = size³ u and û > u, so that the loss is size³ - 1.
    assert float(slopes[False]) == pytest.approx(3 * 1.1**2)
    assert float(slopes[True]) == pytest.approx(1.1**2)


def test_noise_enters_every_step_in_units_of_the_fields_size():
    seen: list[torch.Tensor] = []
    fields = torch.zeros(50, 2, 400)
    given = Batch(fields, fields[:, :1], Grid((400,)), torch.tensor([3.0]))

    def still(fields, lead_time=None):
        seen.append(fields)
        return fields[:, :1]

    torch.manual_seed(4)
    objective = RolledOut(build_objective("group-l2"), RollOut(steps=2, noise=0.1))
    first = objective(still, given)
    assert float(seen[0][:, 0].std()) == pytest.approx(0.3, rel=0.02)
    assert float(seen[1][:, 0].std()) == pytest.approx(0.3 * 2**0.5, rel=0.02)
    assert not bool(seen[0][:, 1].any())  # what is no state keeps its value
    torch.manual_seed(4)
    assert objective(still, given) == first
    assert objective(still, given) != first


def test_a_clock_goes_on_with_the_steps():
    def forced(fields, lead_time):
        """u + sin(s + t) - sin s, s the clock."""
        begin, t = fields[:, 1:2], lead_time[:, None, None]
        return fields[:, :1] + (begin + t).sin() - begin.sin()

    plain = batch(layout=ChannelLayout(clock=1))
    given = Batch(
        plain.inputs, forced(plain.inputs, plain.lead_time), GRID, plain.scale, plain.lead_time, None, plain.layout
    )
    objective = RolledOut(build_objective("l2"), RollOut(steps=5))
    assert float(objective(forced, given)["l2"]) < 1e-6
    stopped = Batch(given.inputs, given.outputs, GRID, given.scale, given.lead_time)
    assert float(objective(forced, stopped)["l2"]) > 1e-2
    timeless = Batch(given.inputs, given.outputs, GRID, given.scale, None, None, given.layout)
    with pytest.raises(InputError, match="the problem has a clock"):
        objective(lambda fields: fields[:, :1], timeless)


class Halving(nn.Module):
    """One factor per step, of an operator without lead times."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.9))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.factor * inputs


@pytest.mark.parametrize("steps", [1, 3])
def test_an_operator_of_one_step_is_rolled_out_over_stored_frames(tmp_path, steps):
    times = torch.arange(5, dtype=torch.float64)
    states = (1 + torch.rand(6, 1, 1, 4)) * 0.5 ** times.float()[:, None, None]
    trajectories = TensorTrajectories(states, states, times)
    unit = Normalizer(torch.zeros(1), torch.ones(1))
    data = TrainingData(trajectories, trajectories, unit, unit, GRID)
    operator = Halving()
    phase = Phase(steps=200, learning_rate=0.02, roll_out=RollOut(steps=steps))
    summary = train(operator, [phase], data, directory=tmp_path, seed=0)
    assert float(operator.factor.detach()) == pytest.approx(0.5, abs=1e-3)
    assert summary.validation.relative_l2 < 1e-2
