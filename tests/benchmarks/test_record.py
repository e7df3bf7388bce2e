"""A recorded figure stands beside the machine it was measured on, whole or not at all."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "record.py"
specification = importlib.util.spec_from_file_location("benchmark_record", FILE)
record = importlib.util.module_from_spec(specification)
specification.loader.exec_module(record)


def test_rows_and_machine_are_written_as_json_and_table(tmp_path):
    rows = [{"size": 64, "seconds": np.float64(0.12345)}, {"size": 128, "note": "a|b"}]
    path = record.record("solve", rows, title="Solving", notes="One thread.", directory=tmp_path)
    stored = json.loads((tmp_path / "solve.json").read_text())
    assert stored["rows"] == [{"size": 64, "seconds": 0.12345}, {"size": 128, "note": "a|b"}]
    assert stored["machine"]["cores"] >= 1
    assert stored["machine"]["versions"]["numpy"] == np.__version__
    text = path.read_text()
    assert "| size | seconds | note |" in text
    assert "| 64 | 0.1235 | – |" in text or "| 64 | 0.1234 | – |" in text
    assert "| 128 | – | a\\|b |" in text
    assert "One thread." in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["solve.json", "solve.md"]


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows for 'solve'"):
        record.record("solve", [], title="Solving", directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_candidates_are_timed_in_turn():
    calls = []
    seconds = record.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=1)
    assert calls == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert all(value >= 0 for values in seconds.values() for value in values)


def test_the_median_ratio_pairs_the_rounds():
    assert record.median_ratio([2.0, 30.0, 6.0], [1.0, 10.0, 2.0]) == 3.0
