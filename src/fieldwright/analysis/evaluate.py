"""`evaluate`: everything the report says about a surrogate, measured once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from fieldwright.analysis.equal_accuracy import compare_speed
from fieldwright.analysis.errors import FieldErrors, field_errors, representatives, summarise
from fieldwright.analysis.estimates import estimate_quality
from fieldwright.analysis.evaluation import CertifiedSolves, DefectRow, ErrorRow, Evaluation, RowKind, ShownSample
from fieldwright.analysis.rollout import RolloutErrors, rollout_errors
from fieldwright.errors import FieldwrightError, TrainingError
from fieldwright.norms import radial_spectrum, relative_l2
from fieldwright.problems import EvolutionProblem, Problem, SteadyProblem
from fieldwright.progress import SILENT, Reporter, Stage
from fieldwright.settings import first_line

FIRST_FRESH_SAMPLE = 1 << 30
"""Samples drawn for the evaluation alone have indices from here on: no dataset reaches them."""

# Trajectories rolled out: enough for a 95th percentile, and as few as a slow reference solver allows.
_ROLLOUTS = 32


class EvaluationSettings(BaseModel):
    """What is looked at beside the test split: resolutions, shifted distributions, and on how many samples each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolutions: list[PositiveInt] = []
    shifts: bool = True
    samples: PositiveInt = 100


@runtime_checkable
class Evaluated(Protocol):
    """What `evaluate` asks of a surrogate, all in physical units.

    ``fields(inputs)`` predicts; ``predict(inputs)`` returns in addition ``error_estimate``, ``error_bound`` and
    ``residual`` per sample; ``solve(inputs, rtol=...)`` returns ``solution`` and ``iterations_without_guess``;
    ``roll_out(inputs, frames)`` returns the states of a problem in time, the first included.
    """

    @property
    def device(self) -> torch.device: ...

    def fields(self, inputs: Tensor) -> Tensor: ...

    def predict(self, inputs: Tensor) -> Any: ...

    def solve(self, inputs: Tensor, rtol: float = 1e-6) -> Any: ...

    def roll_out(self, inputs: Tensor, frames: int) -> Tensor: ...


@dataclass(frozen=True)
class _Predicted:
    """A prediction of many samples, gathered on the CPU."""

    fields: Float[Tensor, "batch channel *space"]
    error_estimate: Float[Tensor, " batch"]
    error_bound: Float[Tensor, " batch"]
    residual: Float[Tensor, " batch"]


@dataclass(frozen=True)
class _Table:
    """Rows of errors as they are measured, with the arrays behind them."""

    rows: list[ErrorRow] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self,
        name: str,
        kind: RowKind,
        shape: tuple[int, ...],
        errors: FieldErrors,
        predicted: _Predicted,
        energy: Float[Tensor, " batch"],
        note: str = "",
    ) -> None:
        quality = estimate_quality(predicted.error_estimate, predicted.error_bound, errors.l2, energy)
        place = len(self.rows)
        self.arrays[f"error_{place}"] = errors.l2.numpy()
        self.arrays[f"estimate_{place}"] = predicted.error_estimate.numpy()
        self.arrays[f"bound_{place}"] = predicted.error_bound.numpy()
        self.arrays[f"energy_error_{place}"] = energy.numpy()
        self.rows.append(ErrorRow(name, kind, shape, summarise(errors.l2), summarise(errors.h1), quality, note))

    def skip(self, name: str, kind: RowKind, shape: tuple[int, ...], reason: str) -> None:
        self.rows.append(ErrorRow(name, kind, shape, note=reason))


