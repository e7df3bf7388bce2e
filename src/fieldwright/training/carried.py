"""What goes from one phase to the next, and the transforms that change it on the way."""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.settings import allowed


@dataclass
class Carried:
    """What goes from one phase to the next.

    ``optimizer_state`` maps parameter names to the optimizer's tensors for them (``exp_avg``, ``exp_avg_sq``, ``step``
    with AdamW). A `prepare` transform receives the state that the last phase ended with and returns the one to begin
    with; an empty one is a fresh optimizer. ``lineage`` tells of each growth so far: its plan as JSON, and its report.
    """

    operator: nn.Module
    optimizer_state: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    lineage: list[dict[str, Any]] = field(default_factory=list)


Prepare = Callable[[Carried], Carried]


class Preparation(BaseModel, ABC):
    """A `prepare` transform that a recipe can name: its ``kind`` and its settings are plain values.

    It is called before its phase begins, and again with an empty optimizer state when a killed run is resumed, to build
    the operator whose weights are then loaded. So the structure it builds may not depend on weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @abstractmethod
    def __call__(self, carried: Carried) -> Carried: ...


class Freeze(Preparation):
    """Train only the parameters that no pattern names; those of an earlier `freeze` are trained again.

    ``parameters``  patterns of names such as ``layers.*`` or ``*.bias``; an empty list freezes none

    Errors: `InputError` for a pattern that names no parameter.
    """

    kind: Literal["freeze"] = "freeze"
    parameters: Annotated[tuple[str, ...], Field(strict=False)] = ()

    def __call__(self, carried: Carried) -> Carried:
        named = dict(carried.operator.named_parameters())
        for pattern in self.parameters:
            if not fnmatch.filter(named, pattern):
                raise InputError(f"prepare: freeze: no parameter is called '{pattern}'; {allowed(pattern, named)}")
        for name, parameter in named.items():
            parameter.requires_grad_(not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.parameters))
        return Carried(carried.operator)
