"""Hyperbolic problems on the CPU: compiled sweeps against the same arithmetic in torch, and sweeps against Runge-Kutta.

    python benchmarks/hyperbolic.py

One thread. The first table counts cells (points) updated per second in steps of prescribed number, and the seconds of a
whole sample with its problem's defaults, CFL control or the check by halving included. The second puts the error
against a grid eight times finer, in the density's relative L1 norm, beside the seconds it took: Hancock's sweeps at 0.8
of a cell per axis, compiled and in torch, and Runge-Kutta steps of order 2 at 0.4 for both axes, in torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from fieldwright.problems import CompressibleEuler, ShallowWater, Wave
from fieldwright.problems.hyperbolic_problem import HyperbolicProblem, cell_means
from record import interleaved, record

GAS = CompressibleEuler(states="smooth")
CASES: dict[str, tuple[HyperbolicProblem, int]] = {
    "gas, 128 x 128": (GAS, 40),
    "gas, 512 x 512": (GAS.at(512), 10),
    "gas, 1024 cells": (replace(GAS, resolution=1024, dimension=1), 400),
    "shallow water, 128 x 128": (ShallowWater(states="bumps", bottom="bumps", walls="periodic"), 40),
}
FAMILIES = ("smooth", "riemann", "kelvin-helmholtz", "vortices")
DIFFERENCES = 80


def main() -> None:
    torch.set_num_threads(1)
    rows = [flow_speed(name, problem, steps) for name, (problem, steps) in CASES.items()]
    rows += [
        wave_speed(f"waves, 128 x 128, order {order} in time", replace(Wave(), time_order=order)) for order in (2, 8)
    ]
    title = "Hyperbolic problems: updates per second, compiled and in torch"
    print(record("hyperbolic", rows, title=title).read_text())
    rows = [row for family in FAMILIES for row in accuracy(family)]
    title = "Compressible Euler on 64 x 64 cells: error against 512 x 512, and what it costs"
    print(record("hyperbolic_accuracy", rows, title=title).read_text())


def flow_speed(name: str, problem: HyperbolicProblem, steps: int) -> dict[str, object]:
    """Cells a second of a sweep over all axes, and seconds of a sample."""
    fields = problem.primitive(problem.sample([0], 0))
    scheme, interval = problem.scheme, steps * 0.1 * min(problem.grid.spacing) / 3
    paths = {
        "compiled": lambda: scheme.march_lanes(fields, interval, 1, steps),
        "torch": lambda: scheme.march_tensors(fields, interval, 1, steps),
    }
    return speeds(name, paths, steps * problem.grid.points) | {"seconds a sample": seconds_of_sample(problem)}


def wave_speed(name: str, problem: Wave) -> dict[str, object]:
    """Points a second of one second difference over all axes, and seconds of a sample."""
    inputs, count = problem.sample([0], 0), DIFFERENCES // (1 if problem.time_order == 2 else problem.time_order)
    still = torch.zeros_like(inputs[:, 0])
    arguments = (inputs[:, 0], inputs[:, 1], inputs[:, 2].square(), still, 1e-4, 1, count)
    paths = {
        "compiled": lambda: problem.oscillation.march_compiled(*arguments),
        "torch": lambda: problem.oscillation.march_tensors(*arguments),
    }
    row = speeds(name, paths, DIFFERENCES * problem.grid.points)
    # Order 2 has no tolerance to be checked against here: twice the steps that are stable.
    checked = problem if problem.time_order > 2 else replace(problem, steps=2 * problem.least_steps(inputs))
    return row | {"seconds a sample": seconds_of_sample(checked)}


def speeds(name: str, paths: Mapping[str, Callable[[], object]], updates: int) -> dict[str, object]:
    """Millions of updates a second of both paths, and the median of their ratios."""
    seconds = interleaved(paths)
    rates = {path: updates / statistics.median(found) / 1e6 for path, found in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(seconds["compiled"], seconds["torch"], strict=True))
    return {
        "case": name,
        "compiled, million a second": round(rates["compiled"], 1),
        "torch, million a second": round(rates["torch"], 2),
        "ratio": round(ratio, 1),
    }


def seconds_of_sample(problem: HyperbolicProblem | Wave) -> float:
    """Median wall seconds of a whole trajectory."""
    inputs = problem.sample([1], 0)
    found = interleaved({"sample": lambda: problem.trajectory(inputs)}, repeats=3)["sample"]
    return round(statistics.median(found), 3)


def accuracy(family: str) -> list[dict[str, object]]:
    """Error and seconds of one sample by each way of stepping."""
    problem = CompressibleEuler(resolution=64, states=family, duration=0.25, frames=1)  # type: ignore[arg-type]
    finest = problem.at(512)
    reference = cell_means(finest.integrate(finest.sample([3], 0), frames=1, steps=1)[0, 0, :1], 8)
    fields = problem.sample([3], 0)
    ways = {
        "sweeps, compiled": lambda: problem.scheme.march_lanes(fields, 0.25, 1),
        "sweeps, torch": lambda: problem.scheme.march_tensors(fields, 0.25, 1),
        "Runge-Kutta, torch": lambda: replace(problem, stepping="ssp2").scheme.march_tensors(fields, 0.25, 1),
    }
    seconds = interleaved(ways, repeats=3)
    rows = []
    for way, call in ways.items():
        gap = (call()[0, 0, :1] - reference).abs().mean() / reference.mean()
        took = statistics.median(seconds[way])
        rows.append({"states": family, "way": way, "error": f"{float(gap):.2e}", "seconds": round(took, 4)})
    return rows


if __name__ == "__main__":
    main()