@torch.no_grad()
def evaluate(
    surrogate: Evaluated,
    problem: Problem,
    test_inputs: Float[Tensor, "batch channel *space"],
    test_outputs: Float[Tensor, "batch output *space"],
    *,
    settings: EvaluationSettings,
    seed: int,
    baseline_seconds: float | None = None,
    certified_rtol: float = 1e-6,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Measure a surrogate on the test split, out of distribution, at other resolutions, and against solvers.

    ``test_inputs, test_outputs``  the test split in physical units; read here and nowhere else
    ``settings``                   what else to look at; those samples are drawn and solved here, from ``seed``
    ``baseline_seconds``           seconds a sample of the user's own solver

    All errors are in physical units and relative, see `fieldwright.norms`. A resolution or shift that the surrogate
    or the problem cannot take is a row with a note.

    Errors: `TrainingError` when the surrogate predicts NaN or infinity on the test split.
    """
    start = time.perf_counter()
    grid = problem.grid
    others = _other_sets(problem, settings)
    with reporter.stage("Evaluating", total=len(test_inputs) + settings.samples * len(others), unit="samples") as stage:
        predicted = _predict(surrogate, test_inputs, stage)
        finite = predicted.fields.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            where = int((~finite).nonzero()[0])
            raise TrainingError(f"evaluation: the surrogate predicts NaN or infinity for test sample {where}")
        errors = field_errors(predicted.fields, test_outputs, grid)
        table = _Table()
        energy = _energy_error(problem, test_inputs, predicted.fields, test_outputs)
        table.add("test set", "in distribution", grid.shape, errors, predicted, energy)
        for name, kind, other in others:
            _evaluate_other(surrogate, name, kind, other, settings.samples, seed, stage, table)
    truth = test_outputs.double()
    mean_field = truth.mean(0, keepdim=True).expand_as(truth)
    wavenumber, error_spectrum = radial_spectrum(predicted.fields.double() - truth, grid, problem.boundary)
    _, truth_spectrum = radial_spectrum(truth, grid, problem.boundary)
    shown = representatives(errors.l2)
    chosen = list(shown.values())
    arrays = table.arrays | {
        "wavenumber": wavenumber.numpy(),
        "error_spectrum": error_spectrum.mean(0).numpy(),
        "truth_spectrum": truth_spectrum.mean(0).numpy(),
        "inputs": test_inputs[chosen].float().numpy(),
        "truth": test_outputs[chosen].float().numpy(),
        "prediction": predicted.fields[chosen].float().numpy(),
    }
    speed = compare_speed(
        surrogate,
        problem,
        test_inputs[:64],
        test_outputs[:64],
        target=summarise(errors.l2).median,
        baseline_seconds=baseline_seconds,
        reporter=reporter,
    )
    rollout, rollout_arrays = _rolled_out(surrogate, problem, settings.samples, seed, reporter)
    return Evaluation(
        grid=grid,
        inputs=problem.inputs,
        outputs=problem.outputs,
        errors=tuple(table.rows),
        mean_field=summarise(relative_l2(mean_field, truth, grid)).median,
        defects=_defects(problem, test_inputs, test_outputs, predicted),
        speed=speed,
        certified=_certified(surrogate, test_inputs[: min(settings.samples, 32)], certified_rtol),
        shown=tuple(ShownSample(label, i, float(errors.l2[i])) for label, i in shown.items()),
        seconds=time.perf_counter() - start,
        rollout=rollout,
        arrays=arrays | rollout_arrays,
    )


def _other_sets(problem: Problem, settings: EvaluationSettings) -> list[tuple[str, RowKind, Problem | str]]:
    """(name, kind, problem) of every further set; instead of a problem that cannot be made, the reason."""
    sets: list[tuple[str, RowKind, Problem | str]] = []
    if settings.shifts:
        for name, shifted in problem.shifts().items():
            sets.append((name, "shift", shifted))
    for resolution in settings.resolutions:
        try:
            other = problem.at(resolution)
        except (FieldwrightError, TypeError) as error:
            sets.append((f"resolution {resolution}", "resolution", first_line(error)))
            continue
        if other.grid.shape != problem.grid.shape:
            sets.append((" × ".join(map(str, other.grid.shape)), "resolution", other))
    return sets


def _evaluate_other(
    surrogate: Evaluated,
    name: str,
    kind: RowKind,
    problem: Problem | str,
    samples: int,
    seed: int,
    stage: Stage,
    table: _Table,
) -> None:
    """Draw, solve and predict one further set and add its row."""
    if isinstance(problem, str):
        table.skip(name, kind, (), problem)
        return
    shape = problem.grid.shape
    inputs, truth, converged = _fresh_instances(problem, samples, seed)
    samples = len(inputs)
    try:
        predicted = _predict(surrogate, inputs.float(), stage)
    # A foreign module says by whatever error that it cannot take this size.
    except (FieldwrightError, RuntimeError, ValueError) as error:
        table.skip(name, kind, shape, f"the surrogate cannot take it: {first_line(error)}")
        return
    usable = converged & predicted.fields.flatten(1).isfinite().all(1)
    lost = samples - int(usable.sum())
    if lost == samples:
        table.skip(name, kind, shape, "no sample has both a finite prediction and a converged reference")
        return
    kept = _Predicted(*(getattr(predicted, part)[usable] for part in _PARTS))
    truth = truth.cpu()[usable]
    errors = field_errors(kept.fields, truth, problem.grid)
    energy = _energy_error(problem, inputs[usable], kept.fields, truth)
    note = f"{lost} of {samples} samples left out: no finite prediction or no converged reference" if lost else ""
    table.add(name, kind, shape, errors, kept, energy, note)


def _fresh_instances(problem: Problem, samples: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, outputs and which are solved, of ``samples`` instances that no dataset holds; in time, of all frames of
    so few trajectories that they are about as many."""
    if not isinstance(problem, EvolutionProblem):
        inputs = problem.sample(range(FIRST_FRESH_SAMPLE, FIRST_FRESH_SAMPLE + samples), seed)
        outputs, solution = problem.solve(inputs)
        return inputs, outputs.cpu(), solution.converged.cpu()
    first, states, converged = _fresh_trajectories(problem, max(1, samples // problem.frames), seed)
    begun = [problem.later(first, states[:, i], float(problem.times[i])) for i in range(problem.frames)]
    return torch.cat(begun), states[:, 1:].transpose(0, 1).flatten(0, 1), converged.repeat(problem.frames)


def _fresh_trajectories(problem: EvolutionProblem, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """First instances, states and which are solved, of ``count`` trajectories that no dataset holds."""
    first = problem.sample(range(FIRST_FRESH_SAMPLE, FIRST_FRESH_SAMPLE + count), seed)
    states, solution = problem.trajectory(first)
    return first, states, solution.converged


def _rolled_out(
    surrogate: Evaluated, problem: Problem, samples: int, seed: int, reporter: Reporter
) -> tuple[RolloutErrors | None, dict[str, np.ndarray]]:
    """Errors of roll-outs over the length of a stored trajectory; None for a steady problem, a problem of one frame,
    and where no reference converged."""
    if not isinstance(problem, EvolutionProblem) or problem.frames == 1:
        return None, {}
    with reporter.stage("Rolling out", total=min(samples, _ROLLOUTS), unit="trajectories") as stage:
        first, states, converged = _fresh_trajectories(problem, min(samples, _ROLLOUTS), seed)
        if not bool(converged.any()):
            return None, {}
        kept = converged.to(first.device)
        found = rollout_errors(surrogate, problem, first[kept], states[kept])
        stage.advance(len(first))
    return found


def _energy_error(problem: Problem, inputs: Tensor, fields: Tensor, truth: Tensor) -> Float[Tensor, " batch"]:
    """‖û - u‖_A / ‖u‖_A per sample, the norm of error bounds; of a problem without that norm the relative L2 error."""
    if not isinstance(problem, SteadyProblem):
        return relative_l2(fields.double(), truth.double(), problem.grid)
    parts = []
    for some in torch.arange(len(inputs)).split(max(1, (1 << 18) // problem.grid.points)):
        a, u = inputs[some].double(), truth[some].double()
        parts.append(problem.energy_norm(a, fields[some].double() - u) / problem.energy_norm(a, u))
    return torch.cat(parts)


_PARTS = ("fields", "error_estimate", "error_bound", "residual")


def _predict(surrogate: Evaluated, inputs: Tensor, stage: Stage) -> _Predicted:
    """Predict in batches of at most 2^18 points, which keeps the memory of a fine 3D grid in hand."""
    points = int(np.prod(inputs.shape[2:]))
    batches: list[list[Tensor]] = []
    for part in inputs.split(max(1, (1 << 18) // points)):
        prediction = surrogate.predict(part)
        batches.append([getattr(prediction, name).detach().cpu() for name in _PARTS])
        stage.advance(len(part))
    return _Predicted(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def _defects(problem: Problem, inputs: Tensor, truth: Tensor, predicted: _Predicted) -> tuple[DefectRow, ...]:
    """The discrete residual and what the physics conserves, of the predictions and of the stored reference."""
    doubles = inputs.double()
    residual = (DefectRow("residual", summarise(predicted.residual)),) if predicted.residual.isfinite().all() else ()
    of_prediction = problem.balance(doubles, predicted.fields.double())
    of_truth = problem.balance(doubles, truth.double())
    return (
        *residual,
        *(DefectRow(name, summarise(of_prediction[name]), summarise(of_truth[name])) for name in of_prediction),
    )


def _certified(surrogate: Evaluated, inputs: Tensor, rtol: float) -> CertifiedSolves | str:
    """Iterations of the solver from the prediction and from zero; instead of them, why there are none."""
    try:
        answer = surrogate.solve(inputs, rtol=rtol)
    except FieldwrightError as error:
        return first_line(error)
    guided = answer.solution.iterations.double().cpu()
    unguided = answer.iterations_without_guess.double().cpu()
    saved = unguided - guided
    return CertifiedSolves(
        rtol=rtol,
        method=answer.solution.method,
        from_prediction=summarise(guided),
        from_zero=summarise(unguided),
        saved_median=float(saved.quantile(0.5)),
        saved_least=float(saved.min()),
        saved_most=float(saved.max()),
    )
