"""The same on a PDE family: an operator transformer on Darcy flow, from scratch and stacked, by phases of one loop."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fieldwright.analysis.equal_loss import speed_up
from fieldwright.gallery.darcy_data import darcy_data
from fieldwright.gallery.depth_stacking.effort import Effort
from fieldwright.gallery.page import Cell, spread
from fieldwright.operators import OperatorTransformer
from fieldwright.problems import Darcy
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train

OPERATOR_SCRATCH, OPERATOR_STACK = "scratch", "stack"
DEPTH, OPERATOR_FACTOR = 2, 4
LEARNING_RATE = 2e-3
BATCH = 8


@dataclass(frozen=True)
class OperatorRun:
    """One training of the operator: validation errors at training operations, base included."""

    way: str
    seed: int
    points: tuple[tuple[float, float], ...]
    seconds: float

    @property
    def final(self) -> float:
        return self.points[-1][1]


def race_on_operators(effort: Effort, reporter: Reporter) -> list[OperatorRun]:
    """Train the deep transformer from scratch and from a shallow one, with every seed."""
    data, _ = darcy_data(Darcy(resolution=effort.points, coefficient="log-normal"), effort.samples, 1)
    runs = []
    for seed in effort.operator_seeds:
        for way in (OPERATOR_SCRATCH, OPERATOR_STACK):
            runs.append(_run(way, seed, data, effort))
            reporter.notice(f"operator, {way}, seed {seed}: {runs[-1].final:.2%}, {runs[-1].seconds:.0f} s")
    return runs


def phases(way: str, effort: Effort) -> list[Phase]:
    """The constant rate leaves no schedule to blame."""

    def phase(name: str, steps: int, **settings: Any) -> Phase:
        return Phase(
            name=name, steps=steps, batch_size=BATCH, learning_rate=LEARNING_RATE, weight_decay=1e-6, clip=5.0,
            schedule="constant", warmup=min(20 / steps, 0.5), objective="l2", **settings,
        )  # fmt: skip

    if way == OPERATOR_SCRATCH:
        return [phase("deep", effort.operator_steps)]
    kind = {"kind": way, "factor": OPERATOR_FACTOR, "moments": "reset"}
    after = effort.operator_steps - -(-effort.operator_base_steps // OPERATOR_FACTOR)
    return [phase("shallow", effort.operator_base_steps), phase("deep", after, prepare=kind)]


def operator(way: str, seed: int) -> OperatorTransformer:
    """The transformer on one level of tokens that the first phase trains."""
    torch.manual_seed(seed)
    depth = DEPTH * (OPERATOR_FACTOR if way == OPERATOR_SCRATCH else 1)
    return OperatorTransformer(1, 1, width=24, depths=[depth], skips=[0], patch=4, window=8, conditioned=False)


def _run(way: str, seed: int, data: TrainingData, effort: Effort) -> OperatorRun:
    start = time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        train(operator(way, seed), phases(way, effort), data, directory=Path(directory), seed=seed)
        with (Path(directory) / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    points = [(float(r["flops"]), float(r["valid_relative_l2"])) for r in rows if r["valid_relative_l2"]]
    return OperatorRun(way, seed, tuple(points), time.process_time() - start)


def operator_speed_ups(runs: Sequence[OperatorRun], way: str) -> list[float | None]:
    """C_scratch / C - 1 at scratch's final validation error, seed by seed."""
    scratch = {run.seed: run.points for run in runs if run.way == OPERATOR_SCRATCH}
    pairs = [(scratch[run.seed], run.points) for run in runs if run.way == way]
    return [speed_up(plain, own) if min(len(plain), len(own)) > 1 else None for plain, own in pairs]


def operator_rows(runs: Sequence[OperatorRun]) -> list[Mapping[str, Cell]]:
    """A row for each way."""
    rows: list[Mapping[str, Cell]] = []
    for way in dict.fromkeys(run.way for run in runs):
        own = [run for run in runs if run.way == way]
        gains = ["never" if gain is None else f"{gain:.0%}" for gain in operator_speed_ups(runs, way)]
        rows.append(
            {
                "model": way,
                "operations": own[0].points[-1][0],
                "final validation error": spread([run.final for run in own]),
                "speed-up at scratch's final error": "0" if way == OPERATOR_SCRATCH else ", ".join(gains),
                "CPU seconds": sum(run.seconds for run in own) / len(own),
            }
        )
    return rows
