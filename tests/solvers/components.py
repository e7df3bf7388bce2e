"""Systems with one more, leading axis for components, or for real and imaginary parts; and one that needs pivoting."""

import itertools

import numpy as np
import torch
from assembled import fields, helmholtz

from fieldwright.grids import Boundary
from fieldwright.solvers import StencilSystem


def complex_helmholtz(n, batch, *, wavenumber=20.0, seed=0):
    """(-Δ - k² (1 + i g)) u = f as the symmetric real pair [[R, -M], [-M, -R]], with g growing towards the walls."""
    real = helmholtz((n, n), batch, wavenumber=wavenumber, seed=seed)
    square = (wavenumber * fields((n, n), batch, seed, 1.2)) ** 2
    place = torch.arange(n, dtype=torch.float64)
    depth = (0.2 - torch.minimum(place, n - 1 - place) / n).clamp_min(0) / 0.2
    imaginary = -square * 0.5 * (depth[:, None] ** 2 + depth**2)
    offsets = [(0, *offset) for offset in real.offsets]
    coefficients = torch.zeros(batch, len(offsets) + 2, 2, n, n, dtype=torch.float64)
    coefficients[:, :-2, 0], coefficients[:, :-2, 1] = real.coefficients, -real.coefficients
    coefficients[:, -2, 0], coefficients[:, -1, 1] = -imaginary, -imaginary
    rhs = torch.stack([real.rhs, 0.3 * real.rhs], 1)
    offsets += [(1, 0, 0), (-1, 0, 0)]
    return StencilSystem(coefficients, rhs, tuple(offsets), Boundary.parse("dirichlet", 3), kind="symmetric")


def elasticity(n, batch, *, poisson=0.3, contrast=10.0, seed=0):
    """Plane strain on n x n inner nodes of bilinear elements, stiffness varying by element, walls held."""
    stiffness = fields((n + 1, n + 1), batch, seed, contrast)
    lame, shear = poisson / ((1 + poisson) * (1 - 2 * poisson)), 1 / (2 * (1 + poisson))
    law = np.array([[lame + 2 * shear, lame, 0], [lame, lame + 2 * shear, 0], [0, 0, shear]])
    corners = list(itertools.product((0, 1), repeat=2))
    element = np.zeros((8, 8))
    for x, y in itertools.product((0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5), repeat=2):
        strain = np.zeros((3, 8))
        for i, (p, q) in enumerate(corners):
            slope_x, slope_y = (2 * p - 1) * (y if q else 1 - y), (2 * q - 1) * (x if p else 1 - x)
            strain[:, 2 * i] = slope_x, 0, slope_y
            strain[:, 2 * i + 1] = 0, slope_y, slope_x
        element += strain.T @ law @ strain / 4
    offsets = list(itertools.product((-1, 0, 1), repeat=3))
    coefficients = torch.zeros(batch, len(offsets), 2, n, n, dtype=torch.float64)
    for (i, (p, q)), (j, (r, s)) in itertools.product(enumerate(corners), repeat=2):
        around = stiffness[:, 1 - p : 1 - p + n, 1 - q : 1 - q + n]
        for row, column in itertools.product(range(2), repeat=2):
            offset = offsets.index((column - row, r - p, s - q))
            coefficients[:, offset, row] += element[2 * i + row, 2 * j + column] * around
    rhs = torch.ones(batch, 2, n, n, dtype=torch.float64)
    return StencilSystem(coefficients, rhs, tuple(offsets), Boundary.parse("dirichlet", 3), centring="node")


def swapped_pairs(batch):
    """A u = (u₂, u₃, u₀, u₁): well-conditioned, but the first pair of pivots is a block of zeros."""
    coefficients = torch.zeros(batch, 3, 4, dtype=torch.float64)
    coefficients[:, 1, :2] = coefficients[:, 2, 2:] = 1.0
    rhs = torch.arange(1.0, 1 + 4 * batch, dtype=torch.float64).reshape(batch, 4)
    return StencilSystem(coefficients, rhs, ((0,), (2,), (-2,)), Boundary.parse("dirichlet", 1), kind="general")
