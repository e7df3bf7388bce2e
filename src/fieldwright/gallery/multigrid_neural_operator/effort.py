"""How much of the multigrid operator's page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How much is measured: grid points per axis, samples, steps of section one, CPU seconds a model of the race."""

    points: int
    steps: int
    samples: int
    test_samples: int
    seconds: float
    seeds: tuple[int, ...]


FULL = Effort(points=64, steps=800, samples=500, test_samples=100, seconds=45.0, seeds=(0, 1))
QUICK = Effort(points=32, steps=4, samples=16, test_samples=4, seconds=0.3, seeds=(0, 1))
