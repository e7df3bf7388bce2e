"""The trigonometric bases are orthonormal, agree with SciPy, and diagonalise the stencils they are made for."""

import math

import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.transforms import BASES, basis, transform, wavenumbers

names = st.sampled_from(BASES)


@settings(deadline=None, max_examples=60)
@given(names, st.integers(2, 33))
def test_every_basis_is_orthonormal(name, n):
    matrix = basis(name, n)
    assert matrix.dtype == torch.float64
    assert torch.allclose(matrix @ matrix.T, torch.eye(n, dtype=torch.float64), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(names, names, st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_transform_inverts_and_keeps_the_sum_of_squares(first, second, n, m, seed):
    field = torch.randn(2, 3, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    coefficients = transform(field, (first, second))
    assert torch.allclose(transform(coefficients, (first, second), inverse=True), field, atol=1e-12)
    assert float(coefficients.square().sum()) == pytest.approx(float(field.square().sum()), rel=1e-12)


@pytest.mark.parametrize("n", [2, 7, 16])
@pytest.mark.parametrize(
    ("name", "reference", "kind"),
    [
        ("dst1", scipy.fft.dst, 1),
        ("dst2", scipy.fft.dst, 2),
        ("dst3", scipy.fft.dst, 3),
        ("dst4", scipy.fft.dst, 4),
        ("dct1", scipy.fft.dct, 1),
        ("dct2", scipy.fft.dct, 2),
        ("dct3", scipy.fft.dct, 3),
        ("dct4", scipy.fft.dct, 4),
    ],
)
def test_transform_is_scipys(name, reference, kind, n):
    field = torch.randn(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    expected = torch.from_numpy(reference(field.numpy(), type=kind, norm="ortho"))
    assert torch.allclose(transform(field, (name,)), expected, atol=1e-12)


@pytest.mark.parametrize("n", [7, 8])
def test_fourier_basis_carries_the_energy_of_numpys_fft_by_frequency(n):
    field = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    power = torch.fft.fft(field).abs().square() / n
    ours = transform(field, ("fourier",)).square()
    frequency = (wavenumbers("fourier", n) / 2).long()
    folded = torch.zeros(n // 2 + 1, dtype=torch.float64).index_add(0, frequency, ours)
    both = torch.tensor([min(k, n - k) for k in range(n)])
    assert torch.allclose(folded, torch.zeros(n // 2 + 1, dtype=torch.float64).index_add(0, both, power), atol=1e-12)


# Second difference -u_{i-1} + 2 u_i - u_{i+1} with the ghost value that each wall implies at its end.
WALLS = {
    "dst1": (0.0, 0.0),  # zero one spacing outside
    "dst2": (-1.0, -1.0),  # odd about the face: ghost = -u_0
    "dct2": (1.0, 1.0),  # even about the face: ghost = u_0
    "dst4": (-1.0, 1.0),
    "dct4": (1.0, -1.0),
}


@pytest.mark.parametrize("name", [*WALLS, "fourier"])
def test_basis_diagonalises_the_second_difference_of_its_walls(name):
    n = 12
    matrix = 2 * torch.eye(n, dtype=torch.float64)
    matrix -= torch.diag(torch.ones(n - 1, dtype=torch.float64), 1) + torch.diag(
        torch.ones(n - 1, dtype=torch.float64), -1
    )
    if name == "fourier":
        matrix[0, -1] = matrix[-1, 0] = -1
    else:
        matrix[0, 0] -= WALLS[name][0]
        matrix[-1, -1] -= WALLS[name][1]
    cells = n + 1 if name == "dst1" else n
    eigenvalues = 4 * torch.sin(math.pi * wavenumbers(name, n) / (2 * cells)).square()
    rows = basis(name, n)
    assert torch.allclose(rows @ matrix, eigenvalues[:, None] * rows, atol=1e-12)
    assert bool((eigenvalues.diff() >= -1e-12).all()), "rows stand in order of growing wavenumber"


@pytest.mark.parametrize("name", BASES)
def test_wavenumbers_are_as_precise_as_the_bases(name):
    assert wavenumbers(name, 7).dtype == torch.float64


def test_transform_is_differentiable():
    field = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda v: transform(v, ("dst2", "fourier")), field)


def test_unknown_and_impossible_bases_are_refused():
    with pytest.raises(InputError, match="dct1 needs at least 2 points"):
        basis("dct1", 1)
