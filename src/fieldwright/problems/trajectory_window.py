"""A window of a trajectory: the frames that are known -> the frames that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Settled, Symmetry
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import class_name
from fieldwright.solvers import Solution


@dataclass(frozen=True)
class TrajectoryWindow(Problem):
    """``known`` frames of a problem in time -> the ``predicted`` frames after them, an interval apart:

        u(t₁ - (K-1) Δ), ..., u(t₁ - Δ), u(t₁); a  ->  u(t₁ + Δ), ..., u(t₁ + P Δ),      u_t = F(u; a)

    ``evolution``  the problem in time as a recipe states it, its ``kind`` and its settings; Δ is its duration over its
                   frames, and its drawn states are the first of the known frames. Default: navier_stokes as it is
    ``known``      K (10)
    ``predicted``  P (10)

    The frames are channels, the oldest first, and after the known ones the coefficients; so everything that reads a
    problem reads this one, and any operator can learn it. The solver goes on from the last known frame. For
    `fieldwright.operators.SpatiotemporalFourierOperator` give the same ``known`` and ``predicted`` among its settings.

    Errors: `InputError` for a problem that is not one in time, or less than one frame.
    """

    evolution: dict[str, Any] | None = None
    known: int = 10
    predicted: int = 10

    def __post_init__(self) -> None:
        for name in ("known", "predicted"):
            if not (isinstance(count := getattr(self, name), int) and count >= 1):
                raise InputError(f"trajectory_window: {name} = {count}; a whole number of at least 1 is needed")
        if self.evolution is not None and not isinstance(self.evolution.get("kind"), str):
            raise InputError("trajectory_window: evolution names no kind; write {kind: navier_stokes, ...}")
        _ = self.later

    @cached_property
    def later(self) -> EvolutionProblem:
        """The problem in time over the predicted frames."""
        # Here and not above: the table of problems holds this class.
        from fieldwright.problems.named import named_problem

        given = dict(self.evolution or {"kind": "navier_stokes"})
        kind = given.pop("kind")
        problem = named_problem(kind, given)
        if not isinstance(problem, EvolutionProblem):
            raise InputError(f"trajectory_window: '{kind}' is no problem in time")
        return replace(problem, duration=problem.interval * self.predicted, frames=self.predicted)

    @property
    def earlier(self) -> EvolutionProblem:
        """The problem in time over the known frames."""
        frames = max(1, self.known - 1)
        return replace(self.later, duration=self.later.interval * frames, frames=frames)

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        state = [_at_frame(field, frame) for frame in range(self.known) for field in self.later.state]
        return (*state, *self.later.coefficients)

    @property
    def outputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        frames = range(self.known, self.known + self.predicted)
        return tuple(_at_frame(field, frame) for frame in frames for field in self.later.state)

    @property
    def kernels(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.later.kernels

    @property
    def adaptive(self) -> bool:
        """As `EvolutionProblem.adaptive`."""
        return self.later.adaptive

    @property
    def rtol(self) -> float:  # type: ignore[override]
        return self.later.rtol

    @property
    def grid(self) -> Grid:
        return self.later.grid

    @property
    def boundary(self) -> Boundary:
        return self.later.boundary

    @property
    def open_sides(self) -> tuple[tuple[bool, bool], ...]:
        return self.later.open_sides

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        first = self.earlier.sample(indices, seed)
        if self.known == 1:
            return first
        # One at a time: the number of steps to begin with is a batch's, and a sample may not depend on its batch.
        states = torch.cat([self.earlier.trajectory(one)[0] for one in first.split(1)])
        return torch.cat((states.flatten(1, 2), first[:, len(self.later.state) :].to(states)), 1)

    def begun(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_of_one *space"]:
        """The instances of the problem in time that begin with the last known frame."""
        size = len(self.later.state)
        last, coefficients = inputs[:, (self.known - 1) * size : self.known * size], inputs[:, self.known * size :]
        return self.later.later(torch.cat((last, coefficients), 1), last, self.later.interval * (self.known - 1))

    def solve(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float | None = None,
        method: str = "auto",
        guess: Float[Tensor, "batch channel_out *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel_out *space"], Solution]:
        """The frames that follow the last known one. ``guess`` has no effect, as in every problem in time."""
        self.check_inputs(inputs)
        states, solution = self.later.trajectory(self.begun(inputs), rtol=rtol, method=method)
        outputs = states[:, 1:].flatten(1, 2)
        return outputs, replace(solution, values=outputs)

    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> Float[Tensor, "batch channel_out *space"]:
        """The defect of each predicted frame after the one before it, see `EvolutionProblem.residual`."""
        begun, size, defects = self.begun(inputs), len(self.later.state), []
        for after in outputs.split(size, 1):
            defects.append(self.later.residual(begun, after))
            begun = self.later.later(begun, after, self.later.interval)
        return torch.cat(defects, 1)

    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The defects of the problem's laws from the last known frame to the last predicted one."""
        begun = self.begun(inputs).to(outputs)
        frames = outputs.unflatten(1, (self.predicted, len(self.later.state)))
        states = torch.cat((begun[:, None, : len(self.later.state)], frames), 1)
        return {name: law.defect()[:, -1] for name, law in self.later.laws(begun, states, self.later.times).items()}

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """Persistence: the last known frame, again and again."""
        return self.begun(inputs)[:, : len(self.later.state)].repeat(1, self.predicted, *[1] * self.grid.dimension)

    def settle(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float,
        method: str = "auto",
        samples: int | None = None,
        reporter: Reporter = SILENT,
    ) -> Settled:
        return self.later.settle(self.begun(inputs), rtol=rtol, method=method, samples=samples, reporter=reporter)

    def check_method(self, method: str) -> None:
        self.later.check_method(method)

    def symmetries(self) -> tuple[Symmetry, ...]:
        """Those of the problem in time, of all frames alike."""
        size = len(self.later.state)
        if len(self.inputs) == len(self.outputs) and self.later.coefficients:
            return super().symmetries()  # nothing tells the fields that hold coefficients from those that do not
        return tuple(
            _FrameSymmetry(symmetry, size, len(self.inputs), self.known) for symmetry in self.later.symmetries()
        )

    def at(self, resolution: int) -> TrajectoryWindow:
        return self._of(self.later.at(resolution))

    def shifts(self) -> dict[str, Problem]:
        return {
            name: self._of(other) for name, other in self.later.shifts().items() if isinstance(other, EvolutionProblem)
        }

    def _of(self, problem: EvolutionProblem) -> TrajectoryWindow:
        from fieldwright.problems import PROBLEMS

        return replace(self, evolution={"kind": class_name(type(problem), PROBLEMS), **problem.settings()})


@dataclass(frozen=True)
class _FrameSymmetry:
    """A symmetry of one frame, applied to fields that hold several; ``known`` of them where there are ``inputs``."""

    symmetry: Symmetry
    size: int
    inputs: int
    known: int

    def __call__(self, fields: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        held = self.known * self.size if fields.shape[1] == self.inputs else fields.shape[1]
        frames = fields[:, :held].unflatten(1, (-1, self.size))
        moved = self.symmetry(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).flatten(1, 2)
        if held == fields.shape[1]:
            return moved
        # Coefficients go with the last frame: the symmetry knows that they follow the state.
        whole = self.symmetry(fields[:, held - self.size :])
        return torch.cat((moved, whole[:, self.size :]), 1)


def _at_frame(field: Field, frame: int) -> Field:
    """The field of one frame: vorticity_3, velocity_3_x."""
    if not field.vector:
        return replace(field, name=f"{field.name}_{frame}")
    vector = f"{field.vector}_{frame}"
    return replace(field, name=vector + field.name.removeprefix(field.vector), vector=vector)
