"""The page of the operator transformer: every claim is decided by its own figures, every table and mark is there."""

import dataclasses

import pytest
import torch

from fieldwright.gallery import reproduce
from fieldwright.gallery.operator_transformer.effort import FULL, QUICK
from fieldwright.gallery.operator_transformer.fidelity import PUBLISHED, Agreement, agreements, counted, fidelity_table
from fieldwright.gallery.operator_transformer.measure import claims, draw
from fieldwright.gallery.operator_transformer.pairs_race import (
    ALL,
    BEYOND,
    FNO,
    VANILLA,
    Finish,
    error,
    median,
    race_table,
)

FOUND = [Agreement("small", 64, 74_084, 2e-10, 0.98), Agreement("T", 128, 20_774_444, 3e-10, 0.97)]
FINISHES = [
    Finish(name, count, seed, 190_000, direct, rolled)
    for name, direct, rolled in ((VANILLA, 0.22, 0.30), (ALL, 0.24, 0.20), (BEYOND, 0.21, 0.12), (FNO, None, 0.1))
    for count in FULL.trajectories
    for seed in FULL.seeds
]


def spoiled(name: str, **changes: float) -> list[Finish]:
    return [dataclasses.replace(f, **changes) if f.name == name else f for f in FINISHES]


def test_sound_figures_bear_out_every_claim():
    assert [claim.statement for claim in claims(FOUND, PUBLISHED, FINISHES, 0.57, FULL) if not claim.holds] == []


@pytest.mark.parametrize(
    ("found", "sizes", "finishes", "word"),
    [
        ([dataclasses.replace(FOUND[0], difference=1e-6)], PUBLISHED, FINISHES, "published code"),
        (FOUND, {**PUBLISHED, "B": (1580, 1)}, FINISHES, "tensors and weights"),
        (FOUND, PUBLISHED, spoiled(ALL, rolled=0.31), "4 trajectories"),
        (FOUND, PUBLISHED, spoiled(ALL, rolled=0.31), "16 trajectories"),
        (FOUND, PUBLISHED, spoiled(FNO, rolled=0.6), "nothing changes"),
        (FOUND, PUBLISHED, spoiled(FNO, rolled=float("nan")), "nothing changes"),
        (FOUND, PUBLISHED, spoiled(ALL, direct=0.2), "In one step"),
        (FOUND, PUBLISHED, spoiled(BEYOND, rolled=0.19), "periodic box"),
        (FOUND, PUBLISHED, spoiled(FNO, rolled=0.15), "plain alternative"),
    ],
)
def test_each_claim_fails_by_its_own_figures(found, sizes, finishes, word):
    failed = [claim.statement for claim in claims(found, sizes, finishes, 0.57, FULL) if not claim.holds]
    assert any(word in statement for statement in failed)


def test_the_small_network_is_the_published_one_and_sizes_are_counted():
    (small,) = agreements(["small"])
    assert small.difference < 1e-8
    assert small.parameters == 74_084
    assert counted() == PUBLISHED
    assert fidelity_table([small]).rows[0]["loss"] == fidelity_table([small]).rows[0]["published loss"]


def test_the_error_is_the_median_of_relative_sums():
    truth = torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert error(truth * 1.5, truth) == pytest.approx(0.5)
    assert error(truth + 1, truth) == pytest.approx(0.5)


def test_tables_and_picture_show_every_model():
    table = race_table(FINISHES, 0.57, FULL)
    assert [row["model"] for row in table.rows][:4] == [VANILLA, ALL, BEYOND, FNO]
    assert table.rows[1]["16: rolled out"] == "20 % (20 to 20)"
    assert table.rows[3]["4 trajectories: one step"] is None
    assert median(FINISHES, ALL, 4, "direct") == 0.24
    marks = [line for axes in draw(FINISHES, 0.57, FULL).axes for line in axes.lines]
    assert sum(len(line.get_xdata()) for line in marks if line.get_linestyle() != ":") == 2 * (3 * 2 + 4 * 2)


def test_a_quick_run_makes_the_page(tmp_path):
    measured = reproduce("poseidon-operator-transformer", tmp_path, quick=True)
    text = (tmp_path / "poseidon-operator-transformer.md").read_text()
    assert all(table.heading in text for table in measured.tables)
    assert len(measured.tables[1].rows) == 5
    assert measured.claims[0].holds
    assert measured.claims[1].holds
    assert QUICK.steps < 10
