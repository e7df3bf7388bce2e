"""Equidistribution on a line, exactly: the inverse of the cumulative monitor.

    ∫_{x(0)}^{x(ξ)} m dx = θ ξ,        θ = ∫ m dx / L.

m is linear between the grid's points and level beyond them, so its integral is piecewise quadratic and is inverted in
closed form. Between walls x(0) = lower. On a periodic axis the free shift is that of optimal transport: the mean
displacement is zero, so that the mesh moves with the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.solvers.meshing.box import Box
from fieldwright.solvers.meshing.potential import Points


@dataclass(frozen=True)
class LineMotion:
    """The equidistributing map of each sample of a batch, as a piecewise quadratic cumulative monitor.

    ``knots``       points between which the monitor is linear, from lower to upper
    ``density``     the monitor there
    ``cumulative``  its integral from lower
    ``offset``      the integral at ξ = 0: 0 between walls
    """

    box: Box
    knots: Float[Tensor, " knot"]
    density: Float[Tensor, "batch knot"]
    cumulative: Float[Tensor, "batch knot"]
    offset: Float[Tensor, " batch"]

    @property
    def variation(self) -> Float[Tensor, " batch"]:
        """0: the map equidistributes exactly."""
        return torch.zeros_like(self.offset)

    @property
    def steps(self) -> int:
        """0: nothing is iterated."""
        return 0

    def displacement(self, shape: Sequence[int], points: Points = "node") -> Float[Tensor, "batch 1 node"]:
        """x(ξ) - ξ at the nodes or midpoints of a uniform grid."""
        xi = Grid(tuple(shape), points, self.box.lower, self.box.upper).axis(0).to(self.knots)
        return (self._moved(xi)[0] - xi)[:, None]

    def hessian(self, shape: Sequence[int], points: Points = "cell") -> Float[Tensor, "batch 1 1 node"]:
        """dx/dξ - 1 = θ / m(x) - 1."""
        xi = Grid(tuple(shape), points, self.box.lower, self.box.upper).axis(0).to(self.knots)
        density = self._moved(xi)[1]
        return (self.cumulative[:, -1:] / self.box.lengths[0] / density - 1)[:, None, None]

    def _moved(self, xi: Float[Tensor, " node"]) -> tuple[Float[Tensor, "batch node"], Float[Tensor, "batch node"]]:
        # (x, m(x)) at ξ.
        total = self.cumulative[:, -1:]
        wanted = self.offset[:, None] + total * (xi - self.box.lower[0]) / self.box.lengths[0]
        turns = (wanted / total).floor() if self.box.periodic[0] else torch.zeros_like(wanted)
        wanted = wanted - turns * total
        piece = torch.searchsorted(self.cumulative, wanted.contiguous(), right=True).sub_(1)
        piece = piece.clamp(0, len(self.knots) - 2)
        left, right = self.density.gather(1, piece), self.density.gather(1, piece + 1)
        width = self.knots.diff()[piece]
        rest = wanted - self.cumulative.gather(1, piece)
        # m₀ t + (m₁ - m₀) t² / (2 w) = rest, in the form that divides by no small number.
        root = (left.square() + 2 * (right - left) / width * rest).clamp_min(0).sqrt()
        step = torch.minimum(2 * rest / (left + root), width)
        moved = self.knots[piece] + step + turns * self.box.lengths[0]
        if not self.box.periodic[0]:
            # Walls stay where they are, not where round-off puts them.
            moved = moved.clamp(self.box.lower[0], self.box.upper[0])
            moved = torch.where(xi == self.box.upper[0], self.box.upper[0], moved)
        return moved, left + (right - left) * step / width


def equidistribute_line(monitor: Float[Tensor, "batch point"], grid: Grid, box: Box) -> LineMotion:
    """The exact map of each monitor on a line."""
    points = grid.axis(0).to(monitor)
    lower, upper = points.new_tensor([box.lower[0]]), points.new_tensor([box.upper[0]])
    if box.periodic[0]:
        if grid.centring == "node":
            points, monitor = points[:-1], monitor[:, :-1]
        # The value on the seam, linear between the last point and the first.
        gap = points[0] + box.lengths[0] - points[-1]
        share = (box.upper[0] - points[-1]) / gap
        ends = (monitor[:, -1:] * (1 - share) + monitor[:, :1] * share,) * 2
    else:
        ends = monitor[:, :1], monitor[:, -1:]
    inside = (points > box.lower[0]) & (points < box.upper[0])
    knots = torch.cat((lower, points[inside], upper))
    density = torch.cat((ends[0], monitor[:, inside], ends[1]), 1)
    left, right, width = density[:, :-1], density[:, 1:], knots.diff()
    cumulative = torch.nn.functional.pad(((left + right) / 2 * width).cumsum(1), (1, 0))
    offset = torch.zeros_like(density[:, 0])
    if box.periodic[0]:
        # ∫ x m dx by Simpson's rule, exact for a product of two linear functions.
        x, y = knots[:-1] - box.lower[0], knots[1:] - box.lower[0]
        moment = ((x * left + (x + y) * (left + right) + y * right) * width / 6).sum(1)
        length, total = box.lengths[0], cumulative[:, -1]
        mean = moment / (total / length) / length - length / 2
        # The integral of the inverse is linear in the offset, with slope L / θ.
        offset = -mean * total / length
    return LineMotion(box, knots, density, cumulative, offset)
