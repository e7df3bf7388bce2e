import pytest
import torch

from fieldwright.solvers.plane_transforms import PlaneTransforms
from fieldwright.solvers.spectral_grid import SpectralGrid

SHAPES = [((16, 16), 1), ((32, 32), 2), ((64, 32), 2), ((16, 64), 2), ((32, 128), 3), ((64, 64), 1)]


def fields(shape: tuple[int, int], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def transforms(waves: SpectralGrid) -> PlaneTransforms:
    return PlaneTransforms(waves.shape, waves.modes[-1], waves.bands[0])  # type: ignore[arg-type]


def dense(waves: SpectralGrid, given: torch.Tensor) -> torch.Tensor:
    """Coefficients by torch's transform of all waves, cut to those that are kept."""
    spectrum = torch.fft.rfft2(given, norm="forward")[..., : waves.modes[-1]].clone()
    n, band = waves.shape[0], waves.bands[0]
    spectrum[:, band + 1 : n - band] = 0.0
    return spectrum


@pytest.mark.parametrize(("shape", "factors"), SHAPES)
def test_coefficients_are_those_of_the_whole_transform_cut_to_the_band(shape: tuple[int, int], factors: int) -> None:
    waves = SpectralGrid(shape, (1.0, 2.0), factors)
    given = fields(shape)
    found = transforms(waves).forward(given)
    torch.testing.assert_close(found, dense(waves, given), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("shape", "factors"), SHAPES)
def test_fields_come_back_from_their_coefficients(shape: tuple[int, int], factors: int) -> None:
    waves = SpectralGrid(shape, (1.0, 2.0), factors)
    spectra = dense(waves, fields(shape))
    exact = torch.fft.irfft2(spectra, s=shape, norm="forward")
    torch.testing.assert_close(transforms(waves).backward(spectra), exact, rtol=0, atol=1e-14)


def test_single_precision_stays_single() -> None:
    waves = SpectralGrid((32, 32), (1.0, 1.0), 2)
    given = fields((32, 32)).float()
    spectra = transforms(waves).forward(given)
    assert spectra.dtype == torch.complex64
    torch.testing.assert_close(spectra.to(torch.complex128), dense(waves, given.double()), rtol=0, atol=1e-7)
    assert transforms(waves).backward(spectra).dtype == torch.float32


def test_no_field_depends_on_its_neighbours() -> None:
    waves = SpectralGrid((32, 32), (1.0, 1.0), 2)
    plane, given = transforms(waves), fields((32, 32))
    given[1, 3, 4] = torch.nan
    spectra = plane.forward(given)
    alone = plane.forward(given[[0, 2]])
    assert torch.equal(spectra[[0, 2]], alone)
    assert torch.equal(plane.backward(spectra)[[0, 2]], plane.backward(alone))
    assert not bool(spectra[1].isfinite().all())


@pytest.mark.parametrize("factors", [1, 2])
def test_grids_use_them_where_they_are_faster_and_no_gradient_is_asked_for(factors: int) -> None:
    waves = SpectralGrid((64, 128), (1.0, 1.0), factors)
    given = fields((64, 128), 2).reshape(1, 2, 64, 128)
    spectrum = waves.forward(given)
    assert torch.equal(spectrum[0], transforms(waves).forward(given[0]))
    assert torch.equal(waves.backward(spectrum)[0], transforms(waves).backward(spectrum[0]))
    tracked = given.clone().requires_grad_()
    same = waves.forward(tracked)
    assert same.requires_grad
    torch.testing.assert_close(same, spectrum, rtol=0, atol=1e-15)
    back = waves.backward(same)
    (slope,) = torch.autograd.grad(back.square().sum(), tracked)
    torch.testing.assert_close(slope, 2 * back.detach(), rtol=0, atol=1e-13)


def test_strided_fields_and_conjugates_are_read_as_they_are() -> None:
    waves = SpectralGrid((64, 64), (1.0, 1.0), 2)
    given = fields((64, 64), 4).reshape(2, 2, 64, 64)
    assert torch.equal(waves.forward(given[:, 1]), waves.forward(given[:, 1].contiguous()))
    assert torch.equal(waves.forward(given.mT), waves.forward(given.mT.contiguous()))
    spectrum = waves.forward(given)
    assert torch.equal(waves.backward(spectrum.conj()), waves.backward(spectrum.conj().resolve_conj()))
