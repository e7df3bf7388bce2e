"""The last layer of the spatiotemporal Fourier operator: from latent states to the solution at any lead times.

    u(x, τ) = u₀(x) + Σ_{k, ω} ( v̂(k, ω) R_{k,ω} + b_{k,ω} ) e^{2πi (k·x + ω τ / P)},      0 <= τ <= H,

v̂ are the modes, in space and time, of the latent states v(0) = u₀, v(H/n), ..., v(H) followed by as many zeros, which
keep the end of the horizon H from running into its beginning: P = 2 (n + 1) H / n. Linear in R and b, which is what
makes this the layer to refine at more modes with all before it held still.

Source: Cao et al., "Spectral-Refiner: Accurate Fine-Tuning of Spatiotemporal Fourier Neural Operator for Turbulent
Flows", ICLR 2025, section 3 (arXiv 2405.17211). There the length of the output is that of a transform, so that the same
field has other values when more frames are asked for; here the sum is evaluated at the times themselves.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.divergence_free import divergence_free
from fieldwright.operators.spectral import mix_modes, weight_on_grid
from fieldwright.operators.time_modes import modes_of_times, values_at_times
from fieldwright.operators.truncated_fourier import add_synthesis, analyse, kept_wavenumbers

START = 0.1
"""Deviation of the first weights, in units of one that keeps the size of the latent states: persistence comes first."""


class SpectralOutputLayer(nn.Module):
    """Latent states (batch, n + 1, channel, *space), the known state first -> states at lead times.

    ``modes``    wavenumbers kept, the first for time, then one per axis of space
    ``horizon``  H, in the unit of the lead times
    ``lengths``  edges of the periodic box on which the outputs are a divergence-free vector field; None: any fields
    ``weight``   (*mode, channel, 2, channel), R as real and imaginary parts
    ``bias``     (*mode, channel, 2), b, zero at first; None where there is none
    """

    channel_axes: ClassVar[tuple[int, int]] = (-3, -1)
    """The axes of ``weight`` that count inputs and outputs; along the others all belongs to one pair of channels."""

    def __init__(
        self,
        channels: int,
        modes: Sequence[int],
        horizon: float,
        *,
        bias: bool = True,
        lengths: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.modes, self.horizon = tuple(modes), horizon
        self.lengths = None if lengths is None else tuple(lengths)
        kept = (*self.modes[:-1], self.modes[-1] // 2 + 1)
        self.weight = nn.Parameter(START * torch.randn(*kept, channels, 2, channels) / math.sqrt(2 * channels))
        self.bias = nn.Parameter(torch.zeros(*kept, channels, 2)) if bias else None

    def forward(
        self, latent: Float[Tensor, "batch latent_time channel *space"], lead_times: Float[Tensor, "batch_or_1 time"]
    ) -> Float[Tensor, "batch time channel *space"]:
        """The states at ``lead_times``, the same for all samples or each sample's own, in the weights' precision."""
        with torch.autocast(latent.device.type, enabled=False):  # bfloat16 has too few digits for sums over the grid
            latent, times = latent.to(self.weight.dtype), lead_times.to(latent.device)
            steps, space = latent.shape[1] - 1, latent.shape[3:]
            points, spatial = 2 * (steps + 1), self.modes[1:]
            period = points * self.horizon / steps
            waves = kept_wavenumbers(points, self.modes[0], half=False)
            stored = torch.arange(steps + 1, dtype=times.dtype, device=times.device) * (self.horizon / steps)
            spectra = analyse(latent.flatten(1, 2), spatial).unflatten(1, latent.shape[1:3])
            spectrum = modes_of_times(spectra, stored, waves, period, points)
            mixed = self._mixed(spectrum, (points, *space))
            values = values_at_times(mixed, times, waves, period).flatten(1, 2)
            start = latent[:, :1].expand(-1, times.shape[-1], *latent.shape[2:])
            outputs = add_synthesis(start.flatten(1, 2), values, spatial).unflatten(1, start.shape[1:3])
            if self.lengths is not None:
                outputs = divergence_free(outputs.flatten(0, 1), self.lengths).view(outputs.shape)
            return outputs

    def _mixed(self, spectrum: Tensor, grid: Sequence[int]) -> Float[Tensor, "batch channel *mode 2"]:
        weight, _ = weight_on_grid(self.weight, grid, self.modes)
        mixed = torch.stack(mix_modes(spectrum, weight), -1)
        if self.bias is not None:
            mixed = mixed + weight_on_grid(self.bias, grid, self.modes)[0].flatten(0, -3)[:, None]
        return mixed.unflatten(0, spectrum.shape[2:-1]).movedim((-3, -2), (0, 1))

    def with_modes(self, modes: Sequence[int]) -> Self:
        """A copy with more modes: these weights where there are some, zeros elsewhere, so that it is the same map.

        It has a bias whether or not this one has: one free number for each mode of the output.

        Errors: `InputError` for another number of modes, or fewer on some axis.
        """
        asked = tuple(modes)
        if len(asked) != len(self.modes) or any(more < own for more, own in zip(asked, self.modes, strict=True)):
            raise InputError(f"modes: {list(asked)}; the layer has {list(self.modes)} and takes at least these")
        finer = type(self)(self.weight.shape[-1], asked, self.horizon, lengths=self.lengths)
        finer.to(self.weight.device, self.weight.dtype)
        last = len(asked) - 1
        place = tuple(
            slice(first := 0 if axis == last else more // 2 - own // 2, first + n)
            for axis, (more, own, n) in enumerate(zip(asked, self.modes, self.weight.shape, strict=False))
        )
        with torch.no_grad():
            finer.weight.zero_()[place] = self.weight
            if self.bias is not None and finer.bias is not None:
                finer.bias[place] = self.bias
        return finer
