"""A race: operators trained on the same samples within the same time, seed by seed.

The seeds go round outside and the entrants inside, so that a machine which slows down half-way slows all of them.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.gallery.page import Cell, spread
from fieldwright.norms import relative_h1, relative_l2
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train
from fieldwright.training.devices import multiplies_bfloat16


@dataclass(frozen=True)
class Entrant:
    """An operator that takes part: how it is built, and the phase it is trained by."""

    name: str
    build: Callable[[], nn.Module]
    phase: Phase


@dataclass(frozen=True)
class Finish:
    """What one entrant reached with one seed: mean relative errors over the test samples, in physical units."""

    name: str
    seed: int
    parameters: int
    precision: str
    steps: int
    l2: float
    h1: float


def race(
    entrants: Sequence[Entrant],
    data: TrainingData,
    test: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    reporter: Reporter,
) -> list[Finish]:
    """Train every entrant with every seed, and measure it on the test samples."""
    finishes = []
    for seed in seeds:
        for entrant in entrants:
            operator = _seeded(entrant, seed)
            with tempfile.TemporaryDirectory() as directory:
                summary = train(operator, [entrant.phase], data, directory=Path(directory), seed=seed)
            parameters = sum(p.numel() for p in operator.parameters())
            l2, h1 = errors(operator, data, test)
            finishes.append(Finish(entrant.name, seed, parameters, entrant.phase.precision, summary.steps, l2, h1))
            reporter.notice(
                f"{entrant.name}, seed {seed}: {summary.steps} steps, {summary.seconds:.0f} s, L2 {l2:.2%}, H1 {h1:.2%}"
            )
    return finishes


def race_rows(finishes: Sequence[Finish]) -> list[Mapping[str, Cell]]:
    """A row of a page's table for each entrant: weights, precision, steps and errors over the seeds."""
    rows: list[Mapping[str, Cell]] = []
    for name in dict.fromkeys(finish.name for finish in finishes):
        own = [finish for finish in finishes if finish.name == name]
        rows.append(
            {
                "model": name,
                "weights": own[0].parameters,
                "precision": "float32" if own[0].precision == "32" else "bfloat16 autocast",
                "steps": int(statistics.median(finish.steps for finish in own)),
                "relative L2": spread([finish.l2 for finish in own]),
                "relative H1": spread([finish.h1 for finish in own]),
            }
        )
    return rows


def median_of(finishes: Sequence[Finish], name: str, norm: str = "l2") -> float:
    """The median over seeds of an entrant's error in a norm, "l2" or "h1"."""
    return statistics.median(getattr(finish, norm) for finish in finishes if finish.name == name)


ROUNDS = 4
STEPS_PER_ROUND = 2


def with_equal_time(
    entrants: Sequence[Entrant], data: TrainingData, seconds: float, *, precisions: Sequence[str] | None = None
) -> list[Entrant]:
    """The entrants with as many steps each as fit into ``seconds`` of CPU time on one thread of this machine.

    Each runs in that of the ``precisions`` in which it steps faster here: unless said otherwise float32, or bfloat16
    autocast where the processor multiplies it; that depends on operator and processor. The time of a step is the least
    of `ROUNDS` rounds, taken in turn. CPU time and not wall time, because other work on the machine must not decide the
    race; steps and not seconds as the budget, because then it can be repeated.
    """
    if precisions is None:
        precisions = ("32", "bf16-mixed") if multiplies_bfloat16(torch.device("cpu")) else ("32",)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        operators = [_seeded(entrant, 0) for entrant in entrants]
        least = [dict.fromkeys(precisions, math.inf) for _ in entrants]
        for _ in range(ROUNDS):
            for entrant, operator, times in zip(entrants, operators, least, strict=True):
                for precision in precisions:
                    times[precision] = min(
                        times[precision], _seconds_per_step(operator, entrant.phase.batch_size, data, precision)
                    )
    finally:
        torch.set_num_threads(threads)
    timed = []
    for entrant, times in zip(entrants, least, strict=True):
        precision, step = min(times.items(), key=lambda item: item[1])
        settings = {"steps": max(1, round(seconds / step)), "precision": precision}
        timed.append(replace(entrant, phase=entrant.phase.model_copy(update=settings)))
    return timed


def _seconds_per_step(operator: nn.Module, batch_size: int, data: TrainingData, precision: str) -> float:
    # One thread's CPU time of forward, backward and update; the loop around it costs every entrant the same.
    inputs, outputs = data.train_samples.batch(range(min(batch_size, len(data.train_samples))))
    inputs, outputs = data.inputs.encode(inputs), data.outputs.encode(outputs)
    optimizer = torch.optim.AdamW(operator.parameters())
    start = time.process_time()
    for _ in range(STEPS_PER_ROUND):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            prediction = operator(inputs)
        loss = (prediction.float() - outputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - start) / STEPS_PER_ROUND


def _seeded(entrant: Entrant, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entrant.build()


def errors(operator: nn.Module, data: TrainingData, test: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean relative L2 and H1 errors over the test samples, in physical units."""
    prediction = predict(operator, data, test[0])
    truth = test[1].double()
    l2, h1 = relative_l2(prediction, truth, data.grid), relative_h1(prediction, truth, data.grid)
    return float(l2.mean()), float(h1.mean())


def predict(
    operator: nn.Module, data: TrainingData, inputs: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, "batch output *space"]:
    """The operator's outputs in physical units and float64, a few samples at a time."""
    operator.eval()
    with torch.inference_mode():
        parts = [data.outputs.decode(operator(data.inputs.encode(part.float()))) for part in inputs.split(20)]
    return torch.cat(parts).double()
