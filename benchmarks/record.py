"""Where a benchmark's figures go, and how two candidates are timed fairly.

`record` writes ``results/<name>.json`` and ``results/<name>.md``: the rows, with the machine, the threads, the versions
and the date beside them, so that a figure is never read without what it was measured on. `interleaved` times candidates
in turn rather than one after the other, so that a machine that slows down half-way slows all of them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fieldwright", "torch", "numpy", "scipy", "numba", "h5py", "lightning-fabric", "neuraloperator", "pyamg")


def record(
    name: str, rows: Sequence[Mapping[str, Any]], *, title: str, notes: str = "", directory: Path = RESULTS
) -> Path:
    """Write a table of measurements as ``<name>.json`` and ``<name>.md``; returns the path of the latter.

    ``rows`` are flat mappings from column to a number, string or None; a column that some row lacks stays empty there.
    Each file is written under a temporary name and renamed, so a reader never meets half a table.

    Errors: `ValueError` when there are no rows.
    """
    if not rows:
        raise ValueError(
            f"record: no rows for '{name}'; a benchmark that measured nothing must fail, not write a table"
        )
    machine = describe_machine()
    content = {"name": name, "title": title, "notes": notes, "machine": machine, "rows": [dict(row) for row in rows]}
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / f"{name}.json", json.dumps(content, indent=1, default=_plain) + "\n")
    text = (
        f"# {title}\n\n{markdown_table(rows)}\n\n" + (f"{notes.strip()}\n\n" if notes else "") + _machine_line(machine)
    )
    _replace(directory / f"{name}.md", text)
    return directory / f"{name}.md"


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Wall seconds of each candidate, ``repeats`` times in turn after ``warmup`` unmeasured rounds."""
    for _ in range(warmup):
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median of the ratios round by round, which a drift of the machine's speed leaves alone."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads in use, library versions and date."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": _threads(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; floats with four significant digits, a missing value as a dash."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_shown(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    value = _plain(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python's own; anything else as its text."""
    if isinstance(value, (str, int, float, list, dict)):
        return value
    return value.item() if hasattr(value, "item") else str(value)


def _machine_line(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads = ", ".join(f"{name} {count}" for name, count in machine["threads"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; threads: {threads}; "
        f"Python {machine['python']}, {versions}; {machine['date']}.\n"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _threads() -> dict[str, int]:
    # Numba is not asked: the question starts its OpenMP pool, which changes the threads of torch's and MKL's, and our
    # kernels never run in that pool.
    counts = {}
    if "torch" in sys.modules:
        counts["torch"] = sys.modules["torch"].get_num_threads()
    counts["OMP_NUM_THREADS"] = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    return {name: count for name, count in counts.items() if count}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
