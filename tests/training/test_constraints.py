"""The two phases of a decaying Lion-K, its energy and its certificate, on problems whose answers are known."""

import csv
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from tiny_training import tiny_data, tiny_operator
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training import Phase, train
from fieldwright.training.kappa import Kappa, Norm, Separable, TopK, inner
from fieldwright.training.kappa_sets import Box, Spectral
from fieldwright.training.lion_k import LionK

SIZE = 20
_MATRIX = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
CURVATURE = _MATRIX @ torch.diag(torch.linspace(0.1, 2.0, SIZE, dtype=torch.float64)) @ _MATRIX.T
LIPSCHITZ = 2.0 + 1.0


def wavy(x: torch.Tensor) -> torch.Tensor:
    """A function that is not convex: a quadratic with waves on it; its gradient is 3-Lipschitz."""
    return 0.5 * x @ CURVATURE @ x + torch.cos(x - 0.5).sum()


def slope(x: torch.Tensor) -> torch.Tensor:
    return CURVATURE @ x - torch.sin(x - 0.5)


def of_huber(y: torch.Tensor) -> torch.Tensor:
    return 0.7 * y


def of_relativistic(y: torch.Tensor) -> torch.Tensor:
    return 0.7 * y / (1 - y.square()).sqrt()


def of_quadratic(y: torch.Tensor) -> torch.Tensor:
    return y


WITH_INVERSES = pytest.mark.parametrize(
    ("kappa", "inverse"),
    [
        (Separable("huber", 0.7, "one"), of_huber),
        (Separable("relativistic", 0.7, "one"), of_relativistic),
        (Separable("quadratic"), of_quadratic),
    ],
    ids=["huber", "relativistic", "quadratic"],
)
"""Smooth K, each with the gradient of its conjugate inside the constraint."""

Slope = Callable[[torch.Tensor], torch.Tensor]


