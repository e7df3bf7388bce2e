"""What a run ran on: versions, machine, threads, and the commit of the source when there is one."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fieldwright

PACKAGES = (
    "torch", "numpy", "scipy", "numba", "h5py", "lightning-fabric", "safetensors", "huggingface_hub", "pydantic",
)  # fmt: skip


def environment(device: str = "cpu") -> dict[str, Any]:
    """Facts as plain values, for ``environment.json`` and the report."""
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    return {
        "fieldwright": fieldwright.__version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "device": device,
        "accelerator": torch.cuda.get_device_name(device) if on_gpu else None,
    }


def package_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """The processor's model, as the system knows it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_commit() -> str | None:
    """The commit of the checkout this package is run from, with "+changes" when files differ; None when installed."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(here: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return answer.stdout.strip()
