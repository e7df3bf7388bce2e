import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.norms import squared_wavenumber
from fieldwright.problems import gaussian_field
from fieldwright.problems.composite_fields import level_cut, levels_of_shares, one_of
from fieldwright.problems.random_fields import brownian_bridge
from fieldwright.problems.spectra import Matern, PowerLaw, SquaredExponential, mode_variances, total_variance
from fieldwright.transforms import transform


def coefficients(field: torch.Tensor) -> torch.Tensor:
    """Karhunen-Loeve coefficients √λ_k ξ_k over the box, from the values on a cell grid."""
    points = field[0].numel()
    return transform(field, ("dct2",) * (field.ndim - 1)) / math.sqrt(points)


@given(
    indices=st.lists(st.integers(0, 2**31), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**31),
    dimension=st.integers(1, 3),
)
@settings(max_examples=20, deadline=None)
def test_a_field_depends_on_seed_and_index_alone(indices: list[int], seed: int, dimension: int) -> None:
    grid = Grid((6,) * dimension)
    together = gaussian_field(grid, indices, seed)
    alone = [gaussian_field(grid, [index], seed)[0] for index in indices]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("points", [64, 70])
def test_a_field_has_the_same_bits_on_any_number_of_threads(points: int) -> None:
    grid, threads = Grid((points, points)), torch.get_num_threads()
    alone = gaussian_field(grid, range(130), 0)
    try:
        torch.set_num_threads(2)
        assert torch.equal(gaussian_field(grid, range(130), 0), alone)
    finally:
        torch.set_num_threads(threads)


def test_other_seeds_indices_and_streams_give_other_fields() -> None:
    grid = Grid((16, 16))
    reference = gaussian_field(grid, [3], 7)
    for other in (gaussian_field(grid, [4], 7), gaussian_field(grid, [3], 8), gaussian_field(grid, [3], 7, stream=1)):
        assert float((other - reference).norm() / reference.norm()) > 0.1


@pytest.mark.parametrize("shape", [(8,), (8, 8), (8, 8, 8), (6, 9), (40, 36)])
def test_refining_the_grid_refines_the_same_field(shape: tuple[int, ...]) -> None:
    coarse = gaussian_field(Grid(shape), [5], 11)
    fine = gaussian_field(Grid(tuple(2 * n for n in shape)), [5], 11)
    low = (slice(None), *(slice(0, n) for n in shape))
    torch.testing.assert_close(coefficients(fine)[low], coefficients(coarse), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("centring", "walls"),
    [
        ("periodic", "periodic"),
        ("node", "neumann"),
        ("node", "dirichlet"),
        ("node", [["dirichlet", "neumann"], ["neumann", "dirichlet"]]),
        ("cell", [["dirichlet", "neumann"]] * 2),
    ],
)
def test_a_band_limited_field_is_the_same_function_on_every_grid(centring: str, walls) -> None:
    # Waves beyond the coarse grid hold 1e-13 of the deviation, so that both grids carry the whole field.
    spectrum, boundary = SquaredExponential(0.25), Boundary.parse(walls, 2)
    less = 1 if centring == "node" else 0
    grids = [Grid((n + less,) * 2, centring) for n in (22, 66)]  # type: ignore[arg-type]
    coarse, fine = (gaussian_field(grid, [2], 0, spectrum=spectrum, walls=boundary)[0] for grid in grids)
    first = 1 if centring == "cell" else 0
    torch.testing.assert_close(fine[first::3, first::3], coarse, rtol=0, atol=1e-11)


def test_cells_of_a_periodic_box_hold_the_field_that_its_points_hold() -> None:
    spectrum = SquaredExponential(0.25)
    points = gaussian_field(Grid((44,) * 2, "periodic"), [1], 0, spectrum=spectrum, walls="periodic")
    cells = gaussian_field(Grid((22,) * 2), [1], 0, spectrum=spectrum, walls="periodic")
    torch.testing.assert_close(points[:, 1::2, 1::2], cells, rtol=0, atol=1e-11)


def test_coefficients_have_the_stated_spectrum() -> None:
    grid, samples = Grid((12, 12)), 4000
    field = gaussian_field(grid, range(samples), 0, alpha=2.0, tau=3.0)
    measured = coefficients(field).square().mean(0)
    stated = 3.0**2 * (squared_wavenumber(grid, ("dct2", "dct2")) + 9.0).pow(-2.0)
    assert float(measured[0, 0]) < 1e-20
    ratio = (measured / stated).flatten()[1:]
    # Each ratio is chi-squared over `samples` draws: standard deviation √(2/samples); 143 of them within five of it.
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / samples)


