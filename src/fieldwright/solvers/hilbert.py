"""Places along a Hilbert curve in any number of dimensions: near along the curve is near in space.

Source: J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004): the coordinates' bits are turned into
the "transpose" of the place along the curve by exchanges and inversions of low bits, then by a Gray decoding.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from fieldwright.errors import InputError


def hilbert_index(points: Float[np.ndarray, "point axis"], *, bits: int | None = None) -> Int64[np.ndarray, " point"]:
    """The place of each point along the Hilbert curve through the points' bounding box.

    ``bits`` per axis; by default as many as 62 bits allow, at most 16.

    Errors: `InputError` for a value that is not finite, or more bits than fit.
    """
    count, axes = points.shape
    if not np.isfinite(points).all():
        raise InputError("hilbert: a point holds a NaN or infinite coordinate")
    bits = min(16, 62 // max(axes, 1)) if bits is None else bits
    if bits < 1 or bits * axes > 62:
        raise InputError(f"hilbert: {bits} bits for each of {axes} axes; from 1 to 62 bits in all are possible")
    if count == 0 or axes == 0:
        return np.zeros(count, np.int64)
    low = points.min(0)
    span = points.max(0) - low
    unit = (points - low) / np.where(span > 0, span, 1.0)
    cells = np.minimum((unit * 2**bits).astype(np.int64), 2**bits - 1)
    return hilbert_index_of_cells(cells, bits)


def hilbert_index_of_cells(cells: Int64[np.ndarray, "point axis"], bits: int) -> Int64[np.ndarray, " point"]:
    """The place along the curve of cells of a grid with 2^``bits`` cells along each axis."""
    x = cells.T.copy()
    axes = len(x)
    bit = 1 << (bits - 1)
    while bit > 1:
        low = bit - 1
        for axis in range(axes):
            set_here = (x[axis] & bit) != 0
            exchange = np.where(set_here, 0, (x[0] ^ x[axis]) & low)
            x[0] ^= np.where(set_here, low, exchange)
            x[axis] ^= exchange
        bit >>= 1
    for axis in range(1, axes):
        x[axis] ^= x[axis - 1]
    turn = np.zeros_like(x[0])
    bit = 1 << (bits - 1)
    while bit > 1:
        turn ^= np.where((x[-1] & bit) != 0, bit - 1, 0)
        bit >>= 1
    x ^= turn
    index = np.zeros(x.shape[1], np.int64)
    for place in range(bits - 1, -1, -1):
        for axis in range(axes):
            index = (index << 1) | ((x[axis] >> place) & 1)
    return index
