"""The page of the latent spectral model: every claim is decided by its own figures, every table and mark is there."""

import dataclasses

import pytest

from fieldwright.gallery.latent_spectral_model.darcy_race import FNO, GROUPS, LSM, UNET, entrants, race_table
from fieldwright.gallery.latent_spectral_model.effort import FULL, QUICK
from fieldwright.gallery.latent_spectral_model.measure import claims, draw, reproduce_latent_spectral_model
from fieldwright.gallery.latent_spectral_model.properties import (
    CROSSING,
    LOCALITY,
    RECTANGLE,
    RELOADED,
    exact_properties,
    property_table,
)
from fieldwright.gallery.page import markdown
from fieldwright.gallery.race import Finish
from fieldwright.progress import SILENT

ALL_HOLD = {LSM: 0.02, GROUPS: 0.05, UNET: 0.021, FNO: 0.023}
FINISHES = [Finish(name, seed, 4810273, "32", 300, l2, 5 * l2) for name, l2 in ALL_HOLD.items() for seed in (0, 1)]
EXACT = {CROSSING: 1.0, LOCALITY: 0.0, RECTANGLE: 1.0, RELOADED: 0.0}


def with_error(name, l2):
    return [dataclasses.replace(f, l2=l2) if f.name == name else f for f in FINISHES]


def test_figures_that_bear_out_every_claim_do():
    assert all(claim.holds for claim in claims(FINISHES, EXACT))


@pytest.mark.parametrize(
    ("finishes", "found", "word"),
    [
        (with_error(UNET, 0.5), EXACT, "none diverges"),
        (with_error(FNO, float("nan")), EXACT, "none diverges"),
        (with_error(GROUPS, 0.01), EXACT, "each sample"),
        (with_error(FNO, 0.015), EXACT, "FNO's"),
        (with_error(UNET, 0.015), EXACT, "U-Net's"),
        (FINISHES, {**EXACT, LOCALITY: 0.01}, "no other"),
        (FINISHES, {**EXACT, CROSSING: 0.9}, "no other"),
        (FINISHES, {**EXACT, RECTANGLE: 0.0}, "221"),
        (FINISHES, {**EXACT, RELOADED: 1e-9}, "loading"),
    ],
)
def test_a_claim_fails_with_its_own_figure(finishes, found, word):
    failed = [claim.statement for claim in claims(finishes, found) if not claim.holds]
    assert [statement for statement in failed if word in statement]


def test_the_properties_hold_on_random_operators():
    assert exact_properties() == EXACT


def test_every_model_has_a_row_and_a_mark():
    table = race_table(FINISHES, FULL)
    assert [row["model"] for row in table.rows] == list(ALL_HOLD) == [entrant.name for entrant in entrants(FULL)]
    axes = draw(FINISHES).axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2] * len(ALL_HOLD)
    assert len(property_table(EXACT).rows) == len(EXACT)


def test_a_quick_reproduction_gives_a_whole_page():
    page = markdown(dataclasses.replace(reproduce_latent_spectral_model(True, SILENT), quick=True, name="x"))
    assert "its figures mean nothing" in page
    assert all(name in page for name in ALL_HOLD)
    assert QUICK.seconds < 1
