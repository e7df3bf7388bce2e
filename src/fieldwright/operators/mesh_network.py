"""An amortised mesh mover: a small network from a monitor to the potential of the map that equidistributes it.

    f = log m - mean,     g = U-Net(f),     φ = Σ_k c_k b_k,     c_k = ĝ_k / (1 + |κ_k|²)

with the b_k of `fieldwright.solvers.meshing.PotentialSpace`, so that walls and seams hold exactly for any weights. To
first order in log m the Monge-Ampère equation is -Δφ = log m - mean: the network is given its inverse and learns the
rest, locally and on coarser grids. The mesh depends on log m - mean only, so a monitor times a constant gives the same
one, and with the last layer zero the first mesh is the uniform one.

Source of the idea of training on the equation alone: Hu, Wang, Ma, "Better neural PDE solvers through data-free mesh
movers", ICLR 2024. Their network is another: a branch and a trunk whose boundary conditions are penalised.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.operators.baselines import UNet
from fieldwright.operators.channels import ChannelMixing
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.store import StoredOperator
from fieldwright.solvers.meshing import Box, Potential, PotentialSpace
from fieldwright.solvers.meshing.box import sample_within
from fieldwright.solvers.meshing.relaxation import grid_centres


class MeshNetwork(nn.Module, StoredOperator):
    """log m at the midpoints of a grid of any size -> φ there; `potentials` is the engine of a `MeshMover`.

    ``dimension``  2 or 3; on a line the map is known in closed form
    ``modes``      functions of the potential along each axis (24)
    ``points``     midpoints per axis at which the network reads the monitor (32), at least ``modes``
    ``width``      channels of the U-Net on its finest grid (8)
    ``levels``     its grids (4)
    ``boundary``   a word for all sides or a [low, high] pair of words per axis; what matters is which are "periodic"
    ``lower``, ``upper``  the box (the unit box): its proportions are part of what is learnt

    Train it by `fieldwright.training.MongeAmpere`, which needs no meshes: 500 steps of 16 monitors and a learning rate
    of 6e-3 are a good start.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    def __init__(
        self,
        *,
        dimension: int = 2,
        modes: int = 24,
        points: int = 32,
        width: int = 8,
        levels: int = 4,
        boundary: str | Sequence[str | Sequence[str]] = "neumann",
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_counts(modes=modes, points=points, width=width, levels=levels)
        if dimension not in (2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 2 and 3")
        if not 2 <= modes <= points:
            raise InputError(f"modes: {modes}; allowed are 2 to the {points} points that the network reads")
        walls = Boundary.parse(boundary, dimension)
        low = (0.0,) * dimension if lower is None else tuple(float(v) for v in lower)
        high = (1.0,) * dimension if upper is None else tuple(float(v) for v in upper)
        box = Box(low, high, walls.periodic)
        self.dimension = dimension
        self.space = PotentialSpace(box, (modes,) * dimension)
        self.reading = (points,) * dimension
        sides = ["periodic" if wraps else "neumann" for wraps in walls.periodic]
        self.network = UNet(1, 1, width=width, levels=levels, normalise=False, dimension=dimension, boundary=sides)
        # A constant in φ moves nothing: no bias for it.
        self.network.project.mix = ChannelMixing(width, 1, bias=False)
        nn.init.zeros_(self.network.project.mix.weight)
        inverse = box.size**2 / (1 + box.size**2 * self.space.squares())
        inverse[(0,) * dimension] = 0.0
        self.register_buffer("inverse", inverse.float(), persistent=False)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch 1 *space"]:
        """φ at the midpoints of as many cells as the grid of the inputs has; log m is given there."""
        check_inputs(inputs, 1, self.dimension, lead_time)
        shape = tuple(inputs.shape[2:])
        grid = Grid(shape, "cell", self.space.box.lower, self.space.box.upper)
        coefficients = self.coefficients(inputs[:, 0], grid)
        return self.space.values(coefficients, shape)[:, None].to(inputs.dtype)

    def coefficients(self, log_monitor: Float[Tensor, "batch *space"], grid: Grid) -> Float[Tensor, "batch *mode"]:
        """c of log m given on any grid of the box, in the precision of the weights and never in less than float32."""
        box = self.space.box
        precision = torch.promote_types(self.network.project.mix.weight.dtype, torch.float32)
        with torch.autocast(log_monitor.device.type, enabled=False):
            centres = grid_centres(box, self.reading, log_monitor.to(precision))
            f = sample_within(log_monitor.to(precision), grid, centres, box)[:, None]
            f = f - f.flatten(1).mean(1).reshape(-1, *[1] * (self.dimension + 1))
        g = self.network(f.to(self.network.project.mix.weight.dtype))[:, 0]
        with torch.autocast(log_monitor.device.type, enabled=False):
            return self.space.analyse(g.to(precision)) * self.get_buffer("inverse").to(precision)

    @torch.no_grad()
    def potentials(self, monitor: Float[Tensor, "batch *space"], grid: Grid, box: Box) -> Potential:
        """The potentials of these monitors: an engine of `fieldwright.solvers.meshing.MeshMover`.

        Errors: `InputError` for another box than the network's.
        """
        if box != self.space.box:
            raise InputError(f"mesh network: made for the box {self.space.box}, called for {box}")
        found = self.coefficients(monitor.log(), grid).to(monitor)
        return Potential(self.space, found, monitor.new_full((len(monitor),), torch.nan), 0)
