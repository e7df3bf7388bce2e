"""Compute to an equal loss, on curves whose crossing is known."""

import pytest

from fieldwright.analysis.equal_loss import flops_to_reach, speed_up
from fieldwright.errors import InputError


def test_crossings_are_linear_between_points_and_the_first_one_counts():
    curve = [(1.0, 4.0), (3.0, 2.0), (4.0, 3.0), (5.0, 1.0)]
    assert flops_to_reach(curve, 3.0) == 2.0
    assert flops_to_reach(curve, 1.5) == 4.75
    assert flops_to_reach(curve, 5.0) == 1.0
    assert flops_to_reach(curve, 0.5) is None


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.49])
def test_a_curve_that_is_so_many_times_as_fast_has_that_speed_up(factor):
    plain = [(float(c), c**-0.4) for c in range(1, 400)]
    faster = [(c / factor, loss) for c, loss in plain]
    assert speed_up(plain, faster) == pytest.approx(factor - 1, abs=1e-12)


def test_a_curve_that_never_gets_there_has_none():
    assert speed_up([(1.0, 2.0), (2.0, 1.0)], [(1.0, 3.0), (9.0, 1.5)]) is None


@pytest.mark.parametrize("curve", [[], [(1.0, 1.0)], [(2.0, 1.0), (1.0, 0.5)], [(1.0, float("nan")), (2.0, 1.0)]])
def test_curves_that_mean_nothing_are_refused(curve):
    with pytest.raises(InputError, match="speed-up"):
        speed_up(curve, [(1.0, 1.0), (2.0, 0.5)])
