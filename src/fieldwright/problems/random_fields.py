"""Gaussian random fields on a box, drawn in wavenumber space.

A field is its Karhunen-Loeve sum over an orthonormal trigonometric basis φ_k of the box,

    g(x) = m + Σ_k s √λ_k ξ_k φ_k(x),   ξ_k ~ N(0, 1) independent,

where the spectrum λ is a power law, Matérn's or a squared exponential (`spectra`): the power law's covariance operator
is s² (-Δ + τ²)^(-α) with the basis' own wall condition. The ξ_k are drawn shell by shell in growing wavenumber from a
counter-based generator keyed by (seed, index): a finer grid continues the same sum, and refining the grid refines the
same field.

Source: Li et al., "Fourier Neural Operator for Parametric PDEs", 2020, appendix A.3 (α = 2, τ = 3, Neumann, no mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.draws import generator
from fieldwright.problems.spectra import PowerLaw, Spectrum, mode_variances, settled_variance
from fieldwright.problems.synthesis import drawn, over_points, shells, values_of

Walls = Literal["neumann", "dirichlet", "periodic"]

LARGEST_UNRESOLVED = 0.25
"""The share of a field's variance that may lie in waves too short for its grid."""
# Points per axis that the variance is first summed over, and the points beyond which no grid is called too coarse.
_FIRST_LOOK = 32
_LAST_LOOK = 1 << 24


def gaussian_field(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    alpha: float = 2.0,
    tau: float = 3.0,
    spectrum: Spectrum | None = None,
    amplitude: float | None = None,
    deviation: float | None = None,
    mean: float = 0.0,
    walls: Walls | Boundary = "neumann",
    unresolved: float = LARGEST_UNRESOLVED,
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw fields of a spectrum with a fixed mean over the box (no constant mode).

    ``alpha, tau``  the spectrum (|κ|² + τ²)^(-α), where no other ``spectrum`` is given
    ``amplitude``   s, where the φ_k are orthonormal over the box. By default τ^(α - d/2) for ``alpha, tau`` (the scale
                    of the source), and for another ``spectrum`` what makes the deviation 1
    ``deviation``   root of the variance averaged over the box, instead of an amplitude
    ``mean``        m, added to every point
    ``walls``       wall condition of the basis: one word, or a `Boundary`
    ``unresolved``  the largest share of the variance that may lie in waves too short for the grid
    ``stream``      tells apart several fields of one instance

    Field i depends on (seed, indices[i], stream) and the parameters alone, to the last bit.

    The Gaussian fields of the FNO papers: Darcy is the default; Navier-Stokes has alpha=2.5, tau=7, walls="periodic"
    (its first generator, of 2020, drew √2 times that); Burgers has alpha=2, tau=5, amplitude=25, walls="periodic" in
    1D.

    Errors: `InputError` when α is too small for a finite variance (α <= d/2), the walls do not fit the grid, or the
    grid is too coarse for the spectrum.
    """
    law = PowerLaw(alpha, tau) if spectrum is None else spectrum
    sides = Boundary.parse(walls, grid.dimension)
    if amplitude is None and deviation is None:
        if spectrum is not None:
            deviation = 1.0
        elif tau > 0:
            amplitude = tau ** (alpha - grid.dimension / 2)
        else:
            raise InputError("random_fields: tau = 0 sets no scale; an amplitude or a deviation is needed")
    scaled = _amplitudes(law, grid, sides, amplitude, deviation, unresolved)
    place = shells(scaled.shape)
    count = max(scaled.shape) ** grid.dimension

    def draw(index: int) -> Float[Tensor, " *space"]:
        numbers = generator(seed, index, stream).standard_normal(count)
        field = values_of(grid, numbers.take(place) * scaled, sides)
        return field + mean if mean else field

    return drawn(grid, indices, draw)


def brownian_bridge(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    hurst: float = 0.5,
    deviation: float = 1.0,
    walls: Walls | Boundary = "dirichlet",
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw fractional Brownian bridges: Gaussian fields with the covariance operator (-Δ)^(-(H + d/2)).

    With ``hurst`` H = ½ in 1D it is the Brownian bridge, of covariance min(x, y) - x y up to a factor; between periodic
    "walls" it is the field that Poseidon's NS-BB begins with, per component of the velocity.

    Errors: `InputError` for an H outside (0, 1), and as in `gaussian_field`.
    """
    if not 0 < hurst < 1:
        raise InputError(f"brownian_bridge: hurst = {hurst}; a number between 0 and 1 is needed")
    law = PowerLaw(hurst + grid.dimension / 2, 0.0)
    return gaussian_field(
        grid, indices, seed, spectrum=law, deviation=deviation, walls=walls, unresolved=1.0, stream=stream
    )


def check_resolved(
    grid: Grid,
    *,
    alpha: float = 2.0,
    tau: float = 3.0,
    spectrum: Spectrum | None = None,
    walls: Walls | Boundary = "neumann",
    unresolved: float = LARGEST_UNRESOLVED,
) -> None:
    """Errors: `InputError` when `gaussian_field` would refuse the grid or the spectrum; nothing is drawn."""
    law = PowerLaw(alpha, tau) if spectrum is None else spectrum
    _resolved(law, grid, Boundary.parse(walls, grid.dimension), unresolved)


@lru_cache(maxsize=16)
def _amplitudes(
    spectrum: Spectrum,
    grid: Grid,
    walls: Boundary,
    amplitude: float | None,
    deviation: float | None,
    unresolved: float,
) -> Float[np.ndarray, " *modes"]:
    """s √λ_k of the modes on the grid, `over_points`."""
    _resolved(spectrum, grid, walls, unresolved)
    roots = mode_variances(spectrum, grid, walls, power=0.5)
    if deviation is not None:
        roots *= deviation / math.sqrt(settled_variance(spectrum, grid.lengths, walls))
    elif amplitude is not None:
        # φ_k orthonormal over a box of volume V are V^(-½) times those orthonormal in the mean.
        roots *= amplitude
        roots /= math.sqrt(math.prod(grid.lengths))
    return over_points(grid, roots.numpy(), walls)


@lru_cache(maxsize=64)
def _resolved(spectrum: Spectrum, grid: Grid, walls: Boundary, unresolved: float) -> None:
    points = _FIRST_LOOK
    while True:
        # A finer grid holds more: most spectra are resolved by a small part of a large grid's modes.
        part = grid.resized([min(n, points) for n in grid.shape])
        held = float(mode_variances(spectrum, part, walls).sum())
        whole = settled_variance(spectrum, grid.lengths, walls)
        # Waves so short that the sum over them underflows are none that a grid holds.
        missing = 1 - held / whole if whole > 0 else 1.0
        if missing <= unresolved or part.points > _LAST_LOOK:
            return
        if part.shape == grid.shape:
            raise InputError(
                f"random_fields: a grid of {' x '.join(map(str, grid.shape))} points is too coarse for {spectrum}:"
                f" {missing:.0%} of the variance lies in shorter waves, and at most {unresolved:.0%} may"
            )
        points *= 2
