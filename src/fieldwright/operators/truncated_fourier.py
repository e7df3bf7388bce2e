"""Fourier transforms of real fields that compute the lowest modes only, as real matrix products.

    v̂(k) = 1/N Σ_x v(x) e^{-2πi k·x/n},        v(x) = Σ_k v̂(k) e^{2πi k·x/n}

Of an axis with n points the wavenumbers -⌊m/2⌋ <= k < ⌈m/2⌉ are kept, as far as the grid has them; of the last axis
0 <= k <= ⌊m/2⌋, its other half being the conjugate. A complex number is a pair (re, im) in the last axis.

For the usual 16 of 64 modes a product with a matrix of the kept rows is faster than a whole fast Fourier transform and
its zero-padding, on CPUs and accelerators; see ``benchmarks/operators.py``.
"""

import math
import operator
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
    spectrum = (field @ _matrices(space[-1], modes[-1], field, half=True)[0]).unflatten(-1, (-1, 2))
    for axis in reversed(range(len(space) - 1)):
        matrix = _matrices(space[axis], modes[axis], field, half=False)[0]
        spectrum = (spectrum.movedim(2 + axis, -2).flatten(-2) @ matrix).unflatten(-1, (-1, 2))
    return spectrum.permute(0, 1, *range(len(space) + 1, 1, -1), -1)


def add_synthesis(
    onto: Float[Tensor, "batch channel *space"], spectrum: Float[Tensor, "batch channel *mode 2"], modes: Sequence[int]
) -> Float[Tensor, "batch channel *space"]:
    """``onto`` plus the real field of these coefficients; the last product accumulates onto it."""
    space = onto.shape[2:]
    spectrum = spectrum.permute(0, 1, *range(len(space) + 1, 1, -1), -1)
    for axis in range(len(space) - 1):
        matrix = _matrices(space[axis], modes[axis], onto, half=False)[1]
        spectrum = (spectrum.flatten(-2) @ matrix).unflatten(-1, (-1, 2)).movedim(-2, 2 + axis)
    matrix = _matrices(space[-1], modes[-1], onto, half=True)[1]
    return torch.addmm(onto.reshape(-1, space[-1]), spectrum.reshape(-1, matrix.shape[0]), matrix).view(onto.shape)


def _matrices(points: int, modes: int, like: Tensor, *, half: bool) -> tuple[Tensor, Tensor]:
    # The forward and the inverse matrix of an axis, real on the last one (``half``), else of (re, im) pairs. To a
    # compiler they are constants, one pair for each number of points: `index` makes it a number where it was a symbol.
    return _constant(operator.index(points), modes, half, like)


@torch.compiler.assume_constant_result
def _constant(points: int, modes: int, half: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    return _built(points, modes, half, like.dtype, like.device)


@lru_cache(maxsize=64)
def _built(points: int, modes: int, half: bool, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # what is kept must serve training too
        waves = kept_wavenumbers(points, modes, half=half)
        cosine, sine = _angles(points, waves)
        rows = torch.stack((cosine, -sine), -1)
        if half:
            # Wavenumbers other than 0 and n/2 stand for their conjugates too.
            both = torch.tensor([1.0 if k == 0 or 2 * k == points else 2.0 for k in waves], dtype=torch.float64)
            forward, inverse = rows.flatten(1) / points, (rows * both[:, None]).flatten(1).T
        else:
            pairs = torch.stack((rows, torch.stack((sine, cosine), -1)), 1).flatten(2).flatten(0, 1)
            forward, inverse = pairs / points, pairs.T
        return forward.to(device, dtype), inverse.contiguous().to(device, dtype)


def _angles(points: int, waves: range) -> tuple[Tensor, Tensor]:
    # The product is reduced modulo n before it becomes an angle, which keeps large wavenumbers exact.
    steps = torch.arange(points)[:, None] * torch.tensor(list(waves)) % points
    angle = 2 * math.pi * steps.double() / points
    return angle.cos(), angle.sin()
