"""From coefficients in a trigonometric basis of a box to values on a grid, by fast transforms.

A field is g(x) = Σ_k c_k φ_k(x) with φ_k orthonormal in the mean over the box: products of 1, √2 cos and √2 sin. Mode k
of an axis is the same function on every grid of the box, so a finer grid takes more terms of the same sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.fftpack
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Boundary, Grid
from fieldwright.norms import bases_for
from fieldwright.solvers.threads import on_threads
from fieldwright.transforms import Basis, transform

# Up to so many points per axis a product with the basis is as fast as a fast transform.
_MATRIX_UP_TO = 64
# Numbers of a block of fields that one thread draws.
_BLOCK_NUMBERS = 1 << 18


def mode_shape(grid: Grid, walls: Boundary | str) -> tuple[int, ...]:
    """How many modes per axis the grid resolves: one per point that no wall holds at zero."""
    return tuple(_modes(name, n) for name, n in zip(bases_for(grid, walls), grid.shape, strict=True))


def values_on(
    grid: Grid, coefficients: Float[np.ndarray, " *modes"], walls: Boundary | str
) -> Float[Tensor, " *space"]:
    """Σ_k coefficients_k φ_k at the points of the grid, with as many modes as `mode_shape` says.

    One field at a time: a product over a batch may round differently with the batch's size.

    Errors: `InputError` when the walls do not fit the grid's centring.
    """
    bases = bases_for(grid, walls)
    centred = grid.centring == "cell"
    for axis, (name, n) in enumerate(zip(bases, grid.shape, strict=True)):
        if name == "fourier" and centred:
            coefficients = _half_a_cell_on(coefficients, axis)
        coefficients = coefficients * _along(_scale(name, n), axis, grid.dimension)
    if max(grid.shape) <= _MATRIX_UP_TO:
        field = transform(torch.from_numpy(coefficients), bases, inverse=True)
    else:
        for axis, name in enumerate(bases):
            coefficients = _inverse(name, coefficients, axis)
        field = torch.from_numpy(coefficients)
    for axis, (name, n) in enumerate(zip(bases, grid.shape, strict=True)):
        if name == "dct1":
            for wall in (0, n - 1):
                field.select(axis, wall).mul_(math.sqrt(2))
        elif name == "dst1":
            field = torch.nn.functional.pad(field, [0, 0] * (grid.dimension - axis - 1) + [1, 1])
    return field


def drawn(
    grid: Grid, indices: Sequence[int], draw: Callable[[int], Float[Tensor, "*shape"]], channels: int | None = None
) -> Float[Tensor, "batch *shape"]:
    """``draw(index)`` for every index, blocks of them side by side on threads."""
    size = max(1, _BLOCK_NUMBERS // (grid.points * (channels or 1)))
    blocks = [indices[i : i + size] for i in range(0, len(indices), size)]
    fields = [field for block in on_threads(lambda part: [draw(index) for index in part], blocks) for field in block]
    lead = () if channels is None else (channels,)
    return torch.stack(fields) if fields else torch.empty(0, *lead, *grid.shape, dtype=torch.float64)


@lru_cache(maxsize=32)
def shells(shape: tuple[int, ...]) -> np.ndarray:
    """Place of every mode in the order of draws: by the largest index of its vector, then lexicographically."""
    modes = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    order = np.lexsort((*modes.T[::-1], modes.max(1)))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place.reshape(shape)


def _modes(name: Basis, n: int) -> int:
    return n - 2 if name == "dst1" else n


@lru_cache(maxsize=64)
def _scale(name: Basis, n: int) -> Float[np.ndarray, " mode"]:
    """What turns coefficients of φ_k into those of the transform that is orthonormal over the points."""
    scale = np.full(_modes(name, n), math.sqrt(n - 1 if name in ("dct1", "dst1") else n))
    if name in ("dct1", "dst2") or (name == "fourier" and n % 2 == 0):
        # The highest mode is ±1 at every point, twice the norm of the others; its orthonormal form is shortened.
        scale[-1] *= math.sqrt(2) if len(scale) > 1 else 1.0
    return scale


def _half_a_cell_on(coefficients: Float[np.ndarray, " *modes"], axis: int) -> Float[np.ndarray, " *modes"]:
    """The coefficients of x -> g(x + h/2): cell centres lie half a cell beyond the points of the Fourier transform."""
    n = coefficients.shape[axis]
    moved = np.moveaxis(coefficients.copy(), axis, 0)
    given = np.moveaxis(coefficients, axis, 0)
    cosines, sines = given[1 : n - (n % 2 == 0) : 2], given[2::2]
    angle = (np.pi * np.arange(1, len(sines) + 1) / n).reshape(-1, *[1] * (coefficients.ndim - 1))
    moved[1 : n - (n % 2 == 0) : 2] = np.cos(angle) * cosines + np.sin(angle) * sines
    moved[2::2] = np.cos(angle) * sines - np.sin(angle) * cosines
    if n % 2 == 0:
        # cos(π n x) vanishes at the centres of n cells.
        moved[-1] = 0.0
    return np.moveaxis(moved, 0, axis)


def _inverse(name: Basis, values: Float[np.ndarray, " *modes"], axis: int) -> Float[np.ndarray, " *modes"]:
    if name == "fourier":
        n = values.shape[axis]
        return scipy.fftpack.irfft(values * _along(_halfcomplex(n), axis, values.ndim), axis=axis)
    inverse = scipy.fft.idct if name.startswith("dct") else scipy.fft.idst
    return np.asarray(inverse(values, type=int(name[-1]), axis=axis, norm="ortho"))


@lru_cache(maxsize=32)
def _halfcomplex(n: int) -> Float[np.ndarray, " mode"]:
    """From the orthonormal order 1, cos, sin, cos, ... to the real and imaginary parts that FFTPACK transforms."""
    scale = np.full(n, math.sqrt(n / 2))
    scale[2::2] *= -1
    scale[0] = math.sqrt(n)
    if n % 2 == 0:
        scale[-1] = math.sqrt(n)
    return scale


def _along(line: Float[np.ndarray, " mode"], axis: int, dimension: int) -> Float[np.ndarray, "..."]:
    return line.reshape(-1, *[1] * (dimension - axis - 1))
