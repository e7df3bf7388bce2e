"""A mesh: moved nodes, the simplices between them, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.solvers.meshing.box import Box, sample
from fieldwright.solvers.meshing.simplices import edges, simplices, volumes


@dataclass(frozen=True)
class MeshQuality:
    """One number a sample; all are free of units.

    ``least_volume``     the least signed volume of a cell over that of a uniform cell; positive: no cell is inverted
    ``least_determinant``, ``least_stretch``  the least det J and eigenvalue of J over the nodes; the smooth map is
                         one-to-one where the latter is positive (a determinant misses double flips)
    ``skewness``, ``worst_skewness``  mean and worst 1 - d det(A)^(2/d) / ‖A‖², A the map from the uniform cell to the
                         cell: 0 is undistorted, 1 flat or inverted
    ``variation``        standard deviation over mean of monitor times volume of the cells: 0 is equidistributed
    """

    least_volume: Float[Tensor, " batch"]
    least_determinant: Float[Tensor, " batch"]
    least_stretch: Float[Tensor, " batch"]
    skewness: Float[Tensor, " batch"]
    worst_skewness: Float[Tensor, " batch"]
    variation: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Mesh:
    """A batch of meshes with the same connections: a uniform grid of nodes that have moved.

    ``nodes``       coordinates of the moved nodes. A periodic axis is closed: its last node is its first, a length on
    ``grid``        the uniform grid of nodes they come from
    ``box``         the box they fill
    ``jacobian``    J = ∂x/∂ξ at the nodes
    ``scale``       how far the nodes went along the displacement asked for: 1, or less where a cell would invert
    ``monitor``     the density that the mesh follows, on ``monitor_grid``
    ``steps``       iterations of the engine
    """

    nodes: Float[Tensor, "batch axis *node"]
    grid: Grid
    box: Box
    jacobian: Float[Tensor, "batch axis other *node"]
    scale: Float[Tensor, " batch"]
    monitor: Float[Tensor, "batch *space"]
    monitor_grid: Grid
    steps: int

    @property
    def cells(self) -> Int[Tensor, "cell corner"]:
        """The corners of each simplex, as indices into the flattened nodes."""
        return simplices(self.grid.shape).to(self.nodes.device)

    @property
    def uniform(self) -> Float[Tensor, "axis *node"]:
        """The nodes before they moved."""
        return self.grid.coordinates(dtype=torch.float64).to(self.nodes)

    def volumes(self) -> Float[Tensor, "batch cell"]:
        """The signed volume of each simplex."""
        return volumes(self.nodes)

    def density(self) -> Float[Tensor, "batch *node"]:
        """Nodes per volume relative to the uniform grid: 1 / det J."""
        return 1 / _determinant(self.jacobian)

    def quality(self, monitor: Float[Tensor, "batch *space"] | None = None) -> MeshQuality:
        """How good the meshes are.

        ``monitor``, on ``monitor_grid``, is the density to judge by, by default the mesh's own: to compare meshes made
        for different monitors give all of them the same one.
        """
        sizes = self.volumes()
        uniform = self.box.volume / sizes.shape[1]
        middle = self.nodes.flatten(2)[:, :, self.cells].mean(-1)
        density = sample(
            (self.monitor if monitor is None else monitor)[:, None], self.monitor_grid, middle, self.box.periodic
        )[:, 0]
        mass = density * sizes
        stretched = torch.einsum("baec,exc->baxc", edges(self.nodes), _inverse_edges(self.grid).to(self.nodes))
        d = self.grid.dimension
        shape = d * (sizes / uniform).clamp_min(0).pow(2 / d) / stretched.square().sum((1, 2))
        eigenvalues = torch.linalg.eigvalsh(self.jacobian.movedim((1, 2), (-2, -1)))
        return MeshQuality(
            sizes.amin(1) / uniform,
            _determinant(self.jacobian).flatten(1).amin(1),
            eigenvalues[..., 0].flatten(1).amin(1),
            1 - shape.mean(1),
            1 - shape.amin(1),
            mass.std(1, correction=0) / mass.mean(1),
        )


def _determinant(jacobian: Float[Tensor, "batch axis other *node"]) -> Float[Tensor, "batch *node"]:
    return torch.linalg.det(jacobian.movedim((1, 2), (-2, -1)))


def _inverse_edges(grid: Grid) -> Float[Tensor, "edge axis cell"]:
    """The inverse of each uniform simplex's matrix of edges, a column per edge."""
    uniform = edges(grid.coordinates()[None])[0]
    return torch.linalg.inv(uniform.movedim(-1, 0)).movedim(0, -1)
