"""Relatives of a problem: the same family with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fieldwright.errors import InputError
from fieldwright.problems.base import Problem


def relatives(problem: Problem, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Problem]:
    """The problem with each of the named changes of settings, without those that it refuses (a grid too coarse)."""
    found: dict[str, Problem] = {}
    for name, settings in changes.items():
        try:
            found[name] = replace(problem, **settings)  # type: ignore[type-var]
        except InputError:
            continue
    return found
