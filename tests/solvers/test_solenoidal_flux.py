import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.solvers.solenoidal_flux import SolenoidalCurl, solenoidal_flux
from fieldwright.solvers.spectral_grid import SpectralGrid


def random_curl(waves: SpectralGrid, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    curl = waves.forward(torch.rand(batch, *waves.shape, generator=generator, dtype=torch.float64))
    curl[:, 0, 0] = 0.0
    return curl


def advective(waves: SpectralGrid, curl: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """-u·∇ω by its definition, on a grid twice as fine, where no product folds back; brought back to the band."""
    fine = SpectralGrid(tuple(2 * n for n in waves.shape), waves.lengths)
    padded = torch.zeros(len(curl), *fine.modes, dtype=torch.complex128)
    (kx, ky), n = waves.bands, waves.shape[0]
    padded[:, : kx + 1, : ky + 1], padded[:, -kx:, : ky + 1] = curl[:, : kx + 1], curl[:, n - kx :]
    x, y = fine.derivative(0), fine.derivative(1)
    psi = padded / fine.squares.clamp_min(1e-30)
    u, v = fine.backward(y * psi) + mean[:, 0, None, None], fine.backward(-x * psi) + mean[:, 1, None, None]
    rate = fine.forward(-u * fine.backward(x * padded) - v * fine.backward(y * padded))
    found = torch.zeros_like(curl)
    found[:, : kx + 1], found[:, n - kx :] = rate[:, : kx + 1, : ky + 1], rate[:, -kx:, : ky + 1]
    return found


@pytest.mark.parametrize("waves", [SpectralGrid((16, 16), (2.0, 2.0), 2), SpectralGrid((18, 24), (1.0, 3.0), 2)])
@pytest.mark.parametrize("moving", [False, True])
def test_flux_is_what_the_field_carries_of_its_curl(waves: SpectralGrid, moving: bool) -> None:
    curl = random_curl(waves)
    mean = torch.tensor([[0.7, -0.3], [0.1, 0.2]], dtype=torch.float64) * moving
    found = solenoidal_flux(waves, curl)(curl, mean if moving else None)
    exact = advective(waves, curl, mean)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-14 * float(exact.abs().max()) * 100)


def test_flux_does_no_work_on_energy_and_enstrophy() -> None:
    waves = SpectralGrid((24, 24), (2 * math.pi, 2 * math.pi), 2)
    curl = random_curl(waves)
    rate = solenoidal_flux(waves, curl)(curl, None)
    weight = torch.full(waves.modes, 2.0, dtype=torch.float64)
    weight[:, 0] = 1.0
    inverse = 1 / waves.squares
    inverse[0, 0] = 0.0
    for measure in (weight, weight * inverse):
        work = (measure * curl.conj() * rate).real.sum((1, 2))
        size = (measure * curl.abs() * rate.abs()).sum((1, 2))
        assert float((work / size).abs().max()) < 1e-14


def test_curl_and_field_are_inverse_and_the_field_has_no_divergence() -> None:
    waves = SpectralGrid((12, 16), (1.0, 2.0), 2)
    relation, curl = SolenoidalCurl(waves), random_curl(waves)
    field = relation.field(curl)
    torch.testing.assert_close(relation.curl(field), curl, rtol=0, atol=1e-15)
    divergence = waves.derivative(0) * field[:, 0] + waves.derivative(1) * field[:, 1]
    assert float(divergence.abs().max()) < 1e-15


def test_flux_is_differentiable_and_keeps_single_precision() -> None:
    waves = SpectralGrid((8, 8), (1.0, 1.0), 2)
    curl = random_curl(waves, 1)
    flux = solenoidal_flux(waves, curl)
    mean = torch.tensor([[0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flux, (curl.requires_grad_(), mean))
    single = curl.detach().to(torch.complex64)
    rate = solenoidal_flux(waves, single)(single, None)
    assert rate.dtype == torch.complex64
    exact = flux(curl, None).detach()
    torch.testing.assert_close(rate.to(torch.complex128), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_boxes_in_space_are_refused() -> None:
    with pytest.raises(InputError, match="a box in 3D; it must be plane"):
        SolenoidalCurl(SpectralGrid((8, 8, 8), (1.0, 1.0, 1.0)))
