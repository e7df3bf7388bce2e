import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.problems.advection import Advection
from fieldwright.problems.random_harmonics import random_harmonics


@pytest.mark.parametrize("dimension", [1, 2])
def test_constant_flow_moves_the_state_and_nothing_else(dimension: int) -> None:
    problem = Advection(resolution=32, dimension=dimension, speed_x=0.75, speed_y=-0.5, duration=1.0, frames=8)
    inputs = problem.sample([0, 1], 0)
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    # In one interval of 1/8 it moves by 3 and -2 of the 32 points.
    for frame in range(9):
        shift, axes = [3 * frame, -2 * frame][:dimension], [-2, -1][-dimension:]
        torch.testing.assert_close(states[:, frame], inputs[:, :1].roll(shift, axes), rtol=0, atol=1e-12)


def test_fractions_of_a_point_are_exact_too() -> None:
    problem = Advection(resolution=40, speed_x=0.37, duration=1.0, frames=1)
    x = problem.grid.axis(0)
    wave = torch.sin(2 * math.pi * 5 * x) + 0.5 * torch.cos(2 * math.pi * 2 * x)
    moved = torch.sin(2 * math.pi * 5 * (x - 0.37)) + 0.5 * torch.cos(2 * math.pi * 2 * (x - 0.37))
    states, _ = problem.trajectory(wave[None, None])
    torch.testing.assert_close(states[0, 1, 0], moved, rtol=0, atol=1e-13)


def test_shear_flow_carries_each_line_at_its_own_speed_to_spectral_accuracy() -> None:
    errors = []
    for n in (16, 32, 48):
        problem = Advection(resolution=n, dimension=2, flow="random", initial_state="gaussian", duration=0.25, frames=1)
        x, y = problem.grid.coordinates()
        shear = 0.5 * torch.sin(2 * math.pi * y)
        inputs = torch.stack([torch.cos(2 * math.pi * x), shear, torch.zeros_like(x)])[None]
        states, _ = problem.trajectory(inputs, rtol=1e-9)
        exact = torch.cos(2 * math.pi * (x - 0.25 * shear))
        errors.append(float((states[0, 1, 0] - exact).abs().max()))
    assert errors[1] < 1e-4 * errors[0]
    assert errors[2] < 1e-8


def test_random_flow_is_without_divergence_and_keeps_mass_and_square() -> None:
    problem = Advection(resolution=32, dimension=2, flow="random", initial_state="gaussian", duration=0.25, frames=2)
    inputs = problem.sample([0, 1], 0)
    spectrum = problem.waves.forward(inputs[:, 1:])
    divergence = sum(problem.waves.derivative(axis) * spectrum[:, axis] for axis in range(2))
    assert float(divergence.abs().max()) < 1e-12
    states, solution = problem.trajectory(inputs, rtol=1e-7)
    assert bool(solution.converged.all())
    laws = problem.laws(inputs, states, problem.times)
    assert float(laws["mean concentration"].defect().max()) < 1e-13
    assert float(laws["square"].defect().max()) < 1e-7


def test_square_is_kept_by_the_rate_itself() -> None:
    problem = Advection(resolution=24, dimension=2, flow="random", initial_state="gaussian")
    inputs = problem.sample([3], 1)
    rate = problem.rate(inputs)
    work = (inputs[:, :1] * rate).sum() / (inputs[:, :1].norm() * rate.norm())
    assert abs(float(work)) < 1e-14


def test_random_flows_have_the_asked_speed() -> None:
    problem = Advection(resolution=48, dimension=2, flow="random", initial_state="gaussian", rms_speed=2.0)
    flows = problem.sample(range(100), 0)[:, 1:]
    assert float(flows.square().sum(1).mean().sqrt()) == pytest.approx(2.0, rel=0.05)


def test_too_few_steps_for_the_flow_are_refused_with_the_number_that_is_stable() -> None:
    problem = Advection(resolution=48, dimension=2, flow="random", initial_state="gaussian", frames=1)
    inputs = problem.sample([0], 0)
    least = problem.least_steps(inputs)
    states = problem.integrate(inputs, frames=1, steps=least)
    assert float(states.square().sum()) <= float(inputs[:, :1].square().sum())
    hasty = Advection(resolution=48, dimension=2, flow="random", initial_state="gaussian", frames=1, steps=2)
    with pytest.raises(InputError, match=f"2 steps .* are unstable for these instances; {least} or more"):
        hasty.trajectory(inputs)


def test_harmonics_are_few_waves_with_amplitudes_and_periods_in_range() -> None:
    problem = Advection(resolution=64)
    fields = problem.sample(range(300), 0)[:, 0]
    spectrum = problem.waves.forward(fields).abs()
    assert float(spectrum[:, 9:].max()) < 1e-14
    assert float(spectrum[:, 0].max()) < 1e-14
    count = (spectrum > 1e-12).sum(1)
    assert set(count.tolist()) == {1, 2}
    # Two waves of amplitude U[0, 1]: the variance of one is E a² / 2 = 1/6.
    assert float(fields.square().mean()) == pytest.approx(1 / 3, rel=0.1)
    with pytest.raises(InputError, match="waves up to 8 on a grid of"):
        random_harmonics(Advection(resolution=32).grid.resized(12), [0], 0)
