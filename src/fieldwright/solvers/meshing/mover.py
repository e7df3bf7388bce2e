"""From a field to a mesh that follows it: a monitor, an engine that solves for the map, and a step that is safe.

    m = monitor(u),      x = ξ + s ∇φ(ξ),      m(x) det(I + ∇∇φ) = θ,

with φ by the engine, and s the longest step at which no cell is inverted (`simplices.safe_step`). Engines are called
alike: `Relaxation` solves each time, a trained network's `potentials` (`fieldwright.operators.MeshNetwork`) give φ at
once, and `Hybrid` polishes what the network gives by a few steps. On a line the map is exact in closed form and no
engine is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.meshing.box import Box
from fieldwright.solvers.meshing.lines import equidistribute_line
from fieldwright.solvers.meshing.mesh import Mesh
from fieldwright.solvers.meshing.monitors import Monitor
from fieldwright.solvers.meshing.potential import Points
from fieldwright.solvers.meshing.relaxation import Potential, Relaxation
from fieldwright.solvers.meshing.simplices import safe_step


class Motion(Protocol):
    """A map of the box onto itself for each sample of a batch: its displacement, and its derivative."""

    @property
    def steps(self) -> int: ...

    def displacement(self, shape: Sequence[int], points: Points = "node") -> Tensor: ...

    def hessian(self, shape: Sequence[int], points: Points = "cell") -> Tensor: ...


class MeshEngine(Protocol):
    """Potentials for a batch of monitors, from a start where one is given."""

    def __call__(self, monitor: Tensor, grid: Grid, box: Box) -> Potential: ...


@dataclass(frozen=True)
class Hybrid:
    """A network's potential as the start of a few relaxation steps.

    Their γ and first step are smaller than relaxation's own: what a network leaves is short waves.
    """

    network: MeshEngine
    relaxation: Relaxation = field(default_factory=lambda: Relaxation(steps=5, step=0.05, implicit=0.05))

    def __call__(self, monitor: Float[Tensor, "batch *space"], grid: Grid, box: Box) -> Potential:
        """The polished potentials; where the network's is worse than none, relaxation starts from the identity."""
        return self.relaxation(monitor, grid, box, start=self.network(monitor, grid, box))


@dataclass(frozen=True)
class MeshMover:
    """Moves the nodes of a uniform grid to where fields vary: ``mesh_mover(fields) -> Mesh``.

    ``grid``      the grid on which the fields are given
    ``boundary``  walls or periodic axes; by default axes are periodic on grids of periodic centring
    ``monitor``   how densely nodes should stand where
    ``engine``    what solves for the map
    ``nodes``     nodes of the mesh per axis, walls included, one number or one per axis; by default the grid's points

    Nodes on a wall slide along it. Errors: `InputError` for fewer than three nodes or points per axis, and fields that
    are not finite.
    """

    grid: Grid
    boundary: Boundary | str | None = None
    monitor: Monitor = field(default_factory=Monitor)
    engine: MeshEngine = field(default_factory=Relaxation)
    nodes: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != self.grid.dimension or min(self.shape) < 3:
            raise InputError(
                f"mesh: {self.nodes} nodes on {self.grid.dimension} axes; at least 3 per axis are needed, in one number"
                " or one per axis"
            )
        _ = self.box

    @property
    def box(self) -> Box:
        """The box of the grid."""
        return Box.of(self.grid, self.boundary)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes per axis."""
        given = self.grid.shape if self.nodes is None else self.nodes
        return (given,) * self.grid.dimension if isinstance(given, int) else tuple(given)

    @torch.no_grad()
    def __call__(self, fields: Float[Tensor, "batch channel *space"]) -> Mesh:
        """The mesh of each sample; several channels share one mesh that serves them all."""
        return self.follow(self.monitor(fields, self.grid, self.box))

    @torch.no_grad()
    def follow(self, monitor: Float[Tensor, "batch *space"]) -> Mesh:
        """The mesh of a density given on the grid.

        Errors: `InputError` for a density that is not positive and finite.
        """
        if not bool((monitor > 0).all() & monitor.isfinite().all()):
            raise InputError("mesh: the monitor is not positive and finite everywhere; a density of nodes must be")
        motion = self.motion(monitor)
        nodes = Grid(self.shape, "node", self.box.lower, self.box.upper)
        uniform = nodes.coordinates(dtype=torch.float64).to(monitor)[None]
        displacement = motion.displacement(self.shape, "node")
        scale = safe_step(uniform, displacement)
        stretch = scale.reshape(-1, *[1] * (self.grid.dimension + 1))
        unit = torch.eye(self.grid.dimension, dtype=monitor.dtype, device=monitor.device)
        unit = unit.reshape(1, *unit.shape, *[1] * self.grid.dimension)
        return Mesh(
            nodes=uniform + stretch * displacement,
            grid=nodes,
            box=self.box,
            jacobian=unit + stretch[:, None] * motion.hessian(self.shape, "node"),
            scale=scale,
            monitor=monitor,
            monitor_grid=self.grid,
            steps=motion.steps,
        )

    def motion(self, monitor: Float[Tensor, "batch *space"]) -> Motion:
        """The smooth map that the engine finds, before anything is made safe."""
        if self.grid.dimension == 1:
            return equidistribute_line(monitor, self.grid, self.box)
        return self.engine(monitor, self.grid, self.box)
