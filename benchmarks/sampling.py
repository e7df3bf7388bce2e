"""Milliseconds per Gaussian random field, ours against what the FNO papers' generators do, on one thread and two.

Ours depend on (seed, index) alone, to the last bit, and refine with the grid; the others draw a whole batch from one
stream. "FNO's way" is a restatement of the papers' periodic generator: complex normal numbers on all wavenumbers, the
real part of their inverse FFT, a batch at a time in torch (float64). "scipy" draws a cosine series field by field.
Candidates take turns; CPU time is the process's own.

Run: python benchmarks/sampling.py [size ...]
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.fft
import torch

from fieldwright.grids import Grid
from fieldwright.problems import gaussian_field
from record import record

# Points per axis, dimension, fields per call and rounds.
SIZES = {"64^2": (64, 2, 256, 5), "128^2": (128, 2, 128, 5), "256^2": (256, 2, 32, 5), "512^2": (512, 2, 8, 5),
         "32^3": (32, 3, 64, 5)}  # fmt: skip
ALPHA, TAU = 2.5, 7.0
GOAL = "Goal: below 0.44 ms per 128 x 128 field in float64 on one thread. "
NOTES = (
    GOAL
    + "`ratio` is the wall time of FNO's way on one thread over the row's, median over rounds in which all rows took"
    " turns. All fields have the spectrum (|κ|² + 49)^(-2.5)."
)


def main(sizes: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for size in sizes or SIZES:
        points, dimension, fields, rounds = SIZES[size]
        seconds: dict[str, list[tuple[float, float]]] = {}
        for _ in range(rounds + 1):
            for name, (threads, call) in candidates(points, dimension, fields).items():
                torch.set_num_threads(threads)
                wall, cpu = time.perf_counter(), time.process_time()
                call()
                seconds.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - cpu))
        base = [wall for wall, _ in seconds["FNO's way, 1 thread"][1:]]
        for name, taken in seconds.items():
            walls, cpus = ([pair[i] for pair in taken[1:]] for i in range(2))
            rows.append(
                {
                    "size": size,
                    "candidate": name,
                    "wall_ms": 1e3 * statistics.median(walls) / fields,
                    "cpu_ms": 1e3 * statistics.median(cpus) / fields,
                    "ratio": statistics.median(a / b for a, b in zip(base, walls, strict=True)),
                }
            )
            print(rows[-1])
    print(record("sampling", rows, title="Milliseconds per Gaussian random field", notes=NOTES))


def candidates(points: int, dimension: int, fields: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Threads and call of each candidate."""
    shape = (points,) * dimension
    periodic, cells = Grid(shape, "periodic"), Grid(shape)

    def ours(grid: Grid, walls: str) -> Callable[[], object]:
        return lambda: gaussian_field(grid, range(fields), 0, alpha=ALPHA, tau=TAU, walls=walls)  # type: ignore[arg-type]

    return {
        "FNO's way, 1 thread": (1, lambda: complex_batch(shape, fields)),
        "scipy, 1 thread": (1, lambda: cosine_series(shape, fields)),
        "ours, periodic, 1 thread": (1, ours(periodic, "periodic")),
        "ours, cosines, 1 thread": (1, ours(cells, "neumann")),
        "FNO's way, 2 threads": (2, lambda: complex_batch(shape, fields)),
        "ours, periodic, 2 threads": (2, ours(periodic, "periodic")),
        "ours, cosines, 2 threads": (2, ours(cells, "neumann")),
    }


def complex_batch(shape: tuple[int, ...], fields: int) -> torch.Tensor:
    """Periodic fields as the FNO papers draw them."""
    waves = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in shape]
    squares = sum(w**2 for w in torch.meshgrid(*waves, indexing="ij"))
    root = TAU ** (ALPHA - len(shape) / 2) * (4 * math.pi**2 * squares + TAU**2) ** (-ALPHA / 2)
    root[(0,) * len(shape)] = 0
    numbers = torch.randn(fields, *shape, dtype=torch.complex128)
    return torch.fft.ifftn(numbers * root * math.sqrt(2) * math.prod(shape), dim=tuple(range(1, len(shape) + 1))).real


def cosine_series(shape: tuple[int, ...], fields: int) -> list[np.ndarray]:
    """Fields with no slope at the walls, one after the other."""
    generator = np.random.default_rng(0)
    squares = sum(np.square(w) for w in np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    root = TAU ** (ALPHA - len(shape) / 2) * (math.pi**2 * squares + TAU**2) ** (-ALPHA / 2)
    root[(0,) * len(shape)] = 0
    scale = math.sqrt(math.prod(shape))
    return [scipy.fft.idctn(scale * root * generator.standard_normal(shape), norm="ortho") for _ in range(fields)]


if __name__ == "__main__":
    main(sys.argv[1:])
