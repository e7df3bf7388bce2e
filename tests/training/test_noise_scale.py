"""The noise scale against exact averages over all splits, known covariances, and gradients sample by sample."""

import csv
import itertools
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import GRID, tiny_data, tiny_operator

from fieldwright.errors import InputError
from fieldwright.training import Batch, Phase, PhysicalPrediction, train
from fieldwright.training.callback import Step
from fieldwright.training.noise_scale import (
    BatchAdvice,
    NoiseAverage,
    NoiseScale,
    NoiseScaleMeter,
    two_batch_estimate,
)
from fieldwright.training.objectives import build_objective


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (1, 2, 3)])
def test_the_mean_over_all_splits_is_the_covariance_of_the_samples(sizes: tuple[int, ...]) -> None:
    gradients = np.random.default_rng(0).normal(1.0, 2.0, (6, 5))
    whole = float(gradients.mean(0) @ gradients.mean(0))
    ends = np.cumsum(sizes)[:-1]
    noise, signal = [], []
    for order in itertools.permutations(range(6)):
        means = [part.mean(0) for part in np.split(gradients[list(order)], ends)]
        inverse = float(np.mean([1 / size for size in sizes]))
        estimate = two_batch_estimate(float(np.mean([m @ m for m in means])), inverse, whole, 6)
        noise.append(estimate[0])
        signal.append(estimate[1])
    trace = gradients.var(0, ddof=1).sum()
    assert np.mean(noise) == pytest.approx(trace, rel=1e-12)
    assert np.mean(signal) == pytest.approx(whole - trace / 6, rel=1e-12)


def test_the_band_holds_the_true_ratio_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        average = NoiseAverage(memory=10**9)
        for noise, signal in random.multivariate_normal([6.0, 2.0], [[9.0, -2.0], [-2.0, 4.0]], 30):
            average.add(noise, signal)
        found = average.estimate()
        inside += found.low <= 3.0 <= found.high
    assert 0.9 - 4 * math.sqrt(0.09 / 500) < inside / 500 < 0.9 + 4 * math.sqrt(0.09 / 500)


def test_the_ends_of_the_band_are_where_the_difference_is_just_significant() -> None:
    random = np.random.default_rng(2)
    pairs = random.normal((6.0, 2.0), 1.0, (12, 2))
    average = NoiseAverage(memory=10**9)
    for pair in pairs:
        average.add(*pair)
    found = average.estimate()
    for end in (found.low, found.high):
        difference = pairs[:, 0] - end * pairs[:, 1]
        t = difference.mean() / (difference.std(ddof=1) / math.sqrt(12))
        assert abs(t) == pytest.approx(1.7958848, rel=1e-4)  # Student, 11 degrees of freedom, 95 %


def test_old_measurements_are_forgotten_and_numerator_and_denominator_averaged_apart() -> None:
    average = NoiseAverage(memory=5)
    for pair in [(1000.0, 1.0)] * 50 + [(4.0, 2.0), (8.0, 2.0)] * 100:
        average.add(*pair)
    assert average.estimate().value == pytest.approx(3.0, rel=0.1)  # and not the mean of 1000s, nor of ratios at start
    lone = NoiseAverage()
    for pair in [(1.0, 1.0), (10.0, 0.1)]:
        lone.add(*pair)
    assert lone.estimate().value == pytest.approx((0.98 + 10) / (0.98 + 0.1))


def test_a_gradient_that_cannot_be_told_from_zero_gives_a_bound_from_below() -> None:
    average = NoiseAverage()
    for number in range(40):
        average.add(5.0 + 0.1 * (-1) ** number, 0.5 * (-1) ** number - 0.01)
    found = average.estimate()
    assert found.value == found.high == math.inf
    assert 5 < found.low < math.inf
    assert "noise dominates" in str(found)
    assert "at least" in str(BatchAdvice(8, found, 100))


def test_one_measurement_has_no_band_and_none_no_estimate() -> None:
    average = NoiseAverage()
    with pytest.raises(InputError, match="nothing was measured"):
        average.estimate()
    average.add(3.0, 1.0)
    assert (average.estimate().low, average.estimate().high) == (0.0, math.inf)


def test_predictions_follow_the_law_of_steps_and_examples() -> None:
    noise = NoiseScale(50.0, 1.0, 40.0, 60.0, 10)
    advice = BatchAdvice(25, noise, 300, seconds=600.0)
    least = 300 / (1 + 50 / 25)
    rows = advice.rows()
    assert [row["batch"] for row in rows] == [12.5, 25, 50, 100]
    for row in rows:
        samples = row["batch"] * row["steps"]
        assert (row["steps"] / least - 1) * (samples / (50 * least) - 1) == pytest.approx(1)  # McCandlish, 2.11
        assert row["least steps"] <= row["steps"] <= row["most steps"]
        assert row["seconds, as many devices"] == pytest.approx(2 * row["steps"])
        assert row["seconds, same device"] == pytest.approx(2 * samples / 25)
    assert (rows[1]["rate, SGD"], rows[1]["rate, Adam or Lion"]) == (1, 1)
    assert rows[3]["rate, Adam or Lion"] == pytest.approx(rows[1]["rate, Adam or Lion"])  # symmetric about 50
    edge = advice.paying[0]
    assert 1 - advice.steps_at(2 * edge, 50) / advice.steps_at(edge, 50) == pytest.approx(0.1)


