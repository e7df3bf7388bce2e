"""Second differences that obey summation by parts: u'' on grid points with an energy that is exactly kept or lost.

Along an axis of n points of spacing h the operator is D = -H⁻¹ M with diagonal weights H (a quadrature) and a symmetric
M >= 0, of second order or of fourth (second in the four rows at a wall, which costs the solution of a wave or diffusion
equation no order). D contains the natural wall, u' = 0; a flux u' = q at a wall is added to the end point as q / H₀.
So, with the dot weighted by H,

    (w, D u) = (u, D w),   (u, D u) = -uᵀ M u <= 0.

Source: K. Mattsson, J. Nordström, "Summation by parts operators for finite difference approximations of second
derivatives", J. Comput. Phys. 199 (2004), appendix C.1 and C.2 (B S moved to the right-hand side).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

ENTRIES = 6
INTERIOR = {2: (1.0, -2.0, 1.0), 4: (-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12)}
# Weights H / h and rows of -H⁻¹ M h² at the lower wall.
_WEIGHTS = {2: (1 / 2,), 4: (17 / 48, 59 / 48, 43 / 48, 49 / 48)}
_ROWS = {
    2: ((-2.0, 2.0),),
    4: (
        (-54 / 17, 59 / 17, -4 / 17, -1 / 17),
        (1.0, -2.0, 1.0),
        (-4 / 43, 59 / 43, -110 / 43, 59 / 43, -4 / 43),
        (-1 / 49, 0.0, 59 / 49, -118 / 49, 64 / 49, -4 / 49),
    ),
}
CLOSED = {order: len(rows) for order, rows in _ROWS.items()}
"""How many points at a wall have rows of their own."""


@dataclass(frozen=True)
class SecondDifference:
    """D of one axis: ``points`` with walls at both ends, or ``wraps`` around.

    Errors: `InputError` for an order that is not 2 or 4, or too few points for it.
    """

    order: int
    points: int
    spacing: float
    wraps: bool = False

    def __post_init__(self) -> None:
        if self.order not in INTERIOR:
            raise InputError(f"second difference: order {self.order}; allowed are 2 and 4")
        if self.points < 2 * self.order:
            raise InputError(f"second difference: {self.points} points; order {self.order} needs {2 * self.order}")

    @property
    def weights(self) -> Float[Tensor, " n"]:
        """The diagonal of H, a quadrature of the order of the scheme; it sums to the length of the axis."""
        line = torch.full((self.points,), self.spacing, dtype=torch.float64)
        if not self.wraps:
            ends = self.spacing * torch.tensor(_WEIGHTS[self.order], dtype=torch.float64)
            line[: len(ends)], line[-len(ends) :] = ends, ends.flip(0)
        return line

    def apply(self, field: Float[Tensor, "..."], place: int) -> Float[Tensor, "..."]:
        """D along axis ``place``, differentiable; the same bits whatever the batch."""
        stencil, n = INTERIOR[self.order], self.points
        reach = len(stencil) // 2
        if self.wraps:
            total = stencil[reach] * field
            for k in range(1, reach + 1):
                total = total + stencil[reach + k] * (field.roll(k, place) + field.roll(-k, place))
            return total / self.spacing**2
        rows, closed = _ROWS[self.order], len(_ROWS[self.order])
        inner = torch.zeros_like(field.narrow(place, closed, n - 2 * closed))
        for k, weight in enumerate(stencil):
            inner = inner + weight * field.narrow(place, closed - reach + k, n - 2 * closed)
        ends = []
        for flipped in (False, True):
            lines = [_combined(row, field, place, flipped) for row in rows]
            ends.append(torch.cat(lines[::-1] if flipped else lines, place))
        return torch.cat([ends[0], inner, ends[1]], place) / self.spacing**2

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """D as (places, values), both (row, entry): `ENTRIES` entries a row, unused ones of value 0."""
        matrix = self.apply(torch.eye(self.points, dtype=torch.float64), 0).numpy()
        places = np.zeros((self.points, ENTRIES), np.int64)
        found = np.argsort(matrix == 0, axis=1, kind="stable")[:, :ENTRIES]
        places[:, : found.shape[1]] = found
        values = np.take_along_axis(matrix, places, 1)
        values[:, found.shape[1] :] = 0.0
        return places, values

    @property
    def radius(self) -> float:
        """A bound on the magnitude of D's eigenvalues, that of the shortest wave; walls do not raise it."""
        return sum(abs(weight) for weight in INTERIOR[self.order]) / self.spacing**2


def _combined(row: tuple[float, ...], field: Tensor, place: int, flipped: bool) -> Tensor:
    n = field.shape[place]
    total = torch.zeros_like(field.narrow(place, 0, 1))
    for k, weight in enumerate(row):
        total = total + weight * field.narrow(place, n - 1 - k if flipped else k, 1)
    return total
