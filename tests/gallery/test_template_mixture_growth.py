"""The page of template mixtures: starts are what their names say, budgets are equal, every claim has its figure."""

import dataclasses

import pytest
import torch

from fieldwright.gallery.page import markdown
from fieldwright.gallery.template_mixture_growth.contest import (
    FULL,
    MIXTURE,
    NET2NET,
    PAIR,
    PAIR_LONG,
    PLAIN,
    POINTS,
    QUICK,
    SCRATCH,
    STRONG,
    TEMPLATE_LONG,
    Outcome,
    burgers_data,
    duplicated,
    perceptron,
    without_effect,
)
from fieldwright.gallery.template_mixture_growth.measure import (
    claims,
    draw,
    exactness,
    reproduce_template_mixture_growth,
)
from fieldwright.progress import SILENT

ALL_HOLD = {
    PAIR: 0.19, PAIR_LONG: 0.18, SCRATCH: 0.2, NET2NET: 0.177, PLAIN: 0.173, TEMPLATE_LONG: 0.17, MIXTURE: 0.16,
    STRONG: 0.3,
}  # fmt: skip


def outcomes(**changed):
    errors = {**ALL_HOLD, **changed}
    return [Outcome(n, (e,), 1e-3, 1e12, 10, (ALL_HOLD[PAIR],) if n == PLAIN else ()) for n, e in errors.items()]


def test_figures_that_bear_out_every_claim_do():
    assert all(claim.holds for claim in claims(outcomes(), 1e-15))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({MIXTURE: 0.1695, TEMPLATE_LONG: 0.1699}, "16.9 %"),
        ({SCRATCH: 0.15}, "from scratch"),
        ({NET2NET: 0.15}, "Net2Net"),
        ({PLAIN: 0.15}, "plain merge"),
        ({PAIR_LONG: 0.15}, "two halves trained longer"),
        ({TEMPLATE_LONG: 0.15}, "template members trained longer"),
        ({STRONG: 0.15}, "orthogonal at full strength"),
        ({PAIR: 0.18}, "Right after"),
    ],
)
def test_a_claim_fails_with_its_own_figure(changed, word):
    failed = [claim.statement for claim in claims(outcomes(**changed), 1e-15) if not claim.holds]
    assert len(failed) == 1
    assert word in failed[0]


def test_the_identity_is_measured_and_not_assumed():
    assert exactness() < 1e-12
    assert not claims(outcomes(), 1e-9)[0].holds


def test_growing_from_one_half_keeps_its_function_where_it_says_so():
    torch.manual_seed(0)
    half, inputs = perceptron(8).double(), torch.randn(4, 1, POINTS, dtype=torch.float64)
    grown = without_effect(half)
    assert grown[0].out_features == 16
    torch.testing.assert_close(grown.double()(inputs), half(inputs), rtol=1e-6, atol=1e-6)
    assert grown[2].weight[8:].abs().min() > 0  # new units are drawn; only what they lead to is zero
    assert not grown[2].weight[:8, 8:].any()
    torch.testing.assert_close(duplicated(half, noise=0.0).double()(inputs), half(inputs), rtol=1e-6, atol=1e-6)
    noisy = duplicated(half).double()(inputs)
    assert 1e-4 < (noisy - half(inputs)).norm() / half(inputs).norm() < 0.5


def test_samples_solve_the_equation_by_an_independent_integrator():
    """Euler steps of central differences, which are exact to the first order in the step and the second in space."""
    data, test = burgers_data(4, 2)
    inputs, outputs = data.train_samples.batch(range(4))
    u, finer, steps = torch.fft.irfft(torch.fft.rfft(inputs.double()) * 8, 8 * POINTS), 8 * POINTS, 4000
    h = 2 * torch.pi / finer
    for _ in range(steps):
        left, right = u.roll(1, -1), u.roll(-1, -1)
        u = u + (0.02 * (left - 2 * u + right) / h**2 - (right**2 - left**2) / (4 * h)) / steps
    assert (u[..., ::8] - outputs).norm() < 5e-3 * outputs.norm()
    assert (inputs - outputs).norm() > 0.3 * outputs.norm()
    assert len(data.valid_samples) == len(test[0]) == 2


def test_a_quick_reproduction_has_a_row_for_every_method_and_never_more_operations():
    found = reproduce_template_mixture_growth(True, SILENT)
    page = markdown(dataclasses.replace(found, quick=True, name="x"))
    assert "its figures mean nothing" in page
    assert all(name in page for name in ALL_HOLD)
    rows = found.tables[0].rows
    assert max(float(row["operations"].rstrip(" %")) for row in rows) <= 100
    assert len(draw(outcomes()).axes[0].get_yticklabels()) == len(ALL_HOLD)
    assert QUICK.samples < FULL.samples
