"""What a plane field without divergence carries of its own curl, in Fourier space: four real transforms.

For u = (ψ_y, -ψ_x) with curl ω = -Δψ on a periodic box,

    N(ω) = -u·∇ω = -curl ∇·(u ⊗ u),    N̂ = (κ_x² - κ_y²) (uv)^ - κ_x κ_y (u² - v²)^,

because the isotropic part of u ⊗ u is a gradient and has no curl. So the two components are transformed to the grid and
the two products back, where the advective form takes four transforms and one.

Source: C. Basdevant, J. Comput. Phys. 50 (1983).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.solvers.spectral_grid import SpectralGrid

Flux = Callable[[Tensor, Tensor | None], Tensor]
"""(curl's coefficients (batch kx ky), mean field (batch 2) or None) -> coefficients of -u·∇ω."""


class SolenoidalCurl:
    """Between a plane field without divergence and its curl: coefficient by coefficient.

    Errors: `InputError` for a box that is not plane.
    """

    def __init__(self, waves: SpectralGrid) -> None:
        if waves.dimension != 2:
            raise InputError(f"solenoidal flux: a box in {waves.dimension}D; it must be plane")
        self._slopes = waves.derivative(0), waves.derivative(1)
        inverse = 1 / waves.squares
        inverse[0, 0] = 0.0
        self._field = torch.stack([self._slopes[1] * inverse, -self._slopes[0] * inverse])

    def curl(self, field: Complex[Tensor, "batch 2 kx ky"]) -> Complex[Tensor, "batch kx ky"]:
        """ω̂ = i κ_x v̂ - i κ_y û."""
        x, y = (slope.to(field) for slope in self._slopes)
        return x * field[:, 1] - y * field[:, 0]

    def field(self, curl: Complex[Tensor, "batch kx ky"]) -> Complex[Tensor, "batch 2 kx ky"]:
        """û = i κ_y ω̂ / |κ|², v̂ = -i κ_x ω̂ / |κ|², with mean zero."""
        return self._field.to(curl) * curl[:, None]


def solenoidal_flux(waves: SpectralGrid, like: Complex[Tensor, "batch kx ky"]) -> Flux:
    """The flux on a box whose products of two are free of aliasing, for coefficients laid out as ``like``.

    Differentiable, on any device, in the precision of ``like``.
    """
    x, y = waves.wavenumbers(0), waves.wavenumbers(1)
    relation = SolenoidalCurl(waves)
    across, along = (waves.like(t, like).to(like) for t in (x**2 - y**2, -x * y))
    unit = torch.ones(1, *waves.modes, dtype=like.dtype, device=like.device)
    multipliers = waves.like(relation.field(unit)[0], like)

    def flux(curl: Tensor, mean: Tensor | None) -> Tensor:
        field = multipliers * curl[:, None]
        if mean is not None:
            field[:, :, 0, 0] += mean
        u, v = waves.backward(field).unbind(1)
        products = waves.forward(torch.stack([u * v, (u + v) * (u - v)], 1))
        return torch.addcmul(across * products[:, 0], along, products[:, 1])

    return flux
