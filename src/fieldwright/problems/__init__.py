"""Families of PDE instances: what is drawn, what is solved, what is conserved."""

from fieldwright.problems.base import Field, Problem, SteadyProblem
from fieldwright.problems.darcy import Darcy
from fieldwright.problems.diffusion import diffusion_system
from fieldwright.problems.poisson import Poisson
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.symmetries import BoxSymmetry, box_symmetries

PROBLEMS: dict[str, type[Problem]] = {"darcy": Darcy, "poisson": Poisson}

__all__ = [
    "PROBLEMS",
    "BoxSymmetry",
    "Darcy",
    "Field",
    "Poisson",
    "Problem",
    "SteadyProblem",
    "box_symmetries",
    "diffusion_system",
    "gaussian_field",
]
