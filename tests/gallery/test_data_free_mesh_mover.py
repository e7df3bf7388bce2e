"""The page of the mesh mover: fields by their formula, every claim decided by its own figures, a whole quick page."""

import dataclasses
import math

import pytest
import torch

from fieldwright.gallery import reproduce
from fieldwright.gallery.data_free_mesh_mover.contest import (
    HYBRID,
    NETWORK,
    RELAXED,
    UNIFORM,
    Entrant,
    Score,
    Validity,
    contest,
    validity,
)
from fieldwright.gallery.data_free_mesh_mover.effort import QUICK
from fieldwright.gallery.data_free_mesh_mover.fronts import Fronts
from fieldwright.gallery.data_free_mesh_mover.learning import FIELDS
from fieldwright.gallery.data_free_mesh_mover.measure import PLAIN, claims
from fieldwright.gallery.data_free_mesh_mover.two_branches import Trained, branches_table, one_step_of_burgers
from fieldwright.solvers.meshing import Potential, PotentialSpace, Relaxation


def score(name: str, ratio: float, inverted: int = 0) -> Score:
    return Score(name, 48, (0.1, 0.1), (ratio, ratio), 0.1, 2, inverted, 1e-3)


SCORES = {n: score(n, r) for n, r in ((UNIFORM, 1.0), (NETWORK, 3.9), (PLAIN, 3.85), (HYBRID, 4.6))}
COUNTS = [Validity(NETWORK, 100, 3, 0, 0.05), Validity(PLAIN, 100, 0, 0, 0.1)]
BRANCHES = [Trained(mesh, 0, 1000, l2, 0.1, 0.5) for mesh, l2 in (("moving", 0.02), ("uniform", 0.03))]


def failed(scores=SCORES, counts=COUNTS, branches=BRANCHES) -> list[str]:
    return [claim.statement for claim in claims(scores, counts, branches) if not claim.holds]


def test_figures_that_bear_out_every_claim_do():
    assert failed() == []


@pytest.mark.parametrize(
    ("scores", "counts", "branches", "words"),
    [
        ({**SCORES, NETWORK: score(NETWORK, 2.9)}, COUNTS, BRANCHES, ["The network, trained", "better than"]),
        ({**SCORES, PLAIN: score(PLAIN, 3.7)}, COUNTS, BRANCHES, ["Plain relaxation"]),
        ({**SCORES, PLAIN: score(PLAIN, 5.5)}, COUNTS, BRANCHES, ["better than"]),
        ({**SCORES, HYBRID: score(HYBRID, math.nan)}, COUNTS, BRANCHES, ["five relaxation"]),
        ({**SCORES, PLAIN: score(PLAIN, 3.85, 1)}, COUNTS, BRANCHES, ["no cell"]),
        (SCORES, [dataclasses.replace(COUNTS[0], after=1)], BRANCHES, ["no cell"]),
        (SCORES, COUNTS, [dataclasses.replace(BRANCHES[0], l2=0.04), BRANCHES[1]], ["second branch"]),
    ],
)
def test_a_claim_falls_with_its_own_figure(scores, counts, branches, words):
    found = failed(scores, counts, branches)
    assert len(found) == len(words)
    assert all(word in statement for word, statement in zip(words, found, strict=True))


def test_fields_are_their_formula_and_the_same_for_the_same_seed():
    fields = Fronts.draw(50, 3)
    assert torch.equal(Fronts.draw(50, 3).numbers, fields.numbers)
    assert not torch.equal(Fronts.draw(50, 4).numbers, fields.numbers)
    angle, a, w, x, y, bend, wave, phase, _ = fields.numbers[:, :, 0].unbind(1)
    # On the line itself, where t = 0, the front is bent by b sin ψ; one front alone is odd about its middle.
    alone = fields.numbers.clone()
    alone[:, 1, 1] = 0
    point = torch.stack((x, y), 1)
    torch.testing.assert_close(Fronts(alone)(point), -a * torch.tanh(bend * torch.sin(phase) / w))
    far = point + 100 * torch.stack((angle.cos(), angle.sin()), 1)
    torch.testing.assert_close(Fronts(alone)(far), -a)
    assert 0.015 <= float(w.min()) <= float(w.max()) <= 0.045
    assert 0.4 < float((fields.numbers[:, 1, 1] > 0).double().mean()) < 0.95
    assert float(wave.min()) > math.pi


def test_the_uniform_mesh_is_the_unit_and_relaxation_beats_it():
    rows = [Entrant(UNIFORM, None), Entrant(RELAXED.format(20), Relaxation(steps=20, modes=16))]
    scores = contest(rows, Fronts.draw(3, 1), 24)
    assert scores[UNIFORM].ratios == (1.0, 1.0, 1.0)
    found = scores[RELAXED.format(20)]
    assert min(found.ratios) > 1.3
    assert found.ratios == tuple(u / e for u, e in zip(scores[UNIFORM].errors, found.errors, strict=True))
    assert found.variation < scores[UNIFORM].variation
    assert found.inverted == scores[UNIFORM].inverted == scores[UNIFORM].inverted_before == 0


def test_inverted_meshes_are_counted_before_the_safe_step_and_gone_after():
    def wild(monitor, grid, box):
        coefficients = torch.zeros(len(monitor), 8, 8)
        coefficients[::2, 5, 6] = 1.0
        return Potential(PotentialSpace(box, (8, 8)), coefficients, torch.zeros(len(monitor)), 0)

    counted = validity([Entrant("wild", wild)], 6, 12, seed=0)[0]
    assert (counted.fields, counted.before, counted.after) == (6, 3, 0)
    assert counted.least_volume == pytest.approx(0.05, rel=1e-3)


def test_one_step_of_burgers_is_a_step_of_its_own_state():
    data, (before, after) = one_step_of_burgers(QUICK)
    assert data.grid.shape == tuple(before.shape[2:]) == tuple(after.shape[2:])
    assert 0 < float((after - before).norm() / before.norm()) < 0.5
    torch.testing.assert_close(after.mean(2), before.mean(2), atol=2e-3, rtol=0)  # the thinned mean is nearly conserved
    table = branches_table(BRANCHES, QUICK)
    assert [row["relative L2"] for row in table.rows] == ["2 %", "3 %"]


def test_a_quick_run_makes_the_whole_page(tmp_path):
    measured = reproduce("data-free-mesh-mover", tmp_path, quick=True)
    text = (tmp_path / "data-free-mesh-mover.md").read_text()
    assert (tmp_path / "data-free-mesh-mover.svg").exists()
    assert all(table.heading in text for table in measured.tables)
    assert "mean nothing" in text
    assert FIELDS.shape == (64, 64)
