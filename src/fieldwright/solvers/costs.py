"""What methods cost, before anything is run: seconds as measured on one thread of one machine, of which ratios count.

The rules of `choose` rank methods by these, and the pilot decides by them what is worth trying; then measurement takes
over. A figure wrong by a factor of two costs a trial more or less; the fits are that good over 16² to 256² and 8³ to
32³.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fieldwright.solvers.stencil import StencilSystem


class Cost(NamedTuple):
    """Seconds before the first system, then for every system ``base`` and ``iteration`` for each of ``iterations``."""

    setup: float
    base: float
    iteration: float = 0.0
    iterations: float = 0.0

    @property
    def system(self) -> float:
        """Seconds for every system."""
        return self.base + self.iteration * self.iterations

    def total(self, systems: float) -> float:
        """Seconds for so many systems."""
        return self.setup + systems * self.system

    def scaled(self, factor: float) -> Cost:
        """The same work on a machine that takes so many times as long."""
        return Cost(factor * self.setup, factor * self.base, factor * self.iteration, self.iterations)


def multigrid_cost(system: StencilSystem, rtol: float) -> Cost:
    """7 iterations in 2D, 9 in 3D, for six digits."""
    n = system.unknowns
    if len(system.shape) == 3:
        return Cost(0.0, 4e-6 + n * 1e-8, n * 1.1e-8, 1.45 * _digits(rtol))
    each = n * 5e-9 * max(1.0, n / 4096) ** 0.29
    return Cost(0.0, 4e-6 + n * 4e-9, each, 0.5 + 1.15 * _digits(rtol))


def spectral_cost(system: StencilSystem, rtol: float) -> Cost:
    """16 iterations at contrast 4 for six digits, two or three times as many for large smooth contrasts."""
    n = system.unknowns
    return Cost(2e-3, n * 2e-8, 2e-6 + n * 2.2e-8 * max(1.0, n / 4096) ** 0.25, 2.7 * _digits(rtol))


def direct_cost(system: StencilSystem, rtol: float) -> Cost:
    """Elimination in float32, then two to five corrections, which take their time from the memory."""
    n = system.unknowns
    work, entries = elimination(system)
    correction = entries * 4 / 2.5e10 + n * 6e-9
    corrections = (2.5 if system.kind == "symmetric" else 1) + _digits(rtol) / 5
    return Cost(2.5e-6 * n, n * 1.5e-8 + work / 2.8e10, correction, corrections)


def same_matrix_cost(system: StencilSystem, rtol: float) -> Cost:
    """One group of lanes eliminated in float64, then a sweep over one number an entry for eight right-hand sides."""
    n = system.unknowns
    work, entries = elimination(system)
    return Cost(2.5e-6 * n + 8 * (work / 1.4e10 + entries * 8 / 1e10), n * 2e-9, n * 2e-9 + entries * 6e-11, 1.0)


def transform_cost(system: StencilSystem, rtol: float) -> Cost:
    """A product with a transform's matrix along each axis, forth and back."""
    products = 4 * system.unknowns * sum(system.shape)
    return Cost(1e-3, 5e-6, system.unknowns * 1.2e-8 + products / 4e10, 1.0)


def gmres_cost(system: StencilSystem, rtol: float) -> Cost:
    """40 iterations on 64² unknowns with ILU(0), growing with the side; 16 with the transform as preconditioner.

    A sample at a time, which costs calls."""
    n = system.unknowns
    side = n ** (1 / len(system.shape))
    iterations = 2.7 * _digits(rtol) if system.kind == "spd" else (0.6 * side + 4) * _digits(rtol) / 6
    return Cost(0.0, 1e-3 + n * 3e-7, n * 3e-8, iterations)


def gcro_dr_cost(system: StencilSystem, rtol: float) -> Cost:
    """Half as much again as GMRES on systems that GMRES solves without restarting."""
    return gmres_cost(system, rtol).scaled(1.5)


def scipy_cost(system: StencilSystem, rtol: float) -> Cost:
    """SuperLU with a column ordering of its own for every system."""
    n = system.unknowns
    return Cost(0.0, n * (1.6e-4 * (n / 32768) if len(system.shape) == 3 else 1.6e-6 * (n / 4096) ** 0.4))


def _digits(rtol: float) -> float:
    return -math.log10(rtol)


def elimination(system: StencilSystem) -> tuple[float, float]:
    """Operations and stored entries of nested dissection, the components of a point taken as a block."""
    reach = [max(abs(o[axis]) for o in system.offsets) for axis in range(len(system.shape))]
    spatial = [axis for axis, n in enumerate(system.shape) if n > 2 * max(1, reach[axis])]
    points = math.prod(system.shape[axis] for axis in spatial)
    block = system.unknowns / points
    if len(spatial) >= 3:
        work, entries = 4.4 * points**2, 8.6 * points ** (4 / 3)
    elif len(spatial) == 2:
        work, entries = 16 * points**1.5, 3.55 * points * math.log2(points)
    else:
        work, entries = 100 * points, 25 * points
    if any(sum(offset[axis] != 0 for axis in spatial) > 1 for offset in system.offsets):
        # Corner entries leave only the cuts along axes.
        work, entries = 1.7 * work, 1.25 * entries
    if system.kind != "general":
        work, entries = work / 2, 0.62 * entries
    return work * block**3, entries * block**2
