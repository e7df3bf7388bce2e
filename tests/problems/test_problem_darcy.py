"""The coefficients of Darcy flow beyond the two phases of the default."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import Darcy, Matern, gaussian_field


def test_mixed_permeability_is_the_product_of_its_phases_and_a_log_normal_field() -> None:
    problem = Darcy(resolution=16, coefficient="mixed", deviation=0.3)
    values = problem.sample([0, 3], 5)
    phases = Darcy(resolution=16).sample([0, 3], 5)
    within = (values / phases).log()
    other = gaussian_field(problem.grid, [0, 3], 5, deviation=0.3, stream=1)
    torch.testing.assert_close(within[:, 0], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_multiscale_permeability_is_the_published_product_on_every_grid(dimension: int) -> None:
    coarse = Darcy(resolution=18, dimension=dimension, coefficient="multiscale", scales=3)
    fine = coarse.at(54)
    middle = (slice(None), slice(None), *(slice(1, None, 3),) * dimension)
    torch.testing.assert_close(fine.sample([4], 0)[middle], coarse.sample([4], 0), rtol=1e-12, atol=0)
    values = coarse.sample(range(20), 0)
    assert (values > 0).all()
    assert float(values.max()) <= 1.5**6


def test_multiscale_permeability_in_2d_follows_the_formula_of_the_multigrid_papers() -> None:
    problem = Darcy(resolution=9, coefficient="multiscale", scales=1)
    values = problem.sample([2], 0)[0, 0]
    x, y = problem.grid.coordinates()
    # One scale has one unknown wave number a in [1, 1.5]: it is read off one cell and must explain all others.
    candidates = torch.linspace(1, 1.5, 50001, dtype=torch.float64)[:, None, None]

    def product(a: torch.Tensor) -> torch.Tensor:
        return (1 + 0.5 * torch.cos(a * math.pi * (x + y))) * (1 + 0.5 * torch.sin(a * math.pi * (y - 3 * x)))

    misfit = (product(candidates) - values).square().sum((1, 2))
    assert float(misfit.min()) < 1e-6
    assert float(misfit.median()) > 1.0


def test_a_length_takes_the_place_of_the_power_law() -> None:
    problem = Darcy(resolution=24, coefficient="log-normal", deviation=0.5, length=0.2, smoothness=2.5)
    field = gaussian_field(Grid((24, 24)), [1], 0, spectrum=Matern(2.5, 0.2), deviation=0.5)
    assert torch.equal(problem.sample([1], 0)[:, 0], field.exp())
    assert problem.shifts()["correlation length halved"].length == 0.1  # type: ignore[attr-defined]


def test_permeability_in_3d_refines_with_the_grid() -> None:
    coarse = Darcy(resolution=6, dimension=3, coefficient="log-normal", deviation=0.5, length=0.5)
    fine = coarse.at(18).sample([0], 0)[..., 1::3, 1::3, 1::3]
    torch.testing.assert_close(coarse.sample([0], 0), fine, rtol=1e-2, atol=0)


def test_shifts_that_the_grid_cannot_hold_are_left_out() -> None:
    problem = Darcy(resolution=16, coefficient="log-normal", length=0.04)
    assert [name for name in problem.shifts() if "length" in name] == []
    assert problem.shifts()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"coefficient": "multiscale"}, "64 is too coarse for 6 scales, which need 144"),
        ({"coefficient": "multiscale", "scales": 0}, "at least 1"),
        ({"length": 0.005}, "too coarse"),
        ({"smoothness": 1.5}, "no effect without a length"),
        ({"alpha": 1.0}, "alpha > 1"),
        ({"resolution": 4, "tau": 20.0}, "too coarse"),
    ],
)
def test_settings_that_the_grid_cannot_hold_are_refused_before_anything_is_drawn(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Darcy(**settings)
    assert "\n" not in str(caught.value)
