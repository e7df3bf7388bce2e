"""Piecewise constant fields on p x p pieces of a box, with straight or curved interfaces: Riemann states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import Range, check_range, generator
from fieldwright.problems.random_waves import sine_sum
from fieldwright.problems.synthesis import drawn

# The interfaces' numbers come after the values' in a stream of their own, so that bending keeps the values.
_INTERFACES = 2**16


def riemann_states(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    ranges: Sequence[Range],
    pieces: int | Sequence[int] = 2,
    bend: float = 0.0,
    waves: int = 2,
    stream: int = 0,
) -> Float[Tensor, "batch channel *space"]:
    """Draw fields that are constant on each piece of the box: channel c takes values from U[``ranges[c]``].

    ``pieces``  how many equal parts each axis is cut into: one number, or one per axis
    ``bend``    the largest displacement of an interface, in parts of a piece (0: straight): point x belongs to the
                piece that holds x + δ(x), each component of δ a sum of sines as in `random_sines`, w^d of equal weight
    ``waves``   w, the waves of the displacement along each axis

    Pieces wrap around on a periodic grid. Poseidon's CE-RP takes ranges=[(0.1, 1), (-1, 1), (-1, 1), (0.1, 1)] for
    density, velocities and pressure.

    Errors: `InputError` for fewer than one piece, more pieces than points, or a range out of order.

    Source: Herde et al., "Poseidon", 2024, appendix B.
    """
    cuts = (pieces,) * grid.dimension if isinstance(pieces, int) else tuple(pieces)
    if len(cuts) != grid.dimension or any(not 1 <= p <= n for p, n in zip(cuts, grid.shape, strict=False)):
        raise InputError(
            f"random_states: {list(cuts)} pieces on a grid of {list(grid.shape)} points; per axis at least one piece is"
            " needed and at most one per point"
        )
    for values in ranges:
        check_range("random_states: range", values)
    low, high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    shape = (len(low), *cuts)

    def draw(index: int) -> Float[Tensor, "channel *space"]:
        numbers = generator(seed, index, stream).random(shape)
        values = torch.from_numpy(low + (high - low) * np.moveaxis(numbers, 0, -1))
        places = _pieces(grid, cuts, bend, waves, generator(seed, index, stream + _INTERFACES) if bend else None)
        return values[tuple(places)].movedim(-1, 0)

    return drawn(grid, indices, draw, channels=len(low))


def piecewise_constant(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    pieces: int | Sequence[int] = 10,
    low: float = -1.0,
    high: float = 1.0,
    bend: float = 0.0,
    waves: int = 2,
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """One channel of `riemann_states`: values U[low, high] on each of p x p pieces.

    The defaults are the vorticity of Poseidon's NS-PwC.
    """
    ranges = [(low, high)]
    return riemann_states(grid, indices, seed, ranges=ranges, pieces=pieces, bend=bend, waves=waves, stream=stream)[
        :, 0
    ]


def _pieces(
    grid: Grid, cuts: tuple[int, ...], bend: float, waves: int, random: np.random.Generator | None
) -> Int[Tensor, "dimension *space"]:
    """The piece that each point belongs to, one number per axis."""
    found = []
    weights = np.ones((waves,) * grid.dimension)
    for axis, count in enumerate(cuts):
        place = (grid.axis(axis) - grid.lower[axis]) / grid.lengths[axis] * count
        place = place.reshape(-1, *[1] * (grid.dimension - axis - 1)).expand(grid.shape)
        if random is not None:
            place = place + bend * sine_sum(grid, random, weights / weights.size)
        # A point on an interface belongs to the upper piece, however its coordinate was rounded.
        piece = (place + 1e-9).floor().long()
        found.append(piece % count if grid.centring == "periodic" else piece.clamp(0, count - 1))
    return torch.stack(found)
