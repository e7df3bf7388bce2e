"""Callbacks that keep weights to masks: of one operator that is trained sparsely, and of an operator of many tasks.

Dynamic sparse training has few weights from the first step on and learns which ones. In a recipe:
``training.callbacks: [{kind: dynamic-sparse, sparsity: 0.9}]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from fieldwright.errors import InputError
from fieldwright.settings import allowed
from fieldwright.training.callback import Callback, Step
from fieldwright.training.seeding import derived_generator
from fieldwright.training.sparse_masks import SMALLEST, MaskedWeight, SparseSteps, mask_layouts
from fieldwright.training.sparsity import SparseRules, best, drawn_mask, layer_counts, per_bit

STARTS = ("random", "weights")


class Tasks(Protocol):
    """What `TaskSteps` ask of an operator of many tasks, see `fieldwright.training.tasks.ContinualOperator`."""

    open: str | None
    rules: SparseRules
    seed: int

    def masked_weights(self) -> dict[str, MaskedWeight]: ...

    def take_masks(self, weights: Mapping[str, MaskedWeight]) -> None: ...

    def keep(self) -> None: ...

    def free_share(self) -> float: ...


class DynamicSparse(Callback):
    """Keeps the weights of a phase's operator sparse and exchanges entries as `SparseRules` say.

    ``start``  "random": masks are drawn and the weights scaled by 1/√δ_ℓ, which keeps the size of what each layer puts
               out; "weights": the largest are kept, which prunes a dense operator and goes on with a sparse one
    ``smallest``  weights of fewer entries stay dense
    ``dense``  patterns of parameters that stay dense
    ``seed``   of all draws

    Other settings are those of `fieldwright.training.sparsity.SparseRules`.
    Errors: `InputError` for a setting that cannot be used.
    """

    columns = ("density",)

    def __init__(
        self,
        *,
        sparsity: float = 0.75,
        distribution: str | float = "erk",
        ceiling: float = 1.0,
        drop: str = "magnitude",
        growth: str = "gradient",
        exchange: float = 0.5,
        floor: float = 0.005,
        every: int = 100,
        stop: float = 0.75,
        smallest: int = SMALLEST,
        start: str = "random",
        dense: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.rules = SparseRules(sparsity, distribution, ceiling, drop, growth, exchange, floor, every, stop)
        if start not in STARTS:
            raise InputError(f"start: '{start}'; {allowed(start, STARTS)}")
        self.start, self.dense, self.seed, self.smallest = start, tuple(dense), seed, smallest
        self.steps: SparseSteps | None = None

    def begin(self, step: Step) -> None:
        layouts = mask_layouts(step.operator, smallest=self.smallest, dense=self.dense)
        counts = layer_counts(layouts, self.rules)
        parameters = dict(step.operator.named_parameters())
        weights = {}
        for name, layout in layouts.items():
            draws = derived_generator(self.seed, "mask", name)
            parameter = parameters[name]
            everywhere = torch.ones(layout.shape, dtype=torch.bool, device=parameter.device)
            if self.start == "random":
                active = drawn_mask(layout, counts[name], everywhere, draws)
                if step.index == 0:
                    with torch.no_grad():
                        parameter.mul_(math.sqrt(layout.bits / counts[name]))
            else:
                size = per_bit(parameter.detach().abs().square(), layout)
                active = best(size.flatten(), everywhere.flatten(), counts[name], draws).reshape(layout.shape)
            weights[name] = MaskedWeight.alone(parameter, layout, active)
        self.steps = SparseSteps(weights, self.rules, self.seed)
        if step.index == 0:  # a resumed training has its masks only after `load_state_dict`
            self.steps.begin(step.optimizer)

    def after_backward(self, step: Step) -> None:
        assert self.steps is not None
        self.steps.after_backward(step.optimizer, step.index, step.fraction)

    def after_update(self, step: Step) -> None:
        assert self.steps is not None
        self.steps.after_update()

    def end(self, step: Step) -> None:
        assert self.steps is not None
        self.steps.after_update()  # an average of the weights has traces of entries that have gone

    def figures(self) -> dict[str, float]:
        assert self.steps is not None
        weights = self.steps.weights.values()
        on = sum(int(weight.active.sum()) * weight.layout.entries_per_bit for weight in weights)
        return {"density": on / sum(weight.parameter.numel() for weight in weights)}

    def state_dict(self) -> dict[str, Any]:
        assert self.steps is not None
        return self.steps.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.steps is not None
        self.steps.load_state_dict(state)


class TaskSteps(Callback):
    """Keeps the steps of a training to the masks of the open task of an operator."""

    def __init__(self, operator: Tasks) -> None:
        self.operator = operator
        self.steps: SparseSteps | None = None

    def begin(self, step: Step) -> None:
        self.steps = SparseSteps(self.operator.masked_weights(), self.operator.rules, self.operator.seed)
        self.steps.begin(step.optimizer)

    def after_backward(self, step: Step) -> None:
        assert self.steps is not None
        if self.steps.after_backward(step.optimizer, step.index, step.fraction):
            self.operator.take_masks(self.steps.weights)

    def after_update(self, step: Step) -> None:
        assert self.steps is not None
        self.steps.after_update()

    def end(self, step: Step) -> str:
        assert self.steps is not None
        self.steps.after_update()
        self.operator.keep()
        return f"task '{self.operator.open}': {self.operator.free_share():.1%} of the network is free"

    def state_dict(self) -> dict[str, Any]:
        assert self.steps is not None
        return self.steps.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.steps is not None
        self.steps.load_state_dict(state)
