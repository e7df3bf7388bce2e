"""Blocks of a batch side by side on threads, each with one torch thread of its own.

Torch's own threads gain nothing on small fields, and their number may change how a product rounds. Blocks that each run
on one thread keep every core busy and give the same bits on any number of threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Place = TypeVar("Place")
Result = TypeVar("Result")


def on_threads(block: Callable[[Place], Result], places: Sequence[Place]) -> list[Result]:
    """``[block(place) for place in places]`` on as many threads as torch is set to use, one torch thread each."""
    threads = torch.get_num_threads()

    def alone(place: Place) -> Result:
        torch.set_num_threads(1)
        return block(place)

    try:
        if threads == 1 or len(places) <= 1:
            return [alone(place) for place in places]
        with ThreadPoolExecutor(min(threads, len(places))) as pool:
            return list(pool.map(alone, places))
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's operations on one thread in this thread, and on as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
