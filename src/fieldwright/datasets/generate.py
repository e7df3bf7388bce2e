"""Draw instances of a problem, solve them, store what converged: shard by shard, resumable to the bit."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwright.atomic import PARTIAL
from fieldwright.datasets.content import entries
from fieldwright.datasets.local import make_shards
from fieldwright.datasets.locking import alone
from fieldwright.datasets.plan import PLAN_FILE, Plan, Record, Shard, finished, read_plan
from fieldwright.datasets.settle import asked_plan, sample_bytes, settled_plan
from fieldwright.datasets.shards import make_chunk
from fieldwright.datasets.statistics import STATISTICS_FILE, merged_table, recorded_moments, write_table
from fieldwright.errors import SolverError, StorageError
from fieldwright.problems import Problem
from fieldwright.progress import SILENT, Reporter
from fieldwright.solvers import announce_compilation
from fieldwright.solvers.threads import one_torch_thread

if TYPE_CHECKING:
    from distributed import Client

    from fieldwright.datasets.cluster import Cluster
    from fieldwright.datasets.crew import Crew


@dataclass(frozen=True)
class GenerationSummary:
    """What a dataset holds once generated, shards of earlier calls included.

    ``samples`` stored per split; ``failed`` indices within each split that did not converge or were not finite;
    ``solve_seconds`` of the solver alone over all shards, ``draw_seconds`` of drawing, each of all threads over their
    number; ``seconds`` of this call with everything; ``worst_residual`` the largest true relative residual of the
    float64 solutions.
    """

    samples: dict[str, int]
    solve_seconds: float
    seconds: float
    solver: str
    shards: int
    failed: dict[str, list[int]]
    worst_residual: float
    draw_seconds: float = 0.0


def generate(
    problem: Problem,
    path: str | Path,
    *,
    counts: Mapping[str, int],
    seed: int,
    solver: str = "auto",
    rtol: float | None = None,
    shard_samples: int = 256,
    device: str = "cpu",
    cluster: str | Cluster | Client | None = None,
    reporter: Reporter = SILENT,
) -> GenerationSummary:
    """Make the dataset of a problem at ``path``, or what is missing of it.

    ``counts`` says how many samples to draw for "train", "valid" and "test"; the splits draw from disjoint ranges of
    the problem's sample indices. Interrupted at any moment and called again, it goes on with the missing shards, and
    the shards are bit for bit those of an uninterrupted call, on any number of threads and workers (same method,
    device, kind of processor and versions). A sample that does not reach ``rtol`` (by default the problem's own) or is
    not finite is reported by its index and not stored. A shard holds ``shard_samples``, or fewer where that would be
    more than 256 MiB: it is put together in memory.

    ``device``   where systems are solved: "cpu", "cuda", or "auto" for what is there
    ``cluster``  where shards are made: None for this process, on as many threads as torch is set to use; "local:N" for
                 N processes of this machine; the address of a Dask scheduler; "slurm:JOBS"; a `Cluster` for a time
                 limit and options; a connected ``distributed.Client``. Workers write into ``path`` themselves

    Errors: `InputError` for an impossible setting, `ClusterError` for a cluster that cannot be reached, goes away or
    loses its workers, `DataError` when ``path`` holds a dataset of other settings, `StorageError` when it cannot be
    written or another generation is at work in it, `SolverError` when nothing converged.
    """
    start = time.perf_counter()
    root = Path(path)
    wanted = asked_plan(
        problem, counts=counts, seed=seed, solver=solver, rtol=rtol, shard_samples=shard_samples, device=device
    )
    existing = read_plan(root)
    if existing is None:
        # A wish beyond the disk is refused before its shards, millions perhaps, are looked for one by one.
        check_room(root, sample_bytes(problem) * sum(wanted.counts.values()))
    else:
        wanted.check_same(existing, root)
    missing = _missing(wanted, root)
    check_room(root, sample_bytes(problem) * _samples(missing))
    with contextlib.ExitStack() as stack:
        # A cluster that is not there is found out before anything is written.
        crew = None
        if cluster is not None and missing:
            crew = stack.enter_context(_joined(cluster, wanted, root, reporter))
        stack.enter_context(alone(root))
        _clear_partial(root)
        plan = settled_plan(problem, wanted, root, reporter)
        missing = _missing(plan, root)
        if missing:
            _make(problem, plan, root, missing, crew, reporter)
        records = _records(plan, root)
        summary = _summary(plan, records, start)
        if missing or not (root / STATISTICS_FILE).is_file():
            _write_statistics(problem, root, records)
    for split, failed in summary.failed.items():
        if failed:
            reporter.notice(f"generate: not stored, as they did not converge: {split} samples {_listed(failed)}")
    return summary


def check_room(directory: Path, needed: int) -> None:
    """Errors: `StorageError` when less than ``needed`` bytes are free where ``directory`` is or will be."""
    free = free_bytes(directory)
    if needed > free:
        raise StorageError(
            f"{directory}: the dataset needs {needed / 2**30:.3g} GiB and the disk has {free / 2**30:.3g} GiB free"
        )


def free_bytes(directory: Path) -> int:
    """Free bytes of the disk on which ``directory`` is or will be."""
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _joined(
    cluster: str | Cluster | Client, plan: Plan, root: Path, reporter: Reporter
) -> contextlib.AbstractContextManager[Crew]:
    # Here and not above: Dask is an extra.
    from fieldwright.datasets.crew import joined

    return joined(cluster, plan, root, reporter)


def _missing(plan: Plan, root: Path) -> list[Shard]:
    return [shard for shard in plan.shards() if finished(root, shard) is None]


def _samples(shards: list[Shard]) -> int:
    return sum(len(shard.indices) for shard in shards)


def _make(
    problem: Problem, plan: Plan, root: Path, missing: list[Shard], crew: Crew | None, reporter: Reporter
) -> None:
    announce_compilation(reporter, plan.method)
    if problem.steady:
        # The first call of a compiled method compiles or loads its kernels, which is no time of solving. Workers that
        # share this machine's cache find them there.
        with one_torch_thread():
            make_chunk(problem, plan, missing[0].indices[:1])
    with reporter.stage(f"generate {plan.name}", total=_samples(missing), unit="samples") as stage:
        if crew is None:
            make_shards(problem, plan, root, missing, stage)
        else:
            crew.make_shards(plan, root, missing, stage)


def _records(plan: Plan, root: Path) -> list[tuple[Shard, Record]]:
    found = []
    for shard in plan.shards():
        record = finished(root, shard)
        if record is None:
            raise StorageError(f"{root / shard.file}: vanished while the dataset was being generated")
        found.append((shard, record))
    return found


def _summary(plan: Plan, records: list[tuple[Shard, Record]], start: float) -> GenerationSummary:
    samples: dict[str, int] = dict.fromkeys(plan.counts, 0)
    failed: dict[str, list[int]] = {split: [] for split in plan.counts}
    for shard, record in records:
        samples[shard.split] += record.samples
        failed[shard.split] += record.failed
    for split, count in samples.items():
        if count == 0:
            raise SolverError(f"generate: none of the {split} samples converged to rtol {plan.rtol:g} by {plan.method}")
    return GenerationSummary(
        samples=samples,
        solve_seconds=sum(record.solve_seconds for _, record in records),
        seconds=time.perf_counter() - start,
        solver=plan.method,
        shards=sum(record.samples > 0 for _, record in records),
        failed=failed,
        worst_residual=max(record.worst_residual for _, record in records),
        draw_seconds=sum(record.draw_seconds for _, record in records),
    )


def _write_statistics(problem: Problem, root: Path, records: list[tuple[Shard, Record]]) -> None:
    """From the moments in the records, which takes no look at the data."""
    train = [(shard, record) for shard, record in records if shard.split == "train" and record.samples]
    if not train:
        return
    orders = {entry.name: int(bool(entry.members[0].vector)) for entry in entries(problem)}
    moments = (recorded_moments(root, shard, record, orders) for shard, record in train)
    write_table(root, merged_table(moments, orders, problem.grid.dimension))


def _clear_partial(root: Path) -> None:
    """Remove what a killed process left of a write."""
    for left in [*root.glob(f"{PLAN_FILE}*{PARTIAL}"), *root.glob(f"data/*/*{PARTIAL}")]:
        left.unlink(missing_ok=True)


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:20]))
    return shown + (f" and {len(indices) - 20} more" if len(indices) > 20 else "")
