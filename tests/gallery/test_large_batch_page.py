"""The page on large batches: its law, its digits, and claims that their own figures decide."""

import dataclasses

import pytest
import torch

from fieldwright.gallery.large_batch import burgers_map, glyphs
from fieldwright.gallery.large_batch.burgers_map import Knee, fit_law
from fieldwright.gallery.large_batch.effort import FULL, QUICK
from fieldwright.gallery.large_batch.glyphs import Walk, draw_glyphs
from fieldwright.gallery.large_batch.measure import claims, draw, page, reproduce_large_batch
from fieldwright.gallery.page import markdown
from fieldwright.progress import SILENT
from fieldwright.training.noise_scale import NoiseScale

RIGHT = (0.96, 0.70, 0.82, 0.15, 0.83, 0.82, 0.95, 0.965, 0.96)
ERROR = (0.04, 0.20, 0.10, 0.50, 0.06, 0.03, 0.025)
PLANS = [
    glyphs.Finish(plan.name, seed, 16, right, 1.0)
    for plan, right in zip(glyphs.plans(256), RIGHT, strict=True)
    for seed in (0, 1)
]
PHASES = [
    burgers_map.Finish(name, 0, 60, error, 1.0) for name, error in zip(burgers_map.phases(FULL), ERROR, strict=True)
]
KNEES = [Knee(0, {4: 270, 16: 80, 64: 36}, 20.0, 50.0, NoiseScale(40.0, 1.0, 30.0, 60.0, 10))]
WALKS = [
    Walk(name, 0, [5, 10, 20], [1.0, 2.0, 3.0], slope, 0.98, 0.7)
    for name, slope in (("small", 1.0), ("large", 0.4), ("scaled", 0.9))
]


def failed(plans=PLANS, phases=PHASES, knees=KNEES, walked=WALKS) -> list[str]:
    return [c.statement for c in claims(FULL, plans, phases, knees, walked) if not c.holds]


def right(place: int, value: float) -> list[glyphs.Finish]:
    name = glyphs.plans(256)[place].name
    return [dataclasses.replace(f, accuracy=value) if f.name == name else f for f in PLANS]


def error(place: int, value: float) -> list[burgers_map.Finish]:
    name = list(burgers_map.phases(FULL))[place]
    return [dataclasses.replace(f, error=value) if f.name == name else f for f in PHASES]


def test_figures_that_bear_out_every_claim_do() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"plans": right(2, 0.69)}, "same epochs a large batch"),
        ({"plans": right(7, 0.95)}, "As many updates"),
        ({"plans": right(3, 0.9)}, "The linear rule"),
        ({"plans": right(4, 0.81)}, "Ghosts"),
        ({"phases": error(2, 0.21)}, "beats the same rate"),
        ({"phases": error(5, 0.041)}, "a quarter of the updates"),
        ({"phases": error(3, 0.05)}, "Burgers: the linear"),
        ({"knees": [dataclasses.replace(KNEES[0], critical=130.0)]}, "noise scale"),
        ({"knees": [dataclasses.replace(KNEES[0], critical=13.0)]}, "noise scale"),
        ({"walked": [dataclasses.replace(WALKS[0], power=0.99), *WALKS[1:]]}, "logarithm"),
        ({"walked": [*WALKS[:2], dataclasses.replace(WALKS[2], slope=0.6)]}, "diffuses"),
    ],
)
def test_a_claim_fails_with_its_own_figure(changed: dict, word: str) -> None:
    assert [statement for statement in failed(**changed) if word in statement]


def test_the_law_of_steps_is_found_again() -> None:
    batches = [4, 16, 64, 256]
    found = fit_law(batches, [round(1000 * 55 * (1 + 65 / batch)) for batch in batches])
    assert found == pytest.approx((55000, 65), rel=1e-3)


def test_the_plans_have_the_updates_that_their_names_say() -> None:
    small = glyphs.small_regime(512, 8)
    updates = [plan.regime(small, 256, 512).updates for plan in glyphs.plans(256)]
    assert updates == [256, 16, 16, 16, 16, 16, 64, 256, 256]
    samples = [phase.expected_steps(1024) for phase in burgers_map.phases(FULL).values()]
    assert samples == [1920, 60, 60, 60, 480, 480, 1920]


def test_digits_follow_their_seed_and_show_ink() -> None:
    one, two = draw_glyphs(200, noise=0.0, seed=3), draw_glyphs(200, noise=0.0, seed=3)
    assert torch.equal(one.images, two.images)
    assert set(one.digits.tolist()) == set(range(10))
    ink = (one.images * 0.3 + 0.2).flatten(1)
    assert 0 <= float(ink.min()) <= float(ink.max()) <= 1 + 1e-6
    assert float(ink.mean(1).min()) > 0.05
    assert not torch.equal(one.digits, draw_glyphs(200, noise=0.0, seed=4).digits)


def test_every_row_and_mark_is_on_the_page() -> None:
    text = markdown(dataclasses.replace(page(FULL, PLANS, PHASES, KNEES, WALKS), name="x"))
    for finish in (*PLANS, *PHASES):
        assert f"| {finish.name} |" in text
    left, right_axes = draw(KNEES, WALKS).axes
    assert len(left.lines) == 3
    assert len(right_axes.lines) == 3


def test_a_quick_reproduction_gives_a_whole_page() -> None:
    text = markdown(dataclasses.replace(reproduce_large_batch(True, SILENT), quick=True, name="x"))
    assert "its figures mean nothing" in text
    assert QUICK.knee_most_steps < 100
