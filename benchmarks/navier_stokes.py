"""Plane Navier-Stokes flow: time per step and time to an error, beside torch-cfd and exponax.

The same decaying turbulence (McWilliams, warmed up, within two thirds of the grid's waves) is advanced by every code to
the same time, with as few equal steps as reach the wanted error: relative L2 of the vorticity against a run on a grid
twice as fine with many steps, compared on the waves that the coarse grid keeps. Of each code the method that gets there
first is shown, in double precision and in single. Then the codes take turns, on one thread with one flow and on two
with several.

Run: python benchmarks/navier_stokes.py [PYTHON [size ...]]

PYTHON is the interpreter of an environment with the peers, apart from ours because of their pins:
``python -m venv peers && peers/bin/pip install torch-cfd==0.2.6 exponax "jax[cpu]"``; by default peers/bin/python
beside this file, or the one that FIELDWRIGHT_PEERS names.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldwright.problems import NavierStokes
from record import record

HERE = Path(__file__).parent
CODES = HERE / "navier_stokes_codes.py"
DURATION = 1.0
# Viscosities that let each grid hold the flow to well below the errors asked for.
VISCOSITY = {64: 0.06, 128: 0.016, 256: 0.004}
TARGETS = (1e-3, 1e-5)
# Flows that two threads share.
FLOWS = {64: 8, 128: 4, 256: 2}
METHODS = {"fieldwright": ("ETDRK4",), "exponax": ("ETDRK4", "ETDRK2"), "torch-cfd": ("RK4-CN", "RK2-CN")}
PRECISIONS = ("float64", "float32")
# Numbers of steps that are tried, each a seventh more than the one before.
LADDER = sorted({round(8 * 2 ** (k / 5)) for k in range(40)})

INSTALL = 'python -m venv peers && peers/bin/pip install torch-cfd==0.2.6 exponax "jax[cpu]"'
TITLE = "Plane Navier-Stokes flow: time per step and time to an error"
NOTES = (
    "`ms` is wall time per flow. `ratio` is the row's time to the solution over Fieldwright's in the same precision,"
    " median over rounds in which all codes took turns. Steps are the fewest of a ladder (each a seventh more) that"
    " reach the error for all flows; a row without them has no method that does. Of each code the fastest method is"
    " shown. Exponax runs compiled, torch-cfd in its own batches, both in Fourier space; one process a code and number"
    " of threads, bound to as many cores."
)


@dataclass(frozen=True)
class Case:
    """Initial flows on one grid, and where they are at the end."""

    problem: NavierStokes
    start: Path
    several: Path
    end: torch.Tensor

    def error(self, fields: np.ndarray) -> float:
        """The largest relative L2 error of the flows, on the waves that the grid keeps."""
        found = self.problem.waves.forward(torch.from_numpy(fields))
        exact = self.end[: len(found)]
        # The half spectrum's norm counts a wave for itself and its conjugate.
        weight = torch.full(found.shape[1:], 2.0)
        weight[:, 0] = 1.0
        size = (weight * exact.abs().square()).sum((1, 2))
        apart = (weight * (found - exact).abs().square()).sum((1, 2))
        return float((apart / size).sqrt().max()) if bool(found.isfinite().all()) else float("inf")


class Code:
    """A code in a process of its own."""

    def __init__(self, name: str, threads: int, python: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE)}
        self._process = subprocess.Popen(
            [python, CODES, name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.name, self.threads = name, threads
        self._answer()

    def run(self, start: Path, steps: int, viscosity: float, method: tuple[str, str], repeats: int) -> dict[str, Any]:
        """Seconds of each repeat, and the fields at the end."""
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            ask = {
                "start": str(start),
                "end": file.name,
                "duration": DURATION,
                "viscosity": viscosity,
                "steps": steps,
                "method": method[0],
                "precision": method[1],
                "repeats": repeats,
            }
            print(json.dumps(ask), file=self._process.stdin, flush=True)
            return self._answer() | {"fields": np.load(file.name)}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"navier_stokes: {self.name} ended with code {self._process.wait()}")
        return json.loads(line)


def main(python: str, sizes: list[int]) -> None:
    rows: list[dict[str, object]] = []
    peers = versions(python)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes or VISCOSITY:
            case = make_case(size, Path(folder))
            for row in measure(case, python):
                rows.append(row)
                record("navier_stokes", rows, title=TITLE, notes=NOTES + " " + peers)


def make_case(size: int, folder: Path) -> Case:
    """Flows within the band of the grid, and the end of a run on a grid twice as fine with many steps."""
    problem = NavierStokes(resolution=size, viscosity=VISCOSITY[size], warm_up=0.5, duration=DURATION, frames=1)
    vorticity = problem.sample(range(FLOWS[size]), 0)[:, 0]
    fine = problem.at(2 * size)
    spectrum, band = problem.waves.forward(vorticity), problem.waves.bands[0]
    padded = torch.zeros(len(vorticity), *fine.waves.modes, dtype=spectrum.dtype)
    padded[:, : band + 1, : band + 1] = spectrum[:, : band + 1]
    padded[:, -band:, : band + 1] = spectrum[:, -band:]
    # Three steps for each that the fine grid needs to be stable.
    states, _ = fine.trajectory(fine.waves.backward(padded)[:, None], method=f"{4 * size} steps")
    far = fine.waves.forward(states[:, 1, 0])
    end = torch.zeros_like(spectrum)
    end[:, : band + 1], end[:, -band:] = far[:, : band + 1, : band + 1], far[:, -band:, : band + 1]
    start, several = folder / f"one-{size}.npy", folder / f"several-{size}.npy"
    np.save(start, vorticity[:1].numpy())
    np.save(several, vorticity.numpy())
    return Case(problem, start, several, end)


def measure(case: Case, python: str) -> Iterator[dict[str, object]]:
    """The rows of one grid, as they come."""
    codes = {
        (name, threads): Code(name, threads, sys.executable if name == "fieldwright" else python)
        for name in METHODS
        for threads in (1, 2)
    }
    try:
        for target in TARGETS:
            best: dict[tuple[str, str], Way | None] = {}
            for precision in PRECISIONS:
                for name in METHODS:
                    # The others begin their search where ours ended.
                    ours = best.get(("fieldwright", precision))
                    first = LADDER.index(ours.steps) if ours else len(LADDER) // 3
                    best[name, precision] = fastest(codes[name, 1], case, target, precision, first)
            for threads, flows in ((1, 1), (2, FLOWS[case.problem.resolution])):
                yield from turns(codes, best, case, target, threads=threads, flows=flows)
    finally:
        for code in codes.values():
            code.close()


@dataclass(frozen=True)
class Way:
    """A way to the error: method and precision, steps, the error, and CPU seconds for all flows on one thread."""

    method: tuple[str, str]
    steps: int
    error: float
    seconds: float


def fastest(code: Code, case: Case, target: float, precision: str, first: int) -> Way | None:
    """The code's quickest way to the error for all flows; None where no method gets there."""
    best: Way | None = None
    for name in METHODS[code.name]:
        method, longest = (name, precision), best.seconds if best else float("inf")
        place, reached, last = first, None, float("inf")
        while 0 <= place < len(LADDER):
            answer = code.run(case.several, LADDER[place], case.problem.viscosity, method, 1)
            error, seconds = case.error(answer["fields"]), answer["cpu"][0]
            print(f"{code.name} {method}: {LADDER[place]} steps, error {error:.2g}", file=sys.stderr, flush=True)
            if error <= target:
                reached = Way(method, LADDER[place], error, seconds)
                place -= 1
            elif reached is not None or 0.98 * last < error < float("inf") or seconds > 1.5 * longest:
                # Fewer steps fall short, more gain nothing, or they would take longer than another method does.
                break
            else:
                place, last = place + 2, error
        if reached is not None and (best is None or reached.seconds < best.seconds):
            best = reached
    return best


