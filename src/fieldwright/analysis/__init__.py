"""How good a surrogate is, how well it knows its own error, and when it pays."""

from fieldwright.analysis.break_even import break_even
from fieldwright.analysis.equal_accuracy import SolverSpeed, SpeedComparison, compare_speed, loosest_tolerance
from fieldwright.analysis.errors import ErrorSummary, FieldErrors, field_errors, representatives, summarise
from fieldwright.analysis.estimates import EstimateQuality, estimate_quality
from fieldwright.analysis.evaluate import Evaluated, EvaluationSettings, evaluate
from fieldwright.analysis.evaluation import (
    BreakEven,
    CertifiedSolves,
    DefectRow,
    ErrorRow,
    Evaluation,
    ShownSample,
)
from fieldwright.analysis.rollout import RolloutErrors, rollout_errors
from fieldwright.analysis.timing import Contender, Timing, measure

__all__ = [
    "BreakEven",
    "CertifiedSolves",
    "Contender",
    "DefectRow",
    "ErrorRow",
    "ErrorSummary",
    "EstimateQuality",
    "Evaluated",
    "Evaluation",
    "EvaluationSettings",
    "FieldErrors",
    "RolloutErrors",
    "ShownSample",
    "SolverSpeed",
    "SpeedComparison",
    "Timing",
    "break_even",
    "compare_speed",
    "estimate_quality",
    "evaluate",
    "field_errors",
    "loosest_tolerance",
    "measure",
    "representatives",
    "rollout_errors",
    "summarise",
]
