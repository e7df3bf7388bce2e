"""The page of depth stacking: claims are decided by their own figures, operations are counted as they say."""

import dataclasses

import pytest
import torch

from fieldwright.gallery.depth_stacking.effort import QUICK
from fieldwright.gallery.depth_stacking.language_model import (
    SYMBOLS,
    Curve,
    LanguageModel,
    Shape,
    Text,
    standard_library,
    train_language_model,
)
from fieldwright.gallery.depth_stacking.language_race import Run, loss_at_equal_flops, speed_ups, text_rows
from fieldwright.gallery.depth_stacking.measure import claims, draw
from fieldwright.gallery.depth_stacking.operator_race import OperatorRun, operator_rows, operator_speed_ups, phases
from fieldwright.growth import Stack, Zero, grow
from fieldwright.operators import forward_flops

FLOPS = tuple(float(i) for i in range(1, 11))


def run(way, seed=0, factor=1.0, offset=0.0, rate=2e-3):
    losses = tuple(3 * f**-0.5 + offset for f in FLOPS)
    return Run(way, seed, rate, Curve(tuple(f / factor for f in FLOPS), losses), 2.0, 2.0)


RUNS = [
    run("scratch", rate=1e-3, offset=1.0), run("scratch"), run("scratch", 1),
    run("stack", 0, 1.9), run("stack", 1, 1.6), run("zero", 0, 1.3), run("random", 0, 1.2), run("interpolate", 0, 1.1),
]  # fmt: skip
OPERATORS = [
    OperatorRun("scratch", 0, ((1.0, 0.5), (2.0, 0.3)), 1.0),
    OperatorRun("stack", 0, ((0.5, 0.5), (1.0, 0.2)), 1.0),
]


def test_figures_that_bear_out_every_claim_do():
    assert speed_ups(RUNS, "stack") == pytest.approx([0.9, 0.6])
    assert operator_speed_ups(OPERATORS, "stack")[0] == pytest.approx(2 / (0.5 + 0.5 * 2 / 3) - 1)
    assert all(claim.holds for claim in claims(RUNS, OPERATORS))


@pytest.mark.parametrize(
    ("place", "worse", "words"),
    [
        (4, run("stack", 1, 1.3), ("34 %",)),
        (4, run("stack", 1, 1.2, 5.0), ("34 %", "54.6")),
        (5, dataclasses.replace(run("zero", 0, 1.3), grown_loss=2.1), ("keeps the function",)),
        (7, run("interpolate", 0, 2.5), ("interpolation", "Interpolation")),
    ],
)
def test_a_claim_fails_with_its_own_figure(place, worse, words):
    failed = [c.statement for c in claims([*RUNS[:place], worse, *RUNS[place + 1 :]], OPERATORS) if not c.holds]
    assert len(failed) == len(words)
    assert all(any(word in statement for statement in failed) for word in words)


def test_an_operator_that_never_gets_there_is_printed_and_fails():
    never = [OPERATORS[0], OperatorRun("stack", 0, ((0.5, 0.5), (1.0, 0.4)), 1.0)]
    failed = [claim for claim in claims(RUNS, never) if not claim.holds]
    assert [claim.measured for claim in failed] == ["never"]
    assert operator_rows(never)[1]["speed-up at scratch's final error"] == "never"


def test_every_way_has_a_row_and_a_line_and_losses_are_compared_at_equal_operations():
    assert [row["model"].partition(",")[0] for row in text_rows(RUNS)] == [
        "scratch", "stack", "zero", "random", "interpolate", "scratch",
    ]  # fmt: skip
    assert loss_at_equal_flops(RUNS, "stack", 0) == pytest.approx(RUNS[3].final)
    assert loss_at_equal_flops(RUNS, "zero", 0) > loss_at_equal_flops(RUNS, "stack", 0)
    assert len(draw(RUNS, OPERATORS).axes[0].lines) == 7


def test_operations_are_those_that_are_counted_but_for_the_masked_half_of_the_attention():
    shape = Shape(layers=2, width=16, heads=2, hidden=32, context=8)
    tokens = torch.randint(len(SYMBOLS), (3, 8))
    counted = forward_flops(LanguageModel(shape), tokens)
    assert counted == tokens.numel() * (shape.flops_per_token / 3 + 2 * shape.layers * shape.context * shape.width)


def test_the_language_model_sees_no_later_character_and_grows():
    model = LanguageModel(QUICK.shape).eval()
    tokens = torch.randint(len(SYMBOLS), (1, 12))
    changed = tokens.clone()
    changed[0, 8:] = 0
    torch.testing.assert_close(model(tokens)[0, :8], model(changed)[0, :8])
    found = grow(model, Zero(2), probe=(tokens,))
    assert found.report["output change"] < 1e-12
    assert len(grow(model, Stack(2)).model.layers) == 2 * QUICK.shape.layers


def test_training_on_the_text_is_repeatable_and_lowers_the_loss():
    numbers = standard_library(40_000)
    text = Text.of(numbers, context=16, windows=4)
    assert len(numbers) == 40_000
    assert text.held_out.shape == (4, 17)
    curves = []
    for _ in range(2):
        torch.manual_seed(0)
        model = LanguageModel(QUICK.shape)
        curves.append(train_language_model(model, text, steps=30, learning_rate=1e-2, seed=0, every=15))
    assert curves[0].losses == curves[1].losses
    assert curves[0].losses[-1] < curves[0].losses[0] - 0.5
    assert curves[0].flops == (0.0, *(n * QUICK.shape.flops_per_token * 12 * 16 for n in (15, 30)))
    joined = curves[0] + curves[1]
    assert joined.flops[3] == curves[0].flops[-1]


def test_phases_of_the_operator_cost_the_same_and_the_growth_is_one_of_them():
    plain, grown = phases("scratch", QUICK), phases("stack", QUICK)
    assert [phase.steps for phase in plain] == [QUICK.operator_steps]
    assert grown[1].prepare.factor == 4
    assert QUICK.operator_steps - grown[1].steps <= grown[0].steps
