"""Linear maps and perceptrons that act on the channels of each grid point alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.operators.activations import Activation


class ChannelMixing(nn.Module):
    """(W v)(x) = M v(x) + b, a 1x1 convolution. Initialised uniformly in ± 1/√inner, as torch does.

    As one product per sample, on fields with channels first: twice as fast, forward and backward, as a convolution that
    reorders the fields into its own layout and back.
    """

    def __init__(self, inner: int, outer: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inner)
        self.weight = nn.Parameter(torch.empty(outer, inner).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outer).uniform_(-bound, bound)) if bias else None

    def forward(self, v: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *space"]:
        # Expanding by hand: `matmul` would fold the batch into the rows instead, which copies the whole field.
        mixed = torch.bmm(self.weight.expand(len(v), -1, -1), v.flatten(2))
        if self.bias is not None:
            mixed.add_(self.bias[:, None].to(mixed.dtype))
        return mixed.unflatten(2, v.shape[2:])


class ChannelPerceptron(nn.Module):
    """M₂ σ(M₁ v + b₁) + b₂ on the channels of each point."""

    def __init__(self, inner: int, hidden: int, outer: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.first, self.second = ChannelMixing(inner, hidden), ChannelMixing(hidden, outer)

    def forward(self, v: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *space"]:
        return self.second(self.activation(self.first(v)))
