"""Finite volumes for -∇·(a ∇u) + c u = f on cells, second order, the same in one, two and three dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.solvers import StencilSystem


def diffusion_system(
    coefficient: Float[Tensor, "batch *space"],
    source: Float[Tensor, "batch *space"],
    grid: Grid,
    walls: Boundary,
    *,
    body: Bool[Tensor, "..."] | None = None,
    reaction: Float[Tensor, "..."] | float = 0.0,
) -> StencilSystem:
    """Assemble the two-point flux scheme on cells of size h, differentiable in coefficient, source and reaction.

    Between cells l and r the face carries the harmonic mean, t = 2 a_l a_r / (a_l + a_r) / h²; a Dirichlet wall (value
    0; `wall_source` adds others) half a cell away carries t = 2 a / h²; a Neumann wall (zero flux) carries nothing. The
    diagonal is the sum of a cell's face values and the reaction c >= 0, so A is symmetric and its rows sum to the wall
    terms and c. Without any Dirichlet wall and reaction constants span the kernel.

    ``body``  True in the cells that u lives in (*space, or with a batch in front). Faces between a cell of the body and
              one outside carry nothing, as an insulated surface; the cells outside are rows of their own with u = 0,
              whatever a, c and f hold there.

    Units: with a, lengths and u in their units, f is in [a][u]/[length]².

    Errors: `InputError` for a body without a Dirichlet wall or a reaction: what is constant on it is in the kernel.
    """
    zero = (0,) * grid.dimension
    offsets: list[tuple[int, ...]] = []
    couplings: list[Tensor] = []
    diagonal = torch.zeros_like(coefficient)
    if body is not None:
        body = body.expand_as(coefficient)
        coefficient = torch.where(body, coefficient, 1.0)
    for axis, face in enumerate(face_conductances(coefficient, grid, walls, body=body)):
        place, h = axis + 1, grid.spacing[axis]
        diagonal = diagonal + face + face.roll(1, place)
        for condition, cell in zip(walls.sides[axis], (0, grid.shape[axis] - 1), strict=True):
            if condition == "dirichlet":
                wall = coefficient.new_zeros(grid.shape[axis])
                wall[cell] = 2 / h**2
                diagonal = diagonal + coefficient * wall.reshape(-1, *[1] * (grid.dimension - axis - 1))
        step = tuple(int(i == axis) for i in range(grid.dimension))
        offsets += [step, tuple(-s for s in step)]
        couplings += [-face, -face.roll(1, place)]
    reacts = isinstance(reaction, Tensor) or reaction != 0
    if reacts:
        diagonal = diagonal + reaction
    nullspace = not reacts and not any("dirichlet" in pair for pair in walls.sides)
    if body is not None:
        if nullspace:
            raise InputError("diffusion: a body without a Dirichlet wall or a reaction has no unique solution")
        # Rows outside are of the size of the others, which keeps the condition of the matrix.
        diagonal = torch.where(body, diagonal, sum(2 / h**2 for h in grid.spacing))
        source = torch.where(body, source, 0.0)
    return StencilSystem(
        coefficients=torch.stack([diagonal, *couplings], 1),
        rhs=source,
        offsets=(zero, *offsets),
        boundary=walls,
        kind="spd",
        centring="periodic" if grid.centring == "periodic" else "cell",
        nullspace=nullspace,
    )


def face_conductances(
    coefficient: Float[Tensor, "batch *space"],
    grid: Grid,
    walls: Boundary,
    *,
    body: Bool[Tensor, "batch *space"] | None = None,
) -> tuple[Float[Tensor, "batch *space"], ...]:
    """Per axis the harmonic mean over h² at each cell's upper face, zero at walls and at the surface of a ``body``.

    The flux scheme is (∇·a∇u)_i = Σ_axis t_i (u_{i+1} - u_i) - t_{i-1} (u_i - u_{i-1}); it keeps Σ u to round-off.
    """
    faces = []
    for axis, (h, (low, _)) in enumerate(zip(grid.spacing, walls.sides, strict=True)):
        place = axis + 1
        n = coefficient.shape[place]
        # Each cell's upper neighbour; the last cell's is the first, which counts only where the axis wraps.
        upper = coefficient.roll(-1, place)
        face = 2 * coefficient * upper / (coefficient + upper) / h**2
        if low != "periodic":
            last = torch.arange(n, device=coefficient.device) == n - 1
            face = torch.where(last.reshape(-1, *[1] * (grid.dimension - axis - 1)), 0.0, face)
        if body is not None:
            face = torch.where(body & body.roll(-1, place), face, 0.0)
        faces.append(face)
    return tuple(faces)


def wall_source(
    coefficient: Float[Tensor, "batch *space"],
    lifting: Float[Tensor, "batch *space"],
    grid: Grid,
    walls: Boundary,
    *,
    body: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "batch *space"]:
    """What boundary data add to the source: u = g on Dirichlet walls, and the flux a ∂u/∂n = ∂g/∂n on Neumann ones.

    ``lifting``  g on the cells. Its trace on a wall is extrapolated from the three cells before it, (15 g₀ - 10 g₁ +
                 3 g₂)/8 with an error of h³, and its outward slope is (2 g₀ - 3 g₁ + g₂)/h with an error of h². The
                 slope is the flux, without a, because the coefficient on a wall is not known to second order.

    Linear in the coefficient and in the lifting, and differentiable in both.

    Errors: `InputError` for fewer than three cells between walls.
    """
    source = torch.zeros_like(lifting)
    for axis, (h, sides) in enumerate(zip(grid.spacing, walls.sides, strict=True)):
        place, n = axis + 1, grid.shape[axis]
        for condition, cells in zip(sides, ((0, 1, 2), (n - 1, n - 2, n - 3)), strict=True):
            if condition == "periodic":
                continue
            if n < 3:
                raise InputError(f"diffusion: {n} cells along axis {axis}; boundary data need at least 3")
            first, second, third = (lifting.select(place, cell) for cell in cells)
            if condition == "dirichlet":
                share = coefficient.select(place, cells[0]) * (15 * first - 10 * second + 3 * third) / (4 * h**2)
            else:
                share = (2 * first - 3 * second + third) / h**2
            one = torch.zeros(n, dtype=lifting.dtype, device=lifting.device)
            one[cells[0]] = 1.0
            one = one.reshape(-1, *[1] * (grid.dimension - axis - 1))
            source = source + one * share.unsqueeze(place)
    return source if body is None else torch.where(body, source, 0.0)
