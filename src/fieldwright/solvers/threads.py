"""Blocks of a batch side by side on threads, each with one torch and one BLAS thread of its own.

Threads within torch or BLAS gain nothing on small arrays (the eigenproblems of recycling take five times as long with
two), and their number may change how a product rounds. Blocks that each run on one thread keep every core busy and give
the same bits on any number of threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy
import scipy
import torch

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


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """OpenBLAS, as the wheels of NumPy and SciPy bring it, on one thread in all of the process, and then as before.

    Another BLAS keeps its threads.
    """
    before = [(change, count()) for count, change in _openblas()]
    try:
        for change, _ in before:
            change(1)
        yield
    finally:
        for change, threads in before:
            change(threads)


@functools.cache
def _openblas() -> tuple[tuple[Callable[[], int], Callable[[int], None]], ...]:
    """(number of threads, its setter) of each OpenBLAS that a wheel has brought."""
    found = []
    for package in (numpy, scipy):
        folder = Path(package.__path__[0])
        for file in [
            *folder.with_name(f"{package.__name__}.libs").glob("*openblas*"),
            *folder.glob(".dylibs/*openblas*"),
        ]:
            library = ctypes.CDLL(str(file))
            for prefix, suffix in itertools.product(("scipy_openblas", "openblas"), ("64_", "")):
                names = f"{prefix}_get_num_threads{suffix}", f"{prefix}_set_num_threads{suffix}"
                if all(hasattr(library, name) for name in names):
                    found.append(tuple(getattr(library, name) for name in names))
                    break
    return tuple(found)
