"""A problem from its name and settings, as recipes and saved surrogates state them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fieldwright.errors import FieldwrightError, RecipeError
from fieldwright.problems import PROBLEMS
from fieldwright.problems.base import Problem
from fieldwright.settings import checked_settings, first_line, named_class


def named_problem(kind: str, settings: Mapping[str, Any]) -> Problem:
    """The problem ``kind`` ("darcy", or "my_module:MyProblem" in the user's own file) with these settings.

    Errors: `RecipeError` for an unknown name, an unknown setting, or a value that the problem refuses.
    """
    cls = named_class(kind, PROBLEMS, Problem, "problem")
    arguments = checked_settings(cls, settings, path="problem")
    try:
        return cls(**arguments)
    except (FieldwrightError, TypeError, ValueError) as error:
        raise RecipeError(f"problem: {first_line(error)}") from error
