import math

import pytest
import torch

from fieldwright.solvers.implicit import march

RATES = torch.tensor([0.5, 3.0], dtype=torch.float64)


def relax(b, guess, tau, elapsed):
    """u_t = cos t - λ u: the inflow is what changes u, so that mass minus supply must stay."""
    t = torch.tensor(elapsed, dtype=torch.float64)
    u = (b + tau[:, None] * torch.cos(t)) / (1 + tau * RATES)[:, None]
    return u, torch.cos(t) - RATES * u[:, 0]


def exact(t: float) -> torch.Tensor:
    size = RATES**2 + 1
    forced = (RATES * math.cos(t) + math.sin(t)) / size
    return forced + (1 - RATES / size) * torch.exp(-RATES * t)


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1.0), ("bdf2", 2.0)])
def test_errors_fall_with_the_order_of_the_scheme_at_every_frame(scheme, order: float) -> None:
    errors = []
    for steps in (40, 80):
        states, _ = march(
            relax, torch.ones(2, 1, dtype=torch.float64), interval=1.0, frames=3, steps=steps, scheme=scheme
        )
        truth = torch.stack([exact(t) for t in (1.0, 2.0, 3.0)], 1)
        errors.append((states[..., 0] - truth).abs().amax())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("scheme", ["euler", "bdf2"])
def test_supply_is_what_the_state_has_gained_to_round_off(scheme) -> None:
    start = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    states, supply = march(relax, start, interval=1.0, frames=4, steps=9, scheme=scheme)
    torch.testing.assert_close(states[..., 0] - start, supply, rtol=0, atol=1e-14)


def test_a_frame_depends_on_its_first_state_alone() -> None:
    still = lambda b, guess, tau, elapsed: (b / (1 + tau * RATES)[:, None], torch.zeros_like(tau))  # noqa: E731
    start = torch.ones(2, 1, dtype=torch.float64)
    states, _ = march(still, start, interval=0.5, frames=2, steps=5)
    again, _ = march(still, states[:, 0], interval=0.5, frames=1, steps=5)
    assert torch.equal(again[:, 0], states[:, 1])


def test_states_that_fall_fast_stay_positive_by_euler_and_leave_slow_ones_to_bdf2() -> None:
    rates = torch.tensor([[1e4], [0.5]], dtype=torch.float64)
    fall = lambda b, guess, tau, elapsed: (b / (1 + tau[:, None] * rates), torch.zeros_like(tau))  # noqa: E731
    start = torch.ones(2, 1, dtype=torch.float64)
    free, _ = march(fall, start, interval=0.1, frames=1, steps=2)
    kept, _ = march(fall, start, interval=0.1, frames=1, steps=2, positive=True)
    assert float(free[0].min()) < 0 <= float(kept[0].min())
    assert torch.equal(free[1], kept[1])
