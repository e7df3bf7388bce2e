"""What `auto` costs over 1,000 systems, pilot included, against every single method that it could have chosen.

For each family: seconds for the whole set by `auto` and by each method, in turn, kernels loaded, all symbolic work done
anew in every run. A method that a sample of `SOME` systems shows to be more than `FAR` times slower than the best is
not run on the whole set; its row says what the sample extrapolates to.

Run: python benchmarks/choice.py [family ...]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from importlib import import_module

import torch

from fieldwright.problems import ConvectionDiffusion, Darcy, Elasticity, Helmholtz, Poisson, SteadyProblem, Thermal
from fieldwright.solvers import METHODS, Solution, StencilSystem, solve
from fieldwright.solvers.methods import TABLE
from fieldwright.solvers.threads import one_blas_thread
from record import record

SYSTEMS = 1000
ROUNDS = 5
SOME, FAR = 16, 2.5
# One system of these families by these methods takes seconds or hundreds of iterations; they are known to be far off.
SLOW = ("scipy", "gcro-dr", "gmres")


def _waves(resolution: int, walls: str = "dirichlet") -> Helmholtz:
    return Helmholtz(
        resolution=resolution, wavenumber=[16.0, 24.0], medium="gaussian", source="gaussian", wall_low=0.0,
        wall_high=0.0, walls=walls,
    )  # fmt: skip


# Problem and tolerance.
FAMILIES: dict[str, tuple[SteadyProblem, float]] = {
    "Darcy two-phase 32^2": (Darcy(resolution=32), 1e-6),
    "Darcy two-phase 64^2": (Darcy(resolution=64), 1e-6),
    "Darcy two-phase 128^2": (Darcy(resolution=128), 1e-6),
    "Darcy log-normal 64^2": (Darcy(resolution=64, coefficient="log-normal"), 1e-8),
    "Darcy contrast 1e4 64^2": (Darcy(resolution=64, low=1.0, high=1e4), 1e-8),
    "Darcy contrast 1e4 128^2": (Darcy(resolution=128, low=1.0, high=1e4), 1e-8),
    "Darcy 16^3": (Darcy(resolution=16, dimension=3), 1e-8),
    "Darcy 32^3": (Darcy(resolution=32, dimension=3), 1e-6),
    "Poisson 64^2, one matrix": (Poisson(resolution=64), 1e-8),
    "Poisson 128^2, one matrix": (Poisson(resolution=128), 1e-8),
    "Poisson 64^2, periodic": (Poisson(resolution=64, walls="periodic"), 1e-8),
    "Thermal 40 x 64, one matrix": (Thermal(resolution=40), 1e-8),
    "Convection-diffusion 64^2": (ConvectionDiffusion(resolution=64), 1e-8),
    "Convection-diffusion 128^2": (ConvectionDiffusion(resolution=128), 1e-8),
    "Convection-diffusion 16^3": (ConvectionDiffusion(resolution=16, dimension=3, wind="uniform"), 1e-8),
    "Helmholtz 64^2": (_waves(64), 1e-8),
    "Helmholtz 128^2": (_waves(128), 1e-8),
    "Helmholtz, absorbing 64^2": (_waves(64, "absorbing"), 1e-8),
    "Elasticity 32^2": (Elasticity(resolution=32), 1e-8),
}

NOTES = (
    f"Seconds for {SYSTEMS} systems on one thread, median of {ROUNDS} rounds in which the methods took turns. `auto"
    " over best` is auto's wall time over that of the fastest single method, median over rounds; the goal is at most"
    f" 1.10. Methods marked 'sample' were more than {FAR:g} times slower than the best on {SOME} systems and are"
    " extrapolated from these. Samples that a method left unsolved are solved by elimination within its time."
)


def main(families: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for family in families or FAMILIES:
        rows += measure(family, *FAMILIES[family])
        record(
            "choice", rows, title=f"The automatic choice against every single method, {SYSTEMS} systems", notes=NOTES
        )


def measure(family: str, problem: SteadyProblem, rtol: float) -> Iterator[dict[str, object]]:
    """Rows of one family: `auto`, then every method that takes such systems."""
    torch.set_num_threads(1)
    system = _system(problem)
    names = [name for name in METHODS if name == "auto" or TABLE[name].refuse(system) is None]
    sampled = {name: _sample(system, rtol, name) for name in names if name != "auto"}
    best = min(sampled.values())
    near = ["auto", *(name for name, seconds in sampled.items() if seconds <= FAR * best)]
    wall: dict[str, list[float]] = {name: [] for name in near}
    cpu: dict[str, list[float]] = {name: [] for name in near}
    solutions: dict[str, Solution] = {}
    for turn in range(ROUNDS + 1):
        for name in near:
            print(f"{family}: round {turn} of {ROUNDS}: {name}", file=sys.stderr, flush=True)
            seconds, seconds_cpu, solutions[name] = _run(system, rtol, name)
            if turn > 0:  # the first loads what is not loaded yet
                wall[name].append(seconds)
                cpu[name].append(seconds_cpu)
    for name in near:
        yield {
            "family": family,
            "method": name,
            "wall s": statistics.median(wall[name]),
            "cpu s": statistics.median(cpu[name]),
            "auto over best": _over_best(wall) if name == "auto" else None,
            "the same in cpu": _over_best(cpu) if name == "auto" else None,
            "fallbacks": solutions[name].fallbacks,
            "unsolved": len(solutions[name].failed),
            "note": solutions[name].notes[-1] if name == "auto" else "",
        }
    for name, seconds in sampled.items():
        if name not in near:
            yield {"family": family, "method": name, "wall s": seconds * SYSTEMS, "note": "sample"}


def _over_best(times: dict[str, list[float]]) -> float:
    """The time of `auto` over that of the single method that is fastest in the median, median over rounds."""
    best = min((name for name in times if name != "auto"), key=lambda name: statistics.median(times[name]))
    return statistics.median(a / b for a, b in zip(times["auto"], times[best], strict=True))


def _system(problem: SteadyProblem) -> StencilSystem:
    parts = [problem.system(problem.sample(range(first, first + 100), 0)) for first in range(0, SYSTEMS, 100)]
    first = parts[0]
    return StencilSystem(
        torch.cat([part.coefficients for part in parts]), torch.cat([part.rhs for part in parts]), first.offsets,
        first.boundary, first.kind, first.centring, first.nullspace,
    )  # fmt: skip


def _run(system: StencilSystem, rtol: float, name: str) -> tuple[float, float, Solution]:
    """Seconds of wall and processor for the whole set, and its solution."""
    _forget()
    start, start_cpu = time.perf_counter(), time.process_time()
    solution = solve(system, rtol=rtol, method=name)
    return time.perf_counter() - start, time.process_time() - start_cpu, solution


def _sample(system: StencilSystem, rtol: float, name: str) -> float:
    """Seconds a system, kernels loaded and symbolic work done; one system is enough for what is slow."""
    few = system.select(slice(0, 2 if name in SLOW else SOME))
    solve(few, rtol=rtol, method=name, max_iterations=1)
    start = time.perf_counter()
    solve(few, rtol=rtol, method=name)
    return (time.perf_counter() - start) / few.batch


def _forget() -> None:
    """Drop the symbolic work and the factors that are kept from call to call."""
    for place in ("direct._plan", "same_matrix._memory", "transform._refusal", "transform._inverse"):
        module, kept = place.split(".")
        getattr(import_module(f"fieldwright.solvers.{module}"), kept).cache_clear()


if __name__ == "__main__":
    with one_blas_thread():
        main(sys.argv[1:])
