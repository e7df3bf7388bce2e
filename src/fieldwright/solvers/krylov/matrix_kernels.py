"""Compiled products and triangular solves of sparse matrices, stored by flat diagonals or by rows.

A stencil on a grid has few flat diagonals: entry (i, i + o) for each of a handful of distances o. Stored by diagonals
its product is a sum of shifted vectors, which vector units love, and a triangular solve waits for one multiplication a
row instead of a gather. Any other pattern is stored by rows (CSR).
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.krylov.vector_kernels import BLOCK, inner, reducing


@inner
def _add_diagonal(offset, line, x, out, start, stop):
    low, high = max(start, -offset), min(stop, len(x) - offset)
    if low < high:
        y, a, b = out[low:high], line[low:high], x[low + offset : high + offset]
        for i in range(len(y)):
            y[i] += a[i] * b[i]


@reducing
def diagonals_product(offsets, values, x, out):
    """out_i = Σ_d values[d, i] x[i + offsets[d]]; entries that would leave the vector are not read."""
    n = len(x)
    count = len(offsets)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        out[start:stop] = 0.0
        d = 0
        if start + offsets[0] >= 0 and stop + offsets[count - 1] <= n:
            y = out[start:stop]
            while d + 3 < count:
                a, b = values[d, start:stop], values[d + 1, start:stop]
                e, f = values[d + 2, start:stop], values[d + 3, start:stop]
                p, q = x[start + offsets[d] : stop + offsets[d]], x[start + offsets[d + 1] : stop + offsets[d + 1]]
                r, s = (
                    x[start + offsets[d + 2] : stop + offsets[d + 2]],
                    x[start + offsets[d + 3] : stop + offsets[d + 3]],
                )
                for i in range(len(y)):
                    y[i] += a[i] * p[i] + b[i] * q[i] + e[i] * r[i] + f[i] * s[i]
                d += 4
        while d < count:
            _add_diagonal(offsets[d], values[d], x, out, start, stop)
            d += 1


@reducing
def rows_product(starts, columns, values, x, out):
    """out = A x for a matrix in CSR."""
    for i in range(len(starts) - 1):
        out[i] = 0.0
        total = out[i]
        for e in range(starts[i], starts[i + 1]):
            total += values[e] * x[columns[e]]
        out[i] = total


@inner
def _nearest_far(offsets):
    """Rows that can be updated at a time: the least distance above 1."""
    chunk = BLOCK
    for d in range(len(offsets)):
        o = abs(offsets[d])
        if o > 1:
            chunk = min(chunk, o)
    return chunk


@reducing
def diagonals_solve(offsets, values, lower_count, pivots, r, out):
    """out = U⁻¹ L⁻¹ r, L unit lower, U unit upper after its rows were divided by the ``pivots`` (given as inverses).

    ``values`` holds L on the first ``lower_count`` diagonals (negative offsets), then U (positive offsets). All
    diagonals but ±1 reach past the chunk of rows at hand, so their share is a vector operation; only the neighbours'
    share is a recurrence.
    """
    n = len(r)
    for i in range(n):
        out[i] = r[i]
    lower, upper = offsets[:lower_count], offsets[lower_count:]
    chunk = _nearest_far(lower)
    for start in range(0, n, chunk):
        stop = min(n, start + chunk)
        near = -1
        for d in range(lower_count):
            o = offsets[d]
            if o == -1:
                near = d
                continue
            low = max(start, -o)
            if low < stop:
                y, a, b = out[low:stop], values[d, low:stop], out[low + o : stop + o]
                for i in range(len(y)):
                    y[i] -= a[i] * b[i]
        if near >= 0:
            a = values[near]
            first = max(start, 1)
            if first < stop:
                y = out[first - 1]
                for i in range(first, stop):
                    y = out[i] - a[i] * y
                    out[i] = y
    for i in range(n):
        out[i] *= pivots[i]
    chunk = _nearest_far(upper)
    for back in range(0, n, chunk):
        stop = n - back
        start = max(0, stop - chunk)
        near = -1
        for d in range(lower_count, len(offsets)):
            o = offsets[d]
            if o == 1:
                near = d
                continue
            high = min(stop, n - o)
            if start < high:
                y, a, b = out[start:high], values[d, start:high], out[start + o : high + o]
                for i in range(len(y)):
                    y[i] -= a[i] * b[i]
        if near >= 0:
            a = values[near]
            last = min(stop, n - 1)
            if start < last:
                y = out[last]
                for i in range(last - 1, start - 1, -1):
                    y = out[i] - a[i] * y
                    out[i] = y


@reducing
def rows_solve(starts, columns, values, diagonal, pivots, r, out):
    """The same for factors stored by rows in one CSR matrix; ``diagonal`` is the place of each row's diagonal entry."""
    n = len(r)
    for i in range(n):
        total = r[i]
        for e in range(starts[i], diagonal[i]):
            total -= values[e] * out[columns[e]]
        out[i] = total
    for i in range(n - 1, -1, -1):
        total = out[i] * pivots[i]
        for e in range(diagonal[i] + 1, starts[i + 1]):
            total -= values[e] * out[columns[e]]
        out[i] = total


@reducing
def factor_diagonals(offsets, values, lower_count, main, targets, pivots):
    """ILU(0) by diagonals, in place: L below, U above the main diagonal; returns the first row without a pivot, or -1.

    ``targets[l, u]`` is the diagonal that an entry of L at l and one of U at u update, -1 where it is not stored.
    The rows of U are divided by their pivots at the end, whose inverses go to ``pivots``.
    """
    n = values.shape[1]
    for i in range(n):
        for low in range(lower_count):
            k = i + offsets[low]
            if k < 0 or values[low, i] == 0.0:
                continue
            factor = values[low, i] * pivots[k]
            values[low, i] = factor
            for high in range(main + 1, len(offsets)):
                target = targets[low, high]
                if target >= 0 and k + offsets[high] < n:
                    values[target, i] -= factor * values[high, k]
        pivot = values[main, i]
        if pivot == 0.0 or not np.isfinite(abs(pivot)):
            return i
        pivots[i] = 1.0 / pivot
    for high in range(main + 1, len(offsets)):
        for i in range(n):
            values[high, i] *= pivots[i]
    return -1


@reducing
def factor_rows(starts, columns, values, diagonal, pivots):
    """ILU(0) on a CSR pattern with sorted columns, in place, as `factor_diagonals`."""
    n = len(starts) - 1
    place = np.full(n, -1, np.int64)
    for i in range(n):
        for e in range(starts[i], starts[i + 1]):
            place[columns[e]] = e
        for e in range(starts[i], diagonal[i]):
            k = columns[e]
            factor = values[e] * pivots[k]
            values[e] = factor
            for f in range(diagonal[k] + 1, starts[k + 1]):
                target = place[columns[f]]
                if target >= 0:
                    values[target] -= factor * values[f]
        for e in range(starts[i], starts[i + 1]):
            place[columns[e]] = -1
        pivot = values[diagonal[i]]
        if pivot == 0.0 or not np.isfinite(abs(pivot)):
            return i
        pivots[i] = 1.0 / pivot
    for i in range(n):
        for e in range(diagonal[i] + 1, starts[i + 1]):
            values[e] *= pivots[i]
    return -1
