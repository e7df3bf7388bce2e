import math

import pytest
import torch

from fieldwright.problems.kuramoto_sivashinsky import KuramotoSivashinsky


@pytest.mark.parametrize("length", [22.0, [10.0, 40.0]])
def test_rate_of_a_sine_is_known_on_any_length(length) -> None:
    problem = KuramotoSivashinsky(resolution=64, length=length, highest=2)
    x = problem.grid.axis(0) * (22.0 / problem.grid.lengths[0])
    k = 2 * 2 * math.pi / 22.0
    u = 0.8 * torch.sin(k * x)
    inputs = u[None, None] if isinstance(length, float) else torch.stack([u, torch.full_like(u, 22.0)])[None]
    expected = -0.32 * k * torch.sin(2 * k * x) + 0.8 * (k**2 - k**4) * torch.sin(k * x)
    torch.testing.assert_close(problem.rate(inputs)[0, 0], expected, rtol=0, atol=1e-12)


def test_small_waves_grow_below_wavenumber_one_and_fade_above() -> None:
    problem = KuramotoSivashinsky(resolution=64, length=20.0, duration=2.0, frames=1)
    x = problem.grid.axis(0)
    for wave in (2, 5):
        k = 2 * math.pi * wave / 20.0
        u = 1e-8 * torch.cos(k * x)
        states, _ = problem.trajectory(u[None, None], rtol=1e-9)
        torch.testing.assert_close(states[0, 1, 0], u * math.exp(2 * (k**2 - k**4)), rtol=1e-6, atol=1e-18)


def test_energy_balance_has_gain_and_loss_and_no_work_of_the_flow() -> None:
    problem = KuramotoSivashinsky(resolution=96, length=40.0)
    inputs = problem.sample([0], 0)
    spectrum = problem.waves.forward(inputs)
    slope = problem.waves.backward(problem.waves.derivative(0) * spectrum)
    bend = problem.waves.backward(-problem.waves.squares * spectrum)
    gain = float(slope.square().sum() - bend.square().sum())
    assert float((inputs * problem.rate(inputs)).sum()) == pytest.approx(gain, rel=1e-12)


def test_fields_settle_on_the_attractor_whose_size_is_known() -> None:
    problem = KuramotoSivashinsky(resolution=96, length=44.0, duration=120.0, frames=24)
    inputs = problem.sample(range(6), 0)
    states, solution = problem.trajectory(inputs, method="128 steps")
    assert solution.failed == []
    # The root mean square of the chaotic state is about 1.3 whatever the length.
    assert 1.1 < float(states[:, 12:].square().mean().sqrt()) < 1.5


def test_fixed_and_drawn_lengths_are_the_same_problem() -> None:
    fixed = KuramotoSivashinsky(resolution=64, length=25.0, duration=4.0, frames=2, highest=3)
    drawn = KuramotoSivashinsky(resolution=64, length=[20.0, 30.0], duration=4.0, frames=2, highest=3)
    inputs = fixed.sample([0], 0)
    states, _ = fixed.trajectory(inputs, method="64 steps")
    with_length = torch.cat([inputs, torch.full_like(inputs, 25.0)], 1)
    scaled, _ = drawn.trajectory(with_length, method="64 steps")
    torch.testing.assert_close(scaled, states, rtol=0, atol=1e-12)
