"""Shards made by the workers of a Dask cluster.

A task is one shard. The worker builds the problem from its name and settings, writes the shard and its record into the
dataset's directory, which it shares with this process, and returns the record. So nothing that is stored depends on the
cluster: a task that dies leaves no shard, and a worker that was taken for dead and is not writes the same bits.
"""

from __future__ import annotations

import contextlib
import getpass
import queue
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from fieldwright.allocator import keep_freed_memory
from fieldwright.datasets.cluster import Cluster, Connection, connected
from fieldwright.datasets.order import VERSION, Order
from fieldwright.datasets.plan import PLAN_FILE, Plan, Record, Shard, finished, read_plan
from fieldwright.datasets.shards import make_chunk, make_shard
from fieldwright.errors import ClusterError, FieldwrightError
from fieldwright.problems import Problem
from fieldwright.progress import Reporter, Stage
from fieldwright.settings import first_line
from fieldwright.solvers.compilation import needs_compilation
from fieldwright.solvers.threads import one_torch_thread

if TYPE_CHECKING:
    from distributed import Client, Future

SET_ASIDE = 3
"""After so many shards over which workers died again and again, the cause is taken to be no shard."""

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
_VISIBLE_SECONDS = 60.0


@contextlib.contextmanager
def joined(cluster: str | Cluster | Client, plan: Plan, root: Path, reporter: Reporter) -> Iterator[Crew]:
    """The workers of a cluster, or of a connected client, to make the shards of a plan.

    Errors: `InputError` for a problem that no worker could import, or what `Cluster` and `connected` raise.
    """
    order = Order.of(plan, root)
    if isinstance(cluster, str):
        cluster = Cluster(cluster)
    if isinstance(cluster, Cluster):
        with connected(cluster, reporter) as connection:
            yield Crew(connection, order, reporter)
    else:
        yield Crew(Connection(cluster), order, reporter)


class Crew:
    """Workers that make shards, handed one at a time to each."""

    def __init__(self, connection: Connection, order: Order, reporter: Reporter) -> None:
        self._client = connection.client
        self._troubles = connection.troubles
        self._order = order
        self._reporter = reporter
        self._slots = 0
        self._looked, self._worked = 0.0, time.monotonic()

    def make_shards(self, plan: Plan, root: Path, missing: list[Shard], stage: Stage) -> None:
        """Have the missing shards made. One that kills its workers is set aside until all others are done.

        Errors: `ClusterError` when the scheduler goes away, workers cannot be had, or shards were set aside;
        what a worker's `make_shard` raises. Whole shards stay.
        """
        from distributed import KilledWorker

        order = replace(self._order, plan=plan)
        waiting, pending, aside = deque(missing), {}, []
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        began = time.perf_counter()
        stored = 0
        try:
            while waiting or pending:
                self._look()
                # No more tasks than workers: Dask blames all tasks of a worker that dies, also those that only wait.
                while waiting and len(pending) < max(1, self._slots):
                    future = self._client.submit(make_remotely, order, waiting[0], pure=False)
                    pending[future] = waiting.popleft()
                    future.add_done_callback(done.put)
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                shard = pending.pop(future)
                if future.status == "finished":
                    stored += 1
                    amount = len(shard.indices)
                    rate = f"{(stage.done + amount) / (time.perf_counter() - began):.0f} samples/s"
                    stage.advance(amount, solver=plan.method, rate=rate, workers=str(self._slots))
                elif future.status == "error":
                    error: Any = future.exception()
                    if not isinstance(error, KilledWorker):
                        raise _sentence(error, shard)
                    aside.append((shard, error))
                    if len(aside) >= SET_ASIDE:
                        break
                else:
                    raise ClusterError(
                        f"the connection to the scheduler was lost; {stored} of {len(missing)} shards were made, and"
                        " the same command goes on with the others"
                    )
        finally:
            if self._client.status == "running":
                self._client.cancel(list(pending), force=True)
        if aside:
            shard, error = aside[0]
            more = f" (and {len(aside) - 1} more shards)" if len(aside) > 1 else ""
            raise ClusterError(
                f"generate: {error.allowed_failures + 1} workers died, one after the other, over {shard}{more}; was"
                f" there enough memory? {stored} of {len(missing)} shards were made, and the same command goes on"
            )
        _wait_until_visible(root, missing)

    def _look(self) -> None:
        """Count the workers, once a second, and say so when there are none."""
        if self._troubles:
            raise ClusterError(f"cluster: {self._troubles[0]}")
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS and self._slots:
            return
        self._looked = now
        # Where the connection is lost all futures are cancelled, and `make_shards` says so.
        with contextlib.suppress(Exception):
            self._slots = sum(self._client.nthreads().values())  # type: ignore[union-attr]
        if self._slots:
            self._worked = now
        elif now - self._worked > _PATIENCE_SECONDS:
            self._reporter.notice("cluster: there is no worker; waiting for one (Ctrl-C loses nothing)")
            self._worked = float("inf")


def make_remotely(order: Order, shard: Shard) -> Record:
    """What a worker runs: make the shard, unless it is there.

    Errors: `ClusterError` where the worker is not one for this dataset, and what `make_shard` raises.
    """
    here, root = socket.gethostname(), Path(order.root)
    if order.version != VERSION:
        raise ClusterError(f"the worker on {here} has fieldwright {VERSION}, which is not this {order.version}")
    if not _wait_for(lambda: (root / PLAN_FILE).is_file(), _PATIENCE_SECONDS):
        raise ClusterError(f"the worker on {here} does not see {root}; the directory must be on a disk that all share")
    if read_plan(root) != order.plan:
        raise ClusterError(f"the worker on {here} sees another dataset in {root}; is it the same disk?")
    record = finished(root, shard)
    if record is not None:
        return record
    keep_freed_memory()
    problem = order.problem()
    _compile_once(problem, order.plan, shard)
    return make_shard(problem, order.plan, root, shard)


def _compile_once(problem: Problem, plan: Plan, shard: Shard) -> None:
    """Let one worker of a machine compile the solver's kernels while the others wait and then find them on disk."""
    if not needs_compilation(plan.method):
        return
    with FileLock(Path(tempfile.gettempdir()) / f"fieldwright-compiles-{getpass.getuser()}.lock"):
        if needs_compilation(plan.method):
            with one_torch_thread():
                make_chunk(problem, plan, shard.indices[:1])


def _sentence(error: BaseException | None, shard: Shard) -> BaseException:
    """A worker's error as this process raises it."""
    if isinstance(error, FieldwrightError):
        return error
    if isinstance(error, ImportError):
        return ClusterError(f"a worker lacks a module: {first_line(error)}; workers need the packages of this process")
    if error is not None:
        error.add_note(f"raised by a worker while it made {shard}")
        return error
    return ClusterError(f"a worker's error over {shard} was lost")


def _wait_until_visible(root: Path, shards: list[Shard]) -> None:
    """Network file systems may show what other machines wrote some seconds later."""
    for shard in shards:
        if not _wait_for(lambda shard=shard: finished(root, shard) is not None, _VISIBLE_SECONDS):
            raise ClusterError(f"{root}: a worker wrote {shard}, but it is not there; is this a disk that all share?")


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
