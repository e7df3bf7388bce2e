"""Moving meshes: nodes of a box moved to where fields vary, by optimal transport, with no cell inverted."""

from fieldwright.solvers.meshing.box import Box, sample
from fieldwright.solvers.meshing.mesh import Mesh, MeshQuality
from fieldwright.solvers.meshing.monitors import Monitor
from fieldwright.solvers.meshing.mover import Hybrid, MeshEngine, MeshMover
from fieldwright.solvers.meshing.potential import PotentialSpace
from fieldwright.solvers.meshing.relaxation import Potential, Relaxation
from fieldwright.solvers.meshing.simplices import safe_step, simplices, volumes
from fieldwright.solvers.meshing.transfer import (
    Location,
    from_mesh,
    interpolation_error,
    locate,
    round_trip_error,
    to_mesh,
)

__all__ = [
    "Box",
    "Hybrid",
    "Location",
    "Mesh",
    "MeshEngine",
    "MeshMover",
    "MeshQuality",
    "Monitor",
    "Potential",
    "PotentialSpace",
    "Relaxation",
    "from_mesh",
    "interpolation_error",
    "locate",
    "round_trip_error",
    "safe_step",
    "sample",
    "simplices",
    "to_mesh",
    "volumes",
]
