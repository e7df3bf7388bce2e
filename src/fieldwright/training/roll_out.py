"""Training on the operator's own outputs, so that it learns to go on from states that are a little wrong.

    û = S_h(... S_h(S_h(u + ε₁) + ε₂) ...),    n steps,

with noise ε of a standard deviation relative to each field's root mean square, and where wanted with the gradient
through the last step alone (push-forward).

Sources: Sanchez-Gonzalez et al., "Learning to simulate complex physics with graph networks", ICML 2020 (noise);
Brandstetter, Worrall, Welling, "Message passing neural PDE solvers", ICLR 2022 (push-forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.operators.roll_out import roll_out
from fieldwright.training.batches import Batch
from fieldwright.training.objectives import Objective, PhysicalOperator


class RollOut(BaseModel):
    """How the operator goes on from its own outputs in training.

    ``steps``        of the operator from inputs to outputs: of equal parts of the lead time where it has one, and
                     otherwise, and with pairs of successive states, of one frame each
    ``noise``        deviation of normal noise in the state that each step begins with, the first among them, as a
                     fraction of each field's root mean square
    ``pushforward``  gradients through the last step alone
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: PositiveInt = 1
    noise: Annotated[float, Field(ge=0)] = 0.0
    pushforward: bool = False


@dataclass(frozen=True)
class RolledOut:
    """An objective of where the operator arrives after several steps: that of one step, given the rolled-out operator.

    Noise comes from a generator that torch's default one seeds. Errors: `InputError` for several steps of a problem
    with a clock by an operator without lead times, which cannot tell how far to move the clock on.
    """

    objective: Objective
    settings: RollOut

    @property
    def names(self) -> tuple[str, ...]:
        return self.objective.names

    def __call__(self, operator: PhysicalOperator, batch: Batch) -> dict[str, Tensor]:
        steps, clock, space = self.settings.steps, batch.layout.clock, [1] * batch.grid.dimension
        if clock is not None and batch.lead_time is None and steps > 1:
            raise InputError(
                "roll_out: the problem has a clock, and without lead times nothing says how far a step moves it;"
                " set pairs, or one step"
            )
        noise = self.settings.noise * batch.scale.reshape(-1, *space) if self.settings.noise else 0.0
        generator = torch.Generator(batch.inputs.device).manual_seed(int(torch.randint(1 << 62, ())))

        def rolled(fields: Tensor, lead_time: Tensor | None = None) -> Tensor:
            states = len(batch.scale)
            if isinstance(noise, Tensor):
                drawn = torch.randn((len(fields), states, *fields.shape[2:]), generator=generator, device=fields.device)
                fields = torch.cat((fields[:, :states] + noise * drawn, fields[:, states:]), 1)
            each = None if lead_time is None else lead_time / steps
            return roll_out(
                operator,
                fields,
                [each] * steps,
                noise=noise,
                generator=generator,
                pushforward=self.settings.pushforward,
                clock=clock,
            )[:, -1]

        return self.objective(rolled, batch)
