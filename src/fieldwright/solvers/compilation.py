"""Compiled kernels: whether a method's are ready, and the notice that a person sees before they are first compiled."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from fieldwright.progress import Reporter

KERNELS = {
    "direct": ("nested_dissection", "fronts", "lane_refinement"),
    "same-matrix": ("nested_dissection", "fronts", "lane_refinement"),
    "multigrid": ("multigrid_2d", "multigrid_3d"),
    "gmres": ("krylov.vector_kernels", "krylov.matrix_kernels"),
    "gcro-dr": ("krylov.vector_kernels", "krylov.matrix_kernels"),
}
# Seconds that a method's kernels take to compile, and to load from the cache on disk.
COMPILE_SECONDS, LOAD_SECONDS = 15.0, 0.4


def announce_compilation(reporter: Reporter, method: str, kernels: Sequence[str] = ()) -> None:
    """One line through ``reporter`` if the kernels of ``method`` have not been compiled on this machine yet.

    ``kernels`` are further modules of the solvers, of a method that has no entry in `KERNELS`. Numba keeps compiled
    kernels on disk, so this takes seconds once, not once a run.
    """
    # Looking for kernels on disk takes a millisecond, which nobody who is told nothing should pay for every batch.
    if not reporter.quiet and (needs_compilation(method) or not all(map(_compiled, kernels))):
        reporter.notice(f"Compiling the {method} solver for this machine, once (about 10 to 20 seconds) ...")


def needs_compilation(method: str) -> bool:
    """Whether a kernel module of ``method`` is neither loaded in this process nor found in numba's cache."""
    return any(not _compiled(name) for name in KERNELS.get(method, ()))


def preparation_seconds(method: str) -> float:
    """About how long the first call of ``method`` takes in this process before it begins to solve."""
    names = KERNELS.get(method, ())
    if not names or any(kernel.signatures for name in names for kernel in _kernels(name)):
        return 0.0
    return COMPILE_SECONDS if needs_compilation(method) else LOAD_SECONDS


def _compiled(name: str) -> bool:
    kernels = _kernels(name)
    if any(kernel.signatures for kernel in kernels):
        return True
    # The index files of a cached kernel are named module.function-line.version.nbi.
    module = name.rpartition(".")[2]
    found = (Path(kernel._cache.cache_path).glob(f"{module}.*.nbi") for kernel in kernels)  # type: ignore[attr-defined]
    return not kernels or any(True for files in found for _ in files)


def _kernels(name: str) -> list[Dispatcher]:
    """The kernels that a module of the solvers defines; none where it does not exist."""
    try:
        module = importlib.import_module(f"fieldwright.solvers.{name}")
    except ImportError:
        return []
    return [k for k in vars(module).values() if isinstance(k, Dispatcher) and k.py_func.__module__ == module.__name__]
