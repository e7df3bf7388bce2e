"""The recipe: everything that decides a run, as YAML checked by pydantic before any work begins.

problem:    {kind: darcy, resolution: 64, ...}       a Problem and its settings
data:       {train: 1000, valid: 100, test: 200}     samples per split and how they are solved
operator:   {kind: multigrid, width: 24, ...}        an Operator and its settings
training:   {steps: 4000, batch_size: 8, ...}        one phase, or a list of `phases`
evaluation: {resolutions: [32, 128], ...}            what the report looks at beside the test split
baseline:   {seconds: null}                          the user's own solver, seconds a sample
seed: 0
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from fieldwright.analysis.evaluate import EvaluationSettings
from fieldwright.errors import InputError, RecipeError
from fieldwright.operators import OPERATORS
from fieldwright.problems import PROBLEMS, Problem
from fieldwright.problems.named import named_problem
from fieldwright.settings import allowed, checked_settings, first_line, named_class, validate
from fieldwright.training import GroupRates, Phase, RollOut
from fieldwright.training.large_batch import Transfer
from fieldwright.training.sources import PairRule

OPERATOR_SUPPLIED = ("in_channels", "out_channels", "dimension")
"""Constructor arguments of an operator that follow from the problem."""


OPERATOR_DERIVED = ("boundary", "centring")
"""Constructor arguments that follow from the problem unless a recipe sets them."""

FOREIGN_DERIVED = (*OPERATOR_DERIVED, "n_modes", "hidden_channels", "default_in_shape")
"""The same of a class that is not ours, where they have no default; see `ForeignOperator`."""


class Section(BaseModel):
    """Base of every part of a recipe: no unknown keys, no infinities, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=False)


class Named(Section):
    """A class by name (``darcy``, ``my_module:MyProblem``) and the settings of its constructor, side by side."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Data(Section):
    """Samples per split, and how they are solved and stored."""

    train: PositiveInt = 1000
    valid: PositiveInt = 100
    test: PositiveInt = 200
    solver: str = "auto"
    rtol: Annotated[float, Field(gt=0, lt=1)] | None = None
    """None: the problem's own; a checked recipe holds the number."""
    shard_samples: PositiveInt = 250
    seed: NonNegativeInt | None = None
    """None: the recipe's own. Trainings from several seeds on the same data have this one in common."""

    @property
    def counts(self) -> dict[str, int]:
        return {"train": self.train, "valid": self.valid, "test": self.test}


class Training(Section):
    """One phase of training, by the names of `fieldwright.training.Phase`, or a list of phases that replaces it."""

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    batch_size: PositiveInt = 8
    objective: str | dict[str, PositiveFloat] = "l2"
    pairs: PairRule | None = None
    roll_out: RollOut | None = None
    optimizer: str | dict[str, Any] = "adamw"
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    groups: dict[str, GroupRates] = {}
    schedule: str = "one-cycle"
    gradient_noise: Annotated[float, Field(ge=0)] = 0.0
    transfer: Transfer | None = None
    """The batch size for which the settings of every phase were found, where it is another; see `Transfer`."""
    clip: PositiveFloat | None = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Annotated[str, BeforeValidator(str)] = "auto"  # YAML reads 32 as a number
    compile: bool = False
    pretrained: str | None = None
    callbacks: list[str | dict[str, Any]] = []
    augment: bool = True
    phases: list[dict[str, Any]] | None = None

    def to_phases(self) -> list[Phase]:
        """The phases to train.

        Errors: `RecipeError` for a value that a phase does not take.
        """
        if self.phases is not None:
            phases = [validate(Phase, phase, path=f"training.phases.{i}") for i, phase in enumerate(self.phases)]
        else:
            phase = self.model_dump(exclude={"augment", "phases", "transfer"})
            phases = [validate(Phase, {"name": "train", **phase}, path="training")]
        return phases if self.transfer is None else [self.transfer(phase) for phase in phases]


class Baseline(Section):
    """The user's own solver, for the break-even table."""

    seconds: PositiveFloat | None = None


class Recipe(Section):
    """A whole run. Made by `load_recipe`; ``settings`` of problem and operator then hold every default too."""

    problem: Named
    data: Data = Data()
    operator: Named
    training: Training
    evaluation: EvaluationSettings = EvaluationSettings()
    baseline: Baseline = Baseline()
    seed: NonNegativeInt = 0

    @property
    def data_seed(self) -> int:
        """The seed from which samples are drawn."""
        return self.seed if self.data.seed is None else self.data.seed

    def build_problem(self) -> Problem:
        """Errors: `RecipeError` for a setting that the problem refuses."""
        return named_problem(self.problem.kind, self.problem.settings)

    def to_yaml(self) -> str:
        """The recipe as YAML that `load_recipe` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A packaged recipe or a problem by name, or a YAML file by path, with overrides such as ``training.steps=60``.

    Values of overrides are YAML. Overriding a ``kind`` with another one starts that section from the other kind's
    defaults, so ``operator.kind=fourier`` needs no other change.
    Errors: `RecipeError`, one sentence with path, value, what is allowed and the nearest right name.
    """
    tree = read_recipe(name_or_path)
    for section, kind in _changed_kinds(tree, overrides):
        tree[section] = {"kind": kind}
    for override in overrides:
        _apply(tree, override)
    return check_recipe(tree)


