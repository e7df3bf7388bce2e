"""Masks of what is missing, brought to the shape of the fields they are of."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor


def spread(missing: Bool[Tensor, "batch channel *points"], fields: Tensor) -> Bool[Tensor, "batch channel *ones"]:
    """The mask with axes of length one where it says nothing about points, to broadcast against ``fields``."""
    return missing.reshape(*missing.shape, *[1] * (fields.ndim - missing.ndim))
