"""From coefficients in a trigonometric basis of a box to values on a grid, by fast transforms.

A field is g(x) = Σ_k c_k φ_k(x) with φ_k orthonormal in the mean over the box: products of 1, √2 cos and √2 sin. Mode k
of an axis is the same function on every grid of the box, so a finer grid takes more terms of the same sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import scipy.fftpack
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldwright.grids import Boundary, Grid
from fieldwright.norms import WALLS_OF_ZERO, bases_for
from fieldwright.solvers.threads import on_threads
from fieldwright.transforms import Basis, transform

# Up to so many points per axis a product with the basis is as fast as a fast transform.
_MATRIX_UP_TO = 64
_SERIES: dict[str, tuple[Callable[..., Any], int]] = {
    **{f"dct{kind}": (scipy.fft.idctn, kind) for kind in (1, 2, 3, 4)},
    **{f"dst{kind}": (scipy.fft.idstn, kind) for kind in (1, 2, 3, 4)},
}
# Numbers of a block of fields that one thread draws.
_BLOCK_NUMBERS = 1 << 18


def mode_shape(grid: Grid, walls: Boundary | str) -> tuple[int, ...]:
    """How many modes per axis the grid resolves: one per point that no wall holds at zero."""
    return tuple(_modes(name, n) for name, n in zip(bases_for(grid, walls), grid.shape, strict=True))


def values_on(
    grid: Grid, coefficients: Float[np.ndarray, " *modes"], walls: Boundary | str
) -> Float[Tensor, " *space"]:
    """Σ_k coefficients_k φ_k at the points of the grid, with as many modes as `mode_shape` says.

    Errors: `InputError` when the walls do not fit the grid's centring.
    """
    return values_of(grid, over_points(grid, coefficients, walls), walls)


def over_points(
    grid: Grid, coefficients: Float[np.ndarray, " *modes"], walls: Boundary | str
) -> Float[np.ndarray, " *modes"]:
    """Coefficients of φ_k as those of the transform that is orthonormal over the points, which `values_of` takes."""
    coefficients = coefficients / math.sqrt(
        math.prod(h / side for h, side in zip(grid.spacing, grid.lengths, strict=True))
    )
    for axis, (name, n) in enumerate(zip(bases_for(grid, walls), grid.shape, strict=True)):
        if n > 1 and (name in ("dct1", "dst2") or (name == "fourier" and n % 2 == 0)):
            # The highest mode is ±1 at every point, twice the norm of the others; its orthonormal form is shortened.
            np.moveaxis(coefficients, axis, 0)[-1] *= math.sqrt(2)
    return coefficients


def values_of(
    grid: Grid, coefficients: Float[np.ndarray, " *modes"], walls: Boundary | str
) -> Float[Tensor, " *space"]:
    """`values_on` from coefficients `over_points`.

    One field at a time: a product over a batch may round differently with the batch's size.
    """
    bases = bases_for(grid, walls)
    if grid.centring == "cell":
        for axis, name in enumerate(bases):
            if name == "fourier":
                coefficients = _half_a_cell_on(coefficients, axis)
    if max(grid.shape) <= _MATRIX_UP_TO:
        field = transform(torch.from_numpy(coefficients), bases, inverse=True)
    elif len(set(bases)) == 1 and bases[0] in _SERIES:
        inverse, kind = _SERIES[bases[0]]
        field = torch.from_numpy(np.asarray(inverse(coefficients, type=kind, norm="ortho")))
    else:
        for axis, name in enumerate(bases):
            coefficients = _inverse(name, coefficients, axis)
        field = torch.from_numpy(coefficients)
    for axis, name in enumerate(bases):
        # The orthonormal form is a similarity of the series, with √½ on walls of zero slope.
        for wall in {"dct1": (0, -1), "dct3": (0,), "dst3": (-1,)}.get(name, ()):
            field.select(axis, wall).mul_(math.sqrt(2))
        if name in WALLS_OF_ZERO:
            ends = {"dst1": [1, 1], "dst3": [1, 0], "dct3": [0, 1]}[name]
            field = torch.nn.functional.pad(field, [0, 0] * (grid.dimension - axis - 1) + ends)
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
def shells(shape: tuple[int, ...]) -> Int64[np.ndarray, " *modes"]:
    """Place of every mode in the order of draws: by the largest index of its vector, then lexicographically.

    The order is that of all modes of the cube around ``shape``, so that a mode's place depends on no grid.
    """
    cube = (max(shape),) * len(shape)
    modes = np.stack(np.meshgrid(*[np.arange(n) for n in cube], indexing="ij"), -1).reshape(-1, len(cube))
    order = np.lexsort((*modes.T[::-1], modes.max(1)))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return np.ascontiguousarray(place.reshape(cube)[tuple(slice(0, n) for n in shape)])


def _modes(name: Basis, n: int) -> int:
    return n - WALLS_OF_ZERO.get(name, 0)


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
        scale = _halfcomplex(n).reshape(-1, *[1] * (values.ndim - axis - 1))
        return scipy.fftpack.irfft(values * scale, axis=axis)
    inverse, kind = _SERIES[name]
    return np.asarray(inverse(values, type=kind, axes=axis, norm="ortho"))


@lru_cache(maxsize=32)
def _halfcomplex(n: int) -> Float[np.ndarray, " mode"]:
    """From the orthonormal order 1, cos, sin, cos, ... to the real and imaginary parts that FFTPACK transforms."""
    scale = np.full(n, math.sqrt(n / 2))
    scale[2::2] *= -1
    scale[0] = math.sqrt(n)
    if n % 2 == 0:
        scale[-1] = math.sqrt(n)
    return scale
