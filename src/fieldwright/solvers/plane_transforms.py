"""Real Fourier transforms of plane fields, compiled for a CPU, that touch only the waves that are kept.

Lines are transformed eight at a time in SIMD lanes (`lane_transforms`), along x and along y, with tiles transposed in
between. Along y two real lines a, b of the same field are one complex line a + i b, whose transform is parted into
theirs. No two fields share a line, so none depends on its neighbours, not even where those are NaN.

Transforms leave and take lines in digit-reversed order: along x the rows are written to, and read from, where they
belong; along y the numbers are picked up in order from a line that lies in cache.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from fieldwright.solvers.lane_transforms import (
    digit_reversed,
    from_scattered,
    load_imaginary,
    load_real,
    store_complex,
    store_row,
    to_scattered,
    turn_tile,
    twiddle_table,
)
from fieldwright.solvers.lanes import ALIGNMENT, LANES, compiled, inner, load, load_row, spread, store


class PlaneTransforms:
    """Transforms between (count, x, y) real and (count, κ_x, κ_y >= 0) complex, the latter divided by the points.

    ``shape``    points per axis, powers of two from 16 on
    ``columns``  how many κ_y are kept, at least 8; ``band``: the highest κ_x, beyond which coefficients are zero
    """

    def __init__(self, shape: tuple[int, int], columns: int, band: int) -> None:
        self._sizes = (*shape, columns, band)
        self._orders = tuple(digit_reversed(n) for n in shape)
        self._tables = {kind: tuple(twiddle_table(n, kind) for n in shape) for kind in (np.float32, np.float64)}

    def forward(self, fields: Float[Tensor, "count x y"]) -> Complex[Tensor, "count kx ky"]:
        nx, _, columns, _ = self._sizes
        given = fields.contiguous()
        spectra = given.new_empty(len(given), nx, columns, 2)
        forward_kernel(given.flatten(1).numpy(), spectra.flatten(1).numpy(), *self._arguments(given.dtype))
        return torch.view_as_complex(spectra)

    def backward(self, spectra: Complex[Tensor, "count kx ky"]) -> Float[Tensor, "count x y"]:
        """The fields of the coefficients that `forward` gives."""
        nx, ny, _, _ = self._sizes
        given = torch.view_as_real(spectra.resolve_conj().contiguous())
        fields = given.new_empty(len(given), nx, ny)
        backward_kernel(given.flatten(1).numpy(), fields.flatten(1).numpy(), *self._arguments(given.dtype))
        return fields

    def _arguments(self, dtype: torch.dtype) -> tuple:
        """What both kernels take besides their arrays; workspaces are a call's own, so that threads share the rest."""
        kind = np.float32 if dtype == torch.float32 else np.float64
        nx, ny, columns, band = self._sizes
        constants = np.array([0.0, 0.5 / (nx * ny)], dtype=kind)
        line = _workspace(4 * max(nx, ny) + 2 * LANES, kind)
        between = _workspace(2 * (nx // LANES) * columns, kind)
        return constants, *self._tables[kind], *self._orders, nx, ny, columns, band, line, between


def _workspace(entries: int, kind: type[np.floating]) -> np.ndarray:
    """Vectors on cache lines, of any value."""
    width = np.dtype(kind).itemsize
    raw = np.empty(entries * LANES + ALIGNMENT // width, kind)
    first = (-raw.ctypes.data % ALIGNMENT) // width
    return raw[first : first + entries * LANES]


@compiled
def backward_kernel(
    spectra, fields, constants, table_x, table_y, order_x, order_y, nx, ny, columns, band, line, between
):
    """``fields`` (count, nx * ny) from ``spectra`` (count, nx * columns * 2), real and imaginary parts in turn."""
    zero = spread(constants[0])
    tile = 4 * max(nx, ny)
    for index in range(spectra.shape[0]):
        _along_x(spectra[index], constants, table_x, nx, columns, band, line, between)
        for block in range(0, nx // LANES, 2):
            a = 2 * block * columns
            b = a + 2 * columns
            for k in range(columns, ny - columns + 1):
                store(line, 2 * k, zero)
                store(line, 2 * k + 1, zero)
            for k in range(columns):
                ar, am = load(between, a + 2 * k), load(between, a + 2 * k + 1)
                br, bm = load(between, b + 2 * k), load(between, b + 2 * k + 1)
                if k == 0 or 2 * k == ny:  # a wave that is its own conjugate has a real coefficient
                    store(line, 2 * k, ar)
                    store(line, 2 * k + 1, br)
                else:
                    store(line, 2 * k, ar - bm)
                    store(line, 2 * k + 1, am + br)
                    store(line, 2 * (ny - k), ar + bm)
                    store(line, 2 * (ny - k) + 1, br - am)
            to_scattered(line, 0, ny, 1, table_y)
            for part in range(2):
                for start in range(0, ny, LANES):
                    for k in range(LANES):
                        store(line, tile + k, load(line, 2 * order_y[start + k] + part))
                    turn_tile(line, tile, 1, line, tile + LANES, 1)
                    for lane in range(LANES):
                        row = order_x[nx + LANES * (block + part) + lane]
                        store_row(fields[index], row * ny + start, load(line, tile + LANES + lane))


@compiled
def forward_kernel(
    fields, spectra, constants, table_x, table_y, order_x, order_y, nx, ny, columns, band, line, between
):
    """``spectra`` from ``fields``, arrays as in `backward_kernel`."""
    zero, share = spread(constants[0]), spread(constants[1])
    tile = 4 * max(nx, ny)
    for index in range(fields.shape[0]):
        for block in range(0, nx // LANES, 2):
            for part in range(2):
                for start in range(0, ny, LANES):
                    for lane in range(LANES):
                        row = order_x[nx + LANES * (block + part) + lane]
                        store(line, tile + lane, load_row(fields[index], row * ny + start))
                    turn_tile(line, tile, 1, line, tile + LANES, 1)
                    for k in range(LANES):
                        store(line, 2 * order_y[start + k] + part, load(line, tile + LANES + k))
            from_scattered(line, 0, ny, 0, table_y)
            a = 2 * block * columns
            b = a + 2 * columns
            for k in range(columns):
                opposite = 0 if k == 0 else ny - k
                r, m = load(line, 2 * k), load(line, 2 * k + 1)
                s, t = load(line, 2 * opposite), load(line, 2 * opposite + 1)
                store(between, a + 2 * k, r + s)
                store(between, a + 2 * k + 1, m - t)
                store(between, b + 2 * k, m + t)
                store(between, b + 2 * k + 1, s - r)
        for group in range((columns + LANES - 1) // LANES):
            left = min(group * LANES, columns - LANES)
            for block in range(nx // LANES):
                for half in range(2):
                    turn_tile(between, (block * columns + left) * 2 + half, 2, line, 2 * LANES * block + half, 2)
            from_scattered(line, 0, nx, 0, table_x)
            for row in range(nx):
                place = 2 * (row * columns + left)
                if band < row < nx - band:
                    store_complex(spectra[index], place, zero, zero)
                else:
                    store_complex(spectra[index], place, share * load(line, 2 * row), share * load(line, 2 * row + 1))


@inner
def _along_x(spectrum, constants, table, nx, columns, band, line, between):
    """The coefficients of one field transformed along x, into ``between``: [block of lines, κ_y, part]."""
    zero = spread(constants[0])
    for group in range((columns + LANES - 1) // LANES):
        left = min(group * LANES, columns - LANES)
        for row in range(nx):
            if band < row < nx - band:
                store(line, 2 * row, zero)
                store(line, 2 * row + 1, zero)
            else:
                place = 2 * (row * columns + left)
                store(line, 2 * row, load_real(spectrum, place))
                store(line, 2 * row + 1, load_imaginary(spectrum, place))
        to_scattered(line, 0, nx, 1, table)
        for block in range(nx // LANES):
            for half in range(2):
                turn_tile(line, 2 * LANES * block + half, 2, between, (block * columns + left) * 2 + half, 2)
