"""Attention among the tokens of a window, by cosine similarity, with a bias from their relative positions.

    y = softmax( τ_h q̂ k̂ᵀ + B_h + mask ) v,     q = W_q x + b_q,   k = W_k x,   v = W_v x + b_v,
    q̂ = q / |q|,   k̂ = k / |k|,   τ_h = min(e^{s_h}, 100),   B_h(D) = 16 σ( M₂ relu(M₁ r(D) + b₁) )_h,

r(D) are the logarithmic coordinates of the offset D between two tokens (`fieldwright.operators.windows`). The bias is a
function of the offset, not a table, so that windows may have any size.

Source: Liu et al., "Swin Transformer V2", CVPR 2022, equations 2 to 4.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.operators.windows import Windows

BIAS_HIDDEN = 512  # width of the perceptron of the bias in the published models
LARGEST_SCALE = math.log(100)


class WindowAttention(nn.Module):
    """The attention above, without the map of the merged heads; parameters are named as in published checkpoints.

    In evaluation without gradients the bias is kept from call to call, for as long as the weights it is made of and
    the windows stay the same.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.continuous_position_bias_mlp = nn.Sequential(
            nn.Linear(2, BIAS_HIDDEN), nn.ReLU(), nn.Linear(BIAS_HIDDEN, heads, bias=False)
        )
        self.query, self.key, self.value = (
            nn.Linear(width, width),
            nn.Linear(width, width, bias=False),
            nn.Linear(width, width),
        )
        self._kept: tuple[tuple, Tensor] | None = None

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], windows: Windows
    ) -> Float[Tensor, "batch rows columns width"]:
        v = windows.split(self.value(x), self.heads)
        q, k = (windows.split(line(x), self.heads) for line in (self.query, self.key))
        scale = self.logit_scale.clamp(max=LARGEST_SCALE).exp()
        q = (functional.normalize(q, dim=-1) * scale).to(v.dtype)
        k = functional.normalize(k, dim=-1).to(v.dtype)
        # Windows join the heads where the mask tells them apart, and the samples otherwise: the bias broadcasts.
        first, last = (1, 2) if windows.needs_mask else (0, 1)
        q, k, v = (part.flatten(first, last) for part in (q, k, v))
        bias = self.bias(windows).to(q.dtype)
        if torch.is_grad_enabled() and bias.requires_grad:
            # The fused product would take its slowest way here, since the bias wants a gradient.
            scores = torch.matmul(q, k.transpose(-2, -1)).add_(bias)
            y = torch.matmul(torch.softmax(scores, -1, dtype=v.dtype), v)
        else:
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=1.0)
        down, across = windows.counts
        inner = (down * across, self.heads) if windows.needs_mask else (len(x), down * across)
        return windows.join(y.unflatten(first, inner))

    def bias(self, windows: Windows) -> Float[Tensor, "head token token"]:
        """B_h for each head, plus the mask; for each window and head where there is one."""
        if torch.compiler.is_compiling():
            return self._fresh_bias(windows)
        weights = tuple(self.continuous_position_bias_mlp.parameters())
        if self.training or torch.is_grad_enabled() or weights[0].is_inference():
            self._kept = None
            return self._fresh_bias(windows)
        key = (windows, *((w.data_ptr(), w._version, w.dtype, w.device) for w in weights))
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._fresh_bias(windows)
        return self._kept[1]

    def _fresh_bias(self, windows: Windows) -> Float[Tensor, "head token token"]:
        first: Tensor = self.continuous_position_bias_mlp[0].weight  # type: ignore[assignment]
        offsets, index = windows.offsets(first.device).to(first.dtype), windows.index(first.device)
        # Up to 16 in size, the bias would lose what tells neighbours apart if it were made in bfloat16.
        with torch.autocast(first.device.type, enabled=False):
            of_offset = 16 * torch.sigmoid(self.continuous_position_bias_mlp(offsets).t())
        bias = of_offset.index_select(1, index.flatten()).unflatten(1, index.shape)
        if windows.needs_mask:
            bias = (bias + windows.mask(first.device).to(bias.dtype)[:, None]).flatten(0, 1)
        return bias
