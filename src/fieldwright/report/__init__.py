"""One self-contained HTML page that says how good a surrogate is and when it pays."""

from fieldwright.report.comparison import Comparison, render_comparison, write_comparison
from fieldwright.report.facts import RunFacts
from fieldwright.report.page import render_report, write_report
from fieldwright.report.verdict import KeyFigure, Verdict, key_figures, verdict

__all__ = [
    "Comparison",
    "KeyFigure",
    "RunFacts",
    "Verdict",
    "key_figures",
    "render_comparison",
    "render_report",
    "verdict",
    "write_comparison",
    "write_report",
]
