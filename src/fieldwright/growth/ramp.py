"""Let fresh blocks in little by little: a factor c on what they add, from 0 right after a growth to 1.

    x ← x + c f(x),      c = min(t / steps, 1) after t updates

Source: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 3: the masks of G_random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.growth.plan import GrowthPlan


class Ramp:
    """The factors of the blocks that a plan of `RandomBlocks` made, on a grown model; it starts at c = 0.

    Where a block has a learned gain the ramp sets it, and leaves it to the optimizer at the end; elsewhere the output
    of the map that ends a branch is multiplied, without a trace in the weights.

    ``steps``  updates after which the blocks count in full

    Errors: `InputError` for a number of steps that is not positive, or a model that lacks what the plan ramps.
    """

    def __init__(self, model: nn.Module, plan: GrowthPlan, *, steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"growth: a ramp of {steps} steps; it must be a whole number, 1 or more")
        self.steps, self.updates = steps, 0
        self._gains: list[tuple[Tensor, int]] = []
        modules: list[nn.Module] = []
        for name in plan.ramped:
            path, _, place = name.partition(":")
            try:
                if place:
                    self._gains.append((model.get_parameter(path), int(place)))
                else:
                    modules.append(model.get_submodule(path))
            except AttributeError as error:
                raise InputError(f"growth: the plan ramps '{name}', which {type(model).__name__} lacks") from error
        self._hooks = [module.register_forward_hook(self._scaled) for module in modules]
        self._set_gains()

    @property
    def factor(self) -> float:
        """c."""
        return min(self.updates / self.steps, 1.0)

    def advance(self) -> None:
        """After an update of the weights. At the end the hooks are taken off and gains are left alone."""
        if self.updates >= self.steps:
            return
        self.updates += 1
        self._set_gains()
        if self.updates == self.steps:
            self.remove()

    def remove(self) -> None:
        """Take the hooks off: every block counts in full."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _scaled(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * self.factor

    @torch.no_grad()
    def _set_gains(self) -> None:
        for gains, place in self._gains:
            gains[place] = self.factor
