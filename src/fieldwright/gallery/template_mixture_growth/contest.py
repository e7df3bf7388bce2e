"""Ways to a wide network within the same operations: trained from scratch, grown from one half, merged from two."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from fieldwright.datasets import Normalizer
from fieldwright.gallery.race import predict
from fieldwright.grids import Grid
from fieldwright.growth import materialise, merge, templated
from fieldwright.growth.members import layouts
from fieldwright.growth.merge import Cross
from fieldwright.norms import relative_l2
from fieldwright.operators import step_flops
from fieldwright.problems import Burgers
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train

POINTS, BATCH, VISCOSITY = 64, 64, 0.02
FINER = 4
"""The equation is solved on a grid so many times finer, which holds its fronts."""

HALF, PAIR, PAIR_LONG, SCRATCH = "half width", "two halves, averaged", "two halves, longer, averaged", "from scratch"
FAN_OUT, NET2NET = "grown from one half: new units without effect", "grown from one half: Net2Net, 5 % noise"
PLAIN = "two halves merged, plain weights, zeros between"
CONVERTED = "two halves merged, made templates, zeros between"
TEMPLATE = "template member alone"
TEMPLATE_LONG = "two template members, longer, averaged"
MIXTURE, ORTHOGONAL = "template mixture, zeros between", "template mixture, orthogonal x 0.1"
STRONG = "template mixture, orthogonal x 1"


@dataclass(frozen=True)
class Effort:
    """Samples, seeds, and the budget: epochs of a half, and of the whole width from scratch."""

    samples: int
    test_samples: int
    seeds: tuple[int, ...]
    half_epochs: float
    epochs: float
    rates: tuple[float, ...]
    grown_rates: tuple[float, ...]
    width: int = 192


FULL = Effort(1000, 500, (0, 1, 2), 40, 35, (4e-3, 8e-3, 1.6e-2, 3.2e-2), (2e-3, 4e-3, 8e-3))
QUICK = Effort(128, 32, (0, 1), 1, 1.75, (4e-3, 8e-3), (1e-3, 3e-3), width=16)


@dataclass(frozen=True)
class Outcome:
    """One method: errors on test samples by seed, the rate that validation chose, and the operations in all.

    ``before``  errors right after growth, none of what has not grown
    ``trials``  mean validation error by learning rate
    """

    name: str
    errors: tuple[float, ...]
    rate: float
    flops: float
    weights: int
    before: tuple[float, ...] = ()
    trials: Mapping[float, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.errors)


def burgers_data(samples: int, test_samples: int) -> tuple[TrainingData, tuple[Tensor, Tensor]]:
    """u(0) -> u(1) of u_t + u u_x = 0.02 u_xx, periodic on [0, 2π], from six waves with coefficients N(0, 0.5²) / k.

    As many samples as for the test are for validation.
    """
    count, waves = samples + 2 * test_samples, torch.arange(1, 7, dtype=torch.float64)
    x = torch.arange(FINER * POINTS, dtype=torch.float64) * (2 * math.pi / (FINER * POINTS))
    draws = torch.Generator().manual_seed(0)
    cosines, sines = 0.5 * torch.randn(2, count, len(waves), generator=draws, dtype=torch.float64) / waves
    start = cosines @ torch.cos(waves[:, None] * x) + sines @ torch.sin(waves[:, None] * x)
    # The problem's box has the length 1: velocities scale with it, and the viscosity with its square.
    problem = Burgers(resolution=FINER * POINTS, viscosity=VISCOSITY / (2 * math.pi) ** 2)
    end, _ = problem.solve(start[:, None] / (2 * math.pi))
    fields = [(values[..., ::FINER]).float() for values in (start[:, None], 2 * math.pi * end)]
    train_, valid, test = zip(*(values.split([samples, test_samples, test_samples]) for values in fields), strict=True)
    inputs, outputs = (Normalizer.fit(values) for values in train_)
    grid = Grid((POINTS,), "periodic", (0.0,), (2 * math.pi,))
    return TrainingData(train_, valid, inputs=inputs, outputs=outputs, grid=grid), test


def perceptron(width: int) -> nn.Module:
    """64 - width - width - width - 64, GELU between."""
    sizes = [POINTS, width, width, width, POINTS]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1])


class Contest:
    """All methods on one set of data. ``run`` measures them in an order in which each finds what it grows from."""

    def __init__(self, effort: Effort, reporter: Reporter) -> None:
        self.effort, self.reporter = effort, reporter
        self.data, self.test = burgers_data(effort.samples, effort.test_samples)
        self.per_epoch = effort.samples / BATCH
        self.budget = effort.epochs * self.per_epoch * _flops(perceptron(effort.width))
        self.half = perceptron(effort.width // 2)
        self.member_flops = effort.half_epochs * self.per_epoch * _flops(self.half)
        self.outcomes: dict[str, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Every method, each at the learning rate that is best for it on the validation samples."""
        width, half, whole = self.effort.width, self.effort.width // 2, self.budget
        rates, rest, member = self.effort.rates, self.budget - 2 * self.member_flops, self.member_flops

        def plain(seed: int) -> nn.Module:
            return _seeded(lambda: perceptron(half), seed)

        def made_of_templates(seed: int) -> nn.Module:
            return _seeded(lambda: templated(perceptron(half), 2, start="fresh"), seed)

        halves = self._tuned(HALF, plain, member, rates, twins=True)
        self._average(PAIR, halves, 2 * member, self.outcomes[HALF])
        self._average(PAIR_LONG, self._again(plain, whole / 2, HALF), whole, self.outcomes[HALF])
        self._tuned(SCRATCH, lambda seed: _seeded(lambda: perceptron(width), seed), whole, rates)
        firsts = [pair[0] for pair in halves]
        grown = self.effort.grown_rates
        for name, widen in ((FAN_OUT, without_effect), (NET2NET, duplicated)):
            self._grown(name, [_seeded(lambda f=f, w=widen: w(f), 7) for f in firsts], whole - member, member, grown)
        self._grown(PLAIN, [merge(pair).operator for pair in halves], rest, 2 * member, grown)
        converted = [_seeded(lambda p=pair: merge(p, templates=2).operator, 7) for pair in halves]
        self._grown(CONVERTED, converted, rest, 2 * member, grown)
        pairs = self._tuned(TEMPLATE, made_of_templates, member, rates, twins=True)
        self._average(
            TEMPLATE_LONG, self._again(made_of_templates, whole / 2, TEMPLATE), whole, self.outcomes[TEMPLATE]
        )
        starts: tuple[tuple[str, Cross, float], ...] = (
            (MIXTURE, "zero", 1.0),
            (ORTHOGONAL, "orthogonal", 0.1),
            (STRONG, "orthogonal", 1.0),
        )
        for name, cross, scale in starts:
            merged = [merge(pair, templates=2, cross=cross, scale=scale).operator for pair in pairs]
            self._grown(name, merged, rest, 2 * member, grown)
        return list(self.outcomes.values())

    def _tuned(
        self,
        name: str,
        build: Callable[[int], nn.Module],
        flops: float,
        rates: Sequence[float],
        *,
        before: tuple[float, ...] = (),
        spent: float = 0.0,
        twins: bool = False,
    ) -> list[list[nn.Module]]:
        """Train for every rate and seed; note the outcome and return the networks of the best rate by seed.

        With ``twins`` each gets a second one, of another seed, at that rate.
        """
        seeds, trained = self.effort.seeds, {}
        for rate in rates:
            trained[rate] = [self._trained(build(seed), flops, rate, seed) for seed in seeds]
        trials = {rate: statistics.mean(self._error(m, valid=True) for m in trained[rate]) for rate in rates}
        best = min(trials, key=trials.__getitem__)
        networks = [[network] for network in trained[best]]
        if twins:
            for seed, pair in zip(seeds, networks, strict=True):
                pair.append(self._trained(build(seed + 100), flops, best, seed + 100))
        errors = tuple(self._error(pair[0]) for pair in networks)
        self._note(Outcome(name, errors, best, spent + flops, _weights(networks[0][0]), before, trials))
        return networks

    def _grown(
        self, name: str, starts: Sequence[nn.Module], flops: float, spent: float, rates: Sequence[float]
    ) -> None:
        by_seed = dict(zip(self.effort.seeds, starts, strict=True))
        before = tuple(self._error(start) for start in starts)
        self._tuned(name, lambda seed: copy.deepcopy(by_seed[seed]), flops, rates, before=before, spent=spent)

    def _again(self, build: Callable[[int], nn.Module], flops: float, name: str) -> list[list[nn.Module]]:
        rate = self.outcomes[name].rate
        return [[self._trained(build(s), flops, rate, s) for s in (seed, seed + 100)] for seed in self.effort.seeds]

    def _average(self, name: str, pairs: Sequence[Sequence[nn.Module]], flops: float, of: Outcome) -> None:
        errors = tuple(self._error(*pair) for pair in pairs)
        self._note(Outcome(name, errors, of.rate, flops, 2 * of.weights))

    def _trained(self, network: nn.Module, flops: float, rate: float, seed: int) -> nn.Module:
        steps = max(1, int(flops / _flops(network) + 1e-9))
        phase = Phase(
            steps=steps,
            batch_size=BATCH,
            optimizer="adam",
            learning_rate=rate,
            weight_decay=0.0,
            schedule="cosine",
            clip=None,
        )
        with tempfile.TemporaryDirectory() as directory:
            return train(network, [phase], self.data, directory=Path(directory), seed=seed).operator

    def _error(self, *networks: nn.Module, valid: bool = False) -> float:
        inputs, truth = self.data.valid_samples.batch(range(self.effort.test_samples)) if valid else self.test
        mean = torch.stack([predict(network, self.data, inputs) for network in networks]).mean(0)
        return float(relative_l2(mean, truth.double(), self.data.grid).mean())

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        self.reporter.notice(f"{outcome.name}: {outcome.median:.2%} at rate {outcome.rate:g}")


