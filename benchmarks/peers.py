"""Other people's solvers, each as a call that solves a list of assembled systems; or the reason why it is not here.

Peers run at their default settings on one thread, their symbolic work done once where they can reuse it. What is not
installed is named in the table rather than left out.
"""

from __future__ import annotations

import glob
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from fieldwright.solvers import StencilSystem

# MKL's sequential layer: no second OpenMP beside torch's.
os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")
DEBIAN_PETSC = "/usr/lib/petscdir/*/*-real"


@dataclass(frozen=True)
class Run:
    """Solutions (sample, unknown) and the seconds they took, of wall and of processor."""

    values: np.ndarray
    wall: float
    cpu: float


@dataclass(frozen=True)
class Peer:
    """A solver under its name, or what keeps it from running."""

    name: str
    run: Callable[[], Run] | None
    reason: str = ""


@dataclass(frozen=True)
class Assembled:
    """Systems as SciPy has them: rows, columns and right-hand sides."""

    rows: list[scipy.sparse.csr_array]
    columns: list[scipy.sparse.csc_array]
    rhs: list[np.ndarray]

    @classmethod
    def of(cls, system: StencilSystem, count: int) -> Assembled:
        """The first systems of a batch, indices sorted."""
        rows = [system.to_csr(i) for i in range(count)]
        for matrix in rows:
            matrix.sort_indices()
        columns = [matrix.tocsc() for matrix in rows]
        for matrix in columns:
            matrix.sort_indices()
        return cls(rows, columns, [system.rhs[i].reshape(-1).numpy() for i in range(count)])


def timed(solve: Callable[[], list[np.ndarray]]) -> Callable[[], Run]:
    """A call measured in this process."""

    def run() -> Run:
        start, start_cpu = time.perf_counter(), time.process_time()
        values = solve()
        return Run(np.stack(values), time.perf_counter() - start, time.process_time() - start_cpu)

    return run


def spsolve(systems: Assembled) -> Peer:
    """The baseline: SuperLU with a new column ordering for every system."""

    def solve() -> list[np.ndarray]:
        return [scipy.sparse.linalg.spsolve(a, f) for a, f in zip(systems.columns, systems.rhs, strict=True)]

    return Peer("scipy spsolve", timed(solve))


def splu_reused(systems: Assembled, *, definite: bool) -> Peer:
    """SuperLU, the fill-reducing order (minimum degree on A + Aᵀ) computed once; rows are exchanged where they must."""
    first = systems.columns[0]
    threshold, options = 0.0 if definite else 0.1, {"SymmetricMode": True}
    order = np.argsort(
        scipy.sparse.linalg.splu(first, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=threshold, options=options).perm_c
    )
    numbered = scipy.sparse.csc_array((np.arange(first.nnz), first.indices, first.indptr), shape=first.shape)
    pattern = numbered[order][:, order].tocsc()
    pattern.sort_indices()

    def solve() -> list[np.ndarray]:
        found = []
        for a, f in zip(systems.columns, systems.rhs, strict=True):
            permuted = scipy.sparse.csc_array((a.data[pattern.data], pattern.indices, pattern.indptr), shape=a.shape)
            factors = scipy.sparse.linalg.splu(
                permuted, permc_spec="NATURAL", diag_pivot_thresh=threshold, options=options
            )
            u = np.empty_like(f)
            u[order] = factors.solve(f[order])
            found.append(u)
        return found

    return Peer("scipy splu, order computed once", timed(solve))


def cholmod(systems: Assembled) -> Peer:
    """CHOLMOD, analysed once."""
    name = "CHOLMOD, symbolic work reused"
    try:
        from sksparse.cholmod import analyze
    except ImportError as error:
        return Peer(name, None, f"scikit-sparse is not installed ({error})")
    matrices = [scipy.sparse.csc_matrix(a) for a in systems.columns]
    factor = analyze(matrices[0])

    def solve() -> list[np.ndarray]:
        found = []
        for a, f in zip(matrices, systems.rhs, strict=True):
            factor.cholesky_inplace(a)
            found.append(factor(f))
        return found

    return Peer(name, timed(solve))


def pardiso(systems: Assembled, kind: str) -> Peer:
    """MKL Pardiso, analysed once: Cholesky, LDLᵀ or LU by the kind of system."""
    name = "MKL Pardiso, symbolic work reused"
    try:
        from pypardiso import PyPardisoSolver

        solver = PyPardisoSolver(mtype={"spd": 2, "symmetric": -2, "general": 11}[kind])
    except ImportError as error:
        return Peer(name, None, f"pypardiso is not installed ({error})")
    matrices = [scipy.sparse.csr_matrix(a if kind == "general" else scipy.sparse.triu(a)) for a in systems.rows]
    for a in matrices:
        a.sort_indices()
    solver.set_phase(11)
    solver._call_pardiso(matrices[0], systems.rhs[0])

    def solve() -> list[np.ndarray]:
        solver.set_phase(23)
        return [solver._call_pardiso(a, f) for a, f in zip(matrices, systems.rhs, strict=True)]

    return Peer(name, timed(solve))


