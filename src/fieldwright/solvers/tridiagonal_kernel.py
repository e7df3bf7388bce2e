"""Thomas' algorithm for a batch, compiled: the recurrences of eight samples side by side."""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import LANES, compiled


@compiled
def eliminate(lower, diagonal, upper, rhs, x):
    """Solve the open system of every row: arrays (batch, point), the solution written to ``x``.

    A sample alone would wait for the division of each point before it began the next; with eight at a time, the
    processor has seven others to go on with. Every sample goes through the same operations, whoever stands beside it.
    """
    batch, n = rhs.shape
    ratio = np.empty((n, LANES))
    for first in range(0, batch, LANES):
        last = min(first + LANES, batch)
        for row in range(first, last):
            pivot = diagonal[row, 0]
            ratio[0, row - first] = upper[row, 0] / pivot
            x[row, 0] = rhs[row, 0] / pivot
        for i in range(1, n):
            for row in range(first, last):
                below = lower[row, i]
                inverse = 1.0 / (diagonal[row, i] - below * ratio[i - 1, row - first])
                ratio[i, row - first] = upper[row, i] * inverse
                x[row, i] = (rhs[row, i] - below * x[row, i - 1]) * inverse
        for i in range(n - 2, -1, -1):
            for row in range(first, last):
                x[row, i] -= ratio[i, row - first] * x[row, i + 1]