def turns(
    codes: dict[tuple[str, int], Code],
    best: dict[tuple[str, str], Way | None],
    case: Case,
    target: float,
    *,
    threads: int,
    flows: int,
) -> list[dict[str, object]]:
    start = case.start if flows == 1 else case.several
    wall: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    error: dict[tuple[str, str], float] = {}
    for _ in range(5):
        for key, choice in best.items():
            if choice is None or sum(wall.get(key, [])) > 3000:
                continue
            answer = codes[key[0], threads].run(start, choice.steps, case.problem.viscosity, choice.method, 1)
            wall.setdefault(key, []).append(1e3 * answer["wall"][0] / flows)
            cpu.setdefault(key, []).append(1e3 * answer["cpu"][0] / flows)
            error[key] = case.error(answer["fields"])
    rows = []
    for (name, precision), choice in best.items():
        row: dict[str, object] = {
            "size": f"{case.problem.resolution}^2",
            "error asked": target,
            "threads": threads,
            "flows": flows,
            "precision": precision,
            "code": name,
        }
        if choice is not None:
            times = wall[name, precision]
            ours = wall["fieldwright", precision][: len(times)] if best["fieldwright", precision] else []
            row |= {
                "method": choice.method[0],
                "steps": choice.steps,
                "error": error[name, precision],
                "ms per step": statistics.median(times) / choice.steps,
                "ms to solution": statistics.median(times),
                "cpu ms": statistics.median(cpu[name, precision]),
                "ratio": statistics.median(a / b for a, b in zip(times, ours, strict=True)) if ours else None,
            }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def versions(python: str) -> str:
    """The peers' versions, as their environment says.

    Errors: `SystemExit` with how to make the environment, where there is none.
    """
    script = (
        "from importlib.metadata import version;"
        "print(', '.join(f'{n} {version(n)}' for n in ('torch-cfd', 'torch', 'exponax', 'jax', 'jaxlib')))"
    )
    try:
        found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(f"navier_stokes: no torch-cfd and exponax at {python}; make it with {INSTALL}") from None
    return f"The peers' environment: {found.strip()}."


if __name__ == "__main__":
    arguments = sys.argv[1:]
    named = [a for a in arguments if not a.isdigit()]
    peers = named[0] if named else os.environ.get("FIELDWRIGHT_PEERS", str(HERE / "peers" / "bin" / "python"))
    main(peers, [int(a) for a in arguments if a.isdigit()])
