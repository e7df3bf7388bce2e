"""The `Problem`: a family of PDE instances stated once, read by every later stage.

Data generation, physics losses, refinement, conservation, certification and the honest baseline all ask the same
object: what are the fields, how is an instance drawn, what discrete system does it solve, what does it conserve.
Steady problems are `SteadyProblem`, those that evolve in time `fieldwright.problems.evolution.EvolutionProblem`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import AXES, Boundary, Grid
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import allowed
from fieldwright.solvers import METHODS, Solution, StencilSystem, choose, solve

Symmetry = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Field:
    """A named scalar field with its unit ("1" when dimensionless) and a few words: one channel of an array.

    ``vector``  the vector field that this is a component of; components follow each other and are stored as one field
    ``number``  one number per instance: its channel is constant over the grid, and a dataset stores the number alone
    """

    name: str
    unit: str = "1"
    description: str = ""
    vector: str = ""
    number: bool = False


def vector_field(name: str, dimension: int, unit: str = "1", description: str = "") -> tuple[Field, ...]:
    """The components of a vector field, one per axis: ``name_x``, ``name_y``, ``name_z``."""
    return tuple(Field(f"{name}_{axis}", unit, description, vector=name) for axis in AXES[:dimension])


@dataclass(frozen=True)
class Settled:
    """What a pilot settles for a whole dataset: the ``method`` for every sample, and in one line why it was chosen."""

    method: str
    reason: str = ""


@dataclass(frozen=True)
class Problem(abc.ABC):
    """A family of PDE instances: inputs (batch, input channel, *space) -> outputs (batch, output channel, *space).

    A subclass is a frozen dataclass whose fields are its settings, all of them numbers, words or lists, so that a
    recipe can name them. It states the abstract members below. Fields of physical arrays are float64.
    """

    inputs: ClassVar[tuple[Field, ...]]
    outputs: ClassVar[tuple[Field, ...]]
    steady: ClassVar[bool] = True
    clock: ClassVar[str] = ""
    """The input, a number, that is the time at which an instance begins; only where the physics depends on it."""
    kernels: ClassVar[tuple[str, ...]] = ()
    """Modules of `fieldwright.solvers` with compiled kernels that solving takes, beside those of a named method."""
    rtol: ClassVar[float] = 1e-8
    """The tolerance of reference solutions where none is asked for."""

    @property
    @abc.abstractmethod
    def grid(self) -> Grid:
        """Where inputs and outputs live."""

    @property
    @abc.abstractmethod
    def boundary(self) -> Boundary:
        """The condition of the outputs at each side."""

    @property
    def open_sides(self) -> tuple[tuple[bool, bool], ...]:
        """Which sides let things pass that come from within, (low, high) per axis: The Well's OPEN."""
        return ((False, False),) * self.grid.dimension

    @abc.abstractmethod
    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        """Draw instances. Sample i depends on (seed, i) alone: not on the batch it is drawn in."""

    @abc.abstractmethod
    def solve(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float = 1e-8,
        method: str = "auto",
        guess: Float[Tensor, "batch channel_out *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel_out *space"], Solution]:
        """Reference outputs and how their solve went."""

    @abc.abstractmethod
    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> Float[Tensor, "batch channel_out *space"]:
        """The discrete residual f - A(inputs) outputs, differentiable in both."""

    @abc.abstractmethod
    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Defects of what the physics conserves, relative, by name; all zero for an exact discrete solution."""

    @abc.abstractmethod
    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """The initial guess stored as pseudo-time 0: zero, or the lifting of the boundary data."""

    @property
    def times(self) -> Float[Tensor, " time"]:
        """The times that a dataset stores; of a steady problem the pseudo-times 0 (guess) and 1 (solution)."""
        return torch.tensor([0.0, 1.0], dtype=torch.float64)

    def trajectory(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float | None = None,
        method: str = "auto",
    ) -> tuple[Float[Tensor, "batch time channel_out *space"], Solution]:
        """The outputs at all `times`, as a dataset stores them, and how their solve went."""
        outputs, solution = self.solve(inputs, rtol=self.rtol if rtol is None else rtol, method=method)
        return torch.stack([self.guess(inputs).to(outputs), outputs], 1), solution

    def settle(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float,
        method: str = "auto",
        samples: int | None = None,
        reporter: Reporter = SILENT,
    ) -> Settled:
        """The method to solve a whole dataset of ``samples`` with, from a pilot on its first ``inputs``.

        It is settled once, because two methods that meet the same tolerance differ in their last bits.
        """
        return Settled(self.solve(inputs, rtol=rtol, method=method)[1].method if method == "auto" else method)

    def check_method(self, method: str) -> None:
        """Errors: `InputError` for a method that `solve` does not know; a problem may leave the refusal to `solve`."""
        return None

    def symmetries(self) -> tuple[Symmetry, ...]:
        """Maps of fields (… *space) under which the family is equivariant, identity first; used to augment data."""
        return (lambda field: field,)

    def at(self, resolution: int) -> Self:
        """The same family on a grid of another resolution: sample i is the same field, refined."""
        return dataclasses.replace(self, resolution=resolution)  # type: ignore[call-arg]

    def shifts(self) -> dict[str, Problem]:
        """Out-of-distribution relatives to evaluate on, by a name that says what differs."""
        return {}

    def settings(self) -> dict[str, Any]:
        """The constructor arguments, as plain values."""
        return dataclasses.asdict(self)

    def check_inputs(self, inputs: Tensor) -> None:
        """Errors: `InputError` for a wrong number of axes or channels, another grid, NaN or infinity."""
        expected = (len(self.inputs), *self.grid.shape)
        if inputs.ndim != len(expected) + 1 or tuple(inputs.shape[1:]) != expected:
            names = ", ".join(f.name for f in self.inputs)
            raise InputError(
                f"inputs of shape {tuple(inputs.shape)}; {type(self).__name__} takes"
                f" (batch, {', '.join(map(str, expected))}) with channels {names}"
            )
        finite = inputs.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            raise InputError(f"inputs: sample {int((~finite).nonzero()[0])} holds a NaN or infinite value")


@dataclass(frozen=True)
class SteadyProblem(Problem):
    """A problem whose instance is one linear stencil system: state `system`, the rest follows.

    With several output fields the system has one more, leading axis, along which its unknowns are those fields: a
    coupling between components at a point x + o has the offset (component step, *o). Complex fields are two components.
    """

    @abc.abstractmethod
    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """The discrete system of each instance, differentiable in the inputs."""

    def solve(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float = 1e-8,
        method: str = "auto",
        guess: Float[Tensor, "batch channel_out *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel_out *space"], Solution]:
        self.check_inputs(inputs)
        start = None if guess is None else self.unknowns(guess).double()
        solution = solve(self.system(inputs.double()), rtol=rtol, method=method, guess=start)
        return self.fields(solution.values), solution

    def settle(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float,
        method: str = "auto",
        samples: int | None = None,
        reporter: Reporter = SILENT,
    ) -> Settled:
        if method != "auto":
            return Settled(method)
        choice = choose(self.system(inputs), rtol=rtol, total=samples, reporter=reporter)
        return Settled(choice.method, choice.reason)

    def check_method(self, method: str) -> None:
        if method not in METHODS:
            raise InputError(f"method '{method}'; {allowed(method, METHODS)}")

    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> Float[Tensor, "batch channel_out *space"]:
        return self.fields(self.system(inputs).residual(self.unknowns(outputs)))

    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel_out *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """ "flux": the fluxes through the walls balance the sources, |Σ (f - A u)| / Σ |f|, the worst of components."""
        system = self.system(inputs)
        defect = self.fields(system.residual(self.unknowns(outputs))).flatten(2).sum(2).abs().amax(1)
        return {"flux": defect / system.rhs.flatten(1).abs().sum(1).clamp_min(torch.finfo(system.rhs.dtype).tiny)}

    def energy_norm(
        self, inputs: Float[Tensor, "batch channel *space"], fields: Float[Tensor, "batch channel_out *space"]
    ) -> Float[Tensor, " batch"]:
        """‖v‖_A = (vᵀ A v)^½ per sample, with A the instance's matrix; a norm where A is positive definite."""
        values = self.unknowns(fields)
        return (values * self.system(inputs).apply(values)).flatten(1).sum(1).clamp_min(0).sqrt()

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        return inputs.new_zeros(len(inputs), len(self.outputs), *inputs.shape[2:])

    def unknowns(self, fields: Float[Tensor, "batch channel_out *space"]) -> Float[Tensor, "batch *unknowns"]:
        """Output fields as the unknowns of `system`."""
        return fields[:, 0] if len(self.outputs) == 1 else fields

    def fields(self, unknowns: Float[Tensor, "batch *unknowns"]) -> Float[Tensor, "batch channel_out *space"]:
        """Unknowns of `system` as output fields."""
        return unknowns[:, None] if len(self.outputs) == 1 else unknowns
