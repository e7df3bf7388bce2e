"""A training of a second: two phases of a small network that learns to smooth fields. Also run as a script."""

import sys
from pathlib import Path

import torch
from torch import nn

from fieldwright.datasets import Normalizer
from fieldwright.grids import Grid
from fieldwright.training import Phase, TrainingData, TrainingSummary, train

GRID = Grid((8, 8))
SYMMETRIES = (lambda field: field, lambda field: field.flip(-1), lambda field: field.transpose(-1, -2))
PHASES = (
    Phase(name="first", steps=30, batch_size=6, ema=0.9, learning_rate=1e-2),
    Phase(name="second", epochs=4, batch_size=6, objective={"l2": 1.0, "h1": 0.5}, accumulate=2, schedule="cosine"),
)


def tiny_data() -> TrainingData:
    draws = torch.Generator().manual_seed(0)
    inputs = 5 + 3 * torch.randn(40, 1, 8, 8, generator=draws)
    outputs = 1e-3 * nn.functional.avg_pool2d(inputs, 3, stride=1, padding=1)
    return TrainingData(
        train=(inputs[:32], outputs[:32]),
        valid=(inputs[32:], outputs[32:]),
        inputs=Normalizer.fit(inputs[:32]),
        outputs=Normalizer.fit(outputs[:32]),
        grid=GRID,
    )


def tiny_operator(*, dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Dropout(dropout), nn.Conv2d(8, 1, 3, padding=1))


def tiny_training(
    directory: Path, *, data: TrainingData | None = None, dropout: float = 0.1, checkpoint_seconds: float = 30.0
) -> TrainingSummary:
    return train(
        tiny_operator(dropout=dropout),
        PHASES,
        data or tiny_data(),
        directory=directory,
        seed=3,
        symmetries=SYMMETRIES,
        checkpoint_seconds=checkpoint_seconds,
    )


if __name__ == "__main__":
    tiny_training(Path(sys.argv[1]), dropout=float(sys.argv[2]), checkpoint_seconds=float(sys.argv[3]))
