"""Families of PDE instances: what is drawn, what is solved, what is conserved."""

from fieldwright.problems.advection import Advection
from fieldwright.problems.allen_cahn import AllenCahn
from fieldwright.problems.base import Field, Problem, Settled, SteadyProblem, vector_field
from fieldwright.problems.burgers import Burgers
from fieldwright.problems.composite_fields import level_cut, levels_of_shares, one_of
from fieldwright.problems.compressible_euler import CompressibleEuler
from fieldwright.problems.convection_diffusion import ConvectionDiffusion
from fieldwright.problems.darcy import Darcy
from fieldwright.problems.diffusion import diffusion_system, wall_source
from fieldwright.problems.elasticity import Elasticity
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.gray_scott import GrayScott
from fieldwright.problems.heat import Heat
from fieldwright.problems.helmholtz import Helmholtz
from fieldwright.problems.korteweg_de_vries import KortewegDeVries
from fieldwright.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from fieldwright.problems.laws import Law
from fieldwright.problems.navier_stokes import NavierStokes
from fieldwright.problems.periodic_symmetries import PeriodicSymmetry, periodic_symmetries
from fieldwright.problems.poisson import Poisson
from fieldwright.problems.porous_medium import PorousMedium
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.random_fields import brownian_bridge, gaussian_field
from fieldwright.problems.random_harmonics import random_harmonics
from fieldwright.problems.random_polynomials import random_chebyshev
from fieldwright.problems.random_states import piecewise_constant, riemann_states
from fieldwright.problems.random_vorticity import mcwilliams_vorticity, shear_layer_vorticity, vortex_sheet_vorticity
from fieldwright.problems.random_waves import random_sines
from fieldwright.problems.random_winds import swirling_wind, uniform_wind
from fieldwright.problems.shallow_water import ShallowWater
from fieldwright.problems.spectra import Matern, PowerLaw, SquaredExponential
from fieldwright.problems.spectral_problem import SpectralProblem
from fieldwright.problems.symmetries import BoxSymmetry, box_symmetries
from fieldwright.problems.thermal import Thermal
from fieldwright.problems.trajectory_window import TrajectoryWindow
from fieldwright.problems.tumor_growth import TumorGrowth
from fieldwright.problems.wave import Wave

PROBLEMS: dict[str, type[Problem]] = {
    "advection": Advection,
    "allen_cahn": AllenCahn,
    "burgers": Burgers,
    "compressible_euler": CompressibleEuler,
    "convection_diffusion": ConvectionDiffusion,
    "darcy": Darcy,
    "elasticity": Elasticity,
    "gray_scott": GrayScott,
    "heat": Heat,
    "helmholtz": Helmholtz,
    "korteweg_de_vries": KortewegDeVries,
    "kuramoto_sivashinsky": KuramotoSivashinsky,
    "navier_stokes": NavierStokes,
    "poisson": Poisson,
    "porous_medium": PorousMedium,
    "shallow_water": ShallowWater,
    "thermal": Thermal,
    "trajectory_window": TrajectoryWindow,
    "tumor_growth": TumorGrowth,
    "wave": Wave,
}

__all__ = [
    "PROBLEMS",
    "Advection",
    "AllenCahn",
    "BoxSymmetry",
    "Burgers",
    "CompressibleEuler",
    "ConvectionDiffusion",
    "Darcy",
    "Elasticity",
    "EvolutionProblem",
    "Field",
    "GrayScott",
    "Heat",
    "Helmholtz",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "Law",
    "Matern",
    "NavierStokes",
    "PeriodicSymmetry",
    "Poisson",
    "PorousMedium",
    "PowerLaw",
    "Problem",
    "Settled",
    "ShallowWater",
    "SpectralProblem",
    "SquaredExponential",
    "SteadyProblem",
    "Thermal",
    "TrajectoryWindow",
    "TumorGrowth",
    "Wave",
    "box_symmetries",
    "brownian_bridge",
    "diffusion_system",
    "gaussian_field",
    "level_cut",
    "levels_of_shares",
    "mcwilliams_vorticity",
    "one_of",
    "periodic_symmetries",
    "piecewise_constant",
    "random_bumps",
    "random_chebyshev",
    "random_harmonics",
    "random_sines",
    "riemann_states",
    "shear_layer_vorticity",
    "swirling_wind",
    "uniform_wind",
    "vector_field",
    "vortex_sheet_vorticity",
    "wall_source",
]
