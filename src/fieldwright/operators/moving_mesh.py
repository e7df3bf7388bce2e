"""The moving-mesh operator: one branch on the grid, one on a mesh that follows the input, and a gate between them.

    y   = ξ + s ∇φ(ξ),  m(y) det(I + ∇∇φ) = θ,  m the monitor of the input u       nodes Y that follow u
    v   = T₁ u (y),     w = B(v, y - ξ, log det J)                                   moving branch, on the grid of ξ
    out = A(u) + g ⊙ T₂ w                                                           fixed branch, gate g per channel

T₁ and T₂ interpolate with learned weights that keep linear fields (`learned_transfer`). A moved mesh keeps the
connections of its grid, so B is a network on that grid which is told the metric: the same network as A, with exact
walls and no search for neighbours, where message passing on the moved nodes would have to learn the grid's stencils.

Source: Hu, Wang, Ma, "Better neural PDE solvers through data-free mesh movers", ICLR 2024 (MM-PDE). There the branches
are message-passing networks on the 35 nearest neighbours, weights of interpolation are free, and nothing says what the
moving branch contributes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary, Grid
from fieldwright.operators.baselines import ResNet, UNet
from fieldwright.operators.fourier import FourierOperator
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.learned_transfer import LearnedTransfer
from fieldwright.operators.moved_nodes import MovedNodes, moved_nodes
from fieldwright.operators.store import StoredOperator
from fieldwright.solvers.meshing import Box, MeshMover, Monitor, Relaxation

BRANCHES: dict[str, type[nn.Module]] = {"unet": UNet, "resnet": ResNet, "fourier": FourierOperator}
MESHES = ("moving", "uniform")


class MovingMeshOperator(nn.Module, StoredOperator):
    """Two branches in 1D, 2D or 3D: fields in, fields out, on grids of any size that both branches take.

    ``in_channels``, ``out_channels``  fields in and out
    ``branch``      the network of both branches: "fourier" (default), "unet" or "resnet"
    ``width``       its channels (16)
    ``mesh``        "moving", or "uniform": the same network and weights with the nodes left where they are, the
                    baseline that says whether moving them pays
    ``steps``       relaxation steps of the mover (10); on a line the mesh is exact
    ``modes``       functions of its potential along each axis (16)
    ``strength``, ``smoothing``  of the monitor: how strongly nodes gather, and how smoothly
    ``motion``      distance that fronts move between input and output: the monitor is widened by it
    ``dimension``   1, 2 or 3
    ``boundary``    a word for all sides or a [low, high] pair of words per axis, of "dirichlet", "neumann", "periodic"
    ``centring``    "cell", "node" or "periodic": where the points of the fields lie
    ``lower``, ``upper``  the box (the unit box): the mesh is made in its units
    ``recompute``   save memory in training: compute the inner values of the branches again in the backward pass

    The mesh follows the input and is not differentiated. A constant input has the uniform mesh. Good values to start
    from are the defaults, with a learning rate of 2e-3.

    Errors: `InputError` for an argument or input that cannot be used, fewer than three points per axis, NaN.
    """

    grid_bound = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        branch: str = "fourier",
        width: int = 16,
        mesh: str = "moving",
        steps: int = 10,
        modes: int = 16,
        strength: float = 2.0,
        smoothing: float = 0.02,
        motion: float = 0.0,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width)
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        for name, value, known in (
            ("branch", branch, BRANCHES),
            ("mesh", mesh, MESHES),
            ("centring", centring, CENTRINGS),
        ):
            if value not in known:
                raise InputError(f"{name}: '{value}'; allowed are {', '.join(known)}")
        self.walls = Boundary.parse(boundary, dimension)
        low = (0.0,) * dimension if lower is None else tuple(float(v) for v in lower)
        high = (1.0,) * dimension if upper is None else tuple(float(v) for v in upper)
        self.box = Box(low, high, self.walls.periodic)
        self.in_channels, self.dimension, self.centring = in_channels, dimension, centring
        self.mesh, self.recompute = mesh, recompute
        self.monitor = Monitor(strength=strength, smoothing=smoothing, motion=motion)
        self.relaxation = Relaxation(steps=steps, modes=modes)
        network, sides = BRANCHES[branch], self.walls.to_list()
        self.fixed = network(
            in_channels, out_channels, width=width, dimension=dimension, boundary=sides, centring=centring
        )
        self.moving = network(
            in_channels + dimension + 1, out_channels, width=width, dimension=dimension, boundary=sides, centring="node"
        )
        self.there, self.back = LearnedTransfer(dimension), LearnedTransfer(dimension)
        self.moving_gate = nn.Parameter(torch.ones(out_channels))

    @property
    def gate(self) -> Float[Tensor, " output"]:
        """g: what the moving branch is multiplied by in each output channel; 0 is nothing."""
        return self.moving_gate.detach().clone()

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        fixed, moving = self._parts(inputs)
        return (fixed + moving.to(fixed.dtype)).to(inputs.dtype)

    @torch.no_grad()
    def contribution(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, " batch"]:
        """‖g T₂ w‖ / (‖A(u)‖ + ‖g T₂ w‖) of each sample: the share of the output that the moving branch makes."""
        fixed, moving = (part.flatten(1).norm(dim=1) for part in self._parts(inputs))
        return moving / (fixed + moving).clamp_min(torch.finfo(moving.dtype).tiny)

    def nodes(self, inputs: Float[Tensor, "batch channel *space"]) -> MovedNodes:
        """The mesh that follows these inputs."""
        grid = self._grid(inputs)
        mover = MeshMover(grid, self.walls, self.monitor, self.relaxation, nodes=grid.shape)
        return moved_nodes(mover, inputs.detach(), still=self.mesh == "uniform")

    def _grid(self, inputs: Tensor) -> Grid:
        return Grid(tuple(inputs.shape[2:]), self.centring, self.box.lower, self.box.upper)  # type: ignore[arg-type]

    def _parts(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(A(u), g T₂ w)."""
        grid = self._grid(inputs)
        # Geometry has no use for bfloat16, whose steps are as wide as the cells.
        with torch.autocast(inputs.device.type, enabled=False):
            fields = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
            mesh = self.nodes(fields)
            x, y = grid.coordinates().to(fields), mesh.nodes
            shift = 0.5 if self.centring == "cell" else 0.0
            places = (y - _column(grid.lower, y)) / _column(grid.spacing, y) - shift
            v = self.there(fields, x[None], places, y, self.box.lengths, self.box.periodic)
        w = self._run(self.moving, torch.cat((v, mesh.metric), 1).to(inputs.dtype))
        fixed = self._run(self.fixed, inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            w = self.back(w, y, mesh.inverse, x[None].expand(len(y), *x.shape), self.box.lengths, self.box.periodic)
            moving = w * self.moving_gate.to(w.dtype).reshape(-1, *[1] * self.dimension)
        return fixed, moving

    def _run(self, network: nn.Module, fields: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(network, fields, use_reentrant=False)  # type: ignore[return-value]
        return network(fields)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values).reshape(-1, *[1] * (like.ndim - 2))