def exact(samples: int) -> tuple[float, float]:
    """Unbiased tr Σ of the tiny operator's gradients sample by sample, and |G|² of their mean."""
    data, operator, objective = tiny_data(), tiny_operator(dropout=0.0), build_objective("l2")
    predict = PhysicalPrediction(operator, data.inputs, data.outputs)
    inputs, outputs = data.train_samples.batch(range(samples))
    rows = []
    for sample in range(samples):
        chosen = slice(sample, sample + 1)
        batch = Batch(inputs[chosen], outputs[chosen], GRID, data.output_scale())
        loss = objective(predict, batch)["l2"]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(operator.parameters()))]))
    gradients = torch.stack(rows).double()
    mean = gradients.mean(0)
    return float(gradients.var(0, correction=1).sum()), float(mean @ mean)


def standing_still(directory: Path, **settings: object) -> list[dict[str, str]]:
    """A training whose weights do not move, on batches of all samples: its only randomness is how they are split."""
    phase = {"steps": 80, "batch_size": 32, "learning_rate": 1e-30, "weight_decay": 0.0, "schedule": "constant"}
    noise = {"kind": "noise-scale", "every": 1, "memory": 10**6}
    train(
        tiny_operator(dropout=0.0),
        [Phase(**{**phase, "callbacks": [noise], **settings})],
        tiny_data(),
        directory=directory,
        seed=5,
    )
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_a_training_finds_the_noise_scale_of_its_samples(tmp_path: Path, accumulate: int) -> None:
    row = standing_still(tmp_path, accumulate=accumulate)[-1]
    trace, squared = exact(32)
    truth = trace / (squared - trace / 32)
    # The band is of 90 %; twice its half-width is above three deviations.
    low, value, high = (float(row[name]) for name in ("noise_scale_low", "noise_scale", "noise_scale_high"))
    assert value - 2 * (value - low) < truth < value + 2 * (high - value)
    assert high - low < truth


def test_two_processes_find_it_too(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port),
        __file__, str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "last.json").read_text())
    trace, squared = exact(32)
    truth = trace / (squared - trace / 32)
    low, value, high = (float(row[name]) for name in ("noise_scale_low", "noise_scale", "noise_scale_high"))
    assert value - 2 * (value - low) < truth < value + 2 * (high - value)
    assert high - low < 2 * truth


def test_measuring_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    trained = []
    for name, callbacks in (("with", [{"kind": "noise-scale", "every": 3}]), ("without", [])):
        phase = Phase(steps=12, batch_size=6, callbacks=callbacks)
        trained.append(train(tiny_operator(dropout=0.0), [phase], tiny_data(), directory=tmp_path / name, seed=0))
    for a, b in zip(trained[0].operator.parameters(), trained[1].operator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_resumed_training_measures_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(meter: NoiseScaleMeter, step: Step) -> None:
        if step.index == 7:
            raise KeyboardInterrupt

    def run(name: str) -> list[dict[str, str]]:
        phase = Phase(steps=12, batch_size=6, callbacks=[{"kind": "noise-scale", "every": 2}])
        train(tiny_operator(), [phase], tiny_data(), directory=tmp_path / name, seed=0, checkpoint_seconds=0)
        with open(tmp_path / name / "metrics.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    with monkeypatch.context() as interrupted:
        interrupted.setattr(NoiseScaleMeter, "after_update", cut)
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    for whole, resumed in zip(run("whole"), run("cut"), strict=True):
        assert all(whole[name] == resumed[name] for name in (*NoiseScaleMeter.columns, "loss"))


def test_its_state_goes_through_its_dictionary() -> None:
    one, two = NoiseScaleMeter(), NoiseScaleMeter()
    for pair in [(1.0, 0.3), (2.0, 0.4), (1.5, 0.2)]:
        one.average.add(*pair)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    one.average.add(3.0, 0.5)
    two.average.add(3.0, 0.5)
    assert one.average.estimate() == two.average.estimate()


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    for wrong in ({"every": 0}, {"memory": 0}):
        with pytest.raises(InputError, match="noise"):
            NoiseScaleMeter(**wrong)
    with pytest.raises(InputError, match="one sample"):
        train(
            tiny_operator(),
            [Phase(steps=2, batch_size=1, callbacks=["noise-scale"])],
            tiny_data(),
            directory=tmp_path,
            seed=0,
        )


if __name__ == "__main__":
    last = standing_still(Path(sys.argv[1]), accumulate=2)[-1]
    Path(sys.argv[1], "last.json").write_text(json.dumps(last))
