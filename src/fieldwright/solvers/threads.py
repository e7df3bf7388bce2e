"""Blocks of a batch side by side on threads, each with one torch and one BLAS thread of its own.

Threads within torch or BLAS gain nothing on small arrays (the eigenproblems of recycling take five times as long with
two), and their number may change how a product rounds. Blocks that each run on one thread keep every core busy and give
the same bits on any number of threads.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Place = TypeVar("Place")
Result = TypeVar("Result")


def on_threads(block: Callable[[Place], Result], places: Sequence[Place]) -> list[Result]:
    """``[block(place) for place in places]``, each on one thread, as many at once as torch is set to use."""
    threads = torch.get_num_threads()

    def alone(place: Place) -> Result:
        torch.set_num_threads(1)
        return block(place)

    try:
        with one_blas_thread():
            if threads == 1 or len(places) <= 1:
                return [alone(place) for place in places]
            with ThreadPoolExecutor(min(threads, len(places))) as pool:
                return list(pool.map(alone, places))
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's operations in this thread, and all of BLAS, on one thread; on as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        torch.set_num_threads(threads)


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """BLAS, as NumPy and SciPy call it, on one thread in the whole process, and on as many as before afterwards."""
    return _blas().limit(limits=1, user_api="blas")


@functools.cache
def _blas() -> ThreadpoolController:
    # Finding the libraries takes milliseconds, setting their threads microseconds.
    return ThreadpoolController()
