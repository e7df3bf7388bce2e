import csv

import pytest

from fieldwright.errors import StorageError
from fieldwright.training.metrics import CLOCK_COLUMNS, MetricsTable, columns, tensorboard_loggers


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_come_back_in_full_precision(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv", columns(["l2"]))
    table.restart([])
    table.append({"step": 1, "loss": 0.1 + 0.2, "phase": "a, quoted"})
    table.append({"step": 2, "loss": 1e-300, "phase": "b", "valid_relative_l2": 0.5})
    rows = read(tmp_path / "metrics.csv")
    assert [float(row["loss"]) for row in rows] == [0.1 + 0.2, 1e-300]
    assert rows[0]["phase"] == "a, quoted"
    assert [row["valid_relative_l2"] for row in rows] == ["", "0.5"]


def test_restart_drops_rows_that_came_after(tmp_path):
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path, columns([]))
    table.restart([])
    for step in range(5):
        table.append({"step": step})
    before = path.read_text().splitlines()[:4]
    path.write_text(path.read_text() + "half a li")
    resumed = MetricsTable(path, columns([]))
    resumed.restart(table.rows[:3])
    assert path.read_text().splitlines() == before


def test_rows_are_logged_as_figures():
    logged = []

    class Recorder:
        def log_metrics(self, metrics, step):
            logged.append((step, metrics))

    table = MetricsTable(None, columns([]), loggers=[Recorder()])
    table.append({"step": 3, "loss": 0.5, "phase": "a"})
    assert logged == []  # a process that does not write does not log
    assert len(table.rows) == 1


def test_loggers_are_given_every_row(tmp_path):
    logged = []

    class Recorder:
        def log_metrics(self, metrics, step):
            logged.append((step, metrics))

    table = MetricsTable(tmp_path / "m.csv", columns([]), loggers=[Recorder()])
    table.restart([])
    table.append({"step": 3, "loss": 0.5, "phase": "a"})
    assert logged == [(3, {"loss": 0.5})]


def test_a_write_that_fails_is_one_sentence(tmp_path):
    table = MetricsTable(tmp_path / "gone" / "metrics.csv", columns([]))
    with pytest.raises(StorageError, match=r"cannot write .*metrics\.csv: No such file"):
        table.append({"step": 1})


def test_clock_columns_are_columns():
    assert set(CLOCK_COLUMNS) <= set(columns(["l2"]))


def test_tensorboard_is_used_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    (logger,) = tensorboard_loggers(tmp_path)
    logger.log_metrics({"loss": 0.5}, step=1)
    logger.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events.*"))
