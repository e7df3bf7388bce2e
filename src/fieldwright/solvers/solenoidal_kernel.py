"""The flux of `solenoidal_flux` compiled for a CPU: transforms and products fused, the data in cache.

The two components a, b are one complex field z = a + i b on the grid, whose square holds both products that are
wanted: z² = (a² - b²) + 2i ab. Per sample:

1. for eight columns of waves κ_y at a time: multiply by i κ / |κ|², transform along κ_x;
2. for eight lines of points at a time: put z together from the half spectra, transform, square, transform back, part;
3. for eight columns: transform along x, combine to the curl of the flux.

Only the columns within the band are ever touched. Between the passes tiles are transposed, so that lanes always hold
eight lines. A column count that is not a multiple of eight makes the last eight columns overlap those before, which are
computed twice to the same bits.
"""

from __future__ import annotations

import numpy as np
import torch

from fieldwright.solvers.lane_transforms import (
    from_scattered,
    load_imaginary,
    load_real,
    store_complex,
    to_scattered,
    turn_tile,
    twiddle_table,
)
from fieldwright.solvers.lanes import LANES, aligned, compiled, inner, load, load_row, spread, store
from fieldwright.solvers.spectral_grid import SpectralGrid


class FluxKernel:
    """The compiled flux on one grid, with its tables and workspaces.

    Calls take ``curl, out`` (batch, kx, ky, 2) and the mean field (batch, 2) as contiguous arrays of the dtype.
    """

    def __init__(self, waves: SpectralGrid, dtype: torch.dtype) -> None:
        kind = np.float32 if dtype == torch.float32 else np.float64
        n, columns = waves.modes
        inverse = 1 / waves.squares
        inverse[0, 0] = 0.0
        self._tables = (
            waves.wavenumbers(0).flatten().numpy().astype(kind),
            waves.wavenumbers(1).flatten().numpy().astype(kind),
            inverse.flatten().numpy().astype(kind),
            np.array([0.0, 0.25 / n**2, -0.5 / n**2], dtype=kind),
            twiddle_table(n, kind),
        )
        self._sizes = (n, columns, waves.bands[0])
        self._workspaces = (aligned(4 * n, kind), aligned(4 * (n // LANES) * columns, kind))
        self._stages = np.empty((0, 2 * n * columns), dtype=kind)

    def __call__(self, curl: np.ndarray, out: np.ndarray, mean: np.ndarray) -> None:
        batch = len(curl)
        flux_kernel(
            curl.reshape(batch, -1), out.reshape(batch, -1), mean, *self._tables, *self._sizes, *self._workspaces
        )

    def advance(
        self, curl: np.ndarray, mean: np.ndarray, weights: np.ndarray, fading: float, force: np.ndarray, steps: int
    ) -> None:
        """``steps`` steps of ETDRK4 in place; the arguments are those of `advance_kernel`."""
        if not len(self._stages):
            self._stages = np.empty((6, self._stages.shape[1]), dtype=self._stages.dtype)
        advance_kernel(
            curl.reshape(len(curl), -1),
            mean,
            weights.reshape(len(weights), 5, -1),
            mean.dtype.type(fading),
            force.reshape(-1),
            steps,
            *self._tables,
            *self._sizes,
            *self._workspaces,
            self._stages,
        )


@compiled
def flux_kernel(curl, out, mean, kx, ky, inverse, constants, table, n, columns, band, line, between):
    """``out`` = coefficients of -u·∇ω for each sample of ``curl``.

    ``curl, out``      (batch, n * columns * 2): real and imaginary parts in turn, κ_y fastest
    ``mean``           (batch, 2): the mean of u
    ``kx, ky``         wavenumbers; ``inverse``: 1 / |κ|², 0 for the mean, (n * columns)
    ``constants``      0 and 1 / (4 n²), -1 / (2 n²)
    ``table``          `twiddle_table` of n
    ``columns, band``  waves κ_y that are kept, and the highest one of κ_x
    ``line, between``  workspaces of 4 n and 4 (n / lanes) columns vectors
    """
    for sample in range(curl.shape[0]):
        _products(curl[sample], mean[sample, 0], mean[sample, 1], kx, ky, inverse, constants, table, n, columns, band,
                  line, between)  # fmt: skip
        for group in range(_groups(columns)):
            first = _lines_along_x(table, n, columns, line, between, group)
            for row in range(n):
                r, m = _rate(kx, ky, constants, n, columns, band, line, between, group, row, first)
                store_complex(out[sample], 2 * (row * columns + first), r, m)


@compiled
def advance_kernel(
    curl, mean, weights, fading, force, steps, kx, ky, inverse, constants, table, n, columns, band, line, between, work
):
    """``steps`` steps of ETDRK4 for each sample of ``curl`` in place, N(ω) = -u·∇ω + force.

    ``weights``  (batch or 1, 5, n * columns): E = e^(hL/2), Q, and the weights of N(ω), N(a) + N(b) and N(c)
    ``fading``   what half a step leaves of ``mean``
    ``force``    (n * columns * 2)
    ``work``     (6, n * columns * 2): the stages a and b or c, N at the first three of them, and the state to come
    The rest as in `flux_kernel`.
    """
    for sample in range(curl.shape[0]):
        own = weights[sample if weights.shape[0] > 1 else 0]
        state, later = curl[sample], work[5]
        u, v = mean[sample, 0], mean[sample, 1]
        for _ in range(steps):
            # One loop body for the four stages: each would be compiled, and inlined, four times.
            source = state
            for number in range(4):
                _products(source, u, v, kx, ky, inverse, constants, table, n, columns, band, line, between)
                if number == 3:
                    _finish(state, work, later, own, force, kx, ky, constants, table, n, columns, band, line, between)
                    break
                base = work[0] if number == 2 else state
                source = work[0] if number == 0 else work[1]
                _stage(
                    number, base, work, source, own, force, kx, ky, constants, table, n, columns, band, line, between
                )
                if number != 1:
                    u, v = u * fading, v * fading
            state, later = later, state
        if steps % 2:
            curl[sample, :] = work[5]
        mean[sample, 0], mean[sample, 1] = u, v


@inner
def _stage(number, base, work, target, own, force, kx, ky, constants, table, n, columns, band, line, between):
    """Keep N, and ``target`` = E base + Q N, or of the last stage E base + Q (2 N - the first N)."""
    rate = work[2 + number]
    for group in range(_groups(columns)):
        first = _lines_along_x(table, n, columns, line, between, group)
        for row in range(n):
            r, m = _rate(kx, ky, constants, n, columns, band, line, between, group, row, first)
            place = row * columns + first
            r, m = r + load_real(force, 2 * place), m + load_imaginary(force, 2 * place)
            store_complex(rate, 2 * place, r, m)
            if number == 2:
                r, m = r + r - load_real(work[2], 2 * place), m + m - load_imaginary(work[2], 2 * place)
            decay, share = load_row(own[0], place), load_row(own[1], place)
            r = decay * load_real(base, 2 * place) + share * r
            m = decay * load_imaginary(base, 2 * place) + share * m
            store_complex(target, 2 * place, r, m)


@inner
def _finish(state, work, later, own, force, kx, ky, constants, table, n, columns, band, line, between):
    """``later`` = E² state + the weighted sum of the four N."""
    rate0, rate1, rate2 = work[2], work[3], work[4]
    for group in range(_groups(columns)):
        first = _lines_along_x(table, n, columns, line, between, group)
        for row in range(n):
            r, m = _rate(kx, ky, constants, n, columns, band, line, between, group, row, first)
            place = row * columns + first
            share = load_row(own[4], place)
            r = share * (r + load_real(force, 2 * place))
            m = share * (m + load_imaginary(force, 2 * place))
            share = load_row(own[3], place)
            r = r + share * (load_real(rate1, 2 * place) + load_real(rate2, 2 * place))
            m = m + share * (load_imaginary(rate1, 2 * place) + load_imaginary(rate2, 2 * place))
            share, decay = load_row(own[2], place), load_row(own[0], place)
            decay = decay * decay
            r = r + share * load_real(rate0, 2 * place) + decay * load_real(state, 2 * place)
            m = m + share * load_imaginary(rate0, 2 * place) + decay * load_imaginary(state, 2 * place)
            store_complex(later, 2 * place, r, m)


@inner
def _groups(columns):
    """How many groups of eight columns there are."""
    return (columns + LANES - 1) // LANES


@inner
def _products(curl, mean_x, mean_y, kx, ky, inverse, constants, table, n, columns, band, line, between):
    """Passes 1 and 2."""
    _components(curl, kx, ky, inverse, constants, table, n, columns, band, line, between)
    for block in range(n // LANES):
        _square(mean_x, mean_y, constants, table, n, columns, line, between, block)


@inner
def _components(curl, kx, ky, inverse, constants, table, n, columns, band, line, between):
    """Pass 1: both components, transformed along x, into ``between``: [component, block of lines, κ_y, part]."""
    zero = spread(constants[0])
    for group in range((columns + LANES - 1) // LANES):
        first = min(group * LANES, columns - LANES)
        for component in range(2):
            for row in range(n):
                if band < row < n - band:
                    store(line, 2 * row, zero)
                    store(line, 2 * row + 1, zero)
                    continue
                place = row * columns + first
                factor = load_row(inverse, place)
                factor = factor * load_row(ky, first) if component == 0 else factor * spread(-kx[row])
                store(line, 2 * row, zero - factor * load_imaginary(curl, 2 * place))
                store(line, 2 * row + 1, factor * load_real(curl, 2 * place))
            to_scattered(line, 0, n, 1, table)
            for block in range(n // LANES):
                target = ((component * (n // LANES) + block) * columns + first) * 2
                for part in range(2):
                    turn_tile(line, 2 * LANES * block + part, 2, between, target + part, 2)


@inner
def _square(mean_x, mean_y, constants, table, n, columns, line, between, block):
    """Pass 2: eight lines of points: z from the half spectra, z², and the half spectra of its two parts."""
    first = 2 * block * columns
    second = first + 2 * (n // LANES) * columns
    zero = spread(constants[0])
    for k in range(columns, n - columns + 1):
        store(line, 2 * k, zero)
        store(line, 2 * k + 1, zero)
    ar, am = load(between, first), load(between, first + 1)
    br, bm = load(between, second), load(between, second + 1)
    store(line, 0, ar - bm + spread(mean_x))
    store(line, 1, am + br + spread(mean_y))
    for k in range(1, columns):
        ar, am = load(between, first + 2 * k), load(between, first + 2 * k + 1)
        br, bm = load(between, second + 2 * k), load(between, second + 2 * k + 1)
        store(line, 2 * k, ar - bm)
        store(line, 2 * k + 1, am + br)
        store(line, 2 * (n - k), ar + bm)
        store(line, 2 * (n - k) + 1, br - am)
    to_scattered(line, 0, n, 1, table)
    for k in range(n):
        a, b = load(line, 2 * k), load(line, 2 * k + 1)
        product = a * b
        store(line, 2 * k, (a - b) * (a + b))
        store(line, 2 * k + 1, product + product)
    from_scattered(line, 0, n, 0, table)
    for k in range(columns):
        opposite = 0 if k == 0 else n - k
        r, m = load(line, 2 * k), load(line, 2 * k + 1)
        s, t = load(line, 2 * opposite), load(line, 2 * opposite + 1)
        store(between, first + 2 * k, r + s)
        store(between, first + 2 * k + 1, m - t)
        store(between, second + 2 * k, m + t)
        store(between, second + 2 * k + 1, s - r)


@inner
def _lines_along_x(table, n, columns, line, between, group):
    """Pass 3: both products of eight columns, transformed along x, into the halves of ``line``; the first column."""
    first = min(group * LANES, columns - LANES)
    for component in range(2):
        for block in range(n // LANES):
            source = ((component * (n // LANES) + block) * columns + first) * 2
            for part in range(2):
                turn_tile(between, source + part, 2, line, 2 * (component * n + LANES * block) + part, 2)
        from_scattered(line, component * n, n, 0, table)
    return first


@inner
def _rate(kx, ky, constants, n, columns, band, line, between, group, row, first):
    """(κ_x² - κ_y²) (ab)^ - κ_x κ_y (a² - b²)^ of eight columns, from twice the second and four times the first."""
    if band < row < n - band:
        return spread(constants[0]), spread(constants[0])
    along, across = load_row(ky, first), spread(kx[row])
    mixed = across * along * spread(constants[2])
    straight = (across * across - along * along) * spread(constants[1])
    r = mixed * load(line, 2 * row) + straight * load(line, 2 * (n + row))
    m = mixed * load(line, 2 * row + 1) + straight * load(line, 2 * (n + row) + 1)
    return r, m
