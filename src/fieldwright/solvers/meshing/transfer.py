"""Fields from a grid to a mesh and back: linear in every cell, so that linear fields are kept exactly.

    u(x) = Σ_k λ_k(x) u(x_k),     Σ_k λ_k = 1,    λ_k >= 0,     Σ_k λ_k x_k = x,

the sum being over the corners of the simplex that x lies in. It is found exactly, whatever the mesh looks like: every
cell is entered into the buckets of a uniform grid that its bounding box touches, and each point tests the cells of its
bucket.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.norms import relative_l2
from fieldwright.solvers.meshing.box import sample
from fieldwright.solvers.meshing.mesh import Mesh

OUTSIDE = 1e-8


@dataclass(frozen=True)
class Location:
    """Where points lie in a mesh: the corners of the cell of each, and its barycentric coordinates in it."""

    corners: Int[Tensor, "batch point corner"]
    weights: Float[Tensor, "batch point corner"]

    def interpolate(self, values: Float[Tensor, "batch channel *node"]) -> Float[Tensor, "batch channel point"]:
        """Values at the nodes brought to the points."""
        flat = values.flatten(2)
        batch, channels = flat.shape[:2]
        index = self.corners.reshape(batch, 1, -1).expand(-1, channels, -1)
        corners = flat.gather(2, index).reshape(batch, channels, *self.corners.shape[1:])
        return (corners * self.weights[:, None].to(values)).sum(-1)


def locate(mesh: Mesh, points: Float[Tensor, "batch axis point"]) -> Location:
    """The cell of each point and its place in it.

    Errors: `InputError` for a point outside the mesh.
    """
    nodes = mesh.nodes.detach().double()
    points = points.detach().double().expand(len(nodes), -1, -1)
    cells = mesh.cells
    corners = nodes.flatten(2)[:, :, cells]  # batch axis cell corner
    batch, d, count = len(nodes), mesh.box.dimension, points.shape[2]
    low = torch.tensor(mesh.box.lower, dtype=torch.float64, device=nodes.device)
    length = torch.tensor(mesh.box.lengths, dtype=torch.float64, device=nodes.device)
    parts = torch.tensor([n - 1 for n in mesh.grid.shape], device=nodes.device)
    wraps = mesh.box.periodic

    def bucket(places: Tensor) -> Tensor:
        scaled = (places - low.reshape(-1, *[1] * (places.ndim - 2))) / length.reshape(-1, *[1] * (places.ndim - 2))
        return (scaled * parts.reshape(-1, *[1] * (places.ndim - 2))).floor().long()

    def flat(places: list[Tensor], sample_index: Tensor) -> Tensor:
        index = sample_index
        for axis, place in enumerate(places):
            n = int(parts[axis])
            index = index * n + (place % n if wraps[axis] else place.clamp(0, n - 1))
        return index

    entries, entered = _entries(bucket(corners.amin(3)), bucket(corners.amax(3)), flat)
    order = entered.argsort()
    entries, entered = entries[order], entered[order]
    which = torch.arange(batch, device=nodes.device)[:, None].expand(-1, count)
    home = flat(list(bucket(points).unbind(1)), which).reshape(-1)
    first = torch.searchsorted(entered, home)
    found = torch.searchsorted(entered, home, right=True) - first
    # Pairs of a point and a cell of its bucket.
    point = torch.arange(batch * count, device=nodes.device).repeat_interleave(found)
    offset = torch.arange(len(point), device=nodes.device) - (found.cumsum(0) - found).repeat_interleave(found)
    cell = entries[first[point] + offset]
    shape = corners.movedim(1, 3).reshape(-1, d + 1, d)[cell]  # pair corner axis
    x = points.movedim(1, 2).reshape(-1, d)[point]
    shift = torch.where(
        torch.tensor(wraps, device=nodes.device), ((x - shape.mean(1)) / length).round() * length, torch.zeros_like(x)
    )
    weights = torch.linalg.solve((shape[:, 1:] - shape[:, :1]).movedim(1, 2), x - shift - shape[:, 0])
    weights = torch.cat((1 - weights.sum(1, keepdim=True), weights), 1)
    # The cell in which the least coordinate is greatest: that is the one, up to round-off on common faces.
    inside = weights.amin(1)
    best = torch.full((batch * count,), -torch.inf, dtype=torch.float64, device=nodes.device)
    best = best.scatter_reduce(0, point, inside, "amax")
    if bool((best < -OUTSIDE).any()):
        lost = int((best < -OUTSIDE).nonzero()[0, 0])
        place = points.movedim(1, 2).reshape(-1, d)[lost].tolist()
        raise InputError(
            f"locate: the point {place} lies outside the mesh of the box {mesh.box.lower}..{mesh.box.upper}"
        )
    winners = (inside == best[point]).nonzero()[:, 0]
    chosen = torch.zeros(batch * count, dtype=torch.long, device=nodes.device).scatter(0, point[winners], winners)
    return Location(
        cells[cell[chosen] % len(cells)].reshape(batch, count, d + 1),
        weights[chosen].clamp_min(0).reshape(batch, count, d + 1),
    )


def _entries(least: Tensor, most: Tensor, flat) -> tuple[Tensor, Tensor]:
    """(cell of the batch, bucket) for every bucket that the bounding box of a cell touches."""
    batch, d, cells = least.shape
    extent = (most - least + 1).movedim(1, 2).reshape(-1, d)
    start = least.movedim(1, 2).reshape(-1, d)
    counts = extent.prod(1)
    cell = torch.arange(batch * cells, device=least.device).repeat_interleave(counts)
    rest = torch.arange(len(cell), device=least.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    places: list[Tensor] = []
    for axis in reversed(range(d)):
        size = extent[cell, axis]
        places.insert(0, start[cell, axis] + rest % size)
        rest = torch.div(rest, size, rounding_mode="floor")
    return cell, flat(places, torch.div(cell, cells, rounding_mode="floor"))


def to_mesh(
    field: Float[Tensor, "batch channel *space"], grid: Grid, mesh: Mesh
) -> Float[Tensor, "batch channel *node"]:
    """A grid's field at the nodes of a mesh: multilinear."""
    return sample(field, grid, mesh.nodes.to(field), mesh.box.periodic)


