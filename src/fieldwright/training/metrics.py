"""The learning curve: rows of figures in memory, in ``metrics.csv`` and in loggers such as TensorBoard's."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning_fabric.loggers.logger import Logger

from fieldwright.atomic import write_atomically
from fieldwright.errors import StorageError

Row = dict[str, float | int | str]
CLOCK_COLUMNS = ("seconds", "seconds_per_step")


def columns(losses: Sequence[str], figures: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of the table for objectives with these losses and callbacks with these figures.

    ``loss`` and ``loss_<name>`` are means over the steps since the row before, ``valid_*`` relative errors in physical
    units (empty where there was no validation), ``gradient_norm`` the last one before clipping, ``flops`` the
    operations of all steps so far.
    """
    parts = [f"loss_{name}" for name in losses]
    return (
        "step", "phase", "phase_step", "epoch", "fraction", "learning_rate", "loss", *parts, "gradient_norm",
        "valid_relative_l2", "valid_relative_h1", *figures, "flops", *CLOCK_COLUMNS,
    )  # fmt: skip


@dataclass
class MetricsTable:
    """Rows of a training. ``path`` is None in processes that do not write.

    A row is appended to the file as it comes, for people who watch. The rows are also part of every checkpoint, and the
    file is written afresh from them when a training is resumed: rows of steps that are done again are dropped.
    """

    path: Path | None
    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    loggers: Sequence[Logger] = ()

    def restart(self, rows: list[Row]) -> None:
        """Begin the file with these rows.

        Errors: `StorageError` when it cannot be written.
        """
        self.rows = list(rows)
        if self.path is not None:
            write_atomically(self.path, (self._line() + "".join(map(self._line, self.rows))).encode())

    def append(self, row: Row) -> None:
        """Add a row.

        Errors: `StorageError` when the file cannot be written.
        """
        self.rows.append(row)
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self._line(row))
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        for logger in self.loggers:
            logger.log_metrics(figures, step=int(row["step"]))

    def _line(self, row: Row | None = None) -> str:
        text = io.StringIO()
        values = self.columns if row is None else [row.get(name, "") for name in self.columns]
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue()


def tensorboard_loggers(directory: Path) -> tuple[Logger, ...]:
    """TensorBoard's logger writing below ``directory``, or none where TensorBoard is not installed."""
    try:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        return (TensorBoardLogger(directory, name="tensorboard", version=""),)
    except ModuleNotFoundError:
        return ()
