"""The page of MultiONet: every claim is decided by its own figures, every model has a row and its marks."""

import dataclasses

import pytest
import torch

from fieldwright.gallery.multionet.effort import FULL, QUICK
from fieldwright.gallery.multionet.measure import (
    DEEP,
    DEEP_ZERO,
    FNO,
    MULTI,
    MULTI_ZERO,
    claims,
    draw,
    entrants,
    race_table,
    reproduce_multionet,
)
from fieldwright.gallery.page import markdown
from fieldwright.gallery.race import Finish
from fieldwright.operators import parameter_count
from fieldwright.progress import SILENT

ALL_HOLD = {MULTI: 0.02, DEEP: 0.05, MULTI_ZERO: 0.03, DEEP_ZERO: 0.1, FNO: 0.005}
FINISHES = [Finish(name, seed, 408245, "32", 1200, l2, 4 * l2) for name, l2 in ALL_HOLD.items() for seed in (0, 1)]


def with_error(name, l2):
    return [dataclasses.replace(f, l2=l2) if f.name == name else f for f in FINISHES]


def test_figures_that_bear_out_every_claim_do():
    assert all(claim.holds for claim in claims(FINISHES))


@pytest.mark.parametrize(
    ("finishes", "word"),
    [
        (with_error(MULTI, 0.0295), "2.9 %"),
        (with_error(DEEP, 0.03), "half"),
        (with_error(DEEP, 0.01), "whichever"),
        (with_error(DEEP_ZERO, 0.02), "whichever"),
        (with_error(MULTI_ZERO, 0.015), "instead of zero"),
        (with_error(FNO, 0.025), "FNO"),
    ],
)
def test_a_claim_fails_with_its_own_figure(finishes, word):
    failed = [claim.statement for claim in claims(finishes) if not claim.holds]
    assert [statement for statement in failed if word in statement]


def test_the_field_has_equal_weights_and_the_starts_that_its_names_say():
    built = {entrant.name: entrant.build() for entrant in entrants(FULL)}
    counts = {name: parameter_count(built[name]) for name in (MULTI, DEEP, MULTI_ZERO, DEEP_ZERO)}
    assert max(counts.values()) - min(counts.values()) == 3  # the factors of the other three layers
    inputs = torch.rand(2, 1, FULL.points, FULL.points)
    assert built[MULTI_ZERO](inputs).abs().max() == built[DEEP_ZERO](inputs).abs().max() == 0
    assert min(built[name](inputs).abs().max() for name in (MULTI, DEEP)) > 0


def test_every_model_has_a_row_and_a_mark():
    assert [row["model"] for row in race_table(FINISHES, FULL).rows] == list(ALL_HOLD)
    axes = draw(FINISHES).axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2] * len(ALL_HOLD)
    assert len({label.get_text() for label in axes.get_yticklabels()}) == len(ALL_HOLD)


def test_a_quick_reproduction_gives_a_whole_page():
    page = markdown(dataclasses.replace(reproduce_multionet(True, SILENT), quick=True, name="x"))
    assert "its figures mean nothing" in page
    assert all(name in page for name in ALL_HOLD)
    assert QUICK.seconds < 1
