"""Time drawing, solving and storing on this machine: in as many processes as it has threads, one alone and all at once.

Processes, because that is what workers are, and because cores that are all busy share caches and memory: a sample costs
more then than a lone process measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fieldwright.allocator import keep_freed_memory
from fieldwright.datasets.order import Order
from fieldwright.datasets.plan import Plan, Shard
from fieldwright.datasets.settle import sample_bytes
from fieldwright.datasets.shards import chunks, make_chunk, store_shard
from fieldwright.errors import FieldwrightError, SolverError, StorageError
from fieldwright.problems import Problem
from fieldwright.progress import Reporter
from fieldwright.settings import first_line
from fieldwright.solvers.threads import one_torch_thread

ROUND_SECONDS = 4.0
"""How long a round of measuring lasts, but for the chunk at its end."""
_MOST_PROCESSES = 32
_CHILD = "from fieldwright.datasets.pilot import answer; answer()"


@dataclass(frozen=True)
class Costs:
    """Seconds per sample of one core."""

    draw: float
    solve: float
    store: float

    @property
    def total(self) -> float:
        return self.draw + self.solve + self.store


@dataclass(frozen=True)
class Measured:
    """What `measure` found; as in `fieldwright.datasets.cost.CostModel`."""

    alone: Costs
    crowded: Costs
    processes: int
    start_seconds: float
    bytes_per_sample: float
    worker_bytes: int
    samples: int
    seconds: float


def measure(problem: Problem, plan: Plan, path: Path, reporter: Reporter) -> Measured:
    """Costs of the plan's samples, stored for a moment beside ``path``.

    Errors: `StorageError` where that disk cannot be written; `SolverError` when no sample converges; `InputError` for a
    problem that another process cannot import; what the problem raises.
    """
    began = time.perf_counter()
    there = path.absolute().parent
    while not there.exists():
        there = there.parent
    processes = max(1, min(torch.get_num_threads(), _MOST_PROCESSES))
    rounds = [1, processes] if processes > 1 else [1]
    try:
        folder = tempfile.TemporaryDirectory(prefix=".fieldwright-pilot-", dir=there)
    except OSError as error:
        raise StorageError(f"cannot write {there}: {error.strerror}") from error
    with folder as root, reporter.stage("measure", total=len(rounds), unit="rounds") as stage:
        order = Order.of(plan, Path(root))
        children = [_Child(order, number) for number in range(processes)]
        try:
            starts = [child.heard()["started"] - child.called for child in children]
            found = []
            for count in rounds:
                for child in children[:count]:
                    child.say(str(ROUND_SECONDS))
                found.append([child.heard() for child in children[:count]])
                stage.advance()
        finally:
            for child in children:
                child.end()
    answers = [answer for round_ in found for answer in round_]
    stored = sum(answer["stored"] for answer in answers)
    if not stored:
        raise SolverError(f"generate: none of the pilot's samples converged to rtol {plan.rtol:g} by {plan.method}")
    largest = max(answer["shard_bytes"] for answer in answers)
    # While its chunks are joined a shard is in memory twice.
    growth = max(0, sample_bytes(problem) * plan.shard_samples - largest)
    return Measured(
        alone=_mean(found[0]),
        crowded=_mean(found[-1]),
        processes=processes,
        start_seconds=max(starts),
        bytes_per_sample=sum(answer["bytes"] for answer in answers) / stored,
        worker_bytes=max(answer["memory"] for answer in answers) + 2 * growth,
        samples=sum(answer["samples"] for answer in answers),
        seconds=time.perf_counter() - began,
    )


class _Child:
    """A process that measures when it is told to."""

    def __init__(self, order: Order, number: int) -> None:
        self.called = time.time()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.say(json.dumps([order.to_json(), number]))

    def say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """The next answer. Errors: `SolverError` with the child's own last words where there is none."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().splitlines() or ["it was killed"]
            raise SolverError(f"generate: a pilot's process failed: {said[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise SolverError(answer["error"])
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def answer() -> None:
    """What a child does: set up, say when that is done, and measure at every line that it is told."""
    text, number = json.loads(sys.stdin.readline())
    order = Order.from_json(text)
    keep_freed_memory()  # as workers do
    try:
        with one_torch_thread():
            problem = order.problem()
            make_chunk(problem, order.plan, chunks(order.plan, _shard(order.plan, 0))[0][:1])
            _tell({"started": time.time()})
            for turn, seconds in enumerate(sys.stdin):
                _tell(_round(problem, order.plan, Path(order.root), 1000 * number + 100 * turn, float(seconds)))
    except FieldwrightError as error:
        _tell({"error": first_line(error)})


def _round(problem: Problem, plan: Plan, root: Path, first: int, seconds: float) -> dict[str, Any]:
    """Make shards, the last one perhaps smaller, for some seconds; at least one chunk."""
    began = time.perf_counter()
    draw = solve = store = 0.0
    asked, stored, size, largest, number = 0, 0, 0, 0, first
    while time.perf_counter() - began < seconds or not asked:
        shard, parts = _shard(plan, number), []
        for indices in chunks(plan, shard):
            start = time.perf_counter()
            parts.append(make_chunk(problem, plan, indices))
            draw += parts[-1].draw_seconds
            solve += time.perf_counter() - start - parts[-1].draw_seconds
            asked += len(indices)
            if time.perf_counter() - began >= seconds:
                break
        start = time.perf_counter()
        record = store_shard(problem, plan, root, shard, parts)
        store += time.perf_counter() - start
        (root / shard.file).unlink(missing_ok=True)
        stored, size, largest = stored + record.samples, size + record.bytes, max(largest, record.bytes)
        number += 1
    # Linux counts the largest memory in KiB, macOS in bytes.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "samples": asked, "stored": stored, "draw": draw, "solve": solve, "store": store, "bytes": size,
        "shard_bytes": largest, "memory": memory,
    }  # fmt: skip


def _shard(plan: Plan, number: int) -> Shard:
    split = next(iter(plan.counts))
    start = number * plan.shard_samples
    return Shard(split, start, start + plan.shard_samples, Path(f"{number}.hdf5"))


def _tell(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def _mean(answers: Sequence[dict[str, Any]]) -> Costs:
    samples = sum(answer["samples"] for answer in answers)
    return Costs(*(sum(answer[part] for answer in answers) / samples for part in ("draw", "solve", "store")))
