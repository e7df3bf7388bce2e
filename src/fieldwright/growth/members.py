"""How the channels of several members lie in one wider network.

A tensor of M members of equal shape becomes a tensor of the wider network, axis by axis:

    input and output channels grow   W = [[W_00, W_01, ..], [W_10, W_11, ..], ..],  members on the diagonal
    output channels alone            W = [W_0; W_1; ..]                             the first layer, biases, norms
    input channels alone             W = [W_0, W_1, ..]                             the last layer: a sum over members

Which axis holds which channels is a property of the kind of layer, `LAYERS`; which of them grow shows when the shapes
of member and target are compared. Where a layer reads channels that several fields were joined from (the skips of a
U-Net), the members take turns within each part.

Source: Pham et al., "MixtureGrowth", WACV 2024, section 3 (the layout of two members).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.branch_trunk import BranchTrunk
from fieldwright.operators.channels import ChannelMixing
from fieldwright.operators.convolution import Convolution, Prolongation
from fieldwright.operators.spectral import SpectralConvolution

LAYERS: dict[type[nn.Module], tuple[int, int]] = {
    nn.Linear: (0, 1),
    nn.Conv1d: (0, 1),
    nn.Conv2d: (0, 1),
    nn.Conv3d: (0, 1),
    nn.ConvTranspose1d: (1, 0),
    nn.ConvTranspose2d: (1, 0),
    nn.ConvTranspose3d: (1, 0),
    ChannelMixing: (0, 1),
    Convolution: (0, 1),
    Prolongation: (1, 0),
    SpectralConvolution: (-1, -3),  # modes, in, (real, imaginary), out
}
"""The axes of output and input channels of the tensor ``weight``, by kind of layer."""


@runtime_checkable
class Joining(Protocol):
    """A module with weights that meet channels joined from several fields."""

    def channel_parts(self) -> Mapping[tuple[str, int], Sequence[int]]:
        """The sizes of the parts, by name of the weight and axis."""
        ...


@dataclass(frozen=True)
class BlockLayout:
    """Where ``members`` tensors of one shape go in a tensor of the wider network.

    ``outer``, ``inner``              axes of output and input channels that grow, not negative; None: does not grow
    ``outer_parts``, ``inner_parts``  sizes of the parts that such an axis of a member is joined from; (): one part
    """

    members: int
    outer: int | None = None
    inner: int | None = None
    outer_parts: tuple[int, ...] = ()
    inner_parts: tuple[int, ...] = ()

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of blocks: (M, M), (M,), or () of a tensor that does not grow."""
        return (self.members,) * ((self.outer is not None) + (self.inner is not None))

    @property
    def sums(self) -> bool:
        """Whether the layer sums over members: input channels grow and output channels do not."""
        return self.inner is not None and self.outer is None

    def assemble(self, blocks: Tensor) -> Tensor:
        """(*grid, *shape of a member) -> the wider tensor."""
        axes = [axis for axis in (self.outer, self.inner) if axis is not None]
        for place in reversed(range(len(axes))):
            # The axis of blocks goes in front of the axis of channels that it lengthens.
            at = place + axes[place]
            blocks = blocks.movedim(place, at).flatten(at, at + 1)
        for axis, parts in ((self.outer, self.outer_parts), (self.inner, self.inner_parts)):
            if axis is not None and len(parts) > 1 and self.members > 1:
                blocks = blocks.index_select(axis, self._turns(parts).to(blocks.device))
        return blocks

    def diagonal(self, tensors: Sequence[Tensor], fill: float = 0.0) -> Tensor:
        """The wider tensor with the members' on the diagonal, and ``fill`` between them."""
        stacked = torch.stack(list(tensors))
        if len(self.grid) < 2:
            return self.assemble(stacked)
        blocks = stacked.new_full((self.members, *stacked.shape), fill)
        rows = torch.arange(self.members)
        blocks[rows, rows] = stacked
        return self.assemble(blocks)

    def _turns(self, parts: Sequence[int]) -> Tensor:
        whole = torch.arange(self.members * sum(parts)).reshape(self.members, -1)
        return torch.cat([part.flatten() for part in whole.split(list(parts), dim=1)])


