"""One shard: its samples drawn and solved chunk by chunk, put together, written, recorded.

A shard's bits follow from the plan and its place in it alone. Every chunk is drawn and solved by one thread with one
torch thread, here as on any worker of a cluster: how sums are rounded must not depend on who computes them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fieldwright.datasets.content import entries, sample_numbers, shard_content
from fieldwright.datasets.plan import SPLIT_ORIGINS, Plan, Record, Shard
from fieldwright.datasets.statistics import content_moments
from fieldwright.datasets.store import write_shard
from fieldwright.problems import PROBLEMS, Problem
from fieldwright.solvers.threads import one_torch_thread

# A user's problem may seed a global generator before it draws; two threads must not do so at once.
_DRAWING = threading.RLock()


@dataclass(frozen=True)
class Chunk:
    """The samples of one solve that converged, as they will be stored, and how long they took."""

    indices: list[int]
    arrays: list[np.ndarray]
    numbers: dict[str, np.ndarray]
    residual: np.ndarray
    iterations: np.ndarray
    draw_seconds: float
    solve_seconds: float


def chunks(plan: Plan, shard: Shard) -> list[range]:
    """The problem's sample indices, cut by the plan alone."""
    indices = shard.indices
    return [indices[i : i + plan.chunk_samples] for i in range(0, len(indices), plan.chunk_samples)]


def make_chunk(problem: Problem, plan: Plan, indices: range) -> Chunk:
    """Draw some samples and solve them. The caller has set one torch thread."""
    began = time.perf_counter()
    with contextlib.nullcontext() if plan.kind in PROBLEMS else _DRAWING:
        inputs = problem.sample(indices, plan.seed)
    drawn = _finite(inputs).nonzero().flatten()
    draw_seconds = time.perf_counter() - began
    if not len(drawn):
        return Chunk([], [], {}, np.empty(0), np.empty(0, np.int32), draw_seconds, 0.0)
    if len(drawn) < len(inputs):
        inputs = inputs[drawn]
    inputs = inputs.to(plan.device)
    states, solution = problem.trajectory(inputs, rtol=plan.rtol, method=plan.method)
    good = (solution.converged.cpu() & _finite(states).cpu()).nonzero().flatten()
    if len(good) < len(inputs):
        inputs, states = inputs[good.to(inputs.device)], states[good.to(states.device)]
    scales = plan.scales or {}
    return Chunk(
        indices=[indices[int(i)] for i in drawn[good]],
        arrays=[entry.stored(inputs, states, scales) for entry in entries(problem)],
        numbers=sample_numbers(problem, inputs),
        residual=solution.residual.cpu()[good].double().numpy(),
        iterations=solution.iterations.cpu()[good].int().numpy(),
        draw_seconds=draw_seconds,
        solve_seconds=solution.seconds,
    )


def store_shard(
    problem: Problem, plan: Plan, root: Path, shard: Shard, parts: Sequence[Chunk], *, threads: int = 1
) -> Record:
    """Write a shard of all its chunks, and then its record; ``threads`` made the chunks at the same time.

    Errors: `StorageError` when either cannot be written; what is on disk then is whole, and the shard is not finished.
    """
    writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    kept = [index for part in parts for index in part.indices]
    origin = SPLIT_ORIGINS[shard.split]
    digest, size, moments = "", 0, None
    if kept:
        full = [part for part in parts if part.indices]
        per_sample = {
            "index": np.array(kept, np.int64),
            "residual": np.concatenate([part.residual for part in full]),
            "iterations": np.concatenate([part.iterations for part in full]),
        }
        numbers = {name: np.concatenate([part.numbers[name] for part in full]) for name in full[0].numbers}
        arrays = [_joined([part.arrays for part in full], place) for place in range(len(full[0].arrays))]
        content = shard_content(problem, plan, arrays, numbers, per_sample)
        moments = {name: found.to_dict() for name, found in content_moments(content).items()}
        file = root / shard.file
        digest = write_shard(file, content, writer=writer)
        size = file.stat().st_size
    record = Record(
        samples=len(kept),
        sha256=digest,
        bytes=size,
        failed=[index - origin for index in sorted(set(shard.indices) - set(kept))],
        worst_residual=max((float(np.nan_to_num(part.residual).max()) for part in parts if part.indices), default=0.0),
        solve_seconds=sum(part.solve_seconds for part in parts) / threads,
        draw_seconds=sum(part.draw_seconds for part in parts) / threads,
        moments=moments,
    )
    record.write(root / shard.record, writer=writer)
    return record


def make_shard(problem: Problem, plan: Plan, root: Path, shard: Shard) -> Record:
    """Draw, solve and store a whole shard in this thread. Errors: as `store_shard`, and what the problem raises."""
    with one_torch_thread():
        parts = [make_chunk(problem, plan, indices) for indices in chunks(plan, shard)]
        return store_shard(problem, plan, root, shard, parts)


def _joined(parts: list[list[np.ndarray]], place: int) -> np.ndarray:
    """One array of all chunks. The chunks let go of it, so that a shard is in memory once."""
    joined = np.concatenate([arrays[place] for arrays in parts])
    for arrays in parts:
        arrays[place] = np.empty(0)
    return joined


def _finite(array: Tensor) -> Tensor:
    """Which samples hold no NaN and no infinity."""
    flat = array.flatten(1)
    # A sum, which one or the other makes its like, is had without a mask of every number.
    finite = flat.sum(1).isfinite()
    doubtful = (~finite).nonzero().flatten()
    if len(doubtful):
        finite[doubtful] = flat[doubtful].isfinite().all(1)
    return finite