@pytest.mark.parametrize(
    ("spectrum", "constant", "correlation"),
    [
        (Matern(0.5, 0.05), 1.0, lambda r: math.exp(-r / 0.05)),
        (Matern(1.5, 0.05), 3**-2.5, lambda r: (1 + math.sqrt(3) * r / 0.05) * math.exp(-math.sqrt(3) * r / 0.05)),
        (SquaredExponential(0.05), 1.0, lambda r: math.exp(-(r**2) / (2 * 0.05**2))),
    ],
)
def test_correlations_are_those_of_the_covariance_functions(spectrum, constant, correlation) -> None:
    # On a periodic box much wider than the length C(r) = Σ λ cos(κ r) / Σ λ, the constant mode included.
    share = mode_variances(spectrum, Grid((512, 512), "periodic"), Boundary.parse("periodic", 2))
    total = constant + total_variance(spectrum, (1.0, 1.0), Boundary.parse("periodic", 2))
    wave = 2 * ((torch.arange(512) + 1) // 2).double()[:, None]
    for r in (0.02, 0.05, 0.1):
        found = (constant + float((share * torch.cos(math.pi * wave * r)).sum())) / total
        # Of the roughest, 1.2 % of the variance is beyond 512 modes.
        assert found == pytest.approx(correlation(r), abs=0.015)


def test_lengths_may_differ_by_axis() -> None:
    field = gaussian_field(Grid((32, 32)), range(500), 0, spectrum=SquaredExponential((0.1, 0.3)))
    slope_x, slope_y = (field.diff(dim=axis).square().mean().sqrt() for axis in (1, 2))
    # The mean square slope of a squared exponential field along an axis is the inverse of its squared length.
    assert float(slope_x / slope_y) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("sides", [(1.0,), (2.0, 1.0), (1.0, 1.5, 0.7)])
@pytest.mark.parametrize("walls", ["neumann", "dirichlet", "periodic", "mixed"])
@pytest.mark.parametrize(
    "spectrum", [PowerLaw(4.0, 3.0), PowerLaw(4.5, 0.3), Matern(2.5, 0.3), SquaredExponential(0.2)]
)
def test_total_variance_is_the_sum_over_all_modes(spectrum, walls: str, sides: tuple[float, ...]) -> None:
    dimension = len(sides)
    boundary = Boundary.parse([["dirichlet", "neumann"]] * dimension if walls == "mixed" else walls, dimension)
    grid = Grid(({1: 3000, 2: 400, 3: 60}[dimension],) * dimension, upper=sides)
    plain = float(mode_variances(spectrum, grid, boundary).sum())
    # What is beyond the sum's modes: less than 1e-5 for these, and nothing at all for the squared exponential.
    tolerance = 1e-12 if isinstance(spectrum, SquaredExponential) else 1e-5
    assert total_variance(spectrum, sides, boundary) == pytest.approx(plain, rel=tolerance)


@pytest.mark.parametrize("walls", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("spectrum", [None, Matern(1.0, 0.1), SquaredExponential(0.1)])
def test_deviation_is_the_root_of_the_mean_variance(walls: str, spectrum) -> None:
    grid = Grid((40, 40), "periodic" if walls == "periodic" else "cell", upper=(1.0, 1.0))
    field = gaussian_field(
        grid,
        range(1000),
        1,
        tau=6.0,
        deviation=0.7,
        mean=2.0,
        walls=walls,
        spectrum=spectrum,  # type: ignore[arg-type]
    )
    assert float((field - 2).square().mean().sqrt()) == pytest.approx(0.7, rel=0.05)
    if walls != "dirichlet":
        torch.testing.assert_close(field.mean((1, 2)), torch.full((1000,), 2.0, dtype=torch.float64))


def test_deviation_holds_for_spectra_that_converge_slowly() -> None:
    # Half the variance of alpha = 1.1 in 2D is beyond any grid in use, and must be counted all the same.
    walls = Boundary.parse("neumann", 2)
    share = float(mode_variances(PowerLaw(1.1, 3.0), Grid((64, 64)), walls).sum())
    share /= total_variance(PowerLaw(1.1, 3.0), (1.0, 1.0), walls)
    field = gaussian_field(Grid((64, 64)), range(300), 0, alpha=1.1, deviation=1.0, unresolved=0.6)
    assert share < 0.75
    assert float(field.square().mean()) == pytest.approx(share, rel=0.1)


def test_a_box_twice_as_long_holds_fields_of_waves_twice_as_long() -> None:
    small = gaussian_field(Grid((16, 16)), [0], 0, alpha=2.0, tau=4.0, deviation=1.0)
    large = gaussian_field(Grid((16, 16), upper=(2.0, 2.0)), [0], 0, alpha=2.0, tau=2.0, deviation=1.0)
    torch.testing.assert_close(small, large, rtol=1e-6, atol=1e-6)


def test_amplitude_scales_the_covariance_operator() -> None:
    one = gaussian_field(Grid((16,), "periodic"), [0], 0, alpha=2.0, tau=5.0, amplitude=1.0, walls="periodic")
    burgers = gaussian_field(Grid((16,), "periodic"), [0], 0, alpha=2.0, tau=5.0, amplitude=25.0, walls="periodic")
    torch.testing.assert_close(burgers, 25 * one, rtol=1e-13, atol=1e-14)


def test_brownian_bridges_have_the_covariance_of_their_name() -> None:
    grid, count = Grid((17,), "node"), 4000
    # The mean of x (1 - x) is 1/6, so this deviation makes the variance x (1 - x).
    fields = brownian_bridge(grid.resized(257), range(count), 0, deviation=math.sqrt(1 / 6))[:, ::16]
    x = grid.axis(0)
    stated = torch.minimum(x[:, None], x) - x[:, None] * x
    # Entries of a sample covariance: standard deviation at most √2 · ¼ / √count.
    assert float((fields.T @ fields / count - stated).abs().max()) < 5 * math.sqrt(2) * 0.25 / math.sqrt(count)


def test_phases_fill_the_shares_that_their_levels_were_made_for() -> None:
    field = gaussian_field(Grid((24, 24)), range(600), 0, spectrum=SquaredExponential(0.15))
    phases = level_cut(field, [1.0, 5.0, 2.0], levels_of_shares([0.2, 0.5, 0.3]))
    for value, share in ((1.0, 0.2), (5.0, 0.5), (2.0, 0.3)):
        assert float((phases == value).double().mean()) == pytest.approx(share, abs=0.03)
    assert torch.equal(level_cut(field, [3.0, 12.0]), torch.where(field >= 0, 12.0, 3.0).double())


def test_one_of_several_families_is_chosen_per_instance() -> None:
    families = [torch.full((2000, 2), float(value)) for value in range(3)]
    chosen = one_of(families, range(2000), 0, weights=[1, 0, 3])[:, 0]
    assert np.bincount(chosen.long().numpy(), minlength=3)[1] == 0
    assert float((chosen == 2).double().mean()) == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / 2000))
    assert torch.equal(one_of([f[7:8] for f in families], [7], 0, weights=[1, 0, 3])[0, 0], chosen[7])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian_field(Grid((8, 8)), [0], 0, alpha=1.0), "alpha > 1"),
        (lambda: gaussian_field(Grid((8, 8)), [0], 0, tau=-1.0), "numbers above and from 0"),
        (lambda: gaussian_field(Grid((8, 8)), [0], 0, tau=0.0), "sets no scale"),
        (lambda: gaussian_field(Grid((8, 8), "node"), [0], 0, walls="periodic"), "no spectral basis"),
        (lambda: gaussian_field(Grid((16, 16)), [0], 0, spectrum=SquaredExponential(0.01)), r"16 x 16 .*too coarse"),
        (lambda: gaussian_field(Grid((16, 16)), [0], 0, spectrum=Matern(0.5, 0.05)), "of the variance lies in shorter"),
        (lambda: gaussian_field(Grid((8, 8)), [0], 0, spectrum=Matern(1.0, (0.1, 0.1, 0.1))), "3 lengths"),
        (lambda: Matern(-1.0), "smoothness"),
        (lambda: SquaredExponential(0.0), "positive number"),
        (lambda: brownian_bridge(Grid((8,)), [0], 0, hurst=1.0), "between 0 and 1"),
        (lambda: level_cut(torch.zeros(1, 2), [1.0, 2.0], [0.0, 1.0]), "one value more"),
        (lambda: levels_of_shares([0.5, 0.6]), "sum to 1"),
        (lambda: one_of([torch.zeros(1, 2)], [0], 0, weights=[0.0]), "not all zero"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_one_sentence(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
