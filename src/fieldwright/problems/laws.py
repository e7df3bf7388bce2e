"""What physics demands of numbers that a state has as it evolves: mass that stays, energy that falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

Demand = Literal["constant", "falling"]


@dataclass(frozen=True)
class Law:
    """A number per stored time that is ``constant`` up to its ``supply``, or may only be ``falling``.

    ``values``     the number at each time, such as the total mass ∫ u dx
    ``supply``     what has come in through walls and sources since the first time (same shape); None where nothing does
    ``scale``      the size to which defects are relative, per sample; by default |values| at the first time
    ``tolerance``  the largest relative defect that is not taken for a failed solve

    Errors: `InputError` for an unknown demand.
    """

    values: Float[Tensor, "batch time"]
    demand: Demand = "constant"
    supply: Float[Tensor, "batch time"] | None = None
    scale: Float[Tensor, " batch"] | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.demand not in get_args(Demand):
            raise InputError(f"law: demand '{self.demand}'; allowed are {' and '.join(get_args(Demand))}")

    def defect(self) -> Float[Tensor, "batch time"]:
        """How far the number is off at each time: |Q(t) - Q(0) - supply(t)| / scale; of a falling one, rises alone."""
        change = self.values - self.values[:, :1]
        if self.supply is not None:
            change = change - self.supply
        change = change.clamp_min(0) if self.demand == "falling" else change.abs()
        scale = self.values[:, 0].abs() if self.scale is None else self.scale
        return change / scale.clamp_min(torch.finfo(change.dtype).tiny)[:, None]
