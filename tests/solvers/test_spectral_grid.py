import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.solvers.spectral_grid import SpectralGrid

BOXES = [
    SpectralGrid((12,), (2.0,)),
    SpectralGrid((15,), (1.0,), 2),
    SpectralGrid((8, 12), (1.0, 3.0)),
    SpectralGrid((12, 10), (2.0, 1.0), 2),
    SpectralGrid((16, 12), (1.0, 1.0), 3),
    SpectralGrid((6, 8, 10), (1.0, 2.0, 3.0)),
    SpectralGrid((9, 8, 10), (1.0, 2.0, 3.0), 2),
]


def coordinates(grid: SpectralGrid) -> list[torch.Tensor]:
    axes = [
        torch.arange(n, dtype=torch.float64) * (length / n) for n, length in zip(grid.shape, grid.lengths, strict=True)
    ]
    return list(torch.meshgrid(*axes, indexing="ij"))


def naive(grid: SpectralGrid, field: torch.Tensor) -> torch.Tensor:
    """Coefficients by the sum that defines them, axis by axis."""
    for axis, n in enumerate(grid.shape):
        waves = torch.arange(grid.modes[axis], dtype=torch.float64)
        table = torch.exp(-2j * math.pi * waves[:, None] * torch.arange(n, dtype=torch.float64) / n) / n
        place = field.ndim - grid.dimension + axis
        field = torch.movedim(torch.movedim(field.to(torch.complex128), place, -1) @ table.T, -1, place)
        signed = torch.where(waves > n / 2, waves - n, waves).abs() if axis < grid.dimension - 1 else waves
        inside = signed <= grid.bands[axis]
        field = field * inside.reshape(-1, *[1] * (grid.dimension - axis - 1))
    return field


@pytest.mark.parametrize("grid", BOXES, ids=str)
def test_coefficients_are_the_sums_that_define_them(grid: SpectralGrid) -> None:
    field = torch.rand(2, 3, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(grid.forward(field), naive(grid, field), rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", BOXES, ids=str)
def test_fields_within_the_band_come_back(grid: SpectralGrid) -> None:
    field = torch.rand(3, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = grid.projected(field)
    torch.testing.assert_close(grid.backward(grid.forward(inside)), inside, rtol=0, atol=1e-14)
    torch.testing.assert_close(grid.forward(inside), grid.forward(field), rtol=0, atol=1e-14)
    assert torch.equal(grid.projected(field), field) == (grid.factors == 1)


@pytest.mark.parametrize("grid", BOXES, ids=str)
def test_derivatives_of_a_wave_are_exact_on_any_box(grid: SpectralGrid) -> None:
    places = coordinates(grid)
    wave = [2 * math.pi * grid.bands[a] / grid.lengths[a] for a in range(grid.dimension)]
    if grid.factors == 1:
        wave = [w * (1 - 1 / band) for w, band in zip(wave, grid.bands, strict=True)]
    angle = sum(w * x for w, x in zip(wave, places, strict=True))
    field = torch.cos(angle + 0.3)
    for axis in range(grid.dimension):
        slope = grid.backward(grid.derivative(axis) * grid.forward(field))
        torch.testing.assert_close(slope, -wave[axis] * torch.sin(angle + 0.3), rtol=0, atol=1e-11)
    curvature = grid.backward(-grid.squares * grid.forward(field))
    torch.testing.assert_close(curvature, -sum(w**2 for w in wave) * field, rtol=0, atol=1e-9)


def test_slope_of_the_wave_of_two_points_is_zero() -> None:
    grid = SpectralGrid((8,), (1.0,))
    field = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    assert float(grid.backward(grid.derivative(0) * grid.forward(field)).abs().max()) == 0


@pytest.mark.parametrize(("factors", "shape"), [(2, (12, 15)), (3, (12, 13)), (2, (16,)), (3, (17,))])
def test_products_of_fields_within_the_band_do_not_fold_back(factors: int, shape: tuple[int, ...]) -> None:
    grid = SpectralGrid(shape, (1.0,) * len(shape), factors)
    generator = torch.Generator().manual_seed(1)
    spectra = grid.forward(torch.rand(factors, *shape, generator=generator, dtype=torch.float64))
    found = grid.forward(grid.backward(spectra).prod(0))
    # On a grid four times as fine nothing can fold.
    fine = SpectralGrid(tuple(4 * n for n in shape), grid.lengths)
    padded = torch.zeros(factors, *fine.modes, dtype=torch.complex128)
    places = [[k % m for k in range(-b, b + 1)] for m, b in zip(fine.shape[:-1], grid.bands[:-1], strict=True)]
    coarse = [[k % n for k in range(-b, b + 1)] for n, b in zip(shape[:-1], grid.bands[:-1], strict=True)]
    if len(shape) == 1:
        padded[:, : grid.modes[0]] = spectra
        exact = fine.forward(fine.backward(padded).prod(0))[: grid.modes[0]]
    else:
        padded[:, places[0], : grid.modes[1]] = spectra[:, coarse[0]]
        exact = torch.zeros_like(found)
        exact[coarse[0]] = fine.forward(fine.backward(padded).prod(0))[places[0], : grid.modes[1]]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-15)


def test_band_is_the_same_at_both_ends() -> None:
    grid = SpectralGrid((128, 64), (1.0, 1.0), 2)
    assert grid.bands == (42, 21)
    kept = grid.forward(torch.rand(128, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)) != 0
    waves = torch.fft.fftfreq(128, 1 / 128)[kept.any(1)]
    assert (float(waves.min()), float(waves.max())) == (-42.0, 42.0)


def test_transforms_are_differentiable() -> None:
    grid = SpectralGrid((6, 8), (1.0, 1.0), 2)
    field = torch.rand(6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: grid.projected(u.square()), (field,))


def test_a_grid_that_holds_no_wave_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[3\] points; an axis needs at least 4"):
        SpectralGrid((3,), (1.0,), 2)
