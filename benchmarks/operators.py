"""Seconds per training step of the operators: forward, backward and AdamW, batch 8, on one thread and two.

Side by side, in one process and in turn: neuraloperator's FNO (16 modes, 32 channels, 4 layers), `FourierOperator` of
the same settings and mathematics, MgNO as published (24 channels, 4 layers, 6 levels, plain layout, float32), and
`MultigridOperator` of the same size; ours in float32 and under bfloat16 autocast.

Run: python benchmarks/operators.py [64] [128]      (needs `pip install fieldwright[peers]`)
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from neuralop.models import FNO
from torch import nn

from fieldwright.operators import FourierOperator, MultigridOperator, parameter_count
from published_operators import PublishedMultigrid
from record import interleaved, markdown_table, median_ratio, record

BATCH, ROUNDS = 8, {64: 5, 128: 3}
REFERENCE = "neuraloperator FNO"


def training_step(operator: nn.Module, size: int, *, bfloat16: bool) -> Callable[[], None]:
    """One step on fixed random fields: relative error squared, backward, AdamW."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(BATCH, 1, size, size, generator=generator) for _ in range(2))
    # The fused AdamW does not take the complex weights of neuraloperator; torch's default does.
    real = not any(parameter.is_complex() for parameter in operator.parameters())
    optimizer = torch.optim.AdamW(operator.parameters(), lr=1e-3, fused=True if real else None)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs = operator(inputs)
        loss = (outputs.float() - targets).square().sum() / targets.square().sum()
        loss.backward()
        optimizer.step()

    return step


def measure(size: int, threads: int) -> list[dict[str, object]]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    models = {
        REFERENCE: FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=32, n_layers=4),
        "FourierOperator": FourierOperator(1, 1, modes=16, width=32, layers=4),
        "FourierOperator, bfloat16": FourierOperator(1, 1, modes=16, width=32, layers=4),
        "MgNO as published": PublishedMultigrid(),
        "MultigridOperator": MultigridOperator(1, 1, width=24, layers=4, levels=6),
        "MultigridOperator, bfloat16": MultigridOperator(1, 1, width=24, layers=4, levels=6),
    }
    steps = {name: training_step(model, size, bfloat16="bfloat16" in name) for name, model in models.items()}
    seconds = interleaved(steps, repeats=ROUNDS[size])
    return [
        {
            "grid": f"{size}x{size}",
            "threads": threads,
            "operator": name,
            "parameters": parameter_count(model),
            "seconds per step": statistics.median(seconds[name]),
            "step / neuraloperator's": median_ratio(seconds[name], seconds[REFERENCE]),
            "times faster": median_ratio(seconds[REFERENCE], seconds[name]),
        }
        for name, model in models.items()
    ]


def main(sizes: list[int]) -> None:
    rows = []
    for size in sizes or list(ROUNDS):
        for threads in (1, 2):
            rows += measure(size, threads)
            print(markdown_table(rows[-6:]), flush=True)
    path = record(
        "operators",
        rows,
        title="Training step of the operators: forward, backward, AdamW, batch 8",
        notes="Median of interleaved repeats; ratios are medians of the ratios round by round. Goals: FourierOperator "
        "at least 1.5 times faster than neuraloperator's FNO; MultigridOperator at most 0.6 of its step at 64x64.",
    )
    print(path)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
