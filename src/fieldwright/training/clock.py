"""The time a phase takes, over all the runs that it takes."""

from __future__ import annotations

import time

from fieldwright.training.position import Position

REDRAW_SECONDS = 0.2


class Clock:
    """Keeps the seconds of a `Position`: those of earlier phases and runs, and those since this clock was made."""

    def __init__(self, position: Position) -> None:
        self._origin = time.perf_counter() - position.phase_seconds
        self._earlier_phases = position.seconds - position.phase_seconds
        self._row = position.phase_seconds
        self._drawn = time.perf_counter()

    def read(self, position: Position) -> None:
        """Bring the position's seconds up to date."""
        self.set(position, time.perf_counter() - self._origin)

    def set(self, position: Position, seconds: float) -> None:
        """Set the position's seconds to what another process's clock says."""
        position.phase_seconds, position.seconds = seconds, self._earlier_phases + seconds

    def since_last_row(self, position: Position) -> float:
        """Seconds of the phase since this was last asked."""
        seconds, self._row = position.phase_seconds - self._row, position.phase_seconds
        return seconds

    def redraw_due(self) -> bool:
        """Whether the progress bar is old, asked between steps."""
        due = time.perf_counter() - self._drawn > REDRAW_SECONDS
        if due:
            self._drawn = time.perf_counter()
        return due
