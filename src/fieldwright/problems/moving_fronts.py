"""Exact solutions of u_t = ∇·(k(u) ∇u) that have moving fronts, as means over cells, with their masses and fronts.

Means over cells, because that is what a finite volume holds: their sum over the cells times h is the exact mass. With
one number per sample and times (batch, time), means are (batch, time, *space), masses and fronts (batch, time).

Source: D. Hansen et al., "Learning Physical Models that Can Respect Conservation Laws", ICML 2023, section 4, for the
wave and the melting front; G. I. Barenblatt, Prikl. Mat. Mekh. 16 (1952), and R. E. Pattle, Q. J. Mech. Appl. Math. 12
(1959), for the spreading drop.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import scipy.special
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldwright.grids import Grid

PerSample = Float[Tensor, " batch"]
Times = Float[Tensor, "batch time"]
Means = Float[Tensor, "batch time *space"]

# Places and weights of Gauss' rule on [0, 1].
_GAUSS = [((1 + place) / 2, weight / 2) for place, weight in zip(*np.polynomial.legendre.leggauss(6), strict=True)]
_BISECTIONS = 60


def wave_means(grid: Grid, degree: PerSample, times: Times) -> Means:
    """k = u^m driven from the left by u(t, 0) = (m t)^(1/m): u = (m max(t - x, 0))^(1/m), with its front at x = t."""
    edges = _edges(grid, degree)
    swept = _wave_mass(degree[:, None, None], times[..., None] - edges)
    return (swept[..., :-1] - swept[..., 1:]) / grid.spacing[0]


def wave_mass(degree: PerSample, times: Times) -> Times:
    """m^(1/m) t^(1 + 1/m) m / (m + 1), as long as the front is in the box."""
    return _wave_mass(degree[:, None], times)


def _wave_mass(m: Tensor, behind: Tensor) -> Tensor:
    return m ** (1 / m) * behind.clamp_min(0.0) ** (1 + 1 / m) * m / (m + 1)


def melting_means(grid: Grid, threshold: PerSample, times: Times) -> Means:
    """k = 1 where u >= u*, else 0, driven by u(t, 0) = 1 into u = 0: the similarity solution of the Stefan problem,

    u = 1 - c₁ erf(x / (2 √t)) for x <= 2 z₁ √t and 0 beyond, where it falls by u*, with
    u* z₁ erf(z₁) exp(z₁²) = (1 - u*) / √π and c₁ = (1 - u*) / erf(z₁).
    """
    z = melting_root(threshold)
    drop = ((1 - threshold) / torch.erf(z))[:, None, None]
    root = times.sqrt()[..., None]
    within = torch.minimum(_edges(grid, threshold), 2 * z[:, None, None] * root)
    scaled = within / (2 * root.clamp_min(torch.finfo(root.dtype).tiny))
    below = within - drop * (within * torch.erf(scaled) + 2 * root / math.sqrt(math.pi) * torch.expm1(-(scaled**2)))
    return below.diff(dim=-1) / grid.spacing[0]


def melting_mass(threshold: PerSample, times: Times) -> Times:
    """2 c₁ √(t / π), as long as the front is in the box."""
    drop = (1 - threshold) / torch.erf(melting_root(threshold))
    return 2 * drop[:, None] * (times / math.pi).sqrt()


def melting_root(threshold: PerSample) -> PerSample:
    """z₁, by bisection: the front is at 2 z₁ √t."""
    low, high = torch.zeros_like(threshold), torch.full_like(threshold, 8.0)
    goal = (1 - threshold) / math.sqrt(math.pi)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = threshold * middle * torch.erf(middle) * torch.exp(middle**2) > goal
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def drop_means(grid: Grid, degree: PerSample, mass: PerSample, ages: Times) -> Means:
    """k = u^m from a point in the middle of the box (1D or 2D): the Barenblatt-Pattle drop of age τ,

    u = (m β (R² - r²)_+ / (2 τ))^(1/m) with β = 1 / (d m + 2) and R ∝ τ^β from the mass (`drop_radius`).
    """
    radius = _double(drop_radius(grid.dimension, degree, mass, ages))
    centred = [
        np.append(grid.axis(a) - h / 2, grid.upper[a]) - (grid.lower[a] + grid.upper[a]) / 2
        for a, h in enumerate(grid.spacing)
    ]
    means = np.zeros((*radius.shape, *grid.shape))
    for place in np.ndindex(radius.shape):
        power, reach = 1 / float(degree[place[0]]), float(radius[place])
        if grid.dimension == 1:
            means[place] = _chord(power, reach, centred[0][:-1], centred[0][1:]) / grid.spacing[0]
        else:
            means[place] = _plane_means(power, reach, *centred)
    scale = _drop_scale(grid.dimension, degree, ages)
    return scale.reshape(*scale.shape, *[1] * grid.dimension) * torch.from_numpy(means).to(scale)


def drop_radius(dimension: int, degree: PerSample, mass: PerSample, ages: Times) -> Times:
    """R(τ), from mass = (m β / (2 τ))^(1/m) R^(2/m + d) ω with ω the integral of (1 - r²)^(1/m) over the unit ball."""
    power = 2 / degree[:, None] + dimension
    shape = drop_shape(dimension, degree)[:, None]
    return (mass[:, None] / (_drop_scale(dimension, degree, ages) * shape)) ** (1 / power)


def drop_mass(dimension: int, degree: PerSample, radius: PerSample, age: PerSample) -> PerSample:
    """The mass of the drop that has this radius at this age."""
    scale = _drop_scale(dimension, degree, age[:, None])[:, 0]
    return scale * radius ** (2 / degree + dimension) * drop_shape(dimension, degree)


def drop_exponent(dimension: int, degree: PerSample) -> PerSample:
    """β of R ∝ τ^β."""
    return 1 / (dimension * degree + 2)


def drop_shape(dimension: int, degree: PerSample) -> PerSample:
    """ω = π^(d/2) Γ(1/m + 1) / Γ(1/m + 1 + d/2)."""
    inverse = 1 / degree
    return math.pi ** (dimension / 2) * torch.exp(torch.lgamma(inverse + 1) - torch.lgamma(inverse + 1 + dimension / 2))


def _drop_scale(dimension: int, degree: PerSample, ages: Times) -> Times:
    m = degree[:, None]
    return (m * drop_exponent(dimension, degree)[:, None] / (2 * ages)) ** (1 / m)


def _chord(
    power: float,
    reach: Float64[np.ndarray, "..."] | float,
    low: Float64[np.ndarray, "..."],
    high: Float64[np.ndarray, "..."],
) -> Float64[np.ndarray, "..."]:
    """∫ (reach² - y²)_+^power dy from ``low`` to ``high``, by the incomplete beta function."""
    safe = np.where(np.asarray(reach) > 0, reach, 1.0)
    swept = [np.sign(y) * scipy.special.betainc(0.5, power + 1, np.clip(y / safe, -1.0, 1.0) ** 2) for y in (low, high)]
    whole = safe ** (2 * power + 1) * scipy.special.beta(0.5, power + 1) / 2
    return np.where(np.asarray(reach) > 0, whole * (swept[1] - swept[0]), 0.0)


def _plane_means(
    power: float, radius: float, x: Float64[np.ndarray, " edge"], y: Float64[np.ndarray, " other_edge"]
) -> Float64[np.ndarray, "cell other_cell"]:
    """Means of (radius² - x² - y²)_+^power over the cells between the edges."""
    sizes = np.diff(x)[:, None], np.diff(y)[None]
    near, far = (
        np.hypot(*np.meshgrid(*(_reach(edges, largest=largest) for edges in (x, y)), indexing="ij"))
        for largest in (False, True)
    )
    means = np.zeros(near.shape)
    # Away from the front by Gauss' rule; across it along chords, which are exact, between the places where they begin
    # and end to fill a cell.
    smooth = far < radius - 2 * max(sizes[0].max(), sizes[1].max())
    i, j = np.nonzero(smooth)
    for px, wx in _GAUSS:
        for py, wy in _GAUSS:
            squares = (x[i] + px * sizes[0][i, 0]) ** 2 + (y[j] + py * sizes[1][0, j]) ** 2
            means[i, j] += wx * wy * (radius**2 - squares) ** power
    i, j = np.nonzero(~smooth & (near < radius))
    low, high, below, above = x[i], x[i + 1], y[j], y[j + 1]
    ends = [np.sqrt(np.clip(radius**2 - _reach(y, largest=largest)[j] ** 2, 0, None)) for largest in (True, False)]
    stops = [low, *(np.clip(stop, low, high) for stop in (-ends[1], -ends[0], ends[0], ends[1])), high]
    total = np.zeros(len(i))
    for start, stop in itertools.pairwise(stops):
        for place, weight in _GAUSS:
            at = start + place * (stop - start)
            reach = np.sqrt(np.clip(radius**2 - at**2, 0, None))
            total += weight * (stop - start) * _chord(power, reach, below, above)
    means[i, j] = total / ((high - low) * (above - below))
    return means


def _reach(edges: Float64[np.ndarray, " edge"], *, largest: bool) -> Float64[np.ndarray, " cell"]:
    """The largest or the least distance of each cell from zero."""
    low, high = edges[:-1], edges[1:]
    if largest:
        return np.maximum(np.abs(low), np.abs(high))
    return np.where(low * high < 0, 0.0, np.minimum(np.abs(low), np.abs(high)))


def _edges(grid: Grid, like: Tensor) -> Float[Tensor, " edge"]:
    start = grid.axis(0) - grid.spacing[0] / 2
    return torch.cat([start, start.new_tensor([grid.upper[0]])]).to(like)


def _double(values: Tensor) -> Float64[np.ndarray, "..."]:
    return values.detach().cpu().double().numpy()