def from_mesh(
    values: Float[Tensor, "batch channel *node"], mesh: Mesh, grid: Grid
) -> Float[Tensor, "batch channel *space"]:
    """Values at the nodes of a mesh brought to a grid's points: linear in every cell."""
    points = grid.coordinates().to(mesh.nodes.device).flatten(1)[None]
    found = locate(mesh, points).interpolate(values)
    return found.reshape(*values.shape[:2], *grid.shape)


def round_trip_error(field: Float[Tensor, "batch channel *space"], grid: Grid, mesh: Mesh) -> Float[Tensor, " batch"]:
    """The relative L2 error of a field taken from its grid to the mesh and back: what moving there costs at least."""
    there_and_back = from_mesh(to_mesh(field, grid, mesh), mesh, grid)
    return relative_l2(there_and_back.double(), field.double(), grid)


def interpolation_error(function, mesh: Mesh, *, points: int = 13) -> Float[Tensor, " batch"]:
    """The L2 error, over the box, of linear interpolation of a function from the nodes of a mesh.

    ``function`` takes points (batch axis *where) and gives values (batch *where). The squared error is averaged over
    ``points`` (``points`` + 1) / 2 places of each triangle, as many per edge of a simplex in other dimensions.
    """
    nodes = mesh.nodes.double()
    d = mesh.box.dimension
    corners = nodes.flatten(2)[:, :, mesh.cells]
    values = function(nodes).flatten(1)[:, mesh.cells]
    lattice = [index for index in itertools.product(range(points), repeat=d) if sum(index) < points]
    total = torch.zeros_like(values[..., 0])
    for index in lattice:
        inner = [(i + 1 / (d + 1)) / points for i in index]
        weights = nodes.new_tensor([1 - sum(inner), *inner])
        total += (function(corners @ weights) - values @ weights).square()
    return ((total / len(lattice)) * mesh.volumes().double().abs()).sum(1).sqrt()
