"""Fields made of fields: cut at levels into phases, or one of several families by chance.

Sums and products of fields need no function; what is here are the two things that tensors do not do by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.problems.draws import generator


def level_cut(
    field: Float[Tensor, "batch *space"], values: Sequence[float], levels: Sequence[float] = (0.0,)
) -> Float[Tensor, "batch *space"]:
    """Phases: ``values[0]`` below the first level, ``values[1]`` from it up to the second, and so on.

    Errors: `InputError` unless there is one value more than levels, and the levels grow.
    """
    if len(values) != len(levels) + 1 or any(b <= a for a, b in itertools.pairwise(levels)):
        raise InputError(
            f"level_cut: {len(values)} values and levels {list(levels)}; one value more, and growing levels"
        )
    phase = torch.bucketize(field, torch.tensor(levels, dtype=field.dtype, device=field.device), right=True)
    return torch.tensor(values, dtype=torch.float64, device=field.device)[phase]


def levels_of_shares(shares: Sequence[float], deviation: float = 1.0) -> list[float]:
    """The levels at which a Gaussian field of mean 0 is to be cut for its phases to have these ``shares`` on average.

    Errors: `InputError` for shares that are not positive or do not sum to 1.
    """
    if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"levels_of_shares: shares {list(shares)}; positive numbers that sum to 1 are needed")
    below = [sum(shares[: i + 1]) for i in range(len(shares) - 1)]
    return [NormalDist(0.0, deviation).inv_cdf(share) for share in below]


def one_of(
    families: Sequence[Float[Tensor, "batch *space"]],
    indices: Sequence[int],
    seed: int,
    *,
    weights: Sequence[float] | None = None,
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """For each instance the field of one of the ``families``, chosen with probabilities proportional to ``weights``."""
    shares = torch.tensor([1.0] * len(families) if weights is None else list(weights), dtype=torch.float64)
    if not len(families) or len(shares) != len(families) or bool((shares < 0).any()) or float(shares.sum()) <= 0:
        raise InputError(f"one_of: {len(families)} families with weights {weights}; one weight each, not all zero")
    borders = (shares / shares.sum()).cumsum(0)
    chances = torch.tensor([generator(seed, index, stream).random() for index in indices], dtype=torch.float64)
    chosen = torch.bucketize(chances, borders[:-1], right=True)
    together = torch.stack(list(families))
    return together[chosen, torch.arange(len(indices))]
