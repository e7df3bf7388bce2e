"""Solvers of batches of stencil systems: arrays in, verified solutions out. They know no PDE by name."""

from fieldwright.solvers.choose import METHODS, choose, solve
from fieldwright.solvers.compilation import announce_compilation
from fieldwright.solvers.estimate import ResidualEstimate, residual_estimate
from fieldwright.solvers.pilot import Choice
from fieldwright.solvers.stencil import Solution, StencilSystem

__all__ = [
    "METHODS",
    "Choice",
    "ResidualEstimate",
    "Solution",
    "StencilSystem",
    "announce_compilation",
    "choose",
    "residual_estimate",
    "solve",
]
