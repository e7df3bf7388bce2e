"""Parts of the operator transformer: blocks, the merging and parting of tokens between levels, and the skips.

    block     x ← x + norm(W_o attention(x)),   x ← x + norm(W₂ gelu(W₁ x)),
    skip      x ← x + γ ⊙ W₂ gelu(W₁ norm(depthwise 7x7(x))),
    merge     four neighbours side by side, a linear map to twice the channels, norm,
    part      a linear map to twice the channels, dealt to four neighbours, norm, a linear map.

Fields are stored with channels last, ``batch rows columns width``. Names of modules are those of published checkpoints.

Sources: Herde et al., "Poseidon", NeurIPS 2024; Liu et al., "Swin Transformer V2", CVPR 2022 (norms after the maps);
Liu et al., "A ConvNet for the 2020s", CVPR 2022 (skips).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fieldwright.operators.conditional_norm import norm
from fieldwright.operators.window_attention import WindowAttention
from fieldwright.operators.windows import Windows


def same_size(
    convolution: nn.Conv2d, x: Float[Tensor, "batch channel rows columns"], periodic: tuple[bool, bool]
) -> Float[Tensor, "batch channel_out rows columns"]:
    """A convolution that keeps the size, around the grid along ``periodic`` axes and with zeros beyond the others."""
    if not any(periodic):
        return convolution(x)
    reach = [size // 2 for size in convolution.kernel_size]
    around = [n if wraps else 0 for n, wraps in zip(reach, periodic, strict=True)]
    beyond = [n - m for n, m in zip(reach, around, strict=True)]
    # Axes shorter than the kernel's reach are gone around more than once, which circular padding refuses.
    for axis, n in enumerate(around):
        places = torch.arange(-n, x.shape[2 + axis] + n, device=x.device) % x.shape[2 + axis]
        x = x.index_select(2 + axis, places) if n else x
    x = functional.pad(x, (beyond[1], beyond[1], beyond[0], beyond[0]))
    return functional.conv2d(x, convolution.weight, convolution.bias, groups=convolution.groups)


LAYER_SCALE = 1e-6  # γ at the start


class Block(nn.Module):
    """Attention in windows, then a perceptron on each token; each is normed before it is added."""

    def __init__(self, width: int, heads: int, hidden: int, *, shifted: bool, eps: float, conditioned: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.attention = nn.ModuleDict(
            {"self": WindowAttention(width, heads), "output": nn.ModuleDict({"dense": nn.Linear(width, width)})}
        )
        self.layernorm_before = norm(width, eps, conditioned=conditioned)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, width)})
        self.layernorm_after = norm(width, eps, conditioned=conditioned)

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Tensor | None, windows: Windows
    ) -> Float[Tensor, "batch rows columns width"]:
        attended = self.attention["output"]["dense"](self.attention["self"](x, windows))  # type: ignore[index]
        x = x + self.layernorm_before(attended, lead_time)
        hidden = functional.gelu(self.intermediate["dense"](x))
        return x + self.layernorm_after(self.output["dense"](hidden), lead_time)


class Merge(nn.Module):
    """From 2 x 2 tokens of ``width`` channels to one of twice as many."""

    def __init__(self, width: int, *, eps: float, conditioned: bool) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = norm(2 * width, eps, conditioned=conditioned)

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Tensor | None
    ) -> Float[Tensor, "batch half_rows half_columns double"]:
        batch, rows, columns, width = x.shape
        # The four neighbours in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column).
        pairs = x.reshape(batch, rows // 2, 2, columns // 2, 2, width).permute(0, 1, 3, 4, 2, 5)
        return self.norm(self.reduction(pairs.reshape(batch, rows // 2, columns // 2, 4 * width)), lead_time)


class Part(nn.Module):
    """From one token of ``width`` channels to 2 x 2 of half as many."""

    def __init__(self, width: int, *, eps: float, conditioned: bool) -> None:
        super().__init__()
        self.upsample = nn.Linear(width, 2 * width, bias=False)
        self.mixup = nn.Linear(width // 2, width // 2, bias=False)
        self.norm = norm(width // 2, eps, conditioned=conditioned)

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Tensor | None
    ) -> Float[Tensor, "batch double_rows double_columns half"]:
        batch, rows, columns, width = x.shape
        four = self.upsample(x).reshape(batch, rows, columns, 2, 2, width // 2).permute(0, 1, 3, 2, 4, 5)
        return self.mixup(self.norm(four.reshape(batch, 2 * rows, 2 * columns, width // 2), lead_time))


class SkipBlock(nn.Module):
    """One block of a skip, a ConvNeXt block with layer scale γ."""

    def __init__(
        self, width: int, *, eps: float, conditioned: bool, periodic: tuple[bool, bool] = (False, False)
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = norm(width, eps, conditioned=conditioned)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.weight = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Tensor | None
    ) -> Float[Tensor, "batch rows columns width"]:
        mixed = same_size(self.dwconv, x.permute(0, 3, 1, 2), self.periodic).permute(0, 2, 3, 1)
        hidden = functional.gelu(self.pwconv1(self.norm(mixed, lead_time)))
        return torch.addcmul(x, self.pwconv2(hidden), self.weight)


class Stage(nn.Module):
    """The blocks of one level; every other one has shifted windows.

    ``downsample`` or ``upsample``  leads to the next level, coarser or finer, where there is one
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        window: int,
        *,
        last_unshifted: bool,
        eps: float,
        conditioned: bool,
        downsample: Merge | None = None,
        upsample: Part | None = None,
        periodic: tuple[bool, bool] = (False, False),
    ) -> None:
        super().__init__()
        self.window, self.periodic = window, periodic
        # The decoder runs through the encoder's order backwards, so that its last block is the one without a shift.
        places = [depth - 1 - i if last_unshifted else i for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, shifted=place % 2 == 1, eps=eps, conditioned=conditioned) for place in places
        )
        self.downsample, self.upsample = downsample, upsample

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Tensor | None, *, recompute: bool
    ) -> Float[Tensor, "batch rows columns width"]:
        """The blocks alone; with ``recompute`` their inner values are computed again in the backward pass."""
        for block in self.blocks:
            shifted: bool = block.shifted  # type: ignore[assignment]
            windows = Windows.of(x.shape[1], x.shape[2], self.window, shifted=shifted, periodic=self.periodic)
            if recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, lead_time, windows, use_reentrant=False)  # type: ignore[assignment]
            else:
                x = block(x, lead_time, windows)
        return x
