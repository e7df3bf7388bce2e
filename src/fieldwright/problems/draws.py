"""Random numbers of one instance: they depend on (seed, index, stream) alone, whatever the batch, grid or process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

Range = Sequence[float]


def generator(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """The counter-based generator of instance ``index``; ``stream`` tells apart what one instance draws several of.

    Errors: `InputError` for a negative number, an index of 2³² or more, or a stream of 2³² or more.
    """
    if not (0 <= index < 2**32 and 0 <= stream < 2**32 and 0 <= seed < 2**64):
        raise InputError(f"draws: seed {seed}, index {index}, stream {stream}; allowed are 0 up to 2^64, 2^32 and 2^32")
    return np.random.Generator(np.random.Philox(key=np.array([seed, 2**32 * stream + index], dtype=np.uint64)))


def uniform_numbers(
    indices: Sequence[int], seed: int, ranges: Sequence[Range], *, stream: int = 0
) -> Float[Tensor, "batch number"]:
    """Numbers drawn uniformly, one from each (low, high) of ``ranges`` per instance."""
    low, high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    drawn = [low + (high - low) * generator(seed, index, stream).random(len(low)) for index in indices]
    return torch.from_numpy(np.array(drawn).reshape(len(drawn), len(low)))


def check_range(name: str, values: Range, *, positive: bool = False) -> None:
    """Errors: `InputError` for a (low, high) pair out of order, infinite, or not positive where that is needed."""
    if len(values) != 2 or not -float("inf") < values[0] <= values[1] < float("inf") or (positive and values[0] <= 0):
        kind = "two positive numbers" if positive else "two numbers"
        raise InputError(f"{name} = {tuple(values)}; {kind}, the lower first, are needed")
