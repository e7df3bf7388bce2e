"""The theory, followed step by step on a function of twenty variables that is not convex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fieldwright.training.kappa import Kappa, Separable, inner
from fieldwright.training.lion_k import LionK

SIZE = 20
SMOOTH = {
    "huber": Separable("huber", 1.0, "one"),
    "relativistic": Separable("relativistic", 1.0, "one"),
    "quadratic": Separable("quadratic"),
}
LIPSCHITZ = 3.0


@dataclass(frozen=True)
class Descent:
    """The energy H along the differential equation: its largest rise between two steps, and how far its fall is from
    the integral of the derived rate, relative to the fall."""

    kappa: str
    largest_rise: float
    rate_error: float


@dataclass(frozen=True)
class Approach:
    """The first phase: what exceeds the bound, step by step, and the steps to 1e-3 that were predicted and taken."""

    weight_decay: float
    rate: float
    excess: list[float]
    predicted: int
    taken: int | None

    @property
    def violations(self) -> int:
        """Steps at which the excess is above (1 - ηλ)^t of the first, by more than rounding."""
        shares = ((1 - self.rate * self.weight_decay) ** t for t in range(len(self.excess)))
        return sum(e > share * self.excess[0] + 1e-12 for e, share in zip(self.excess, shares, strict=True))


@dataclass(frozen=True)
class Inequality:
    """The discrete inequality: steps in which it was violated, and the share in which H rose, by learning rate."""

    kappa: str
    rate: float
    violations: int
    rising: float


def _curvature() -> Tensor:
    draws = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=draws))[0]
    return basis @ torch.diag(torch.linspace(0.1, 2.0, SIZE, dtype=torch.float64)) @ basis.T


CURVATURE = _curvature()


def wavy(x: Tensor) -> Tensor:
    """f(x) = xᵀAx/2 + Σ cos(x - 1/2), whose gradient is 3-Lipschitz."""
    return 0.5 * x @ CURVATURE @ x + torch.cos(x - 0.5).sum()


def slope(x: Tensor) -> Tensor:
    """∇f."""
    return CURVATURE @ x - torch.sin(x - 0.5)


def of_conjugate(name: str, y: Tensor) -> Tensor:
    """∇K*(y) of `SMOOTH`, all with e = 1, inside the constraint."""
    return y / (1 - y.square()).sqrt() if name == "relativistic" else y


def descent(name: str, *, steps: int, dt: float = 1e-3, look_ahead: float = 0.4, decay: float = 0.8) -> Descent:
    """Integrate m' = -∇f - m, x' = ∂K(m + ε m') - λx with Runge and Kutta's fourth-order steps."""
    kappa, weight = SMOOTH[name], (1 - look_ahead) / (1 + look_ahead * decay)

    def motion(x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        change = -slope(x) - m
        return kappa.subgradient(m + look_ahead * change) - decay * x, change

    def energy(x: Tensor, m: Tensor) -> Tensor:
        penalty = kappa.conjugate(decay * x)
        return wavy(x) + penalty / decay + weight * (penalty + kappa.value(m) - decay * inner(m, x))

    def rate(x: Tensor, m: Tensor) -> Tensor:
        ahead = m + look_ahead * (-slope(x) - m)
        step = kappa.subgradient(ahead)
        first = inner(step - decay * x, ahead - of_conjugate(name, decay * x))
        second = inner(step - kappa.subgradient(m), ahead - m)
        return -first * (1 + decay) / (1 + look_ahead * decay) - second * weight / look_ahead

    draws = torch.Generator().manual_seed(1)
    x = 0.6 / decay * (2 * torch.rand(SIZE, dtype=torch.float64, generator=draws) - 1)
    m = torch.randn(SIZE, dtype=torch.float64, generator=draws)
    energies, rates = [energy(x, m)], [rate(x, m)]
    for _ in range(steps):
        a, b = motion(x, m)
        c, d = motion(x + dt / 2 * a, m + dt / 2 * b)
        e, f = motion(x + dt / 2 * c, m + dt / 2 * d)
        g, h = motion(x + dt * e, m + dt * f)
        x, m = x + dt / 6 * (a + 2 * c + 2 * e + g), m + dt / 6 * (b + 2 * d + 2 * f + h)
        energies.append(energy(x, m))
        rates.append(rate(x, m))
    fall, slopes = torch.stack(energies), torch.stack(rates)
    integral = torch.trapezoid(slopes, dx=dt)
    return Descent(name, float(fall.diff().max()), abs(float((fall[-1] - fall[0] - integral) / (fall[-1] - fall[0]))))


def approach(decay: float, *, steps: int, rate: float) -> Approach:
    """Lion from a start far outside of |x| <= 1/λ."""
    x = nn.Parameter(20 * torch.rand(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 10)
    optimizer = LionK([x], lr=rate, betas=(0.9, 0.99), weight_decay=decay, kappa="sign")
    predicted = optimizer.constraint_report(tolerance=1e-3).steps_to_feasibility
    assert predicted is not None  # decay and rate are positive
    excess = [optimizer.constraint[0].excess]
    for _ in range(steps):
        x.grad = slope(x.detach())
        optimizer.step()
        excess.append(optimizer.constraint[0].excess)
    taken = next((step for step, value in enumerate(excess) if value <= 1e-3), None)
    return Approach(decay, rate, excess, predicted, taken)


def inequality(name: str, *, rate: float, steps: int, decay: float = 0.8) -> Inequality:
    """Follow H over steps of Lion-K, beside what section 3.4's inequality allows."""
    kappa: Kappa = SMOOTH[name]
    beta1, beta2 = 0.9, 0.99
    x = nn.Parameter(torch.linspace(-1, 1, SIZE, dtype=torch.float64) / decay * 0.9)
    optimizer = LionK([x], lr=rate, betas=(beta1, beta2), weight_decay=decay, kappa=kappa)
    implicit = rate / (1 - rate * decay)
    weight = implicit * beta1 / (implicit * decay * (1 - beta1) + 1 - beta2)
    violations = rises = 0
    after = optimizer.lyapunov(float(wavy(x.detach())))
    for _ in range(steps):
        x.grad, before = slope(x.detach()), after
        u = -(beta1 * optimizer.momentum(x) + (1 - beta1) * x.grad)
        optimizer.step()
        y, m = decay * x.detach(), -optimizer.momentum(x)
        after = optimizer.lyapunov(float(wavy(x.detach())))
        pull = kappa.subgradient(u) - y
        bound = -implicit * (1 + weight * decay) * inner(pull, u - of_conjugate(name, y))
        bound = bound - weight * (1 - beta2) / (beta2 - beta1) * inner(
            kappa.subgradient(u) - kappa.subgradient(m), u - m
        )
        bound = bound + LIPSCHITZ * implicit**2 / 2 * inner(pull, pull)
        violations += after - before > float(bound) + 1e-12
        rises += after > before
    return Inequality(name, rate, violations, rises / steps)
