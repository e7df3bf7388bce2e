"""The choice of K against AdamW and Muon: a perceptron that learns Burgers' equation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fieldwright.problems import Burgers
from fieldwright.progress import Reporter
from fieldwright.training.kappa_sets import QUINTIC
from fieldwright.training.lion_k import LionK

POINTS, WIDTH, BATCH = 64, 256, 64

Optimizers = list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Contender:
    """A way to train: its optimizers for a network at a rate, and the rates that are tried."""

    name: str
    build: Callable[[nn.Module, float], Optimizers]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What one contender reached with one seed at its best rate: the error on the test samples, CPU seconds a step of
    the optimizer alone (the least of all steps) and of its whole training."""

    name: str
    seed: int
    rate: float
    error: float
    step_seconds: float
    seconds: float


def _lion(kappa: str) -> Callable[[nn.Module, float], Optimizers]:
    return lambda network, rate: [LionK(network.parameters(), rate, betas=(0.9, 0.99), kappa=kappa)]


def _adamw(network: nn.Module, rate: float) -> Optimizers:
    return [torch.optim.AdamW(network.parameters(), rate, weight_decay=0.0, fused=True)]


class PlainMuon(torch.optim.Optimizer):
    """Muon as torch.optim.Muon has it (Nesterov momentum 0.95, rates matched to AdamW's), its factor in float32.

    torch's rounds to bfloat16 first, which processors without such products take tens of times as long for.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            momentum = state["momentum_buffer"].lerp_(p.grad, 0.05)
            factor = newton_schulz(p.grad.lerp(momentum, 0.95))
            p.add_(factor, alpha=-0.2 * math.sqrt(max(p.shape)) * self.param_groups[0]["lr"])


def newton_schulz(matrix: Tensor) -> Tensor:
    """Muon's five rounds of X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, as they are published."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def _muon(network: nn.Module, rate: float) -> Optimizers:
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim < 2]
    return [PlainMuon(matrices, rate), torch.optim.AdamW(vectors, rate, weight_decay=0.0, fused=True)]


def torch_muon_seconds(updates: int = 3) -> float:
    """CPU seconds of an update of the network's matrices by torch.optim.Muon: the least of a few."""
    draws = torch.Generator().manual_seed(0)
    matrices = [
        nn.Parameter(torch.randn(s, generator=draws)) for s in ((WIDTH, POINTS), (WIDTH, WIDTH), (POINTS, WIDTH))
    ]
    optimizer = torch.optim.Muon(matrices, 1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    fastest = math.inf
    for _ in range(updates):
        for p in matrices:
            p.grad = torch.randn(p.shape, generator=draws)
        start = time.thread_time()
        optimizer.step()
        fastest = min(fastest, time.thread_time() - start)
    return fastest


ADAMW, SIGN, SPECTRAL, MUON = "AdamW", "Lion-K sign (Lion)", "Lion-K spectral+sign", "Muon + AdamW, in float32"
CONTENDERS = (
    Contender(ADAMW, _adamw, (2e-3, 4e-3, 8e-3, 16e-3)),
    Contender(SIGN, _lion("sign"), (4e-4, 8e-4, 16e-4, 32e-4)),
    Contender("Lion-K huber", _lion("huber"), (4e-4, 8e-4, 16e-4, 32e-4)),
    Contender("Lion-K l2", _lion("l2"), (1e-3, 2e-3, 4e-3, 8e-3)),
    Contender(SPECTRAL, _lion("spectral+sign"), (1e-3, 2e-3, 4e-3, 8e-3)),
    Contender(MUON, _muon, (5e-3, 1e-2, 2e-2, 4e-2)),
)


def burgers_samples(counts: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """(u at 0, u at 0.3) of ν = 0.02 on 64 points, for training, validation and test."""
    problem = Burgers(resolution=POINTS, viscosity=0.02, duration=0.3, deviation=1.0)
    inputs = problem.sample(range(sum(counts)), seed=0)
    outputs, _ = problem.solve(inputs)
    start, end = (field.reshape(len(field), -1)[:, -POINTS:].float() for field in (inputs[:, :1], outputs))
    return list(zip(start.split(list(counts)), end.split(list(counts)), strict=True))


def burgers_race(*, samples: int, steps: int, seeds: Sequence[int], reporter: Reporter) -> list[Outcome]:
    """Train with every contender."""
    data, outcomes = burgers_samples([samples, samples // 8, samples // 4]), []
    with reporter.stage("Burgers", len(CONTENDERS), "optimizers") as stage:
        for contender in CONTENDERS:
            outcomes += contend(contender, data, steps, seeds)
            stage.advance()
    return outcomes


def contend(
    contender: Contender, data: Sequence[tuple[Tensor, Tensor]], steps: int, seeds: Sequence[int]
) -> list[Outcome]:
    """Choose the rate by the validation error of a third of the steps from a seed of its own, then train from each."""
    train, valid, test = data
    tried = [_train(contender, rate, train, valid, max(steps // 3, 1), seed=100) for rate in contender.rates]
    best = min(tried, key=lambda one: (math.isnan(one.error), one.error)).rate
    return [_train(contender, best, train, test, steps, seed=seed) for seed in seeds]


def _train(
    contender: Contender,
    rate: float,
    train: tuple[Tensor, Tensor],
    judged: tuple[Tensor, Tensor],
    steps: int,
    *,
    seed: int,
) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(POINTS, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, POINTS)
        )
    draws = torch.Generator().manual_seed(seed)
    optimizers = contender.build(network, rate)
    begun, fastest = time.thread_time(), math.inf
    for step in range(steps):
        chosen = torch.randint(len(train[0]), (BATCH,), generator=draws)
        loss = _error(network(train[0][chosen]), train[1][chosen])
        loss.backward()
        start = time.thread_time()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.step()
        fastest = min(fastest, time.thread_time() - start)
        network.zero_grad()
    with torch.no_grad():
        error = float(_error(network(judged[0]), judged[1]))
    return Outcome(contender.name, seed, rate, error, fastest, time.thread_time() - begun)


def _error(found: Tensor, exact: Tensor) -> Tensor:
    """Mean relative L2 error over the samples."""
    return ((found - exact).norm(dim=1) / exact.norm(dim=1)).mean()
