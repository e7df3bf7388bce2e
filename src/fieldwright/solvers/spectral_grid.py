"""Fields on a periodic box as Fourier coefficients: real transforms, derivatives, and products free of aliasing.

A field is u(x) = Σ_k û_k e^{i κ·x} with κ_j = 2π k_j / L_j; û is the transform divided by the number of points, so a
coefficient is an amplitude on every grid. û_{-k} is the conjugate of û_k, so the last axis holds k >= 0 alone.

A product of p fields of waves up to K has waves up to p K, and those above n - K fold back into the band: the band is
K = ⌊(n - 1) / (p + 1)⌋ (for p = 2 the two-thirds rule), the same at both ends and on boxes of any shape. Coefficients
outside it are zero, and on the last axis not even stored. With p = 1 all n modes are kept.

Transforms are torch's, on any device and differentiable, or compiled ones where those are faster (`plane_transforms`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from fieldwright.errors import InputError

if TYPE_CHECKING:
    from fieldwright.solvers.plane_transforms import PlaneTransforms

_COMPILED_TYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
# Points per axis below which a call costs more than its transforms (measured: 1.1 times torch at 32, 0.7 at 64).
_COMPILED_FROM = 64


@dataclass(frozen=True)
class SpectralGrid:
    """The Fourier modes of a periodic grid of ``shape`` points on a box of ``lengths``.

    ``factors``  p, the number of factors in the products that are to be free of aliasing

    Errors: `InputError` for a grid too coarse to hold a single wave.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    factors: int = 1

    def __post_init__(self) -> None:
        if min(self.bands) < 1:
            raise InputError(
                f"spectral grid: {list(self.shape)} points; an axis needs at least {self.factors + 2} to hold one wave"
                f" whose products of {self.factors} do not fold back"
            )

    @property
    def dimension(self) -> int:
        return len(self.shape)

    @property
    def bands(self) -> tuple[int, ...]:
        """K, the highest wave per axis that is kept."""
        return tuple(n // 2 if self.factors == 1 else (n - 1) // (self.factors + 1) for n in self.shape)

    @property
    def modes(self) -> tuple[int, ...]:
        """The shape of a field's coefficients: all waves on the leading axes, 0..K on the last."""
        return (*self.shape[:-1], self.bands[-1] + 1)

    def wavenumbers(self, axis: int) -> Float[Tensor, "..."]:
        """κ along one axis, shaped to broadcast against coefficients."""
        n = self.shape[axis]
        if axis == self.dimension - 1:
            waves = torch.arange(self.bands[-1] + 1, dtype=torch.float64)
        else:
            waves = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
        return (2 * math.pi / self.lengths[axis] * waves).reshape(-1, *[1] * (self.dimension - axis - 1))

    def derivative(self, axis: int) -> Complex[Tensor, "..."]:
        """i κ along one axis, and 0 for the wave of two points, whose derivative is zero at every point."""
        symbol = 1j * self.wavenumbers(axis)
        if self.shape[axis] % 2 == 0 and self.bands[axis] == self.shape[axis] // 2:
            symbol.select(-(self.dimension - axis), self.bands[axis]).zero_()
        return symbol

    @cached_property
    def squares(self) -> Float[Tensor, " *modes"]:
        """|κ|², the symbol of -Δ."""
        total = torch.zeros(self.modes, dtype=torch.float64)
        for axis in range(self.dimension):
            total += self.wavenumbers(axis).square()
        return total

    def forward(self, field: Float[Tensor, "*batch_and_space"]) -> Complex[Tensor, "*batch_and_modes"]:
        """Values on the grid -> coefficients within the band."""
        if self._compiles(field):
            spectra = self._plane.forward(field.reshape(-1, *self.shape))
            return spectra.reshape(*field.shape[:-2], *self.modes)
        last = torch.fft.rfft(field, norm="forward")[..., : self.modes[-1]]
        if self.dimension == 1:
            return last
        spectrum = torch.fft.fftn(last, dim=list(range(-self.dimension, -1)), norm="forward")
        # Transforms leave their result with axes in another order in memory, which everything after would pay for.
        return self.truncated(spectrum.contiguous())

    def backward(self, spectrum: Complex[Tensor, "*batch_and_modes"]) -> Float[Tensor, "*batch_and_space"]:
        """Coefficients -> values on the grid."""
        if self._compiles(spectrum):
            fields = self._plane.backward(spectrum.reshape(-1, *self.modes))
            return fields.reshape(*spectrum.shape[:-2], *self.shape)
        if self.dimension > 1:
            spectrum = torch.fft.ifftn(spectrum, dim=list(range(-self.dimension, -1)), norm="forward")
        return torch.fft.irfft(spectrum, n=self.shape[-1], norm="forward")

    def truncated(self, spectrum: Complex[Tensor, "*batch_and_modes"]) -> Complex[Tensor, "*batch_and_modes"]:
        """The coefficients with zeros outside the band; changed in place where no gradient needs them."""
        if self.factors == 1 or self.dimension == 1:
            return spectrum
        if spectrum.requires_grad:
            spectrum = spectrum.clone(memory_format=torch.preserve_format)
        for axis in range(self.dimension - 1):
            place, n, band = spectrum.ndim - self.dimension + axis, self.shape[axis], self.bands[axis]
            spectrum.narrow(place, band + 1, n - 2 * band - 1).zero_()
        return spectrum

    def projected(self, field: Float[Tensor, "*batch_and_space"]) -> Float[Tensor, "*batch_and_space"]:
        """The part of a field that lies within the band."""
        return field if self.factors == 1 else self.backward(self.forward(field))

    def _compiles(self, given: Tensor) -> bool:
        """Whether compiled code takes the place of torch: plane grids of 2^k points on a CPU, without a gradient."""
        if self.dimension != 2 or given.device.type != "cpu" or given.dtype not in _COMPILED_TYPES:
            return False
        if any(n < _COMPILED_FROM or n & (n - 1) for n in self.shape):
            return False
        return not (torch.is_grad_enabled() and given.requires_grad)

    @cached_property
    def _plane(self) -> PlaneTransforms:
        # Numba takes a second to import, which a process that never needs it should not spend.
        from fieldwright.solvers.plane_transforms import PlaneTransforms

        return PlaneTransforms((self.shape[0], self.shape[1]), self.modes[-1], self.bands[0])
