"""An exponential moving average of an operator's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class WeightAverage:
    """w̄ ← d_t w̄ + (1 - d_t) w after every step, with d_t = min(decay, (1 + t) / (10 + t)).

    The ramp of d_t, t the number of updates before, forgets the first weights quickly, so that short trainings are not
    held back by their start. Buffers are not averaged: the operator's own are used.
    """

    decay: float
    weights: dict[str, Tensor]
    updates: int = 0

    @classmethod
    def of(cls, operator: nn.Module, decay: float) -> WeightAverage:
        """An average that begins at the operator's weights."""
        return cls(decay, {name: p.detach().clone() for name, p in operator.named_parameters()})

    def to(self, device: torch.device) -> None:
        """Move the average to a device."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self, operator: nn.Module) -> None:
        """Take the operator's weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in operator.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to(self, operator: nn.Module) -> None:
        """Replace the operator's weights by the average."""
        for name, parameter in operator.named_parameters():
            parameter.copy_(self.weights[name])

    @contextmanager
    def applied(self, operator: nn.Module) -> Iterator[None]:
        """The operator with averaged weights, for validation; its own come back afterwards."""
        own = {name: p.detach().clone() for name, p in operator.named_parameters()}
        self.copy_to(operator)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in operator.named_parameters():
                    parameter.copy_(own[name])
