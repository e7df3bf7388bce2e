"""Finite volumes for hyperbolic conservation laws: limited slopes, Riemann solvers, and the march in time."""

from fieldwright.solvers.finite_volume.exact_gas import gas_fan, gas_star
from fieldwright.solvers.finite_volume.ideal_gas import IdealGas
from fieldwright.solvers.finite_volume.laws import ConservationLaw
from fieldwright.solvers.finite_volume.limiters import LIMITERS, Limiter, half_slope
from fieldwright.solvers.finite_volume.scheme import STEPPINGS, Scheme, Stepping
from fieldwright.solvers.finite_volume.shallow_layer import ShallowLayer
from fieldwright.solvers.finite_volume.walls import SIDES, Side, Walls, parse_walls, with_ghosts

__all__ = [
    "LIMITERS",
    "SIDES",
    "STEPPINGS",
    "ConservationLaw",
    "IdealGas",
    "Limiter",
    "Scheme",
    "ShallowLayer",
    "Side",
    "Stepping",
    "Walls",
    "gas_fan",
    "gas_star",
    "half_slope",
    "parse_walls",
    "with_ghosts",
]
