"""Diffusion operators in flux form: what leaves a cell through a face enters its neighbour, to the last bit.

On cells with one conductance t per face (conductivity times area over distance and cell volume, so 1 / h² for a unit
conductivity),

    (A u)_i = Σ_faces t_f (u_i - u_j) + wall_i u_i,

where j is the neighbour across f and ``wall`` couples to walls that hold the value zero. A is symmetric, its
off-diagonal entries are <= 0 and its row sums are ``wall`` >= 0: an M-matrix. Without walls the entries of A u sum to
zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.stencil import StencilSystem


@dataclass(frozen=True)
class TwoPointFlux:
    """The operator A of a batch, or of every sample of any batch where its arrays have a batch of one.

    ``faces``     per axis (batch *space): the conductance between each cell and its upper neighbour; the last cell's is
                  that to the first cell on a periodic axis, and zero on others
    ``wall``      (batch *space): the coupling to walls that hold zero; None without such walls
    ``boundary``  the conditions of the walls
    """

    faces: tuple[Float[Tensor, "batch *space"], ...]
    wall: Float[Tensor, "batch *space"] | None
    boundary: Boundary

    @classmethod
    def uniform(cls, grid: Grid, boundary: Boundary) -> TwoPointFlux:
        """-Δ on the grid's cells, for any batch; Dirichlet walls are half a cell from the outermost centres."""
        faces = []
        wall = torch.zeros(1, *grid.shape, dtype=torch.float64)
        for axis, (h, (low, high)) in enumerate(zip(grid.spacing, boundary.sides, strict=True)):
            face = torch.full_like(wall, 1 / h**2)
            if low != "periodic":
                face.select(axis + 1, -1).zero_()
            faces.append(face)
            for condition, cell in ((low, 0), (high, -1)):
                if condition == "dirichlet":
                    wall.select(axis + 1, cell).add_(2 / h**2)
        return cls(tuple(faces), wall if bool(wall.any()) else None, boundary)

    def to(self, like: Tensor) -> TwoPointFlux:
        """The same operator in the precision and on the device of ``like``."""
        faces = tuple(face.to(like) for face in self.faces)
        return TwoPointFlux(faces, None if self.wall is None else self.wall.to(like), self.boundary)

    def apply(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """A u, differentiable in u and in the conductances."""
        total = torch.zeros_like(u) if self.wall is None else self.wall * u
        for axis, face in enumerate(self.faces):
            flux = face * (u - u.roll(-1, axis + 1))
            total = total + flux - flux.roll(1, axis + 1)
        return total

    @cached_property
    def diagonal(self) -> Float[Tensor, "batch *space"]:
        total = torch.zeros_like(self.faces[0]) if self.wall is None else self.wall
        for axis, face in enumerate(self.faces):
            total = total + face + face.roll(1, axis + 1)
        return total

    def shifted(
        self, shift: Float[Tensor, "batch *space"], tau: Float[Tensor, "batch ..."], rhs: Float[Tensor, "batch *space"]
    ) -> StencilSystem:
        """The positive definite systems (diag(shift) + τ A) z = rhs, with shift > 0 and τ >= 0 per sample."""
        dimension = len(self.faces)
        offsets: list[tuple[int, ...]] = [(0,) * dimension]
        coefficients = [shift + tau * self.diagonal]
        for axis, face in enumerate(self.faces):
            step = tuple(int(i == axis) for i in range(dimension))
            upper = (-tau * face).expand_as(rhs)
            offsets += [step, tuple(-s for s in step)]
            coefficients += [upper, upper.roll(1, axis + 1)]
        return StencilSystem(
            coefficients=torch.stack(coefficients, 1),
            rhs=rhs,
            offsets=tuple(offsets),
            boundary=self.boundary,
            kind="spd",
            centring="periodic" if all(self.boundary.periodic) else "cell",
        )
