"""The transforms between phases that a recipe can name: ``prepare: {kind: freeze, parameters: [layers.*]}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fieldwright.errors import InputError
from fieldwright.settings import allowed, validate
from fieldwright.training.carried import Freeze, Preparation, Prepare
from fieldwright.training.ghost_norm import GhostNorm
from fieldwright.training.growing import GROWTHS
from fieldwright.training.merged_members import MergeMembers
from fieldwright.training.task_phases import BeginTask

PREPARATIONS: dict[str, type[Preparation]] = {
    "freeze": Freeze,
    "ghost-norm": GhostNorm,
    "merge": MergeMembers,
    "task": BeginTask,
    **GROWTHS,
}


def build_preparation(choice: Prepare | Mapping[str, Any]) -> Prepare:
    """A transform from its ``kind`` and settings; a callable is taken as it is.

    Errors: `InputError` for an unknown kind; `RecipeError` for a setting that it does not take.
    """
    if not isinstance(choice, Mapping):
        return choice
    kind = choice.get("kind")
    if kind not in PREPARATIONS:
        raise InputError(f"prepare.kind: '{kind}'; {allowed(str(kind), PREPARATIONS)}")
    return validate(PREPARATIONS[kind], choice, path="prepare")
