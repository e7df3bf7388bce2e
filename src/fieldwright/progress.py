"""What a person sees while work goes on: bars on a terminal, one line a stage elsewhere, nothing when quiet.

Everything goes to stderr, so that stdout stays for results and `--json`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass
class Stage:
    """One piece of work in progress: call `advance` as it gets done, with short facts to show (``loss="0.012"``)."""

    title: str
    total: float | None
    done: float = 0
    facts: dict[str, str] = field(default_factory=dict)
    _bar: Progress | None = None
    _task: int = 0

    def advance(self, amount: float = 1, **facts: str) -> None:
        """Count ``amount`` more units as done; ``facts`` are short texts to show, kept until they are given again."""
        self.done += amount
        self.facts.update(facts)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, facts=_joined(self.facts))  # type: ignore[arg-type]


@dataclass
class Reporter:
    """Where progress and notices go. ``quiet`` silences all of it; bars are drawn only on a terminal."""

    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def notice(self, text: str) -> None:
        """One line that a person should know and need not act on."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: float | None = None, unit: str = "") -> Iterator[Stage]:
        """A piece of work of ``total`` units; yields the `Stage` to advance."""
        stage = Stage(title, total)
        start = time.perf_counter()
        if not self.quiet and self.console.is_terminal:
            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                console=self.console,
            )
            with bar:
                stage._bar, stage._task = bar, bar.add_task(title, total=total, facts="")
                yield stage
        else:
            yield stage
            amount = f"{stage.done:.10g} {unit}, ".replace(" ,", ",") if stage.done else ""
            facts = _joined(stage.facts)
            self.notice(f"{title}: {amount}{time.perf_counter() - start:.1f} s" + (f", {facts}" if facts else ""))


def _joined(facts: dict[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in facts.items())


SILENT = Reporter(quiet=True)
