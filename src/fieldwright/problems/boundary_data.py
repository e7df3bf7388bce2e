"""Random values on the walls of a box, and their lifting into it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.draws import generator
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.random_polynomials import random_chebyshev
from fieldwright.problems.spectra import Spectrum

WallValues = Literal["zero", "gaussian", "chebyshev"]


def random_lifting(
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    kind: WallValues,
    deviation: float = 1.0,
    spectrum: Spectrum | None = None,
    degree: int = 8,
    stream: int = 0,
) -> Float[Tensor, "batch *space"]:
    """Draw values on all walls of a box of cells, and the function of least fuss that takes them:

        g(x) = c(x) + Σ_axis (1 - x_a) b_a0(rest of x) + x_a b_a1(rest of x),

    x in parts of the box, c multilinear between independent normal values of the 2^d corners, and an independent random
    function b per wall, zero on the wall's rim, so that the values are continuous around every edge.

    ``kind``       of b: "gaussian", a Gaussian field of the ``spectrum`` in d - 1 dimensions; "chebyshev", a random
                   series of ``degree`` times Π 4 s (1 - s); or "zero", for g = 0
    ``deviation``  of the corners' values and of the b
    ``stream``     the first of 2 d + 1 streams that are drawn from

    Errors: `InputError` for a grid that is not of cells, or an unknown kind.
    """
    if grid.centring != "cell":
        raise InputError(f"boundary_data: a {grid.centring} grid; one of cells is needed")
    if kind not in get_args(WallValues):
        raise InputError(f"boundary_data: kind '{kind}'; allowed are {', '.join(get_args(WallValues))}")
    lifting = torch.zeros(len(indices), *grid.shape, dtype=torch.float64)
    if kind == "zero":
        return lifting
    dimension = grid.dimension
    parts = [(grid.axis(axis) - grid.lower[axis]) / grid.lengths[axis] for axis in range(dimension)]
    ramps = [torch.stack([1 - part, part]) for part in parts]
    corners = np.array([generator(seed, index, stream).standard_normal((2,) * dimension) for index in indices])
    values = torch.from_numpy(deviation * corners.reshape(len(indices), *(2,) * dimension))
    for ramp in ramps:
        values = torch.movedim(values, 1, -1) @ ramp
    lifting += values
    for number, (axis, end) in enumerate(itertools.product(range(dimension), range(2)), start=1):
        if dimension == 1:
            continue
        rest = [i for i in range(dimension) if i != axis]
        lower, upper = (tuple(values[i] for i in rest) for values in (grid.lower, grid.upper))
        face = Grid(tuple(grid.shape[i] for i in rest), "cell", lower, upper)
        if kind == "gaussian":
            wall = gaussian_field(
                face, indices, seed, spectrum=spectrum, deviation=deviation, walls="dirichlet", stream=stream + number
            )
        else:
            wall = random_chebyshev(face, indices, seed, degree=degree, deviation=deviation, stream=stream + number)
            for place, i in enumerate(rest):
                bubble = 4 * parts[i] * (1 - parts[i])
                wall = wall * bubble.reshape(-1, *[1] * (len(rest) - place - 1))
        lifting += wall.unsqueeze(axis + 1) * ramps[axis][end].reshape(-1, *[1] * (dimension - axis - 1))
    return lifting
