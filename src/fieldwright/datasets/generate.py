"""Draw instances of a problem, solve them, store what converged: shard by shard, resumable to the bit."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.atomic import PARTIAL
from fieldwright.datasets.plan import PLAN_FILE, SPLIT_ORIGINS, Plan, Record, Shard, finished, read_plan
from fieldwright.datasets.statistics import STATISTICS_FILE, write_statistics
from fieldwright.datasets.store import ShardContent, StoredField, StoredScalar, write_shard
from fieldwright.errors import InputError, SolverError, StorageError
from fieldwright.problems import PROBLEMS, Field, Problem
from fieldwright.progress import SILENT, Reporter, Stage
from fieldwright.settings import class_name
from fieldwright.solvers import announce_compilation

_UNKNOWNS_PER_SOLVE = 1 << 20
_PILOT_SAMPLES = 16
_SHARD_BYTES = 1 << 28
# The Well's normalisers clip standard deviations at 1e-4; a field ten times larger than that is safe.
_LEAST_NATURAL_SCALE = 1e-3

RESIDUAL_MEANS = {
    True: "true relative residual of the float64 solution, before rounding to float32",
    False: "largest relative L2 change of a frame when its time steps are halved, in float64; NaN: not compared",
}
"""What a stored sample's ``residual`` is, of steady problems and of those that evolve."""


@dataclass(frozen=True)
class GenerationSummary:
    """What a dataset holds once generated, shards of earlier calls included.

    ``samples`` stored per split; ``failed`` indices within each split that did not converge or were not finite;
    ``solve_seconds`` wall clock of the solver alone over all shards, ``seconds`` of this call with everything;
    ``worst_residual`` the largest true relative residual of the float64 solutions.
    """

    samples: dict[str, int]
    solve_seconds: float
    seconds: float
    solver: str
    shards: int
    failed: dict[str, list[int]]
    worst_residual: float


def generate(
    problem: Problem,
    path: str | Path,
    *,
    counts: Mapping[str, int],
    seed: int,
    solver: str = "auto",
    rtol: float = 1e-8,
    shard_samples: int = 256,
    reporter: Reporter = SILENT,
) -> GenerationSummary:
    """Make the dataset of a problem at ``path``, or what is missing of it.

    ``counts`` says how many samples to draw for "train", "valid" and "test"; the splits draw from disjoint ranges of
    the problem's sample indices. Interrupted at any moment and called again, it goes on with the missing shards, and
    the shards are bit for bit those of an uninterrupted call (same method, machine and number of threads). A sample
    that does not reach ``rtol`` or is not finite is reported by its index and not stored. A shard holds
    ``shard_samples``, or fewer where that would be more than 256 MiB: it is put together in memory.

    Errors: `InputError` for an impossible setting, `DataError` when ``path`` holds a dataset of other settings,
    `StorageError` when it cannot be written or another generation is at work in it, `SolverError` when nothing
    converged.
    """
    start = time.perf_counter()
    root = Path(path)
    wanted = _plan(problem, counts=counts, seed=seed, solver=solver, rtol=rtol, shard_samples=shard_samples)
    with _alone(root):
        plan = _settled(problem, wanted, root, reporter)
        missing = [shard for shard in plan.shards() if finished(root, shard) is None]
        if missing:
            _generate_shards(problem, plan, root, missing, reporter)
        summary = _summary(plan, root, start)
        if missing or not (root / STATISTICS_FILE).is_file():
            write_statistics(root)
    for split, failed in summary.failed.items():
        if failed:
            reporter.notice(f"generate: not stored, as they did not converge: {split} samples {_listed(failed)}")
    return summary


