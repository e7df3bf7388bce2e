"""The `Surrogate`: an operator with its normalisation and the problem it stands for.

Given physical inputs a, it predicts outputs û, says from the discrete residual r = f - A(a) û how wrong they are likely
to be, and, when that is not good enough, hands û to the solver as the initial guess and returns the certified answer.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fieldwright.datasets import Normalizer
from fieldwright.errors import DataError, FieldwrightError, InputError, SolverError, StorageError
from fieldwright.grids import resample
from fieldwright.operators import load_operator, save_operator
from fieldwright.problems import PROBLEMS, EvolutionProblem, Problem, SteadyProblem
from fieldwright.problems.named import named_problem
from fieldwright.settings import class_name, first_line
from fieldwright.solvers import METHODS, Solution, residual_estimate
from fieldwright.training.sources import LeadTimes

POINTS_PER_BATCH = 2**17
"""Inputs go through the operator in batches of about this many grid points: enough to fill the machine, not memory."""


@dataclass(frozen=True)
class Prediction:
    """Outputs in physical units and, per sample, what the discrete residual says of them.

    ``fields``          û, in the precision of the inputs
    ``error_estimate``  η ≈ ‖û - u‖₂ / ‖u‖₂ against the exact solution u of the discrete system
    ``error_bound``     B >= ‖û - u‖_A / ‖u‖_A, in the energy norm ‖e‖_A = (eᵀ A e)^½; guaranteed for symmetric positive
                        definite systems with couplings of one sign between neighbours, infinite for others
    ``residual``        ‖f - A û‖₂ / ‖f‖₂

    How η and B come about is told in `fieldwright.solvers.estimate`. η tracks the error and may fall below it; B is
    never below, and the less sharp the larger the contrast of the coefficient. All three are NaN for a problem that
    does not state a linear system.
    """

    fields: Float[Tensor, "batch channel *space"]
    error_estimate: Float[Tensor, " batch"]
    error_bound: Float[Tensor, " batch"]
    residual: Float[Tensor, " batch"]


@dataclass(frozen=True)
class CertifiedSolution:
    """Outputs that satisfy the discrete system to the tolerance asked for, and what the prediction was worth.

    ``solution.iterations`` started from the prediction; ``iterations_without_guess`` from the problem's own guess, with
    the same method (None when not asked for).
    """

    fields: Float[Tensor, "batch channel *space"]
    solution: Solution
    iterations_without_guess: Int[Tensor, " batch"] | None


@dataclass(frozen=True)
class Surrogate:
    """An operator that acts on normalised fields, the normalisation, and the problem.

    ``lead_times`` are those that an operator for any lead time was trained on; None for one that knows one step only.
    An operator that is to be saved comes from `fieldwright.operators.build_operator` or is one of ours.

    Example: ``Surrogate.load("runs/darcy").predict(permeability).fields``
    """

    operator: nn.Module
    inputs_normalizer: Normalizer
    outputs_normalizer: Normalizer
    problem: Problem
    lead_times: LeadTimes | None = None

    @property
    def device(self) -> torch.device:
        """Where the operator's weights are."""
        weight = next(self.operator.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def to(self, device: torch.device | str) -> Surrogate:
        """The same surrogate with its operator on another device.

        Errors: `InputError` for a device that is unknown or not there.
        """
        try:
            return dataclasses.replace(self, operator=self.operator.to(torch.device(device)))
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device: '{device}'; {first_line(error)}") from error

    def fields(self, inputs: Tensor, lead_time: float | Tensor | None = None) -> Float[Tensor, "batch channel *space"]:
        """The predicted outputs alone, in physical units and the inputs' precision.

        ``lead_time`` is the time from inputs to outputs, one for all or one for each, of a surrogate trained for any.
        None is the problem's frame. Beyond the trained ones its answer is a guess, and it warns.

        Inputs of another resolution than the trained one are handed to the operator as they are, unless it says that it
        is ``grid_bound``: then they are brought to the trained grid, as means over cells where there are cells, and the
        prediction is interpolated back.

        Errors: `InputError` for a wrong number of axes or channels, a grid that problem or operator cannot take, NaN or
        infinity, and a lead time that is negative or not finite, or given to a surrogate that knows one step only.
        """
        problem = self.problem_for(inputs)
        points = max(1, inputs[0].numel() // inputs.shape[1]) if len(inputs) else 1
        size = max(1, POINTS_PER_BATCH // points)
        fractions = self._fractions(lead_time, inputs)
        times = [None] * (len(inputs) // size + 1) if fractions is None else fractions.split(size)
        chunks = list(zip(inputs.split(size), times, strict=False))
        trained, asked = self.problem.grid, problem.grid
        if asked == trained or not getattr(self.operator, "grid_bound", False):
            return torch.cat([self._outputs(chunk, (len(problem.outputs), *asked.shape), t) for chunk, t in chunks])
        order = 0 if trained.centring == "cell" else 1
        expected = (len(problem.outputs), *trained.shape)
        predicted = (self._outputs(resample(chunk, asked, trained, order=order), expected, t) for chunk, t in chunks)
        return torch.cat([resample(outputs, trained, asked) for outputs in predicted])

    def predict(self, inputs: Tensor, lead_time: float | Tensor | None = None) -> Prediction:
        """Outputs, a ``lead_time`` later as `fields` has it, with an error estimate per sample.

        Errors: `InputError` as `fields`.
        """
        problem = self.problem_for(inputs)
        fields = self.fields(inputs, lead_time)
        if not isinstance(problem, SteadyProblem):
            unknown = torch.full((len(inputs),), torch.nan, dtype=torch.float64)
            return Prediction(fields, unknown, unknown, unknown)
        step = max(1, POINTS_PER_BATCH // problem.grid.points)
        estimates = [
            residual_estimate(problem.system(a.detach().cpu().double()), problem.unknowns(u.detach().cpu().double()))
            for a, u in zip(inputs.split(step), fields.split(step), strict=True)
        ]
        return Prediction(
            fields,
            error_estimate=torch.cat([e.estimate for e in estimates]),
            error_bound=torch.cat([e.bound for e in estimates]),
            residual=torch.cat([e.residual for e in estimates]),
        )

    def solve(
        self,
        inputs: Tensor,
        rtol: float = 1e-6,
        *,
        method: str = "auto",
        compare: bool = True,
    ) -> CertifiedSolution:
        """The numerical solution to relative residual ``rtol``, started from the prediction.

        ``compare`` solves a second time without the prediction, to say how many iterations it saved.
        Errors: `InputError` as `fields`, and for a problem in time, whose solver does not iterate; `SolverError` naming
        the samples that did not converge.
        """
        problem = self.problem_for(inputs)
        if not problem.steady:
            raise InputError(
                "solve: a state is stepped forward in time and not iterated for, so no solve goes on from a prediction;"
                " `problem.solve` steps as accurately as asked"
            )
        physical = inputs.detach().cpu().double()
        guess = self.fields(physical)
        fields, solution = problem.solve(physical, rtol=rtol, method=method, guess=guess)
        if solution.failed:
            named = ", ".join(map(str, solution.failed[:5])) + (" and more" if len(solution.failed) > 5 else "")
            raise SolverError(f"solve: samples {named} did not reach a relative residual of {rtol:g}")
        without = None
        if compare:
            same = solution.method if solution.method in METHODS else method
            without = problem.solve(physical, rtol=rtol, method=same)[1].iterations
        return CertifiedSolution(fields, solution, without)

    @torch.no_grad()
    def roll_out(
        self, inputs: Float[Tensor, "batch channel *space"], frames: int, *, lead_time: float | None = None
    ) -> Float[Tensor, "batch time channel_out *space"]:
        """The states at 0, 1, ..., ``frames`` intervals: each prediction is the state from which the next goes on.

        An interval is the problem's, or ``lead_time`` where the surrogate was trained for any. What does not evolve
        stays, a clock among the inputs goes on. States after one that is not finite are NaN.

        Errors: `InputError` as `fields`, for a steady problem, and for less than one frame.
        """
        problem = self.problem_for(inputs)
        if not isinstance(problem, EvolutionProblem):
            raise InputError("rollout: a steady problem has no next frame; `predict` gives its outputs")
        if frames < 1:
            raise InputError(f"rollout: {frames} frames; a whole number of at least 1 is needed")
        states = inputs.new_full((len(inputs), frames + 1, len(problem.outputs), *problem.grid.shape), torch.nan)
        states[:, 0] = problem.guess(inputs)
        alive = torch.arange(len(inputs), device=inputs.device)
        interval = problem.interval if lead_time is None else lead_time
        for frame in range(1, frames + 1):
            outputs = self.fields(inputs, lead_time)
            states[alive, frame] = outputs
            finite = outputs.flatten(1).isfinite().all(1)
            alive = alive[finite]
            inputs = problem.later(inputs[finite], outputs[finite], interval)
        return states

    def _fractions(self, lead_time: float | Tensor | None, inputs: Tensor) -> Float[Tensor, " batch"] | None:
        """The lead times in the operator's unit; None for an operator without."""
        if self.lead_times is None:
            if lead_time is not None:
                raise InputError("lead_time: this surrogate knows one step only; train it with pairs for any lead time")
            return None
        interval = self.problem.interval if isinstance(self.problem, EvolutionProblem) else self.lead_times.unit
        times = torch.as_tensor(interval if lead_time is None else lead_time, dtype=torch.float64).reshape(-1)
        if len(times) not in (1, len(inputs)):
            raise InputError(
                f"lead_time: {len(times)} of them for {len(inputs)} samples; one, or one for each, is needed"
            )
        if not bool((times.isfinite() & (times >= 0)).all()):
            raise InputError(f"lead_time: {times.tolist()}; lead times are finite and not negative")
        if bool((times > self.lead_times.longest * (1 + 1e-6)).any()):
            warnings.warn(
                f"lead_time: {float(times.max()):g} is beyond the longest that the operator was trained on,"
                f" {self.lead_times.longest:g}; its answer may be far off",
                stacklevel=3,
            )
        return (times / self.lead_times.unit).float().expand(len(inputs))

    def problem_for(self, inputs: Tensor) -> Problem:
        """The problem at the inputs' resolution.

        Errors: `InputError` for inputs that are not (batch, channel, *space) of this problem, NaN or infinity.
        """
        problem = self.problem
        dimension = problem.grid.dimension
        space = tuple(inputs.shape[2:])
        if inputs.ndim == dimension + 2 and space != problem.grid.shape and len(set(space)) == 1:
            try:
                problem = problem.at(space[0])
            except (FieldwrightError, TypeError) as error:
                raise InputError(f"inputs of resolution {space[0]}: {first_line(error)}") from error
        problem.check_inputs(inputs)
        return problem

    def _outputs(self, inputs: Tensor, expected: tuple[int, ...], lead_time: Tensor | None) -> Tensor:
        trained = self.operator.training
        self.operator.eval()
        try:
            with torch.no_grad():
                encoded = self.inputs_normalizer.encode(inputs.to(self.device, torch.float32))
                times = {} if lead_time is None else {"lead_time": lead_time.to(self.device)}
                normalised = self.operator(encoded, **times)
        except (RuntimeError, InputError, AssertionError, IndexError, ValueError, TypeError) as error:
            if tuple(inputs.shape[2:]) == self.problem.grid.shape:
                raise
            raise InputError(
                f"inputs of resolution {expected[1:]}: the operator cannot take it, it was trained on"
                f" {self.problem.grid.shape} ({first_line(error)})"
            ) from error
        finally:
            self.operator.train(trained)
        if tuple(normalised.shape[1:]) != expected:
            found = tuple(normalised.shape[1:])
            raise InputError(f"the operator returned fields of shape {found}; the outputs have {expected}")
        return self.outputs_normalizer.decode(normalised).to(inputs.device, inputs.dtype)

    def save(self, directory: Path | str) -> None:
        """Write the directory that `load` reads, whole or not at all.

        Errors: `StorageError` when it cannot be written; `InputError` for an operator that cannot be built again.
        """
        target = Path(directory)
        partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_operator(self.operator, partial)
            (partial / "surrogate.json").write_text(json.dumps(self._description(), indent=2) + "\n")
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
                target.rename(old)
            partial.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise StorageError(f"{target}: the surrogate cannot be written: {first_line(error)}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @classmethod
    def load(cls, directory: Path | str) -> Surrogate:
        """A saved surrogate, or the surrogate of a run directory.

        Errors: `DataError` when there is none, or a file of it is damaged.
        """
        path = Path(directory)
        path = path / "surrogate" if (path / "surrogate").is_dir() else path
        file = path / "surrogate.json"
        if not file.is_file():
            raise DataError(f"{directory}: holds no surrogate (no surrogate.json)")
        try:
            description = json.loads(file.read_text())
            problem = named_problem(description["problem"]["kind"], description["problem"]["settings"])
            inputs, outputs = (Normalizer.from_dict(description["normalizers"][k]) for k in ("inputs", "outputs"))
            known = description.get("lead_times")
            lead_times = None if known is None else LeadTimes(float(known["unit"]), float(known["longest"]))
        except FieldwrightError as error:
            raise DataError(f"{file}: {first_line(error)}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: not the description of a surrogate: {type(error).__name__} {error}") from error
        return cls(load_operator(path), inputs, outputs, problem, lead_times)

    def _description(self) -> dict[str, Any]:
        return {
            "format": 1,
            "problem": {"kind": class_name(type(self.problem), PROBLEMS), "settings": self.problem.settings()},
            "inputs": [dataclasses.asdict(field) for field in self.problem.inputs],
            "outputs": [dataclasses.asdict(field) for field in self.problem.outputs],
            "lead_times": None if self.lead_times is None else dataclasses.asdict(self.lead_times),
            "normalizers": {"inputs": self.inputs_normalizer.to_dict(), "outputs": self.outputs_normalizer.to_dict()},
        }
