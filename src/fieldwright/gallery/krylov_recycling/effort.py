"""How much of the recycling page is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How much is measured: cells and systems of the published setting, systems of the slow rows, and of the others."""

    cells: int
    systems: int
    slow_systems: int
    points: int
    related_points: int
    related_systems: int
    sorted_samples: int


FULL = Effort(
    cells=100, systems=100, slow_systems=8, points=64, related_points=32, related_systems=200, sorted_samples=1000
)
QUICK = Effort(cells=18, systems=5, slow_systems=3, points=16, related_points=12, related_systems=8, sorted_samples=40)
