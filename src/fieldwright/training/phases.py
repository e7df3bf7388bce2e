"""A phase: one stretch of training with its own objective, optimizer, schedule and budget.

Training is a list of phases. Each begins with the operator that the last one left and a fresh optimizer, unless its
`prepare` transform makes them otherwise: growth, freezing of layers, fine-tuning and continual learning are transforms
between phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    model_validator,
)
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training.batches import Samples
from fieldwright.training.callback import Callback
from fieldwright.training.callbacks import build_callback
from fieldwright.training.carried import Preparation, Prepare
from fieldwright.training.objectives import Objective, build_objective
from fieldwright.training.optimizers import OptimizerChoice, build_optimizer
from fieldwright.training.parameter_groups import GroupRates
from fieldwright.training.preparations import build_preparation
from fieldwright.training.roll_out import RollOut
from fieldwright.training.schedules import SCHEDULES
from fieldwright.training.sources import FramePairs, LeadTimes, PairRule, Source, StoredSamples
from fieldwright.training.trajectories import Trajectories

Precision = Literal["auto", "32", "bf16-mixed"]


class Phase(BaseModel):
    """One phase of a training.

    The budget is any of ``steps``, ``epochs``, ``flops`` and ``seconds``; the phase ends when the first is used up, and
    its progress is the largest of used/limit. With ``seconds`` alone left out, a training is reproducible in all bits.
    ``flops`` are those of forward and backward passes as `fieldwright.operators.flops` counts them.

    ``objective`` is a name ("l2", "h1", "l2+h1", "group-l1", ...), weights by name, or an `Objective`. ``pairs`` trains
    an operator for any lead time on pairs of states of trajectories, see `fieldwright.training.sources.FramePairs`;
    None: on the stored samples, in time from one frame to the next. ``roll_out`` lets the operator go on from its own
    outputs, see `fieldwright.training.roll_out.RollOut`. ``warmup`` is the fraction of the
    budget over which the learning rate rises. ``batch_size`` counts the samples of a step over all processes, and
    ``accumulate`` splits each process's part into so many pieces, to save memory. ``clip`` bounds the gradient's norm.
    ``gradient_noise`` is the deviation of random weights of the losses, see `fieldwright.training.gradient_noise`.
    ``ema`` is the decay of an average of the weights, which the operator holds when the phase ends. ``precision``
    concerns the operator's forward and backward pass; losses are float32 always. "auto" is bfloat16 where the device
    multiplies it faster than float32 and the operator says that it gains by it (``bfloat16_pays``), else float32.

    ``optimizer`` is a name, or a mapping with its ``kind`` and settings, such as ``{kind: lion-k, kappa: huber}``; see
    `fieldwright.training.optimizers`.

    ``groups`` are factors of the learning rate and decays of groups of parameters that the operator names, see
    `fieldwright.training.parameter_groups`. ``pretrained`` is the directory of an operator, of a run or of a published
    checkpoint whose weights the phase begins with, all that fit in name and shape.

    ``prepare`` is called before the phase begins, and again with an empty optimizer state when a killed run is
    resumed, to build the operator whose weights are then loaded. So the structure it builds may not depend on weights.
    Its draws come from torch's default generator, which is seeded for it. A mapping such as ``{kind: freeze,
    parameters: [layers.*]}`` names one of `fieldwright.training.preparations.PREPARATIONS`.

    ``callbacks`` watch the steps or have a part in them, see `fieldwright.training.callback`: names, mappings with a
    ``kind`` and settings, or callbacks. An operator may bring its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)

    name: str = "train"
    objective: str | dict[str, float] | Objective = "l2"
    pairs: PairRule | None = None
    roll_out: RollOut | None = None
    optimizer: OptimizerChoice = "adamw"
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    groups: dict[str, GroupRates] = {}
    schedule: str = "one-cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    gradient_noise: Annotated[float, Field(ge=0)] = 0.0
    clip: PositiveFloat | None = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision = "32"
    compile: bool = False
    pretrained: str | None = None
    prepare: Annotated[Prepare | None, BeforeValidator(build_preparation)] = None
    callbacks: tuple[str | dict[str, Any] | Callback, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule '{self.schedule}'; allowed are {', '.join(SCHEDULES)}")
        build_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1))], self.learning_rate, self.weight_decay)
        build_objective(self.objective)
        self.build_callbacks()
        return self

    @model_validator(mode="after")
    def _has_a_budget(self) -> Self:
        if all(limit is None for limit in (self.steps, self.epochs, self.flops, self.seconds)):
            raise ValueError(f"phase '{self.name}' has no budget; give steps, epochs, flops or seconds")
        return self

    @field_serializer("objective", "prepare")
    def _code_by_name(self, value: Any) -> Any:
        return _plain(value)

    @field_serializer("callbacks")
    def _callbacks_by_name(self, values: tuple[Any, ...]) -> Any:
        return [_plain(value) for value in values]

    def build_callbacks(self) -> list[Callback]:
        """Fresh callbacks, in the order in which they are called.

        Errors: `InputError` or `RecipeError` for a name or setting that is not known.
        """
        return [build_callback(choice) for choice in self.callbacks]

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

    def fraction(self, *, steps: int, epochs: float, seconds: float, flops: float = 0.0) -> float:
        """How much of the budget is used, in [0, 1]: max of used/limit over the limits that are set."""
        used = ((steps, self.steps), (epochs, self.epochs), (seconds, self.seconds), (flops, self.flops))
        return min(max(amount / limit for amount, limit in used if limit is not None), 1.0)

    def rate(self, fraction: float) -> float:
        """The learning rate at a fraction of the budget."""
        return self.learning_rate * SCHEDULES[self.schedule](fraction, self.warmup)

    def expected_steps(self, samples: int) -> int | None:
        """How many steps the phase takes on ``samples`` samples, or None when time or operations may end it."""
        if self.seconds is not None or self.flops is not None:
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


def _plain(value: Any) -> Any:
    """A setting as plain values; code by its name."""
    if value is None or isinstance(value, str | dict):
        return value
    if isinstance(value, Preparation):
        return value.model_dump(mode="json")
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"
