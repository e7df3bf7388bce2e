"""Parameters that learn at rates of their own: an operator says which belong together, a phase how fast they learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training.optimizers import trainable


class GroupRates(BaseModel):
    """How a group learns.

    ``rate``          factor of the phase's learning rate; 0 keeps the group as it is
    ``weight_decay``  of the group; None: the phase's
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rate: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] | None = None


@runtime_checkable
class Grouped(Protocol):
    """An operator that knows which of its parameters belong together."""

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """Names of parameters by the name of their group; every parameter is in one."""
        ...


FACTOR = "rate_factor"
"""The key under which a group of an optimizer holds its factor of the learning rate."""


def optimizer_groups(operator: nn.Module, rates: Mapping[str, GroupRates], weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained, as groups for an optimizer; without ``rates`` in one group.

    Errors: `InputError` for rates of groups that the operator does not have.
    """
    parameters = trainable(operator)
    if not rates:
        return [{"params": list(parameters.values()), "weight_decay": weight_decay, FACTOR: 1.0}]
    if not isinstance(operator, Grouped):
        raise InputError(f"groups: {type(operator).__name__} does not say which of its parameters belong together")
    members = operator.parameter_groups()
    for name in rates:
        if name not in members:
            raise InputError(f"groups: '{name}'; {type(operator).__name__} has {', '.join(members)}")
    groups = []
    for name, names in members.items():
        own = rates.get(name, GroupRates())
        decay = weight_decay if own.weight_decay is None else own.weight_decay
        chosen = [parameters[parameter] for parameter in names if parameter in parameters]
        if chosen:
            groups.append({"params": chosen, "weight_decay": decay, FACTOR: own.rate})
    if sum(len(group["params"]) for group in groups) != len(parameters):
        raise InputError(f"groups: not every parameter of {type(operator).__name__} is in one of its groups")
    return groups
