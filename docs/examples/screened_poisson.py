"""A problem of one's own: the screened Poisson equation -Δu + κ² u = f on the unit square, u = 0 on the walls."""

from dataclasses import dataclass, replace

from fieldwright.grids import Boundary, Grid
from fieldwright.problems import Field, SteadyProblem, diffusion_system, gaussian_field


@dataclass(frozen=True)
class ScreenedPoisson(SteadyProblem):
    """Screened Poisson equation, -Δu + κ² u = f: source f -> potential u, Dirichlet walls."""

    resolution: int = 64
    kappa: float = 10.0

    inputs = (Field("source", "V/m²", "f"),)
    outputs = (Field("potential", "V", "u"),)

    @property
    def grid(self):
        return Grid((self.resolution, self.resolution), "cell")

    @property
    def boundary(self):
        return Boundary.parse("dirichlet", 2)

    def sample(self, indices, seed):
        return gaussian_field(self.grid, indices, seed, alpha=2.0, tau=3.0, deviation=1.0)[:, None]

    def system(self, inputs):
        source = inputs[:, 0]
        poisson = diffusion_system(source.new_ones(source.shape), source, self.grid, self.boundary)
        coefficients = poisson.coefficients.clone()
        coefficients[:, poisson.offsets.index((0, 0))] += self.kappa**2
        return replace(poisson, coefficients=coefficients)
