"""Shards made in this process: chunks drawn and solved side by side on threads, while a thread of its own writes.

Memory holds the shard that is being put together, the one that is being written, and a few chunks.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from fieldwright.datasets.plan import Plan, Record, Shard
from fieldwright.datasets.shards import Chunk, chunks, make_chunk, store_shard
from fieldwright.problems import Problem
from fieldwright.progress import Stage
from fieldwright.solvers.threads import one_torch_thread

# Measured on Darcy in 2D and 3D: a chunk's coefficients, its solver's hierarchy and its copies, per unknown.
_BYTES_PER_UNKNOWN = 400
# Chunks that wait, in order, for a slower one before them, per thread.
_AHEAD = 2


def make_shards(problem: Problem, plan: Plan, root: Path, missing: list[Shard], stage: Stage) -> None:
    """Make the missing shards on ``torch.get_num_threads()`` threads, or fewer where memory holds no more chunks.

    Errors: `StorageError` when one cannot be written, and what the problem raises; whole shards stay.
    """
    began = time.perf_counter()
    threads = chunk_threads(problem, plan)
    parts: list[Chunk] = []
    written: Future[Record] | None = None
    with one_torch_thread(), ThreadPoolExecutor(1, "store") as writer, _made(problem, plan, missing, threads) as made:
        for shard, last, chunk, asked in made:
            parts.append(chunk)
            done = stage.done + asked
            rate = f"{done / (time.perf_counter() - began):.0f} samples/s"
            stage.advance(asked, solver=plan.method, rate=rate)
            if last:
                # One shard is written while the next is made, and no more: memory is bounded by the shard.
                if written is not None:
                    written.result()
                written = writer.submit(store_shard, problem, plan, root, shard, parts, threads=threads)
                parts = []
        if written is not None:
            written.result()


def chunk_threads(problem: Problem, plan: Plan) -> int:
    """How many chunks are worked on at once."""
    threads = torch.get_num_threads()
    needed = _BYTES_PER_UNKNOWN * plan.chunk_samples * problem.grid.points * len(problem.outputs)
    return max(1, min(threads, _available_memory(otherwise=threads * 2 * needed) // (2 * needed)))


@contextlib.contextmanager
def _made(
    problem: Problem, plan: Plan, missing: list[Shard], threads: int
) -> Iterator[Iterator[tuple[Shard, bool, Chunk, int]]]:
    """An iterator of (shard, whether this is its last chunk, chunk, samples asked for), in order."""
    work = (
        (shard, place == len(cut) - 1, indices)
        for shard in missing
        for cut in [chunks(plan, shard)]
        for place, indices in enumerate(cut)
    )
    if threads == 1:
        # In this thread, so that Ctrl-C need not wait for the chunk.
        yield ((shard, last, make_chunk(problem, plan, indices), len(indices)) for shard, last, indices in work)
        return
    pool = ThreadPoolExecutor(threads, "chunk", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield _in_order(problem, plan, work, pool, _AHEAD * threads)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    problem: Problem, plan: Plan, work: Iterable[tuple[Shard, bool, range]], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Shard, bool, Chunk, int]]:
    waiting: deque[tuple[Shard, bool, Future[Chunk], int]] = deque()
    for shard, last, indices in work:
        waiting.append((shard, last, pool.submit(make_chunk, problem, plan, indices), len(indices)))
        if len(waiting) >= ahead:
            yield _finished(waiting)
    while waiting:
        yield _finished(waiting)


def _finished(waiting: deque[tuple[Shard, bool, Future[Chunk], int]]) -> tuple[Shard, bool, Chunk, int]:
    shard, last, future, count = waiting.popleft()
    return shard, last, future.result(), count


def _available_memory(*, otherwise: int) -> int:
    """Bytes that this machine can still give, where it says so."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return otherwise
