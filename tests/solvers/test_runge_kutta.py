import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.solvers.runge_kutta import ssp_rk2, ssp_rk3


def pendulum(state: torch.Tensor) -> torch.Tensor:
    """(q, p)' = (p, -sin q)."""
    return torch.stack([state[:, 1], -state[:, 0].sin()], 1)


def unit_speed(state: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(state), dtype=state.dtype)


def burgers(state: torch.Tensor) -> torch.Tensor:
    """-(u²/2)_x by Godunov's flux on periodic cells of size 1/n."""
    left, right = state, state.roll(-1, -1)
    flux = torch.maximum(left.clamp_min(0).square(), right.clamp_max(0).square()) / 2
    return (flux.roll(1, -1) - flux) * state.shape[-1]


def burgers_speed(state: torch.Tensor) -> torch.Tensor:
    return state.abs().amax(-1) * state.shape[-1]


@pytest.mark.parametrize(("method", "order"), [(ssp_rk2, 2), (ssp_rk3, 3)])
def test_error_falls_with_the_order_of_the_method(method, order: int) -> None:
    start = torch.tensor([[1.0, 0.0], [0.3, 0.5]], dtype=torch.float64)
    exact = ssp_rk3(pendulum, start, 3.0, unit_speed, cfl=1e-3)
    errors = [float((method(pendulum, start, 3.0, unit_speed, cfl=cfl) - exact).abs().max()) for cfl in (0.05, 0.025)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_one_step_is_the_truncated_exponential_of_a_linear_rate() -> None:
    start = torch.ones(1, 1, dtype=torch.float64)
    for method, order in ((ssp_rk2, 2), (ssp_rk3, 3)):
        value = method(lambda u: -u, start, 0.25, unit_speed, cfl=1.0)
        assert float(value) == pytest.approx(sum((-0.25) ** k / math.factorial(k) for k in range(order + 1)), abs=1e-15)


@pytest.mark.parametrize("method", [ssp_rk2, ssp_rk3])
def test_total_variation_does_not_grow_and_mass_stays_across_a_shock(method) -> None:
    x = torch.arange(64, dtype=torch.float64) / 64
    start = torch.stack([torch.sin(2 * math.pi * x), (x < 0.5).double()])
    end = method(burgers, start, 0.5, burgers_speed, cfl=1.0)
    variation = [(state - state.roll(1, -1)).abs().sum(-1) for state in (start, end)]
    assert bool((variation[1] <= variation[0] + 1e-12).all())
    torch.testing.assert_close(end.sum(-1), start.sum(-1), rtol=0, atol=1e-12)


def test_each_sample_steps_as_it_would_alone() -> None:
    x = torch.arange(32, dtype=torch.float64) / 32
    start = torch.stack([torch.sin(2 * math.pi * x), 9 * torch.sin(2 * math.pi * x), 0.1 + 0 * x])
    together = ssp_rk3(burgers, start, 0.2, burgers_speed, cfl=0.8)
    for i in range(3):
        assert torch.equal(together[i], ssp_rk3(burgers, start[i : i + 1], 0.2, burgers_speed, cfl=0.8)[0])


def test_what_blows_up_is_nan_and_leaves_its_neighbours_alone() -> None:
    start = torch.tensor([[0.5], [2.0], [0.25]], dtype=torch.float64)

    def rate(u: torch.Tensor) -> torch.Tensor:  # u' = u² ends at t = 1 / u(0)
        return u.square()

    def speed(u: torch.Tensor) -> torch.Tensor:
        return u.abs()[:, 0]

    end = ssp_rk3(rate, start, 1.0, speed, cfl=0.02)
    assert bool(end[1].isnan())
    torch.testing.assert_close(end[[0, 2]], start[[0, 2]] / (1 - start[[0, 2]]), rtol=1e-5, atol=0)


def test_a_sample_that_needs_too_many_steps_or_has_no_speed_is_given_up() -> None:
    start = torch.tensor([[1.0], [1e6], [torch.nan], [1.0]], dtype=torch.float64)
    speeds = iter([torch.tensor([1.0, 1e6, 1.0, torch.inf], dtype=torch.float64)] * 100)
    end = ssp_rk3(torch.zeros_like, start, 1.0, lambda _: next(speeds), cfl=0.1, most_steps=50)
    assert end.isnan().flatten().tolist() == [False, True, True, True]


def test_no_step_is_longer_than_asked_and_the_end_is_met_exactly() -> None:
    taken = []

    def rate(u: torch.Tensor) -> torch.Tensor:
        taken.append(1)
        return torch.ones_like(u)

    end = ssp_rk2(rate, torch.zeros(1, 1, dtype=torch.float64), 0.7, unit_speed, cfl=100.0, least_steps=5)
    assert len(taken) == 10
    assert float(end) == pytest.approx(0.7, abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "words"), [({"cfl": 0.0}, "cfl = 0.0"), ({"cfl": 1.0, "least_steps": 0}, "at least 0")]
)
def test_impossible_steps_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ssp_rk3(torch.zeros_like, torch.zeros(1, 1), 1.0, unit_speed, **arguments)
