"""The evaluation of a surrogate whose error is known by construction."""

import numpy as np
import pytest
import torch

from fieldwright.analysis import CertifiedSolves, EvaluationSettings, evaluate
from fieldwright.errors import SolverError, TrainingError
from fieldwright.norms import l2_norm


def rows(evaluation, kind):
    return {row.name: row for row in evaluation.errors if row.kind == kind}


def test_the_test_set_comes_first_and_its_errors_are_the_noise(evaluation, noisy_truth):
    assert evaluation.test.kind == "in distribution"
    l2 = evaluation.test.l2
    assert l2.count == 40
    assert 0.5 * noisy_truth.size <= l2.median <= l2.p95 <= l2.worst <= 1.5 * noisy_truth.size * (1 + 1e-4)
    assert evaluation.test.h1.median > l2.median


def test_every_shift_of_the_problem_has_a_row(evaluation, darcy):
    assert set(rows(evaluation, "shift")) == set(darcy.shifts())
    assert all(row.l2.count == 6 for row in rows(evaluation, "shift").values())


def test_other_resolutions_have_rows_and_the_trained_one_has_none(evaluation):
    found = rows(evaluation, "resolution")
    assert set(found) == {"8 × 8", "32 × 32"}
    assert found["8 × 8"].shape == (8, 8)
    assert found["8 × 8"].l2.worst <= 0.03 * (1 + 1e-4)


def test_a_resolution_that_the_surrogate_cannot_take_is_a_row_with_the_reason(evaluation):
    row = rows(evaluation, "resolution")["32 × 32"]
    assert row.l2 is None
    assert "takes at most 24 points" in row.note


def test_a_resolution_that_the_problem_cannot_take_is_a_row_with_the_reason(darcy, noisy_truth):
    inputs = darcy.sample(range(4), seed=1)
    outputs, _ = darcy.solve(inputs)
    chosen = EvaluationSettings(resolutions=[2], shifts=False, samples=2)
    found = evaluate(noisy_truth, darcy, inputs.float(), outputs.float(), settings=chosen, seed=0)
    assert found.errors[1].note == "darcy: resolution 2; an integer of at least 4 is needed"
    assert rows(found, "shift") == {}


def test_estimates_are_compared_with_the_true_relative_l2_error(evaluation, noisy_truth):
    for row in evaluation.errors:
        if row.estimate:
            assert row.estimate.median_ratio == pytest.approx(noisy_truth.optimism, rel=1e-3)
            assert row.estimate.median_bound == pytest.approx(3, rel=1e-3)
            assert row.estimate.violations == 0


def test_shown_samples_are_best_median_and_worst_of_the_test_set(evaluation):
    errors = evaluation.arrays["error_0"]
    shown = {sample.label: sample for sample in evaluation.shown}
    assert shown["best"].error == errors.min()
    assert shown["worst"].error == errors.max()
    assert shown["worst"].index == int(errors.argmax())
    assert evaluation.arrays["prediction"].shape == (3, 1, 16, 16)


def test_spectra_sum_to_the_squared_norms(evaluation, darcy):
    inputs = darcy.sample(range(40), seed=5)
    truth, _ = darcy.solve(inputs)
    expected = float(l2_norm(truth, darcy.grid).square().mean())
    assert evaluation.arrays["truth_spectrum"].sum() == pytest.approx(expected, rel=1e-5)
    peak = evaluation.arrays["wavenumber"][evaluation.arrays["error_spectrum"].argmax()]
    assert peak == round(3 * np.sqrt(2))  # the noise is sin 3πx sin 3πy


def test_the_stored_truth_conserves_and_the_prediction_does_not(evaluation):
    defects = {row.name: row for row in evaluation.defects}
    assert defects["flux"].truth.worst < 1e-5
    assert defects["flux"].prediction.median > 1e-3
    assert defects["residual"].prediction.median > 0


def test_iterations_saved_are_those_without_less_those_with_the_guess(evaluation):
    certified = evaluation.certified
    assert isinstance(certified, CertifiedSolves)
    assert certified.saved_median == certified.saved_least == certified.saved_most == 2
    assert certified.from_zero.median - certified.from_prediction.median == 2


def test_the_mean_field_is_worse_than_the_surrogate(evaluation):
    assert evaluation.mean_field > evaluation.test.l2.median


def test_break_even_rows_use_the_batched_time_and_all_rivals(evaluation):
    found = evaluation.break_even(100.0)
    assert [row.kind for row in found] == [rival.kind for rival in evaluation.speed.rivals]
    assert found[-1].kind == "user"
    assert found[-1].count == pytest.approx(100 / (3.0 - evaluation.speed.batched.seconds), abs=1)
    assert all(row.surrogate_seconds == evaluation.speed.batched.seconds for row in found)


def test_the_same_seed_measures_the_same_errors(evaluation, darcy, noisy_truth):
    inputs = darcy.sample(range(40), seed=5)
    outputs, _ = darcy.solve(inputs)
    chosen = EvaluationSettings(resolutions=[8], shifts=True, samples=6)
    again = evaluate(noisy_truth, darcy, inputs.float(), outputs.float(), settings=chosen, seed=5)
    assert rows(again, "shift") == rows(evaluation, "shift")
    assert rows(again, "resolution")["8 × 8"] == rows(evaluation, "resolution")["8 × 8"]


class Broken:
    """Wraps a surrogate: predicts NaN for one sample, or cannot be certified."""

    def __init__(self, inner, *, spoil=False):
        self.inner, self.spoil, self.device = inner, spoil, inner.device

    def fields(self, inputs):
        return self.inner.fields(inputs)

    def predict(self, inputs):
        prediction = self.inner.predict(inputs)
        if self.spoil:
            prediction.fields[1, 0, 0, 0] = torch.nan
        return prediction

    def roll_out(self, inputs, frames):
        return self.inner.roll_out(inputs, frames)

    def solve(self, inputs, rtol=1e-6):
        raise SolverError("solve: samples 0 did not reach a relative residual of 1e-06")


def test_a_prediction_that_is_not_finite_is_an_error_that_names_the_sample(darcy, noisy_truth):
    inputs = darcy.sample(range(3), seed=1)
    outputs, _ = darcy.solve(inputs)
    with pytest.raises(TrainingError, match="test sample 1"):
        evaluate(
            Broken(noisy_truth, spoil=True), darcy, inputs, outputs, settings=EvaluationSettings(samples=1), seed=0
        )


def test_a_certified_solve_that_fails_leaves_its_reason(darcy, noisy_truth):
    inputs = darcy.sample(range(3), seed=1)
    outputs, _ = darcy.solve(inputs)
    chosen = EvaluationSettings(shifts=False, samples=1)
    found = evaluate(Broken(noisy_truth), darcy, inputs, outputs, settings=chosen, seed=0)
    assert found.certified == "solve: samples 0 did not reach a relative residual of 1e-06"
