"""The `Problem`: a family of PDE instances stated once, read by every later stage.

Data generation, physics losses, refinement, conservation, certification and the honest baseline all ask the same
object: what are the fields, how is an instance drawn, what discrete system does it solve, what does it conserve.
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
from fieldwright.grids import Boundary, Grid
from fieldwright.solvers import Solution, StencilSystem, solve

Symmetry = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Field:
    """A named scalar field with its unit ("1" when dimensionless) and a few words."""

    name: str
    unit: str = "1"
    description: str = ""


@dataclass(frozen=True)
class Problem(abc.ABC):
    """A family of PDE instances: inputs (batch, input channel, *space) -> outputs (batch, output channel, *space).

    A subclass is a frozen dataclass whose fields are its settings, all of them numbers, words or lists, so that a
    recipe can name them. It states the abstract members below. Fields of physical arrays are float64.
    """

    inputs: ClassVar[tuple[Field, ...]]
    outputs: ClassVar[tuple[Field, ...]]

    @property
    @abc.abstractmethod
    def grid(self) -> Grid:
        """Where inputs and outputs live."""

    @property
    @abc.abstractmethod
    def boundary(self) -> Boundary:
        """The condition of the outputs at each side."""

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
        guess: Float[Tensor, "batch channel *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel *space"], Solution]:
        """Reference outputs and how their solve went."""

    @abc.abstractmethod
    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """The discrete residual f - A(inputs) outputs, differentiable in both."""

    @abc.abstractmethod
    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Defects of what the physics conserves, relative, by name; all zero for an exact discrete solution."""

    @abc.abstractmethod
    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The initial guess stored as pseudo-time 0: zero, or the lifting of the boundary data."""

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
    """A problem whose instance is one linear stencil system for one output field: state `system`, the rest follows."""

    @abc.abstractmethod
    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """The discrete system of each instance, differentiable in the inputs."""

    def solve(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        *,
        rtol: float = 1e-8,
        method: str = "auto",
        guess: Float[Tensor, "batch channel *space"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel *space"], Solution]:
        self.check_inputs(inputs)
        start = None if guess is None else guess[:, 0].double()
        solution = solve(self.system(inputs.double()), rtol=rtol, method=method, guess=start)
        return solution.values[:, None], solution

    def residual(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        return self.system(inputs).residual(outputs[:, 0])[:, None]

    def balance(
        self, inputs: Float[Tensor, "batch channel *space"], outputs: Float[Tensor, "batch channel *space"]
    ) -> dict[str, Float[Tensor, " batch"]]:
        """ "flux": the fluxes through the walls balance the sources, |Σ (f - A u)| / Σ |f|."""
        system = self.system(inputs)
        defect = system.residual(outputs[:, 0]).flatten(1).sum(1).abs()
        return {"flux": defect / system.rhs.flatten(1).abs().sum(1).clamp_min(torch.finfo(system.rhs.dtype).tiny)}

    def energy_norm(
        self, inputs: Float[Tensor, "batch channel *space"], fields: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, " batch"]:
        """‖v‖_A = (vᵀ A v)^½ per sample, with A the instance's matrix; a norm where A is positive definite."""
        values = fields[:, 0]
        return (values * self.system(inputs).apply(values)).flatten(1).sum(1).clamp_min(0).sqrt()

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return torch.zeros_like(inputs[:, :1])
