"""Branches: networks that read fields on a grid of any size into a short vector, the latent β.

Each first reads the field by a fixed linear map, axis by axis, into an array whose size does not depend on the grid,

    sensors    s_j = a at point j of a fixed grid, by interpolation, or its mean over cell j where the grid has cells,
    modes      s_k = (1/|Ω|) ∫ a(x) Π_i e_{k_i}(x_i) dx,    e = 1, √2 cos(πx/L), √2 cos(2πx/L), ... on an axis with
               walls, and 1, √2 cos(2πx/L), √2 sin(2πx/L), √2 cos(4πx/L), ... on a periodic one,

by the quadrature of the grid. So one operator serves all grids, with an error that falls as the grid is refined.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.convolution import Convolution
from fieldwright.operators.domain import Domain
from fieldwright.operators.inputs import check_counts
from fieldwright.operators.walls import Walls, channels_innermost

BranchKind = Literal["mlp", "convolution", "fourier"]
COARSEST = 4


class Encoder(nn.Module):
    """β = tanh( M₃ σ( M₂ σ( M₁ s ))), with σ = SiLU and biases, of an array s read from the fields.

    ``kind``   "mlp": s are the sensors; "fourier": the modes; "convolution": the sensors after strided convolutions
               with SiLU, which halve their grid until no axis has more than 4 points
    ``size``   sensors, or modes, per axis
    ``width``  hidden width; a convolution has a quarter of it as channels

    Errors: `InputError` for an unknown kind or a size that is not one positive integer per axis.
    """

    def __init__(
        self, kind: str, in_channels: int, latent: int, domain: Domain, *, size: int | Sequence[int], width: int
    ) -> None:
        super().__init__()
        if kind not in get_args(BranchKind):
            raise InputError(f"branch: '{kind}'; allowed are {', '.join(get_args(BranchKind))}")
        name = "modes" if kind == "fourier" else "sensors"
        self.size = (size,) * domain.dimension if isinstance(size, int) else tuple(size)
        if len(self.size) != domain.dimension:
            raise InputError(f"{name}: {size}; expected an integer, or one for each of the {domain.dimension} axes")
        check_counts(**dict.fromkeys((name,), min(self.size)), latent=latent, branch_width=width)
        if kind != "fourier" and domain.centring == "node" and min(self.size) < 2:
            raise InputError(f"sensors: {size}; a grid with walls on its points needs at least 2 per axis")
        self.fourier, self.domain = kind == "fourier", domain
        shape, channels = self.size, in_channels
        self.halvings = nn.ModuleList()
        while kind == "convolution" and max(shape) > COARSEST:
            outer = max(1, width // 4)
            self.halvings.append(_Halving(channels, outer, domain))
            shape, channels = tuple(math.ceil(n / 2) for n in shape), outer
        sizes = [channels * math.prod(shape), width, width, latent]
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch latent"]:
        s = self.read(inputs)
        if self.halvings:
            s = channels_innermost(s)
            for halving in self.halvings:
                s = nn.functional.silu(halving(s))
        s = s.flatten(1)
        first, second, last = self.maps
        return last(nn.functional.silu(second(nn.functional.silu(first(s))))).tanh()

    def read(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *size"]:
        """The sensors or modes of fields on a grid of any size."""
        for axis, (n, m) in enumerate(zip(inputs.shape[2:], self.size, strict=True)):
            if not self.fourier and n == m:
                continue
            matrix = _reading(n, m, self.domain, axis, inputs, fourier=self.fourier)
            inputs = (inputs.movedim(axis + 2, -1) @ matrix).movedim(-1, axis + 2)
        return inputs


class _Halving(nn.Module):
    def __init__(self, inner: int, outer: int, domain: Domain) -> None:
        super().__init__()
        walls = Walls.of(domain.boundary, centring=domain.centring)  # type: ignore[arg-type]
        self.convolution = Convolution(inner, outer, walls, stride=2)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, s: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *coarse"]:
        out = self.convolution(s)
        return out + self.bias.to(out.dtype).view(-1, *(1,) * (s.ndim - 2))


def _reading(points: int, size: int, domain: Domain, axis: int, like: Tensor, *, fourier: bool) -> Tensor:
    # The (points, size) matrix that reads one axis. A compiled graph builds it, because its grid may be a symbol.
    build = _built if torch.compiler.is_compiling() else _kept
    return build(points, size, domain.centring, domain.boundary.periodic[axis], fourier, like.dtype, like.device)


def _built(
    points: int, size: int, centring: str, wraps: bool, fourier: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # what is kept must serve training too
        matrix = _modes(points, size, centring, wraps) if fourier else _sensors(points, size, centring)
        return matrix.to(device, dtype)


_kept = lru_cache(maxsize=64)(_built)


def _sensors(points: int, size: int, centring: str) -> Float[Tensor, "point sensor"]:
    i, j = torch.arange(points).double()[:, None], torch.arange(size).double()
    if centring == "cell":
        # |cell i ∩ cell j| / |cell j|: means over cells, because an input with jumps must not ring.
        shared = torch.minimum((i + 1) / points, (j + 1) / size) - torch.maximum(i / points, j / size)
        return shared.clamp_min(0) * size
    # The hat function of each point, at the sensors.
    if centring == "node":
        return (1 - (j * (points - 1) / (size - 1) - i).abs()).clamp_min(0)
    away = (j * points / size - i).abs()
    return (1 - away).clamp_min(0) + (1 - (points - away)).clamp_min(0)


def _modes(points: int, size: int, centring: str, wraps: bool) -> Float[Tensor, "point mode"]:
    i, k = torch.arange(points).double()[:, None], torch.arange(size)
    x = {"cell": (i + 0.5) / points, "node": i / max(points - 1, 1), "periodic": i / points}[centring]
    weights = torch.full_like(x, 1 / points)
    if centring == "node":
        # The trapezoidal rule: half a weight at the walls.
        weights = torch.where((i == 0) | (i == points - 1), 0.5, 1.0) / max(points - 1, 1)
    wave = (k + 1) // 2 if wraps else k
    turns = 2 * wave if wraps else wave
    quarter = ((k % 2 == 0) & (k > 0)).double() / 2 if wraps else 0.0
    scale = torch.where(k > 0, math.sqrt(2), 1.0)
    # A wave that the grid cannot tell from a slower one is left out: its place stays zero.
    resolved = wave <= points // 2 if wraps else wave <= points - 1
    return scale * resolved * torch.cos(math.pi * (turns * x - quarter)) * weights
