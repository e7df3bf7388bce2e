"""A bounded inverse problem: a conductivity between two known values, from pressures under three loads."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from fieldwright.training.kappa_sets import Box
from fieldwright.training.lion_k import LionK

CELLS, LOW, HIGH, NOISE = 64, 1.0, 4.0, 1e-3


@dataclass(frozen=True)
class Inversion:
    """What one method found: the relative L2 error of the conductivity, CPU seconds an iteration, and the certificate S
    relative to its first (of Lion-K alone)."""

    truth: str
    method: str
    seed: int
    error: float
    seconds: float
    certificate: float | None = None


def truth(name: str) -> Tensor:
    """A conductivity of two phases, or a smooth one."""
    x = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    if name == "two phases":
        return torch.where((x > 0.3) & (x < 0.65), HIGH, LOW).to(torch.float64)
    return 2.5 + 1.2 * torch.sin(2 * math.pi * x)


def pressures(conductivity: Tensor) -> Tensor:
    """-(a u')' = f, u = 0 at both ends, on cells of equal length, for f = 1, sin 2πx and a load on the left third."""
    h = 1 / CELLS
    x = torch.arange(1, CELLS, dtype=torch.float64) * h
    loads = torch.stack([torch.ones_like(x), 3 * torch.sin(2 * math.pi * x), 3.0 * (x < 1 / 3)], 1)
    left, right = conductivity[:-1], conductivity[1:]
    matrix = torch.diag(left + right) - torch.diag(right[:-1], 1) - torch.diag(left[1:], -1)
    return torch.linalg.solve(matrix, h**2 * loads)


def misfit(conductivity: Tensor, measured: Tensor) -> Tensor:
    """Mean square of the difference over that of what was measured."""
    return (pressures(conductivity) - measured).square().mean() / measured.square().mean()


def measurements(name: str, seed: int) -> Tensor:
    """Pressures of the truth with noise of a thousandth of their size."""
    exact = pressures(truth(name))
    draws = torch.Generator().manual_seed(seed)
    return exact + NOISE * exact.abs().max() * torch.randn(exact.shape, dtype=torch.float64, generator=draws)


def invert_with_lion(name: str, seed: int, iterations: int, rate: float = 0.05) -> Inversion:
    """Lion-K in the box: feasible at every step without a projection."""
    measured = measurements(name, seed)
    field = nn.Parameter(torch.full((CELLS,), (LOW + HIGH) / 2, dtype=torch.float64))
    optimizer = LionK([field], lr=rate, betas=(0.9, 0.99), weight_decay=1.0, kappa=Box.between(LOW, HIGH))
    begun, certificates = time.thread_time(), []
    for step in range(iterations):
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / iterations))
        optimizer.zero_grad()
        misfit(field, measured).backward()
        if step in (0, iterations - 1):
            certificates.append(optimizer.stationarity())
        optimizer.step()
    seconds = (time.thread_time() - begun) / iterations
    assert optimizer.constraint[0].excess == 0
    return Inversion(name, "Lion-K box", seed, _error(field, name), seconds, certificates[1] / certificates[0])


def invert_with_adam(name: str, seed: int, iterations: int, rates: tuple[float, ...] = (0.03, 0.1)) -> Inversion:
    """Adam with the field clamped after each step, at the better of the rates."""
    found = []
    for rate in rates:
        measured = measurements(name, seed)
        field = nn.Parameter(torch.full((CELLS,), (LOW + HIGH) / 2, dtype=torch.float64))
        optimizer = torch.optim.Adam([field], rate)
        begun = time.thread_time()
        for step in range(iterations):
            optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / iterations))
            optimizer.zero_grad()
            misfit(field, measured).backward()
            optimizer.step()
            with torch.no_grad():
                field.clamp_(LOW, HIGH)
        seconds = (time.thread_time() - begun) / iterations
        found.append(Inversion(name, "Adam, clamped", seed, _error(field, name), seconds))
    return min(found, key=lambda one: one.error)


def invert_with_lbfgs(name: str, seed: int, iterations: int) -> Inversion:
    """SciPy's L-BFGS-B."""
    measured = measurements(name, seed)

    def value_and_slope(values: np.ndarray) -> tuple[float, np.ndarray]:
        field = torch.tensor(values, requires_grad=True)
        loss = misfit(field, measured)
        loss.backward()
        assert field.grad is not None
        return loss.item(), field.grad.numpy()

    begun = time.thread_time()
    start = np.full(CELLS, (LOW + HIGH) / 2)
    options = {"maxiter": iterations, "maxfun": iterations, "ftol": 0.0, "gtol": 0.0}
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", bounds=[(LOW, HIGH)] * CELLS, options=options)
    seconds = (time.thread_time() - begun) / max(found.nfev, 1)
    return Inversion(name, "L-BFGS-B", seed, _error(torch.from_numpy(found.x), name), seconds)


def _error(field: Tensor, name: str) -> float:
    exact = truth(name)
    return float((field.detach() - exact).norm() / exact.norm())
