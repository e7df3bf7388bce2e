"""Fast products with transform matrices along one axis of a batch of fields."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

FOLD_FROM = 96
ALIGNED = 16


def along_axis(field: Float[Tensor, "batch *space"], matrix: Tensor, axis: int) -> Float[Tensor, "batch *space_out"]:
    """Multiply by a matrix along one axis (0 is the first after the batch).

    Each sample is a product of its own (a batched product, never one tall product for the whole batch), because a BLAS
    may round a row differently in matrices of different height and a sample's bits must not depend on its neighbours.
    """
    shape = field.shape
    m, n = matrix.shape
    after = math.prod(shape[axis + 2 :])
    if after == 1:
        rows = field.reshape(shape[0], -1, n)
        product = torch.bmm(rows, matrix.T.expand(rows.shape[0], n, m))
    else:
        planes = field.reshape(-1, n, after)
        product = torch.bmm(matrix.expand(planes.shape[0], m, n), planes)
    return product.reshape(*shape[: axis + 1], m, *shape[axis + 2 :])


class FoldedBasis:
    """Products with an orthonormal basis whose modes are even or odd about the middle of the axis, at half the work.

    With x = (l, r) in halves, even modes see l + reversed r and odd modes l - reversed r, so one n x n product becomes
    two of n/2 x n/2. ``order`` lists the modes as they come out: the even ones, then the odd ones. Bases without the
    symmetry (Fourier, mixed walls), odd n, and axes too short to gain (below `FOLD_FROM`, measured) keep the full
    product and their order.

    On an axis that is ``contiguous`` in memory, fields carry ``padding`` more points, all zero, so that every row and
    every sample begins on a 64-byte line in float32: a BLAS may round otherwise at another alignment, and then a
    sample's bits would depend on its place in the batch.
    """

    def __init__(
        self, matrix: Float[Tensor, "mode point"], *, dtype: torch.dtype, device: torch.device, contiguous: bool = False
    ) -> None:
        n = matrix.shape[0]
        even, odd = matrix[0::2], matrix[1::2]
        self.padding = -n % ALIGNED if contiguous else 0
        self.folded = (
            n >= FOLD_FROM
            and n % (2 * ALIGNED if contiguous else 2) == 0
            and bool((even - even.flip(1)).abs().max() < 1e-10)
            and bool((odd + odd.flip(1)).abs().max() < 1e-10)
        )
        order = torch.arange(n)
        parts = [torch.nn.functional.pad(matrix, (0, self.padding, 0, self.padding))]
        if self.folded:
            order = torch.cat([order[0::2], order[1::2]])
            parts = [even[:, : n // 2].contiguous(), odd[:, : n // 2].contiguous()]
        self.order = order.to(device)
        self._parts = [part.to(device, dtype) for part in parts]

    def forward(self, x: Float[Tensor, "batch *space"], axis: int) -> Float[Tensor, "batch *space"]:
        """Values to modes along one axis."""
        if not self.folded:
            return along_axis(x, self._parts[0], axis)
        low, high = x.chunk(2, axis + 1)
        high = high.flip(axis + 1)
        even, odd = self._parts
        return torch.cat([along_axis(low + high, even, axis), along_axis(low - high, odd, axis)], axis + 1)

    def backward(self, x: Float[Tensor, "batch *space"], axis: int) -> Float[Tensor, "batch *space"]:
        """Modes to values along one axis."""
        if not self.folded:
            return along_axis(x, self._parts[0].T, axis)
        modes_even, modes_odd = x.chunk(2, axis + 1)
        even, odd = self._parts
        symmetric = along_axis(modes_even, even.T, axis)
        antisymmetric = along_axis(modes_odd, odd.T, axis)
        return torch.cat([symmetric + antisymmetric, (symmetric - antisymmetric).flip(axis + 1)], axis + 1)
