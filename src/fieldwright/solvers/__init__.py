"""Solvers of batches of stencil systems: arrays in, verified solutions out. They know no PDE by name."""

from fieldwright.solvers.choose import METHODS, solve
from fieldwright.solvers.estimate import ResidualEstimate, residual_estimate
from fieldwright.solvers.stencil import Solution, StencilSystem

__all__ = ["METHODS", "ResidualEstimate", "Solution", "StencilSystem", "residual_estimate", "solve"]
