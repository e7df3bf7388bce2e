"""Growth between phases: ``prepare: {kind: stack, factor: 4}`` in a recipe, by the plans of `fieldwright.growth`.

The learning rate warms up again by the phase's own schedule, and data go on: a sample stream of its own for each phase.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, PositiveInt

from fieldwright.errors import InputError
from fieldwright.growth import Growth, Levels, Modes, RandomBlocks, Stack, Widen, Zero, grow
from fieldwright.growth.advice import base_operations
from fieldwright.growth.orders import Order
from fieldwright.growth.plan import Moments
from fieldwright.growth.width import How
from fieldwright.training.carried import Carried, Preparation

if TYPE_CHECKING:
    from fieldwright.training.phases import Phase

Share = Annotated[float, Field(ge=0, le=1)]


class GrowthPreparation(Preparation):
    """A preparation that grows the operator and hands the optimizer's state on.

    ``when``  None: when its phase begins, as budgets say; "auto": see `with_shares`
    """

    when: Literal["auto"] | None = None

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


class WiderChannels(GrowthPreparation):
    """More channels, see `fieldwright.growth.Widen`."""

    kind: Literal["widen"] = "widen"
    width: PositiveInt
    how: How = "direct"
    uneven: Share = 0.2
    noise: Share = 0.0
    moments: Moments = "clone"

    def growth(self) -> Growth:
        return Widen(self.width, self.how, self.uneven, self.noise, self.moments)


class MoreModes(GrowthPreparation):
    """More Fourier modes, see `fieldwright.growth.Modes`."""

    kind: Literal["modes"] = "modes"
    modes: PositiveInt | tuple[PositiveInt, ...]
    moments: Moments = "clone"

    def growth(self) -> Growth:
        return Modes(self.modes, self.moments)


class MoreLevels(GrowthPreparation):
    """Coarser grids for a V-cycle, see `fieldwright.growth.Levels`."""

    kind: Literal["levels"] = "levels"
    levels: PositiveInt
    moments: Moments = "clone"

    def growth(self) -> Growth:
        return Levels(self.levels, self.moments)


GROWTHS: dict[str, type[Preparation]] = {
    "stack": StackBlocks,
    "interpolate": InterpolateBlocks,
    "zero": ZeroBlocks,
    "random": FreshBlocks,
    "widen": WiderChannels,
    "modes": MoreModes,
    "levels": MoreLevels,
}


def with_shares(phases: Sequence[Phase]) -> list[Phase]:
    """The phases with the budgets that ``when: auto`` stands for, by the ratio rule of `fieldwright.growth.advice`.

    The operations ``flops`` of a phase that grows its operator are then those of both: the phase before it gets 7.5 %,
    and ends sooner where a budget of its own says so, and the rest is for the phase itself.

    Errors: `InputError` where there is no phase before it, or no ``flops`` to share.
    """
    out = list(phases)
    for index, phase in enumerate(phases):
        if not isinstance(phase.prepare, GrowthPreparation) or phase.prepare.when is None:
            continue
        if index == 0 or phase.flops is None:
            lacks = "a phase before it" if index == 0 else "a budget in flops, for the phase before and its own"
            raise InputError(f"phase '{phase.name}': when: auto needs {lacks}")
        base = base_operations(phase.flops)
        before = out[index - 1]
        out[index - 1] = before.model_copy(update={"flops": min(base, before.flops or base)})
        out[index] = phase.model_copy(update={"flops": phase.flops - base})
    return out
