"""Monitors: how densely nodes should stand where, from one field or several.

With piecewise interpolation of order q on cells of size h the squared error is ∫ h^(2q) |D^q u|² dx, and a mesh has
∫ h^(-d) dx cells in d dimensions. Least error for a given number: h^(-2q-d) ∝ |D^q u|², that is, a density of nodes

    m = h^(-d) ∝ |D^q u|^p,        p = 2d / (2q + d),

with q = 2 (Hessian, piecewise linear: p = 2/5, 2/3, 6/7 in 1, 2, 3 dimensions) or q = 1 (gradient, piecewise constant:
p = 2/3, 1, 6/5). It vanishes where u is linear, so it is regularised by its own mean,

    m = (1 + α² Σ_c (|D^q u_c| / a_c)² / C)^(p/2),      a_c = (mean |D^q u_c|^p)^(1/p),

over the C fields, each in its own units. m is free of units and of the field's scale; a constant field has m = 1.

Source of the 2/3 law: Huang and Russell, "Adaptive Moving Mesh Methods", Springer 2011, section 2.4; the other
dimensions follow from the same argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing.box import Box, along

Density = Callable[[Tensor], Tensor]
ORDERS = {"gradient": 1, "hessian": 2}


@dataclass(frozen=True)
class Monitor:
    """A monitor of fields ``batch channel *space`` on a grid.

    ``law``        "hessian", "gradient", or a function from fields to a positive density (batch *space)
    ``strength``   α: the larger, the fewer nodes are left where nothing happens
    ``exponent``   p; by default that of the law in the grid's dimension
    ``bound``      the largest m, in multiples of the least: targets beyond it no smooth map reaches
    ``smoothing``  deviation of a Gaussian that m is smoothed with, in multiples of the box's size
    ``motion``     distance that the fronts move while the mesh is in use, in units of the coordinates: m is widened to
                   its maximum over a window of that half-width

    Errors: `InputError` for a setting out of range.
    """

    law: Literal["hessian", "gradient"] | Density = "hessian"
    strength: float = 2.0
    exponent: float | None = None
    bound: float = 30.0
    smoothing: float = 0.01
    motion: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.law) and self.law not in ORDERS:
            raise InputError(f"monitor: law '{self.law}'; allowed are {', '.join(ORDERS)} and a function of the fields")
        for name, least in (("strength", 0.0), ("exponent", 0.0), ("bound", 1.0), ("smoothing", 0.0), ("motion", 0.0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise InputError(f"monitor: {name} = {value}; it must be a number of at least {least:g}")

    def __call__(
        self, fields: Float[Tensor, "batch channel *space"], grid: Grid, box: Box
    ) -> Float[Tensor, "batch *space"]:
        """The density of nodes at the grid's points, with 1 as its least value.

        Errors: `InputError` for fields that do not fit the grid or are not finite, fewer than three points an axis, and
        a user's density that is not positive.
        """
        check_fields(fields, grid)
        if callable(self.law):
            density = self.law(fields)
            _check_density(density, fields)
            density = density / _least(density)
        else:
            density = self._by_law(fields, grid, box)
        density = density.clamp(max=self.bound)
        if self.motion > 0:
            density = widened(density, grid, box, self.motion)
        if self.smoothing > 0:
            density = smoothed(density, grid, box, self.smoothing * box.size)
        return density / _least(density)

    def _by_law(self, fields: Tensor, grid: Grid, box: Box) -> Tensor:
        order, d = ORDERS[self.law], grid.dimension  # type: ignore[index]
        p = 2 * d / (2 * order + d) if self.exponent is None else self.exponent
        # Differences of a field in units of its own spread: neither overflow nor lose their digits in any unit.
        spread = (fields - fields.flatten(2).mean(2).reshape(*fields.shape[:2], *[1] * d)).flatten(2).abs().amax(2)
        scale = torch.where(spread > 0, 1 / spread, 0.0).reshape(*fields.shape[:2], *[1] * d)
        size = derivative_size(fields * scale, grid, box, order)
        # What differences leave of a constant is round-off, and must not become a mesh.
        base = fields.flatten(2).abs().amax(2) * torch.finfo(fields.dtype).eps * 64
        typical = size.flatten(2).pow(p).mean(2).pow(1 / p) if p > 0 else size.flatten(2).mean(2)
        varies = (spread > base) & (typical > 0)
        ratio = size * torch.where(varies, 1 / typical, 0.0).reshape(*typical.shape, *[1] * d)
        return (1 + self.strength**2 * ratio.square().mean(1)).pow(p / 2)


def check_fields(fields: Tensor, grid: Grid) -> None:
    """Errors: `InputError` for fields off the grid, not finite, or on fewer than three points an axis."""
    if tuple(fields.shape[2:]) != grid.shape or fields.ndim != grid.dimension + 2:
        raise InputError(f"mesh: fields of shape {tuple(fields.shape)}; expected batch, channel and {grid.shape}")
    if min(grid.shape) < 3:
        raise InputError(f"mesh: a grid of {grid.shape} points; at least 3 per axis are needed")
    if not bool(fields.isfinite().all()):
        raise InputError("mesh: the fields hold NaN or infinity; a mesh can only follow finite values")


def _check_density(density: Tensor, fields: Tensor) -> None:
    expected = (fields.shape[0], *fields.shape[2:])
    if tuple(density.shape) != expected:
        raise InputError(f"monitor: the function returned shape {tuple(density.shape)}; expected {expected}")
    if not bool((density > 0).all() & density.isfinite().all()):
        raise InputError("monitor: the function returned values that are not positive and finite; a density must be")


def _least(density: Tensor) -> Tensor:
    return density.flatten(1).amin(1).reshape(-1, *[1] * (density.ndim - 1))


def derivative_size(
    fields: Float[Tensor, "batch channel *space"], grid: Grid, box: Box, order: int
) -> Float[Tensor, "batch channel *space"]:
    """|∇u| (order 1) or the Frobenius norm of the Hessian (order 2), by second-order differences on the grid."""
    d = grid.dimension

    def slope(values: Tensor, axis: int, order: int) -> Tensor:
        matrix = _difference(
            grid.shape[axis], grid.centring, box.periodic[axis], grid.spacing[axis], order, values.dtype, values.device
        )
        return along(values, matrix, axis - d)

    if order == 1:
        return sum(slope(fields, a, 1).square() for a in range(d)).sqrt()  # type: ignore[union-attr]
    total = sum(slope(fields, a, 2).square() for a in range(d))
    for a in range(d):
        for b in range(a):
            total = total + 2 * slope(slope(fields, a, 1), b, 1).square()
    return total.sqrt()  # type: ignore[union-attr]


def smoothed(
    density: Float[Tensor, "batch *space"], grid: Grid, box: Box, width: float
) -> Float[Tensor, "batch *space"]:
    """The density averaged with a Gaussian of this deviation, mirrored at walls: positive, and a constant stays."""
    for axis in range(grid.dimension):
        matrix = _gaussian(
            grid.shape[axis], grid.centring, box.periodic[axis], width / grid.lengths[axis], density.dtype,
            density.device,
        )  # fmt: skip
        density = along(density, matrix, axis - grid.dimension)
    return density


def widened(
    density: Float[Tensor, "batch *space"], grid: Grid, box: Box, distance: float
) -> Float[Tensor, "batch *space"]:
    """The maximum of the density over all points at most this far away along each axis."""
    for axis, h in enumerate(grid.spacing):
        n = grid.shape[axis]
        reach = min(math.ceil(distance / h - 1e-9), n - 1)
        wraps = box.periodic[axis]
        repeat = n - 1 if grid.centring == "node" and wraps else n
        places = torch.arange(-reach, n + reach, device=density.device)
        places = places % repeat if wraps else places.clamp(0, n - 1)
        line = density.movedim(axis + 1, -1)[..., places].unfold(-1, 2 * reach + 1, 1)
        density = line.amax(-1).movedim(-1, axis + 1)
    return density


@lru_cache(maxsize=64)
def _difference(
    n: int, centring: str, wraps: bool, h: float, order: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "point point"]:
    with torch.inference_mode(False):  # what is kept must serve training too
        i, j = torch.arange(n)[:, None], torch.arange(n)
        repeat = n - 1 if centring == "node" and wraps else n
        # At a wall the second difference of the point beside it stands in, and a one-sided first one.
        middle = i if wraps else i.clamp(1, n - 2)
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for offset, weight in ((-1, -0.5), (1, 0.5)) if order == 1 else ((-1, 1.0), (0, -2.0), (1, 1.0)):
            matrix = matrix + weight * (j == ((middle + offset) % repeat if wraps else middle + offset)).double()
        if order == 1 and not wraps:
            one_sided = sum(w * (j == k).double() for k, w in enumerate((-1.5, 2.0, -0.5)))
            assert isinstance(one_sided, Tensor)
            matrix = torch.where(i == 0, one_sided, matrix)
            matrix = torch.where(i == n - 1, -one_sided.flip(0), matrix)
        return (matrix / h**order).to(device, dtype)


@lru_cache(maxsize=64)
def _gaussian(
    n: int, centring: str, wraps: bool, width: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "point point"]:
    with torch.inference_mode(False):
        line = Grid((n,), centring)  # type: ignore[arg-type]
        x = line.axis(0)
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for image in (x - 1, x, x + 1) if wraps else (x, -x, 2 - x):
            matrix = matrix + torch.exp(-0.5 * ((x[:, None] - image) / width).square())
        matrix = matrix * line.weights(0)
        return (matrix / matrix.sum(1, keepdim=True)).to(device, dtype)
