"""How good a surrogate is, how well it knows its own error, and when it pays."""

from fieldwright.analysis.break_even import break_even
from fieldwright.analysis.data_plan import BackTest, DataPlan, back_tests, plan_data, value_of_pilot
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
from fieldwright.analysis.joint_law import JointFit, JointLaw, fit_joint_law
from fieldwright.analysis.rollout import RolloutErrors, rollout_errors
from fieldwright.analysis.scaling_laws import LearningCurve, Predicted, ScalingLaw, fit_scaling_law
from fieldwright.analysis.timing import Contender, Timing, measure

__all__ = [
    "BackTest",
    "BreakEven",
    "CertifiedSolves",
    "Contender",
    "DataPlan",
    "DefectRow",
    "ErrorRow",
    "ErrorSummary",
    "EstimateQuality",
    "Evaluated",
    "Evaluation",
    "EvaluationSettings",
    "FieldErrors",
    "JointFit",
    "JointLaw",
    "LearningCurve",
    "Predicted",
    "RolloutErrors",
    "ScalingLaw",
    "ShownSample",
    "SolverSpeed",
    "SpeedComparison",
    "Timing",
    "back_tests",
    "break_even",
    "compare_speed",
    "estimate_quality",
    "evaluate",
    "field_errors",
    "fit_joint_law",
    "fit_scaling_law",
    "loosest_tolerance",
    "measure",
    "plan_data",
    "representatives",
    "rollout_errors",
    "summarise",
    "value_of_pilot",
]
