"""Fields between walls as coefficients of the sines and cosines that meet the walls, in which -Δ is diagonal.

The counterpart of `fieldwright.solvers.spectral_grid.SpectralGrid` on boxes with Dirichlet (value 0) or Neumann (slope
0) walls at cell faces; axes that are periodic may be among them. Products are taken at the points (collocation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.norms import bases_for, squared_wavenumber
from fieldwright.transforms import Basis, transform


@dataclass(frozen=True)
class WallModes:
    """The trigonometric modes of a grid of cells between walls.

    Errors: `InputError` for a grid with points on its walls.
    """

    grid: Grid
    walls: Boundary

    def __post_init__(self) -> None:
        if self.grid.centring == "node":
            raise InputError("wall modes: a node grid; cells are needed, whose walls are faces")

    @property
    def modes(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def bases(self) -> tuple[Basis, ...]:
        """The basis of each axis."""
        return bases_for(self.grid, self.walls)

    @cached_property
    def squares(self) -> Float[Tensor, " *modes"]:
        """|κ|², the symbol of -Δ."""
        return squared_wavenumber(self.grid, self.bases)

    def forward(self, field: Float[Tensor, "*batch_and_space"]) -> Float[Tensor, "*batch_and_modes"]:
        """Values at the cells' centres -> coefficients in the orthonormal basis."""
        return transform(field, self.bases)

    def backward(self, spectrum: Float[Tensor, "*batch_and_modes"]) -> Float[Tensor, "*batch_and_space"]:
        """Coefficients -> values."""
        return transform(spectrum, self.bases, inverse=True)

    def projected(self, field: Float[Tensor, "*batch_and_space"]) -> Float[Tensor, "*batch_and_space"]:
        """The field itself: all modes of the grid are kept."""
        return field
