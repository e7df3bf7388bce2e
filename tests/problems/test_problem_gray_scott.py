import math

import pytest
import scipy.integrate
import torch

from fieldwright.problems.gray_scott import PATTERNS, GrayScott


def test_uniform_concentrations_follow_the_ordinary_equations() -> None:
    problem = GrayScott(resolution=8, pattern="maze", duration=40.0, frames=4)
    feed, kill = PATTERNS["maze"]
    start = torch.tensor([0.6, 0.3], dtype=torch.float64)
    states, _ = problem.trajectory(start.reshape(1, 2, 1, 1).expand(1, 2, 8, 8), rtol=1e-9)

    def rate(_: float, c):
        u, v = c
        return [-u * v * v + feed * (1 - u), u * v * v - (feed + kill) * v]

    exact = scipy.integrate.solve_ivp(rate, (0, 40), [0.6, 0.3], t_eval=problem.times.numpy(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(states[0, :, :, 0, 0].T, torch.from_numpy(exact.y), rtol=0, atol=1e-8)


@pytest.mark.parametrize("walls", ["periodic", "neumann"])
def test_the_food_alone_is_at_rest_and_traces_of_catalyst_fade(walls: str) -> None:
    problem = GrayScott(
        resolution=16, pattern=None, feed=0.03, kill=0.06, diffusivity_v=1e-2, walls=walls, duration=5.0, frames=1
    )
    x, y = problem.grid.coordinates()
    # Slope zero at x = ±1, so that it meets the insulated walls too.
    trace = 1e-7 * torch.cos(math.pi * (x + 1)) * torch.cos(2 * math.pi * (y + 1))
    states, _ = problem.trajectory(torch.stack([torch.ones_like(trace), trace])[None], rtol=1e-9)
    rate = 0.03 + 0.06 + 1e-2 * 5 * math.pi**2
    torch.testing.assert_close(states[0, 1, 1], trace * math.exp(-5 * rate), rtol=1e-5, atol=1e-14)
    torch.testing.assert_close(states[0, 1, 0], torch.ones_like(trace), rtol=0, atol=1e-12)


def test_rates_of_two_waves_are_known() -> None:
    problem = GrayScott(resolution=16, pattern=None, feed=0.04, kill=0.06, diffusivity_u=2e-2, diffusivity_v=1e-2)
    x, _ = problem.grid.coordinates()
    u, v = 0.5 + 0.2 * torch.cos(math.pi * x), 0.3 + 0.1 * torch.sin(2 * math.pi * x)
    rate = problem.rate(torch.stack([u, v])[None])[0]
    u_xx, v_xx = -0.2 * math.pi**2 * torch.cos(math.pi * x), -0.4 * math.pi**2 * torch.sin(2 * math.pi * x)
    torch.testing.assert_close(rate[0], 2e-2 * u_xx - u * v**2 + 0.04 * (1 - u), rtol=0, atol=1e-13)
    torch.testing.assert_close(rate[1], 1e-2 * v_xx + u * v**2 - 0.1 * v, rtol=0, atol=1e-13)


def test_seeds_of_catalyst_lie_between_food_and_half() -> None:
    inputs = GrayScott(resolution=64, seeds=(5, 20)).sample(range(4), 0)
    substrate, catalyst = inputs[:, 0], inputs[:, 1]
    assert float(catalyst.min()) >= 0
    assert 0.3 < float(catalyst.max()) <= 0.5
    torch.testing.assert_close(substrate + catalyst, torch.ones_like(catalyst), rtol=0, atol=1e-12)


def test_spots_form_and_stay_within_bounds() -> None:
    problem = GrayScott(resolution=64, pattern="spots", seeds=(20, 30), duration=400.0, frames=2)
    inputs = problem.sample([0], 0)
    states, solution = problem.trajectory(inputs, rtol=1e-3)
    assert solution.failed == []
    assert float(states[0, -1, 1].max()) > 0.2
    assert float(states.min()) > -1e-2
    assert float(states.max()) < 1.0 + 1e-2


def test_named_patterns_have_no_numbers_to_draw() -> None:
    assert GrayScott().coefficients == ()
    free = GrayScott(pattern=None, feed=[0.01, 0.1])
    assert [f.name for f in free.inputs] == ["substrate", "catalyst", "feed"]
