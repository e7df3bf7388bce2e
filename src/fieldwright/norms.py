"""Norms of fields on grids: L2, H1 and the Sobolev scale H^s, each relative and per sample, and radial spectra.

Fields are ``batch channel *space``. All norms sum over channels and return one number per sample. On a box of volume V
with quadrature weights w:

* ‖v‖²_L2 = Σ w v²
* ‖v‖²_H1 = ‖v‖²_L2 + Σ_axis ‖∂v‖²_L2, with ∂ the difference of neighbouring points (no assumption at the walls except
  the wrap of a periodic axis)
* ‖v‖²_Hs = Σ_k (1 + |κ_k|²)^s |v̂_k|² in the orthonormal basis of the boundary condition (sine, cosine or Fourier), κ
  the angular wavenumber, for every real s; s = -1 is the norm dual to H1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.transforms import Basis, transform, wavenumbers

WALLS_OF_ZERO: dict[str, int] = {"dst1": 2, "dst3": 1, "dct3": 1}
"""How many points of a nodal axis are walls where a basis is zero: they carry no mode."""


def l2_norm(field: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, " batch"]:
    """‖v‖_L2 per sample, by the grid's quadrature."""
    _check(field, grid)
    return (field.square() * grid.quadrature().to(field)).flatten(1).sum(1).sqrt()


def h1_norm(field: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, " batch"]:
    """‖v‖_H1 per sample, by differences of neighbouring points."""
    _check(field, grid)
    square = (field.square() * grid.quadrature().to(field)).flatten(1).sum(1)
    for axis, h in enumerate(grid.spacing):
        position = axis + 2
        step = field.roll(-1, position) - field if grid.centring == "periodic" else field.diff(dim=position)
        # A slope stands midway between two points of its axis (weight h) and on the points of the other axes.
        weights = h * grid.quadrature().select(axis, 0).unsqueeze(axis) / grid.weights(axis)[0]
        square = square + ((step / h).square() * weights.to(field)).flatten(1).sum(1)
    return square.sqrt()


def sobolev_norm(
    field: Float[Tensor, "batch channel *space"], grid: Grid, s: float, boundary: Boundary | str | None = None
) -> Float[Tensor, " batch"]:
    """‖v‖_Hs per sample for any real ``s``, in the basis of ``boundary`` (default: Fourier if periodic, else sine).

    Errors: `InputError` when the boundary does not fit the grid's centring.
    """
    _check(field, grid)
    bases = bases_for(grid, boundary)
    coefficients = _coefficients(field, bases)
    weight = (1 + squared_wavenumber(grid, bases)).pow(s).to(field)
    return (math.prod(grid.spacing) * (weight * coefficients.square()).flatten(1).sum(1)).sqrt()


def relative_l2(
    prediction: Float[Tensor, "batch channel *space"], target: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, " batch"]:
    """‖prediction - target‖_L2 / ‖target‖_L2 per sample."""
    return _relative(l2_norm(prediction - target, grid), l2_norm(target, grid))


def relative_h1(
    prediction: Float[Tensor, "batch channel *space"], target: Float[Tensor, "batch channel *space"], grid: Grid
) -> Float[Tensor, " batch"]:
    """‖prediction - target‖_H1 / ‖target‖_H1 per sample."""
    return _relative(h1_norm(prediction - target, grid), h1_norm(target, grid))


def relative_sobolev(
    prediction: Float[Tensor, "batch channel *space"],
    target: Float[Tensor, "batch channel *space"],
    grid: Grid,
    s: float,
    boundary: Boundary | str | None = None,
) -> Float[Tensor, " batch"]:
    """‖prediction - target‖_Hs / ‖target‖_Hs per sample."""
    return _relative(sobolev_norm(prediction - target, grid, s, boundary), sobolev_norm(target, grid, s, boundary))


