"""Bars on a terminal, one line a stage elsewhere, nothing when quiet."""

import io

import pytest
from rich.console import Console

from fieldwright.progress import SILENT, Reporter


def reporter(*, terminal=False, quiet=False):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False)
    return Reporter(quiet=quiet, console=console), text


def test_a_stage_is_one_line_away_from_a_terminal():
    report, text = reporter()
    with report.stage("solve", 3, "systems") as stage:
        for _ in range(3):
            stage.advance(worst="1e-9")
    lines = text.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("solve: 3 systems, ")
    assert lines[0].endswith(" s, worst 1e-9")


def test_large_counts_are_written_out():
    report, text = reporter()
    with report.stage("read", unit="samples") as stage:
        stage.advance(1_234_567)
    assert "1234567 samples" in text.getvalue()


def test_a_stage_without_units_still_says_its_time():
    report, text = reporter()
    with report.stage("write report"):
        pass
    assert text.getvalue().startswith("write report: 0.")


def test_notices_are_printed_as_they_stand():
    report, text = reporter()
    report.notice("compiling [bold]kernels[/bold] once")
    assert text.getvalue() == "compiling [bold]kernels[/bold] once\n"


def test_a_terminal_shows_a_bar_with_the_facts():
    report, text = reporter(terminal=True)
    with report.stage("train", 2, "steps") as stage:
        stage.advance(loss="0.25")
        stage.advance(loss="0.125")
    shown = text.getvalue()
    assert "train" in shown
    assert "2/2" in shown
    assert "loss 0.125" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing(terminal):
    report, text = reporter(terminal=terminal, quiet=True)
    report.notice("hello")
    with report.stage("train", 2, "steps") as stage:
        stage.advance(2)
    assert text.getvalue() == ""
    assert stage.done == 2
    assert SILENT.quiet


def test_a_stage_that_fails_is_not_reported_as_done():
    report, text = reporter()
    with pytest.raises(ZeroDivisionError), report.stage("solve", 3, "systems"):
        raise ZeroDivisionError
    assert text.getvalue() == ""
