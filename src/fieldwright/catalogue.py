"""Everything that has a name, with one line each."""

from __future__ import annotations

import inspect

from fieldwright.errors import InputError
from fieldwright.gallery import GALLERY
from fieldwright.operators import OPERATORS
from fieldwright.operators.survey import OperatorFacts
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


def operator_lines(facts: tuple[OperatorFacts, ...], shape: tuple[int, ...]) -> list[str]:
    """A table of operators as lines of text."""
    headings = ("operator", "dimensions", "takes", "parameters", "FLOPs", "source")
    rows = [
        (
            one.name,
            ", ".join(map(str, one.dimensions)),
            one.takes,
            "-" if one.parameters is None else f"{one.parameters:,}",
            "-" if one.flops is None else f"{one.flops:.2e}",
            one.paper + (f" ({one.note})" if one.note else ""),
        )
        for one in facts
    ]
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    sides = ("<", "<", "<", ">", ">", "")
    lines = [
        "  ".join(f"{cell:{side}{width if side else ''}}" for cell, side, width in zip(row, sides, widths, strict=True))
        for row in (headings, *rows)
    ]
    return [
        *lines,
        f"Defaults, one sample of {' x '.join(map(str, shape))} points, one forward pass; FLOPs are those of products,"
        " convolutions, attention and Fourier transforms.",
    ]
