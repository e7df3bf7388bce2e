"""Truncated Fourier transforms between scattered points of the unit box and their coefficients.

    v̂(k) = 1/N Σ_n v(ξ_n) e^{-2πi k·ξ_n},        v(ξ) = Σ_k v̂(k) e^{2πi k·ξ}

for the wavenumbers and in the layout of `fieldwright.operators.truncated_fourier`: on the points of a periodic grid
both are its transforms. Of the last axis k >= 0 is kept, its other half being the conjugate.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.operators.truncated_fourier import kept_wavenumbers


def analyse_points(
    v: Float[Tensor, "batch point channel"], points: Float[Tensor, "batch point axis"], modes: Sequence[int]
) -> Float[Tensor, "batch channel *mode 2"]:
    """The coefficients of real values at scattered points, each point with the same weight."""
    cosine, sine, shape = waves(points, modes)
    values = v.transpose(1, 2) / v.shape[1]
    return torch.stack((torch.bmm(values, cosine), -torch.bmm(values, sine)), -1).unflatten(2, shape)


def synthesise_points(
    spectrum: Float[Tensor, "batch channel *mode 2"], points: Float[Tensor, "batch point axis"], modes: Sequence[int]
) -> Float[Tensor, "batch point channel"]:
    """The real field of these coefficients at scattered points."""
    cosine, sine, _ = waves(points, modes)
    both = spectrum.new_tensor([1.0] + [2.0] * (spectrum.shape[-2] - 1))  # wavenumbers stand for their conjugates too
    flat = (spectrum * both[:, None]).flatten(2, -2)
    return torch.bmm(cosine, flat[..., 0].transpose(1, 2)) - torch.bmm(sine, flat[..., 1].transpose(1, 2))


def mix_modes(
    spectrum: Float[Tensor, "batch inner *mode 2"], weight: Float[Tensor, "*mode inner 2 outer"]
) -> Float[Tensor, "batch outer *mode 2"]:
    """v̂(k) R_k with the complex matrices R_k of ``weight``, real and imaginary parts as real numbers."""
    v, w = spectrum.flatten(2, -2), weight.flatten(0, -4)
    products = torch.einsum("bikp,kiqo->bokpq", v, w)
    real = products[..., 0, 0] - products[..., 1, 1]
    return torch.stack((real, products[..., 0, 1] + products[..., 1, 0]), -1).unflatten(2, spectrum.shape[2:-1])


def waves(points: Float[Tensor, "batch point axis"], modes: Sequence[int]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """cos and sin of 2πk·ξ, (batch, point, mode) with the modes in a row, and the kept wavenumbers per axis.

    A cosine and a sine per point, axis and wavenumber of the axis; those of the sums k·ξ are their products.
    """
    cosine, sine = torch.ones_like(points[..., :1]), torch.zeros_like(points[..., :1])
    shape = []
    for axis, m in enumerate(modes):
        # A grid of more points than modes has all of them.
        kept = kept_wavenumbers(2 * m + 2, m, half=axis == len(modes) - 1)
        k = torch.arange(kept.start, kept.stop, device=points.device, dtype=points.dtype)
        angle = 2 * math.pi * points[..., axis, None] * k
        c, s = angle.cos()[..., None, :], angle.sin()[..., None, :]
        cosine, sine = cosine[..., None], sine[..., None]
        cosine, sine = (cosine * c - sine * s).flatten(2), (cosine * s + sine * c).flatten(2)
        shape.append(len(kept))
    return cosine, sine, tuple(shape)
