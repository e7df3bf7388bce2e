"""Convolution in Fourier space, truncated to the lowest modes: the building block of FNO.

    (K v)(x) = b + Σ_k  v̂(k) R_k e^{2πi k·x},         R_k in C^{in x out},

with v̂ normalised so that K is the same operator on every grid that has the modes.

Source: Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", ICLR 2021, section 4.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.operators.truncated_fourier import add_synthesis, analyse, kept_wavenumbers


class SpectralConvolution(nn.Module):
    """K v, added to a field on the same grid.

    ``modes``   wavenumbers kept per axis, see `fieldwright.operators.truncated_fourier`
    ``weight``  (*mode, in, 2, out): real and imaginary part of R_k as real numbers, which data parallelism, optimizers
                and exporters all take. Initialised normally, E |R_k|² = 2 / (in + out)
    """

    channel_axes: ClassVar[tuple[int, int]] = (-3, -1)
    """The axes of ``weight`` that count inputs and outputs; along the others all belongs to one pair of channels."""

    def __init__(self, in_channels: int, out_channels: int, modes: Sequence[int]) -> None:
        super().__init__()
        self.modes = tuple(modes)
        kept = (*self.modes[:-1], self.modes[-1] // 2 + 1)
        scale = 1 / math.sqrt(in_channels + out_channels)
        self.weight = nn.Parameter(scale * torch.randn(*kept, in_channels, 2, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self, v: Float[Tensor, "batch inner *space"], onto: Float[Tensor, "batch outer *space"]
    ) -> Float[Tensor, "batch outer *space"]:
        """``onto`` + K v, in the precision of the weights."""
        with torch.autocast(v.device.type, enabled=False):  # bfloat16 has too few digits for sums over the grid
            v, onto = v.to(self.weight.dtype), onto.to(self.weight.dtype)
            space = v.shape[2:]
            weight, zero = weight_on_grid(self.weight, space, self.modes)
            spectrum = analyse(v, self.modes)
            real, imaginary = mix_modes(spectrum, weight)
            real[zero] += self.bias  # the mean of the field is its mode 0
            mixed = torch.stack((real, imaginary), -1).unflatten(0, spectrum.shape[2:-1])
            return add_synthesis(onto, mixed.movedim((-3, -2), (0, 1)), self.modes)


def mix_modes(
    spectrum: Float[Tensor, "batch inner *mode 2"], weight: Float[Tensor, "*mode inner 2 outer"]
) -> tuple[Float[Tensor, "modes batch outer"], Float[Tensor, "modes batch outer"]]:
    """Real and imaginary part of v̂(k) R_k, the modes in one axis."""
    # (mode, 2 batch, in) x (mode, in, 2 out): one real product holds all four of (re, im) x (re, im).
    rows = spectrum.movedim((-1, 0, 1), (-3, -2, -1)).flatten(0, -4).flatten(1, 2)
    products = torch.bmm(rows, weight.flatten(0, -4).flatten(-2)).unflatten(1, (2, -1)).unflatten(-1, (2, -1))
    real = products[:, 0, :, 0] - products[:, 1, :, 1]
    imaginary = products[:, 0, :, 1] + products[:, 1, :, 0]
    return real, imaginary


def weight_on_grid(
    weight: Float[Tensor, "*mode_and_channels"], space: Sequence[int], modes: Sequence[int]
) -> tuple[Tensor, int]:
    """The part of ``weight``, whose first axes are modes, that a grid has, and the flat place of mode 0 in it."""
    zero = 0
    for axis, (n, m) in enumerate(zip(space, modes, strict=True)):
        half = axis == len(space) - 1
        waves = kept_wavenumbers(n, m, half=half)
        first = 0 if half else m // 2 + waves.start
        if len(waves) < weight.shape[axis]:
            weight = weight.narrow(axis, first, len(waves))
        zero = zero * len(waves) - waves.start
    return weight, zero
