"""Everything that has a name, with one line each."""

from __future__ import annotations

import inspect

from fieldwright.errors import InputError
from fieldwright.gallery import GALLERY
from fieldwright.operators import OPERATORS
from fieldwright.problems import PROBLEMS
from fieldwright.recipe import packaged_recipes
from fieldwright.settings import allowed
from fieldwright.solvers import METHODS


def catalogue(what: str = "all") -> dict[str, dict[str, str]]:
    """Names and summaries per kind: problems, operators, recipes, solvers, gallery; or of one kind.

    Errors: `InputError` for an unknown kind.
    """
    kinds = {
        "problems": {name: _first_line(cls) for name, cls in PROBLEMS.items()},
        "operators": {name: _first_line(cls) for name, cls in OPERATORS.items()},
        "recipes": packaged_recipes(),
        "solvers": dict(METHODS),
        "gallery": {name: entry.summary for name, entry in GALLERY.items()},
    }
    if what == "all":
        return kinds
    if what not in kinds:
        raise InputError(f"list: '{what}'; {allowed(what, kinds)}")
    return {what: kinds[what]}


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
