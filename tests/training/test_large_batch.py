"""Regimes for other batch sizes: what each rule keeps, exact inverses, and phases that mean the same."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError, RecipeError
from fieldwright.recipe import load_recipe
from fieldwright.training import Phase
from fieldwright.training.large_batch import LONGEST_WARMUP, Regime, Transfer, adam_betas, transferred

REGIME = Regime(
    batch_size=16,
    learning_rate=1e-3,
    updates=2000,
    warmup=100,
    drops=(1000, 1600),
    weight_decay=1e-2,
    betas=(0.9, 0.999),
    eps=1e-8,
    ema=0.999,
)


@given(k=st.sampled_from([1, 2, 4, 8]), rule=st.sampled_from(["sqrt", "linear"]), updates=st.sampled_from([0, 0.5, 1]))
@settings(max_examples=30, deadline=None)
def test_there_and_back_is_the_same_regime(k: int, rule: str, updates: float) -> None:
    there = transferred(REGIME, 16 * k * k, samples=4096, rule=rule, updates=updates)  # a square: round updates
    back = transferred(there, 16, samples=4096, rule=rule, updates=updates)
    assert back.learning_rate == pytest.approx(REGIME.learning_rate)
    assert back.weight_decay == pytest.approx(REGIME.weight_decay, rel=0.02)
    assert back.updates == pytest.approx(REGIME.updates, rel=0.02)
    assert back.ema == pytest.approx(REGIME.ema)
    assert back.eps == pytest.approx(REGIME.eps)
    if k * k * 0.1 < 1:  # β₁ has not reached zero
        assert back.betas == pytest.approx(REGIME.betas)


def test_the_square_root_keeps_the_covariance_of_a_step_and_the_linear_rule_the_mean_over_samples() -> None:
    for k in (4, 16):
        by_root, by_line = (transferred(REGIME, 16 * k, samples=4096, rule=rule) for rule in ("sqrt", "linear"))
        assert by_root.learning_rate**2 / by_root.batch_size == pytest.approx(1e-6 / 16)
        assert by_line.learning_rate / by_line.batch_size == pytest.approx(1e-3 / 16)


def test_adaptation_keeps_updates_and_drops_and_the_other_end_keeps_samples() -> None:
    adapted = transferred(REGIME, 64, samples=4096, updates=1)
    assert (adapted.updates, adapted.drops) == (2000, (1000, 1600))
    cheap = transferred(REGIME, 64, samples=4096, updates=0)
    assert cheap.updates * 64 == 2000 * 16
    assert cheap.drops == (250, 400)
    between = transferred(REGIME, 64, samples=4096, updates=0.5)
    assert between.updates == pytest.approx(math.sqrt(adapted.updates * cheap.updates), rel=1e-3)


def test_decay_over_the_whole_training_stays() -> None:
    for updates in (0, 1):
        other = transferred(REGIME, 256, samples=4096, updates=updates)
        assert other.learning_rate * other.weight_decay * other.updates == pytest.approx(1e-3 * 1e-2 * 2000)


def test_warm_up_is_five_epochs_a_twentieth_or_a_quarter() -> None:
    assert transferred(REGIME, 64, samples=640).warmup == 100  # 50 updates are five epochs; a twentieth is more
    assert transferred(REGIME, 64, samples=64 * 60).warmup == 300  # five epochs
    assert transferred(REGIME, 64, samples=64 * 1000).warmup == LONGEST_WARMUP * 2000
    assert transferred(REGIME, 8, samples=64 * 1000).warmup == 100  # a lower rate needs none


def test_moments_average_over_as_many_samples_within_their_bounds() -> None:
    assert adam_betas((0.9, 0.999), 4) == pytest.approx((0.6, 0.996))
    assert adam_betas((0.9, 0.999), 0.25) == pytest.approx((0.975, 0.99975))
    assert adam_betas((0.9, 0.999), 1000) == pytest.approx((0.0, 0.9))
    assert transferred(REGIME, 64, samples=640, rule="linear").betas == REGIME.betas


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"samples": 0}, {"rule": "cubic"}, {"updates": 1.5}, {"updates": -0.1}],
)
def test_numbers_out_of_range_are_refused(wrong: dict) -> None:
    settings = {"batch_size": 64, "samples": 10, **wrong}
    with pytest.raises(InputError, match="large batch"):
        transferred(REGIME, settings.pop("batch_size"), **settings)


PHASE = {"learning_rate": 1e-3, "weight_decay": 1e-2, "warmup": 0.05, "ema": 0.999}


@pytest.mark.parametrize("updates", [0.0, 0.5, 1.0])
def test_a_phase_is_the_regime_that_it_describes(updates: float) -> None:
    phase = Transfer(from_batch=16, updates=updates)(Phase(batch_size=256, steps=2000, **PHASE), samples=4096)
    regime = transferred(REGIME, 256, samples=4096, updates=updates)
    assert (phase.steps, phase.batch_size) == (regime.updates, 256)
    assert phase.learning_rate == pytest.approx(regime.learning_rate)
    assert phase.weight_decay == pytest.approx(regime.weight_decay)
    assert phase.ema == pytest.approx(regime.ema)
    assert round(phase.warmup * phase.steps) == regime.warmup


@pytest.mark.parametrize("updates", [0.0, 0.5, 1.0])
def test_budgets_in_epochs_and_steps_and_operations_end_together(updates: float) -> None:
    transfer = Transfer(from_batch=16, updates=updates)
    phase = transfer(Phase(batch_size=256, steps=1024, epochs=16, flops=1024 * 16e6, **PHASE))
    assert phase.model_copy(update={"flops": None, "steps": None}).expected_steps(1024) == phase.steps
    assert phase.epochs * 1024 == pytest.approx(phase.steps * 256)
    assert phase.flops == pytest.approx(phase.steps * 256e6)
    assert phase.warmup == pytest.approx(min(max(5 / phase.epochs, 0.05), LONGEST_WARMUP))


def test_the_same_batch_changes_nothing_and_adam_keeps_the_decay_in_its_gradient() -> None:
    phase = Phase(batch_size=16, steps=100, **PHASE)
    assert Transfer(from_batch=16)(phase) == phase
    for optimizer in ("adam", {"kind": "adam"}):
        adam = Phase(batch_size=64, steps=100, optimizer=optimizer, **PHASE)
        assert Transfer(from_batch=16)(adam).weight_decay == adam.weight_decay


def test_a_recipe_says_for_which_batch_its_settings_are() -> None:
    recipe = load_recipe("darcy", ["training.batch_size=128", "training.transfer.from_batch=8"])
    plain = load_recipe("darcy").training.to_phases()[0]
    phase = recipe.training.to_phases()[0]
    assert phase.learning_rate == pytest.approx(4 * plain.learning_rate)
    assert (phase.steps, phase.seconds) == (plain.steps, plain.seconds)
    assert load_recipe("darcy").training.transfer is None
    with pytest.raises(RecipeError, match=r"transfer\.rule"):
        load_recipe("darcy", ["training.transfer={from_batch: 8, rule: cubic}"])
