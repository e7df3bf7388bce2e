"""What a machine has for Fieldwright, checked and said in a line each."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import fieldwright
from fieldwright.pipeline.environment import PACKAGES, package_version, processor_name

LEAST_DISK = 2 * 2**30
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Check:
    """One finding; ``good`` is False for what one should mind."""

    name: str
    good: bool
    finding: str


def examine(directory: Path | None = None) -> list[Check]:
    """All checks; ``directory`` is where runs would go (default: the current one)."""
    place = directory or Path.cwd()
    return [_python(), _packages(), _threads(), _kernel_cache(), _disk(place), _accelerator(), _browser()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), f"{version}, fieldwright {fieldwright.__version__}")


def _packages() -> Check:
    versions = {name: package_version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return Check("packages", not missing, f"missing {', '.join(missing)}; {present}" if missing else present)


def _threads() -> Check:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    finding = f"{threads} of {cores} cores ({processor_name()})"
    return Check("threads", threads <= cores, finding + ("" if threads <= cores else "; OMP_NUM_THREADS asks for more"))


def _kernel_cache() -> Check:
    place = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(fieldwright.__file__).parent)
    if os.access(place, os.W_OK):
        return Check("compiled kernels", True, f"kept in {place}")
    return Check("compiled kernels", True, f"kept in the user's cache directory, as {place} is read-only")


def _disk(place: Path) -> Check:
    free = shutil.disk_usage(place).free
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check("disk", False, f"{place}: cannot be written: {error.strerror}")
    return Check("disk", free >= LEAST_DISK, f"{free / 2**30:.1f} GiB free in {place}")


def _accelerator() -> Check:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        return Check("accelerator", True, f"{torch.cuda.get_device_name()}, {memory}")
    if torch.backends.mps.is_available():
        return Check("accelerator", True, "Apple Metal")
    return Check("accelerator", True, "none; everything runs on the CPU")


def _browser() -> Check:
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    return Check("browser", True, found or "none; the report's picture tests are skipped")
