"""A stencil product on vectors that carry a frame of ghost points, so that each neighbour is a flat shifted view.

All vectors of an iteration live in this layout: ghosts hold zero (or the wrapped values on periodic axes), coefficients
are zero there, so sums over whole vectors are sums over the grid and no step copies or branches.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers.stencil import StencilSystem


class PaddedStencil:
    """A u for a block of systems, in the padded layout (batch, padded points).

    Set-up copies the coefficients once; `product` then reads one view per offset.
    """

    def __init__(self, system: StencilSystem) -> None:
        self.shape = system.shape
        self.batch = system.batch
        self.periodic = system.boundary.periodic
        self.reach = tuple(max(abs(o[axis]) for o in system.offsets) for axis in range(len(self.shape)))
        self.padded = tuple(n + 2 * r for n, r in zip(self.shape, self.reach, strict=True))
        strides = [math.prod(self.padded[axis + 1 :]) for axis in range(len(self.shape))]
        shifts = [sum(s * o for s, o in zip(strides, offset, strict=True)) for offset in system.offsets]
        self._margin = max(abs(s) for s in shifts)
        self._size = math.prod(self.padded)
        self._terms: list[tuple[int, Tensor]] = []
        for index, shift in enumerate(shifts):
            field = self.pad(system.coefficients[:, index])
            self._terms.append((shift, field[:, self._margin : self._size - self._margin]))

    def pad(self, field: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch padded"]:
        """A copy with ghosts of zero."""
        padded = field.new_zeros(field.shape[0], self._size)
        self.interior(padded).copy_(field)
        return padded

    def interior(self, padded: Float[Tensor, "batch padded"]) -> Float[Tensor, "batch *space"]:
        """The grid points of a padded vector, as a view."""
        view = padded.view(padded.shape[0], *self.padded)
        for axis, (n, reach) in enumerate(zip(self.shape, self.reach, strict=True)):
            view = view.narrow(axis + 1, reach, n)
        return view

    def product(self, u: Float[Tensor, "batch padded"], out: Float[Tensor, "batch padded"]) -> None:
        """out = A u; fills the ghosts of ``u`` on periodic axes. ``out`` must have had ghosts of zero."""
        self._wrap(u)
        inner = out[:, self._margin : self._size - self._margin]
        for index, (shift, coefficient) in enumerate(self._terms):
            neighbour = u[:, self._margin + shift : self._size - self._margin + shift]
            if index == 0:
                torch.mul(coefficient, neighbour, out=inner)
            else:
                inner.addcmul_(coefficient, neighbour)

    def _wrap(self, u: Float[Tensor, "batch padded"]) -> None:
        view = u.view(u.shape[0], *self.padded)
        for axis, (n, reach, wraps) in enumerate(zip(self.shape, self.reach, self.periodic, strict=True)):
            if not wraps:
                continue
            for ghost in range(reach):
                low, high = (ghost - reach) % n, ghost % n
                view.select(axis + 1, ghost).copy_(view.select(axis + 1, reach + low))
                view.select(axis + 1, reach + n + ghost).copy_(view.select(axis + 1, reach + high))
