"""Potentials whose gradient moves the points of a box: cosines between walls, Fourier waves around a periodic axis.

    φ(ξ) = Σ_k c_k Π_a b_{k_a}(ξ_a),      x(ξ) = ξ + ∇φ(ξ),      J = I + ∇∇φ,

with b_k = cos(k π ξ / L) on an axis between walls, so that ∂φ/∂n = 0 there: points on a wall slide along it and never
leave it, corners stay, and nothing has to be learnt or penalised for that. On a periodic axis the b are 1, cos and sin
of 2π k ξ / L, and no point is pinned. Every derivative is a product with one small matrix per axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.solvers.meshing.box import Box, along

Points = Literal["node", "cell"]


@dataclass(frozen=True)
class PotentialSpace:
    """The potentials with ``modes`` functions along each axis of a box.

    Errors: `InputError` unless there are at least two modes for each axis.
    """

    box: Box
    modes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.modes) != self.box.dimension or min(self.modes) < 2:
            raise InputError(f"potential: modes {self.modes}; expected 2 or more for each of {self.box.dimension} axes")

    def wavenumbers(self, axis: int) -> Float[Tensor, " mode"]:
        """κ of each function along an axis."""
        k = torch.arange(self.modes[axis], dtype=torch.float64)
        wave = 2 * torch.div(k + 1, 2, rounding_mode="floor") if self.box.periodic[axis] else k
        return math.pi * wave / self.box.lengths[axis]

    def squares(self) -> Float[Tensor, " *mode"]:
        """|κ|² of every product of functions, the symbol of -Δ."""
        total = torch.zeros((), dtype=torch.float64)
        for axis in range(self.box.dimension):
            total = total[..., None] + self.wavenumbers(axis).square()
        return total

    def analyse(self, values: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *mode"]:
        """The coefficients of a field given at cell midpoints, at least as many as modes per axis: least squares."""
        for axis, m in enumerate(self.modes):
            n, position = values.shape[axis + 1], axis - self.box.dimension
            values = along(values, _analysis(m, n, self.box.periodic[axis], values.dtype, values.device), position)
        return values

    def values(
        self, coefficients: Float[Tensor, "batch *mode"], shape: Sequence[int], points: Points = "cell"
    ) -> Float[Tensor, "batch *space"]:
        """φ at the nodes or the cell midpoints of a grid."""
        return self._derivatives(coefficients, [(0,) * len(shape)], shape, points)[0]

    def displacement(
        self, coefficients: Float[Tensor, "batch *mode"], shape: Sequence[int], points: Points = "node"
    ) -> Float[Tensor, "batch axis *space"]:
        """∇φ at the nodes or the cell midpoints of a grid."""
        orders = [tuple(int(a == axis) for a in range(len(shape))) for axis in range(len(shape))]
        return torch.stack(self._derivatives(coefficients, orders, shape, points), 1)

    def hessian(
        self, coefficients: Float[Tensor, "batch *mode"], shape: Sequence[int], points: Points = "cell"
    ) -> Float[Tensor, "batch axis other *space"]:
        """∇∇φ at the nodes or the cell midpoints of a grid."""
        axes = range(len(shape))
        pairs = [(i, j) for i in axes for j in axes if i <= j]
        orders = [tuple((a == i) + (a == j) for a in axes) for i, j in pairs]
        found = dict(zip(pairs, self._derivatives(coefficients, orders, shape, points), strict=True))
        rows = [torch.stack([found[min(i, j), max(i, j)] for j in axes], 1) for i in axes]
        return torch.stack(rows, 1)

    def motion(
        self, coefficients: Float[Tensor, "batch *mode"], shape: Sequence[int], points: Points = "cell"
    ) -> tuple[Float[Tensor, "batch axis *space"], Float[Tensor, "batch *space"]]:
        """(∇φ, det(I + ∇∇φ)) together, which share most of their products."""
        axes = range(len(shape))
        pairs = [(i, j) for i in axes for j in axes if i <= j]
        first = [tuple(int(a == axis) for a in axes) for axis in axes]
        second = [tuple((a == i) + (a == j) for a in axes) for i, j in pairs]
        found = self._derivatives(coefficients, first + second, shape, points)
        hessian = dict(zip(pairs, found[len(axes) :], strict=True))
        return torch.stack(found[: len(axes)], 1), determinant(hessian, len(axes))

    def _derivatives(
        self, coefficients: Tensor, orders: Sequence[tuple[int, ...]], shape: Sequence[int], points: Points
    ) -> list[Tensor]:
        # Axis by axis from the last: orders that agree in the axes done so far share their products.
        done: dict[tuple[int, ...], Tensor] = {(): coefficients}
        for axis in reversed(range(len(shape))):
            step: dict[tuple[int, ...], Tensor] = {}
            for order in orders:
                if order[axis:] not in step:
                    matrix = _synthesis(
                        self.modes[axis], shape[axis], self.box.periodic[axis], points, order[axis],
                        self.box.lengths[axis], coefficients.dtype, coefficients.device,
                    )  # fmt: skip
                    step[order[axis:]] = along(done[order[axis + 1 :]], matrix, axis - len(shape))
            done = step
        return [done[order] for order in orders]


def determinant(hessian: dict[tuple[int, int], Tensor], dimension: int) -> Tensor:
    """det(I + H) of a symmetric H by its upper triangle, point by point; differentiable."""
    one = {(i, j): 1 + h if i == j else h for (i, j), h in hessian.items()}
    if dimension == 1:
        return one[0, 0]
    if dimension == 2:
        return one[0, 0] * one[1, 1] - one[0, 1].square()
    a, b, c, d, e, f = (one[pair] for pair in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    return a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)


def _synthesis(
    modes: int, count: int, periodic: bool, points: Points, order: int, length: float,
    dtype: torch.dtype, device: torch.device,
) -> Float[Tensor, "point mode"]:  # fmt: skip
    # A derivative of the functions at the points. A compiled graph builds it, because its grid may be a symbol.
    build = _built if torch.compiler.is_compiling() else _kept
    return build(modes, count, periodic, points, order, length, dtype, device)


def _built(
    modes: int, count: int, periodic: bool, points: Points, order: int, length: float,
    dtype: torch.dtype, device: torch.device,
) -> Float[Tensor, "point mode"]:  # fmt: skip
    with torch.inference_mode(False):  # what is kept must serve training too
        i, k = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(modes, dtype=torch.float64)
        x = (i + 0.5) / count if points == "cell" else i / (count - 1)
        wave = 2 * ((k + 1) / 2).floor() if periodic else k
        # A derivative turns a cosine by a quarter; a sine is a cosine turned back by one.
        quarters = order - (((k % 2 == 0) & (k > 0)).double() if periodic else 0.0)
        matrix = (math.pi * wave / length) ** order * torch.cos(math.pi * (wave * x + quarters / 2))
        # What is zero is zero exactly: a wall must not leak by round-off.
        matrix = torch.where(matrix.abs() < 1e-12 * matrix.abs().amax().clamp_min(1e-300), 0.0, matrix)
        return matrix.to(device, dtype)


def _analysis(
    modes: int, count: int, periodic: bool, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "mode point"]:
    build = _built_inverse if torch.compiler.is_compiling() else _kept_inverse
    return build(modes, count, periodic, dtype, device)


def _built_inverse(
    modes: int, count: int, periodic: bool, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "mode point"]:
    with torch.inference_mode(False):
        matrix = _built(modes, count, periodic, "cell", 0, 1.0, torch.float64, torch.device("cpu"))
        # The functions are orthogonal over the midpoints, so that their transposes are the least squares solution.
        return (matrix / matrix.square().sum(0).clamp_min(1e-12)).T.contiguous().to(device, dtype)


_kept, _kept_inverse = lru_cache(maxsize=256)(_built), lru_cache(maxsize=64)(_built_inverse)
