"""How much of the latent spectral model's page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Grid points per axis, samples, CPU seconds a model, seeds."""

    points: int
    samples: int
    test_samples: int
    seconds: float
    seeds: tuple[int, ...]


FULL = Effort(points=32, samples=500, test_samples=100, seconds=50.0, seeds=(0, 1))
QUICK = Effort(points=32, samples=16, test_samples=4, seconds=0.3, seeds=(0, 1))
