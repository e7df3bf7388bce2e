"""Distances from the start: laws that are recovered exactly, and weights that walk as told."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import tiny_data, tiny_operator
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training import Phase, train
from fieldwright.training.callback import Step
from fieldwright.training.diffusion import DistanceMeter, logarithmic_fit, power_fit, saturated

STEPS = [5, 8, 13, 21, 34, 55, 89, 144, 233, 377]


@given(start=st.floats(-5, 5), slope=st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_a_logarithm_is_found_again_and_fits_better_than_a_power(start: float, slope: float) -> None:
    distances = [start + slope * math.log(t) for t in STEPS]
    fit = logarithmic_fit(STEPS, distances)
    assert fit.constants == pytest.approx((start, slope), abs=1e-9)
    assert fit.r2 == pytest.approx(1)
    assert power_fit(STEPS, distances).r2 < 1
    assert not saturated(STEPS, distances)


@given(factor=st.floats(0.1, 10), exponent=st.floats(0.2, 1.5))
@settings(max_examples=20, deadline=None)
def test_a_power_is_found_again_and_fits_better_than_a_logarithm(factor: float, exponent: float) -> None:
    distances = [factor * t**exponent for t in STEPS]
    fit = power_fit(STEPS, distances)
    assert fit.constants == pytest.approx((factor, exponent), rel=1e-3)
    assert fit.r2 > max(0.9999, logarithmic_fit(STEPS, distances).r2)


def test_weights_that_stop_are_saturated() -> None:
    assert saturated(STEPS, [min(math.log(t), math.log(40)) for t in STEPS])


def walk(meter: DistanceMeter, steps: range, weight: nn.Parameter, operator: nn.Module, rates=lambda t: 1.0) -> None:
    """Move one weight so that its distance from 2 after t steps is log t."""
    for index in steps:
        weight.data[:] = 2 + math.log(index + 1) / math.sqrt(len(weight))
        meter.after_update(Step(operator, torch.optim.SGD([weight]), index, 0.0, rates(index), 4))


def begun() -> tuple[DistanceMeter, nn.Module, nn.Parameter]:
    operator = nn.Module()
    operator.weight = nn.Parameter(torch.full((9,), 2.0, dtype=torch.float64))
    operator.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    meter = DistanceMeter()
    meter.begin(Step(operator, torch.optim.SGD([operator.weight]), 0, 0.0, 1.0, 4))
    return meter, operator, operator.weight


def test_distances_are_taken_at_evenly_spaced_logarithms_of_the_step() -> None:
    meter, operator, weight = begun()
    walk(meter, range(1000), weight, operator)
    operator.frozen.data += 5  # what is frozen does not count
    assert meter.steps[:8] == list(range(1, 9))
    late = [b / a for a, b in zip(meter.steps, meter.steps[1:], strict=False) if a > 100]
    assert late == pytest.approx([10 ** (1 / 20)] * len(late), rel=0.02)
    assert meter.distances == pytest.approx([math.log(t) for t in meter.steps])
    assert meter.figures() == {"distance": pytest.approx(math.log(1000))}


def test_the_end_tells_diffusion_from_saturation_and_leaves_low_rates_out() -> None:
    meter, operator, weight = begun()
    walk(meter, range(400), weight, operator, rates=lambda t: 1.0 if t < 300 else 0.01)
    assert max(meter.diffusing()[0]) <= 300
    said = meter.end(Step(operator, torch.optim.SGD([weight]), 400, 1.0, 1.0, 4))
    assert said is not None
    assert "1 log t (R² 1.00" in said
    assert "still diffusing" in said
    meter.distances = [min(d, math.log(30)) for d in meter.distances]
    assert "saturated" in str(meter.end(Step(operator, torch.optim.SGD([weight]), 400, 1.0, 1.0, 4)))


def test_its_state_goes_on_where_it_was() -> None:
    whole, operator, weight = begun()
    walk(whole, range(50), weight, operator)
    state = whole.state_dict()
    resumed = DistanceMeter()
    resumed.begin(Step(operator, torch.optim.SGD([weight]), 50, 0.0, 1.0, 4))  # the weights have moved already
    resumed.load_state_dict(json.loads(json.dumps({**state, "start": None})) | {"start": state["start"]})
    for meter in (whole, resumed):
        walk(meter, range(50, 200), weight, operator)
    assert (resumed.steps, resumed.distances) == (whole.steps, whole.distances)


def test_a_training_writes_the_distance_of_its_weights(tmp_path: Path) -> None:
    operator = tiny_operator()
    start = nn.utils.parameters_to_vector(operator.parameters()).clone()
    train(operator, [Phase(steps=20, callbacks=["distance"])], tiny_data(), directory=tmp_path, seed=0)
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    moved = (nn.utils.parameters_to_vector(operator.parameters()) - start).norm().item()
    assert float(rows[-1]["distance"]) == pytest.approx(moved, rel=1e-5)


def test_too_few_points_are_refused() -> None:
    with pytest.raises(InputError, match="three of each"):
        logarithmic_fit([1, 2], [0.0, 1.0])
