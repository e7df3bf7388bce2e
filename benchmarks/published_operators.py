"""The published operators, written plainly from their papers: what the benchmarks measure ours against.

None is tuned and none is handicapped: each does the operations which the authors' code does, in the same order and
layout, with the library calls one would reach for. The transformer has the weights' names of the published checkpoints,
so that the benchmark can load one state into both and compare the outputs.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# --- MgNO -------------------------------------------------------------------------------------------------------------


class PublishedCycle(nn.Module):
    """One V-cycle as the paper's code writes it: smoothing [1, 0] and [2, 0] on the coarsest level, zero padding."""

    def __init__(self, inner: int, outer: int, levels: int) -> None:
        super().__init__()

        def convolution(a: int, b: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(a, b, 3, stride, 1, bias=False)

        counts = [1] * (levels - 1) + [2]
        self.smoothers = nn.ModuleList(nn.ModuleList(convolution(inner, outer) for _ in range(n)) for n in counts)
        self.systems = nn.ModuleList(
            nn.ModuleList(convolution(outer, inner) for _ in range(n - (level == 0))) for level, n in enumerate(counts)
        )
        coarser = range(levels - 1)
        self.guesses = nn.ModuleList(convolution(outer, outer, 2) for _ in coarser)
        self.sources = nn.ModuleList(convolution(inner, inner, 2) for _ in coarser)
        self.prolongations = nn.ModuleList(nn.ConvTranspose2d(outer, outer, 4, 2, 1, bias=False) for _ in coarser)

    def forward(self, f: Tensor) -> Tensor:
        descent = [self.smoothers[0][0](f)]
        for level in range(1, len(self.smoothers)):
            u, f = self.guesses[level - 1](descent[-1]), self.sources[level - 1](f)
            for smoother, system in zip(self.smoothers[level], self.systems[level], strict=True):
                u = u + smoother(f - system(u))
            descent.append(u)
        u = descent.pop()
        for level in reversed(range(len(descent))):
            u = descent[level] + self.prolongations[level](u)
        return u


class PublishedMultigrid(nn.Module):
    """MgNO as published for Darcy: 572,661 parameters."""

    def __init__(self, width: int = 24, layers: int = 4, levels: int = 6) -> None:
        super().__init__()
        channels = [1] + [width] * (layers - 1)
        self.cycles = nn.ModuleList(PublishedCycle(a, width, levels) for a in channels)
        self.skips = nn.ModuleList(nn.Conv2d(a, width, 1) for a in channels)
        self.head = nn.Conv2d(width, 1, 1, bias=False)

    def forward(self, v: Tensor) -> Tensor:
        for cycle, skip in zip(self.cycles, self.skips, strict=True):
            v = functional.gelu(cycle(v) + skip(v))
        return self.head(v)


# --- LSM --------------------------------------------------------------------------------------------------------------


def double_convolution(inner: int, outer: int, middle: int | None = None) -> nn.Sequential:
    middle = outer if middle is None else middle
    parts: list[nn.Module] = []
    for a, b in ((inner, middle), (middle, outer)):
        parts += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*parts)


