"""Layer norms whose scale and shift depend on the lead time.

    x̂ = (x - mean(x)) / √(var(x) + ε)  over the channels,     y = w(t) x̂ + b(t),
    w(t) = W_w t + b_w,     b(t) = W_b t + b_b.

Source: Herde et al., "Poseidon: Efficient Foundation Models for PDEs", NeurIPS 2024, section 2. The variance is the
mean of the squared deviations; as E[x²] - E[x]², which is how it was first published, it cancels for fields with an
offset.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

INITIAL_DEVIATION = 0.02  # of the weights, as in the configuration of the published models


class ConditionalNorm(nn.Module):
    """The norm above; its four parameters are named as in the published checkpoints."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Linear(1, width), nn.Linear(1, width)
        for line in (self.weight, self.bias):
            nn.init.normal_(line.weight, std=INITIAL_DEVIATION)
            nn.init.zeros_(line.bias)

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: Float[Tensor, "batch 1 1 1"]
    ) -> Float[Tensor, "batch rows columns width"]:
        normed = functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        # Written out rather than called: autocast would round the lead time to bfloat16 in a linear layer.
        scale = torch.addcmul(self.weight.bias, lead_time, self.weight.weight[:, 0])
        shift = torch.addcmul(self.bias.bias, lead_time, self.bias.weight[:, 0])
        return torch.addcmul(shift, normed, scale)


class PlainNorm(nn.Module):
    """The same with w and b constant, for a network without lead time."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(
        self, x: Float[Tensor, "batch rows columns width"], lead_time: None
    ) -> Float[Tensor, "batch rows columns width"]:
        return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def norm(width: int, eps: float, *, conditioned: bool) -> ConditionalNorm | PlainNorm:
    """A norm over ``width`` channels, with a lead time or without."""
    return ConditionalNorm(width, eps) if conditioned else PlainNorm(width, eps)
