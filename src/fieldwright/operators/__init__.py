"""Operators: networks from fields to fields, on grids of any size."""

from fieldwright.operators.build import OPERATORS, build_operator, load_operator, parameter_count, save_operator
from fieldwright.operators.fourier import FourierOperator
from fieldwright.operators.multigrid import MultigridOperator

__all__ = [
    "OPERATORS",
    "FourierOperator",
    "MultigridOperator",
    "build_operator",
    "load_operator",
    "parameter_count",
    "save_operator",
]