def without_effect(half: nn.Module) -> nn.Module:
    """The wider network that computes what ``half`` does: new units as they are drawn, with no effect on any output."""
    return _widened(half, lambda w, fresh: ((w, torch.zeros_like(w)), (fresh, fresh)), exact=True)


def duplicated(half: nn.Module, noise: float = 0.05) -> nn.Module:
    """Net2Net: every unit twice, each with half the outgoing weights, and noise so that the two part.

    Source: Chen, Goodfellow, Shlens, "Net2Net: Accelerating learning via knowledge transfer", ICLR 2016.
    """
    wide = _widened(half, lambda w, _: ((w / 2, w / 2), (w / 2, w / 2)), exact=False)
    with torch.no_grad():
        for weight in (p for p in wide.parameters() if p.ndim == 2):
            weight.add_(noise * weight.std() * torch.randn_like(weight))
    return wide


def _widened(half: nn.Module, blocks: Callable[[Tensor, Tensor], tuple], *, exact: bool) -> nn.Module:
    wide = perceptron(2 * half[0].out_features)  # type: ignore[index]
    drawn, own = wide.state_dict(), half.state_dict()
    with torch.no_grad():
        for name, layout in layouts(half, wide, 2).items():
            value, target = own[name], drawn[name]
            if len(layout.grid) == 2:
                size = len(value)
                made = layout.assemble(torch.stack([torch.stack(row) for row in blocks(value, target[:size, :size])]))
                if exact:
                    made[size:] = target[size:]
            elif layout.sums:
                made = torch.cat((value, 0 * value) if exact else (value / 2, value / 2), 1)
            elif layout.grid:
                made = torch.cat((value, target[len(value) :] if exact else value))
            else:
                made = value
            target.copy_(made)
    return wide


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _flops(network: nn.Module) -> int:
    return step_flops(network, torch.zeros(BATCH, 1, POINTS))


def _weights(network: nn.Module) -> int:
    return sum(p.numel() for p in materialise(copy.deepcopy(network)).parameters())
