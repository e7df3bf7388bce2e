"""A small set of digits to classify, drawn here, and a convolutional network with batch normalisation for it.

Ten digits in twelve type faces that come with matplotlib, turned, sheared, scaled and shifted at random, on 8 x 8
pixels with noise: as large and about as hard as scikit-learn's scanned digits with noise, and as plain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fieldwright.gallery.large_batch.effort import Effort
from fieldwright.progress import Reporter
from fieldwright.training.callback import Callback, Step
from fieldwright.training.diffusion import DistanceMeter, logarithmic_fit, power_fit
from fieldwright.training.ghost_norm import with_ghost_norm
from fieldwright.training.large_batch import Regime, Rule, transferred

PIXELS, FINE = 8, 64
FACES: list[tuple[str, Literal["normal", "italic"], str]] = [
    (family, style, weight)
    for family in ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono")
    for style in ("normal", "italic")
    for weight in ("normal", "bold")
]


@dataclass(frozen=True)
class Glyphs:
    """Images ``sample 1 8 8`` of mean 0 and deviation about 1, and the digits they show."""

    images: Float[Tensor, "sample 1 height width"]
    digits: Int[Tensor, " sample"]


@lru_cache(maxsize=1)
def masters() -> Float[Tensor, "face digit height width"]:
    """Every digit in every face, ink 1 on paper 0, on `FINE` x `FINE` pixels."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath

    drawn = []
    for family, style, weight in FACES:
        for digit in range(10):
            figure = Figure(figsize=(1, 1), dpi=FINE)
            axes = figure.add_axes((0, 0, 1, 1))
            path = TextPath((0, 0), str(digit), size=1, prop=FontProperties(family=family, style=style, weight=weight))
            axes.add_patch(PathPatch(path, color="black"))
            box = path.get_extents()
            middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            axes.set(xlim=(middle[0] - 0.5, middle[0] + 0.5), ylim=(middle[1] - 0.5, middle[1] + 0.5))
            axes.axis("off")
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            drawn.append(1 - np.asarray(canvas.buffer_rgba())[..., 0] / 255.0)
    return torch.tensor(np.stack(drawn), dtype=torch.float32).reshape(len(FACES), 10, FINE, FINE)


def draw_glyphs(count: int, *, noise: float, seed: int) -> Glyphs:
    """Digits of random face, shape and place, with normal noise of a deviation relative to the ink."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    digits = torch.randint(10, (count,), generator=generator)
    faces = torch.randint(len(FACES), (count,), generator=generator)
    turn, shear, width, height = uniform(-0.3, 0.3), uniform(-0.3, 0.3), uniform(0.75, 1.1), uniform(0.75, 1.1)
    cos, sin = turn.cos(), turn.sin()
    rows = [torch.stack(row, 1) for row in (
        (cos * width, (shear - sin) * width, uniform(-0.12, 0.12)), (sin * height, cos * height, uniform(-0.12, 0.12))
    )]  # fmt: skip
    grid = nn.functional.affine_grid(torch.stack(rows, 1), [count, 1, FINE, FINE], align_corners=False)
    fine = nn.functional.grid_sample(masters()[faces, digits][:, None], grid, align_corners=False)
    images = nn.functional.avg_pool2d(fine, FINE // PIXELS)
    images = images + noise * torch.randn(images.shape, generator=generator)
    return Glyphs((images - 0.2) / 0.3, digits)


def network(seed: int) -> nn.Module:
    """Three convolutions of 16, 32 and 32 channels with batch normalisation, and a linear read-out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inner, outer in ((1, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if outer == 32 else []
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4, 10))


def descend(
    operator: nn.Module,
    data: Glyphs,
    regime: Regime,
    *,
    seed: int,
    ghosts: int | None = None,
    noise: float = 0.0,
    callbacks: Sequence[Callback] = (),
) -> nn.Module:
    """Gradient descent with momentum 0.9 and clipping at 5 by a regime, whose drops are to a tenth."""
    if ghosts is not None:
        operator = with_ghost_norm(operator, ghosts)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(operator.parameters(), lr=regime.learning_rate, momentum=0.9)
    order = torch.empty(0, dtype=torch.long)
    operator.train()
    for index in range(regime.updates):
        if len(order) < regime.batch_size:
            order = torch.cat((order, torch.randperm(len(data.digits), generator=generator)))
        chosen, order = order[: regime.batch_size], order[regime.batch_size :]
        rate = regime.learning_rate * 0.1 ** sum(index >= drop for drop in regime.drops)
        optimizer.param_groups[0]["lr"] = rate * min((index + 1) / (regime.warmup + 1), 1.0)
        step = Step(operator, optimizer, index, index / regime.updates, rate, len(chosen))
        if index == 0:
            for callback in callbacks:
                callback.begin(step)
        losses = nn.functional.cross_entropy(operator(data.images[chosen]), data.digits[chosen], reduction="none")
        weights = 1 + noise * torch.randn(len(losses), generator=generator)
        optimizer.zero_grad()
        (weights * losses).mean().backward()
        nn.utils.clip_grad_norm_(operator.parameters(), 5.0)
        optimizer.step()
        for callback in callbacks:
            callback.after_update(step)
    return operator.eval()


