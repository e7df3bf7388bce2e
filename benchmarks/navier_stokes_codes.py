"""Flow solvers behind one question: this vorticity, that many steps; where is it, and how long did it take?

Run by `navier_stokes.py` as a process per code and number of threads, in the environment that holds the code:

    python benchmarks/navier_stokes_codes.py {fieldwright | torch-cfd | exponax} THREADS

A line of JSON comes in (``start`` and ``end`` files of arrays (flow, x, y), ``duration``, ``viscosity``, ``steps``,
``method``, ``precision``, ``repeats``), a line goes out: wall and CPU seconds of every repeat. Stepping is timed in
Fourier space, from transformed to transformed vorticity, with everything compiled and the coefficients of a step made
before.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

LENGTH = 2 * math.pi


def main(code: str, threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # Before the libraries start their threads.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import numpy as np

    prepare = {"fieldwright": fieldwright_code, "torch-cfd": torch_cfd_code, "exponax": exponax_code}[code](threads)
    print(json.dumps({"ready": code}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        start = np.load(ask["start"])
        advance, finish = prepare(start, ask)
        end = advance()
        wall, cpu = [], []
        for _ in range(ask["repeats"]):
            began, began_cpu = time.perf_counter(), time.process_time()
            end = advance()
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
        np.save(ask["end"], finish(end))
        print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)


Run = tuple[Callable[[], Any], Callable[[Any], Any]]


def fieldwright_code(threads: int) -> Callable[[Any, dict], Run]:
    import torch

    from fieldwright.problems import NavierStokes
    from fieldwright.solvers.threads import on_threads

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    def prepare(start: Any, ask: dict) -> Run:
        problem = NavierStokes(
            resolution=start.shape[-1],
            length=LENGTH,
            viscosity=ask["viscosity"],
            duration=ask["duration"],
            frames=1,
        )
        inputs = torch.from_numpy(start)[:, None].to(getattr(torch, ask["precision"]))
        spectrum = problem.waves.forward(inputs)
        step = ask["duration"] / ask["steps"]

        def block(place: slice) -> torch.Tensor:
            return problem.stepper(inputs[place], step, spectrum.dtype)(spectrum[place], ask["steps"])

        share = -(-len(inputs) // threads)
        places = [slice(i, i + share) for i in range(0, len(inputs), share)]

        def advance() -> list[torch.Tensor]:
            return on_threads(block, places)

        return advance, lambda end: problem.waves.backward(torch.cat(end))[:, 0].double().numpy()

    return prepare


def torch_cfd_code(threads: int) -> Callable[[Any, dict], Run]:
    import torch
    from torch_cfd.grids import Grid
    from torch_cfd.spectral import IMEXStepper, NavierStokes2DSpectral, RK4CrankNicolsonStepper

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    def prepare(start: Any, ask: dict) -> Run:
        dtype = getattr(torch, ask["precision"])
        # Its tableaux and meshes take the default type.
        torch.set_default_dtype(dtype)
        n = start.shape[-1]
        grid = Grid(shape=(n, n), domain=((0, LENGTH), (0, LENGTH)))
        method = {"RK4-CN": RK4CrankNicolsonStepper, "RK2-CN": IMEXStepper}[ask["method"]]()
        equation = NavierStokes2DSpectral(viscosity=ask["viscosity"], grid=grid, smooth=True, step_fn=method).to(dtype)
        spectrum = torch.fft.rfft2(torch.from_numpy(start).to(dtype))
        step = ask["duration"] / ask["steps"]

        def advance() -> torch.Tensor:
            return equation(spectrum, step, steps=ask["steps"])[0]

        return advance, lambda end: torch.fft.irfft2(end).double().numpy()

    return prepare


def exponax_code(threads: int) -> Callable[[Any, dict], Run]:
    os.environ["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    )
    import equinox
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    import exponax

    @equinox.filter_jit
    def repeated(stepper: Any, spectra: Any, steps: int) -> Any:
        one = jax.vmap(stepper.step_fourier)
        return jax.lax.fori_loop(0, steps, lambda _, state: one(state), spectra)

    def prepare(start: Any, ask: dict) -> Run:
        jax.config.update("jax_enable_x64", ask["precision"] == "float64")
        n = start.shape[-1]
        stepper = exponax.stepper.NavierStokesVorticity(
            2,
            LENGTH,
            n,
            ask["duration"] / ask["steps"],
            diffusivity=ask["viscosity"],
            order=int(ask["method"][-1]),
        )
        # Its stream function has the other sign, so that -ω moves as ω does elsewhere.
        spectra = jax.vmap(lambda w: exponax.fft(w, num_spatial_dims=2))(jnp.asarray(-start[:, None], ask["precision"]))
        steps = jnp.asarray(ask["steps"])

        def advance() -> Any:
            return repeated(stepper, spectra, steps).block_until_ready()

        def finish(end: Any) -> Any:
            fields = jax.vmap(lambda s: exponax.ifft(s, num_spatial_dims=2, num_points=n))(end)
            return -np.asarray(fields[:, 0], dtype=np.float64)

        return advance, finish

    return prepare


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
