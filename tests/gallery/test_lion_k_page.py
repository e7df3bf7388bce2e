"""The page of Lion-K: every claim is decided by its own figures, and the peers are what they are said to be."""

import dataclasses

import pytest
import torch
from torch import nn

from fieldwright.gallery.lion_k.bounded_inverse import CELLS, Inversion, misfit, pressures, truth
from fieldwright.gallery.lion_k.burgers_race import (
    ADAMW,
    MUON,
    SIGN,
    SPECTRAL,
    Outcome,
    PlainMuon,
    burgers_samples,
    newton_schulz,
)
from fieldwright.gallery.lion_k.measure import FULL, Theory, claims, draw, page
from fieldwright.gallery.lion_k.two_phases import Approach, Descent, Inequality, approach, descent, inequality
from fieldwright.gallery.page import markdown
from fieldwright.training.kappa_sets import orthogonal_factor

THEORY = Theory(
    [Descent("huber", -1e-3, 1e-6)],
    [Approach(0.8, 0.01, [7 * 0.992**t for t in range(1300)], 1103, 1100), Approach(4.0, 0.01, [1.0, 0.5, 0.0], 3, 2)],
    [Inequality("huber", 1e-2, 0, 0.3)],
)
ERRORS = {ADAMW: 0.04, SIGN: 0.045, SPECTRAL: 0.03, MUON: 0.031}
OUTCOMES = [Outcome(name, seed, 1e-3, error, 0.006, 3.0 + seed) for name, error in ERRORS.items() for seed in (0, 1, 2)]
INVERSIONS = [
    Inversion("two phases", "Lion-K box", 0, 0.01, 1e-3, 1e-4),
    Inversion("two phases", "Adam, clamped", 0, 0.1, 1e-3),
]


def changed(outcomes, name, **values):
    return [dataclasses.replace(one, **values) if one.name == name else one for one in outcomes]


def test_figures_that_bear_out_every_claim_do() -> None:
    assert all(claim.holds for claim in claims(THEORY, OUTCOMES, INVERSIONS))


@pytest.mark.parametrize(
    ("theory", "outcomes", "inversions", "words"),
    [
        (dataclasses.replace(THEORY, descents=[Descent("huber", 1e-3, 1e-6)]), OUTCOMES, INVERSIONS, "never rises"),
        (dataclasses.replace(THEORY, descents=[Descent("huber", -1, 1e-2)]), OUTCOMES, INVERSIONS, "derived rate"),
        (dataclasses.replace(THEORY, inequalities=[Inequality("l", 1, 2, 0)]), OUTCOMES, INVERSIONS, "No step"),
        (
            dataclasses.replace(THEORY, approaches=[Approach(1, 0.1, [1, 0], 3, None)]),
            OUTCOMES,
            INVERSIONS,
            "predicted",
        ),
        (dataclasses.replace(THEORY, approaches=[Approach(1, 0.1, [1, 0.95], 3, 2)]), OUTCOMES, INVERSIONS, "No step"),
        (THEORY, changed(OUTCOMES, ADAMW, error=0.036), INVERSIONS, "by a fifth"),
        (THEORY, changed(OUTCOMES, MUON, error=0.029), INVERSIONS, "no worse than Muon"),
        (THEORY, changed(OUTCOMES, SPECTRAL, step_seconds=0.013), INVERSIONS, "twice as long"),
        (THEORY, changed(OUTCOMES, SIGN, error=0.06), INVERSIONS, "on par"),
        (THEORY, OUTCOMES, [INVERSIONS[0], dataclasses.replace(INVERSIONS[1], error=0.015)], "half the error"),
    ],
)
def test_a_figure_that_contradicts_a_claim_fails_that_claim_alone(theory, outcomes, inversions, words) -> None:
    failed = [claim.statement for claim in claims(theory, outcomes, inversions) if not claim.holds]
    assert len(failed) == 1
    assert words in failed[0]


def test_the_page_has_a_row_for_everything_measured() -> None:
    text = markdown(page(THEORY, OUTCOMES, 0.3, INVERSIONS, FULL))
    for words in (*ERRORS, "Adam, clamped", "1,100 steps", "discrete inequality, huber"):
        assert words in text
    figure = draw(THEORY, OUTCOMES)
    assert len(figure.axes[1].lines) == len(ERRORS)


def test_the_theory_holds_over_a_few_steps() -> None:
    assert descent("relativistic", steps=20).largest_rise < 0
    found = approach(4.0, steps=300, rate=0.01)
    assert found.violations == 0
    assert found.taken is not None
    assert found.taken <= found.predicted
    assert inequality("huber", rate=1e-2, steps=50).violations == 0


def test_muon_in_float32_is_torchs_but_for_its_rounding() -> None:
    draws = torch.Generator().manual_seed(0)
    ours, theirs = nn.Parameter(torch.zeros(20, 30)), nn.Parameter(torch.zeros(20, 30))
    one, two = PlainMuon([ours], 0.01), torch.optim.Muon([theirs], 0.01, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(20, 30, generator=draws)
        theirs.grad = ours.grad.clone()
        one.step()
        two.step()
    # bfloat16 has 8 bits: 0.4 % a rounding, some of them in each of five rounds.
    assert float((ours - theirs).detach().norm() / theirs.detach().norm()) < 0.03


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_both_forms_of_the_factor_are_the_same_iteration(shape) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(newton_schulz(matrix), orthogonal_factor(matrix[None])[0], rtol=1e-8, atol=1e-9)


def test_pressures_of_a_constant_conductivity_are_the_parabola() -> None:
    x = torch.arange(1, CELLS, dtype=torch.float64) / CELLS
    found = pressures(torch.full((CELLS,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(found[:, 0], x * (1 - x) / 4)


@pytest.mark.parametrize("name", ["two phases", "smooth"])
def test_the_truth_explains_its_own_pressures_and_no_other_does(name) -> None:
    exact = pressures(truth(name))
    assert float(misfit(truth(name), exact)) == 0
    assert float(misfit(truth(name) + 0.1, exact)) > 1e-5
    assert 1.0 <= float(truth(name).min()) <= float(truth(name).max()) <= 4.0


def test_samples_of_burgers_keep_their_mean_and_lose_energy() -> None:
    (start, end), (other, _) = burgers_samples([4, 2])
    torch.testing.assert_close(start.mean(1), end.mean(1), rtol=0, atol=1e-5)
    assert bool((end.square().sum(1) < start.square().sum(1)).all())
    assert not torch.equal(start[:2], other)
