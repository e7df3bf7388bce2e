"""When to grow: the published table of the law, its guard, and both rules on curves that are known."""

import pytest

from fieldwright.errors import InputError
from fieldwright.growth.advice import base_operations, base_tokens, when_to_grow


@pytest.mark.parametrize(
    ("parameters", "tokens", "published"),
    [(8e9, 15e12, 6.58e9), (7e9, 2e12, 11.11e9), (13e9, 2e12, 15.84e9), (70e9, 2e12, 42.48e9)],
)
def test_the_law_gives_the_published_table(parameters, tokens, published):
    assert base_tokens(parameters, 6 * parameters * tokens) == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize(("parameters", "operations"), [(1e6, 1e20), (1e9, 1e14), (1e12, 1e22)])
def test_outside_its_range_the_law_is_refused(parameters, operations):
    with pytest.raises(InputError, match="ratio rule"):
        base_tokens(parameters, operations)


def curve(exponent, share, points=20):
    return [(share * i / points, 2 * (share * i / points) ** -exponent) for i in range(1, points + 1)]


def test_growth_comes_between_the_bounds_of_the_ratio_and_by_the_slope_within_them():
    assert not when_to_grow(curve(0.3, 0.04), 1.0, cost_ratio=4).grow
    assert when_to_grow(curve(0.3, 0.11), 1.0, cost_ratio=4).grow
    steep, flat = (when_to_grow(curve(exponent, 0.07), 1.0, cost_ratio=4) for exponent in (0.5, 0.01))
    assert steep.rule == flat.rule == "slope"
    falls_on = when_to_grow([(x, 1.0 - 5 * x) for x in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)], 1.0, cost_ratio=4)
    stalled = when_to_grow([(x, max(1 - 20 * x, 0.5)) for x in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)], 1.0, cost_ratio=4)
    assert not falls_on.grow
    assert stalled.grow


def test_a_dearer_target_is_worth_waiting_for():
    points = [(x, 0.5 + 0.02 / x) for x in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)]
    assert when_to_grow(points, 1.0, cost_ratio=1).grow
    assert not when_to_grow(points, 1.0, cost_ratio=1e3).grow


def test_shares_and_curves_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="share"):
        base_operations(1e9, 1.0)
    with pytest.raises(InputError, match="rise"):
        when_to_grow([(2.0, 1.0), (1.0, 1.0)], 10.0, cost_ratio=2)
    with pytest.raises(InputError, match="cost_ratio"):
        when_to_grow([(1.0, 1.0)], 10.0, cost_ratio=0.5)