def _plan(
    problem: Problem, *, counts: Mapping[str, int], seed: int, solver: str, rtol: float, shard_samples: int
) -> Plan:
    for split, count in counts.items():
        if split not in SPLIT_ORIGINS:
            raise InputError(f"generate: no split '{split}'; there are {', '.join(SPLIT_ORIGINS)}")
        if count < 0:
            raise InputError(f"generate: {count} samples for the split '{split}'; zero or more are needed")
    if not any(counts.values()):
        raise InputError("generate: no samples asked for; give a count for train, valid or test")
    if shard_samples < 1:
        raise InputError(f"generate: shard_samples = {shard_samples}; at least 1 is needed")
    if not 0 < rtol < 1:
        raise InputError(f"generate: rtol = {rtol}; a number between 0 and 1 is needed")
    return Plan(
        kind=class_name(type(problem), PROBLEMS),
        settings=json.loads(json.dumps(problem.settings())),
        seed=seed,
        counts={split: counts[split] for split in SPLIT_ORIGINS if counts.get(split)},
        shard_samples=min(shard_samples, max(1, _SHARD_BYTES // _sample_bytes(problem))),
        solver=solver,
        rtol=rtol,
    )


def _sample_bytes(problem: Problem) -> int:
    fixed = sum(not field.number for field in problem.inputs) - (0 if problem.steady else len(problem.outputs))
    return 4 * problem.grid.points * (fixed + len(problem.times) * len(problem.outputs))


def _settled(problem: Problem, wanted: Plan, root: Path, reporter: Reporter) -> Plan:
    """The plan on disk; where there is none, the wanted one, its method and units settled by a pilot, and written."""
    existing = read_plan(root)
    if existing is not None:
        wanted.check_same(existing, root)
        return existing
    split = next(iter(wanted.counts))
    origin = SPLIT_ORIGINS[split]
    inputs = problem.sample(range(origin, origin + min(_PILOT_SAMPLES, wanted.counts[split])), wanted.seed)
    inputs = inputs[_finite(inputs)]
    if not len(inputs):
        raise InputError("generate: the problem's first samples all hold NaN or infinite values")
    total = sum(wanted.counts.values())
    settled = problem.settle(inputs, rtol=wanted.rtol, method=wanted.solver, samples=total, reporter=reporter)
    if settled.reason:
        reporter.notice(f"solver: {settled.method}, {settled.reason}")
    announce_compilation(reporter, settled.method)
    states, _ = problem.trajectory(inputs, rtol=wanted.rtol, method=settled.method)
    sizes = {f.name: _root_mean_square(inputs[:, c]) for c, f in enumerate(problem.inputs)}
    sizes |= {f.name: _root_mean_square(states[:, -1, c]) for c, f in enumerate(problem.outputs)}
    for vector in {f.vector for f in (*problem.inputs, *problem.outputs)} - {""}:
        # The components of a vector are one array on disk and share its unit.
        components = [f.name for f in (*problem.inputs, *problem.outputs) if f.vector == vector]
        sizes |= dict.fromkeys(components, max(sizes[name] for name in components))
    scales = {name: _storage_unit(size) for name, size in sizes.items()}
    plan = replace(wanted, method=settled.method, scales=scales)
    plan.write(root)
    return plan


def _storage_unit(size: float) -> float:
    """1 for a field of ordinary size; for a tiny one the power of two below it, which scales without rounding."""
    if size >= _LEAST_NATURAL_SCALE or size == 0 or not math.isfinite(size):
        return 1.0
    return 2.0 ** math.floor(math.log2(size))


def _generate_shards(problem: Problem, plan: Plan, root: Path, missing: list[Shard], reporter: Reporter) -> None:
    total = sum(shard.stop - shard.start for shard in missing)
    announce_compilation(reporter, plan.method)
    # The first call of a compiled method loads its kernels, which is no time of solving.
    _solve(problem, plan, missing[0].indices[:1])
    began = time.perf_counter()
    with reporter.stage(f"generate {plan.name}", total=total, unit="samples") as stage:
        for shard in missing:
            _generate_shard(problem, plan, root, shard, stage, began)


def _generate_shard(problem: Problem, plan: Plan, root: Path, shard: Shard, stage: Stage, began: float) -> None:
    # The chunks are cut by the plan alone: a batched solver's last bits may depend on who shares the batch.
    chunk = max(1, min(_UNKNOWNS_PER_SOLVE // problem.grid.points, shard.stop - shard.start))
    parts: list[_Solved] = []
    for first in range(0, len(shard.indices), chunk):
        indices = shard.indices[first : first + chunk]
        parts.append(_solve(problem, plan, indices))
        done = stage.done + len(indices)
        stage.advance(len(indices), solver=plan.method, rate=f"{done / (time.perf_counter() - began):.0f} samples/s")
    kept = [index for part in parts for index in part.indices]
    failed = sorted(set(shard.indices) - set(kept))
    digest, size = "", 0
    file = root / shard.file
    if kept:
        digest = write_shard(file, _content(problem, plan, parts))
        size = file.stat().st_size
    origin = SPLIT_ORIGINS[shard.split]
    record = Record(
        samples=len(kept),
        sha256=digest,
        bytes=size,
        failed=[index - origin for index in failed],
        worst_residual=max((float(part.residual.nan_to_num().max()) for part in parts if part.indices), default=0.0),
        solve_seconds=sum(part.seconds for part in parts),
    )
    record.write(root / shard.record)


@dataclass(frozen=True)
class _Solved:
    """The samples of one solve that converged."""

    indices: list[int]
    inputs: Float[Tensor, "batch channel *space"]
    states: Float[Tensor, "batch time channel_out *space"]
    residual: Tensor
    iterations: Tensor
    seconds: float


def _solve(problem: Problem, plan: Plan, indices: range) -> _Solved:
    inputs = problem.sample(indices, plan.seed)
    drawn = _finite(inputs).nonzero().flatten()
    if not len(drawn):
        nothing = torch.empty(0)
        states = inputs.new_empty(0, len(problem.times), len(problem.outputs), *problem.grid.shape)
        return _Solved([], inputs[:0], states, nothing, nothing, 0.0)
    inputs = inputs[drawn]
    states, solution = problem.trajectory(inputs, rtol=plan.rtol, method=plan.method)
    good = (solution.converged.cpu() & _finite(states).cpu()).nonzero().flatten()
    return _Solved(
        indices=[indices[int(i)] for i in drawn[good]],
        inputs=inputs[good],
        states=states[good],
        residual=solution.residual[good],
        iterations=solution.iterations[good],
        seconds=solution.seconds,
    )


def _content(problem: Problem, plan: Plan, parts: list[_Solved]) -> ShardContent:
    """A trajectory per sample; of a steady problem the initial guess at pseudo-time 0 and the solution at 1."""
    scales = plan.scales or {}
    inputs = torch.cat([part.inputs for part in parts])
    states = torch.cat([part.states for part in parts])
    # What evolves is stored with its initial state; of the inputs that leaves what stays.
    fixed = range(0 if problem.steady else len(problem.outputs), len(problem.inputs))
    arrays = [(problem.inputs[c], inputs[:, c], False) for c in fixed]
    arrays += [(field, states[:, :, c], True) for c, field in enumerate(problem.outputs)]
    fields = [
        StoredField(
            name=entry[0].vector or entry[0].name,
            values=(values[0] if not entry[0].vector else torch.stack(values, -1)).cpu().numpy(),
            order=int(bool(entry[0].vector)),
            time_varying=varying,
            unit=entry[0].unit,
            scale=scales.get(entry[0].name, 1.0),
            description=entry[0].description,
        )
        for entry, values, varying in _stored_together(arrays)
    ]
    own = [_number(problem, field, inputs[:, c]) for c, field in enumerate(problem.inputs) if field.number]
    taken = {entry.name for entry in (*fields, *own)}
    numbers = {n: v for n, v in plan.settings.items() if isinstance(v, float) and n not in taken and math.isfinite(v)}
    return ShardContent(
        dataset_name=plan.name,
        grid=problem.grid,
        boundary=problem.boundary,
        samples=len(inputs),
        times=problem.times.numpy(),
        fields=tuple(fields),
        scalars=(*own, *(StoredScalar(name, np.asarray(value)) for name, value in numbers.items())),
        steady=problem.steady,
        provenance={
            "problem": plan.kind,
            "settings": json.dumps(plan.settings),
            "seed": plan.seed,
            "solver": plan.method,
            "rtol": plan.rtol,
            "residual_means": RESIDUAL_MEANS[problem.steady],
            "inputs": json.dumps([field.name for field in problem.inputs]),
            "outputs": json.dumps([field.name for field in problem.outputs]),
        },
        per_sample={
            "index": np.array([index for part in parts for index in part.indices], np.int64),
            "residual": torch.cat([part.residual for part in parts]).double().cpu().numpy(),
            "iterations": torch.cat([part.iterations for part in parts]).int().cpu().numpy(),
        },
    )


def _number(problem: Problem, field: Field, channel: Float[Tensor, "batch *space"]) -> StoredScalar:
    """A number per sample; of a problem that looks at the clock, the time of each frame."""
    if field.name == problem.clock:
        return StoredScalar(field.name, problem.times.numpy(), time_varying=True, unit=field.unit, channel=True)
    values = channel.flatten(1)[:, 0].cpu().numpy()
    return StoredScalar(field.name, values, sample_varying=True, unit=field.unit, channel=True)


def _stored_together(
    arrays: list[tuple[Field, Tensor, bool]],
) -> Iterator[tuple[list[Field], list[Tensor], bool]]:
    """Fields with their arrays, the components of a vector together and numbers left out."""
    kept = [entry for entry in arrays if not entry[0].number]
    for _, group in itertools.groupby(kept, lambda entry: (entry[0].vector or entry[0].name, entry[2])):
        members = list(group)
        yield [m[0] for m in members], [m[1] for m in members], members[0][2]


def _summary(plan: Plan, root: Path, start: float) -> GenerationSummary:
    samples: dict[str, int] = dict.fromkeys(plan.counts, 0)
    failed: dict[str, list[int]] = {split: [] for split in plan.counts}
    solve_seconds, worst, shards = 0.0, 0.0, 0
    for shard in plan.shards():
        record = finished(root, shard)
        if record is None:
            raise StorageError(f"{root / shard.file}: vanished while the dataset was being generated")
        samples[shard.split] += record.samples
        failed[shard.split] += record.failed
        solve_seconds += record.solve_seconds
        worst = max(worst, record.worst_residual)
        shards += record.samples > 0
    for split, count in samples.items():
        if count == 0:
            raise SolverError(f"generate: none of the {split} samples converged to rtol {plan.rtol:g} by {plan.method}")
    return GenerationSummary(samples, solve_seconds, time.perf_counter() - start, plan.method, shards, failed, worst)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the dataset's lock, which the system releases however this process ends; clear what a killed one left."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageError(f"cannot write {root}: {error.strerror}") from error
    try:
        _lock(handle, root)
        for left in [root / (PLAN_FILE + PARTIAL), *root.glob(f"data/*/*{PARTIAL}")]:
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, root: Path) -> None:
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(f"{root}: another generation is at work in this directory") from error


def _finite(array: Float[Tensor, "batch channel *space"]) -> Tensor:
    return array.flatten(1).isfinite().all(1)


def _root_mean_square(array: Tensor) -> float:
    return float(array.double().square().mean().sqrt())


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:20]))
    return shown + (f" and {len(indices) - 20} more" if len(indices) > 20 else "")
