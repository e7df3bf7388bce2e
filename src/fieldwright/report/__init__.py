"""One self-contained HTML page that says how good a surrogate is and when it pays."""

from fieldwright.report.comparison import Comparison, render_comparison, write_comparison
from fieldwright.report.facts import RunFacts
from fieldwright.report.page import render_report, write_report
from fieldwright.report.plan import Bill, Pilot, TargetPlan, render_plan, write_plan
from fieldwright.report.verdict import KeyFigure, Verdict, key_figures, verdict

__all__ = [
    "Bill",
    "Comparison",
    "KeyFigure",
    "Pilot",
    "RunFacts",
    "TargetPlan",
    "Verdict",
    "key_figures",
    "render_comparison",
    "render_plan",
    "render_report",
    "verdict",
    "write_comparison",
    "write_plan",
    "write_report",
]