def radial_spectrum(
    field: Float[Tensor, "batch channel *space"], grid: Grid, boundary: Boundary | str | None = None
) -> tuple[Float[Tensor, " bin"], Float[Tensor, "batch bin"]]:
    """Energy by wavenumber: E_b = Σ h^d |v̂_k|² over the modes whose |κ| L/π rounds to b.

    Returns the wavenumbers b (half-waves per box, b = 0, 1, ...) and the energies per sample; the energies of a sample
    sum to its squared L2 norm, which is Parseval's identity (on a nodal grid with Dirichlet walls: of the interior).
    """
    _check(field, grid)
    bases = bases_for(grid, boundary)
    energy = math.prod(grid.spacing) * _coefficients(field, bases).square().sum(1).flatten(1)
    length = max(grid.lengths)
    bins = (squared_wavenumber(grid, bases).sqrt() * (length / math.pi)).round().long().flatten().to(field.device)
    spectrum = torch.zeros(len(energy), int(bins.max()) + 1, dtype=field.dtype, device=field.device)
    return torch.arange(spectrum.shape[1], dtype=torch.float64), spectrum.index_add(1, bins, energy)


def bases_for(grid: Grid, boundary: Boundary | str | None = None) -> tuple[Basis, ...]:
    """The trigonometric basis of each axis: Fourier, sine or cosine by the wall conditions and the centring.

    On a nodal axis with Dirichlet walls the basis is that of the interior nodes: what stands on the walls is data, not
    an unknown, and is left out.
    """
    if boundary is None:
        boundary = "periodic" if grid.centring == "periodic" else "dirichlet"
    table: dict[tuple[str, str, str], Basis] = {
        ("periodic", "periodic", "periodic"): "fourier",
        ("cell", "periodic", "periodic"): "fourier",
        ("cell", "dirichlet", "dirichlet"): "dst2",
        ("cell", "neumann", "neumann"): "dct2",
        ("cell", "dirichlet", "neumann"): "dst4",
        ("cell", "neumann", "dirichlet"): "dct4",
        ("node", "neumann", "neumann"): "dct1",
        ("node", "dirichlet", "dirichlet"): "dst1",
        ("node", "dirichlet", "neumann"): "dst3",
        ("node", "neumann", "dirichlet"): "dct3",
    }
    names = []
    for low, high in Boundary.parse(boundary, grid.dimension).sides:
        name = table.get((grid.centring, low, high))
        if name is None:
            raise InputError(f"norms: no spectral basis for a {grid.centring} grid with walls ({low}, {high})")
        names.append(name)
    return tuple(names)


def squared_wavenumber(grid: Grid, bases: tuple[Basis, ...]) -> Float[Tensor, " *space"]:
    """|κ|² of every mode, κ = π · half-waves / L per axis."""
    total = torch.zeros((), dtype=torch.float64)
    for name, n, length in zip(bases, grid.shape, grid.lengths, strict=True):
        modes = n - WALLS_OF_ZERO.get(name, 0)
        total = total[..., None] + (math.pi / length * wavenumbers(name, modes)).square()
    return total


def _coefficients(field: Tensor, bases: tuple[Basis, ...]) -> Tensor:
    for axis, name in enumerate(bases):
        place = axis + 2
        if name in WALLS_OF_ZERO:
            first = 0 if name == "dct3" else 1
            field = field.narrow(place, first, field.shape[place] - WALLS_OF_ZERO[name])
        if name in ("dct1", "dst3", "dct3"):
            # The orthonormal form carries √½ on walls of zero slope, as the trapezoidal rule does.
            root = torch.ones(field.shape[place], dtype=field.dtype, device=field.device)
            if name != "dst3":
                root[0] = math.sqrt(0.5)
            if name != "dct3":
                root[-1] = math.sqrt(0.5)
            field = field * root.reshape(-1, *[1] * (len(bases) - axis - 1))
    return transform(field, bases)


def _relative(error: Tensor, size: Tensor) -> Tensor:
    if bool((size == 0).any()):
        where = int((size == 0).nonzero()[0])
        raise InputError(f"norms: target of sample {where} is zero, so a relative error has no meaning there")
    return error / size


def _check(field: Tensor, grid: Grid) -> None:
    if field.ndim != grid.dimension + 2 or tuple(field.shape[2:]) != grid.shape:
        raise InputError(
            f"norms: field of shape {tuple(field.shape)}; expected (batch, channel, {', '.join(map(str, grid.shape))})"
        )