def check_recipe(tree: dict[str, Any]) -> Recipe:
    """A recipe from its plain tree, with every default filled in.

    Errors: `RecipeError` as `load_recipe`.
    """
    recipe = validate(Recipe, tree)
    problem_class = named_class(recipe.problem.kind, PROBLEMS, Problem, "problem")
    operator_class = named_class(recipe.operator.kind, OPERATORS, torch.nn.Module, "operator")
    problem = checked_settings(problem_class, recipe.problem.settings, path="problem")
    if "kind" in problem:
        raise RecipeError(
            f"problem.kind: {problem_class.__name__} has a setting of that name, which in a recipe names the problem;"
            " give it another"
        )
    asked = recipe.operator.settings
    derived = FOREIGN_DERIVED if ":" in recipe.operator.kind else OPERATOR_DERIVED
    operator = checked_settings(operator_class, asked, path="operator", supplied=OPERATOR_SUPPLIED, derived=derived)
    named = {
        "problem": Named(kind=recipe.problem.kind, **problem),
        "operator": Named(kind=recipe.operator.kind, **operator),
    }
    recipe = recipe.model_copy(update=named)
    built = recipe.build_problem()
    try:
        built.check_method(recipe.data.solver)
    except InputError as error:
        raise RecipeError(f"data.solver: {first_line(error)}") from error
    for phase in recipe.training.to_phases():
        if built.steady and (phase.pairs or phase.roll_out):
            setting = "pairs" if phase.pairs else "roll_out"
            raise RecipeError(
                f"training.{setting}: '{recipe.problem.kind}' is steady; lead times are for problems in time"
            )
    if recipe.data.rtol is None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"rtol": built.rtol})})
    return recipe


def packaged_recipes() -> dict[str, str]:
    """Names of the packaged recipes, each with the first comment line of its file."""
    folder = importlib.resources.files("fieldwright") / "recipes"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text().splitlines()[0].lstrip("# ") for f in files}


def plain_recipe(problem: str) -> dict[str, Any]:
    """The tree for a problem that no packaged recipe is tuned to: a Fourier operator, which takes any box and walls."""
    return {
        "problem": {"kind": problem},
        "operator": {"kind": "fourier"},
        "training": {
            "steps": 1500,
            "seconds": 230,
            "objective": {"l2": 1.0, "h1": 0.3},
            "optimizer": "lion-k",
            "learning_rate": 5.0e-4,
            "weight_decay": 0.0,
            "schedule": "cosine",
        },
    }


def recipe_name(name_or_path: str | Path) -> str:
    """The name that a run of this recipe gets: the packaged name, or the file's without ending."""
    return Path(name_or_path).stem


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """The plain tree of a packaged recipe, of a problem's name (`plain_recipe`) or of a YAML file.

    Errors: `RecipeError` for an unknown name, a file that cannot be read, or text that is not a YAML mapping.
    """
    name = str(name_or_path)
    if name in packaged_recipes():
        text = (importlib.resources.files("fieldwright") / "recipes" / f"{name}.yaml").read_text()
    elif name in PROBLEMS:
        return plain_recipe(name)
    elif Path(name).is_file():
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe {name}: cannot be read: {first_line(error)}") from error
    elif Path(name).exists():
        raise RecipeError(f"recipe {name}: is not a file")
    elif "/" in name or name.endswith((".yaml", ".yml")):
        raise RecipeError(f"recipe {name}: no such file")
    else:
        names = {**packaged_recipes(), **PROBLEMS}
        raise RecipeError(f"recipe '{name}'; {allowed(name, names)}, or the path of a YAML file")
    tree = _parse(text, f"recipe {name}")
    if not isinstance(tree, dict):
        raise RecipeError(
            f"recipe {name}: holds {type(tree).__name__}; a mapping with problem, operator, ... is needed"
        )
    return tree


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_RecipeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{what}: not YAML{place}: {getattr(error, 'problem', None) or first_line(error)}") from error


class _RecipeLoader(yaml.SafeLoader):
    """Safe YAML with the numbers of YAML 1.2: PyYAML alone reads 1e-3 (no point, no sign) as text."""


_RecipeLoader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _split(override: str) -> tuple[list[str], Any]:
    path, equals, value = override.partition("=")
    if not equals or not path.strip("."):
        raise RecipeError(f"override '{override}'; write key=value, such as training.steps=60")
    return path.strip().split("."), _parse(value, f"override '{override}'")


def _changed_kinds(tree: dict[str, Any], overrides: Sequence[str]) -> list[tuple[str, Any]]:
    changed = []
    for path, value in map(_split, overrides):
        if len(path) == 2 and path[1] == "kind":
            section = tree.get(path[0])
            if isinstance(section, dict) and section.get("kind") != value:
                changed.append((path[0], value))
    return changed


def _apply(tree: dict[str, Any], override: str) -> None:
    path, value = _split(override)
    level = tree
    for depth, key in enumerate(path[:-1]):
        below = level.setdefault(key, {})
        if below is None:
            below = level[key] = {}
        if not isinstance(below, dict):
            raise RecipeError(f"override '{override}'; {'.'.join(path[: depth + 1])} is {below!r} and has no keys")
        level = below
    level[path[-1]] = value
