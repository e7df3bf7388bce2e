"""The moved mesh as an operator uses it: nodes, metric, and where the points of a grid lie in it, in fixed shapes.

    y(ξ) = ξ + s ∇φ(ξ),       ξ(x) = y⁻¹(x).

The inverse is found by Newton's method from the nearest of a few nodes. It says which nodes are near a point and no
more: weights that reproduce linear fields do so for any choice of neighbours (`learned_transfer`). Nothing here depends
on values, so that a compiled or exported graph holds all of it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.solvers.meshing import Box, MeshMover, sample
from fieldwright.solvers.meshing.simplices import safe_step

NEWTON_STEPS = 5
# Nodes per axis among which the start of Newton's method is sought.
COARSE = {1: 64, 2: 16, 3: 6}


@dataclass(frozen=True)
class MovedNodes:
    """The nodes of a batch of meshes.

    ``closed``        the grid of ξ, with the seams repeated
    ``displacement``  y - ξ there
    ``hessian``       ∂y/∂ξ - I there
    """

    box: Box
    closed: Grid
    displacement: Float[Tensor, "batch axis *closed"]
    hessian: Float[Tensor, "batch axis other *closed"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes per axis, a seam counted once."""
        return tuple(n - wraps for n, wraps in zip(self.closed.shape, self.box.periodic, strict=True))

    def open(self, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A field of the closed grid without the repeated nodes."""
        for axis, n in enumerate(self.shape):
            field = field.narrow(field.ndim - len(self.shape) + axis, 0, n)
        return field

    @property
    def nodes(self) -> Float[Tensor, "batch axis *node"]:
        """y(ξ)."""
        uniform = self.closed.coordinates().to(self.displacement)
        return self.open(uniform + self.displacement)

    def metric(self) -> Float[Tensor, "batch feature *node"]:
        """What a branch is told of the mesh: the displacement in units of the box, and log det J."""
        unit = torch.eye(self.box.dimension).to(self.hessian)
        jacobian = unit.reshape(*unit.shape, *[1] * self.box.dimension) + self.hessian
        density = small_determinant(jacobian).clamp_min(1e-3).log()[:, None]
        return self.open(torch.cat((self.displacement / self.box.size, density), 1))

    def inverse(self, points: Float[Tensor, "axis *space"]) -> Float[Tensor, "batch axis *space"]:
        """ξ(x), nearly: the point of the uniform grid that the map takes to x."""
        box, batch = self.box, len(self.displacement)
        x = points.flatten(1)[None].expand(batch, -1, -1)
        lengths = x.new_tensor(box.lengths)[:, None]
        lower, upper = (x.new_tensor(ends)[:, None] for ends in (box.lower, box.upper))
        wraps = torch.tensor(box.periodic, device=x.device)[:, None]

        def away(difference: Tensor) -> Tensor:
            return torch.where(wraps, difference - (difference / lengths).round() * lengths, difference)

        coarse = Grid(tuple(min(n, COARSE[box.dimension]) for n in self.closed.shape), "node", box.lower, box.upper)
        starts = coarse.coordinates().to(x).flatten(1)
        reached = starts + sample(self.displacement, self.closed, starts[None].expand(batch, -1, -1), box.periodic)
        far = sum(
            _wrapped(reached[:, axis, None] - x[:, axis, :, None], box.lengths[axis], box.periodic[axis]).square()
            for axis in range(box.dimension)
        )
        assert isinstance(far, Tensor)
        xi = starts[:, far.argmin(2)].movedim(0, 1)
        known = torch.cat((self.displacement, self.hessian.flatten(1, 2)), 1)
        d = box.dimension
        unit = torch.eye(d).to(x)[None, :, :, None]
        for _ in range(NEWTON_STEPS):
            found = sample(known, self.closed, xi, box.periodic)
            residual = away(xi + found[:, :d] - x)
            jacobian = unit + found[:, d:].unflatten(1, (d, d))
            xi = xi - torch.einsum("bijp,bjp->bip", small_inverse(jacobian), residual)
            xi = torch.where(wraps, xi, torch.maximum(torch.minimum(xi, upper), lower))
        return xi.reshape(batch, d, *points.shape[1:])


def _wrapped(difference: Tensor, length: float, wraps: bool) -> Tensor:
    return difference - (difference / length).round() * length if wraps else difference


@torch.no_grad()
def moved_nodes(mover: MeshMover, fields: Float[Tensor, "batch channel *space"], *, still: bool = False) -> MovedNodes:
    """The mesh that a mover makes for fields, with no cell inverted; ``still`` leaves the nodes where they are."""
    box = mover.box
    closed = Grid(
        tuple(n + wraps for n, wraps in zip(mover.shape, box.periodic, strict=True)), "node", box.lower, box.upper
    )
    if still:
        none = fields.new_zeros(len(fields), box.dimension, *closed.shape)
        return MovedNodes(box, closed, none, none[:, None].expand(-1, box.dimension, *none.shape[1:]))
    motion = mover.motion(mover.monitor(fields, mover.grid, box))
    displacement = motion.displacement(closed.shape, "node")
    scale = safe_step(closed.coordinates().to(displacement)[None], displacement)
    scale = scale.reshape(-1, *[1] * (box.dimension + 1))
    return MovedNodes(box, closed, scale * displacement, scale[:, None] * motion.hessian(closed.shape, "node"))


def small_determinant(matrix: Float[Tensor, "batch axis other *where"]) -> Float[Tensor, "batch *where"]:
    """The determinants of 1x1, 2x2 or 3x3 matrices, point by point."""
    m = matrix
    if m.shape[1] == 1:
        return m[:, 0, 0]
    if m.shape[1] == 2:
        return m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0]
    return (m[:, 0] * torch.linalg.cross(m[:, 1], m[:, 2], dim=1)).sum(1)


def small_inverse(matrix: Float[Tensor, "batch axis other *where"]) -> Float[Tensor, "batch axis other *where"]:
    """Their inverses by cofactors; a determinant is kept away from zero."""
    m, d = matrix, matrix.shape[1]
    det = small_determinant(m)
    det = torch.where(det.abs() < TINY, torch.where(det < 0, -TINY, TINY), det)
    if d == 1:
        return (1 / det)[:, None, None]
    if d == 2:
        rows = (m[:, 1, 1], -m[:, 0, 1]), (-m[:, 1, 0], m[:, 0, 0])
        adjugate = torch.stack([torch.stack(row, 1) for row in rows], 1)
    else:
        columns = [torch.linalg.cross(m[:, (i + 1) % 3], m[:, (i + 2) % 3], dim=1) for i in range(3)]
        adjugate = torch.stack(columns, 2)
    return adjugate / det[:, None, None]


TINY = 1e-12
