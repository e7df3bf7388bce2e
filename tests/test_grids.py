"""Grids integrate and interpolate to the orders that theory gives."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, CONDITIONS, Boundary, Grid, resample

sizes = st.lists(st.integers(2, 9), min_size=1, max_size=3).map(tuple)
grids = st.builds(lambda shape, centring: Grid(shape, centring, (-1.0,) * len(shape), (2.5,) * len(shape)), sizes,
                  st.sampled_from(CENTRINGS))  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(grids)
def test_weights_sum_to_the_volume_and_points_lie_in_the_box(grid):
    assert float(grid.quadrature().sum()) == pytest.approx(math.prod(grid.lengths), rel=1e-12)
    points = grid.coordinates()
    assert points.shape == (grid.dimension, *grid.shape)
    assert float(points.min()) >= -1.0
    assert float(points.max()) <= 2.5 + 1e-12
    assert grid.points == points[0].numel()


@pytest.mark.parametrize("centring", ["node", "cell"])
def test_quadrature_is_exact_for_linear_functions_and_of_second_order_beyond(centring):
    grid = Grid((7, 5), centring, (0.0, -1.0), (2.0, 1.0))
    x, y = grid.coordinates()  # an area of 4 about (1, 0)
    assert float((grid.quadrature() * (3 * x - 2 * y + 1)).sum()) == pytest.approx(3 * 4 + 4, rel=1e-12)
    errors = []
    for n in (16, 32, 64):
        line = Grid((n + (centring == "node"),), centring)
        errors.append(abs(float((line.quadrature() * line.axis(0).exp()).sum()) - (math.e - 1)))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.05)


def test_periodic_quadrature_is_exact_for_resolved_waves():
    grid = Grid((12,), "periodic")
    x = grid.axis(0)
    for wave in range(1, 12):
        assert abs(float((grid.quadrature() * torch.cos(2 * math.pi * wave * x)).sum())) < 1e-14


def test_spacing_follows_the_centring():
    assert Grid((5,), "node").axis(0).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert Grid((4,), "cell").axis(0).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert Grid((4,), "periodic").axis(0).tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("centring", CENTRINGS)
def test_resized_keeps_the_box(centring):
    grid = Grid((8, 8), centring, (0.0, 1.0), (1.0, 3.0))
    assert grid.resized(16) == Grid((16, 16), centring, (0.0, 1.0), (1.0, 3.0))
    assert grid.resized((4, 6)).shape == (4, 6)


@pytest.mark.parametrize("source", ["node", "cell"])
@pytest.mark.parametrize("target", CENTRINGS)
@pytest.mark.parametrize("order", [1, 3])
def test_resample_reproduces_polynomials_of_its_order(source, target, order):
    a, b = Grid((9, 7), source), Grid((13, 17), target)

    def polynomial(grid):
        x, y = grid.coordinates()
        return (1 + 2 * x - x**order) * (y**order - 0.5)

    assert torch.allclose(resample(polynomial(a), a, b, order=order), polynomial(b), atol=1e-12)


@pytest.mark.parametrize("source", ["node", "cell"])
@pytest.mark.parametrize(("order", "rate"), [(1, 2), (3, 4)])
def test_resample_converges_one_order_beyond_its_polynomials(source, order, rate):
    target = Grid((101,), "node")
    errors = []
    for n in (32, 64, 128):
        grid = Grid((n,), source)
        field = torch.sin(5 * grid.axis(0) + 0.3)
        exact = torch.sin(5 * target.axis(0) + 0.3)
        errors.append(float((resample(field, grid, target, order=order) - exact).square().mean().sqrt()))
    rates = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert sum(rates) / 2 == pytest.approx(rate, abs=0.25)


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("target", CENTRINGS)
def test_periodic_resample_is_exact_for_resolved_waves(n, target):
    a, b = Grid((n, n), "periodic"), Grid((11, 5), target)

    def waves(grid):
        x, y = 2 * math.pi * grid.coordinates()
        return torch.sin(3 * x + 0.2) * torch.cos(2 * y) + 0.7

    assert torch.allclose(resample(waves(a), a, b), waves(b), atol=1e-12)


def test_periodic_resample_returns_to_the_same_values():
    a, b = Grid((9, 10), "periodic"), Grid((21, 24), "periodic")
    field = torch.randn(2, 3, 9, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resample(resample(field, a, b), b, a), field, atol=1e-12)


def test_resample_acts_on_the_trailing_axes_and_keeps_dtype():
    a, b = Grid((4, 6, 5), "cell"), Grid((8, 3, 7), "cell")
    field = torch.randn(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    out = resample(field, a, b)
    assert out.shape == (2, 3, 8, 3, 7)
    assert out.dtype == torch.float32
    assert torch.allclose(out[1, 2], resample(field[1, 2], a, b), atol=1e-6)
    assert resample(field, a, a) is field


def test_resample_refuses_a_field_or_box_that_does_not_fit():
    grid = Grid((4,), "cell")
    with pytest.raises(InputError, match=r"does not end in the grid's \(4,\)"):
        resample(torch.zeros(5), grid, grid.resized(8))
    with pytest.raises(InputError, match="boxes differ"):
        resample(torch.zeros(4), grid, Grid((8,), "cell", (0.0,), (2.0,)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ()}, "allowed are 1, 2 or 3"),
        ({"shape": (2, 2, 2, 2)}, "allowed are 1, 2 or 3"),
        ({"shape": (1,), "centring": "node"}, "needs at least 2"),
        ({"shape": (0,)}, "needs at least 1"),
        ({"shape": (4,), "lower": (1.0,)}, "runs from 1.0 to 1.0"),
        ({"shape": (4,), "upper": (math.inf,)}, "runs from 0.0 to inf"),
        ({"shape": (4,), "upper": (math.nan,)}, "runs from 0.0 to nan"),
        ({"shape": (4, 4), "upper": (1.0,)}, "do not match"),
    ],
)
def test_impossible_grids_are_refused_in_a_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        Grid(**arguments)


conditions = st.one_of(
    st.just(("periodic", "periodic")),
    st.tuples(st.sampled_from(["dirichlet", "neumann"]), st.sampled_from(["dirichlet", "neumann"])),
)


@given(st.lists(conditions, min_size=1, max_size=3))
def test_boundary_survives_the_way_through_a_file(sides):
    boundary = Boundary(tuple(sides))
    assert Boundary.parse(boundary.to_list(), len(sides)) == boundary
    assert Boundary.parse(boundary, len(sides)) is boundary
    assert boundary.periodic == tuple(side[0] == "periodic" for side in sides)


@pytest.mark.parametrize("word", CONDITIONS)
def test_one_word_means_every_side(word):
    assert Boundary.parse(word, 3) == Boundary.parse([word, [word, word], word], 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("robin", "'robin' on axis 0; allowed are dirichlet, neumann, periodic"),
        (["dirichlet"], "1 axes given for a problem in 2 dimensions"),
        ([["periodic", "neumann"], "neumann"], "axis 0 is periodic at one end only"),
        ([["neumann"], "neumann"], "one condition or a"),
    ],
)
def test_impossible_boundaries_are_refused_in_a_sentence(value, message):
    with pytest.raises(InputError, match=message):
        Boundary.parse(value, 2)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.data())
def test_cell_means_keep_the_integral_and_make_no_new_extrema(dimension, data):
    cells = st.lists(st.integers(1, 9), min_size=dimension, max_size=dimension).map(tuple)
    source, target = Grid(data.draw(cells)), Grid(data.draw(cells))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    field = torch.randn(2, *source.shape, dtype=torch.float64, generator=generator)
    means = resample(field, source, target, order=0)
    for before, after in zip(field, means, strict=True):
        integral = float((before * source.quadrature()).sum())
        assert float((after * target.quadrature()).sum()) == pytest.approx(integral, rel=1e-12, abs=1e-14)
        assert float(before.min()) - 1e-12 <= float(after.min()) <= float(after.max()) <= float(before.max()) + 1e-12


def test_cell_means_on_a_multiple_of_the_cells_repeat_them_and_come_back():
    coarse, fine = Grid((4, 3)), Grid((12, 6))
    field = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spread = resample(field, coarse, fine, order=0)
    torch.testing.assert_close(spread, field.repeat_interleave(3, 0).repeat_interleave(2, 1), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(resample(spread, fine, coarse, order=0), field, rtol=1e-14, atol=1e-14)


def test_cell_means_are_refused_of_points_that_are_not_cell_centres():
    with pytest.raises(InputError, match="order 0 is for cells"):
        resample(torch.zeros(5), Grid((5,), "node"), Grid((4,)), order=0)
