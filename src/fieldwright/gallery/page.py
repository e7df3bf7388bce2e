"""A page of the gallery: what was measured, as tables, claims and a figure, in Markdown."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwright.atomic import write_atomically
from fieldwright.pipeline.environment import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A section of the page: a heading, what is measured and how, the rows, and what they mean.

    ``rows`` map columns to texts or numbers; None is shown as a dash.
    """

    heading: str
    setting: str
    rows: Sequence[Mapping[str, Cell]]
    reading: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement that the reproduction must bear out, what was measured, and whether it does."""

    statement: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Reproduction:
    """All that was measured of one method."""

    title: str
    source: str
    introduction: str
    tables: Sequence[Table]
    claims: Sequence[Claim]
    figure: Figure | None = None
    caption: str = ""
    name: str = ""
    quick: bool = False
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every claim is borne out."""
        return all(claim.holds for claim in self.claims)


def write_page(reproduction: Reproduction, directory: Path) -> Path:
    """Write ``<name>.md`` and, where there is a figure, ``<name>.svg``; returns the path of the page.

    Errors: `StorageError` when they cannot be written.
    """
    if reproduction.figure is not None:
        picture = io.BytesIO()
        reproduction.figure.savefig(picture, format="svg", metadata={"Date": None})
        write_atomically(directory / f"{reproduction.name}.svg", picture.getvalue())
    page = directory / f"{reproduction.name}.md"
    write_atomically(page, markdown(reproduction).encode())
    return page


def markdown(reproduction: Reproduction) -> str:
    """The text of the page."""
    parts = [f"# {reproduction.title}", reproduction.source, reproduction.introduction]
    if reproduction.quick:
        parts.append("**A quick run, to see that the code works: its figures mean nothing.**")
    if reproduction.figure is not None:
        parts.append(f"![{reproduction.caption}]({reproduction.name}.svg)")
    for table in reproduction.tables:
        parts += [f"## {table.heading}", table.setting, _rows(table.rows), table.reading]
    verdict = [
        {"claim": claim.statement, "measured": claim.measured, "holds": "yes" if claim.holds else "**no**"}
        for claim in reproduction.claims
    ]
    parts += ["## Does it hold?", _rows(verdict), _measured_on(reproduction)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def verdict(reproduction: Reproduction) -> str:
    """The claims, one a line, as text for a terminal."""
    return "\n".join(
        f"{'holds' if claim.holds else 'FAILS'}  {claim.statement}: {claim.measured}" for claim in reproduction.claims
    )


def spread(values: Sequence[float], *, percent: bool = True) -> str:
    """The median over seeds with the least and the largest: "1.9 % (1.7 to 2.2)"."""
    factor, unit = (100, " %") if percent else (1, "")
    middle, least, most = (factor * f(values) for f in (statistics.median, min, max))
    return f"{middle:.3g}{unit} ({least:.3g} to {most:.3g})" if len(values) > 1 else f"{middle:.3g}{unit}"


def _rows(rows: Sequence[Mapping[str, Cell]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    return "\n".join(lines + [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows])


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value.replace("|", "\\|")


def _measured_on(reproduction: Reproduction) -> str:
    facts = environment()
    versions = ", ".join(f"{name} {facts['packages'][name]}" for name in ("torch", "numpy", "scipy", "numba"))
    return (
        f"Measured in {reproduction.seconds:.0f} s on {facts['processor']}, {facts['cores']} cores, {facts['threads']}"
        f" threads, Python {facts['python']}, {versions}, Fieldwright {facts['fieldwright']},"
        f" {datetime.now(UTC):%Y-%m-%d}. Measure it on yours: `fieldwright reproduce {reproduction.name}`."
    )
