"""Gaussian random fields on the unit box, drawn in wavenumber space.

A field is its Karhunen-Loeve sum over an orthonormal trigonometric basis φ_k of the box,

    g(x) = Σ_k √λ_k ξ_k φ_k(x),   λ_k = σ² (|κ_k|² + τ²)^(-α),   ξ_k ~ N(0, 1) independent,

so its covariance operator is σ² (-Δ + τ²)^(-α) with the basis' own wall condition. The ξ_k are drawn shell by shell in
growing wavenumber from a counter-based generator keyed by (seed, index): a finer grid continues the same sum, and
refining the grid refines the same field.

Source: Li et al., "Fourier Neural Operator for Parametric PDEs", 2020, appendix A.3 (α = 2, τ = 3, Neumann, no mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.norms import bases_for, squared_wavenumber
from fieldwright.transforms import transform

Walls = Literal["neumann", "dirichlet", "periodic"]


def gaussian_field(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    alpha: float = 2.0,
    tau: float = 3.0,
    deviation: float | None = None,
    walls: Walls = "neumann",
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw fields with spectrum (|κ|² + τ²)^(-α) and zero mean over the box (no constant mode).

    ``deviation``  root of the variance averaged over the box; None keeps σ = τ^(α - d/2), the scale of the source
    ``walls``      wall condition of the basis
    ``stream``     tells apart several fields of one instance

    Field i depends on (seed, indices[i], stream) and the parameters alone, to the last bit.

    Errors: `InputError` when the grid is not the unit box, or α is too small for a finite variance (α <= d/2).
    """
    d = grid.dimension
    if grid.lower != (0.0,) * d or grid.upper != (1.0,) * d:
        raise InputError(f"random_fields: the box is {grid.lower}..{grid.upper}; fields are drawn on the unit box")
    if not alpha > d / 2:
        raise InputError(f"random_fields: alpha = {alpha}; a field of finite variance in {d}D needs alpha > {d / 2:g}")
    bases = bases_for(grid, walls)
    amplitude = (squared_wavenumber(grid, bases) + tau**2).pow(-alpha / 2)
    if walls != "dirichlet":
        amplitude[(0,) * d] = 0.0
    if deviation is None:
        amplitude *= tau ** (alpha - d / 2)
    else:
        amplitude *= deviation / math.sqrt(_variance(d, walls, alpha, tau))
    # The basis is orthonormal over points, φ_k over the box: they differ by the square root of the cell volume.
    amplitude /= math.sqrt(math.prod(grid.spacing))
    order = _shells(grid.shape)
    fields = []
    for index in indices:
        draw = np.random.Generator(np.random.Philox(key=[seed, 2**32 * stream + index])).standard_normal(grid.points)
        # One sample at a time: a product over the whole batch may round differently with the batch's size.
        fields.append(transform(torch.from_numpy(draw)[order] * amplitude, bases, inverse=True))
    return torch.stack(fields) if fields else torch.empty(0, *grid.shape, dtype=torch.float64)


@lru_cache(maxsize=32)
def _shells(shape: tuple[int, ...]) -> Tensor:
    """Place of every mode in the order of draws: by the largest index of its vector, then lexicographically."""
    modes = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    order = np.lexsort((*modes.T[::-1], modes.max(1)))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return torch.from_numpy(place.reshape(shape))


@lru_cache(maxsize=64)
def _variance(dimension: int, walls: Walls, alpha: float, tau: float) -> float:
    """Σ_k (|κ_k|² + τ²)^(-α): the box-averaged variance at σ = 1, over enough modes to be grid-independent."""
    points = {1: 4096, 2: 512, 3: 96}[dimension]
    grid = Grid((points,) * dimension, "periodic" if walls == "periodic" else "cell")
    spectrum = (squared_wavenumber(grid, bases_for(grid, walls)) + tau**2).pow(-alpha)
    if walls != "dirichlet":
        spectrum[(0,) * dimension] = 0.0
    return float(spectrum.sum())
