"""Compiled loops of the Krylov methods: orthogonalisation, small combinations of long vectors, rotations.

Long vectors are the rows of C-ordered arrays (columns of a Fortran-ordered one). All sweeps go through `BLOCK` entries
of all rows before they go on, so that what one pass reads is still in the cache for the next: two passes over the basis
then cost one trip to memory. Sums are reassociated, which the processor's vector units need; the order is fixed when a
kernel is compiled, so the bits are the same from run to run and for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

from fieldwright.solvers.lanes import Decorator

BLOCK = 512
# Entries at a time where many rows are made of many: results and rows of a block share the first-level cache.
MIXED = 256
# A vector whose overlap with the basis is above this share of its norm is orthogonalised again.
OVERLAP = 1e-13
# A direction whose part outside the space is below this share of it is taken for none.
BREAKDOWN = 1e-14

# Numba's type hints do not know all options.
_njit = cast("Callable[..., Any]", numba.njit)
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
reducing = cast(Decorator, _njit(**_OPTIONS))
inner = cast(Decorator, _njit(**_OPTIONS, no_cpython_wrapper=True))


@inner
def _project(rows, count, w, start, stop, h):
    """h_j += row_jᴴ w over the entries start .. stop."""
    x = w[start:stop]
    j = 0
    while j + 3 < count:
        a, b = rows[j, start:stop], rows[j + 1, start:stop]
        c, d = rows[j + 2, start:stop], rows[j + 3, start:stop]
        s, t, u, v = h[j], h[j + 1], h[j + 2], h[j + 3]
        for i in range(len(x)):
            s += np.conj(a[i]) * x[i]
            t += np.conj(b[i]) * x[i]
            u += np.conj(c[i]) * x[i]
            v += np.conj(d[i]) * x[i]
        h[j], h[j + 1], h[j + 2], h[j + 3] = s, t, u, v
        j += 4
    while j < count:
        a, s = rows[j, start:stop], h[j]
        for i in range(len(x)):
            s += np.conj(a[i]) * x[i]
        h[j] = s
        j += 1


@inner
def _add_rows(rows, count, h, w, start, stop):
    """w += Σ_j h_j row_j over the entries start .. stop."""
    x = w[start:stop]
    j = 0
    while j + 3 < count:
        a, b = rows[j, start:stop], rows[j + 1, start:stop]
        c, d = rows[j + 2, start:stop], rows[j + 3, start:stop]
        s, t, u, v = h[j], h[j + 1], h[j + 2], h[j + 3]
        for i in range(len(x)):
            x[i] += a[i] * s + b[i] * t + c[i] * u + d[i] * v
        j += 4
    while j < count:
        a, s = rows[j, start:stop], h[j]
        for i in range(len(x)):
            x[i] += a[i] * s
        j += 1


@inner
def _square(w, start, stop):
    x = w[start:stop]
    total = 0.0
    for i in range(len(x)):
        total += x[i].real * x[i].real + x[i].imag * x[i].imag
    return total


@reducing
def norm(w):
    """‖w‖₂."""
    return np.sqrt(_square(w, 0, len(w)))


@inner
def _orthogonalise(rows, count, h, scratch):
    w = rows[count]
    n = len(w)
    for j in range(count):
        h[j] = 0.0
        scratch[j] = 0.0
    before = 0.0
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        before += _square(w, start, stop)
        _project(rows, count, w, start, stop, h)
    for j in range(count):
        h[j] = -h[j]
    after = 0.0
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        _add_rows(rows, count, h, w, start, stop)
        _project(rows, count, w, start, stop, scratch)
        after += _square(w, start, stop)
    left = 0.0
    for j in range(count):
        left += scratch[j].real * scratch[j].real + scratch[j].imag * scratch[j].imag
        scratch[j] = -scratch[j]
    if left > OVERLAP * OVERLAP * after:
        after = 0.0
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            _add_rows(rows, count, scratch, w, start, stop)
            after += _square(w, start, stop)
        for j in range(count):
            h[j] += scratch[j]
    for j in range(count):
        h[j] = -h[j]
    after = np.sqrt(after)
    if after > 0.0 and after < np.inf:
        inverse = 1.0 / after
        for i in range(n):
            w[i] *= inverse
    return np.sqrt(before), after


@reducing
def orthogonalise(rows, count, h, scratch):
    """Take the rows before ``count`` (orthonormal) out of row ``count`` and normalise it.

    Classical Gram-Schmidt, twice: the second pass measures what the first left over while the rows are still in the
    cache, and takes it out where it is above `OVERLAP` ("twice is enough", Giraud et al. 2005).

    Returns the norm before and after; ``h`` receives the components. A row whose norm is zero or not finite is left as
    it is.
    """
    return _orthogonalise(rows, count, h, scratch)


@reducing
def arnoldi_step(rows, held, j, column, scratch, triangle, coupling, cosines, sines, g):
    """Orthogonalise B v_j (in its row), and take its column into C^H B V and into the QR factorisation of H.

    Returns (norm before, norm after, norm of the least residual).
    """
    before, after = _orthogonalise(rows, held + j + 1, column, scratch)
    for i in range(held):
        coupling[i, j] = column[i]
    hessenberg = column[held:]
    hessenberg[j + 1] = after if after > BREAKDOWN * before else 0.0
    _rotate(hessenberg, j, triangle, cosines, sines, g)
    return before, after, abs(g[j + 1])


@inner
def _rotate(column, j, triangle, cosines, sines, g):
    """Take a Hessenberg column (entries 0 .. j + 1) into column j of the QR factorisation by Givens rotations.

    ``triangle[:, j]`` becomes R's column; ``g`` is the rotated right-hand side, |g[j + 1]| the residual's norm.
    """
    for i in range(j):
        top, low = column[i], column[i + 1]
        column[i] = cosines[i] * top + sines[i] * low
        column[i + 1] = -np.conj(sines[i]) * top + cosines[i] * low
    a, b = column[j], column[j + 1].real
    size = np.sqrt(a.real * a.real + a.imag * a.imag)
    length = np.sqrt(size * size + b * b)
    if size == 0.0:
        cosines[j] = 0.0
        sines[j] = 1.0
        column[j] = b
    else:
        phase = a / size
        cosines[j] = size / length
        sines[j] = phase * (b / length)
        column[j] = phase * length
    for i in range(j + 1):
        triangle[i, j] = column[i]
    g[j + 1] = -np.conj(sines[j]) * g[j]
    g[j] = cosines[j] * g[j]


@reducing
def rotate_rows(block, steps, cosines, sines):
    """Qᴴ block, with Q the product of the first ``steps`` rotations, in place."""
    for i in range(steps):
        for c in range(block.shape[1]):
            top, low = block[i, c], block[i + 1, c]
            block[i, c] = cosines[i] * top + sines[i] * low
            block[i + 1, c] = -np.conj(sines[i]) * top + cosines[i] * low


@reducing
def rotate_back(block, steps, cosines, sines):
    """Q block, the inverse of `rotate_rows`, in place."""
    for i in range(steps - 1, -1, -1):
        for c in range(block.shape[1]):
            top, low = block[i, c], block[i + 1, c]
            block[i, c] = cosines[i] * top - sines[i] * low
            block[i + 1, c] = np.conj(sines[i]) * top + cosines[i] * low


@reducing
def add_combination(rows, count, h, w):
    """w += Σ_j h_j row_j."""
    n = len(w)
    for start in range(0, n, BLOCK):
        _add_rows(rows, count, h, w, start, min(n, start + BLOCK))


@reducing
def products(left, left_count, right, right_count, out):
    """out[i, j] = left_iᴴ right_j."""
    n = left.shape[1]
    for i in range(left_count):
        for j in range(right_count):
            out[i, j] = 0.0
    column = np.zeros(left_count, left.dtype)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for j in range(right_count):
            for i in range(left_count):
                column[i] = out[i, j]
            _project(left, left_count, right[j], start, stop, column)
            for i in range(left_count):
                out[i, j] = column[i]


@reducing
def recombine(images, image_count, vectors, vector_count, basis, basis_count, mix_images, mix_vectors, mix_basis):
    """The recycle space of the next cycle, in place, in one sweep.

        C ← Σ_j mix_images[j, i] image_j                                    (images: C and the Krylov basis)
        U ← Σ_j mix_vectors[j, i] vector_j + Σ_j mix_basis[j, i] basis_j     (vectors: U; basis: the Krylov basis)

    ``mix_*`` have one column for each of the new rows, which replace the first rows of ``images`` and ``vectors``.
    """
    n = images.shape[1]
    fresh = mix_images.shape[1]
    new_images = np.empty((fresh, MIXED), images.dtype)
    new_vectors = np.empty((fresh, MIXED), images.dtype)
    for start in range(0, n, MIXED):
        stop = min(n, start + MIXED)
        new_images[:] = 0.0
        new_vectors[:] = 0.0
        _mix(images, image_count, mix_images, new_images, start, stop)
        _mix(vectors, vector_count, mix_vectors, new_vectors, start, stop)
        _mix(basis, basis_count, mix_basis, new_vectors, start, stop)
        for i in range(fresh):
            for e in range(stop - start):
                images[i, start + e] = new_images[i, e]
                vectors[i, start + e] = new_vectors[i, e]


@inner
def _mix(rows, count, mix, out, start, stop):
    """out_i += Σ_j mix[j, i] row_j over a block, four results by four rows at a time."""
    size = stop - start
    fresh = mix.shape[1]
    j = 0
    while j + 3 < count:
        a, b = rows[j, start:stop], rows[j + 1, start:stop]
        c, d = rows[j + 2, start:stop], rows[j + 3, start:stop]
        i = 0
        while i + 3 < fresh:
            w, x, y, z = out[i, :size], out[i + 1, :size], out[i + 2, :size], out[i + 3, :size]
            wa, wb, wc, wd = mix[j, i], mix[j + 1, i], mix[j + 2, i], mix[j + 3, i]
            xa, xb, xc, xd = mix[j, i + 1], mix[j + 1, i + 1], mix[j + 2, i + 1], mix[j + 3, i + 1]
            ya, yb, yc, yd = mix[j, i + 2], mix[j + 1, i + 2], mix[j + 2, i + 2], mix[j + 3, i + 2]
            za, zb, zc, zd = mix[j, i + 3], mix[j + 1, i + 3], mix[j + 2, i + 3], mix[j + 3, i + 3]
            for e in range(size):
                p, q, r, s = a[e], b[e], c[e], d[e]
                w[e] += wa * p + wb * q + wc * r + wd * s
                x[e] += xa * p + xb * q + xc * r + xd * s
                y[e] += ya * p + yb * q + yc * r + yd * s
                z[e] += za * p + zb * q + zc * r + zd * s
            i += 4
        while i < fresh:
            w = out[i, :size]
            wa, wb, wc, wd = mix[j, i], mix[j + 1, i], mix[j + 2, i], mix[j + 3, i]
            for e in range(size):
                w[e] += wa * a[e] + wb * b[e] + wc * c[e] + wd * d[e]
            i += 1
        j += 4
    while j < count:
        a = rows[j, start:stop]
        for i in range(fresh):
            w, wa = out[i, :size], mix[j, i]
            for e in range(size):
                w[e] += wa * a[e]
        j += 1
