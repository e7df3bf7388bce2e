"""What a plane field without divergence carries of its own curl, in Fourier space: four real transforms.

For u = (ψ_y, -ψ_x) with curl ω = -Δψ on a periodic box,

    N(ω) = -u·∇ω = -curl ∇·(u ⊗ u),    N̂ = (κ_x² - κ_y²) (uv)^ - κ_x κ_y (u² - v²)^,

because the isotropic part of u ⊗ u is a gradient and has no curl. So the two components are transformed to the grid and
the two products back, where the advective form takes four transforms and one.

Source: C. Basdevant, J. Comput. Phys. 50 (1983).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.solvers.exponential_runge_kutta import Step, etdrk4_step
from fieldwright.solvers.spectral_grid import SpectralGrid

if TYPE_CHECKING:
    from fieldwright.solvers.solenoidal_kernel import FluxKernel

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


class SolenoidalTerm:
    """N = -u·∇ω + f as the slow term of an evolution, of the curl or of the field.

    ``force``     coefficients of f, a curl
    ``of_field``  the state is u, (batch 2 kx ky), mean included; otherwise its curl, (batch 1 kx ky)

    Differentiable, on any device. On a CPU, on square grids of 2^k points from 32 on, what needs no gradient is
    computed by compiled code. It has workspaces of its own, so one term is for one thread.
    """

    def __init__(self, waves: SpectralGrid, force: Complex[Tensor, "kx ky"] | None = None, *, of_field: bool = False):
        self._waves, self._force, self._of_field = waves, force, of_field
        self._relation = SolenoidalCurl(waves)
        self._plain: dict[tuple[torch.dtype, torch.device], Flux] = {}
        self._kernels: dict[torch.dtype, FluxKernel] = {}

    def __call__(self, state: Complex[Tensor, "batch component kx ky"]) -> Complex[Tensor, "batch component kx ky"]:
        curl, mean = self._relation.curl(state) if self._of_field else state[:, 0], None
        if self._of_field:
            mean = state[:, :, 0, 0]
        if self._compiles(state):
            given = torch.view_as_real(curl.contiguous())
            rate = torch.empty_like(given)
            still = given.new_zeros(len(curl), 2) if mean is None else mean.real.contiguous()
            self._kernel(state)(given.numpy(), rate.numpy(), still.numpy())
            rate = torch.view_as_complex(rate)
        else:
            key = state.dtype, state.device
            if key not in self._plain:
                self._plain[key] = solenoidal_flux(self._waves, curl)
            rate = self._plain[key](curl, mean)
        if self._force is not None:
            rate = rate + self._force.to(rate)
        return self._relation.field(rate) if self._of_field else rate[:, None]

    def etdrk4(self, coefficients: Sequence[Float[Tensor, "#batch 1 kx ky"]]) -> Callable[[Tensor, int], Tensor]:
        """(state, how many steps) -> the state after them, as by `exponential_runge_kutta.etdrk4_step`."""
        half, share, decay, start, middle, end = coefficients
        weights = torch.cat([half, share, start, middle, end], 1)
        plain: list[Step] = []

        def advance(state: Tensor, steps: int) -> Tensor:
            if self._compiles(state, half):
                return self._advanced(state, steps, weights.to(state.real), float(half[0, 0, 0, 0]), decay)
            if not plain:
                plain.append(etdrk4_step(coefficients, dtype=state.dtype))
            for _ in range(steps):
                state = plain[0](state, self)
            return state

        return advance

    def _advanced(self, state: Tensor, steps: int, weights: Tensor, fading: float, decay: Tensor) -> Tensor:
        curl = (self._relation.curl(state) if self._of_field else state[:, 0]).contiguous().clone()
        mean = state[:, :, 0, 0].real.contiguous().clone() if self._of_field else curl.real.new_zeros(len(curl), 2)
        force = torch.zeros_like(curl[0]) if self._force is None else self._force.to(curl)
        # What the field has besides its curl and its mean only fades.
        rest = state - self._relation.field(curl) if self._of_field else state
        self._kernel(state).advance(
            torch.view_as_real(curl).numpy(),
            mean.numpy(),
            weights.numpy(),
            fading,
            torch.view_as_real(force.contiguous()).numpy(),
            steps,
        )
        if not self._of_field:
            return curl[:, None]
        rest[:, :, 0, 0] = 0.0
        field = self._relation.field(curl) + decay.to(rest) ** steps * rest
        field[:, :, 0, 0] = mean.to(field)
        return field

    def _compiles(self, *given: Tensor) -> bool:
        tracked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        n = self._waves.shape[0]
        fits = self._waves.factors == 2 and self._waves.shape == (n, n) and n >= 32 and n & (n - 1) == 0
        return fits and given[0].device.type == "cpu" and not tracked

    def _kernel(self, state: Tensor) -> FluxKernel:
        # Numba takes a second to import, which a process that never steps a flow should not spend.
        from fieldwright.solvers.solenoidal_kernel import FluxKernel

        if state.dtype not in self._kernels:
            self._kernels[state.dtype] = FluxKernel(self._waves, state.real.dtype)
        return self._kernels[state.dtype]


def solenoidal_flux(waves: SpectralGrid, like: Complex[Tensor, "batch kx ky"]) -> Flux:
    """The flux in plain torch, in the precision and on the device of ``like``; differentiable."""
    x, y = waves.wavenumbers(0), waves.wavenumbers(1)
    across, along = (t.to(like) for t in (x**2 - y**2, -x * y))
    unit = torch.ones(1, *waves.modes, dtype=like.dtype, device=like.device)
    multipliers = SolenoidalCurl(waves).field(unit)

    def flux(curl: Tensor, mean: Tensor | None) -> Tensor:
        field = multipliers * curl[:, None]
        if mean is not None:
            field[:, :, 0, 0] += mean
        u, v = waves.backward(field).unbind(1)
        products = waves.forward(torch.stack([u * v, (u + v) * (u - v)], 1))
        return torch.addcmul(across * products[:, 0], along, products[:, 1])

    return flux
