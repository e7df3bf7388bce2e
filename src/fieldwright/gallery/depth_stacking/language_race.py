"""The race on text: a deep language model from scratch, and grown from a shallow one in four ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from fieldwright.analysis.equal_loss import speed_up
from fieldwright.gallery.depth_stacking.effort import Effort
from fieldwright.gallery.depth_stacking.language_model import (
    Curve,
    LanguageModel,
    Text,
    held_out_loss,
    standard_library,
    train_language_model,
)
from fieldwright.gallery.page import Cell, spread
from fieldwright.growth import Growth, RandomBlocks, Stack, Zero, grow
from fieldwright.progress import Reporter

FACTOR = 4
SCRATCH, STACK, ZERO, RANDOM, INTERPOLATE = "scratch", "stack", "zero", "random", "interpolate"
GROWTHS: dict[str, Growth] = {
    STACK: Stack(FACTOR, moments="reset"),
    ZERO: Zero(FACTOR, moments="reset"),
    RANDOM: RandomBlocks(FACTOR, ramped=False, moments="reset"),
    INTERPOLATE: Stack(FACTOR, "interpolate", moments="reset"),
}


@dataclass(frozen=True)
class Run:
    """One training: its way, seed and learning rate, the curve with the base's part, and the losses at the growth."""

    way: str
    seed: int
    learning_rate: float
    curve: Curve
    base_loss: float | None = None
    grown_loss: float | None = None

    @property
    def points(self) -> list[tuple[float, float]]:
        return list(zip(self.curve.flops, self.curve.losses, strict=True))

    @property
    def final(self) -> float:
        return self.curve.losses[-1]


def race_on_text(effort: Effort, reporter: Reporter) -> list[Run]:
    """Tune the rate on scratch with the first seed, then train scratch and the stack with every seed at that rate, and
    the other ways with the first seed.
    """
    text = Text.of(standard_library(effort.characters), context=effort.shape.context, windows=effort.windows)
    first, *others = effort.seeds
    runs = [_from_scratch(effort, text, first, rate) for rate in effort.learning_rates]
    rate = min(runs, key=lambda run: run.final).learning_rate
    runs += [_from_scratch(effort, text, seed, rate) for seed in others]
    for run in runs:
        reporter.notice(f"scratch, seed {run.seed}, rate {run.learning_rate:g}: {run.final:.4f}")
    for seed in effort.seeds:
        torch.manual_seed(seed)
        base = LanguageModel(replace(effort.shape, layers=effort.shape.layers // FACTOR))
        curve = train_language_model(
            base, text, steps=effort.base_steps, learning_rate=rate, seed=seed, every=effort.every
        )
        for way, growth in GROWTHS.items():
            if way != STACK and seed != first:
                continue
            grown = grow(base, growth, probe=(text.held_out[:4, :-1],), seed=seed)
            model = grown.model
            assert isinstance(model, LanguageModel)
            start = held_out_loss(model, text)
            steps = effort.stack_steps if way == STACK else effort.other_steps
            later = train_language_model(
                model, text, steps=steps, learning_rate=rate, seed=1000 + seed, every=effort.every, begins=False
            )
            runs.append(Run(way, seed, rate, curve + later, curve.losses[-1], start))
            reporter.notice(f"{way}, seed {seed}: {curve.losses[-1]:.4f}, grown {start:.4f}, end {runs[-1].final:.4f}")
    return runs


def _from_scratch(effort: Effort, text: Text, seed: int, rate: float) -> Run:
    torch.manual_seed(seed)
    model = LanguageModel(effort.shape)
    curve = train_language_model(
        model, text, steps=effort.scratch_steps, learning_rate=rate, seed=seed, every=effort.every
    )
    return Run(SCRATCH, seed, rate, curve)


def tuned_rate(runs: list[Run]) -> float:
    """The learning rate at which the ways are compared: scratch's best."""
    return next(run for run in runs if run.way == STACK).learning_rate


def at_tuned_rate(runs: list[Run], way: str) -> list[Run]:
    """The runs of a way at that rate, seed by seed."""
    rate = tuned_rate(runs)
    return sorted((r for r in runs if r.way == way and r.learning_rate == rate), key=lambda run: run.seed)


def speed_ups(runs: list[Run], way: str) -> list[float | None]:
    """C_scratch / C - 1 at scratch's final loss, with the same seed."""
    scratch = {run.seed: run for run in at_tuned_rate(runs, SCRATCH)}
    return [speed_up(scratch[run.seed].points, run.points) for run in at_tuned_rate(runs, way)]


def loss_at_equal_flops(runs: list[Run], way: str, seed: int) -> float:
    """The loss of a way at the operations that the shortest of the grown runs of this seed has: all are there."""
    shortest = min(run.curve.flops[-1] for run in runs if run.seed == seed and run.way != SCRATCH)
    run = next(run for run in at_tuned_rate(runs, way) if run.seed == seed)
    for (a, x), (b, y) in zip(run.points[:-1], run.points[1:], strict=True):
        if a <= shortest <= b and b > a:
            return x + (y - x) * (shortest - a) / (b - a)
    return run.final


def text_rows(runs: list[Run]) -> list[Mapping[str, Cell]]:
    """A row for each way at the tuned rate, and for scratch at the others."""
    rows: list[Mapping[str, Cell]] = []
    for way in (SCRATCH, *GROWTHS):
        own = at_tuned_rate(runs, way)
        gains = [gain for gain in speed_ups(runs, way) if gain is not None]
        rows.append(
            {
                "model": f"{way}, rate {tuned_rate(runs):g}",
                "seeds": len(own),
                "operations": own[0].curve.flops[-1],
                "loss right after growth": _losses([r.grown_loss for r in own]),
                "final loss": _losses([r.final for r in own]),
                "speed-up at scratch's final loss": "0" if way == SCRATCH else _gains(gains, len(own)),
                "CPU seconds": sum(r.curve.seconds for r in own) / len(own),
            }
        )
    for run in runs:
        if run.way == SCRATCH and run.learning_rate != tuned_rate(runs):
            name = f"scratch, rate {run.learning_rate:g}"
            rows.append(
                {"model": name, "seeds": 1, "operations": run.curve.flops[-1], "final loss": f"{run.final:.4f}"}
            )
    return rows


def _losses(values: list[float | None]) -> str | None:
    known = [value for value in values if value is not None]
    return ", ".join(f"{value:.3f}" for value in known) or None


def _gains(gains: list[float], runs: int) -> str:
    missed = f"; {runs - len(gains)} never" if len(gains) < runs else ""
    return (spread(gains) if gains else "never") + (missed if gains else "")
