"""The error of the published operator transformers: relative per group of channels, as a ratio over the whole batch.

    L = mean over groups g of  mean_batch |û - u|_g^p / (mean_batch |u|_g^p + ε),     p = 1 or 2,  ε = 1e-10.

A group is one quantity, such as the components of a velocity. The ratio is that of sums over the batch, not the mean of
ratios, so that a sample whose fields are nearly zero does not outweigh the others. With p = 2 no root is taken.

Source: Herde et al., "Poseidon", NeurIPS 2024, and the published training code, which sums over groups where the paper
sums over channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.training.masks import spread

EPSILON = 1e-10


def group_error(
    prediction: Float[Tensor, "batch channel *space"],
    target: Float[Tensor, "batch channel *space"],
    *,
    groups: Sequence[Sequence[int]],
    power: int,
    missing: Bool[Tensor, "batch channel *points"] | None = None,
) -> Float[Tensor, ""]:
    """L above. What is ``missing`` counts in no sum; a group that is missing throughout is left out of the mean.

    ``groups``  the channels of each group; none: each channel is its own
    """
    error, size, kept = prediction - target, target, torch.ones_like(target)
    if missing is not None:
        gone = spread(missing, target)
        error, size, kept = (values.masked_fill(gone, 0) for values in (error, size, kept))
    ratios, present = [], []
    for group in groups or [[channel] for channel in range(target.shape[1])]:
        count = kept[:, list(group)].sum()
        sums = [values[:, list(group)].abs().pow(power).sum() / count.clamp_min(1) for values in (error, size)]
        ratios.append(sums[0] / (sums[1] + EPSILON))
        present.append((count > 0).to(target))
    return torch.stack(ratios).sum() / torch.stack(present).sum().clamp_min(1)
