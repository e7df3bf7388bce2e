"""Roll-outs of operators whose error per frame is known."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from decay_problem import Decay, Forced, exact_decay
from fieldwright.analysis import EvaluationSettings, evaluate, rollout_errors
from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError
from fieldwright.problems import Darcy
from fieldwright.surrogate import Surrogate

DECAY = Decay(frames=5)


class Step(nn.Module):
    """One frame of `Decay`, the state multiplied by ``1 + error`` besides; NaN where the first k is above ``most``."""

    def __init__(self, error: float = 0.0, most: float = torch.inf):
        super().__init__()
        self.error, self.most = error, most

    def forward(self, inputs):
        state = (1 + self.error) * inputs[:, :2] * torch.exp(-inputs[:, 2:3] * DECAY.interval)
        return torch.where(inputs[:, 2:3] > self.most, torch.nan, state)


def unit(fields) -> Normalizer:
    return Normalizer(torch.zeros(len(fields)), torch.ones(len(fields)), tuple(field.name for field in fields))


def stepping(operator: nn.Module, problem=DECAY) -> Surrogate:
    return Surrogate(operator, unit(problem.inputs), unit(problem.outputs), problem)


def test_exact_steps_follow_the_exact_solution_and_what_stays_stays():
    first = DECAY.sample(range(4), 0)
    states = stepping(Step()).roll_out(first, 7)
    exact = torch.stack([exact_decay(DECAY, first, n * DECAY.interval) for n in range(8)], 1)
    assert states.shape == (4, 8, 2, 8, 8)
    torch.testing.assert_close(states, exact, rtol=1e-5, atol=0)


def test_a_clock_goes_on():
    class Swing(nn.Module):
        def forward(self, inputs):
            state, start = inputs[:, :1], inputs[:, 1:]
            return state + torch.sin(start + problem.interval) - torch.sin(start)

    problem = Forced()
    first = problem.sample(range(3), 0)
    states = stepping(Swing(), problem).roll_out(first, 6)
    expected = first[:, None, 0] + torch.sin(problem.interval * torch.arange(7.0).double())[:, None]
    torch.testing.assert_close(states[:, :, 0], expected, rtol=1e-5, atol=1e-6)


def test_a_lost_trajectory_is_nan_from_there_on_and_leaves_the_others_alone():
    first = DECAY.sample(range(5), 0)  # k = 1 to 5
    states = stepping(Step(most=3.5)).roll_out(first, 3)
    assert states[3:, 1:].isnan().all()
    torch.testing.assert_close(states[:3], stepping(Step()).roll_out(first[:3], 3))


def test_a_relative_error_per_frame_compounds():
    first = DECAY.sample(range(6), 0)
    states, _ = DECAY.trajectory(first, rtol=1e-7)
    found, arrays = rollout_errors(stepping(Step(error=0.02)), DECAY, first, states)
    expected = 1.02 ** np.arange(6) - 1
    np.testing.assert_allclose(arrays["rollout_error"], np.tile(expected, (6, 1)), atol=2e-6)
    np.testing.assert_allclose(found.last.median, expected[-1], atol=2e-6)
    kept = (first[:, 2, 0, 0] * DECAY.duration).exp() - 1  # ‖u₀ - u₀ e^(-k t)‖ / ‖u₀ e^(-k t)‖
    np.testing.assert_allclose(found.persistence, kept.quantile(0.5), rtol=1e-5)
    assert (found.frames, found.duration, found.trajectories, found.lost) == (5, 1.0, 6, 0)


def test_lost_trajectories_are_counted_and_left_out_of_the_summary():
    first = DECAY.sample(range(5), 0)
    states, _ = DECAY.trajectory(first)
    found, arrays = rollout_errors(stepping(Step(most=3.5)), DECAY, first, states)
    assert (found.lost, found.last.count) == (2, 3)
    assert np.isinf(arrays["rollout_error"][3:, 1:]).all()
    none, _ = rollout_errors(stepping(Step(most=0.0)), DECAY, first, states)
    assert (none.lost, none.last) == (5, None)


def test_an_evaluation_has_them_where_there_is_more_than_one_frame():
    inputs = DECAY.sample(range(8), 1)
    outputs, _ = DECAY.solve(inputs)
    chosen = EvaluationSettings(shifts=False, samples=5)
    found = evaluate(stepping(Step(error=0.01)), DECAY, inputs, outputs, settings=chosen, seed=3)
    assert found.rollout.trajectories == 5
    np.testing.assert_allclose(found.rollout.last.median, 1.01**5 - 1, atol=1e-4)
    assert found.arrays["rollout_error"].shape == (5, 6)
    single = dataclasses.replace(DECAY, duration=DECAY.interval, frames=1)
    outputs, _ = single.solve(inputs)
    alone = evaluate(stepping(Step(), single), single, inputs, outputs, settings=chosen, seed=3)
    assert alone.rollout is None
    assert "rollout_error" not in alone.arrays


@pytest.mark.parametrize(
    ("problem", "frames", "words"), [(DECAY, 0, "rollout: 0 frames"), (Darcy(resolution=8), 3, "no next frame")]
)
def test_what_cannot_be_rolled_out_is_refused(problem, frames, words):
    with pytest.raises(InputError, match=words):
        stepping(nn.Identity(), problem).roll_out(problem.sample(range(1), 0), frames)
