"""Who takes part in a comparison: a recipe for each operator and seed, all on one dataset and one budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fieldwright.errors import InputError, RecipeError
from fieldwright.operators import parameter_count
from fieldwright.operators.flops import forward_flops, step_flops
from fieldwright.pipeline.stages import check_operator, seeded_operator
from fieldwright.recipe import Recipe, load_recipe
from fieldwright.settings import allowed

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """What each training may use: ``seconds`` of wall-clock, ``flops`` (`fieldwright.operators.flops`) or ``steps``."""

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "60s", "5min", "1h", "1e13flops" or "2000steps".

        Errors: `InputError` for anything else.
        """
        found = re.fullmatch(r"([0-9.]+(?:e[+-]?\d+)?)\s*(s|min|h|flops|steps)", text.strip().lower())
        try:
            amount = float(found[1]) if found else 0.0
        except ValueError:
            amount = 0.0
        if found is None or not 0 < amount < float("inf"):
            raise InputError(f"--budget {text}; write 60s, 5min, 1h, 1e13flops or 2000steps")
        unit = found[2]
        return cls("seconds", amount * UNITS[unit]) if unit in UNITS else cls(unit, amount)

    def __str__(self) -> str:
        return f"{self.amount:.3g} {'FLOPs' if self.kind == 'flops' else self.kind}"

    def limits(self, flops_per_step: int) -> list[str]:
        """The overrides of a recipe that give its one phase this budget and no other.

        Errors: `RecipeError` for a budget of less than one step.
        """
        if self.kind == "seconds":
            return [f"training.seconds={self.amount}", "training.steps=null", "training.epochs=null"]
        steps = int(self.amount if self.kind == "steps" else self.amount / flops_per_step)
        if steps < 1:
            raise RecipeError(f"--budget {self}: one step takes {flops_per_step:.2g} FLOPs")
        return [f"training.steps={steps}", "training.seconds=null", "training.epochs=null"]


@dataclass(frozen=True)
class Entry:
    """One training of a comparison: an operator from one seed. ``flops`` are those of a forward pass on a sample."""

    operator: str
    seed: int
    recipe: Recipe
    parameters: int
    flops: int

    @property
    def directory(self) -> str:
        """Its run directory below the comparison's."""
        return f"{re.sub('[^A-Za-z0-9_]+', '-', self.operator)}-{self.seed}"


def entries(
    recipe: str | Path,
    overrides: Sequence[str],
    operators: Sequence[str],
    *,
    changes: Sequence[str] = (),
    budget: Budget | None = None,
    seeds: int = 1,
) -> list[Entry]:
    """Every training of a comparison, in the order in which they are made: seed by seed, each time all operators.

    ``overrides`` change the recipe for all; ``changes`` are "NAME.KEY=VALUE", a setting of the operator NAME, or
    "NAME.training.KEY=VALUE", a setting of its training. The operator that the recipe names keeps its settings there,
    the others begin with their defaults. Data are drawn from the recipe's own seed, and seeds of training count from
    it. Without a budget each trains as long as the recipe says.

    Errors: `RecipeError` for an operator that cannot be built or cannot take the problem's grid, by name; `InputError`
    for no operators, one named twice, or a change of an operator that does not take part.
    """
    if not operators or len(set(operators)) < len(operators):
        raise InputError(f"--operators {','.join(operators)}; name one or more operators, each once")
    if seeds < 1:
        raise InputError(f"--seeds {seeds}; at least 1 is needed")
    own = {name: [] for name in operators}
    for change in changes:
        name, override = _of_operator(change, operators)
        own[name].append(override)
    first = [
        _first_entry(recipe, [*overrides, f"operator.kind={name}", *own[name]], name, budget) for name in operators
    ]
    base = first[0].seed
    return [
        replace(entry, seed=seed, recipe=entry.recipe.model_copy(update={"seed": seed}))
        for seed in range(base, base + seeds)
        # Who goes first changes from seed to seed: a machine that slows down slows everybody.
        for entry in (*first[(seed - base) % len(first) :], *first[: (seed - base) % len(first)])
    ]


def _first_entry(recipe: str | Path, overrides: list[str], name: str, budget: Budget | None) -> Entry:
    chosen = load_recipe(recipe, overrides)
    if budget is not None and chosen.training.phases is not None:
        raise RecipeError("compare: the recipe has a list of phases, which no single --budget fits; leave it out")
    problem, operator = chosen.build_problem(), seeded_operator(chosen)
    check_operator(operator, problem, name)
    one = torch.zeros(1, len(problem.inputs), *problem.grid.shape)
    if budget is not None:
        batch = one.expand(chosen.training.batch_size, *one.shape[1:])
        limits = budget.limits(step_flops(operator, batch) if budget.kind == "flops" else 1)
        chosen = load_recipe(recipe, [*overrides, *limits])
    data = chosen.data if chosen.data.seed is not None else chosen.data.model_copy(update={"seed": chosen.seed})
    chosen = chosen.model_copy(update={"data": data})
    return Entry(name, chosen.seed, chosen, parameter_count(operator), forward_flops(operator, one))


def _of_operator(change: str, operators: Sequence[str]) -> tuple[str, str]:
    """ "multigrid.width=32" as ("multigrid", "operator.width=32")."""
    path = change.partition("=")[0]
    named = [name for name in operators if path.startswith(f"{name}.")]
    if not named or "=" not in change:
        wrong = path.partition(".")[0]
        raise InputError(f"--set {change}; write OPERATOR.KEY=VALUE; of operators {allowed(wrong, operators)}")
    name = max(named, key=len)
    rest = change[len(name) + 1 :]
    return name, rest if rest.startswith("training.") else f"operator.{rest}"
