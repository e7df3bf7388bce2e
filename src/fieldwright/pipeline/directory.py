"""A run is a directory: who may write to it, which recipe it belongs to, which of its stages are finished.

recipe.yaml       the resolved recipe; a run with another recipe is refused
environment.json  versions, machine, threads
run.json          facts of each finished stage, written when the stage ends
dataset/  checkpoints/  surrogate/  metrics.csv  evaluation.json  evaluation.npz  report.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from fieldwright.atomic import write_atomically
from fieldwright.errors import DataError, RecipeError, StorageError
from fieldwright.recipe import Recipe, check_recipe
from fieldwright.settings import first_line


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def surrogate(self) -> Path:
        return self.path / "surrogate"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out while this one works. The lock dies with its process, so a killed run leaves none.

        Errors: `RecipeError` when another process is at work here; `StorageError` when the directory cannot be made.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise RecipeError(f"{self.path}: another run is at work here; wait, or use another --out") from error
        try:
            yield
        finally:
            lock.release()

    def check(self, recipe: Recipe) -> None:
        """Errors: `RecipeError` that shows the difference when the directory belongs to another recipe."""
        if self.recipe_file.exists():
            difference = recipe_difference(self.read_recipe(), recipe)
            if difference:
                shown = "; ".join(difference)
                raise RecipeError(
                    f"{self.path}: holds a run of another recipe ({shown}); use another --out, or delete it"
                )

    def claim(self, recipe: Recipe) -> None:
        """Make the directory this recipe's. Errors: as `check`; `StorageError` when it cannot be written."""
        self.check(recipe)
        if not self.recipe_file.exists():
            write_atomically(self.recipe_file, recipe.to_yaml().encode())

    def read_recipe(self) -> Recipe:
        """The recipe of the run.

        Errors: `DataError` when there is none or it is damaged.
        """
        if not self.recipe_file.is_file():
            raise DataError(f"{self.path}: not a run directory, it has no recipe.yaml")
        try:
            tree = yaml.safe_load(self.recipe_file.read_text())
            return check_recipe(tree if isinstance(tree, dict) else {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecipeError) as error:
            raise DataError(f"{self.recipe_file}: not the recipe of a run: {first_line(error)}") from error

    def stages(self) -> dict[str, dict[str, Any]]:
        """Facts of the finished stages, by name.

        Errors: `DataError` when run.json is damaged.
        """
        file = self.path / "run.json"
        if not file.exists():
            return {}
        try:
            return json.loads(file.read_text())["stages"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: not the record of a run: {first_line(error)}") from error

    def finished(self, stage: str) -> bool:
        """Whether a stage is recorded and what it made is still there."""
        product = {
            "generate": self.dataset,
            "train": self.surrogate,
            "evaluate": self.evaluation,
            "report": self.report,
        }
        return stage in self.stages() and product[stage].exists()

    def record(self, stage: str, facts: dict[str, Any]) -> None:
        """Note that a stage is finished."""
        text = json.dumps({"stages": {**self.stages(), stage: facts}}, indent=2, allow_nan=False)
        write_atomically(self.path / "run.json", text.encode() + b"\n")


def recipe_difference(old: Recipe, new: Recipe) -> list[str]:
    """What differs, as "training.steps was 60, asked 80"."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = [*before, *(k for k in after if k not in before)]
    return [
        f"{k} was {before.get(k, 'absent')}, asked {after.get(k, 'absent')}"
        for k in keys
        if before.get(k, "absent") != after.get(k, "absent")
    ]


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence about ``path``.

    Errors: `StorageError`.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or first_line(error)}") from error


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, below in tree.items() for k, v in _flat(below, f"{prefix}.{key}" if prefix else key).items()}