def layouts(member: nn.Module, target: nn.Module, members: int) -> dict[str, BlockLayout]:
    """The layout of every tensor of the state, by name; parametrizations must have been removed from both.

    Errors: `InputError` for tensors that the one has and the other lacks, an axis that is neither as long as the
    member's nor ``members`` times as long, and axes that grow in a layer of a kind that is not in `LAYERS`.
    """
    theirs, ours = member.state_dict(), target.state_dict()
    for name in sorted(theirs.keys() ^ ours.keys()):
        raise InputError(f"merge: '{name}' is in {'the members' if name in theirs else 'the target'} only")
    parts = {
        (f"{prefix}{'.' if prefix else ''}{name}", axis): tuple(sizes)
        for prefix, module in member.named_modules()
        if isinstance(module, Joining)
        for (name, axis), sizes in module.channel_parts().items()
    }
    found = {}
    for name, tensor in theirs.items():
        shape, wide = tensor.shape, ours[name].shape
        grown = {axis for axis, (a, b) in enumerate(zip(shape, wide, strict=False)) if a != b}
        if len(shape) != len(wide) or any(wide[axis] != members * shape[axis] for axis in grown):
            raise InputError(
                f"merge: '{name}' has the shape {tuple(shape)} in {members} members and {tuple(wide)} in the target;"
                f" every axis of channels has to be {members} times as long"
            )
        outer, inner = _axes(member, name, len(shape), grown)
        found[name] = BlockLayout(
            members,
            outer,
            inner,
            () if outer is None else parts.get((name, outer), ()),
            () if inner is None else parts.get((name, inner), ()),
        )
    return found


def _axes(member: nn.Module, name: str, rank: int, grown: set[int]) -> tuple[int | None, int | None]:
    """The growing axes of output and input channels of a tensor."""
    owner, _, own = name.rpartition(".")
    module = member.get_submodule(owner)
    if isinstance(module, BranchTrunk) and own == "weights":
        return None, next(iter(grown), None)
    if own == "weight":
        for kind, axes in LAYERS.items():
            if isinstance(module, kind):
                outer, inner = (axis % rank for axis in axes)
                if grown <= {outer, inner}:
                    return (outer if outer in grown else None), (inner if inner in grown else None)
    if len(grown) > 1:
        raise InputError(f"merge: '{name}' of {type(module).__name__}: which of its axes are channels is not known")
    return next(iter(grown), None), None


def widened(module: nn.Module, members: int) -> nn.Module:
    """A module of the same make with ``members`` times the channels inside, its weights drawn afresh.

    An operator of ours is built from its settings, of which its class names those that count channels
    (``channel_settings``). Of any other module the layers of `LAYERS` and the norms are exchanged: all grow but for
    the inputs of the first and the outputs of the last, in the order in which the module registers them.

    Errors: `InputError` for an operator that does not say what to widen, a module without two layers, and norms over
    all channels.
    """
    settings = getattr(module, "_hub_mixin_config", None)
    if settings is not None:
        names = getattr(type(module), "channel_settings", ())
        if not names:
            raise InputError(f"merge: {type(module).__name__} does not say which of its settings count channels")
        wide = type(module)(**{k: v * members if k in names else v for k, v in settings.items()})
        return wide.to(next(module.parameters())).train(module.training)
    return _exchanged(module, members)


def _exchanged(module: nn.Module, members: int) -> nn.Module:
    wide = copy.deepcopy(module)
    layers = [name for name, layer in wide.named_modules() if isinstance(layer, (nn.Linear, *CONVOLUTIONS))]
    if len(layers) < 2:
        raise InputError(f"merge: {type(module).__name__} has {len(layers)} layers; two or more have channels between")
    for name, layer in list(wide.named_modules()):
        first, last = name == layers[0], name == layers[-1]
        replacement = _wider(layer, 1 if first else members, 1 if last else members, members)
        if replacement is not None:
            wide.set_submodule(name, replacement.to(next(module.parameters())))
    return wide.train(module.training)


CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def _wider(layer: nn.Module, inner: int, outer: int, members: int) -> nn.Module | None:
    if isinstance(layer, nn.Linear):
        return nn.Linear(inner * layer.in_features, outer * layer.out_features, bias=layer.bias is not None)
    if isinstance(layer, CONVOLUTIONS):
        transposed = {"output_padding": layer.output_padding} if layer.transposed else {}
        groups = layer.groups if layer.groups == 1 else math.gcd(inner, outer) * layer.groups
        return type(layer)(
            inner * layer.in_channels,
            outer * layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
            **transposed,  # type: ignore[arg-type]
        )
    if isinstance(layer, BATCH_NORMS):
        return type(layer)(
            members * layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
    if isinstance(layer, nn.GroupNorm):
        return nn.GroupNorm(members * layer.num_groups, members * layer.num_channels, layer.eps, layer.affine)
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        raise InputError(
            f"merge: {type(layer).__name__} takes its statistics over the channels of all members; use group norm with"
            " groups for each member, or give a target and verify='report' to accept what changes"
        )
    return None
