"""The notice that a person sees before numba compiles kernels for the first time on a machine."""

from __future__ import annotations

import importlib
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from fieldwright.progress import Reporter

KERNELS = {
    "direct": ("nested_dissection", "fronts", "lane_refinement"),
    "multigrid": ("multigrid_2d", "multigrid_3d"),
}


def announce_compilation(reporter: Reporter, method: str) -> None:
    """One line through ``reporter`` if the kernels of ``method`` have not been compiled on this machine yet.

    Numba keeps compiled kernels on disk, so this takes seconds once, not once a run.
    """
    if needs_compilation(method):
        reporter.notice(f"Compiling the {method} solver for this machine, once (about 10 to 20 seconds) ...")


def needs_compilation(method: str) -> bool:
    """Whether a kernel module of ``method`` is neither loaded in this process nor found in numba's cache."""
    return any(not _compiled(name) for name in KERNELS.get(method, ()))


def _compiled(name: str) -> bool:
    try:
        module = importlib.import_module(f"fieldwright.solvers.{name}")
    except ImportError:
        return True
    kernels = [
        k for k in vars(module).values() if isinstance(k, Dispatcher) and k.py_func.__module__ == module.__name__
    ]
    if any(kernel.signatures for kernel in kernels):
        return True
    # The index files of a cached kernel are named module.function-line.version.nbi.
    found = (Path(kernel._cache.cache_path).glob(f"{name}.*.nbi") for kernel in kernels)  # type: ignore[attr-defined]
    return not kernels or any(True for files in found for _ in files)
