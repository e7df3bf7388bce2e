"""The page of the spectral refiner: its data are the flows it names, every claim is decided by its own figures."""

import dataclasses

import pytest
import torch

from fieldwright.datasets import Normalizer
from fieldwright.gallery import race
from fieldwright.gallery.race import Finish, predict
from fieldwright.gallery.spectral_refiner.effort import FULL, QUICK
from fieldwright.gallery.spectral_refiner.flows import KNOWN, PREDICTED, training_data, unseen_flows, window_problem
from fieldwright.gallery.spectral_refiner.measure import claims, draw
from fieldwright.gallery.spectral_refiner.operator_race import (
    FNO,
    FNO_CHANGE,
    SFNO,
    Change,
    Raced,
    Unseen,
    at_half_intervals,
    beyond_training,
    entrants,
    race_on_flows,
    race_table,
    unseen_table,
)
from fieldwright.progress import SILENT

TINY = dataclasses.replace(QUICK, flows=4, test_flows=2, seconds=0.01)
RACED = Raced(
    finishes=[
        Finish(name, seed, 1000, "32", steps, l2, 2 * l2)
        for name, steps, l2 in ((SFNO, 200, 0.2), (FNO, 500, 0.25), (FNO_CHANGE, 500, 0.22))
        for seed in (0, 1)
    ],
    unseen={SFNO: Unseen(0.2, 0.21, 0.18, 2e-7), FNO: Unseen(0.25, 0.3), FNO_CHANGE: Unseen(0.22, 0.25)},
    persistence=0.5,
    solver=0.001,
    solver_seconds=0.01,
)


@pytest.fixture(scope="module")
def flows():
    return unseen_flows(TINY)


@pytest.fixture(scope="module")
def data():
    return training_data(TINY)


def with_unseen(**changes):
    return dataclasses.replace(RACED, unseen={**RACED.unseen, SFNO: dataclasses.replace(RACED.unseen[SFNO], **changes)})


def with_error(name, l2):
    finishes = [dataclasses.replace(f, l2=l2) if f.name == name else f for f in RACED.finishes]
    return dataclasses.replace(RACED, finishes=finishes)


def test_predicted_frames_are_what_the_problem_says_of_the_known_ones(flows):
    truth, _ = window_problem(TINY.points).solve(flows.known.double())
    assert (truth - flows.predicted).norm() < 1e-4 * truth.norm()
    assert torch.equal(flows.between[:, 1::2], flows.predicted)
    midway = flows.between[:, 2::2]
    assert (midway - (flows.predicted[:, :-1] + flows.predicted[:, 1:]) / 2).norm() < 0.05 * midway.norm()


def test_the_finer_flows_are_the_same_ones(flows):
    known, predicted = flows.finer
    assert known.shape[-1] == 2 * TINY.points
    assert len(known) == 1
    # So few points do not hold all waves of the flow, so that the two drift apart; of other flows it would be 1.4.
    assert (known[:, :, ::2, ::2] - flows.known[:1]).norm() < 0.7 * known[:, :, ::2, ::2].norm()
    assert predicted.shape[1] == PREDICTED


def test_training_flows_are_others_and_all_frames_have_one_scale(data, flows):
    known, predicted = data.train_samples.batch(range(4))
    assert known.shape == predicted.shape == (4, KNOWN, TINY.points, TINY.points)
    assert float(data.outputs.encode(predicted).std()) == pytest.approx(1, rel=1e-5)
    assert len(set(data.inputs.std.tolist())) == 1
    closest = min(float((known[:, 0] - flow[0]).flatten(1).norm(dim=1).min()) for flow in flows.known)
    assert closest > 0.5 * float(known[0, 0].norm())


def test_half_intervals_are_in_physical_units_and_contain_the_frames(data, flows):
    operator = next(e for e in entrants(TINY) if e.name == SFNO).build()
    halves = at_half_intervals(operator, data, flows.known)
    own = predict(operator, data, flows.known)
    assert (halves[:, 1::2] - own).norm() < 1e-5 * own.norm()


def test_persistence_as_a_model_has_its_own_error_everywhere(data, flows):
    class Nothing(torch.nn.Module):
        def forward(self, inputs):
            return torch.zeros_like(inputs)

    unseen = beyond_training(Change(Nothing()), data, flows)
    truth = flows.predicted[:1].double()
    expected = (flows.known[:1, -1:].double() - truth).norm() / truth.norm()
    assert unseen.trained == pytest.approx(float(expected), rel=1e-5)
    assert unseen.finer == pytest.approx(unseen.trained, rel=0.1)
    assert (unseen.between, unseen.shared) == (None, None)


def test_a_race_of_a_moment_measures_models_and_plain_alternatives(data, flows, monkeypatch):
    monkeypatch.setattr(race, "ROUNDS", 1)
    raced = race_on_flows(TINY, data, flows, SILENT)
    assert [finish.name for finish in raced.finishes] == [SFNO, FNO, FNO_CHANGE] == list(raced.unseen)
    assert raced.solver < 0.01 < raced.persistence < 1
    assert raced.unseen[SFNO].shared < 1e-5
    assert isinstance(data.outputs, Normalizer)


def test_the_figures_bear_out_every_claim():
    assert [claim.statement for claim in claims(RACED) if not claim.holds] == []


@pytest.mark.parametrize(
    ("raced", "word"),
    [
        (with_error(FNO_CHANGE, 0.6), "persistence"),
        (with_error(FNO_CHANGE, float("nan")), "persistence"),
        (with_error(FNO, 0.1), "plain FNO"),
        (with_unseen(finer=0.3), "twice the resolution"),
        (with_unseen(between=0.3), "Midway"),
        (with_unseen(shared=1e-3), "twice as many"),
        (dataclasses.replace(RACED, solver=0.1), "solver"),
    ],
)
def test_a_claim_falls_with_its_own_figure(raced, word):
    failed = [claim.statement for claim in claims(raced) if not claim.holds]
    assert len(failed) == 1
    assert word in failed[0]


def test_tables_have_a_row_each_and_the_plain_alternatives():
    table = race_table(RACED, FULL)
    assert [row["model"] for row in table.rows[:4]] == [SFNO, FNO, FNO_CHANGE, "persistence"]
    assert table.rows[0]["relative L2"] == "20 % (20 to 20)"
    assert table.rows[-1]["relative L2"] == "0.1 %"
    assert "10 ms a sample" in str(table.rows[-1]["model"])
    unseen = unseen_table(RACED, FULL).rows
    assert [row["at 128 points"] for row in unseen] == ["21 %", "30 %", "25 %"]
    assert [row["midway between the frames"] for row in unseen] == ["18 %", None, None]


def test_the_picture_has_a_mark_for_every_error():
    (axes,) = draw(RACED).axes
    assert sum(len(line.get_xdata()) for line in axes.lines[:3]) == 7
