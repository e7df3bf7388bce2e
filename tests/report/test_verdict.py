"""The verdict says who wins, in plain words, also when it is not the surrogate."""

import dataclasses

import pytest
from hand_made import make_evaluation

from fieldwright.report import key_figures, verdict
from fieldwright.report.verdict import certified_sentence


def words(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_when_the_solver_is_faster_it_says_use_the_solver(facts):
    said = verdict(make_evaluation(surrogate_seconds=1e-3, solver_seconds=2e-4), facts)
    assert words(said.sentence) == (
        "On this problem our multigrid solver is faster than the surrogate at the same accuracy"
        " (0.20 ms against 1.0 ms per sample, at 1.4 % error): use the solver."
    )


def test_when_the_surrogate_pays_it_says_from_when_on(facts):
    facts = dataclasses.replace(facts, stage_seconds={"generate": 20.0, "train": 80.0})
    said = verdict(make_evaluation(surrogate_seconds=1e-3, solver_seconds=1.1e-2), facts)
    assert words(said.sentence) == (
        "From 10,000 samples on, the surrogate (median error 1.4 %) is cheaper than our multigrid solver run to the"
        " same accuracy; for fewer, use the solver."
    )


def test_a_surrogate_that_learned_nothing_is_not_recommended_however_fast(facts):
    said = verdict(make_evaluation(median=0.25, surrogate_seconds=1e-9), facts)
    assert said.sentence.startswith("Do not use this surrogate")
    assert "is not far from the 31" in said.sentence
    assert "is no better than the 31" in verdict(make_evaluation(median=0.6), facts).sentence


def test_without_solvers_the_sentence_stands_without_a_comparison(facts):
    evaluation = make_evaluation()
    evaluation = dataclasses.replace(evaluation, speed=dataclasses.replace(evaluation.speed, solvers=()))
    assert "no solver was there to compare" in verdict(evaluation, facts).sentence
    assert [f.value for f in key_figures(evaluation, facts)][2:4] == ["none", "unknown"]


def test_other_solvers_are_remarked_on_with_their_own_counts(facts):
    facts = dataclasses.replace(facts, stage_seconds={"generate": 0.0, "train": 70.0})
    remarks = [words(r) for r in verdict(make_evaluation(surrogate_seconds=1e-3, baseline_seconds=5e-4), facts).remarks]
    scipy = "Against scipy.sparse.linalg.spsolve, one by one (8.0 ms per sample)"
    assert f"{scipy} it pays from 10,000 samples on." in remarks
    assert "Against your own solver (0.50 ms per sample) it never pays." in remarks


def test_growth_of_the_error_beyond_the_training_is_named(facts):
    remarks = [words(r) for r in verdict(make_evaluation(), facts).remarks]
    assert "Out of distribution the median error grows to 5.6 % (contrast 8 instead of 4)." in remarks
    assert "At another resolution the median error grows to 4.2 % (16 × 16)." in remarks


@pytest.mark.parametrize(("saved", "told"), [(2.0, "saves 2 "), (0.0, "saves none "), (-1.0, "costs 1 more ")])
def test_saved_iterations_are_told_even_when_there_are_none(saved, told):
    certified = dataclasses.replace(make_evaluation().certified, saved_median=saved)
    assert told in certified_sentence(certified)


def test_a_broken_bound_is_admitted(facts):
    evaluation = make_evaluation()
    first = evaluation.errors[0]
    broken = dataclasses.replace(first, estimate=dataclasses.replace(first.estimate, violations=2))
    evaluation = dataclasses.replace(evaluation, errors=(broken, *evaluation.errors[1:]))
    assert any("bound failed on 2\N{NO-BREAK SPACE}samples" in r for r in verdict(evaluation, facts).remarks)
    assert not any("bound" in r for r in verdict(make_evaluation(), facts).remarks)


@pytest.mark.parametrize(("solver_seconds", "value"), [(1e-4, "never"), (1.0, "185")])
def test_five_key_figures_of_which_one_is_the_break_even(facts, solver_seconds, value):
    figures = key_figures(make_evaluation(solver_seconds=solver_seconds, surrogate_seconds=1e-3), facts)
    assert [words(f.label) for f in figures] == [
        "Median relative L2 error",
        "One prediction",
        "Fastest solver",
        "Break-even",
        "Preparation",
    ]
    # The fastest of ours and SciPy's 8 ms are separate rows: break-even is against ours.
    assert figures[3].value == value
