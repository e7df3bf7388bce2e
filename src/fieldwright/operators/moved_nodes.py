"""The moved mesh as an operator uses it: nodes, metric, and where the points of the operator's grid lie in it.

    y(ξ) = ξ + s ∇φ(ξ),       ξ(x) = y⁻¹(x).

The inverse is found by Newton's method from the nearest of a few nodes. It says which nodes are near a point and no
more: weights that reproduce linear fields do so for any choice of neighbours (`learned_transfer`). The mesh is not
differentiated, and to a compiler all of it is one operation, ``fieldwright::moved_nodes``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.meshing import Box, MeshMover, Monitor, Relaxation, sample
from fieldwright.solvers.meshing.simplices import safe_step

NEWTON_STEPS = 6
# Nodes per axis among which the start of Newton's method is sought.
COARSE = {1: 64, 2: 16, 3: 6}


@dataclass(frozen=True)
class MovedNodes:
    """The meshes of a batch, on a grid of ξ between nodes; a seam counts once.

    ``nodes``    y(ξ)
    ``metric``   what a branch is told of the mesh: y - ξ in units of the box, and log det J
    ``inverse``  ξ(x) of the points of the operator's grid, in units of the nodes' index
    """

    nodes: Float[Tensor, "batch axis *node"]
    metric: Float[Tensor, "batch feature *node"]
    inverse: Float[Tensor, "batch axis *space"]


def moved_nodes(mover: MeshMover, fields: Float[Tensor, "batch channel *space"], *, still: bool = False) -> MovedNodes:
    """The meshes that a mover, with relaxation for its engine, makes for fields; ``still`` leaves the nodes unmoved.

    There are as many nodes as the grid has points. No cell is inverted. Errors: those of `MeshMover`.
    """
    grid, monitor, relaxation = mover.grid, mover.monitor, mover.engine
    assert isinstance(relaxation, Relaxation)
    assert not callable(monitor.law)
    found = _moved_nodes(
        fields.detach(), grid.centring, list(mover.box.periodic), list(grid.lower), list(grid.upper),
        monitor.strength, monitor.smoothing, monitor.motion, relaxation.steps, relaxation.modes, still,
    )  # fmt: skip
    return MovedNodes(*found)


@torch.library.custom_op(
    "fieldwright::moved_nodes",
    mutates_args=(),
    schema="(Tensor fields, str centring, bool[] periodic, float[] lower, float[] upper, float strength,"
    " float smoothing, float motion, int steps, int modes, bool still) -> (Tensor, Tensor, Tensor)",
)
def _moved_nodes(
    fields: Tensor,
    centring: str,
    periodic: list[bool],
    lower: list[float],
    upper: list[float],
    strength: float,
    smoothing: float,
    motion: float,
    steps: int,
    modes: int,
    still: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    grid = Grid(tuple(fields.shape[2:]), centring, tuple(lower), tuple(upper))  # type: ignore[arg-type]
    walls = Boundary.parse(["periodic" if wraps else "neumann" for wraps in periodic], grid.dimension)
    mover = MeshMover(
        grid,
        walls,
        Monitor(strength=strength, smoothing=smoothing, motion=motion),
        Relaxation(steps=steps, modes=modes),
    )
    return _geometry(mover, fields, still=still)


@_moved_nodes.register_fake
def _(fields, centring, periodic, lower, upper, strength, smoothing, motion, steps, modes, still):
    d = len(periodic)
    batch, space = fields.shape[0], fields.shape[2:]
    return tuple(fields.new_empty(batch, features, *space) for features in (d, d + 1, d))


@torch.no_grad()
def _geometry(mover: MeshMover, fields: Tensor, *, still: bool) -> tuple[Tensor, Tensor, Tensor]:
    grid, box = mover.grid, mover.box
    d, closed = box.dimension, closed_grid(grid, box)
    if still:
        displacement = fields.new_zeros(len(fields), d, *closed.shape)
        hessian = fields.new_zeros(len(fields), d, d, *closed.shape)
    else:
        map_ = mover.motion(mover.monitor(fields, grid, box))
        displacement, hessian = map_.displacement(closed.shape, "node"), map_.hessian(closed.shape, "node")
        scale = safe_step(closed.coordinates().to(displacement)[None], displacement).reshape(-1, *[1] * (d + 1))
        displacement, hessian = scale * displacement, scale[:, None] * hessian
    nodes = closed.coordinates().to(displacement) + displacement
    unit = torch.eye(d).to(hessian).reshape(d, d, *[1] * d)
    density = small_determinant(unit + hessian).clamp_min(LEAST_DENSITY).log()[:, None]
    metric = torch.cat((displacement / box.size, density), 1)
    xi = inverse_map(displacement, hessian, closed, box, grid.coordinates().to(displacement))
    low, spacing = (xi.new_tensor(v).reshape(-1, *[1] * d) for v in (grid.lower, closed.spacing))
    for axis, n in enumerate(grid.shape):
        nodes, metric = (field.narrow(axis + 2, 0, n) for field in (nodes, metric))
    return nodes.contiguous(), metric.contiguous(), (xi - low) / spacing


LEAST_DENSITY = 1e-3


def closed_grid(grid: Grid, box: Box) -> Grid:
    """As many nodes as a grid has points, from wall to wall, the seams of periodic axes repeated at their end."""
    shape = tuple(n + wraps for n, wraps in zip(grid.shape, box.periodic, strict=True))
    return Grid(shape, "node", box.lower, box.upper)


def inverse_map(
    displacement: Float[Tensor, "batch axis *closed"],
    hessian: Float[Tensor, "batch axis other *closed"],
    closed: Grid,
    box: Box,
    points: Float[Tensor, "axis *space"],
) -> Float[Tensor, "batch axis *space"]:
    """ξ(x) of points, for the map whose displacement and its derivative are given at the nodes of a closed grid."""
    d, batch = box.dimension, len(displacement)
    x = points.flatten(1)[None].expand(batch, -1, -1)
    lower, upper = (x.new_tensor(ends)[:, None] for ends in (box.lower, box.upper))
    wraps = torch.tensor(box.periodic, device=x.device)[:, None]
    coarse = Grid(tuple(min(n, COARSE[d]) for n in closed.shape), "node", box.lower, box.upper)
    starts = coarse.coordinates().to(x).flatten(1)
    reached = starts + sample(displacement, closed, starts[None].expand(batch, -1, -1), box.periodic)
    far = torch.zeros(batch, x.shape[2], starts.shape[1]).to(x)
    for axis in range(d):
        far += _around(reached[:, axis, None] - x[:, axis, :, None], box, axis).square()
    xi = starts[:, far.argmin(2)].movedim(0, 1)
    known = torch.cat((displacement, hessian.flatten(1, 2)), 1)
    unit = torch.eye(d).to(x)[None, :, :, None]
    for _ in range(NEWTON_STEPS):
        found = sample(known, closed, xi, box.periodic)
        residual = xi + found[:, :d] - x
        residual = torch.stack([_around(residual[:, axis], box, axis) for axis in range(d)], 1)
        jacobian = unit + found[:, d:].unflatten(1, (d, d))
        xi = xi - torch.einsum("bijp,bjp->bip", small_inverse(jacobian), residual)
        xi = torch.where(wraps, xi, torch.maximum(torch.minimum(xi, upper), lower))
    return xi.reshape(batch, d, *points.shape[1:])


def _around(difference: Tensor, box: Box, axis: int) -> Tensor:
    length = box.lengths[axis]
    return difference - (difference / length).round() * length if box.periodic[axis] else difference


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
