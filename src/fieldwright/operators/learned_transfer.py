"""Interpolation with learned weights that keep linear fields.

A point at the place t between the nodes of a patch, up to four per axis, takes

    u(x) = Σ_k w_k u(y_k),        w = hat(t) + N(t) + correction,

hat(t) being the multilinear weights of a uniform grid and N a small perceptron. The correction makes

    Σ_k w_k = 1,      Σ_k w_k y_k = x

whatever N says and wherever the nodes are: w_k += c_k (α + (y_k - ȳ)·β) with c a fixed bump, α = 1 - Σ w, and β from
the second moments S of the patch, S β = -(what is left of the first moment). So constants and linear fields go through
exactly, and only what lies beyond them is learnt.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fieldwright.operators.moved_nodes import small_inverse

PATCH = 4
HIDDEN = 16


class LearnedTransfer(nn.Module):
    """Values at nodes -> values at points, for any number of either."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dimension, HIDDEN), nn.Linear(HIDDEN, PATCH**dimension)
        with torch.no_grad():
            self.second.weight.mul_(0.1)
            self.second.bias.zero_()

    def forward(
        self,
        values: Float[Tensor, "batch channel *node"],
        nodes: Float[Tensor, "batch_or_1 axis *node"],
        places: Float[Tensor, "batch axis *where"],
        points: Float[Tensor, "batch_or_one axis *where"],
        lengths: Sequence[float],
        wraps: Sequence[bool],
    ) -> Float[Tensor, "batch channel *where"]:
        """``places`` are the points in units of the nodes' index, ``nodes`` and ``points`` are coordinates.

        ``lengths`` are those of the box, for the axes that wrap. All is computed in float32 at least.
        """
        index, offsets, t = patch(places.flatten(2), values.shape[2:], wraps)
        weights = self.weights(nodes, points.flatten(2), index, offsets, t, lengths, wraps)
        batch, channels = values.shape[:2]
        flat = values.to(weights.dtype).flatten(2)
        taken = flat.gather(2, index.reshape(batch, 1, -1).expand(-1, channels, -1))
        found = (taken.reshape(batch, channels, *index.shape[1:]) * weights[:, None]).sum(-1)
        return found.reshape(batch, channels, *places.shape[2:])

    def weights(
        self,
        nodes: Float[Tensor, "batch_or_1 axis *node"],
        points: Float[Tensor, "batch_or_one axis point"],
        index: Int[Tensor, "batch point corner"],
        offsets: Float[Tensor, "batch axis point corner"],
        t: Float[Tensor, "batch axis point"],
        lengths: Sequence[float],
        wraps: Sequence[bool],
    ) -> Float[Tensor, "batch point corner"]:
        """w of every point."""
        batch, d = t.shape[:2]
        hat = (1 - offsets.abs()).clamp_min(0).prod(1)
        learned = self.second(torch.tanh(self.first(t.movedim(1, 2).to(self.first.weight.dtype))))
        w = hat + learned[..., : hat.shape[2]].to(hat.dtype)
        corners = nodes.flatten(2).to(hat.dtype).expand(batch, -1, -1)
        corners = corners.gather(2, index.reshape(batch, 1, -1).expand(-1, d, -1)).reshape(offsets.shape)
        away = corners - points.to(hat.dtype)[..., None]
        for axis, (length, around) in enumerate(zip(lengths, wraps, strict=True)):
            if around:
                line = away[:, axis : axis + 1]
                line = line - (line / length).round() * length
                away = torch.cat((away[:, :axis], line, away[:, axis + 1 :]), 1)
        # In units of the patch along each axis: moments of order one in any unit.
        size = away.abs().amax(3, keepdim=True).clamp_min(torch.finfo(away.dtype).tiny)
        away = away / size
        bump = (1 - offsets.abs() / PATCH).clamp_min(0.1).prod(1)
        bump = bump / bump.sum(-1, keepdim=True)
        middle = (away * bump[:, None]).sum(-1)
        spread = away - middle[..., None]
        moments = torch.einsum("bipk,bjpk,bpk->bijp", spread, spread, bump)
        lacking = 1 - w.sum(-1)
        first = (w[:, None] * away).sum(-1) + lacking[:, None] * middle
        beta = -torch.einsum("bijp,bjp->bip", small_inverse(moments), first)
        return w + bump * (lacking[..., None] + torch.einsum("bipk,bip->bpk", spread, beta))


def patch(
    places: Float[Tensor, "batch axis point"], shape: Sequence[int], wraps: Sequence[bool]
) -> tuple[
    Int[Tensor, "batch point corner"], Float[Tensor, "batch axis point corner"], Float[Tensor, "batch axis point"]
]:
    """The nodes around each place: (flat index, index minus place along each axis, place from the first of them).

    A patch between walls stays on the grid; one on a periodic axis wraps around.
    """
    lines, offsets, starts = [], [], []
    for axis, (n, around) in enumerate(zip(shape, wraps, strict=True)):
        count = min(PATCH, n)
        first = places[:, axis].floor() - (count // 2 - 1)
        if not around:
            first = first.clamp(0, n - count)
        reach = first[..., None] + torch.arange(count, device=places.device, dtype=places.dtype)
        lines.append(reach.long() % n)
        offsets.append(reach - places[:, axis, :, None])
        starts.append(places[:, axis] - first)
    index, grids = None, []
    d = len(lines)
    for axis, line in enumerate(lines):
        spread = [1] * d
        spread[axis] = line.shape[-1]
        view = line.reshape(*line.shape[:2], *spread)
        index = view if index is None else index * shape[axis] + view
        grids.append(offsets[axis].reshape(*line.shape[:2], *spread))
    assert index is not None
    full = index.shape
    return index.flatten(2), torch.stack([g.expand(full).flatten(2) for g in grids], 1), torch.stack(starts, 1)
