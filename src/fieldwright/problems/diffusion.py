"""Finite volumes for -∇·(a ∇u) = f on cells, second order, the same in one, two and three dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Boundary, Grid
from fieldwright.solvers import StencilSystem


def diffusion_system(
    coefficient: Float[Tensor, "batch *space"], source: Float[Tensor, "batch *space"], grid: Grid, walls: Boundary
) -> StencilSystem:
    """Assemble the two-point flux scheme on cells of size h, differentiable in coefficient and source.

    Between cells l and r the face carries the harmonic mean, t = 2 a_l a_r / (a_l + a_r) / h²; a Dirichlet wall (value
    0) half a cell away carries t = 2 a / h²; a Neumann wall (zero flux) carries nothing. The diagonal is the sum of a
    cell's face values, so A is symmetric and its rows sum to the wall terms. Without any Dirichlet wall constants span
    the kernel.

    Units: with a, lengths and u in their units, f is in [a][u]/[length]².
    """
    dimension = grid.dimension
    zero = (0,) * dimension
    diagonal = torch.zeros_like(coefficient)
    offsets: list[tuple[int, ...]] = []
    couplings: list[Tensor] = []
    for axis, (h, (low, high)) in enumerate(zip(grid.spacing, walls.sides, strict=True)):
        place = axis + 1
        n = coefficient.shape[place]
        # Each cell's upper neighbour; the last cell's is the first, which counts only where the axis wraps.
        upper = coefficient.roll(-1, place)
        face = 2 * coefficient * upper / (coefficient + upper) / h**2
        if low != "periodic":
            last = torch.arange(n, device=coefficient.device) == n - 1
            face = torch.where(last.reshape(-1, *[1] * (dimension - axis - 1)), 0.0, face)
        diagonal = diagonal + face + face.roll(1, place)
        for condition, cell in ((low, 0), (high, n - 1)):
            if condition == "dirichlet":
                wall = coefficient.new_zeros(n)
                wall[cell] = 2 / h**2
                diagonal = diagonal + coefficient * wall.reshape(-1, *[1] * (dimension - axis - 1))
        step = tuple(int(i == axis) for i in range(dimension))
        offsets += [step, tuple(-s for s in step)]
        couplings += [-face, -face.roll(1, place)]
    nullspace = not any("dirichlet" in pair for pair in walls.sides)
    return StencilSystem(
        coefficients=torch.stack([diagonal, *couplings], 1),
        rhs=source,
        offsets=(zero, *offsets),
        boundary=walls,
        kind="spd",
        centring="periodic" if grid.centring == "periodic" else "cell",
        nullspace=nullspace,
    )
