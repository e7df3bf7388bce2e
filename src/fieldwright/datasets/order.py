"""What another process needs to know to make shards of a dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from fieldwright.datasets.plan import Plan
from fieldwright.errors import InputError
from fieldwright.problems import Problem
from fieldwright.problems.named import named_problem

VERSION = metadata.version("fieldwright")


@dataclass(frozen=True)
class Order:
    """A plan, the dataset's directory, and the folders in which modules of the user are to be looked for."""

    plan: Plan
    root: str
    folders: tuple[str, ...]
    version: str = VERSION

    @classmethod
    def of(cls, plan: Plan, root: Path) -> Order:
        """An order from this process; the folders are its current directory and the one that holds the user's module.

        Errors: `InputError` for a problem whose class no other process could import.
        """
        module, _, name = plan.kind.rpartition(":")
        if module == "__main__" or "<locals>" in name:
            raise InputError(
                f"generate: {plan.kind} cannot be found by other processes; put the class into a module of its own"
            )
        return cls(plan, str(root.resolve()), tuple(dict.fromkeys([str(Path.cwd()), *_folders_of(module)])))

    def problem(self) -> Problem:
        """The problem, built here. Errors: `RecipeError` when it cannot be imported or refuses its settings."""
        sys.path[:0] = [folder for folder in self.folders if folder not in sys.path]
        return _built(self.plan.kind, json.dumps(self.plan.settings))

    def to_json(self) -> str:
        """One line; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """The order that `to_json` wrote."""
        facts: Mapping[str, Any] = json.loads(text)
        return cls(Plan(**facts["plan"]), facts["root"], tuple(facts["folders"]), facts["version"])


@lru_cache(maxsize=4)
def _built(kind: str, settings: str) -> Problem:
    return named_problem(kind, json.loads(settings))


def _folders_of(module: str) -> list[str]:
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None:
        return []
    folder = Path(file).resolve().parent
    return [str(folder.parent if Path(file).stem == "__init__" else folder)]
