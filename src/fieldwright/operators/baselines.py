"""Plain convolutional networks to compare with: a residual network and a U-Net.

    C v = W * v + b                                          3 points per axis, walls held by ghost layers
    R v = v + C σ(N C σ(N v))                                a residual block, N normalising groups of channels
    ResNet    u = Q σ(N R ... R C x)
    U-Net     d_0 = R C x,   d_l = R D d_{l-1},              D: the convolution of stride 2 that doubles the channels
              u_L = d_L,     u_l = R M [d_l, P u_{l+1}],     P: transposed convolution to the grid of d_l, M mixes
              u = Q σ(N u_0)

No grid is padded to fit: a grid of n points has a coarse one of ⌈n/2⌉, and the way back cuts off the point too many,
see `fieldwright.operators.convolution`. Beyond a wall the fields are continued as the boundary condition says: wrapped
around on a periodic axis, mirrored at a Neumann wall, zero at a Dirichlet wall.

Sources: He et al., "Identity mappings in deep residual networks", ECCV 2016, figure 4e; Ronneberger et al., "U-Net",
MICCAI 2015; Wu and He, "Group normalization", ECCV 2018.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.activations import Activation
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.channels import ChannelMixing
from fieldwright.operators.convolution import Convolution, Prolongation
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.store import StoredOperator
from fieldwright.operators.walls import Walls, channels_innermost

GROUPS = 8


class ResNet(nn.Module, StoredOperator):
    """Residual network in 1D, 2D or 3D: fields in, fields out, on grids of any size.

    ``in_channels``, ``out_channels``  fields in and out
    ``width``       channels of a hidden layer (24)
    ``blocks``      residual blocks (8). The output at a point depends on inputs up to 2 blocks + 1 points away, and
                    on the rest of the grid by the normalisation alone
    ``normalise``   normalise groups of about 8 channels, over the grid, before every activation
    ``dimension``   1, 2 or 3
    ``boundary``    a word for all sides or a [low, high] pair of words per axis, of "dirichlet", "neumann", "periodic"
    ``centring``    "cell", "node" or "periodic": where walls lie
    ``activation``  by name (gelu)
    ``recompute``   save memory in training: compute the inner values of blocks again in the backward pass
    ``members``     operators that this one is merged from (1): channels of each are normalised apart

    The weights are stencils in grid units, so it is ``grid_bound``: a surrogate brings its inputs to the trained grid.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    grid_bound = True
    channel_settings = ("width", "members")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 24,
        blocks: int = 8,
        normalise: bool = True,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "gelu",
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, blocks=blocks)
        _check_members(width, members)
        norms = members if normalise else 0
        self.in_channels, self.dimension = in_channels, dimension
        walls, sigma = _walls(dimension, boundary, centring), activation_by_name(activation)
        self.lift = _Biased(in_channels, width, walls)
        self.blocks = nn.ModuleList(
            _Block(width, walls, sigma, norms=norms, recompute=recompute) for _ in range(blocks)
        )
        self.project = _Projection(width, out_channels, sigma, norms=norms)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        v = self.lift(channels_innermost(inputs))
        for block in self.blocks:
            v = block(v)
        return self.project(v).to(inputs.dtype)


