"""Being asked to stop: Ctrl-C, a scheduler's SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from fieldwright.errors import TrainingError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(TrainingError):
    """A training that was asked to stop and wrote a checkpoint; the same call goes on from there."""


@dataclass
class StopRequest:
    """Whether a signal came, and its name."""

    name: str | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request that the loop looks at between steps.

    A second one acts as if nobody listened, so that Ctrl-C twice always ends. Outside the main thread, where Python
    allows no handlers, signals are left alone.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def listen(number: int, frame: FrameType | None) -> None:
        request.name = signal.Signals(number).name
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, listen)
    try:
        yield request
    finally:
        restore()
