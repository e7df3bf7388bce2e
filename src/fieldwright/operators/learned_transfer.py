"""Interpolation with a learned kernel that keeps linear fields.

A point takes its value from the nodes of a patch, up to four per axis, at offsets o_k of their index from its own:

    u(x) = Σ_k w_k u(y_k),      w_k = hat(o_k) + c(o_k) Σ_ij θ_ij f_i(o_k1) f_j(o_k2) + correction,

hat being multilinear interpolation, f the functions 1, cos and sin of π o / 2 and π o, and c a window that vanishes
where a patch ends, so that w is continuous in x. The correction makes

    Σ_k w_k = 1,      Σ_k w_k y_k = x

whatever θ is and wherever the nodes are: w_k += c_k (α + (y_k - ȳ)·β) with α = 1 - Σ w and β from the second moments
S of the patch, S β = -(what is left of the first moment). So constants and linear fields go through exactly, and only
what lies beyond them is learnt.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fieldwright.operators.moved_nodes import small_inverse

PATCH = 4
FUNCTIONS = 5


class LearnedTransfer(nn.Module):
    """Values at nodes -> values at points, for any number of either; ``kernel`` holds θ."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(0.05 * torch.randn((FUNCTIONS,) * dimension))

    def forward(
        self,
        values: Float[Tensor, "batch channel *node"],
        nodes: Float[Tensor, "batch_or_1 axis *node"],
        places: Float[Tensor, "batch axis *where"],
        points: Float[Tensor, "batch axis *where"],
        lengths: Sequence[float],
        wraps: Sequence[bool],
    ) -> Float[Tensor, "batch channel *where"]:
        """``places`` are the points in units of the nodes' index, ``nodes`` and ``points`` are coordinates.

        ``lengths`` are those of the box, for the axes that wrap. All is computed in the precision of the places.
        """
        index, offsets = patch(places.flatten(2), values.shape[2:], wraps)
        weights = self.weights(nodes, points.flatten(2), index, offsets, lengths, wraps)
        taken = at(values.to(weights.dtype), index)
        return (taken * weights[:, None]).sum(-1).reshape(*values.shape[:2], *places.shape[2:])

    def weights(
        self,
        nodes: Float[Tensor, "batch_or_1 axis *node"],
        points: Float[Tensor, "batch axis point"],
        index: Int[Tensor, "batch point corner"],
        offsets: Sequence[Float[Tensor, "batch point near"]],
        lengths: Sequence[float],
        wraps: Sequence[bool],
    ) -> Float[Tensor, "batch point corner"]:
        """w of every point."""
        window = product([(1 - o.abs() / (PATCH // 2)).clamp_min(0) for o in offsets])
        w = product([(1 - o.abs()).clamp_min(0) for o in offsets]) + window * self._learned(offsets)
        away = at(nodes.to(w.dtype).expand(len(points), -1, *nodes.shape[2:]), index) - points[..., None]
        lines = [
            line - (line / length).round() * length if around else line
            for line, length, around in zip(away.unbind(1), lengths, wraps, strict=True)
        ]
        # In units of the patch along each axis: moments of order one in any unit.
        away = torch.stack([line / line.abs().amax(2, keepdim=True).clamp_min(SMALL) for line in lines], 1)
        bump = window / window.sum(-1, keepdim=True)
        middle = (away * bump[:, None]).sum(-1)
        spread = away - middle[..., None]
        moments = torch.einsum("bipk,bjpk,bpk->bijp", spread, spread, bump)
        lacking = 1 - w.sum(-1)
        first = (w[:, None] * away).sum(-1) + lacking[:, None] * middle
        beta = -torch.einsum("bijp,bjp->bip", small_inverse(moments), first)
        return w + bump * (lacking[..., None] + torch.einsum("bipk,bip->bpk", spread, beta))

    def _learned(self, offsets: Sequence[Tensor]) -> Tensor:
        # Axis by axis: (batch, point, corners so far, function of this axis, functions of the axes to come).
        found = self.kernel.to(offsets[0].dtype).reshape(1, 1, 1, FUNCTIONS, -1)
        found = found.expand(*offsets[0].shape[:2], -1, -1, -1)
        for o in offsets:
            angle = math.pi / 2 * o
            waves = (torch.ones_like(o), angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin())
            found = torch.einsum("bpkfr,bplf->bpklr", found, torch.stack(waves, -1)).flatten(2, 3)
            if found.shape[3] > 1:
                found = found.unflatten(3, (FUNCTIONS, -1))
        return found[..., 0]


SMALL = 1e-30


def patch(
    places: Float[Tensor, "batch axis point"], shape: Sequence[int], wraps: Sequence[bool]
) -> tuple[Int[Tensor, "batch point corner"], list[Tensor]]:
    """The nodes around each place: their flat indices, and along each axis their index minus the place.

    A patch between walls stays on the grid; one on a periodic axis wraps around.
    """
    lines, offsets = [], []
    for axis, (n, around) in enumerate(zip(shape, wraps, strict=True)):
        count = min(PATCH, n)
        first = places[:, axis].floor() - (count // 2 - 1)
        if not around:
            first = first.clamp(0, n - count)
        reach = first[..., None] + torch.arange(count, device=places.device, dtype=places.dtype)
        lines.append(reach.long() % n)
        offsets.append(reach - places[:, axis, :, None])
    index = lines[0]
    for n, line in zip(shape[1:], lines[1:], strict=True):
        index = (index[..., None] * n + line[:, :, None]).flatten(2)
    return index, offsets


def product(lines: Sequence[Tensor]) -> Float[Tensor, "batch point corner"]:
    """The products of one factor per axis, for every corner of the patches."""
    total = lines[0]
    for line in lines[1:]:
        total = (total[..., None] * line[:, :, None]).flatten(2)
    return total


def at(
    values: Float[Tensor, "batch channel *node"], index: Int[Tensor, "batch point corner"]
) -> Float[Tensor, "batch channel point corner"]:
    """The values at nodes by their flat indices."""
    batch, channels = values.shape[:2]
    taken = values.flatten(2).gather(2, index.reshape(batch, 1, -1).expand(-1, channels, -1))
    return taken.reshape(batch, channels, *index.shape[1:])
