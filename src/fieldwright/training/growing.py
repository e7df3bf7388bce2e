"""Growth between phases: ``prepare: {kind: stack, factor: 4}`` in a recipe, by the plans of `fieldwright.growth`.

The learning rate warms up again by the phase's own schedule, and data go on: a sample stream of its own for each phase.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt

from fieldwright.growth import Growth, RandomBlocks, Stack, Zero, grow
from fieldwright.growth.orders import Order
from fieldwright.growth.plan import Moments
from fieldwright.training.carried import Carried, Preparation

Share = Annotated[float, Field(ge=0, le=1)]


class GrowthPreparation(Preparation):
    """A preparation that grows the operator and hands the optimizer's state on."""

    @abstractmethod
    def growth(self) -> Growth:
        """The growth that the settings describe."""

    def __call__(self, carried: Carried) -> Carried:
        seed = int(torch.randint(2**31, ()))
        grown = grow(carried.operator, self.growth(), optimizer_state=carried.optimizer_state, seed=seed)
        event = {"report": dict(grown.report), "plan": grown.plan.to_json()}
        return Carried(grown.model, grown.optimizer_state or {}, [*carried.lineage, event])


class StackBlocks(GrowthPreparation):
    """The blocks repeated, see `fieldwright.growth.Stack`."""

    kind: Literal["stack"] = "stack"
    factor: PositiveInt | None = 2
    order: Order = "stack"
    gain: Share = 1.0
    noise: Share = 0.0
    moments: Moments = "clone"
    part: str | None = None

    def growth(self) -> Growth:
        return Stack(self.factor, self.order, self.gain, self.noise, self.moments, self.part)


class InterpolateBlocks(GrowthPreparation):
    """Each block repeated where it stands; a stack in the order of blocks ends better."""

    kind: Literal["interpolate"] = "interpolate"
    factor: PositiveInt = 2
    moments: Moments = "clone"
    part: str | None = None

    def growth(self) -> Growth:
        return Stack(self.factor, "interpolate", moments=self.moments, part=self.part)


class ZeroBlocks(GrowthPreparation):
    """Copies that do nothing yet, see `fieldwright.growth.Zero`: the same function at the start."""

    kind: Literal["zero"] = "zero"
    factor: PositiveInt | None = 2
    order: Order = "stack"
    moments: Moments = "clone"
    part: str | None = None

    def growth(self) -> Growth:
        return Zero(self.factor, self.order, self.moments, self.part)


class FreshBlocks(GrowthPreparation):
    """Fresh blocks among the trained ones, see `fieldwright.growth.RandomBlocks`."""

    kind: Literal["random"] = "random"
    factor: PositiveInt | None = 2
    order: Order = "stack"
    moments: Moments = "clone"
    part: str | None = None

    def growth(self) -> Growth:
        return RandomBlocks(self.factor, self.order, ramped=False, moments=self.moments, part=self.part)


GROWTHS: dict[str, type[Preparation]] = {
    "stack": StackBlocks,
    "interpolate": InterpolateBlocks,
    "zero": ZeroBlocks,
    "random": FreshBlocks,
}
