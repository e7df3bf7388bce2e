"""What other batch sizes would do, read from the metrics of a run."""

import math
from pathlib import Path

import pytest

from fieldwright.pipeline.facts import batch_advice

HEADER = "step,phase,phase_step,seconds,noise_scale,noise_scale_low,noise_scale_high\n"


def test_the_last_measurement_counts_with_the_steps_and_seconds_of_its_phase(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(HEADER + "10,a,10,3.0,5,4,6\n20,b,10,7.0,50,40,60\n30,b,20,11.0,70,55,90\n40,c,10,12.0,,,\n")
    advice = batch_advice(file, {"a": 2, "b": 16, "c": 4})
    assert advice is not None
    assert (advice.batch_size, advice.steps, advice.seconds) == (16, 20, pytest.approx(8.0))
    assert (advice.noise.value, advice.noise.low, advice.noise.high) == (70, 55, 90)


def test_where_noise_dominates_more_samples_save_as_many_steps(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(HEADER + "10,a,10,3.0,inf,40,inf\n")
    advice = batch_advice(file, {"a": 8})
    assert advice is not None
    assert math.isinf(advice.noise.value)
    assert [row["steps"] for row in advice.rows()] == [20, 10, 5, 2.5]


def test_without_a_measurement_there_is_no_advice(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,phase,phase_step,seconds\n10,a,10,3.0\n")
    assert batch_advice(file, {"a": 8}) is None
