"""Fourier transforms of real fields that compute the lowest modes only, as real matrix products.

    v̂(k) = 1/N Σ_x v(x) e^{-2πi k·x/n},        v(x) = Σ_k v̂(k) e^{2πi k·x/n}

Of an axis with n points the wavenumbers -⌊m/2⌋ <= k < ⌈m/2⌉ are kept, as far as the grid has them; of the last axis
0 <= k <= ⌊m/2⌋, its other half being the conjugate. A complex number is a pair (re, im) in the last axis.

For the usual 16 of 64 modes a product with a matrix of the kept rows is faster than a whole fast Fourier transform and
its zero-padding, on CPUs and accelerators; see ``benchmarks/operators.py``.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def kept_wavenumbers(points: int, modes: int, *, half: bool) -> range:
    """The wavenumbers that ``modes`` keeps on an axis of this many points; ``half`` for the last axis."""
    if half:
        return range(min(modes // 2, points // 2) + 1)
    return range(max(-(modes // 2), -(points // 2)), min((modes + 1) // 2, (points + 1) // 2))


def analyse(
    field: Float[Tensor, "batch channel *space"], modes: Sequence[int]
) -> Float[Tensor, "batch channel *mode 2"]:
    """The kept Fourier coefficients of a real field."""
    space = field.shape[2:]
    spectrum = (field @ _real(space[-1], modes[-1], field.dtype, field.device)[0]).unflatten(-1, (-1, 2))
    for axis in reversed(range(len(space) - 1)):
        matrix = _complex(space[axis], modes[axis], field.dtype, field.device)[0]
        spectrum = (spectrum.movedim(2 + axis, -2).flatten(-2) @ matrix).unflatten(-1, (-1, 2))
    return spectrum.permute(0, 1, *range(len(space) + 1, 1, -1), -1)


def add_synthesis(
    onto: Float[Tensor, "batch channel *space"], spectrum: Float[Tensor, "batch channel *mode 2"], modes: Sequence[int]
) -> Float[Tensor, "batch channel *space"]:
    """``onto`` plus the real field of these coefficients; the last product accumulates onto it."""
    space = onto.shape[2:]
    spectrum = spectrum.permute(0, 1, *range(len(space) + 1, 1, -1), -1)
    for axis in range(len(space) - 1):
        matrix = _complex(space[axis], modes[axis], onto.dtype, onto.device)[1]
        spectrum = (spectrum.flatten(-2) @ matrix).unflatten(-1, (-1, 2)).movedim(-2, 2 + axis)
    matrix = _real(space[-1], modes[-1], onto.dtype, onto.device)[1]
    return torch.addmm(onto.reshape(-1, space[-1]), spectrum.reshape(-1, matrix.shape[0]), matrix).view(onto.shape)


@lru_cache(maxsize=64)
def _real(points: int, modes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    # (points, 2 modes) forward and (2 modes, points) inverse of a real axis. Wavenumbers other than 0 and n/2 stand for
    # their conjugates too.
    with torch.inference_mode(False):
        waves = kept_wavenumbers(points, modes, half=True)
        cosine, sine = _angles(points, waves)
        both = torch.tensor([1.0 if k == 0 or 2 * k == points else 2.0 for k in waves], dtype=torch.float64)
        forward = torch.stack((cosine, -sine), -1).flatten(1) / points
        inverse = (torch.stack((cosine, -sine), -1) * both[:, None]).flatten(1).T
        return forward.to(device, dtype), inverse.contiguous().to(device, dtype)


@lru_cache(maxsize=64)
def _complex(points: int, modes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    # (2 points, 2 modes) forward and (2 modes, 2 points) inverse of an axis of (re, im) pairs.
    with torch.inference_mode(False):
        cosine, sine = _angles(points, kept_wavenumbers(points, modes, half=False))
        rows = torch.stack((torch.stack((cosine, -sine), -1), torch.stack((sine, cosine), -1)), 1)
        forward = rows.flatten(2).flatten(0, 1) / points
        return forward.to(device, dtype), (forward * points).T.contiguous().to(device, dtype)


def _angles(points: int, waves: range) -> tuple[Tensor, Tensor]:
    # The product is reduced modulo n before it becomes an angle, which keeps large wavenumbers exact.
    steps = torch.arange(points)[:, None] * torch.tensor(list(waves)) % points
    angle = 2 * math.pi * steps.double() / points
    return angle.cos(), angle.sin()
