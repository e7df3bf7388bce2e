"""How much of the spectral refiner's page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Grid points per axis, flows to train and test on, CPU seconds a model of the race, and the race's seeds."""

    points: int
    flows: int
    test_flows: int
    seconds: float
    seeds: tuple[int, ...]


FULL = Effort(points=64, flows=400, test_flows=32, seconds=30.0, seeds=(0,))
QUICK = Effort(points=32, flows=8, test_flows=2, seconds=0.3, seeds=(0,))
