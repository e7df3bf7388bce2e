"""Random slices and volumes of a head: white matter, grey matter, fluid, as shares of each cell.

Inside a round skull a smooth random field divides the tissue into white and grey matter, and two tilted ellipsoids side
by side, the ventricles, hold fluid. All of it is a function of the place alone, so that a finer grid samples the same
head; at the skull and at the ventricles tissue fades out over `EDGE`, as the cells of a scan hold parts of both.

Source: the synthetic set "FK2D" of our notes on discrete-loss optimisation, after Balcerak et al., "Individualizing
glioma radiotherapy planning", Nature Communications 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.problems.draws import generator
from fieldwright.problems.random_fields import gaussian_field
from fieldwright.problems.spectra import SquaredExponential

SKULL = 31 / 64
"""Radius of the skull, as a share of the box's side."""
EDGE = 1 / 32
"""Width over which tissue fades out, as a share of the box's side."""
# p_white = sigmoid(4 (g + 0.2)) of a field g of variance 1: two thirds white where nothing else is.
_SHARPNESS, _BIAS = 4.0, 0.2
_SHAPE_STREAM, _FIELD_STREAM = 1, 2
_TRIES = 1000


@dataclass(frozen=True)
class Ventricle:
    """An ellipsoid: ``centre`` and ``radii`` in shares of the box's side, ``frame`` with its axes as rows."""

    centre: Float64[np.ndarray, " dimension"]
    radii: Float64[np.ndarray, " dimension"]
    frame: Float64[np.ndarray, "dimension dimension"]

    def depth(self, places: Float64[np.ndarray, "dimension *points"]) -> Float64[np.ndarray, " *points"]:
        """How far outside a place is (negative: inside), in shares of the side, as if along the shortest axis."""
        apart = np.tensordot(self.frame, places - self.centre.reshape(-1, *[1] * (places.ndim - 1)), 1)
        stretched = apart / self.radii.reshape(-1, *[1] * (places.ndim - 1))
        return (np.sqrt((stretched**2).sum(0)) - 1) * self.radii.min()


def brain_tissue(
    grid: Grid, indices: Sequence[int], seed: int, *, correlation: float
) -> tuple[Float[Tensor, "batch *space"], Float[Tensor, "batch *space"]]:
    """(white matter, grey matter), each in [0, 1]; their sum is 1 in tissue, 0 in fluid and outside the skull.

    ``correlation``  length over which the tissue forgets itself, in the grid's unit: ℓ of exp(-r² / (2 ℓ²))

    Errors: `InputError` for a grid too coarse for the correlation length.
    """
    field = gaussian_field(grid, indices, seed, spectrum=SquaredExponential(correlation), stream=_FIELD_STREAM)
    places = _places(grid)
    whole = [_share_of_tissue(places, ventricles(grid.dimension, index, seed)) for index in indices]
    tissue = torch.from_numpy(np.array(whole)).reshape(field.shape)
    white = torch.sigmoid(_SHARPNESS * (field + _BIAS))
    return tissue * white, tissue * (1 - white)


def ventricles(dimension: int, index: int, seed: int) -> list[Ventricle]:
    """The two ventricles of a head, one on each side of the plane x = ½."""
    random = generator(seed, index, _SHAPE_STREAM)
    found = []
    for side in (-1, 1):
        centre = 0.5 + random.uniform(-0.04, 0.04, 3)
        centre[0] = 0.5 + side * random.uniform(0.1, 0.15)
        radii = np.array([random.uniform(0.04, 0.07), random.uniform(0.1, 0.16), random.uniform(0.08, 0.14)])
        angle = side * random.uniform(-0.1, 0.5)
        frame = np.eye(3)
        frame[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        found.append(Ventricle(centre[:dimension], radii[:dimension], frame[:dimension, :dimension]))
    return found


def tissue_places(
    dimension: int, index: int, seed: int, *, count: int, spread: float, random: np.random.Generator
) -> Float64[np.ndarray, "place dimension"]:
    """Places in the tissue of a head, in shares of the side: the first anywhere, the others within ``spread`` of it."""
    holes = ventricles(dimension, index, seed)
    found: list[np.ndarray] = []
    for _ in range(_TRIES):
        around, reach = (np.full(dimension, 0.5), 0.75 * SKULL) if not found else (found[0], spread)
        place = around + reach * random.uniform(-1, 1, dimension)
        inside = np.linalg.norm(place - 0.5) < SKULL - 2 * EDGE
        if inside and all(hole.depth(place[:, None])[0] > EDGE for hole in holes):
            found.append(place)
        if len(found) == count:
            break
    return np.array(found)


def _share_of_tissue(
    places: Float64[np.ndarray, "dimension *space"], holes: list[Ventricle]
) -> Float64[np.ndarray, " *space"]:
    depth = SKULL - np.sqrt(((places - 0.5) ** 2).sum(0))
    for hole in holes:
        depth = np.minimum(depth, hole.depth(places))
    return np.clip(0.5 + depth / EDGE, 0.0, 1.0)


def _places(grid: Grid) -> Float64[np.ndarray, "dimension *space"]:
    """The grid's points in shares of the box's sides."""
    shape = (-1, *[1] * grid.dimension)
    lower, lengths = np.array(grid.lower).reshape(shape), np.array(grid.lengths).reshape(shape)
    return (grid.coordinates().numpy() - lower) / lengths
