"""Seconds per training step of the spatiotemporal Fourier operator: forward, backward and AdamW, on one thread and two.

The shapes are those at which the published code was measured on two quiet Xeon cores: its step took so many times that
of neuraloperator's FNO (16 modes, 32 channels, 4 layers, batch 8, one frame), which runs here in the same rounds. Where
neuraloperator is not installed our `FourierOperator`, the same network weight for weight, stands in; the rows say so.

Run: python benchmarks/spatiotemporal.py      (neuraloperator comes with `pip install fieldwright[peers]`)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fieldwright.operators import FourierOperator, SpatiotemporalFourierOperator, parameter_count
from record import interleaved, markdown_table, median_ratio, record

try:
    from neuralop.models import FNO
except ImportError:
    FNO = None

POINTS, KNOWN, ROUNDS = 64, 10, 5
REFERENCE = "neuraloperator FNO" if FNO is not None else "FourierOperator, for want of neuraloperator"
PUBLISHED_REFERENCE = {1: 0.200, 2: 0.136}


@dataclass(frozen=True)
class Shape:
    """One row of the published code's table: its modes and width, and its seconds per step by threads."""

    modes: int
    width: int
    predicted: int
    batch: int
    published: dict[int, float]

    @property
    def name(self) -> str:
        return (
            f"modes {self.modes}, {self.modes}, 5, width {self.width}, {KNOWN} -> {self.predicted}, batch {self.batch}"
        )

    def build(self) -> nn.Module:
        """Ours with the same modes everywhere, the output layer's too."""
        return SpatiotemporalFourierOperator(
            1, 1, modes=2 * self.modes, output_modes=2 * self.modes, time_modes=9, width=self.width, centring="periodic"
        )


SHAPES = (
    Shape(12, 10, 10, 4, {1: 0.661, 2: 0.555}),
    Shape(12, 20, 40, 2, {1: 0.804, 2: 0.644}),
    Shape(32, 10, 10, 2, {1: 0.472, 2: 0.327}),
)


def training_step(call: Callable[[], Tensor], operator: nn.Module, targets: Tensor) -> Callable[[], None]:
    """One step on fixed random fields: relative error squared, backward, AdamW."""
    # The fused AdamW does not take the complex weights of neuraloperator; torch's default does.
    real = not any(parameter.is_complex() for parameter in operator.parameters())
    optimizer = torch.optim.AdamW(operator.parameters(), lr=1e-3, fused=True if real else None)

    def step() -> None:
        optimizer.zero_grad()
        loss = (call() - targets).square().sum() / targets.square().sum()
        loss.backward()
        optimizer.step()

    return step


def measure(threads: int) -> list[dict[str, object]]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    plain = (
        FourierOperator(1, 1, modes=16, width=32, layers=4)
        if FNO is None
        else FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=32, n_layers=4)
    )
    field = torch.randn(8, 1, POINTS, POINTS)
    models: dict[str, nn.Module] = {REFERENCE: plain}
    steps = {REFERENCE: training_step(lambda: plain(field), plain, field)}
    for shape in SHAPES:
        operator = models[shape.name] = shape.build()
        known = torch.randn(shape.batch, KNOWN, 1, POINTS, POINTS)
        times = torch.arange(1, shape.predicted + 1) / shape.predicted
        targets = torch.randn(shape.batch, shape.predicted, 1, POINTS, POINTS)

        def call(operator: nn.Module = operator, known: Tensor = known, times: Tensor = times) -> Tensor:
            return operator(known, times)

        steps[shape.name] = training_step(call, operator, targets)
    seconds = interleaved(steps, repeats=ROUNDS)
    published = {REFERENCE: 1.0} | {s.name: s.published[threads] / PUBLISHED_REFERENCE[threads] for s in SHAPES}
    rows: list[dict[str, object]] = []
    for name, model in models.items():
        ratio = median_ratio(seconds[name], seconds[REFERENCE])
        rows.append(
            {
                "threads": threads,
                "operator": name,
                "parameters": parameter_count(model),
                "seconds per step": statistics.median(seconds[name]),
                "step / FNO's": ratio,
                "published step / FNO's": published[name],
                "times faster": published[name] / ratio,
            }
        )
    return rows


def main() -> None:
    rows = []
    for threads in (1, 2):
        rows += measure(threads)
        print(markdown_table(rows[-len(SHAPES) - 1 :]), flush=True)
    path = record(
        "spatiotemporal",
        rows,
        title="Training step of the spatiotemporal Fourier operator, 64 x 64 points",
        notes="Median of interleaved repeats; ratios are medians of the ratios round by round. The published code was "
        "measured on another machine, so only its ratio to the FNO beside it is compared, in the last two columns."
        + ("" if FNO is not None else " neuraloperator was not installed: the FNO beside ours is our own, which takes "
           "0.5 to 0.7 of its step (operators.md), so that 'times faster' is too low by that factor."),
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
