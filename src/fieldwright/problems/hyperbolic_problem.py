"""Hyperbolic conservation laws on cells: a problem states its `ConservationLaw` and primitive fields, the rest follows.

The state is the primitive one (density, velocity, pressure; depth, velocity), because that is what is measured, drawn
and learnt; inside, finite volumes step the conserved one.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.problems.base import Symmetry
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.symmetries import BoxSymmetry, box_symmetries
from fieldwright.solvers.finite_volume import (
    LIMITERS,
    STEPPINGS,
    ConservationLaw,
    Limiter,
    Scheme,
    Stepping,
    Walls,
    parse_walls,
)

# Hancock's sweeps are stable up to 1, and so are Runge-Kutta steps on smooth fields; the rest is room for shocks.
_CFL = {"hancock": 0.8, "ssp2": 0.4, "ssp3": 0.4}


@dataclass(frozen=True)
class FlowSymmetry:
    """A symmetry of the box for fields (… channel *space) whose channels from ``first`` on are a vector's components.

    Component k of the image is component ``order[k]`` of the field, with its sign changed where axis k is reversed.
    """

    box: BoxSymmetry
    first: int

    def __call__(self, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        moved = self.box(field)
        dimension = len(self.box.order)
        place = moved.ndim - dimension - 1
        channels = list(range(moved.shape[place]))
        channels[self.first : self.first + dimension] = [self.first + axis for axis in self.box.order]
        signs = torch.ones(len(channels), dtype=moved.dtype, device=moved.device)
        for axis in self.box.reversed_axes:
            signs[self.first + axis] = -1
        chosen = moved.index_select(place, torch.tensor(channels, device=moved.device))
        return chosen * signs.reshape(-1, *[1] * dimension)


class HyperbolicProblem(EvolutionProblem):
    """A conservation law on ``resolution`` cells per axis of a box in ``dimension`` 1 or 2.

    A subclass is a frozen dataclass that declares these among its settings and states the abstract members of this
    class and of `EvolutionProblem` that are not stated here:

    ``walls``     "periodic", "outflow" (the edge cell's values beyond the wall) or "reflecting" (a rigid frictionless
                  wall): one word, or one word or (low, high) pair per axis
    ``limiter``   of the slopes: "minmod", "van-leer", "monotonized", or "central" (none, for smooth fields alone)
    ``stepping``  "hancock" (MUSCL-Hancock sweeps along one axis after the other), or strong-stability-preserving
                  Runge-Kutta steps of order 2 or 3, "ssp2" or "ssp3"
    ``cfl``       how much of a cell a step may cross: along the faster axis for "hancock" (null: 0.8), along all axes
                  together for the others (null: 0.4)

    MUSCL finite volumes with limited slopes of the primitive fields: second order where the fields are smooth.
    Hancock's sweeps cross more of a cell with fewer Riemann problems and are compiled on a CPU; a pair of steps that
    leaves a density or pressure negative is taken again with half the step. Runge-Kutta steps are those of `rate`,
    torch code everywhere, and exactly equivariant where axes are exchanged.
    """

    resolution: int
    dimension: int
    walls: Any
    limiter: Limiter
    stepping: Stepping
    cfl: float | None

    adaptive: ClassVar[bool] = True
    kernels: ClassVar[tuple[str, ...]] = ("finite_volume.lane_sweep",)
    title: ClassVar[str]
    """The problem's name in messages."""

    @property
    @abc.abstractmethod
    def law(self) -> ConservationLaw:
        """The law that the state obeys."""

    @abc.abstractmethod
    def primitive(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch field *space"]:
        """The law's primitive fields of the inputs; the first of them are the state's."""

    @cached_property
    def sides(self) -> Walls:
        """The walls, a (low, high) pair per axis."""
        return parse_walls(self.title, self.walls, self.dimension)

    @property
    def boundary(self) -> Boundary:
        """The walls as other rooms know them: both "outflow" and "reflecting" have no normal slope."""
        words = [tuple("periodic" if side == "periodic" else "neumann" for side in pair) for pair in self.sides]
        return Boundary.parse(words, self.dimension)

    @property
    def open_sides(self) -> tuple[tuple[bool, bool], ...]:
        return tuple((low == "outflow", high == "outflow") for low, high in self.sides)

    @property
    def closed(self) -> bool:
        """Whether nothing passes the walls."""
        return not any("outflow" in pair for pair in self.sides)

    @cached_property
    def scheme(self) -> Scheme:
        """The discretisation."""
        cfl = _CFL[self.stepping] if self.cfl is None else self.cfl
        return Scheme(self.law, self.sides, self.grid.spacing, self.limiter, self.stepping, cfl)

    def check_flow(self) -> None:
        """Errors: `InputError` for settings of this class that are out of range."""
        name = self.title
        if not (isinstance(self.dimension, int) and 1 <= self.dimension <= 2):
            raise InputError(f"{name}: dimension {self.dimension}; allowed are 1 and 2")
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"{name}: resolution {self.resolution}; an integer of at least 4 is needed")
        if self.limiter not in LIMITERS:
            raise InputError(f"{name}: limiter '{self.limiter}'; allowed are {', '.join(LIMITERS)}")
        if self.stepping not in STEPPINGS:
            raise InputError(f"{name}: stepping '{self.stepping}'; allowed are {', '.join(STEPPINGS)}")
        if self.cfl is not None and not 0 < self.cfl <= 1:
            raise InputError(f"{name}: cfl = {self.cfl}; a number above 0 and at most 1 is needed, or null")
        self.check_settings(name)
        _ = self.sides

    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """The rate of the primitive state: that of the conserved fields, by the chain rule."""
        conserved = self.law.conserved(self.primitive(inputs))
        return self.law.primitive_rate(conserved, self.scheme.rate(conserved))[:, : len(self.state)]

    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        return self.scheme.march(self.primitive(inputs), self.interval, frames, steps)[:, :, : len(self.state)]

    def symmetries(self) -> tuple[Symmetry, ...]:
        """Those of the box that map every wall onto one of its kind; they turn velocities along."""
        found = []
        for symmetry in box_symmetries(self.grid, self.boundary):
            turned = [self.sides[axis] for axis in symmetry.order]
            for axis in symmetry.reversed_axes:
                low, high = turned[axis]
                turned[axis] = (high, low)
            if tuple(turned) == self.sides:
                found.append(FlowSymmetry(symmetry, 1))
        return tuple(found)

    def total(self, density: Float[Tensor, "batch time *space"]) -> Float[Tensor, "batch time"]:
        """The integral of a density over the box."""
        cell = 1.0
        for h in self.grid.spacing:
            cell *= h
        return density.flatten(2).sum(2) * cell


def cell_means(fields: Float[Tensor, "field *points"], points: int) -> Float[Tensor, "field *cells"]:
    """Means over cells of ``points`` values along each axis."""
    for axis in range(1, fields.ndim):
        fields = fields.unflatten(axis, (-1, points)).mean(axis + 1)
    return fields