@WITH_INVERSES
def test_energy_never_rises_along_the_equation_and_falls_at_the_derived_rate(kappa: Kappa, inverse: Slope) -> None:
    """m' = -∇f - m, x' = ∂K(m + ε m') - λx, by Runge and Kutta's fourth-order steps."""
    look_ahead, decay, dt = 0.4, 0.8, 2e-3
    weight = (1 - look_ahead) / (1 + look_ahead * decay)

    def motion(x: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        change = -slope(x) - m
        return kappa.subgradient(m + look_ahead * change) - decay * x, change

    def energy(x: torch.Tensor, m: torch.Tensor) -> float:
        penalty = kappa.conjugate(decay * x)
        return float(wavy(x) + penalty / decay + weight * (penalty + kappa.value(m) - decay * inner(m, x)))

    def rate(x: torch.Tensor, m: torch.Tensor) -> float:
        ahead = m + look_ahead * (-slope(x) - m)
        step, w = kappa.subgradient(ahead), inverse(decay * x)
        first = inner(step - decay * x, ahead - w) * (1 + decay) / (1 + look_ahead * decay)
        second = inner(step - kappa.subgradient(m), ahead - m) * weight / look_ahead
        return -float(first + second)

    draws = torch.Generator().manual_seed(1)
    x = 0.6 / decay * (2 * torch.rand(SIZE, dtype=torch.float64, generator=draws) - 1)
    m = torch.randn(SIZE, dtype=torch.float64, generator=draws)
    energies, rates = [energy(x, m)], [rate(x, m)]
    for _ in range(400):
        a, b = motion(x, m)
        c, d = motion(x + dt / 2 * a, m + dt / 2 * b)
        e, f = motion(x + dt / 2 * c, m + dt / 2 * d)
        g, h = motion(x + dt * e, m + dt * f)
        x, m = x + dt / 6 * (a + 2 * c + 2 * e + g), m + dt / 6 * (b + 2 * d + 2 * f + h)
        energies.append(energy(x, m))
        rates.append(rate(x, m))
    assert max(later - earlier for earlier, later in pairwise(energies)) <= 1e-12
    # The trapezium of the rates has an error of dt² against the energy lost; kinks of huber's make it dt there.
    trapezium = sum((a + b) / 2 * dt for a, b in pairwise(rates))
    assert energies[-1] - energies[0] == pytest.approx(trapezium, rel=1e-4)


@pytest.mark.parametrize("decay", [0.8, 4.0])
@pytest.mark.parametrize(
    "kappa", [Separable("sign"), Norm(2.0, "one"), TopK(4), Box(1.0, 0.5)], ids=lambda kappa: kappa.kind
)
def test_the_excess_shrinks_by_the_decay_each_step_and_never_comes_back(kappa: Kappa, decay: float) -> None:
    rate, steps = 0.02, 1000
    x = nn.Parameter(20 * torch.rand(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 10)
    optimizer = LionK([x], lr=rate, betas=(0.9, 0.99), weight_decay=decay, kappa=kappa)
    start = optimizer.constraint[0].excess
    predicted = optimizer.constraint_report(tolerance=1e-3).steps_to_feasibility
    assert start > 1
    assert predicted is not None
    assert predicted == math.ceil(math.log(start / 1e-3) / -math.log(1 - rate * decay))
    reached = None
    for step in range(1, steps):
        x.grad = slope(x.detach())
        optimizer.step()
        excess = optimizer.constraint[0].excess
        assert excess <= (1 - rate * decay) ** step * start + 1e-12
        reached = step if reached is None and excess <= 1e-3 else reached
    assert reached is not None
    assert reached <= predicted


@WITH_INVERSES
def test_energy_falls_by_what_the_discrete_inequality_says(kappa: Kappa, inverse: Slope) -> None:
    decay, (beta1, beta2) = 0.8, (0.9, 0.99)
    x = nn.Parameter(torch.linspace(-1, 1, SIZE, dtype=torch.float64) / decay * 0.9)
    optimizer = LionK([x], lr=1e-2, betas=(beta1, beta2), weight_decay=decay, kappa=kappa)
    rises = 0
    for step in range(400):
        rate = 1e-2 if step < 200 else 1e-3
        optimizer.param_groups[0]["lr"] = rate
        implicit = rate / (1 - rate * decay)
        weight = implicit * beta1 / (implicit * decay * (1 - beta1) + 1 - beta2)
        x.grad = slope(x.detach())
        before = optimizer.lyapunov(float(wavy(x.detach())))
        u = -(beta1 * optimizer.momentum(x) + (1 - beta1) * x.grad)
        optimizer.step()
        after, y = optimizer.lyapunov(float(wavy(x.detach()))), decay * x.detach()
        m, pull = -optimizer.momentum(x), kappa.subgradient(u) - y
        first = inner(pull, u - inverse(y))
        second = inner(kappa.subgradient(u) - kappa.subgradient(m), u - m)
        bound = -implicit * (1 + weight * decay) * first - weight * (1 - beta2) / (beta2 - beta1) * second
        bound += LIPSCHITZ * implicit**2 / 2 * inner(pull, pull)
        assert first >= -1e-12
        assert second >= -1e-12
        assert after - before <= float(bound) + 1e-12
        rises += step >= 200 and after > before
    assert rises == 0


def test_energy_is_infinite_outside_the_constraint() -> None:
    optimizer = LionK([nn.Parameter(torch.full((3,), 2.0))], weight_decay=1.0, lr=0.1, kappa="sign")
    assert optimizer.lyapunov(0.0) == math.inf
    assert optimizer.stationarity() == 0.0  # no gradient, nothing to certify


@pytest.mark.parametrize("kind", ["sign", "l2", "spectral", "box", "topk"])
def test_certificate_bounds_what_is_left_to_gain_and_vanishes_at_the_minimum(kind: str) -> None:
    """f = |x - t|²/2: its least value on dom K*/λ is at t's projection, which steps of rate 1/k find."""
    choice = {"kind": kind} | {"spectral": {"rounds": None}, "topk": {"k": 3}}.get(kind, {})
    target = 3 * torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x, decay, steps = nn.Parameter(torch.zeros(4, 5, dtype=torch.float64)), 1.5, 3000
    optimizer = LionK([x], lr=0.1, betas=(0.5, 0.5), weight_decay=decay, kappa=choice)
    seen = []
    for step in range(steps):
        x.grad = x.detach() - target
        if step % 50 == 49:
            seen.append((0.5 * float((x.detach() - target).square().sum()), optimizer.stationarity()))
        optimizer.param_groups[0]["lr"] = 0.5 / (1 + step / 2)
        optimizer.step()
    best = min(value for value, _ in seen)
    assert all(certificate >= -1e-9 for _, certificate in seen)
    assert all(value - best <= certificate / decay + 1e-9 for value, certificate in seen)
    assert seen[-1][1] < 0.02 * seen[0][1]


def test_certificate_of_signs_is_frank_and_wolfes_gap() -> None:
    x = nn.Parameter(torch.tensor([0.4, -0.1, 0.2]))
    optimizer = LionK([x], lr=0.1, weight_decay=2.0, kappa="sign")
    x.grad = torch.tensor([-3.0, 1.0, 0.5])
    assert optimizer.stationarity() == pytest.approx(4.5 + 2 * (-1.2 - 0.1 + 0.1))


def test_report_says_when_a_bound_is_out_of_reach() -> None:
    weight, rows = nn.Parameter(torch.full((4,), 0.3)), nn.Parameter(torch.zeros(2, 3))
    optimizer = LionK([weight, rows], lr=0.1, weight_decay=0.01)
    text = optimizer.constraint_report().text
    assert "sign: max |x_i| <= 1/λ with λ = 0.01 is not active: the largest is 0.3% of the bound" in text
    assert "largest singular value" in text
    assert LionK([weight], kappa="sign").constraint[0].sentence.startswith("group 0, sign: no bound")
    assert LionK([weight], kappa="quadratic", weight_decay=0.1).constraint[0].sentence.endswith("no bound")


def test_report_follows_the_rates_to_come() -> None:
    weight = nn.Parameter(torch.full((4,), 8.0, dtype=torch.float64))
    optimizer = LionK([weight], lr=0.1, weight_decay=1.0, kappa="sign")
    # The excess is 7, and 7 (1 - 0.5)^n <= 1e-3 from n = 13 on.
    assert optimizer.constraint_report([0.5] * 20).steps_to_feasibility == 13
    assert optimizer.constraint_report([0.5] * 12).steps_to_feasibility is None
    assert "not within the rates to come" in optimizer.constraint_report([0.5] * 12).text
    assert "at most 13 steps" in optimizer.constraint_report([0.5] * 20).text


def test_fraction_at_the_bound_counts_entries_rows_and_singular_values() -> None:
    def fraction(kappa: Kappa, values: torch.Tensor) -> float:
        return LionK([nn.Parameter(values)], lr=0.1, weight_decay=1.0, kappa=kappa).constraint[0].at_bound

    assert fraction(Separable("sign"), torch.tensor([1.0, -0.99, 0.5, 0.0])) == 0.5
    assert fraction(Spectral(None, "one"), torch.diag(torch.tensor([1.0, 0.97, 0.9, 0.1]))) == 0.5
    assert fraction(Norm(2.0, "one"), torch.tensor([0.6, 0.8])) == 1.0


def test_training_logs_both_phases(tmp_path) -> None:
    phase = Phase(
        steps=40,
        batch_size=8,
        learning_rate=0.05,
        schedule="constant",
        warmup=0.0,
        weight_decay=15.0,
        optimizer={"kind": "lion-k", "kappa": "sign"},
        callbacks=("constraint",),
    )
    train(tiny_operator(), [phase], tiny_data(), directory=tmp_path, seed=0)
    with (tmp_path / "metrics.csv").open() as lines:
        excess = [float(row["constraint_excess"]) for row in csv.DictReader(lines)]
    assert excess[0] > 0.5
    assert excess[-1] < 1e-5
    assert all(later <= earlier * (1 - 0.05 * 15.0) + 1e-5 for earlier, later in pairwise(excess))


def test_the_watch_is_for_lion_k_only(tmp_path) -> None:
    phase = Phase(steps=2, batch_size=8, optimizer="adamw", callbacks=("constraint",))
    with pytest.raises(InputError, match="lion-k; the optimizer is AdamW"):
        train(tiny_operator(), [phase], tiny_data(), directory=tmp_path, seed=0)
