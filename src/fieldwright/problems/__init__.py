"""Families of PDE instances: what is drawn, what is solved, what is conserved."""

from fieldwright.problems.base import Field, Problem, Settled, SteadyProblem, vector_field
from fieldwright.problems.darcy import Darcy
from fieldwright.problems.diffusion import diffusion_system
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.laws import Law
from fieldwright.problems.poisson import Poisson
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.random_states import piecewise_constant, riemann_states
from fieldwright.problems.random_vorticity import mcwilliams_vorticity
from fieldwright.problems.random_waves import random_sines
from fieldwright.problems.spectra import Matern, PowerLaw, SquaredExponential
from fieldwright.problems.symmetries import BoxSymmetry, box_symmetries

PROBLEMS: dict[str, type[Problem]] = {"darcy": Darcy, "poisson": Poisson}

__all__ = [
    "PROBLEMS",
    "BoxSymmetry",
    "Darcy",
    "EvolutionProblem",
    "Field",
    "Law",
    "Matern",
    "Poisson",
    "PowerLaw",
    "Problem",
    "Settled",
    "SquaredExponential",
    "SteadyProblem",
    "box_symmetries",
    "diffusion_system",
    "gaussian_field",
    "mcwilliams_vorticity",
    "piecewise_constant",
    "random_bumps",
    "random_sines",
    "riemann_states",
    "vector_field",
]
