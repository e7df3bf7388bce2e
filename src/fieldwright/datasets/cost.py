"""What generating a dataset would cost: measured on a few samples here, then counted up for any number of workers.

The model is list scheduling. Shards are handed out in order, each to the worker that is free first, one every
`HAND_OUT_SECONDS`; a worker begins after its start-up and takes (draw + solve + store) seconds a sample: one worker as
measured with one core of this machine busy, many as measured with all of them. So start-up, the tail of the last shards
and workers without any shard are in the forecast; a shared disk that is slower than all writers together is not, and
the forecast says what it would have to take.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwright.datasets.generate import free_bytes
from fieldwright.datasets.pilot import Costs, measure
from fieldwright.datasets.plan import Plan
from fieldwright.datasets.settle import asked_plan, piloted_plan
from fieldwright.problems import Problem
from fieldwright.progress import SILENT, Reporter

HAND_OUT_SECONDS = 0.0015
"""What this process and the scheduler spend on one shard, one shard after the other."""
TASK_SECONDS = 0.005
"""What a worker spends on one shard beside making it."""
RECORD_SECONDS = 0.0003
"""Reading one shard's record at the end."""
_SHARDS_PER_WORKER = 4


@dataclass(frozen=True)
class Forecast:
    """A generation on some workers.

    ``efficiency`` is the share of the workers' time, from start to end, that goes into samples; ``idle_workers`` get no
    shard at all; ``busiest_shards`` is the most that one worker makes; ``bytes_per_second`` what all write together.
    """

    workers: int
    seconds: float
    efficiency: float
    idle_workers: int
    busiest_shards: int
    bytes_per_second: float


