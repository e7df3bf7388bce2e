"""The first layer of the spatiotemporal Fourier operator: from frames at known times to latent states.

    v = M₁ w,      z = M₂ norm(v),      v₀ = σ( W w(t₀) + mlp( K z + e(τ) ) ),

w are the input fields of each frame, t₀ the time of the last one. K is a convolution in Fourier space and time whose
modes in time are those of a window of fixed length, so that they are frequencies however far the frames are apart; its
result is taken at the latent times τ. e is a learned sum of 1, τ, sin πmτ and cos πmτ (τ in units of the horizon).

Source: Cao et al., "Spectral-Refiner", ICLR 2025, section 3 (arXiv 2405.17211). There the modes of e are added to the
input by the index of the frame; here to the latent states, so that neither the number of frames nor their distance
moves them, and one frame is enough. W carries the size of the state past the norm.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.operators.activations import Activation
from fieldwright.operators.channels import ChannelMixing, ChannelPerceptron
from fieldwright.operators.spectral import mix_modes, weight_on_grid
from fieldwright.operators.time_modes import modes_of_times, values_at_times
from fieldwright.operators.truncated_fourier import add_synthesis, analyse, kept_wavenumbers


class WindowConvolution(nn.Module):
    """K: frames (batch, time, channel, *space) -> latent states (batch, channel, step, *space).

    ``modes``   wavenumbers kept, the first for time, then one per axis of space
    ``window``  the time in which the first mode in time turns once
    ``weight``  (*mode, in, 2, out), real and imaginary parts
    """

    channel_axes: ClassVar[tuple[int, int]] = (-3, -1)
    """The axes of ``weight`` that count inputs and outputs; along the others all belongs to one pair of channels."""

    def __init__(self, channels: int, modes: Sequence[int], window: float, steps: int) -> None:
        super().__init__()
        self.modes, self.window, self.steps = tuple(modes), window, steps
        kept = (*self.modes[:-1], self.modes[-1] // 2 + 1)
        self.weight = nn.Parameter(torch.randn(*kept, channels, 2, channels) / math.sqrt(2 * channels))

    def forward(
        self, frames: Float[Tensor, "batch time channel *space"], spacing: float
    ) -> Float[Tensor, "batch channel step *space"]:
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.to(self.weight.dtype)
            space, spatial = frames.shape[3:], self.modes[1:]
            # Frames a third of a window apart say nothing of the second mode: only what both sides resolve is kept.
            points = min(max(1, math.floor(self.window / spacing + 1e-6)), self.steps)
            waves = kept_wavenumbers(points, self.modes[0], half=False)
            spectra = analyse(frames.flatten(1, 2), spatial).unflatten(1, frames.shape[1:3])
            spectrum = modes_of_times(
                spectra, self._before(frames.shape[1], spacing, frames), waves, self.window, frames.shape[1]
            )
            weight, _ = weight_on_grid(self.weight, (points, *space), self.modes)
            mixed = torch.stack(mix_modes(spectrum, weight), -1).unflatten(0, spectrum.shape[2:-1])
            latent = self._before(self.steps, self.window / self.steps, frames)
            values = values_at_times(mixed.movedim((-3, -2), (0, 1)), latent[None], waves, self.window)
            values = values.transpose(1, 2).flatten(1, 2)
            nothing = frames.new_zeros(len(frames), values.shape[1], *space)
            return add_synthesis(nothing, values, spatial).unflatten(1, (-1, self.steps))

    @staticmethod
    def _before(count: int, spacing: float, like: Tensor) -> Float[Tensor, " time"]:
        """The times of ``count`` frames up to 0."""
        return (torch.arange(count, dtype=like.dtype, device=like.device) - (count - 1)) * spacing


class SpatiotemporalLifting(nn.Module):
    """Frames (batch, time, feature, *space) -> latent states (batch, width, step, *space)."""

    def __init__(
        self,
        features: int,
        width: int,
        modes: Sequence[int],
        window: float,
        steps: int,
        *,
        hidden: int,
        time_features: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.steps, self.activation = steps, activation
        self.spread = ChannelMixing(features, width)
        self.norm = nn.GroupNorm(1, width, eps=1e-7)
        self.mix = ChannelMixing(width, width)
        self.spectral = WindowConvolution(width, modes, window, steps)
        self.clock = nn.Parameter(torch.randn(width, 2 * time_features + 1) / math.sqrt(2 * time_features + 1))
        self.mlp = ChannelPerceptron(width, hidden, width, activation)
        self.skip = ChannelMixing(features, width, bias=False)

    def forward(
        self, frames: Float[Tensor, "batch time feature *space"], spacing: float
    ) -> Float[Tensor, "batch width step *space"]:
        v = self.spread(frames.transpose(1, 2))
        z = self.mix(self.norm(v.to(self.norm.weight.dtype)).to(v.dtype)).transpose(1, 2)
        latent = self.spectral(z, spacing)
        moment = (self.clock @ self._time_features(latent)).view(-1, self.steps, *(1,) * (latent.ndim - 3))
        last = self.skip(frames[:, -1])[:, :, None]
        return self.activation(self.mlp(latent + moment) + last)

    def _time_features(self, like: Tensor) -> Float[Tensor, "feature step"]:
        tau = torch.arange(1, self.steps + 1, dtype=self.clock.dtype, device=like.device) / self.steps
        waves = torch.arange(1, self.clock.shape[1] // 2 + 1, dtype=tau.dtype, device=like.device)
        turns = math.pi * waves[:, None] * tau
        return torch.cat((tau[None], turns.sin(), turns.cos()))
