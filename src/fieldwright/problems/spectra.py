"""Spectra of Gaussian random fields, and the variance that they hold in all.

A spectrum gives the variance λ(κ) of the mode of angular wavenumber κ up to a factor. On a box with sides L_j the modes
have κ_j = π k_j / L_j, with k_j = 0, 1, ... (Neumann), 1, 2, ... (Dirichlet), ½, 3/2, ... (one of each) or the even
integers of both signs (periodic).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.norms import bases_for, squared_wavenumber

# Modes per axis of the plain sum that gives the variance where it converges fast.
_ENOUGH_MODES = {1: 4096, 2: 512, 3: 96}
_NEGLIGIBLE = 1e-5


# Beyond these, numbers leave the range of float64 and no field differs from one of them.
_STEEPEST = 64.0
_SHORTEST = 1e8


@dataclass(frozen=True)
class PowerLaw:
    """λ = (|κ|² + τ²)^(-α): the operator (-Δ + τ²)^(-α) of Li et al. The correlation length falls as ``tau`` grows.

    With tau = 0 and alpha = H + d/2 it is fractional Brownian motion of Hurst index H on the box.

    Errors: `InputError` for a negative number.
    """

    alpha: float = 2.0
    tau: float = 3.0

    def __post_init__(self) -> None:
        if not (0 < self.alpha <= _STEEPEST and 0 <= self.tau <= _SHORTEST):
            raise InputError(
                f"spectrum: alpha = {self.alpha}, tau = {self.tau}; numbers above and from 0 are needed, up to"
                f" {_STEEPEST:g} and {_SHORTEST:g}"
            )

    def lengths(self, dimension: int) -> tuple[float, ...]:
        """ℓ per axis: the wavenumber counts as it is."""
        return (1.0,) * dimension

    def power(self, dimension: int) -> tuple[float, float]:
        """(α, τ²) of λ = (|ℓκ|² + τ²)^(-α)."""
        return self.alpha, self.tau**2


@dataclass(frozen=True)
class Matern:
    """λ = (2ν + |ℓκ|²)^(-(ν + d/2)): the Matérn covariance of ``smoothness`` ν and correlation ``length`` ℓ.

    A field has ν derivatives (in the mean square) and forgets itself over ℓ: one length, or one per axis.

    Errors: `InputError` for a number that is not positive.
    """

    smoothness: float = 1.5
    length: float | tuple[float, ...] = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", _lengths(self.length))
        if not 0 < self.smoothness <= _STEEPEST:
            raise InputError(
                f"spectrum: smoothness = {self.smoothness}; a positive number up to {_STEEPEST:g} is needed"
            )

    def lengths(self, dimension: int) -> tuple[float, ...]:
        """ℓ per axis. Errors: `InputError` for another number of lengths than axes."""
        return _per_axis(self.length, dimension)

    def power(self, dimension: int) -> tuple[float, float]:
        """(α, τ²) of λ = (|ℓκ|² + τ²)^(-α)."""
        return self.smoothness + dimension / 2, 2 * self.smoothness


@dataclass(frozen=True)
class SquaredExponential:
    """λ = exp(-|ℓκ|²/2): the covariance exp(-|x - y|²/(2ℓ²)), with one ``length`` ℓ or one per axis.

    Errors: `InputError` for a length that is not positive.
    """

    length: float | tuple[float, ...] = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", _lengths(self.length))

    def lengths(self, dimension: int) -> tuple[float, ...]:
        """ℓ per axis. Errors: `InputError` for another number of lengths than axes."""
        return _per_axis(self.length, dimension)


Spectrum = PowerLaw | Matern | SquaredExponential


def spectrum_of(length: float, smoothness: float | None = None) -> Matern | SquaredExponential:
    """The squared exponential of a correlation ``length``, or Matérn's where a ``smoothness`` is given."""
    return SquaredExponential(length) if smoothness is None else Matern(smoothness, length)


def mode_variances(spectrum: Spectrum, grid: Grid, walls: Boundary, *, power: float = 1.0) -> Float[Tensor, " *modes"]:
    """λ^power of every mode that the grid resolves, zero for the constant one.

    Errors: `InputError` when the walls do not fit the grid, or no field of this spectrum has a finite variance.
    """
    dimension = grid.dimension
    lengths = spectrum.lengths(dimension)
    if isinstance(spectrum, PowerLaw) and not spectrum.alpha > dimension / 2:
        raise InputError(
            f"random_fields: alpha = {spectrum.alpha}; a field of finite variance in {dimension}D needs alpha >"
            f" {dimension / 2:g}"
        )
    # Lengths of correlation are to κ what the inverse of a side is.
    sides = tuple(side / length for side, length in zip(grid.lengths, lengths, strict=True))
    squares = squared_wavenumber(Grid(grid.shape, grid.centring, upper=sides), bases_for(grid, walls))
    if isinstance(spectrum, SquaredExponential):
        found = (-power / 2 * squares).exp()
    else:
        alpha, shift = spectrum.power(dimension)
        found = (squares + shift).pow(-alpha * power)
    if has_constant_mode(walls):
        found[(0,) * dimension] = 0.0
    return found


