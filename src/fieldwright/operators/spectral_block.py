"""The neural spectral block: attention to a few latent tokens per patch, a trigonometric series on them, and back.

Every patch of L points, features X in R^{L x C}, goes through the block alone. With M tokens, h heads and N bases:

    encode   T = T₀ + softmax(T₀ (X W_k)ᵀ) X W_v                           T₀ in R^{M x C} learned
    solve    T <- T + b₀ + Σ_{i=1}^{N-1} a_i sin(πi T / N) + b_i cos(πi T / N)         a_i, b_i in R^C, per channel
    decode   X <- X + softmax((X W_q + c_q) Tᵀ) T

per head, without 1/√(C/h). W_v has a bias and W_k none: the bias of a key moves all scores of a token alike. The sine
of i = 0 vanishes and has no coefficient.

Source: Wu, Hu, Luo, Wang, Long, "Solving High-Dimensional PDEs with Latent Spectral Models", ICML 2023, section 3.2;
the frequencies i/N are those of its released models.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class SpectralBlock(nn.Module):
    """The block on fields of ``channels``, cut into patches of ``patch`` points per axis.

    ``tokens``  latent tokens M of a patch
    ``bases``   bases N of the series, i = 0..N-1
    ``heads``   heads h; they divide ``channels``

    Of an axis that the patch does not divide, the last patch is filled up with points that no token attends to and that
    are cut off again: it acts exactly as the smaller patch of its own points. Tokens and coefficients start uniform in
    [0, 1/C), as published.
    """

    def __init__(self, channels: int, patch: Sequence[int], *, tokens: int, bases: int, heads: int) -> None:
        super().__init__()
        self.patch, self.heads = tuple(patch), heads
        self.latent = nn.Parameter(torch.rand(tokens, channels) / channels)
        self.sines = nn.Parameter(torch.rand(bases - 1, channels) / channels)
        self.cosines = nn.Parameter(torch.rand(bases, channels) / channels)
        self.keys = nn.Linear(channels, channels, bias=False)
        self.values = nn.Linear(channels, channels)
        self.queries = nn.Linear(channels, channels)

    def forward(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        space = tuple(v.shape[2:])
        patch = tuple(min(p, n) for p, n in zip(self.patch, space, strict=True))
        x = to_patches(v.movedim(1, -1), patch)
        x = self.decode(x, self.solve(self.encode(x, ghosts(space, patch, v.device))))
        return from_patches(x, space, patch).movedim(-1, 1)

    def encode(
        self, x: Float[Tensor, "patch point channel"], absent: Tensor | None = None
    ) -> Float[Tensor, "patch token channel"]:
        """Tokens of each patch; ``absent`` marks the points of a sample's patches that are none.

        Scores of all heads are one product with W_kᵀ T₀, which is the same for all patches: keys are never made.
        """
        per_head = self.keys.weight.unflatten(0, (self.heads, -1))
        latent = self.latent.unflatten(1, (self.heads, -1))
        scores = x @ torch.einsum("hjc,mhj->chm", per_head, latent).flatten(1)
        if absent is not None:
            scores = scores.unflatten(0, (-1, len(absent))).masked_fill(absent[..., None], -math.inf).flatten(0, 1)
        weights = scores.softmax(1).transpose(1, 2)
        # One product for all heads, of which the blocks on the diagonal are wanted: faster than a product per head
        # with its few rows, though it multiplies more.
        pooled = torch.bmm(weights.to(x.dtype), self.values(x).to(x.dtype))
        pooled = pooled.unflatten(1, (self.heads, -1)).unflatten(3, (self.heads, -1)).diagonal(dim1=1, dim2=3)
        return self.latent + pooled.permute(0, 1, 3, 2).flatten(2)

    def solve(self, tokens: Float[Tensor, "patch token channel"]) -> Float[Tensor, "patch token channel"]:
        """The trigonometric series on every channel of every token, in float32 at least."""
        with torch.autocast(tokens.device.type, enabled=False):
            wide = torch.promote_types(torch.promote_types(tokens.dtype, self.sines.dtype), torch.float32)
            solved = Series.apply(tokens.to(wide), self.sines.to(wide), self.cosines.to(wide))
        return solved.to(tokens.dtype)  # type: ignore[union-attr]

    def decode(
        self, x: Float[Tensor, "patch point channel"], tokens: Float[Tensor, "patch token channel"]
    ) -> Float[Tensor, "patch point channel"]:
        """The points, rewritten from the tokens of their patch."""
        heads = self.heads
        # Tokens of each head in rows of their own, zero in the channels of the others: then all heads are one product.
        rows = tokens.new_zeros(len(tokens), heads, tokens.shape[1], heads, tokens.shape[2] // heads)
        rows.diagonal(dim1=1, dim2=3).copy_(tokens.unflatten(2, (heads, -1)).permute(0, 1, 3, 2))
        rows = rows.flatten(3).flatten(1, 2).to(x.dtype)
        scores = torch.bmm(self.queries(x).to(x.dtype), rows.transpose(1, 2)).unflatten(2, (heads, -1))
        return torch.baddbmm(x, scores.softmax(-1).flatten(2).to(x.dtype), rows)


class Series(torch.autograd.Function):
    """T + b₀ + Σ_{i=1}^{N-1} a_i sin(πi T / N) + b_i cos(πi T / N), coefficients per channel (the last axis).

    One sine and one cosine; the others by sin (i+1)θ = 2 cos θ sin iθ - sin (i-1)θ and the same for the cosine, once
    more in the backward pass, which so keeps nothing but T.
    """

    @staticmethod
    def forward(tokens: Tensor, sines: Tensor, cosines: Tensor) -> Tensor:
        out = tokens + cosines[0]
        for i, (sine, cosine) in enumerate(harmonics(tokens, len(cosines))):
            out.addcmul_(sine, sines[i]).addcmul_(cosine, cosines[i + 1])
        return out

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,), (tokens, sines, cosines) = gradients, ctx.saved_tensors
        slope, rows = torch.zeros_like(tokens), tuple(range(tokens.ndim - 1))
        per_sine, per_cosine = [], [gradient.sum(rows)]
        for i, (sine, cosine) in enumerate(harmonics(tokens, len(cosines))):
            slope = slope.addcmul(cosine, (i + 1) * sines[i]).addcmul(sine, -(i + 1) * cosines[i + 1])
            per_sine.append((gradient * sine).sum(rows))
            per_cosine.append((gradient * cosine).sum(rows))
        found = torch.stack(per_sine) if per_sine else torch.zeros_like(sines)
        return gradient + gradient * slope * (math.pi / len(cosines)), found, torch.stack(per_cosine)


def harmonics(tokens: Tensor, bases: int):
    """(sin πi T / N, cos πi T / N) for i = 1..N-1, one after the other."""
    angle = tokens * (math.pi / bases)
    sine, cosine = angle.sin(), angle.cos()
    double = 2 * cosine
    sine_before, cosine_before = torch.zeros_like(sine), torch.ones_like(cosine)
    for i in range(1, bases):
        yield sine, cosine
        if i + 1 < bases:
            sine, sine_before = double * sine - sine_before, sine
            cosine, cosine_before = double * cosine - cosine_before, cosine


def to_patches(
    v: Float[Tensor, "batch *space channel"], patch: tuple[int, ...]
) -> Float[Tensor, "patches point channel"]:
    """Patches with their points in a row, those of a sample one after the other; filled up by zeros at upper ends."""
    missing = [-n % p for n, p in zip(v.shape[1:-1], patch, strict=True)]
    if any(missing):
        v = functional.pad(v, (0, 0, *(end for n in reversed(missing) for end in (0, n))))
    for axis, p in enumerate(patch):
        v = v.unflatten(1 + 2 * axis, (-1, p))
    d = len(patch)
    order = (*range(0, 2 * d, 2), *range(1, 2 * d, 2))
    return v.permute(0, *(1 + a for a in order), -1).reshape(-1, math.prod(patch), v.shape[-1])


def from_patches(
    x: Float[Tensor, "patches point channel"], space: tuple[int, ...], patch: tuple[int, ...]
) -> Float[Tensor, "batch *space channel"]:
    """The fields on a grid of ``space`` points that `to_patches` cut into these patches."""
    counts = [-(-n // p) for n, p in zip(space, patch, strict=True)]
    v = x.reshape(-1, *counts, *patch, x.shape[-1])
    d = len(space)
    v = v.permute(0, *(place for a in range(d) for place in (1 + a, 1 + d + a)), -1)
    v = v.reshape(len(v), *(c * p for c, p in zip(counts, patch, strict=True)), x.shape[-1])
    for axis, n in enumerate(space):
        v = v.narrow(axis + 1, 0, n) if v.shape[axis + 1] != n else v
    return v


def ghosts(space: tuple[int, ...], patch: tuple[int, ...], device: torch.device) -> Tensor | None:
    """(patch, point) of a sample: True where a patch reaches past the grid; None where none does."""
    if not any(n % p for n, p in zip(space, patch, strict=True)):
        return None
    return to_patches(torch.ones(1, *space, 1, device=device), patch)[..., 0] == 0