def pyamg(systems: Assembled, rtol: float) -> Peer:
    """Ruge-Stüben multigrid, set up anew, in SciPy's CG, whose criterion is the residual's own norm."""
    name = "PyAMG RS + CG"
    try:
        import pyamg
    except ImportError as error:
        return Peer(name, None, f"pyamg is not installed ({error})")
    matrices = [scipy.sparse.csr_matrix(a) for a in systems.rows]

    def solve() -> list[np.ndarray]:
        found = []
        for a, f in zip(matrices, systems.rhs, strict=True):
            hierarchy = pyamg.ruge_stuben_solver(a)
            found.append(scipy.sparse.linalg.cg(a, f, rtol=0.95 * rtol, M=hierarchy.aspreconditioner())[0])
        return found

    return Peer(name, timed(solve))


class Petsc:
    """PETSc in a process of its own. Use as a context; ``peers`` are its solvers or the reason why there are none."""

    def __init__(
        self, systems: Assembled, rtol: float, pairs: dict[str, tuple[str, str]], *, limit: int = 20_000
    ) -> None:
        self._systems, self._rtol, self._pairs, self._limit = systems, rtol, pairs, limit
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> list[Peer]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        found = os.environ.get("PETSC_DIR") or next(iter(sorted(glob.glob(DEBIAN_PETSC))), None)
        python = os.environ.get("PETSC_PYTHON", "/usr/bin/python3")
        if found is None or not Path(python).exists():
            return self._none("petsc4py is not installed (apt install python3-petsc4py)")
        self._path = str(Path(self._folder.name) / "systems.npz")
        first = self._systems.rows[0]
        np.savez(
            self._path,
            rows_at=first.indptr.astype(np.int32),
            columns=first.indices.astype(np.int32),
            values=np.stack([a.data for a in self._systems.rows]),
            rhs=np.stack(self._systems.rhs),
        )
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("petsc_peer.py")), self._path, str(self._rtol), str(self._limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PETSC_DIR": found},
        )
        greeting = self._process.stdout.readline()  # type: ignore[union-attr]
        if not greeting:
            told = self._process.stderr.read().strip().splitlines()  # type: ignore[union-attr]
            return self._none(f"petsc4py does not start: {told[-1] if told else 'no message'}")
        version = json.loads(greeting)["version"]
        return [Peer(f"PETSc {version} {name}", self._call(*pair)) for name, pair in self._pairs.items()]

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait(30)
        self._folder.cleanup()

    def _none(self, reason: str) -> list[Peer]:
        return [Peer(f"PETSc {name}", None, reason) for name in self._pairs]

    def _call(self, method: str, preconditioner: str) -> Callable[[], Run]:
        def run() -> Run:
            process = self._process
            process.stdin.write(f"{method} {preconditioner}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            spent = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            values = np.load(f"{self._path}.{method}.{preconditioner}.npy")
            return Run(values, spent["wall"], spent["cpu"])

        return run


def ours(system: StencilSystem, method: str, threads: int, rtol: float) -> Callable[[], Run]:
    """One of our methods on a batch, on some threads, packing into lanes and all else included."""
    from fieldwright.solvers import solve

    def run() -> Run:
        torch.set_num_threads(threads)
        start, start_cpu = time.perf_counter(), time.process_time()
        values = solve(system, rtol=rtol, method=method).values
        spent, spent_cpu = time.perf_counter() - start, time.process_time() - start_cpu
        torch.set_num_threads(1)
        return Run(values.reshape(system.batch, -1).numpy(), spent, spent_cpu)

    return run


def residuals(system: StencilSystem, values: np.ndarray) -> torch.Tensor:
    """The true relative residuals of solutions of the first systems of a batch."""
    some = system.select(slice(0, len(values)))
    return some.relative_residual(torch.from_numpy(values).reshape(some.rhs.shape))


@dataclass
class Contest:
    """Candidates that take turns, and what they took: seconds a system per round."""

    name: str
    threads: int
    systems: int
    run: Callable[[], Run] | None
    reason: str = ""
    tolerance: float = 1.0
    wall: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()
    residual: float = float("nan")


def take_turns(contestants: list[Contest], system: StencilSystem, rtol: float, rounds: int) -> Iterator[str]:
    """Run every candidate once unmeasured, to compile and to check its answer, then in turn; yields what goes on."""
    for one in contestants:
        one.tolerance = rtol
    for turn in range(rounds + 1):
        for one in contestants:
            if one.run is None:
                continue
            yield f"round {turn} of {rounds}: {one.name}, {one.threads} threads"
            done = one.run()
            if turn == 0:
                one.residual = float(residuals(system, done.values).max())
            else:
                one.wall += (done.wall / one.systems,)
                one.cpu += (done.cpu / one.systems,)


def rows_of(contestants: list[Contest], **labels: object) -> Iterator[dict[str, object]]:
    """A table's rows: the first candidate on one thread is what the others are compared with."""
    reference = contestants[0].wall
    for one in contestants:
        if one.run is None:
            yield {**labels, "solver": one.name, "threads": one.threads, "note": one.reason}
            continue
        single = next(other.wall for other in contestants if other.name == one.name)
        yield {
            **labels,
            "solver": one.name,
            "threads": one.threads,
            "wall ms": 1e3 * statistics.median(one.wall),
            "cpu ms": 1e3 * statistics.median(one.cpu),
            "ratio": statistics.median(a / b for a, b in zip(reference, one.wall, strict=True)),
            "two threads over one": (
                statistics.median(a / b for a, b in zip(single, one.wall, strict=True)) if one.threads == 2 else None
            ),
            "worst residual": one.residual,
            "note": "" if one.residual <= one.tolerance else "did not reach the tolerance",
        }