@torch.inference_mode()
def accuracy(operator: nn.Module, data: Glyphs) -> float:
    """The share of the digits that are told right."""
    return float((operator(data.images).argmax(1) == data.digits).float().mean())


SMALL, RATE, GHOST, NOISE = 16, 0.02, 32, 0.5


@dataclass(frozen=True)
class Plan:
    """A row of the comparison: how the small batch's regime is changed."""

    name: str
    regime: Callable[[Regime, int, int], Regime]
    ghosts: int | None = None
    noise: float = 0.0


def small_regime(samples: int, epochs: int) -> Regime:
    """Batches of 16, with drops after half and three quarters of the epochs."""
    updates = epochs * math.ceil(samples / SMALL)
    return Regime(SMALL, RATE, updates, drops=(updates // 2, 3 * updates // 4))


def plans(large: int) -> list[Plan]:
    """The published comparison, the linear rule and the multiplicative noise beside it."""

    def moved(rule: Rule, updates: float) -> Callable[[Regime, int, int], Regime]:
        return lambda regime, batch, samples: transferred(regime, batch, samples=samples, rule=rule, updates=updates)

    def same_rate(regime: Regime, batch: int, samples: int) -> Regime:
        fewer = transferred(regime, batch, samples=samples, updates=0.0)
        return replace(fewer, learning_rate=regime.learning_rate, warmup=0)

    quadruple = math.log(4) / math.log(large / SMALL)
    return [
        Plan(f"batch {SMALL}", lambda regime, batch, samples: regime),
        Plan(f"batch {large}, same rate", same_rate),
        Plan("+ square-root rate", moved("sqrt", 0.0)),
        Plan("+ linear rate", moved("linear", 0.0)),
        Plan(f"+ square-root rate, ghosts of {GHOST}", moved("sqrt", 0.0), ghosts=GHOST),
        Plan(f"+ square-root rate, gradient noise {NOISE:g}", moved("sqrt", 0.0), noise=NOISE),
        Plan("+ square-root rate, 4 times the epochs", moved("sqrt", quadruple)),
        Plan("+ square-root rate, as many updates", moved("sqrt", 1.0)),
        Plan(f"+ square-root rate, as many updates, ghosts of {GHOST}", moved("sqrt", 1.0), ghosts=GHOST),
    ]


@dataclass(frozen=True)
class Finish:
    """What one plan reached with one seed; ``seconds`` are of one thread's CPU."""

    name: str
    seed: int
    updates: int
    accuracy: float
    seconds: float


def compare_plans(effort: Effort, reporter: Reporter) -> list[Finish]:
    """Train by every plan with every seed."""
    train, test = (draw_glyphs(n, noise=0.15, seed=i) for i, n in enumerate((effort.glyphs, effort.test_glyphs)))
    small = small_regime(effort.glyphs, effort.glyph_epochs)
    finishes = []
    for seed in effort.seeds:
        for plan in plans(effort.glyph_batch):
            start = time.thread_time()
            regime = plan.regime(small, effort.glyph_batch, effort.glyphs)
            trained = descend(network(seed), train, regime, seed=seed, ghosts=plan.ghosts, noise=plan.noise)
            seconds = time.thread_time() - start
            finishes.append(Finish(plan.name, seed, regime.updates, accuracy(trained, test), seconds))
            reporter.notice(f"{plan.name}, seed {seed}: {finishes[-1].accuracy:.2%} right, {seconds:.0f} s")
    return finishes


@dataclass(frozen=True)
class Walk:
    """Distances of the weights from the start at a constant rate, and how well two laws fit them."""

    name: str
    seed: int
    steps: list[int]
    distances: list[float]
    slope: float
    logarithm: float
    power: float


def walks(effort: Effort, reporter: Reporter) -> list[Walk]:
    """Distances for small and large batches on noisier digits, which are not learnt before the walk ends."""
    train = draw_glyphs(effort.walk_glyphs, noise=0.35, seed=2)
    found = []
    large = min(256, effort.walk_glyphs)
    for seed in effort.few_seeds:
        for name, batch, rate in (
            (f"batch {SMALL}", SMALL, RATE),
            (f"batch {large}", large, RATE),
            (f"batch {large}, square-root rate", large, RATE * math.sqrt(large / SMALL)),
        ):
            meter = DistanceMeter()
            descend(network(seed), train, Regime(batch, rate, effort.walk_steps), seed=seed, callbacks=[meter])
            steps, distances = meter.diffusing()
            by_log, by_power = logarithmic_fit(steps, distances), power_fit(steps, distances)
            found.append(Walk(name, seed, steps, distances, by_log.constants[1], by_log.r2, by_power.r2))
            reporter.notice(f"{name}, seed {seed}: R² {by_log.r2:.2f} of a logarithm, {by_power.r2:.2f} of a power")
    return found