class UNet(nn.Module, StoredOperator):
    """U-Net in 1D, 2D or 3D: fields in, fields out, on grids of any size.

    ``in_channels``, ``out_channels``  fields in and out
    ``width``       channels on the finest grid (16); every coarser grid has twice those of the grid before
    ``levels``      grids (4); of n points per axis the coarsest has n / 2^(levels - 1), rounded up
    ``blocks``      residual blocks on each grid, on the way down and on the way up (1)
    ``normalise``   normalise groups of about 8 channels, over the grid, before every activation
    ``dimension``   1, 2 or 3
    ``boundary``    a word for all sides or a [low, high] pair of words per axis, of "dirichlet", "neumann", "periodic"
    ``centring``    "cell", "node" or "periodic": where walls lie
    ``activation``  by name (gelu)
    ``recompute``   save memory in training: compute the inner values of blocks again in the backward pass
    ``members``     operators that this one is merged from (1): channels of each are normalised apart

    The weights are stencils in grid units, so it is ``grid_bound``: a surrogate brings its inputs to the trained grid.

    Errors: `InputError` for an argument or input that cannot be used, also for a grid that has fewer points along an
    axis than 2^(levels - 1): its coarsest grids would all be one point.

    Source: Ronneberger et al., "U-Net: Convolutional networks for biomedical image segmentation", MICCAI 2015.
    """

    grid_bound = True
    channel_settings = ("width", "members")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 16,
        levels: int = 4,
        blocks: int = 1,
        normalise: bool = True,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "gelu",
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, levels=levels, blocks=blocks)
        _check_members(width, members)
        norms = members if normalise else 0
        self.in_channels, self.dimension = in_channels, dimension
        walls, sigma = _walls(dimension, boundary, centring), activation_by_name(activation)
        widths = [width * 2**level for level in range(levels)]

        def stack(channels: int) -> nn.Sequential:
            return nn.Sequential(
                *(_Block(channels, walls, sigma, norms=norms, recompute=recompute) for _ in range(blocks))
            )

        self.enter = nn.ModuleList(
            _Biased(in_channels if level == 0 else widths[level - 1], w, walls, stride=1 if level == 0 else 2)
            for level, w in enumerate(widths)
        )
        self.down = nn.ModuleList(stack(w) for w in widths)
        self.prolong = nn.ModuleList(Prolongation(w, walls) for w in widths[1:])
        self.merge = nn.ModuleList(ChannelMixing(3 * w, w) for w in widths[:-1])
        self.up = nn.ModuleList(stack(w) for w in widths[:-1])
        self.project = _Projection(width, out_channels, sigma, norms=norms)

    def channel_parts(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The channels that M reads: those of d_l, then those of P u_{l+1}."""
        widths = [int(mix.bias.numel()) for mix in self.merge]  # type: ignore[union-attr]
        return {(f"merge.{level}.weight", 1): (width, 2 * width) for level, width in enumerate(widths)}

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        least = 2 ** (len(self.down) - 1)
        if min(inputs.shape[2:]) < least:
            raise InputError(
                f"inputs on a grid of {tuple(inputs.shape[2:])}; {len(self.down)} levels need {least} points per axis,"
                " fewer levels need less"
            )
        v, seen = channels_innermost(inputs), []
        for enter, down in zip(self.enter, self.down, strict=True):
            v = down(enter(v))
            seen.append(v)
        for level in reversed(range(len(self.up))):
            finer = seen[level]
            v = torch.cat((finer, self.prolong[level](v, tuple(finer.shape[2:]))), 1)
            v = self.up[level](channels_innermost(self.merge[level](v)))
        return self.project(v).to(inputs.dtype)


class _Biased(nn.Module):
    # C of the equations.
    def __init__(self, inner: int, outer: int, walls: Walls, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = Convolution(inner, outer, walls, stride=stride)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, v: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *coarse"]:
        out = self.convolution(v)
        return out + self.bias.to(out.dtype).view(-1, *(1,) * (v.ndim - 2))


class _Block(nn.Module):
    # R of the equations.
    def __init__(self, width: int, walls: Walls, sigma: Activation, *, norms: int, recompute: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_norm(width, norms) for _ in range(2))
        self.maps = nn.ModuleList(_Biased(width, width, walls) for _ in range(2))
        self.activation, self.recompute = sigma, recompute

    def forward(self, v: Float[Tensor, "batch width *space"]) -> Float[Tensor, "batch width *space"]:
        if self.recompute and torch.is_grad_enabled():
            return v + checkpoint(self._step, v, use_reentrant=False)  # type: ignore[operator]
        return v + self._step(v)

    def _step(self, v: Float[Tensor, "batch width *space"]) -> Float[Tensor, "batch width *space"]:
        for norm, conv in zip(self.norms, self.maps, strict=True):
            v = conv(self.activation(norm(v)))
        return v


class _Projection(nn.Module):
    # Q σ(N v). In full precision: bfloat16 would round each point of the output on its own.
    def __init__(self, width: int, outer: int, sigma: Activation, *, norms: int) -> None:
        super().__init__()
        self.norm, self.mix, self.activation = _norm(width, norms), ChannelMixing(width, outer), sigma

    def forward(self, v: Float[Tensor, "batch width *space"]) -> Float[Tensor, "batch outer *space"]:
        with torch.autocast(v.device.type, enabled=False):
            v = v.to(self.mix.weight.dtype).contiguous()
            return self.mix(self.activation(self.norm(v)))


def _norm(width: int, members: int) -> nn.Module:
    # Of so many equal shares of the channels, each by itself; of none: no norm.
    if not members:
        return nn.Identity()
    own = width // members
    return nn.GroupNorm(members * math.gcd(own, max(1, own // GROUPS)), width)


def _check_members(width: int, members: int) -> None:
    check_counts(members=members)
    if width % members:
        raise InputError(f"members: {members}; it must divide the width {width}")


def _walls(dimension: int, boundary: str | Sequence[str | Sequence[str]], centring: str) -> Walls:
    if dimension not in (1, 2, 3):
        raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
    if centring not in CENTRINGS:
        raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
    return Walls.of(Boundary.parse(boundary, dimension), centring=centring)  # type: ignore[arg-type]
