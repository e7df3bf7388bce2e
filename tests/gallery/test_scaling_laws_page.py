"""The page of the scaling laws: its claims are decided by its own figures, its baseline is the textbook's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fieldwright.gallery.scaling_laws.measure import FULL, claims, draw, real_table, synthetic_table
from fieldwright.gallery.scaling_laws.real_curves import Curve, _fitted_error, _matern
from fieldwright.gallery.scaling_laws.synthetic import Calibration, line_interval

GOOD = Calibration(0.02, 0.3, 0.0, 0.1, 0.9, 0.88, 0.4, 0.3, 0.05)
POWER = Curve("power", tuple((float(16 << k), 0.5 * 2 ** (-0.4 * k)) for k in range(7)))
BROKEN = Curve("broken", (*POWER.runs[:-1], (1024.0, 0.3)))
RISING = Curve("rising", tuple((float(16 << k), 0.1 * 2**k) for k in range(5)))


def test_claims_hold_where_their_figures_say_so():
    assert all(claim.holds for claim in claims([GOOD, dataclasses.replace(GOOD, hull=0.95)], [POWER]))


@pytest.mark.parametrize(
    ("found", "curve", "word"),
    [
        (dataclasses.replace(GOOD, hull=0.84), POWER, "Coverage"),
        (dataclasses.replace(GOOD, hull=0.98), POWER, "Coverage"),
        (GOOD, BROKEN, "broken: the held-out"),
        (GOOD, RISING, "rising: the held-out"),
    ],
)
def test_a_claim_fails_with_its_own_figure(found, curve, word):
    failed = [claim.statement for claim in claims([GOOD, found], [curve]) if not claim.holds]
    assert any(word in statement for statement in failed)


def test_every_setting_and_forecast_has_a_row_and_every_curve_a_picture():
    assert len(synthetic_table([GOOD, GOOD], FULL).rows) == 2
    rows = real_table([POWER, BROKEN, RISING], FULL, ["a remark"]).rows
    assert {row["learner"] for row in rows} == {"power", "broken"}
    assert [row["inside"] for row in rows if row["learner"] == "power"] == ["yes"] * 3
    assert len(draw([POWER, BROKEN, RISING]).axes) == 3


def test_forecasts_see_no_size_beyond_their_pilots():
    for pilots, size, predicted, _ in POWER.forecasts():
        cut = Curve("cut", tuple(run for run in POWER.runs if run[0] <= POWER.sizes[pilots - 1] or run[0] == size))
        assert cut.forecast(pilots, size) == predicted


def test_line_covers_straight_lines_as_often_as_it_says():
    """1,000 straight lines with noise; the interval is for a new run."""
    draws, sizes = np.random.default_rng(0), 2.0 ** np.arange(7)
    held = 0
    for _ in range(1000):
        errors = sizes**-0.5 * np.exp(0.05 * draws.standard_normal(7))
        low, high = line_interval(sizes, errors, 512.0, 0.9)
        held += low <= 512.0**-0.5 <= high
    assert 0.87 <= held / 1000 <= 0.93


def test_kernel_is_the_matern_of_order_five_halves():
    """Against scipy's Bessel function: 2^(1-ν)/Γ(ν) (√(2ν) r)^ν K_ν(√(2ν) r) at ν = 5/2."""
    from scipy.special import gamma, kv

    a = np.random.default_rng(0).standard_normal((5, 3))
    r = np.linalg.norm(a[:, None] - a[None] + 1e-300, axis=2)[~np.eye(5, dtype=bool)] / 1.7
    z = np.sqrt(5) * r
    assert _matern(a, a, 1.7)[~np.eye(5, dtype=bool)] == pytest.approx(2**-1.5 / gamma(2.5) * z**2.5 * kv(2.5, z))


def test_kernel_ridge_learns_a_smooth_map():
    c = np.random.default_rng(0).standard_normal((400, 2))
    u = np.stack([np.sin(c[:, 0]), c[:, 0] * c[:, 1], np.cos(c[:, 1])], 1)
    train, valid, test = np.arange(200), np.arange(200, 300), np.arange(300, 400)
    few, many = (_fitted_error(c, u, train[:n], valid, test) for n in (20, 200))
    assert many < few / 5
    assert many < 0.05
