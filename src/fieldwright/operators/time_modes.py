"""Fourier modes in time, at any times.

    v̂(k) = 1/N Σ_j v(t_j) e^{-iω_k t_j},        v(t) = Σ_k v̂(k) e^{iω_k t},        ω_k = 2πk / P

Spectra hold a complex number as a pair (re, im) in the last axis, as in `fieldwright.operators.truncated_fourier`.
Times and the period P are in the same unit, so that a mode is a frequency and not a count of frames.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def modes_of_times(
    spectra: Float[Tensor, "batch time channel *mode 2"],
    times: Float[Tensor, " time"],
    waves: range,
    period: float,
    points: float,
) -> Float[Tensor, "batch channel wave *mode 2"]:
    """v̂(k) of the wavenumbers ``waves`` from the values at ``times``, with N = ``points``."""
    turn = _turning(-times[:, None] * _frequencies(waves, period, times)) / points
    pairs = spectra.movedim(1, -2).flatten(-2)
    return (pairs @ turn.to(pairs)).unflatten(-1, (-1, 2)).movedim(-2, 2)


def values_at_times(
    spectra: Float[Tensor, "batch channel wave *mode 2"],
    times: Float[Tensor, "batch_or_1 time"],
    waves: range,
    period: float,
) -> Float[Tensor, "batch time channel *mode 2"]:
    """v(t) at ``times``, the same for all samples or each sample's own."""
    turn = _turning(times[:, None] * _frequencies(waves, period, times)[:, None])
    pairs = spectra.movedim(2, -2).flatten(-2)
    values = pairs.flatten(1, -2) @ turn.to(pairs)
    return values.unflatten(1, pairs.shape[1:-1]).unflatten(-1, (-1, 2)).movedim(-2, 1)


def _frequencies(waves: range, period: float, like: Tensor) -> Float[Tensor, " wave"]:
    return torch.arange(waves.start, waves.stop, dtype=like.dtype, device=like.device) * (2 * math.pi / period)


def _turning(angle: Float[Tensor, "*batch row column"]) -> Float[Tensor, "*batch rows columns"]:
    """The real matrix that multiplies row pairs (re, im) by e^{i angle}."""
    cosine, sine = angle.cos(), angle.sin()
    blocks = torch.stack((torch.stack((cosine, sine), -1), torch.stack((-sine, cosine), -1)), -3)
    return blocks.flatten(-4, -3).flatten(-2)
