"""A callback: what watches the steps of a phase, or has a part in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class Step:
    """A step under way, as a callback sees it.

    ``index`` counts from 0 in the phase, ``fraction`` is the share of the budget that was used before the step,
    ``samples`` are those of the batch over all processes, or of the piece of it that was just backpropagated.
    """

    operator: nn.Module
    optimizer: torch.optim.Optimizer
    index: int
    fraction: float
    learning_rate: float
    samples: int


class Callback:
    """Called at the steps of a phase; a subclass overrides what it needs.

    ``columns`` are the figures it adds to ``metrics.csv``. Whatever decides what it does later belongs into its
    `state_dict`, which every checkpoint holds: a resumed training equals an uninterrupted one in all bits. It may draw
    nothing from torch's default generator.
    """

    columns: ClassVar[tuple[str, ...]] = ()

    def begin(self, step: Step) -> None:
        """Before the first step of the phase, and again when a training is resumed, then before `load_state_dict`."""

    def pieces(self, index: int) -> int:
        """The least number of pieces that it needs this process's part of step ``index`` to come in."""
        return 1

    def after_piece(self, step: Step) -> None:
        """After the backward pass of each piece of this process's part of the batch; gradients add up over them."""

    def after_backward(self, step: Step) -> None:
        """With the gradients of the whole batch, before they are clipped."""

    def after_update(self, step: Step) -> None:
        """After the optimizer has moved the weights; the gradients are still there, clipped."""

    def end(self, step: Step) -> str | None:
        """After the last step of the phase, with the averaged weights in the operator where there is an average; a
        sentence for the user, or None.
        """

    def figures(self) -> Mapping[str, float]:
        """The figures of a row of ``metrics.csv``, by `columns`; one may be left out."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, text, lists and dictionaries."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


def own_callbacks(operator: nn.Module) -> Sequence[Callback]:
    """The callbacks that an operator brings, by a method ``callbacks()``."""
    found: Callable[[], Sequence[Callback]] | None = getattr(operator, "callbacks", None)
    return () if found is None else found()
