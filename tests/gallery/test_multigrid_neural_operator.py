"""The page of the multigrid operator: every claim is decided by its own figures, every table and mark is there."""

import dataclasses

import pytest
import torch
from torch import nn

from fieldwright.datasets import Normalizer
from fieldwright.gallery.multigrid_neural_operator.darcy_race import (
    BEYOND,
    FNO,
    MGNO,
    MGNO_H1,
    UNET,
    SolverRow,
    entrants,
    race_on_darcy,
    race_table,
)
from fieldwright.gallery.multigrid_neural_operator.effort import FULL, QUICK
from fieldwright.gallery.multigrid_neural_operator.elliptic_inverse import (
    VARIANTS,
    Inverse,
    inverse_table,
    invert_laplacian,
    sine_series,
)
from fieldwright.gallery.multigrid_neural_operator.measure import claims, draw
from fieldwright.gallery.multigrid_neural_operator.periodicity import PADDED, PERIODIC, PERIODIC_FNO, shift_table
from fieldwright.gallery.race import Entrant, Finish, errors, predict, with_equal_time
from fieldwright.grids import Grid
from fieldwright.progress import SILENT
from fieldwright.training import Phase, TrainingData

# The figures of the method's reference runs, two seeds each.
INVERSE = [Inverse(variant, 8989, (variant.reference, 1.1 * variant.reference), (0.45, 0.46)) for variant in VARIANTS]
FINISHES = [
    Finish(name, seed, 572661, "32", 2200, l2, h1)
    for name, l2, h1 in (
        (MGNO, 0.017, 0.131),
        (MGNO_H1, 0.019, 0.055),
        (BEYOND, 0.004, 0.018),
        (FNO, 0.023, 0.105),
        (UNET, 0.021, 0.089),
    )
    for seed in (0, 1)
]
SHIFTS = {PERIODIC: 4e-7, PADDED: 0.30, PERIODIC_FNO: 6e-7}


def spoiled_inverse(place, error):
    changed = list(INVERSE)
    changed[place] = dataclasses.replace(changed[place], same_spectrum=(error, error))
    return changed


def spoiled_finishes(name, **errors_of_it):
    return [dataclasses.replace(f, **errors_of_it) if f.name == name else f for f in FINISHES]


def test_the_reference_figures_bear_out_every_claim():
    assert [claim.statement for claim in claims(INVERSE, FINISHES, SHIFTS) if not claim.holds] == []


@pytest.mark.parametrize(
    ("inverse", "finishes", "shifts", "word"),
    [
        (spoiled_inverse(0, 0.06), FINISHES, SHIFTS, "Six levels"),
        (spoiled_inverse(1, 0.06), FINISHES, SHIFTS, "Six levels"),
        (spoiled_inverse(2, 0.05), FINISHES, SHIFTS, "Two levels"),
        (spoiled_inverse(3, 0.01), FINISHES, SHIFTS, "Padding"),
        (spoiled_inverse(4, 0.01), FINISHES, SHIFTS, "Padding"),
        (INVERSE, spoiled_finishes(UNET, l2=0.5), SHIFTS, "none diverges"),
        (INVERSE, spoiled_finishes(UNET, l2=float("nan")), SHIFTS, "none diverges"),
        (INVERSE, spoiled_finishes(MGNO_H1, h1=0.12), SHIFTS, "H1 error"),
        (INVERSE, spoiled_finishes(FNO, l2=0.01), SHIFTS, "FNO"),
        (INVERSE, FINISHES, {**SHIFTS, PERIODIC: 1e-3}, "commutes"),
        (INVERSE, FINISHES, {**SHIFTS, PADDED: 1e-6}, "Zero-padded"),
    ],
)
def test_a_claim_falls_with_its_own_figure(inverse, finishes, shifts, word):
    failed = [claim.statement for claim in claims(inverse, finishes, shifts) if not claim.holds]
    assert failed
    assert any(word in statement for statement in failed)


def test_white_noise_within_reach_would_be_news():
    learnt = [dataclasses.replace(INVERSE[0], white_noise=(0.01, 0.01)), *INVERSE[1:]]
    failed = [claim.statement for claim in claims(learnt, FINISHES, SHIFTS) if not claim.holds]
    assert failed == ["White noise is out of reach: above 30 %"]


