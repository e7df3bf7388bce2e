"""Monitors: exact on polynomials, free of units, safe on constants, and the law they come from is the best one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing import Box, Monitor
from fieldwright.solvers.meshing.lines import equidistribute_line
from fieldwright.solvers.meshing.monitors import derivative_size, smoothed, widened

PLAIN = {"smoothing": 0.0, "bound": 1e9}


def waves(grid: Grid) -> torch.Tensor:
    x = grid.coordinates()
    return sum(torch.sin(2 * math.pi * (axis + 1) * c / grid.lengths[axis]) for axis, c in enumerate(x))[None, None]


@pytest.mark.parametrize("centring", ["node", "cell"])
def test_differences_are_exact_on_quadratics_up_to_the_walls(centring):
    grid = Grid((7, 6), centring, upper=(1.0, 2.0))
    x, y = grid.coordinates()
    u = (2 * x**2 - x * y + 3 * y**2 + x)[None, None]
    size = derivative_size(u, grid, Box.of(grid), 2)
    torch.testing.assert_close(size, torch.full_like(size, math.sqrt(4**2 + 2 * 1 + 6**2)))
    slope = derivative_size(u, grid, Box.of(grid), 1)[0, 0]
    torch.testing.assert_close(slope, ((4 * x - y + 1) ** 2 + (6 * y - x) ** 2).sqrt())


@pytest.mark.parametrize("order", [1, 2])
def test_differences_converge_to_second_order_on_a_torus(order):
    def error(n: int) -> float:
        grid = Grid((n,), "periodic", upper=(2.0,))
        x = grid.axis(0)
        exact = (math.pi**order * (torch.cos if order == 1 else torch.sin)(math.pi * x)).abs()
        found = derivative_size(torch.sin(math.pi * x)[None, None], grid, Box.of(grid), order)
        return float((found[0, 0] - exact).abs().max())

    assert math.log2(error(32) / error(64)) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("law", "order"), [("hessian", 2), ("gradient", 1)])
def test_the_law_is_its_formula(dimension, law, order):
    grid = Grid((8, 9, 7)[:dimension], "cell")
    box, u = Box.of(grid), waves(grid)
    p = 2 * dimension / (2 * order + dimension)
    size = derivative_size(u, grid, box, order)[:, 0]
    typical = (size**p).mean() ** (1 / p)
    expected = (1 + 9 * (size / typical) ** 2) ** (p / 2)
    found = Monitor(law, strength=3.0, **PLAIN)(u, grid, box)
    torch.testing.assert_close(found, expected / expected.min())


def test_in_one_dimension_no_other_exponent_interpolates_better():
    # ∫ h⁴ |u''|² with 1/h ∝ |u''|^p: least at p = 2/5. A boundary layer, 400 nodes, exact errors by quadrature.
    fine = Grid((20001,), "node")
    u = torch.exp(-fine.axis(0) / 0.05)
    second = u / 0.05**2

    def error(p: float) -> float:
        motion = equidistribute_line((second**p)[None], fine, Box.of(fine))
        x = torch.linspace(0, 1, 401, dtype=torch.float64) + motion.displacement((401,))[0, 0]
        nodes = torch.exp(-x / 0.05)
        t = (torch.arange(16, dtype=torch.float64) + 0.5)[:, None] / 16
        inner = x[:-1] + t * x.diff()
        linear = nodes[:-1] + t * nodes.diff()
        return float(((torch.exp(-inner / 0.05) - linear).square().mean(0) * x.diff()).sum().sqrt())

    errors = {p: error(p) for p in (0.2, 0.3, 0.4, 0.5, 0.7)}
    assert min(errors, key=errors.get) == 0.4


@settings(max_examples=20, deadline=None)
@given(exponent=st.integers(-8, 8), offset=st.floats(-3, 3))
def test_units_and_offsets_change_nothing(exponent, offset):
    grid = Grid((9, 8), "node")
    u, box = waves(grid), Box.of(grid)
    scaled = 10.0**exponent * (u + offset)
    torch.testing.assert_close(Monitor()(scaled, grid, box), Monitor()(u, grid, box), atol=1e-6, rtol=1e-6)


def test_a_field_of_other_units_counts_alike_and_a_constant_one_halves_the_weight():
    grid = Grid((9, 8), "node")
    u, box = waves(grid), Box.of(grid)
    one = Monitor(strength=2.0, **PLAIN)(u, grid, box)
    both = Monitor(strength=2.0, **PLAIN)(torch.cat((u, 1e6 * u), 1), grid, box)
    torch.testing.assert_close(both, one)
    beside = Monitor(strength=2.0 * math.sqrt(2), **PLAIN)(torch.cat((u, 0 * u + 4), 1), grid, box)
    torch.testing.assert_close(beside, one)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("law", ["hessian", "gradient"])
def test_a_constant_field_has_a_constant_monitor(value, dtype, law):
    grid = Grid((9, 8), "cell")
    found = Monitor(law)(torch.full((2, 1, 9, 8), value, dtype=dtype), grid, Box.of(grid))
    assert bool((found == found.flatten()[0]).all())


def test_the_bound_holds_and_the_least_is_one():
    grid = Grid((32, 32), "node")
    x = grid.coordinates()[0]
    jump = (x > 0.5).double()[None, None]
    found = Monitor(strength=50.0, bound=12.0)(jump, grid, Box.of(grid))
    assert float(found.min()) == 1
    assert 5 < float(found.max()) <= 12


@pytest.mark.parametrize("centring", ["node", "cell", "periodic"])
def test_smoothing_keeps_constants_signs_and_on_a_torus_the_integral(centring):
    grid = Grid((12, 10), centring)
    box = Box.of(grid)
    ones = torch.ones(1, 12, 10, dtype=torch.float64)
    torch.testing.assert_close(smoothed(ones, grid, box, 0.1), ones)
    spike = torch.zeros_like(ones)
    spike[0, 4, 7] = 1
    spread = smoothed(spike, grid, box, 0.1)
    assert bool((spread > 0).all())
    if centring == "periodic":
        assert float(spread.sum()) == pytest.approx(1)
        torch.testing.assert_close(smoothed(spike.roll(5, 1), grid, box, 0.1), spread.roll(5, 1))
    torch.testing.assert_close(
        smoothed(spike.flip(1), grid, box, 0.1).flip(1), spread
    ) if centring != "periodic" else None


@pytest.mark.parametrize(("centring", "boundary"), [("cell", None), ("periodic", None), ("node", "periodic")])
def test_widening_is_the_maximum_within_reach(centring, boundary):
    grid = Grid((9, 8), centring)
    box = Box.of(grid, boundary)
    density = 1 + torch.rand(1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if boundary == "periodic":
        density[:, -1], density[:, :, -1] = density[:, 0], density[:, :, 0]
        density[:, -1, -1] = density[:, 0, 0]
    found = widened(density, grid, box, 2 * max(grid.spacing))
    reach = [math.ceil(2 * max(grid.spacing) / h - 1e-9) for h in grid.spacing]
    x = grid.coordinates()
    for i in range(9):
        for j in range(8):
            near = torch.ones(9, 8, dtype=torch.bool)
            for axis, place in enumerate((i, j)):
                away = (x[axis] - x[axis][i, j]).abs()
                if box.periodic[axis]:
                    away = torch.minimum(away, 1 - away)
                near &= away <= reach[axis] * grid.spacing[axis] + 1e-9
                assert place >= 0
            assert float(found[0, i, j]) == float(density[0][near].max())


def test_a_function_of_the_users_is_taken_and_checked():
    grid = Grid((5, 4), "node")
    u, box = waves(grid), Box.of(grid)
    found = Monitor(lambda fields: 2 + fields[:, 0] ** 2, **PLAIN)(u, grid, box)
    torch.testing.assert_close(found, (2 + u[:, 0] ** 2) / (2 + u[:, 0] ** 2).min())
    with pytest.raises(InputError, match="not positive"):
        Monitor(lambda fields: fields[:, 0] * 0)(u, grid, box)
    with pytest.raises(InputError, match="returned shape"):
        Monitor(lambda fields: fields)(u, grid, box)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"law": "curl"}, "law 'curl'"), ({"bound": 0.5}, "at least 1"), ({"strength": -1.0}, "strength"),
     ({"motion": math.nan}, "motion"), ({"smoothing": math.inf}, "smoothing")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Monitor(**settings)


def test_fields_that_cannot_be_used_are_refused():
    grid = Grid((4, 4), "node")
    with pytest.raises(InputError, match="NaN"):
        Monitor()(torch.full((1, 1, 4, 4), math.nan), grid, Box.of(grid))
    with pytest.raises(InputError, match="at least 3"):
        Monitor()(torch.zeros(1, 1, 2, 4), Grid((2, 4), "node"), Box.of(grid))
    with pytest.raises(InputError, match="expected batch, channel"):
        Monitor()(torch.zeros(1, 1, 5, 4), grid, Box.of(grid))
