"""The matrices of the published recycling scripts, rebuilt to be measured. They are not a discretisation of anything.

The paper solves Darcy flow, -∇·(K ∇h) = f. The scripts that go with it assemble, for a field K of m x m cells and the
n = (m - 2)² unknowns inside its frame, the rows

    4 K_c u_c - Σ_nb K_nb u_nb = h² f,      h = 1 / (m - 3),

which is -Δ(K u), not -∇·(K ∇u); and they take the diagonal of the lower neighbours two entries off, so that a row is
coupled to its lower neighbour by the permeability of the cell two places before it. Such rows no longer balance: some
eigenvalues are negative, others very near zero, and the "pressure" of a positive source has both signs. The sizes in
the paper count one more frame: its 10,000 are 98 x 98 = 9,604 unknowns.

``aligned`` gives the same rows with every neighbour's own permeability. Then A = L diag(K), with L the five-point
Laplacian: all eigenvalues are positive, as those of L are.

Source: H. Wang et al., ICLR 2024, and its published scripts (one upload, March 2024), restated from their arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems import gaussian_field
from fieldwright.solvers import StencilSystem

# Places by which the scripts miss the lower neighbours' diagonal.
MISSED = 2


def published_permeability(cells: int, indices: Sequence[int], seed: int) -> Float[Tensor, "batch cell cell"]:
    """K = exp(g) on ``cells`` x ``cells`` points, g periodic with spectrum 7³ (|κ|² + 7²)^(-5/2)."""
    grid = Grid((cells, cells), "periodic")
    return gaussian_field(grid, indices, seed, alpha=2.5, tau=7.0, walls="periodic").exp()


def published_systems(permeability: Float[Tensor, "batch high wide"], *, aligned: bool = False) -> StencilSystem:
    """The published matrices of some fields with f = 1, or with the lower neighbours ``aligned``.

    Errors: `InputError` for fields without an inside.
    """
    cells = permeability.shape[-1]
    if permeability.shape[1] != cells or cells < 5:
        shape = tuple(permeability.shape)
        raise InputError(f"published assembly: fields of shape {shape}; (batch, m, m) with m of at least 5 are needed")
    K = permeability.double()
    above, below = K[:, 2:, 1:-1], K[:, :-2, 1:-1]
    if not aligned:
        below = below.flatten(1).roll(MISSED, 1).reshape(below.shape)
    left, right = K[:, 1:-1, :-2], K[:, 1:-1, 2:]
    h = 1 / (cells - 3)
    return StencilSystem(
        coefficients=torch.stack([4 * K[:, 1:-1, 1:-1], -above, -below, -right, -left], 1),
        rhs=torch.full_like(above, h**2).contiguous(),
        offsets=((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)),
        boundary=Boundary.parse("dirichlet", 2),
        kind="general",
        centring="node",
    )
