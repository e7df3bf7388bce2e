"""How much of MultiONet's page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Grid points per axis, samples, the batch of a step, CPU seconds a model, seeds."""

    points: int
    samples: int
    test_samples: int
    batch: int
    seconds: float
    seeds: tuple[int, ...]


FULL = Effort(points=29, samples=1000, test_samples=200, batch=50, seconds=25.0, seeds=(0, 1))
QUICK = Effort(points=16, samples=24, test_samples=4, batch=8, seconds=0.2, seeds=(0, 1))