def has_constant_mode(walls: Boundary) -> bool:
    """Whether a constant is among the modes."""
    return all(low == high != "dirichlet" for low, high in walls.sides)


def total_variance(spectrum: Spectrum, sides: tuple[float, ...], walls: Boundary) -> float:
    """Σ_k λ_k over all modes but the constant one: the variance averaged over the box.

    By the integral λ = (|ℓκ|² + τ²)^(-α) = 1/Γ(α) ∫ t^(α-1) exp(-(|ℓκ|² + τ²) t) dt, in which the sum over the modes is
    a product of one theta function per axis.
    """
    scaled = [side / ell for side, ell in zip(sides, spectrum.lengths(len(sides)), strict=True)]
    if isinstance(spectrum, SquaredExponential):
        return float(_theta_product(np.array([0.5]), scaled, walls)[0])
    alpha, shift = spectrum.power(len(sides))
    step, lowest = 0.02, -40.0
    u = np.arange(lowest, math.log(800.0) + math.log(max(scaled)) * 2, step)
    t = np.exp(u)
    values = _theta_product(t, scaled, walls) * np.exp(alpha * u - shift * t)
    # Below the lowest t the product is c t^(-d/2).
    excess = alpha - len(sides) / 2
    integral = step * (values.sum() - values[0] / 2) + values[0] / excess
    return float(integral) / math.gamma(alpha)


@lru_cache(maxsize=64)
def settled_variance(spectrum: Spectrum, sides: tuple[float, ...], walls: Boundary) -> float:
    """`total_variance`, as the plain sum over enough modes where that is all of it to 1e-5.

    The plain sum is what the scale of a `PowerLaw` field is defined by: its last bits are those of the data sets.
    """
    total = total_variance(spectrum, sides, walls)
    if isinstance(spectrum, PowerLaw):
        grid = Grid((_ENOUGH_MODES[len(sides)],) * len(sides), upper=sides)
        # NumPy's sum is the same on any number of threads, and torch's is not.
        plain = float(mode_variances(spectrum, grid, walls).numpy().sum())
        if abs(total - plain) <= _NEGLIGIBLE * total:
            return plain
    return total


def _theta_product(t: Float[np.ndarray, " time"], sides: Sequence[float], walls: Boundary) -> np.ndarray:
    """Σ_k exp(-|κ_k|² t) over all modes but the constant one."""
    log, constant = np.zeros_like(t), has_constant_mode(walls)
    product = np.ones_like(t)
    for side, (low, high) in zip(sides, walls.sides, strict=True):
        a = np.minimum(t * (math.pi / side) ** 2, 700.0)
        if low == "periodic":
            rest = 2 * _beyond_zero(4 * a)
        elif low != high:
            rest = _half_integers(a) - 1
        else:
            rest = _beyond_zero(a) - (low == "dirichlet")
        if constant:
            log += np.log1p(rest)
        else:
            product *= 1 + rest
    return np.expm1(log) if constant else product


def _beyond_zero(a: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Σ_{k>=1} exp(-a k²), by Poisson's summation where a is small."""
    k2 = np.arange(1, 9)[:, None] ** 2
    large = np.maximum(a, 1.0)
    small = np.minimum(a, 1.0)
    summed = np.sqrt(math.pi / small) * (1 + 2 * np.exp(-(math.pi**2) * k2 / small).sum(0))
    return np.where(a > 1.0, np.exp(-large * k2).sum(0), (summed - 1) / 2)


def _half_integers(a: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Σ_{k>=0} exp(-a (k + ½)²)."""
    k = np.arange(0, 9)[:, None]
    large = np.maximum(a, 1.0)
    small = np.minimum(a, 1.0)
    signs = np.where(k % 2 == 0, 2.0, -2.0)
    signs[0] = 1.0
    summed = np.sqrt(math.pi / small) * (signs * np.exp(-(math.pi**2) * k**2 / small)).sum(0)
    return np.where(a > 1.0, np.exp(-large * (k + 0.5) ** 2).sum(0), summed / 2)


def _lengths(length: float | Sequence[float]) -> float | tuple[float, ...]:
    found = tuple(length) if isinstance(length, Sequence) else length
    values = found if isinstance(found, tuple) else (found,)
    if not values or any(not 1 / _SHORTEST <= value <= _SHORTEST for value in values):
        raise InputError(
            f"spectrum: length = {length}; a positive number is needed, from {1 / _SHORTEST:g} to {_SHORTEST:g}, or one"
            " per axis"
        )
    return found


def _per_axis(length: float | tuple[float, ...], dimension: int) -> tuple[float, ...]:
    if not isinstance(length, tuple):
        return (length,) * dimension
    if len(length) != dimension:
        raise InputError(f"spectrum: {len(length)} lengths for a field in {dimension} dimensions")
    return length
