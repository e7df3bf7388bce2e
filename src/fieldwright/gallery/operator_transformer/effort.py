"""How much of the operator transformer's page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How much is measured: sizes checked against published outputs, trajectories to learn from, steps, seeds."""

    sizes: tuple[str, ...]
    trajectories: tuple[int, ...]
    test_trajectories: int
    steps: int
    seeds: tuple[int, ...]


FULL = Effort(sizes=("small", "T"), trajectories=(4, 16), test_trajectories=64, steps=250, seeds=(0, 1))
QUICK = Effort(sizes=("small",), trajectories=(2, 3), test_trajectories=4, steps=3, seeds=(0,))
