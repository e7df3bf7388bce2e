"""All benchmarks, one after the other, each in a process of its own so that none warms another's caches or threads.

Run: make bench, or python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"run", "record", "navier_stokes_codes", "published_operators"}


def names() -> list[str]:
    """The benchmarks: every file beside this one that says how to run it."""
    return sorted(
        path.stem
        for path in HERE.glob("*.py")
        if path.stem not in NOT_BENCHMARKS and "__main__" in path.read_text(encoding="utf-8")
    )


def main(wanted: list[str]) -> int:
    """Run the benchmarks named, or all; the exit code is the number that failed."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"run: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or names():
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        code = subprocess.run([sys.executable, HERE / f"{name}.py"], cwd=HERE).returncode
        print(f"== {name}: exit {code} after {time.perf_counter() - start:.0f} s", flush=True)
        if code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
