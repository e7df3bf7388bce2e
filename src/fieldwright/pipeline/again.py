"""Single stages of a run that exists: evaluate again, write the report again."""

from __future__ import annotations

from pathlib import Path

from fieldwright.errors import DataError
from fieldwright.pipeline.directory import RunDirectory
from fieldwright.pipeline.run import RunSummary, do_stage, summarise_run
from fieldwright.progress import SILENT, Reporter


def evaluate_again(path: Path, *, device: str = "auto", reporter: Reporter = SILENT) -> RunSummary:
    """Evaluate a trained run and write its report, whether or not that was done before.

    Errors: `DataError` for a directory that is no trained run.
    """
    work = RunDirectory(path)
    recipe = work.read_recipe()
    _require(work, "train", "has not been trained")
    with work.locked():
        for stage in ("evaluate", "report"):
            do_stage(stage, recipe, work, device=device, reporter=reporter)
        return summarise_run(work)


def report_again(path: Path) -> Path:
    """Write the report of an evaluated run and return its path.

    Errors: `DataError` for a directory that is no evaluated run.
    """
    work = RunDirectory(path)
    recipe = work.read_recipe()
    _require(work, "evaluate", "has not been evaluated")
    with work.locked():
        do_stage("report", recipe, work, device="cpu", reporter=SILENT)
    return work.report


def _require(work: RunDirectory, stage: str, otherwise: str) -> None:
    if not work.finished(stage):
        raise DataError(f"{work.path}: {otherwise}; `fieldwright run` does it")
