"""Numbers of the physics that are one for all instances, or drawn for each: viscosities, rates, lengths.

A setting is a number, or [low, high] to draw it per instance; a drawn one is an input of the problem, constant over the
grid. Positive ranges are drawn with a uniform logarithm, others uniformly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.problems.draws import generator

Number = float | list[float]
# The stream of an instance's numbers, apart from those of its fields.
_STREAM = 2**20


def is_drawn(value: Number) -> bool:
    """Whether a setting is a range to draw from."""
    return isinstance(value, list)


def check_number(name: str, value: Number, *, positive: bool = False) -> None:
    """Errors: `InputError` for a number that is not finite (or not positive), or a range that is not [low, high]."""
    ends = value if isinstance(value, list) else [value, value]
    fits = len(ends) == 2 and all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends)
    if not fits or ends[0] > ends[1] or (positive and ends[0] <= 0):
        kind = "positive number" if positive else "number"
        raise InputError(f"{name} = {value}; a {kind} is needed, or [low, high] to draw one per instance")


def drawn_numbers(indices: Sequence[int], seed: int, values: Sequence[Number]) -> Float[Tensor, "batch number"]:
    """One row per instance: those of ``values`` that are ranges, drawn.

    Every setting takes its turn in the draw, so that fixing one leaves the others as they were.
    """
    rows = []
    for index in indices:
        shares = generator(seed, index, _STREAM).random(len(values))
        rows.append([_between(v, s) for v, s in zip(values, shares.tolist(), strict=True) if isinstance(v, list)])
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), sum(map(is_drawn, values)))


def _between(ends: list[float], share: float) -> float:
    low, high = ends
    return low * (high / low) ** share if low > 0 else low + (high - low) * share
