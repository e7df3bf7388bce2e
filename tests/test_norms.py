"""Norms of known functions, Parseval's identity, duality, and the refusals."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.norms import (
    bases_for,
    h1_norm,
    l2_norm,
    radial_spectrum,
    relative_h1,
    relative_l2,
    relative_sobolev,
    sobolev_norm,
    squared_wavenumber,
)
from fieldwright.transforms import transform

# (centring, walls) of every spectral basis
WALLS = [
    ("periodic", "periodic"),
    ("cell", "dirichlet"),
    ("cell", "neumann"),
    ("cell", [["dirichlet", "neumann"], ["neumann", "dirichlet"]]),
    ("cell", [["periodic", "periodic"], ["dirichlet", "dirichlet"]]),
    ("node", "neumann"),
    ("node", "dirichlet"),
    ("node", [["dirichlet", "neumann"], ["neumann", "dirichlet"]]),
]


def held_at_walls(field, centring, walls):
    """The field with zeros on nodal Dirichlet walls: a basis is that of the other points, as walls carry no unknown."""
    if centring == "node":
        for axis, pair in enumerate(Boundary.parse(walls, 2).sides):
            for condition, end in zip(pair, (0, -1), strict=True):
                if condition == "dirichlet":
                    field.select(axis + 2, end).zero_()
    return field


def random_field(grid, seed=0, channels=2):
    return torch.randn(3, channels, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("centring", "n"), [("cell", 8), ("node", 9), ("periodic", 8)])
def test_l2_norm_of_sine_waves_is_exact(dimension, centring, n):
    grid = Grid((n,) * dimension, centring)
    field = torch.sin(2 * math.pi * grid.coordinates()).prod(0)[None, None]
    assert float(l2_norm(field, grid)) == pytest.approx(2 ** (-dimension / 2), rel=1e-12)


@pytest.mark.parametrize("centring", ["cell", "node", "periodic"])
def test_norms_sum_over_channels_and_scale(centring):
    grid = Grid((6, 7), centring, (0.0, 0.0), (2.0, 3.0))
    field = random_field(grid)
    for norm in (l2_norm, h1_norm):
        parts = norm(field[:, :1], grid).square() + norm(field[:, 1:], grid).square()
        assert torch.allclose(norm(field, grid).square(), parts)
        assert torch.allclose(norm(-3 * field, grid), 3 * norm(field, grid))


def test_h1_norm_of_a_plane_is_exact_on_nodes():
    grid = Grid((5, 9), "node", (0.0, 0.0), (2.0, 1.0))
    x, y = grid.coordinates()
    field = (3 * x - 4 * y)[None, None]
    slopes = h1_norm(field, grid).square() - l2_norm(field, grid).square()
    assert float(slopes) == pytest.approx((9 + 16) * 2.0, rel=1e-12)  # |∇v|² times the area


@pytest.mark.parametrize("centring", ["node", "periodic"])
def test_h1_norm_converges_to_second_order(centring):
    exact = math.sqrt(0.25 * (1 + 2 * (2 * math.pi) ** 2))  # v = sin 2πx sin 2πy
    errors = []
    for n in (16, 32, 64):
        grid = Grid((n + (centring == "node"),) * 2, centring)
        field = torch.sin(2 * math.pi * grid.coordinates()).prod(0)[None, None]
        errors.append(abs(float(h1_norm(field, grid)) - exact))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("s", [-2.0, -1.0, -0.5, 0.0, 1.0, 1.5])
@pytest.mark.parametrize("wave", [1, 3])
def test_sobolev_norm_of_a_sine_is_its_symbol(s, wave):
    grid = Grid((16, 12), "cell", (0.0, 0.0), (2.0, 1.0))
    x, y = grid.coordinates()
    field = (torch.sin(wave * math.pi * x / 2) * torch.sin(math.pi * y))[None, None]
    symbol = 1 + (wave * math.pi / 2) ** 2 + math.pi**2
    expected = symbol ** (s / 2) * math.sqrt(2) / 2  # ‖v‖_L2 = √(|box| / 4)
    assert float(sobolev_norm(field, grid, s)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("centring", "walls"), WALLS)
def test_sobolev_norm_of_order_zero_is_l2(centring, walls):
    grid = Grid((8, 9), centring)
    field = held_at_walls(random_field(grid), centring, walls)
    assert torch.allclose(sobolev_norm(field, grid, 0.0, walls), l2_norm(field, grid), rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(WALLS[:5]), st.floats(-2, 2), st.integers(0, 1000))
def test_negative_norms_are_dual_to_positive_ones(case, s, seed):
    # ⟨u, v⟩ ≤ ‖u‖_s ‖v‖_-s, with equality at v = (1 - Δ)^s u
    grid = Grid((6, 5), case[0])
    bases = bases_for(grid, case[1])
    u, v = random_field(grid, seed, 1), random_field(grid, seed + 1, 1)

    def inner(a, b):
        return (a * b * grid.quadrature()).flatten(1).sum(1)

    def product(a, b):
        return sobolev_norm(a, grid, s, case[1]) * sobolev_norm(b, grid, -s, case[1])

    assert bool((inner(u, v).abs() <= product(u, v) * (1 + 1e-10)).all())
    best = transform((1 + squared_wavenumber(grid, bases)).pow(s) * transform(u, bases), bases, inverse=True)
    assert torch.allclose(inner(u, best), product(u, best), rtol=1e-10)


@pytest.mark.parametrize(("centring", "walls"), [case for case in WALLS if case[0] != "cell"])
def test_sobolev_one_approaches_h1_for_smooth_fields_that_meet_the_walls(centring, walls):
    grid = Grid((129, 129) if centring == "node" else (128, 128), centring)
    x, y = grid.coordinates()
    waves = {
        ("periodic", "periodic"): lambda t: torch.sin(2 * math.pi * t),
        ("neumann", "neumann"): lambda t: torch.cos(2 * math.pi * t),
        ("dirichlet", "dirichlet"): lambda t: torch.sin(2 * math.pi * t),
        ("dirichlet", "neumann"): lambda t: torch.sin(1.5 * math.pi * t),
        ("neumann", "dirichlet"): lambda t: torch.cos(1.5 * math.pi * t),
    }
    first, second = Boundary.parse(walls, 2).sides
    field = (waves[first](x) * waves[second](y))[None, None]
    assert float(sobolev_norm(field, grid, 1.0, walls)) == pytest.approx(float(h1_norm(field, grid)), rel=1e-3)


@pytest.mark.parametrize(("centring", "walls"), WALLS)
def test_energies_of_the_spectrum_sum_to_the_square_of_l2(centring, walls):
    grid = Grid((8, 9), centring, (0.0, 0.0), (1.0, 1.5))
    field = held_at_walls(random_field(grid), centring, walls)
    bins, energy = radial_spectrum(field, grid, walls)
    assert energy.shape == (3, len(bins))
    assert torch.allclose(energy.sum(1), l2_norm(field, grid).square(), rtol=1e-12)


def test_a_single_wave_stands_in_its_bin():
    grid = Grid((32, 32), "cell")
    x, y = math.pi * grid.coordinates()
    field = (torch.sin(3 * x) * torch.sin(4 * y))[None, None]
    bins, energy = radial_spectrum(field, grid)
    assert float(bins[energy[0].argmax()]) == 5.0  # √(3² + 4²)
    assert float(energy[0].max()) == pytest.approx(0.25, rel=1e-12)


def test_relative_norms_are_ratios_per_sample():
    grid = Grid((8, 8), "cell")
    target = random_field(grid)
    prediction = target * torch.tensor([1.1, 1.0, 0.5], dtype=torch.float64).reshape(3, 1, 1, 1)
    expected = torch.tensor([0.1, 0.0, 0.5], dtype=torch.float64)
    assert torch.allclose(relative_l2(prediction, target, grid), expected, atol=1e-12)
    assert torch.allclose(relative_h1(prediction, target, grid), expected, atol=1e-12)
    assert torch.allclose(relative_sobolev(prediction, target, grid, -1.0), expected, atol=1e-12)


def test_a_zero_target_is_refused_by_its_index():
    grid = Grid((4,), "cell")
    target = torch.ones(3, 1, 4)
    target[1] = 0
    with pytest.raises(InputError, match="target of sample 1 is zero"):
        relative_l2(torch.ones(3, 1, 4), target, grid)


def test_a_field_of_another_grid_is_refused():
    with pytest.raises(InputError, match=r"shape \(2, 1, 5\); expected \(batch, channel, 4\)"):
        l2_norm(torch.zeros(2, 1, 5), Grid((4,), "cell"))


def test_a_boundary_without_a_basis_is_refused():
    with pytest.raises(InputError, match=r"no spectral basis for a node grid with walls \(periodic, periodic\)"):
        bases_for(Grid((4,), "node"), "periodic")
