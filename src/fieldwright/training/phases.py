"""A phase: one stretch of training with its own objective, optimizer, schedule and budget.

Training is a list of phases. Each begins with the operator that the last one left and a fresh optimizer, unless its
`prepare` transform makes them otherwise: growth, freezing of layers, fine-tuning and continual learning are transforms
between phases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_serializer, model_validator
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.training.batches import Samples
from fieldwright.training.objectives import Objective, build_objective
from fieldwright.training.optimizers import OPTIMIZERS
from fieldwright.training.parameter_groups import GroupRates
from fieldwright.training.roll_out import RollOut
from fieldwright.training.schedules import SCHEDULES
from fieldwright.training.sources import FramePairs, LeadTimes, PairRule, Source, StoredSamples
from fieldwright.training.trajectories import Trajectories

Precision = Literal["auto", "32", "bf16-mixed"]


@dataclass
class Carried:
    """What goes from one phase to the next.

    ``optimizer_state`` maps parameter names to the optimizer's tensors for them (``exp_avg``, ``exp_avg_sq``, ``step``
    with AdamW). A `prepare` transform receives the state that the last phase ended with and returns the one to begin
    with; an empty one is a fresh optimizer.
    """

    operator: nn.Module
    optimizer_state: dict[str, dict[str, Tensor]] = field(default_factory=dict)


Prepare = Callable[[Carried], Carried]


class Phase(BaseModel):
    """One phase of a training.

    The budget is any of ``steps``, ``epochs`` and ``seconds``; the phase ends when the first is used up, and its
    progress is the largest of used/limit. With ``seconds`` alone left out, a training is reproducible in all bits.

    ``objective`` is a name ("l2", "h1", "l2+h1", "group-l1", ...), weights by name, or an `Objective`. ``pairs`` trains
    an operator for any lead time on pairs of states of trajectories, see `fieldwright.training.sources.FramePairs`;
    None: on the stored samples, in time from one frame to the next. ``roll_out`` lets the operator go on from its own
    outputs, see `fieldwright.training.roll_out.RollOut`. ``warmup`` is the fraction of the
    budget over which the learning rate rises. ``batch_size`` counts the samples of a step over all processes, and
    ``accumulate`` splits each process's part into so many pieces, to save memory. ``clip`` bounds the gradient's norm.
    ``ema`` is the decay of an average of the weights, which the operator holds when the phase ends. ``precision``
    concerns the operator's forward and backward pass; losses are float32 always. "auto" is bfloat16 where the device
    multiplies it faster than float32 and the operator says that it gains by it (``bfloat16_pays``), else float32.

    ``groups`` are factors of the learning rate and decays of groups of parameters that the operator names, see
    `fieldwright.training.parameter_groups`. ``pretrained`` is the directory of an operator, of a run or of a published
    checkpoint whose weights the phase begins with, all that fit in name and shape.

    ``prepare`` is called before the phase begins, and again with an empty optimizer state when a killed run is
    resumed, to build the operator whose weights are then loaded. So the structure it builds may not depend on weights.
    Its draws come from torch's default generator, which is seeded for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)

    name: str = "train"
    objective: str | dict[str, float] | Objective = "l2"
    pairs: PairRule | None = None
    roll_out: RollOut | None = None
    optimizer: str = "adamw"
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    groups: dict[str, GroupRates] = {}
    schedule: str = "one-cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    clip: PositiveFloat | None = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision = "32"
    compile: bool = False
    pretrained: str | None = None
    prepare: Prepare | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for what, name, table in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if name not in table:
                raise ValueError(f"{what} '{name}'; allowed are {', '.join(table)}")
        build_objective(self.objective)
        return self

    @model_validator(mode="after")
    def _has_a_budget(self) -> Self:
        if self.steps is None and self.epochs is None and self.seconds is None:
            raise ValueError(f"phase '{self.name}' has no budget; give steps, epochs or seconds")
        return self

    @field_serializer("objective", "prepare")
    def _code_by_name(self, value: Any) -> Any:
        if value is None or isinstance(value, str | dict):
            return value
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"

    def source(self, samples: Samples) -> Source:
        """Where the phase draws its samples from.

        Errors: `InputError` for pairs or a roll-out of several steps where the samples are no trajectories.
        """
        steps = self.roll_out.steps if self.roll_out is not None else 1
        if self.pairs is None and steps == 1:
            return StoredSamples(samples)
        if not isinstance(samples, Trajectories) or getattr(samples, "steady", False):
            raise InputError(
                f"phase '{self.name}': {'pairs' if self.pairs else 'roll_out'} is for trajectories; these samples have"
                " no time"
            )
        rule = self.pairs or "next"
        return FramePairs(samples, rule, stride=steps if rule == "next" else 1)

    def validation_source(self, samples: Samples) -> Source:
        """Where the phase draws its validation samples from: one step from inputs to outputs, never of no time.

        Errors: `InputError` for pairs where the samples are no trajectories.
        """
        if self.pairs is None:
            return StoredSamples(samples)
        if not isinstance(samples, Trajectories):
            raise InputError(f"phase '{self.name}': pairs is for trajectories; the validation samples have no time")
        if self.roll_out is not None and self.roll_out.steps > 1:
            return FramePairs(samples, "next")  # the whole lead time in one step is not what is trained
        return FramePairs(samples, "later" if self.pairs == "all" else self.pairs)

    def fraction(self, *, steps: int, epochs: float, seconds: float) -> float:
        """How much of the budget is used, in [0, 1]: max of used/limit over the limits that are set."""
        used = ((steps, self.steps), (epochs, self.epochs), (seconds, self.seconds))
        return min(max(amount / limit for amount, limit in used if limit is not None), 1.0)

    def rate(self, fraction: float) -> float:
        """The learning rate at a fraction of the budget."""
        return self.learning_rate * SCHEDULES[self.schedule](fraction, self.warmup)

    def expected_steps(self, samples: int) -> int | None:
        """How many steps the phase takes on ``samples`` samples, or None when time may end it."""
        if self.seconds is not None:
            return None
        limits = [self.steps] if self.steps is not None else []
        if self.epochs is not None:
            limits.append(-int(-self.epochs * samples // self.batch_size))
        return max(min(limits), 1)


def lead_times(phases: Sequence[Phase], samples: Samples) -> LeadTimes | None:
    """The lead times that phases train on; None where they train for one step only."""
    found = []
    for phase in phases:
        source = phase.source(samples)
        if phase.pairs is not None and isinstance(source, FramePairs):
            found.append(LeadTimes.of(source, steps=phase.roll_out.steps if phase.roll_out is not None else 1))
    return max(found, key=lambda times: times.longest, default=None)