def test_tables_have_a_row_each_and_the_plain_alternative():
    inverse = inverse_table(INVERSE, FULL)
    assert len(inverse.rows) == len(VARIANTS) + 1
    assert inverse.rows[0]["relative L2"] == "2.52 % (2.4 to 2.64)"
    assert inverse.rows[0]["reference run"] == "2.4 %"
    assert "plain alternative" in str(inverse.rows[-1]["variant"])
    raced = race_table(FINISHES, SolverRow(rtol=1e-2, l2=0.004, seconds=2e-3), FULL)
    assert [row["model"] for row in raced.rows[:5]] == [MGNO, MGNO_H1, BEYOND, FNO, UNET]
    assert raced.rows[-1]["relative L2"] == "0.40%"
    assert "2 ms a sample" in str(raced.rows[-1]["model"])
    shifted = shift_table(SHIFTS)
    assert [row["defect"] for row in shifted.rows] == ["4e-07", "0.3", "6e-07"]


def test_the_picture_has_a_mark_for_every_seed():
    left, right = draw(INVERSE, FINISHES).axes
    assert sum(len(line.get_xdata()) for line in left.lines) == 2 * 2 * len(VARIANTS)
    assert sum(len(line.get_xdata()) for line in right.lines) == len(FINISHES)
    assert len(left.get_yticklabels()) == len(VARIANTS)


def test_the_same_generator_draws_the_same_series():
    first, again = (sine_series(8, 3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_few_steps_measure_every_variant_on_both_kinds_of_source():
    effort = dataclasses.replace(QUICK, steps=2, test_samples=2, seeds=(0,))
    results = invert_laplacian(effort, SILENT)
    assert [result.variant for result in results] == list(VARIANTS)
    assert all(len(result.same_spectrum) == len(result.white_noise) == 1 for result in results)


def test_a_race_of_a_moment_measures_models_and_solver():
    effort = dataclasses.replace(QUICK, seconds=0.01, seeds=(0,))
    finishes, solver = race_on_darcy(effort, SILENT)
    assert [finish.name for finish in finishes] == [MGNO, MGNO_H1, BEYOND, FNO, UNET]
    assert finishes[0].parameters == 572661  # the published model's
    assert 0 <= solver.l2 < 0.05
    assert solver.seconds > 0


def test_entrants_differ_in_what_they_are_meant_to():
    phases = {entrant.name: entrant.phase for entrant in entrants(FULL)}
    assert phases[MGNO_H1].objective == "h1"
    assert {phases[name].objective for name in (MGNO, FNO, UNET)} == {"l2"}
    assert len({(p.batch_size, p.schedule, p.clip, p.precision) for p in phases.values()}) == 1


def data_of(inputs, outputs):
    return TrainingData(
        (inputs, outputs),
        (inputs, outputs),
        inputs=Normalizer(torch.tensor([5.0]), torch.tensor([2.0])),
        outputs=Normalizer(torch.tensor([0.0]), torch.tensor([3.0])),
        grid=Grid((8,), "cell"),
    )


def test_equal_time_gives_the_slower_operator_fewer_steps():
    inputs = torch.randn(8, 1, 8, generator=torch.Generator().manual_seed(0))
    phase = Phase(steps=1, batch_size=8)
    fast = Entrant("fast", lambda: nn.Conv1d(1, 1, 1), phase)
    slow = Entrant("slow", lambda: nn.Sequential(nn.Conv1d(1, 512, 3, padding=1), nn.Conv1d(512, 512, 3, padding=1),
                                                 nn.Conv1d(512, 1, 3, padding=1)), phase)  # fmt: skip
    threads = torch.get_num_threads()
    timed = with_equal_time([fast, slow], data_of(inputs, inputs), seconds=2.0)
    assert torch.get_num_threads() == threads
    assert timed[0].phase.steps > 3 * timed[1].phase.steps >= 3
    assert timed[1].phase.model_copy(update={"steps": 1, "precision": "32"}) == phase


def test_equal_time_gives_everyone_a_step():
    inputs = torch.ones(2, 1, 8)
    entrant = Entrant("any", lambda: nn.Conv1d(1, 1, 1), Phase(steps=5))
    assert with_equal_time([entrant], data_of(inputs, inputs), seconds=1e-12)[0].phase.steps == 1


def test_errors_are_those_of_physical_fields():
    inputs = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(0))
    # The identity on normalised fields: (x - 5) / 2 decoded is 3 (x - 5) / 2.
    truth = 1.5 * (inputs - 5)
    data = data_of(inputs, truth)
    assert errors(nn.Identity(), data, (inputs, truth)) == pytest.approx((0, 0), abs=1e-6)
    assert errors(nn.Identity(), data, (inputs, truth / 1.1)) == pytest.approx((0.1, 0.1), abs=1e-6)


def test_a_prediction_goes_through_in_parts_and_in_evaluation_mode():
    operator = nn.Dropout(0.5)
    inputs = torch.randn(45, 1, 8, generator=torch.Generator().manual_seed(0))
    prediction = predict(operator, data_of(inputs, inputs), inputs.double())
    assert prediction.dtype == torch.float64
    assert torch.allclose(prediction, 1.5 * (inputs.double() - 5), atol=1e-5)
