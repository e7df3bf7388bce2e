"""The divergence-free part of a vector field on a periodic box: û_k - κ (κ·û_k) / |κ|², κ_j = 2π k_j / L_j.

Source: the Helmholtz decomposition; as the last layer of an operator in Cao et al., "Spectral-Refiner", ICLR 2025.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def divergence_free(
    field: Float[Tensor, "batch axis *space"], lengths: Sequence[float]
) -> Float[Tensor, "batch axis *space"]:
    """The field without its gradient part, on a grid of any size of a box with these edges; its mean stays.

    The wave of two points has no derivative at the points of its grid and counts as constant along its axis.
    """
    space = field.shape[2:]
    axes = tuple(range(2, field.ndim))
    spectrum = torch.view_as_real(torch.fft.rfftn(field, dim=axes))
    waves = torch.stack(torch.meshgrid(*_wavenumbers(space, lengths, field), indexing="ij"))
    squares = waves.square().sum(0)
    directions = (waves / torch.where(squares > 0, squares, 1.0).sqrt())[..., None]
    along = (directions * spectrum).sum(1, keepdim=True)
    return torch.fft.irfftn(torch.view_as_complex(spectrum - directions * along), s=space, dim=axes)


def _wavenumbers(space: Sequence[int], lengths: Sequence[float], like: Tensor) -> list[Tensor]:
    axes = []
    for place, (n, length) in enumerate(zip(space, lengths, strict=True)):
        count = n // 2 + 1 if place == len(space) - 1 else n
        index = torch.arange(count, dtype=like.dtype, device=like.device)
        signed = torch.where(2 * index < n, index, index - n)
        axes.append(torch.where(2 * index == n, 0.0, signed) * (2 * math.pi / length))
    return axes