@dataclass(frozen=True)
class CostModel:
    """Costs measured by a pilot, and the set that they are asked for.

    ``alone`` and ``crowded`` are seconds per sample and core with one core busy and with ``processes`` busy at once;
    ``start_seconds`` what a worker needs before its first sample; ``worker_bytes`` the memory it takes at most.
    """

    plan: Plan
    alone: Costs
    crowded: Costs
    processes: int
    start_seconds: float
    bytes_per_sample: float
    worker_bytes: int
    pilot_samples: int
    pilot_seconds: float
    free_bytes: int

    @property
    def samples(self) -> int:
        return sum(self.plan.counts.values())

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of every shard, in the order in which they are handed out."""
        most = self.plan.shard_samples
        return [min(most, count - start) for count in self.plan.counts.values() for start in range(0, count, most)]

    @property
    def cpu_hours(self) -> float:
        return self.samples * self.crowded.total / 3600

    @property
    def bytes(self) -> float:
        """What the set takes on disk."""
        return self.samples * self.bytes_per_sample

    def seconds_per_sample(self, workers: int) -> float:
        """Of one core, with so many busy beside each other."""
        share = min(1.0, (workers - 1) / (self.processes - 1)) if self.processes > 1 else 1.0
        return self.alone.total + share * (self.crowded.total - self.alone.total)

    def on(self, workers: int) -> Forecast:
        """The forecast for so many workers of one core each."""
        sizes, cost = self.shard_sizes, self.seconds_per_sample(workers)
        busy = min(workers, len(sizes))
        free = [(self.start_seconds, worker) for worker in range(busy)]
        made = [0] * busy
        handed, end = 0.0, 0.0
        for size in sizes:
            ready, worker = heapq.heappop(free)
            handed = max(ready, handed + HAND_OUT_SECONDS)
            done = handed + TASK_SECONDS + size * cost
            made[worker] += 1
            end = max(end, done)
            heapq.heappush(free, (done, worker))
        end += len(sizes) * RECORD_SECONDS
        return Forecast(
            workers=workers,
            seconds=end,
            efficiency=self.samples * cost / (workers * end),
            idle_workers=workers - busy,
            busiest_shards=max(made),
            bytes_per_second=self.bytes / end,
        )

    def better_shard_samples(self, workers: int) -> int:
        """Samples a shard with which every worker has several, so that the last ones leave few idle."""
        return max(1, min(self.plan.shard_samples, math.ceil(self.samples / (_SHARDS_PER_WORKER * workers))))

    def to_dict(self, workers: int | None = None) -> dict[str, Any]:
        """Plain values, for JSON: on this machine and, if asked, on ``workers``."""
        facts = {
            "problem": self.plan.kind,
            "settings": self.plan.settings,
            "method": self.plan.method,
            "rtol": self.plan.rtol,
            "device": self.plan.device,
            "samples": self.samples,
            "shards": len(self.shard_sizes),
            "shard_samples": self.plan.shard_samples,
            "seconds_per_sample": {
                kind: {"draw": costs.draw, "solve": costs.solve, "store": costs.store, "total": costs.total}
                for kind, costs in (("alone", self.alone), ("all cores busy", self.crowded))
            },
            "start_seconds": self.start_seconds,
            "cpu_hours": self.cpu_hours,
            "bytes_per_sample": self.bytes_per_sample,
            "bytes": self.bytes,
            "free_bytes": self.free_bytes,
            "worker_bytes": self.worker_bytes,
            "pilot": {"samples": self.pilot_samples, "seconds": self.pilot_seconds, "processes": self.processes},
            "here": vars(self.on(self.processes)),
        }
        return facts if workers is None else {**facts, "workers": vars(self.on(workers))}

    def lines(self, workers: int | None = None) -> list[str]:
        """The same for people."""
        plan, here = self.plan, self.on(self.processes)
        shard = self.bytes_per_sample * plan.shard_samples
        text = [
            f"{plan.kind}: {self.samples:,} samples in {len(self.shard_sizes):,} shards of {plan.shard_samples}"
            f" ({_size(shard)} each), by {plan.method} to {plan.rtol:g} on {plan.device}; nothing is generated",
            f"measured on this machine in {self.pilot_seconds:.0f} s with {self.pilot_samples} samples, milliseconds a"
            f" sample and core: {_costs(self.alone)} with one core busy, {_costs(self.crowded)} with {self.processes}",
            f"CPU time: {_time(3600 * self.cpu_hours)} of one core",
            f"this machine, {self.processes} core{'s' * (self.processes != 1)}: {_time(here.seconds)}",
        ]
        if workers is not None:
            text += self._workers_lines(self.on(workers))
        missing = "" if self.bytes <= self.free_bytes else ", which is too little"
        text.append(f"disk: {_size(self.bytes)}; here {_size(self.free_bytes)} are free{missing}")
        text.append(f"memory: about {_size(self.worker_bytes)} a worker; start-up {self.start_seconds:.1f} s")
        return text

    def _workers_lines(self, forecast: Forecast) -> list[str]:
        f = forecast
        idle = f", {f.idle_workers:,} of them without a shard" if f.idle_workers else ""
        text = [
            f"{f.workers:,} workers{idle}: {_time(f.seconds)}, at most {f.busiest_shards} shards each;"
            f" {f.efficiency:.0%} of their time goes into samples",
            f"  if their cores are as fast as these, and if the shared disk takes {_size(f.bytes_per_second)}/s",
        ]
        better = self.better_shard_samples(f.workers)
        if f.efficiency < 0.9 and better < self.plan.shard_samples:
            text.append(f"  data.shard_samples={better} would keep more of them busy")
        return text


def estimate_cost(
    problem: Problem,
    path: str | Path,
    *,
    counts: Mapping[str, int],
    seed: int,
    solver: str = "auto",
    rtol: float | None = None,
    shard_samples: int = 256,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> CostModel:
    """Measure what `generate` with the same arguments would cost. Nothing is left at ``path``.

    Errors: as `generate` for its arguments; `StorageError` where ``path`` will be on a disk that cannot be written.
    """
    wanted = asked_plan(
        problem, counts=counts, seed=seed, solver=solver, rtol=rtol, shard_samples=shard_samples, device=device
    )
    plan = piloted_plan(problem, wanted, reporter)
    measured = measure(problem, plan, Path(path), reporter)
    return CostModel(
        plan=plan,
        alone=measured.alone,
        crowded=measured.crowded,
        processes=measured.processes,
        start_seconds=measured.start_seconds,
        bytes_per_sample=measured.bytes_per_sample,
        worker_bytes=measured.worker_bytes,
        pilot_samples=measured.samples,
        pilot_seconds=measured.seconds,
        free_bytes=free_bytes(Path(path)),
    )


def _costs(costs: Costs) -> str:
    parts = (f"{name} {_figure(1000 * value)}" for name, value in vars(costs).items())
    return " + ".join(parts) + f" = {_figure(1000 * costs.total)}"


def _figure(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if 0 < value < 100 else f"{value:.0f}"


def _time(seconds: float) -> str:
    for size, unit in ((86400 * 2, "days"), (3600 * 2, "hours"), (120, "minutes")):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'hours': 3600, 'minutes': 60}[unit]:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(count: float) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"
