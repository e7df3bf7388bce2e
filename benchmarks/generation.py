"""Generating datasets: samples a second, 1 to 2 workers, and what the plan foresaw.

    python benchmarks/generation.py

Each set is made by one process on one thread and on two, and by one and two workers that are running already, in turn.
Before that the plan's pilot measures this machine, as `fieldwright generate --plan` does; its forecast, less the
start-up that running workers have behind them, stands beside what was measured. Sets go to a temporary directory.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from fieldwright.allocator import keep_freed_memory
from fieldwright.datasets import Cluster, generate
from fieldwright.datasets.cluster import connected
from fieldwright.datasets.cost import CostModel, estimate_cost
from fieldwright.problems import Darcy, Problem
from fieldwright.progress import SILENT
from record import interleaved, median_ratio, record

ROUNDS = 3
# (name, problem, samples, samples a shard): some ten seconds for one worker. In the first a shard costs more than its
# sample, which shows what handing out and writing one take.
SETS: tuple[tuple[str, Problem, int, int], ...] = (
    ("darcy 4^2, a sample a shard", Darcy(resolution=4), 200, 1),
    ("darcy 64^2", Darcy(resolution=64), 12000, 250),
    ("darcy 128^2", Darcy(resolution=128), 3000, 125),
    ("darcy log-normal 256^2", Darcy(resolution=256, coefficient="log-normal"), 480, 20),
)
PLANNED = {"samples": 1_000_000, "resolution": 512, "nodes": 100, "cores": 64}


def main() -> None:
    """Measure and write the table."""
    rows: list[dict[str, Any]] = []
    keep_freed_memory()  # as the command does
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        clients = {count: stack.enter_context(workers(count)) for count in (1, 2)}
        for name, problem, samples, shard in SETS:
            torch.set_num_threads(2)
            asked = {"counts": {"train": samples}, "seed": 0, "solver": "multigrid", "shard_samples": shard}
            model = estimate_cost(problem, Path(folder) / "set", **asked)
            candidates = {
                **{f"{n} thread{'s' * (n > 1)}": fresh(problem, asked, Path(folder) / "set", n, None) for n in (1, 2)},
                **{
                    f"{n} worker{'s' * (n > 1)}": fresh(problem, asked, Path(folder) / "set", 1, clients[n])
                    for n in (1, 2)
                },
            }
            rows += set_rows(name, samples, model, interleaved(candidates, repeats=ROUNDS, warmup=1))
            print("\n".join(map(str, rows[-4:])), flush=True)
        torch.set_num_threads(2)
        plan = estimate_cost(
            Darcy(resolution=PLANNED["resolution"]),
            Path(folder) / "set",
            counts={"train": PLANNED["samples"]},
            seed=0,
            solver="multigrid",
        )
    nodes = PLANNED["nodes"] * PLANNED["cores"]
    forecast = plan.on(nodes)
    rows.append(
        {
            "set": f"darcy {PLANNED['resolution']}^2, {PLANNED['samples']:,} samples (plan only)",
            "by": f"{PLANNED['nodes']} nodes of {PLANNED['cores']} cores",
            "samples": PLANNED["samples"],
            "forecast s": forecast.seconds,
            "efficiency": forecast.efficiency,
        }
    )
    record("generation", rows, title="Generating datasets", notes=notes(plan, nodes))


def set_rows(name: str, samples: int, model: CostModel, seconds: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """A row per way of making a set; speed-ups are medians of ratios round by round."""
    rows = []
    for way, measured in seconds.items():
        count, kind = way.split(" ")
        wall = statistics.median(measured)
        forecast = model.on(int(count)).seconds - model.start_seconds
        one = seconds[f"1 {kind.removesuffix('s')}"]
        rows.append(
            {
                "set": name,
                "by": way,
                "samples": samples,
                "seconds": wall,
                "samples/s": samples / wall,
                "speed-up": median_ratio(one, measured),
                "forecast s": forecast,
                "forecast / measured": forecast / wall,
            }
        )
    return rows


def fresh(problem: Problem, asked: Mapping[str, Any], path: Path, threads: int, cluster: Any) -> Callable[[], object]:
    """Make the set anew."""

    def make() -> None:
        torch.set_num_threads(threads)
        shutil.rmtree(path, ignore_errors=True)
        generate(problem, path, cluster=cluster, **asked)

    return make


@contextmanager
def workers(count: int) -> Iterator[Any]:
    """A client of running workers that have imported what they need."""
    with connected(Cluster(f"local:{count}"), SILENT) as connection:
        connection.client.wait_for_workers(count)
        yield connection.client


def notes(plan: CostModel, nodes: int) -> str:
    """What the plan said, and how to read the table."""
    return (
        "Threads and workers have one torch thread each. Forecasts are those of `fieldwright generate --plan`, less the"
        " start-up of workers; they are for workers and stand beside threads for comparison.\n\n"
        "The plan in words:\n\n```\n" + "\n".join(plan.lines(nodes)) + "\n```"
    )


if __name__ == "__main__":
    main()
