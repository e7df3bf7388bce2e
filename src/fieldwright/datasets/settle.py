"""From what is asked for to a plan: the asking checked, then method, chunks and units of storage settled by a pilot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fieldwright.datasets.plan import SPLIT_ORIGINS, SPLIT_SAMPLES, Plan, read_plan
from fieldwright.datasets.store import storage_unit
from fieldwright.errors import InputError
from fieldwright.problems import PROBLEMS, Problem
from fieldwright.progress import Reporter
from fieldwright.settings import class_name, first_line
from fieldwright.solvers import announce_compilation
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.methods import TABLE
from fieldwright.solvers.threads import one_torch_thread

_PILOT_SAMPLES = 16
_PILOT_UNKNOWNS = 1 << 25
_SHARD_BYTES = 1 << 28

# Unknowns drawn and solved together by one thread. In steady problems a chunk's coefficients then stay in a core's
# share of the cache: at 64^2 chunks of 64 samples are assembled and solved twice as fast as chunks of 256. In time a
# chunk is the block that one thread integrates at once.
_STEADY_UNKNOWNS = 1 << 18
_MOVING_UNKNOWNS = 1 << 17
# Where the samples of a call share work, such as one factorisation, that work is worth more than the cache.
_SHARED_UNKNOWNS = 1 << 20
# On an accelerator a batch has to be large to keep it busy.
_ACCELERATED_UNKNOWNS = 1 << 22
# The compiled solvers take LANES samples in the time of one, so a chunk has that many unless they are huge.
_LANES_UNKNOWNS = 1 << 24


def asked_plan(
    problem: Problem,
    *,
    counts: Mapping[str, int],
    seed: int,
    solver: str,
    rtol: float | None,
    shard_samples: int,
    device: str,
) -> Plan:
    """The plan of what is asked for, with nothing settled.

    Errors: `InputError` for a count, tolerance, shard size or device that cannot be.
    """
    for split, count in counts.items():
        if split not in SPLIT_ORIGINS:
            raise InputError(f"generate: no split '{split}'; there are {', '.join(SPLIT_ORIGINS)}")
        if not 0 <= count <= SPLIT_SAMPLES:
            raise InputError(f"generate: {count} samples for the split '{split}'; 0 to {SPLIT_SAMPLES} are allowed")
    if not any(counts.values()):
        raise InputError("generate: no samples asked for; give a count for train, valid or test")
    if shard_samples < 1:
        raise InputError(f"generate: shard_samples = {shard_samples}; at least 1 is needed")
    rtol = problem.rtol if rtol is None else rtol
    if not 0 < rtol < 1:
        raise InputError(f"generate: rtol = {rtol}; a number between 0 and 1 is needed")
    problem.check_method(solver)
    return Plan(
        kind=class_name(type(problem), PROBLEMS),
        settings=json.loads(json.dumps(problem.settings())),
        seed=seed,
        counts={split: counts[split] for split in SPLIT_ORIGINS if counts.get(split)},
        shard_samples=min(shard_samples, max(1, _SHARD_BYTES // sample_bytes(problem))),
        solver=solver,
        rtol=rtol,
        device=_checked_device(device),
    )


def settled_plan(problem: Problem, wanted: Plan, root: Path, reporter: Reporter) -> Plan:
    """The plan on disk; where there is none, the wanted one settled by a pilot, and written.

    Errors: `DataError` when the directory holds another one; `InputError` when the first samples are not finite.
    """
    existing = read_plan(root)
    if existing is not None:
        wanted.check_same(existing, root)
        return existing
    plan = piloted_plan(problem, wanted, reporter)
    plan.write(root)
    return plan


def piloted_plan(problem: Problem, wanted: Plan, reporter: Reporter) -> Plan:
    """The wanted plan with its method, chunks and units settled by a pilot of a few samples.

    Errors: `InputError` when the first samples are not finite.
    """
    split = next(iter(wanted.counts))
    origin = SPLIT_ORIGINS[split]
    pilots = min(_PILOT_SAMPLES, max(1, _PILOT_UNKNOWNS // problem.grid.points), wanted.counts[split])
    # On one thread, as chunks are drawn: what a problem keeps for later draws has the same bits wherever it is made.
    with one_torch_thread():
        inputs = problem.sample(range(origin, origin + pilots), wanted.seed)
    inputs = inputs[inputs.flatten(1).isfinite().all(1)]
    if not len(inputs):
        raise InputError("generate: the problem's first samples all hold NaN or infinite values")
    inputs = inputs.to(wanted.device)
    # Each thread's share, by one thread, as chunks are solved.
    share = math.ceil(sum(wanted.counts.values()) / torch.get_num_threads())
    announce_compilation(reporter, "time-stepping", problem.kernels)
    with one_torch_thread():
        settled = problem.settle(inputs, rtol=wanted.rtol, method=wanted.solver, samples=share, reporter=reporter)
        if settled.reason:
            reporter.notice(f"solver: {settled.method}, {settled.reason}")
        announce_compilation(reporter, settled.method)
        states, _ = problem.trajectory(inputs, rtol=wanted.rtol, method=settled.method)
    return replace(
        wanted,
        method=settled.method,
        chunk_samples=chunk_samples(problem, settled.method, wanted.device, wanted.shard_samples),
        scales=_scales(problem, inputs, states),
    )


def chunk_samples(problem: Problem, method: str, device: str, shard_samples: int) -> int:
    """How many samples are drawn and solved at a time."""
    unknowns = problem.grid.points * len(problem.outputs)
    if device != "cpu":
        wanted = _ACCELERATED_UNKNOWNS // unknowns
    elif not problem.steady:
        wanted = _MOVING_UNKNOWNS // unknowns
    elif method in TABLE and TABLE[method].shares:
        wanted = _SHARED_UNKNOWNS // unknowns
    else:
        wanted = max(_STEADY_UNKNOWNS // unknowns, min(LANES, _LANES_UNKNOWNS // unknowns))
    return max(1, min(wanted, shard_samples))


def sample_bytes(problem: Problem) -> int:
    """Bytes that a stored sample's fields take."""
    fixed = sum(not field.number for field in problem.inputs) - (0 if problem.steady else len(problem.outputs))
    return 4 * problem.grid.points * (fixed + len(problem.times) * len(problem.outputs))


def _scales(problem: Problem, inputs: Tensor, states: Tensor) -> dict[str, float]:
    sizes = {f.name: _root_mean_square(inputs[:, c]) for c, f in enumerate(problem.inputs)}
    sizes |= {f.name: _root_mean_square(states[:, -1, c]) for c, f in enumerate(problem.outputs)}
    for vector in {f.vector for f in (*problem.inputs, *problem.outputs)} - {""}:
        # The components of a vector are one array on disk and share its unit.
        components = [f.name for f in (*problem.inputs, *problem.outputs) if f.vector == vector]
        sizes |= dict.fromkeys(components, max(sizes[name] for name in components))
    return {name: storage_unit(size) for name, size in sizes.items()}


def _root_mean_square(array: Tensor) -> float:
    return float(array.double().square().mean().sqrt())


def _checked_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" is what is there.

    Errors: `InputError` for a device that is unknown, not there, or has no double precision.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"generate: device '{device}'; allowed are auto, cpu and cuda, as solvers need float64")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"generate: device '{device}'; {first_line(error)}") from error
    return device
