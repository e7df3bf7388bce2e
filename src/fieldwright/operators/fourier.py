"""The Fourier neural operator (FNO).

    v₀ = lift(x, coordinates),     y_l = σ( W_l v_{l-1} + K_l v_{l-1} ),     v_l = σ( mlp_l(y_l) + g_l v_{l-1} ),
    u = project(v_L),              without σ in the last layer,

K_l convolves in Fourier space (`fieldwright.operators.spectral.SpectralConvolution`), W_l and the perceptrons lift,
mlp_l and project act on the channels of each point, g_l scales each channel. Without ``channel_mlp`` v_l = y_l, as
first published.

Sources: Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", ICLR 2021; the channel
perceptrons with gated skips are those of the neuraloperator library 2.0, whose FNO this one equals weight for weight.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.channels import ChannelMixing, ChannelPerceptron
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.spectral import SpectralConvolution
from fieldwright.operators.store import StoredOperator


class FourierOperator(nn.Module, StoredOperator):
    """FNO in 1D, 2D or 3D: fields in, fields out, on grids of any size, the same operator on all that have the modes.

    ``in_channels``, ``out_channels``  fields in and out
    ``modes``              wavenumbers kept, a number or one per axis (16)
    ``width``              channels of a hidden layer (32)
    ``layers``             layers L (4)
    ``channel_mlp``        hidden width of the perceptron in a layer, as a multiple of ``width`` (0.5); 0 for none
    ``lifting``, ``projection``  hidden width of the first and last perceptron, as a multiple of ``width`` (2)
    ``coordinates``        append the coordinates of the points, in 0..1, to the inputs
    ``padding``            zeros appended to every axis that is not periodic, as a fraction of its points (0); cut off
                           again before the projection
    ``dimension``          1, 2 or 3
    ``boundary``           a word for all sides or a [low, high] pair of words per axis, of "dirichlet", "neumann",
                           "periodic": says which axes are padded
    ``centring``           "cell", "node" or "periodic": where the coordinates lie
    ``activation``         "gelu", "relu", "silu", "tanh" or "identity"
    ``blended``            v_l = v_{l-1} + γ_l (layer_l(v_{l-1}) - v_{l-1}) with a learned γ_l that starts at 1;
                           layers that growth adds start at 0

    Good values to start from are the defaults, with a learning rate of 2e-3.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    channel_settings = ("width",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modes: int | Sequence[int] = 16,
        width: int = 32,
        layers: int = 4,
        channel_mlp: float = 0.5,
        lifting: float = 2.0,
        projection: float = 2.0,
        coordinates: bool = True,
        padding: float = 0.0,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "gelu",
        blended: bool = False,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, layers=layers)
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        kept = (modes,) * dimension if isinstance(modes, int) else tuple(modes)
        if len(kept) != dimension or any(not isinstance(m, int) or m < 1 for m in kept):
            raise InputError(f"modes: {modes}; expected a positive integer, or one for each of the {dimension} axes")
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        fractions = {"channel_mlp": channel_mlp, "lifting": lifting, "projection": projection, "padding": padding}
        for name, value in fractions.items():
            if not 0 <= value < math.inf:
                raise InputError(f"{name}: {value}; it must be a number that is not negative")
        self.in_channels, self.dimension, self.centring = in_channels, dimension, centring
        self.coordinates, self.padding = coordinates, padding
        self.periodic = Boundary.parse(boundary, dimension).periodic
        self.activation = activation_by_name(activation)
        features = in_channels + (dimension if coordinates else 0)

        def perceptron(inner: int, hidden: float, outer: int) -> ChannelPerceptron:
            return ChannelPerceptron(inner, max(1, round(hidden * width)), outer, self.activation)

        self.lift = perceptron(features, lifting, width)
        self.spectral = nn.ModuleList(SpectralConvolution(width, width, kept) for _ in range(layers))
        self.skips = nn.ModuleList(ChannelMixing(width, width, bias=False) for _ in range(layers))
        mixers = layers if channel_mlp else 0
        self.mixers = nn.ModuleList(perceptron(width, channel_mlp, width) for _ in range(mixers))
        self.gates = nn.ParameterList(nn.Parameter(torch.ones(width)) for _ in range(mixers))
        self.blend = nn.Parameter(torch.ones(layers)) if blended else None
        self.project = perceptron(width, projection, out_channels)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        space = inputs.shape[2:]
        v = self.lift(with_coordinates(inputs, self.centring) if self.coordinates else inputs)
        v = self._pad(v)
        last = len(self.spectral) - 1
        for layer, (spectral, skip) in enumerate(zip(self.spectral, self.skips, strict=True)):
            y = spectral(v, skip(v))
            if layer < last:
                y = self.activation(y)
            if self.mixers:
                gate = self.gates[layer].view(-1, *(1,) * self.dimension)
                y = torch.addcmul(self.mixers[layer](y), v, gate)
                if layer < last:
                    y = self.activation(y)
            v = y if self.blend is None else torch.lerp(v, y, self.blend[layer])
        for axis, n in enumerate(space):
            v = v.narrow(axis + 2, 0, n) if v.shape[axis + 2] != n else v
        return self.project(v).to(inputs.dtype)

    def _pad(self, v: Float[Tensor, "batch width *space"]) -> Float[Tensor, "batch width *padded"]:
        ends = [
            0 if wraps else math.ceil(self.padding * n) for n, wraps in zip(v.shape[2:], self.periodic, strict=True)
        ]
        return functional.pad(v, [amount for end in reversed(ends) for amount in (0, end)]) if any(ends) else v
