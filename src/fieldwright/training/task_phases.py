"""The beginning of a task as a phase of training: ``prepare: {kind: task, name: burgers, sparsity: 0.75}``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fieldwright.training.carried import Carried, Preparation
from fieldwright.training.sparsity import SparseRules
from fieldwright.training.task_storage import load_tasks
from fieldwright.training.tasks import ContinualOperator


class BeginTask(Preparation):
    """Begin a task in the operator of the phase before; a module that knows no tasks becomes a `ContinualOperator`.

    ``name``     of the task
    ``sharing``  see `fieldwright.training.tasks.ContinualOperator.begin_task`
    ``tasks``    a file of tasks learned before, in an operator built as this one: ``tasks.safetensors`` of another run
    ``dense``    patterns of parameters of which every task has a copy; for the first task only

    The others are those of `fieldwright.training.sparsity.SparseRules`. The optimizer begins afresh.
    Errors: as those of `ContinualOperator`, of its `begin_task` and of `load_tasks`.
    """

    kind: Literal["task"] = "task"
    name: str
    tasks: str | None = None
    sharing: str = "none"
    dense: Annotated[tuple[str, ...], Field(strict=False)] = ()
    sparsity: float = SparseRules.sparsity
    distribution: str | float = SparseRules.distribution
    ceiling: float = SparseRules.ceiling
    drop: str = SparseRules.drop
    growth: str = SparseRules.growth
    exchange: float = SparseRules.exchange
    floor: float = SparseRules.floor
    every: int = SparseRules.every
    stop: float = SparseRules.stop

    @model_validator(mode="after")
    def _rules_are_possible(self) -> Self:
        self.rules()
        return self

    def rules(self) -> SparseRules:
        """The sparsity and its exchange.

        Errors: `InputError` for a value that cannot be used.
        """
        return SparseRules(**{name: getattr(self, name) for name in SparseRules.__dataclass_fields__})

    def __call__(self, carried: Carried) -> Carried:
        operator = carried.operator
        if not isinstance(operator, ContinualOperator):
            operator = (
                ContinualOperator(operator, dense=self.dense)
                if self.tasks is None
                else load_tasks(self.tasks, operator)
            )
        operator.begin_task(self.name, self.rules(), sharing=self.sharing)
        return Carried(operator, lineage=carried.lineage)
