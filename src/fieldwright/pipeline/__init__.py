"""From a recipe to a finished run, stage by stage."""

from fieldwright.pipeline.again import evaluate_again, report_again
from fieldwright.pipeline.compare import Contest, compare, comparison_lines
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.pipeline.environment import environment
from fieldwright.pipeline.figures import figures, five_figures
from fieldwright.pipeline.merge import RunMerge, merge_runs
from fieldwright.pipeline.plan import Question, plan_facts, plan_target, planned_recipe
from fieldwright.pipeline.predict import predict_file
from fieldwright.pipeline.run import STAGES, RunSummary, run, summarise_run
from fieldwright.pipeline.stages import estimate_stage, generate_stage, plain

__all__ = [
    "STAGES",
    "Contest",
    "Question",
    "RunDirectory",
    "RunMerge",
    "RunSummary",
    "compare",
    "comparison_lines",
    "environment",
    "estimate_stage",
    "evaluate_again",
    "figures",
    "five_figures",
    "generate_stage",
    "merge_runs",
    "plain",
    "plan_facts",
    "plan_target",
    "planned_recipe",
    "predict_file",
    "report_again",
    "run",
    "summarise_run",
]