class PublishedSpectralBlock(nn.Module):
    """Attention to tokens per patch, keys and values by 1x1 convolutions, the series by stacked sines and cosines."""

    def __init__(self, width: int, patch: int, tokens: int = 4, bases: int = 12, heads: int = 8) -> None:
        super().__init__()
        self.patch, self.heads, self.bases = patch, heads, bases
        self.weights = nn.Parameter(torch.rand(width, 2 * bases) / width)
        self.latent = nn.Parameter(torch.rand(heads, tokens, width // heads) / width)
        self.encoder = nn.Conv2d(width, 2 * width, 1)
        self.decoder = nn.Conv2d(width, width, 1)
        self.register_buffer("frequencies", math.pi * torch.arange(bases) / bases, persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        (batch, width, height, across), p, h = v.shape, self.patch, self.heads
        rows, columns = height // p, across // p
        patches = v.reshape(batch, width, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5).reshape(-1, width, p, p)
        kv = self.encoder(patches).reshape(-1, h, width // h, 2, p * p).permute(3, 0, 1, 4, 2)
        keys, values = kv[0], kv[1]
        latent = self.latent[None].expand(len(patches), -1, -1, -1)
        tokens = latent + torch.softmax(latent @ keys.transpose(-1, -2), -1) @ values
        tokens = tokens.permute(0, 2, 1, 3).flatten(2)  # patch, token, channel
        angles = tokens[..., None] * self.frequencies
        series = torch.cat((angles.sin(), angles.cos()), -1)
        tokens = tokens + (series * self.weights).sum(-1)
        tokens = tokens.unflatten(2, (h, -1)).permute(0, 2, 1, 3)
        queries = self.decoder(patches).reshape(-1, h, width // h, p * p).transpose(2, 3)
        back = torch.softmax(queries @ tokens.transpose(-1, -2), -1) @ tokens
        patches = patches + back.transpose(2, 3).reshape(-1, width, p, p)
        return patches.reshape(batch, rows, columns, width, p, p).permute(0, 3, 1, 4, 2, 5).reshape(v.shape)


class PublishedLatentSpectral(nn.Module):
    """LSM as published, on grids whose sides are multiples of 16 patches: 4.81 million parameters at width 32."""

    def __init__(self, width: int = 32, patch: int = 4) -> None:
        super().__init__()
        c = width
        self.lift = nn.Linear(3, c)
        self.inc = double_convolution(c, c)
        widths = [c, 2 * c, 4 * c, 8 * c, 8 * c]
        self.down = nn.ModuleList(double_convolution(a, b) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(PublishedSpectralBlock(n, patch) for n in widths)
        outer = [4 * c, 2 * c, c, c]
        inner = [16 * c, 8 * c, 4 * c, 2 * c]
        self.up = nn.ModuleList(double_convolution(a, b, a // 2) for a, b in zip(inner, outer, strict=True))
        self.out, self.hidden, self.head = nn.Conv2d(c, c, 1), nn.Linear(c, 128), nn.Linear(128, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        batch, _, height, across = inputs.shape
        x = torch.linspace(0, 1, height)[:, None].expand(height, across)
        y = torch.linspace(0, 1, across).expand(height, across)
        grid = torch.stack((x, y), -1).expand(batch, -1, -1, -1)
        v = self.lift(torch.cat((inputs.permute(0, 2, 3, 1), grid), -1)).permute(0, 3, 1, 2)
        features = [self.inc(v)]
        for down in self.down:
            features.append(down(functional.max_pool2d(features[-1], 2)))
        v = self.blocks[-1](features[-1])
        for scale, up in zip((3, 2, 1, 0), self.up, strict=True):
            v = functional.interpolate(v, scale_factor=2, mode="bilinear", align_corners=True)
            v = up(torch.cat((self.blocks[scale](features[scale]), v), 1))
        v = self.out(v).permute(0, 2, 3, 1)
        return self.head(functional.gelu(self.hidden(v))).permute(0, 3, 1, 2)


# --- scOT -------------------------------------------------------------------------------------------------------------


class PublishedNorm(nn.Module):
    """Layer norm with scale and shift linear in the lead time; the variance is E[x²] - E[x]²."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Linear(1, width), nn.Linear(1, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x**2).mean(-1, keepdim=True) - mean**2
        normed = (x - mean) / (variance + 1e-5).sqrt()
        t = time.reshape(-1, *[1] * (x.ndim - 1))
        return self.weight(t) * normed + self.bias(t)


class PublishedAttention(nn.Module):
    """Cosine attention with the position bias made anew in each call; the mask of shifted windows is added twice."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.continuous_position_bias_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False)
        )
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor, table: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, width = x.shape
        q, k, v = (
            line(x).view(windows, tokens, self.heads, -1).permute(0, 2, 1, 3)
            for line in (self.query, self.key, self.value)
        )
        scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        scores = scores * self.logit_scale.clamp(max=math.log(100)).exp()
        bias = self.continuous_position_bias_mlp(table).view(-1, self.heads)
        bias = bias[index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        scores = scores + 16 * torch.sigmoid(bias)[None]
        if mask is not None:
            scores = scores.view(windows // len(mask), len(mask), self.heads, tokens, tokens)
            scores = scores + mask[None, :, None]
            scores = scores + mask[None, :, None]
            scores = scores.view(-1, self.heads, tokens, tokens)
        y = torch.softmax(scores, -1) @ v
        return y.permute(0, 2, 1, 3).reshape(windows, tokens, width)


class PublishedBlock(nn.Module):
    """Attention in windows of 16 tokens, rolled by 8 in every other block of a level with several, and a perceptron."""

    def __init__(self, width: int, heads: int, size: int, *, shifted: bool) -> None:
        super().__init__()
        self.size, self.window = size, min(16, size)
        self.shift = self.window // 2 if shifted and size > 16 else 0
        self.attention = nn.ModuleDict(
            {"self": PublishedAttention(width, heads), "output": nn.ModuleDict({"dense": nn.Linear(width, width)})}
        )
        self.layernorm_before = PublishedNorm(width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width)})
        self.layernorm_after = PublishedNorm(width)
        m = self.window
        offsets = torch.arange(1 - m, m, dtype=torch.float32) / (m - 1) * 8
        offsets = offsets.sign() * (offsets.abs() + 1).log2() / 3
        table = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
        place = torch.stack(torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")).flatten(1)
        difference = place[:, :, None] - place[:, None]
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("index", (difference[0] + m - 1) * (2 * m - 1) + difference[1] + m - 1, persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        (batch, tokens, width), n, m = x.shape, self.size, self.window
        grid = x.view(batch, n, n, width)
        if self.shift:
            grid = grid.roll((-self.shift, -self.shift), (1, 2))
        windows = grid.view(batch, n // m, m, n // m, m, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, m * m, width)
        y = self.attention["self"](windows, self.table, self.index, self._mask())  # type: ignore[index]
        y = self.attention["output"]["dense"](y)  # type: ignore[index]
        y = y.view(batch, n // m, n // m, m, m, width).permute(0, 1, 3, 2, 4, 5).reshape(batch, n, n, width)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + self.layernorm_before(y.reshape(batch, tokens, width), time)
        hidden = functional.gelu(self.intermediate["dense"](x))
        return x + self.layernorm_after(self.output["dense"](hidden), time)

    def _mask(self) -> Tensor | None:
        if not self.shift:
            return None
        n, m = self.size, self.window
        kinds = torch.zeros(n)
        kinds[n - m : n - self.shift], kinds[n - self.shift :] = 1, 2
        regions = (3 * kinds[:, None] + kinds).view(n // m, m, n // m, m).permute(0, 2, 1, 3).reshape(-1, m * m)
        return (regions[:, None] != regions[:, :, None]).float() * -100.0


class PublishedMerge(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.reduction, self.norm = nn.Linear(4 * width, 2 * width, bias=False), PublishedNorm(2 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, _, width = x.shape
        grid = x.view(batch, self.size, self.size, width)
        four = [grid[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.norm(self.reduction(torch.cat(four, -1).view(batch, -1, 4 * width)), time)


class PublishedPart(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.upsample = nn.Linear(width, 2 * width, bias=False)
        self.mixup, self.norm = nn.Linear(width // 2, width // 2, bias=False), PublishedNorm(width // 2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, _, width = x.shape
        grid = self.upsample(x).view(batch, self.size, self.size, 2, 2, width // 2)
        grid = grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, width // 2)
        return self.mixup(self.norm(grid, time))


class PublishedSkip(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = PublishedNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.weight = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        grid = x.transpose(1, 2).reshape(batch, width, self.size, self.size)
        mixed = self.dwconv(grid).permute(0, 2, 3, 1)
        y = self.weight * self.pwconv2(functional.gelu(self.pwconv1(self.norm(mixed, time))))
        return x + y.reshape(batch, tokens, width)


class PublishedStage(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, size: int, *, backwards: bool) -> None:
        super().__init__()
        places = [depth - 1 - i if backwards else i for i in range(depth)]
        self.blocks = nn.ModuleList(PublishedBlock(width, heads, size, shifted=place % 2 == 1) for place in places)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, time)
        return x


class PublishedTransformer(nn.Module):
    """scOT of size T at 128 x 128 as published: 20,774,444 parameters for four fields."""

    def __init__(self, channels: int = 4, size: int = 128, width: int = 48, levels: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.side = size // 4
        self.embeddings = nn.ModuleDict(
            {
                "patch_embeddings": nn.ModuleDict({"projection": nn.Conv2d(channels, width, 4, 4)}),
                "norm": PublishedNorm(width),
            }
        )
        encoder, decoder = [], []
        for level in range(levels):
            w, n, heads = width * 2**level, self.side // 2**level, 3 * 2**level
            down = PublishedStage(w, depth, heads, n, backwards=False)
            up = PublishedStage(w, depth, heads, n, backwards=True)
            if level < levels - 1:
                down.downsample = PublishedMerge(w, n)
            if level > 0:
                up.upsample = PublishedPart(w, n)
            encoder.append(down)
            decoder.append(up)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(encoder)})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(reversed(decoder))})
        self.residual_blocks = nn.ModuleList(
            nn.ModuleList(
                PublishedSkip(width * 2**level, self.side // 2**level) for _ in range(2 * (level < levels - 1))
            )
            for level in range(levels)
        )
        self.patch_recovery = nn.ModuleDict(
            {
                "projection": nn.ConvTranspose2d(width, channels, 4, 4),
                "mixup": nn.Conv2d(channels, channels, 5, padding=2, bias=False),
            }
        )
        self.width = width

    def forward(self, inputs: Tensor, time: Tensor) -> Tensor:
        h = self.embeddings["patch_embeddings"]["projection"](inputs).flatten(2).transpose(1, 2)  # type: ignore[index]
        h = self.embeddings["norm"](h, time)
        skips = []
        for stage, residual in zip(self.encoder["layers"], self.residual_blocks, strict=True):  # type: ignore[arg-type]
            start, h = h, stage(h, time)
            skip = h
            for block in residual:  # type: ignore[union-attr]
                skip = block(skip, time)
            skips.append(skip)
            if hasattr(stage, "downsample"):
                h = stage.downsample(h + start, time)
        h = skips.pop()
        for stage in self.decoder["layers"]:  # type: ignore[union-attr]
            h = stage(h, time)
            if hasattr(stage, "upsample"):
                h = stage.upsample(h, time) + skips.pop()
        grid = h.transpose(1, 2).reshape(len(h), self.width, self.side, self.side)
        return self.patch_recovery["mixup"](self.patch_recovery["projection"](grid))
