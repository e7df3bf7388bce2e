import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.norms import squared_wavenumber
from fieldwright.problems import gaussian_field
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


def test_other_seeds_indices_and_streams_give_other_fields() -> None:
    grid = Grid((16, 16))
    reference = gaussian_field(grid, [3], 7)
    for other in (gaussian_field(grid, [4], 7), gaussian_field(grid, [3], 8), gaussian_field(grid, [3], 7, stream=1)):
        assert float((other - reference).norm() / reference.norm()) > 0.1


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_refining_the_grid_refines_the_same_field(dimension: int) -> None:
    coarse, fine = (gaussian_field(Grid((n,) * dimension), [5], 11) for n in (8, 16))
    low = (slice(None),) + (slice(0, 8),) * dimension
    torch.testing.assert_close(coefficients(fine)[low], coefficients(coarse), rtol=1e-12, atol=1e-14)


def test_coefficients_have_the_stated_spectrum() -> None:
    grid, samples = Grid((12, 12)), 4000
    field = gaussian_field(grid, range(samples), 0, alpha=2.0, tau=3.0)
    measured = coefficients(field).square().mean(0)
    stated = 3.0**2 * (squared_wavenumber(grid, ("dct2", "dct2")) + 9.0).pow(-2.0)
    assert float(measured[0, 0]) < 1e-20
    ratio = (measured / stated).flatten()[1:]
    # Each ratio is chi-squared over `samples` draws: standard deviation √(2/samples); 143 of them within five of it.
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / samples)


@pytest.mark.parametrize("walls", ["neumann", "dirichlet", "periodic"])
def test_deviation_is_the_root_of_the_mean_variance(walls: str) -> None:
    grid = Grid((64, 64), "periodic" if walls == "periodic" else "cell")
    field = gaussian_field(grid, range(2000), 1, tau=6.0, deviation=0.7, walls=walls)  # type: ignore[arg-type]
    assert float(field.square().mean().sqrt()) == pytest.approx(0.7, rel=0.05)


def test_impossible_spectra_and_boxes_are_refused() -> None:
    with pytest.raises(InputError, match=r"alpha > 1"):
        gaussian_field(Grid((8, 8)), [0], 0, alpha=1.0)
    with pytest.raises(InputError, match="unit box"):
        gaussian_field(Grid((8,), upper=(2.0,)), [0], 0)
