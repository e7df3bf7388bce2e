"""A page from its template: one file with its style inside, everything from outside escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """The page as text. What comes from outside (names, recipes, command) is escaped, and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("fieldwright.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)
