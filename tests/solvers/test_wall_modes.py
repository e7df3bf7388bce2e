import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.solvers.wall_modes import WallModes

WALLS = ["dirichlet", "neumann", ["dirichlet", "periodic"], [["dirichlet", "neumann"], ["neumann", "dirichlet"]]]


def modes_of(walls, shape: tuple[int, ...] = (9, 12)) -> WallModes:
    return WallModes(Grid(shape, "cell", upper=(1.0, 2.5)[: len(shape)]), Boundary.parse(walls, len(shape)))


@pytest.mark.parametrize("walls", WALLS, ids=str)
def test_fields_and_coefficients_have_the_same_size_and_give_each_other_back(walls) -> None:
    modes = modes_of(walls)
    field = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = modes.forward(field)
    torch.testing.assert_close(modes.backward(spectrum), field, rtol=0, atol=1e-13)
    torch.testing.assert_close(spectrum.norm(), field.norm(), rtol=1e-13, atol=0)
    assert modes.projected(field) is field


@pytest.mark.parametrize("walls", WALLS, ids=str)
def test_every_mode_is_an_eigenfunction_that_meets_the_walls(walls) -> None:
    fine, coarse = modes_of(walls, (400, 400)), modes_of(walls)
    for place in ((0, 0), (1, 2), (3, 1)):
        unit = torch.zeros(400, 400, dtype=torch.float64)
        unit[place] = 1.0
        mode = fine.backward(unit)
        h = fine.grid.spacing
        inside = mode[1:-1, 1:-1]
        second = (mode[2:, 1:-1] - 2 * inside + mode[:-2, 1:-1]) / h[0] ** 2
        second = second + (mode[1:-1, 2:] - 2 * inside + mode[1:-1, :-2]) / h[1] ** 2
        size = float(fine.squares[place])
        # Differences of second order on 400 points: (κ h)² / 12 of the curvature.
        assert float((second + size * inside).abs().max()) <= 1e-3 * max(size, 1.0) * float(mode.abs().max())
        assert size == pytest.approx(float(coarse.squares[place]), rel=1e-14)
        for axis, (low, _) in enumerate(fine.walls.sides):
            first, next_one = mode.select(axis, 0), mode.select(axis, 1)
            if low == "dirichlet":  # from cells at h/2 and 3h/2 to the wall
                assert float((1.5 * first - 0.5 * next_one).abs().max()) < 1e-3 * float(mode.abs().max())
            elif low == "neumann":
                assert float((next_one - first).abs().max()) < 2e-3 * float(mode.abs().max())


def test_lowest_modes_of_a_box_are_those_of_the_textbook() -> None:
    assert float(modes_of("dirichlet").squares[0, 0]) == pytest.approx(math.pi**2 * (1 + 1 / 2.5**2), rel=1e-14)
    assert float(modes_of("neumann").squares[0, 0]) == 0.0
    assert modes_of("neumann").modes == (9, 12)


def test_points_on_the_walls_are_refused() -> None:
    with pytest.raises(InputError, match="a node grid; cells are needed"):
        WallModes(Grid((9, 9), "node"), Boundary.parse("dirichlet", 2))
