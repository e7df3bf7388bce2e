"""The multigrid neural operator (MgNO): layers of learned V-cycles.

    v₀ = x,      v_l = σ( W_l v_{l-1} + K_l v_{l-1} + b_l ),  l = 1..L,      y = Q v_L

W_l is a linear V-cycle (`fieldwright.operators.vcycle.VCycle`), K_l a pointwise mixing of the channels with bias b_l,
and Q one without.

Source: He, Liu, Xu, "MgNO: Efficient Parameterization of Linear Operators via Multigrid", ICLR 2024, equation 5.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.convolution import CONVOLVE
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.store import StoredOperator
from fieldwright.operators.vcycle import VCycle
from fieldwright.operators.walls import Walls, channels_innermost


class MultigridOperator(nn.Module, StoredOperator):
    """MgNO in 1D, 2D or 3D: fields in, fields out, on grids of any size.

    ``in_channels``, ``out_channels``  fields in and out
    ``width``              channels of a hidden layer (24)
    ``layers``             layers L (4)
    ``levels``             grids of a V-cycle (6); the coarsest should have a few points per axis
    ``smoothing``          [pre, post] smoothing steps per level, finest first; default [1, 0], on the coarsest [2, 0]
    ``dimension``          1, 2 or 3
    ``boundary``           condition of the outputs: a word for all sides or a [low, high] pair of words per axis, of
                           "dirichlet", "neumann", "periodic". It holds in every convolution and prolongation
    ``centring``           "cell", "node" or "periodic": where walls lie, see `fieldwright.operators.walls`
    ``dirichlet_rule``     "zero" as published, or "odd": antisymmetric continuation
    ``restriction_size``   3 as published, or 4: symmetric under reflections of a cell-centred grid
    ``restrict_residual``  the V-cycle of the paper instead of the one of its code
    ``vanish_at_walls``    multiply the output by the distance to the Dirichlet walls, so that it is exactly zero there;
                           for outputs that are normalised by a scale and not shifted
    ``activation``         "gelu", "relu", "silu", "tanh" or "identity"
    ``members``            operators that this one is merged from (1): the inputs enter so many times, because the first
                           V-cycle corrects its own copy of them
    ``blended``            v_l = v_{l-1} + γ_l (layer_l(v_{l-1}) - v_{l-1}) for l > 1, with a learned γ_l that
                           starts at 1; layers that growth adds start at 0

    The weights are stencils in grid units: on another resolution than the trained one the operator runs, but is another
    operator (13 % apart between 64² and 128², untrained). So it is ``grid_bound``: a surrogate brings its inputs to the
    trained grid. Good values to start from are the defaults, with a learning
    rate of 1e-3 and the gradient's norm clipped at 1: there is no normalisation inside.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    grid_bound = True
    channel_settings = ("width", "members")
    # Under autocast a training step takes 0.7 of the float32 time where the CPU multiplies bfloat16.
    bfloat16_pays = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 24,
        layers: int = 4,
        levels: int = 6,
        smoothing: Sequence[Sequence[int]] | None = None,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        dirichlet_rule: str = "zero",
        restriction_size: int = 3,
        restrict_residual: bool = False,
        vanish_at_walls: bool = False,
        activation: str = "gelu",
        members: int = 1,
        blended: bool = False,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, layers=layers, levels=levels)
        check_counts(members=members)
        if dimension not in CONVOLVE:
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        steps = smoothing if smoothing is not None else [(1, 0)] * (levels - 1) + [(2, 0)]
        if len(steps) != levels or any(len(pair) != 2 for pair in steps):
            raise InputError(f"smoothing: {smoothing}; expected a [pre, post] pair for each of the {levels} levels")
        self.in_channels, self.dimension, self.members = in_channels, dimension, members
        self.boundary = Boundary.parse(boundary, dimension)
        self.on_points, self.vanish_at_walls = centring == "node", vanish_at_walls
        self.activation = activation_by_name(activation)
        walls = Walls.of(self.boundary, centring=centring, dirichlet=dirichlet_rule)  # type: ignore[arg-type]
        channels = [members * in_channels] + [width] * layers
        self.cycles = nn.ModuleList(
            VCycle(
                a,
                b,
                walls,
                [(pre, post) for pre, post in steps],
                restriction_size=restriction_size,
                restrict_residual=restrict_residual,
            )
            for a, b in itertools.pairwise(channels)
        )
        mix = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimension - 1]
        self.mixing = nn.ModuleList(mix(a, b, 1) for a, b in itertools.pairwise(channels))
        self.blend = nn.Parameter(torch.ones(layers - 1)) if blended else None
        self.head = nn.Linear(width, out_channels, bias=False)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        v = channels_innermost(torch.cat((inputs,) * self.members, 1) if self.members > 1 else inputs)
        for layer, (cycle, mixing) in enumerate(zip(self.cycles, self.mixing, strict=True)):
            y = self.activation(mixing(v).add_(cycle(v)))
            v = (
                y
                if self.blend is None or layer == 0
                else torch.lerp(v.to(y.dtype), y, self.blend[layer - 1].to(y.dtype))
            )
        # A matrix product on the channels-innermost storage: a convolution to one channel would hand its gradient back
        # with channels first, and every step before it would pay for copies. Never in bfloat16: rounding each point of
        # the output to 8 bits on its own is noise of the grid's wavelength, which the H1 norm sees most.
        with torch.autocast(v.device.type, enabled=False):
            outputs = self.head(v.movedim(1, -1).to(self.head.weight.dtype))
        outputs = outputs.movedim(-1, 1).to(inputs.dtype).contiguous()
        return outputs * self._distance(outputs) if self.vanish_at_walls else outputs

    def _distance(self, outputs: Float[Tensor, "batch output *space"]) -> Float[Tensor, " *space"]:
        # The product of the distances to the Dirichlet walls, scaled to 1 at the far or middle point of each axis.
        distance = outputs.new_ones(())
        for (low, high), n in zip(self.boundary.sides, outputs.shape[2:], strict=True):
            points = torch.arange(n, device=outputs.device, dtype=outputs.dtype)
            x = points / max(n - 1, 1) if self.on_points else (points + 0.5) / n
            line = torch.ones_like(x)
            if low == "dirichlet":
                line = line * x
            if high == "dirichlet":
                line = line * (1 - x)
            if low == high == "dirichlet":
                line = line * 4
            distance = distance[..., None] * line
        return distance
