"""Operators: networks from fields to fields, on grids of any size."""

from fieldwright.operators.multigrid import MultigridOperator

__all__ = ["MultigridOperator"]
