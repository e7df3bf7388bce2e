"""The training loop: phases one after another, each resumable at every step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from torch import nn

from fieldwright.allocator import freed_memory_kept
from fieldwright.errors import InputError, RecipeError
from fieldwright.operators.pretrained import load_pretrained
from fieldwright.progress import SILENT, Reporter
from fieldwright.training.batches import Symmetry
from fieldwright.training.carried import Carried
from fieldwright.training.checkpoint import CheckpointStore
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import launch_fabric
from fieldwright.training.growing import with_shares
from fieldwright.training.interruption import stop_requests
from fieldwright.training.metrics import MetricsTable, columns
from fieldwright.training.objectives import build_objective
from fieldwright.training.phase_run import PhaseRun, Surroundings
from fieldwright.training.phases import Phase
from fieldwright.training.position import Position, TrainingState
from fieldwright.training.prediction import ValidationErrors
from fieldwright.training.seeding import derived_seed


@dataclass(frozen=True)
class TrainingSummary:
    """What a training came to. ``operator`` is the trained one: the one given, unless a phase prepared another.

    ``validation`` is that of the final weights, ``best`` the least of all, at step ``best_step``. ``seconds`` is the
    time of all runs it took, without what was lost to interruptions. ``checkpoint_seconds`` was spent on writing
    checkpoints in this run. ``flops`` are the operations of all steps, ``lineage`` tells of each growth: its plan and
    report.
    """

    operator: nn.Module
    steps: int
    seconds: float
    validation: ValidationErrors
    best: ValidationErrors
    best_step: int
    checkpoint: Path | None
    checkpoint_seconds: float
    flops: int = 0
    lineage: Sequence[dict[str, Any]] = ()

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "seconds_per_step": self.seconds_per_step,
            "validation": asdict(self.validation),
            "best": asdict(self.best),
            "best_step": self.best_step,
            "checkpoint_seconds": self.checkpoint_seconds,
            "flops": self.flops,
            "growth": [event["report"] for event in self.lineage],
        }


def train(
    operator: nn.Module,
    phases: Sequence[Phase],
    data: TrainingData,
    *,
    directory: Path,
    seed: int,
    device: str = "cpu",
    symmetries: Sequence[Symmetry] = (),
    reporter: Reporter = SILENT,
    loggers: Sequence[Logger] = (),
    fabric: Fabric | None = None,
    checkpoint_seconds: float = 30.0,
) -> TrainingSummary:
    """Train an operator through phases, in ``directory``: ``metrics.csv`` and ``checkpoints/``.

    The same call on the same directory goes on from the newest checkpoint that is whole, and ends with the bits that
    an uninterrupted call gives (same machine and thread count, no budget in seconds). On a finished training it loads
    the result. ``operator`` must be built the same way each time.

    ``symmetries``          maps (… *space) -> (… *space) that commute with the solution operator, identity among them;
                            one drawn per sample and step is applied to inputs and outputs alike
    ``fabric``              a launched Fabric, where the caller has one already; else one is launched for ``device``
    ``checkpoint_seconds``  time between checkpoints (s); more where they are slow to write, 0 for one after every step

    With several processes (torchrun, SLURM) ``batch_size`` is the number of samples over all of them, and the first one
    writes. Torch's default random generator is left as it was found.

    Errors: `InputError` for arguments that do not fit; `RecipeError` when the directory's checkpoints are of another
    training; `TrainingError` when a loss is no longer finite, with the last good checkpoint kept; `TrainingStopped`
    after SIGINT or SIGTERM, with a checkpoint written; `StorageError` for a write that fails.
    """
    if not phases:
        raise InputError("training: no phases; at least one is needed")
    phases = with_shares(phases)
    fabric = fabric or launch_fabric(device)
    writes = fabric.is_global_zero
    reporter = reporter if writes else SILENT
    losses = dict.fromkeys(name for phase in phases for name in build_objective(phase.objective).names)
    figures = dict.fromkeys(name for phase in phases for one in phase.build_callbacks() for name in one.columns)
    store = CheckpointStore(directory / "checkpoints", seconds=checkpoint_seconds)
    _check_lead_times(phases)
    data = data.on(fabric.device, as_trajectories=any(phase.pairs or phase.roll_out for phase in phases))
    with _undisturbed_randomness(fabric.device), freed_memory_kept(), stop_requests() as stop:
        around = Surroundings(
            identity=identity(phases, data, seed, symmetries),
            data=data,
            scale=data.output_scale().to(fabric.device),
            symmetries=symmetries,
            seed=seed,
            fabric=fabric,
            table=MetricsTable(
                directory / "metrics.csv" if writes else None, columns(tuple(losses), tuple(figures)), loggers=loggers
            ),
            store=store if writes else None,
            stop=stop,
            reporter=reporter,
        )
        state, carried = _resume(operator, phases, around)
        position = state.position if state is not None else Position()
        around.table.restart(state.rows if state is not None else [])
        average = state.average if state is not None else None
        callbacks = state.callbacks if state is not None else []
        while position.phase < len(phases):
            phase = phases[position.phase]
            if position.step == 0:
                carried = _prepared(_with_pretrained(phase, carried, reporter), phases, seed, position.phase)
            carried = PhaseRun(phase, carried, position, around, average, callbacks).run()
            average, callbacks = None, []
            position.next_phase()
            if writes:
                _store(around, carried, position)
    for logger in loggers:
        logger.finalize("success")
    fabric.barrier()
    assert position.last is not None  # a phase ends with a validation
    assert position.best is not None
    kept = store.paths()
    return TrainingSummary(
        operator=carried.operator,
        steps=position.total_steps,
        seconds=position.seconds,
        validation=position.last,
        best=position.best,
        best_step=position.best_step,
        checkpoint=kept[-1] if kept else None,
        checkpoint_seconds=store.spent,
        flops=position.flops,
        lineage=carried.lineage,
    )


def _check_lead_times(phases: Sequence[Phase]) -> None:
    timed = [phase.name for phase in phases if phase.pairs is not None]
    if timed and len(timed) < len(phases):
        others = ", ".join(phase.name for phase in phases if phase.pairs is None)
        raise InputError(
            f"phases: {', '.join(timed)} train for lead times and {others} without; set pairs in all or none"
            " ('next' for successive states)"
        )


def identity(phases: Sequence[Phase], data: TrainingData, seed: int, symmetries: Sequence[Symmetry]) -> str:
    """What makes a training the one that it is, as JSON: a checkpoint of another is not gone on from."""
    facts = {
        "seed": seed,
        "train samples": len(data.train_samples),
        "valid samples": len(data.valid_samples),
        "grid": list(data.grid.shape),
        "symmetries": len(symmetries),
        "phases": [phase.model_dump(mode="json") for phase in phases],
    }
    return json.dumps(facts, sort_keys=True)


def _resume(operator: nn.Module, phases: Sequence[Phase], around: Surroundings) -> tuple[TrainingState | None, Carried]:
    """The newest state, and the operator: its structure from the `prepare` transforms, its bits from the file."""
    found = around.store.newest(around.reporter) if around.store is not None else None
    values = around.fabric.broadcast(found[0] if found is not None else None)
    carried = Carried(operator)
    if values is None:
        return None, carried
    state = TrainingState.from_dict(values)
    if state.identity != around.identity:
        raise RecipeError(f"checkpoints are of another training: {_difference(state.identity, around.identity)}")
    begun = state.position.phase + (1 if state.position.step > 0 else 0)
    for index in range(min(begun, len(phases))):
        carried = _prepared(Carried(carried.operator), phases, around.seed, index)
    try:
        carried.operator.load_state_dict(state.operator)
    except RuntimeError as error:
        raise RecipeError(f"checkpoints are of another operator: {str(error).splitlines()[-1].strip()}") from error
    carried.optimizer_state, carried.lineage = state.optimizer, state.lineage
    if state.position.phase < len(phases):
        around.reporter.notice(
            f"training goes on at step {state.position.total_steps}, in phase '{phases[state.position.phase].name}'"
        )
    return state, carried


def _with_pretrained(phase: Phase, carried: Carried, reporter: Reporter) -> Carried:
    """The operator with the weights that the phase names. A resumed run has them, and what became of them, already."""
    if phase.pretrained is not None:
        reporter.notice(load_pretrained(carried.operator, Path(phase.pretrained)).sentence)
    return carried


def _prepared(carried: Carried, phases: Sequence[Phase], seed: int, index: int) -> Carried:
    """What the phase of this number begins with: a fresh optimizer unless its `prepare` says otherwise."""
    phase = phases[index]
    if phase.prepare is None:
        return Carried(carried.operator, lineage=carried.lineage)
    if phase.optimizer != phases[max(index - 1, 0)].optimizer:
        carried.optimizer_state = {}  # of another kind
    torch.manual_seed(derived_seed(seed, "prepare", index))
    prepared = phase.prepare(carried)
    prepared.lineage = prepared.lineage or carried.lineage
    return prepared


def _store(around: Surroundings, carried: Carried, position: Position) -> None:
    """A checkpoint between two phases."""
    assert around.store is not None
    state = TrainingState(
        identity=around.identity,
        position=position,
        operator=carried.operator.state_dict(),
        optimizer=carried.optimizer_state,
        average=None,
        rows=around.table.rows,
        lineage=carried.lineage,
    )
    around.store.write(state.to_dict(), phase=position.phase, step=position.step)


def _difference(theirs: str, ours: str) -> str:
    """The first entry in which two identities differ."""

    def walk(path: str, a: Any, b: Any) -> Iterator[str]:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in sorted(a.keys() | b.keys()):
                yield from walk(f"{path}.{key}" if path else key, a.get(key), b.get(key))
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for index, (x, y) in enumerate(zip(a, b, strict=True)):
                yield from walk(f"{path}.{index}", x, y)
        elif a != b:
            yield f"{path} was {a}, here {b}"

    return next(walk("", json.loads(theirs), json.loads(ours)))


@contextmanager
def _undisturbed_randomness(device: torch.device) -> Iterator[None]:
    """Keep torch's default generators as they are outside, and cuDNN to its deterministic kernels inside."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        yield
