"""Heat conduction in a block with a slot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry
from fieldwright.problems.diffusion import diffusion_system, wall_source
from fieldwright.problems.draws import check_range, uniform_numbers
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.relatives import relatives
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Slot = Literal["published", "random", "none"]
# The block and the slot of MATLAB's example "crackg", centred at the origin: half widths along x and y.
_BLOCK, _SLOT = (0.5, 0.8), (0.05, 0.4)
# Ranges of a random slot: its centre and its half widths. It stays 0.1 away from every wall.
_CENTRES, _HALF_WIDTHS = ((-0.15, 0.15), (-0.2, 0.2)), ((0.05, 0.25), (0.05, 0.5))
_TEMPERATURES, _SLOTS, _CONDUCTIVITY = 0, 1, 2


@dataclass(frozen=True)
class Thermal(SteadyProblem):
    """Steady heat in a block with a slot, -∇·(k ∇T) = 0: wall temperatures and body -> temperature T.

    The block [-0.5, 0.5] x [-0.8, 0.8] m is held at one temperature on its left side and at another on its right; its
    upper and lower sides and the walls of the slot are insulated.

    ``left_low, left_high``    the left side's temperature is U[left_low, left_high], in degrees Celsius
    ``right_low, right_high``  the right side's
    ``slot``          "published": |x| < 0.05 and |y| < 0.4; "random": its place and size are drawn; "none"
    ``deviation``     conductivity k = exp(g), g a Gaussian field of this standard deviation and the spectrum (|κ|² +
                      τ²)^(-α); 0: k = 1 W/(m K) everywhere, and one matrix for all instances

    ``resolution`` is the cells along x; there are 1.6 times as many along y. Cell-centred finite volumes; a cell whose
    centre lies in the slot is none of the body, its row is T = 0. With resolution a multiple of 20 the slot's walls
    are cell walls. Second order without a slot; with it the corners, where the slope of T is infinite (T ~ r^(2/3)),
    leave order 4/3.

    Inputs are ``lifting``, linear between both sides' temperatures (and the guess), ``body``, 1 in it and 0 in the
    slot, and with a deviation ``conductivity``.

    Source: the thermal family of Wang et al., "Accelerating Data Generation for Neural Operators via Krylov Subspace
    Recycling", ICLR 2024, as in its text; its script draws a heat flux in place of the right temperature.

    Errors: `InputError` for a setting out of range.
    """

    resolution: int = 40
    left_low: float = -100.0
    left_high: float = 0.0
    right_low: float = 0.0
    right_high: float = 100.0
    slot: Slot = "published"
    deviation: float = 0.0
    alpha: float = 2.0
    tau: float = 3.0

    outputs: ClassVar[tuple[Field, ...]] = (Field("temperature", "degC", "T, zero in the slot"),)

    def __post_init__(self) -> None:
        if not (isinstance(self.resolution, int) and self.resolution >= 20):
            raise InputError(f"thermal: resolution {self.resolution}; an integer of at least 20 is needed")
        if self.slot not in get_args(Slot):
            raise InputError(f"thermal: slot '{self.slot}'; allowed are {', '.join(get_args(Slot))}")
        check_range("thermal: left_low, left_high", (self.left_low, self.left_high))
        check_range("thermal: right_low, right_high", (self.right_low, self.right_high))
        if not 0 <= self.deviation < math.inf:
            raise InputError(f"thermal: deviation = {self.deviation}; a number of at least 0 is needed")
        if self.deviation:
            check_resolved(self.grid, alpha=self.alpha, tau=self.tau)

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        fields = (Field("lifting", "degC", "linear between the sides"), Field("body", "1", "1 in the body, else 0"))
        conductivity = (Field("conductivity", "W/(m K)", "k"),) if self.deviation else ()
        return (*fields, *conductivity)

    @property
    def grid(self) -> Grid:
        shape = (self.resolution, round(1.6 * self.resolution))
        return Grid(shape, "cell", tuple(-half for half in _BLOCK), _BLOCK)

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse(["dirichlet", "neumann"], 2)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        ranges = [(self.left_low, self.left_high), (self.right_low, self.right_high)]
        ends = uniform_numbers(indices, seed, ranges, stream=_TEMPERATURES)
        along = (self.grid.axis(0) + _BLOCK[0])[:, None].expand(self.grid.shape)
        left, right = (ends[:, i, None, None] for i in range(2))
        channels = [left + (right - left) * along, self._body(indices, seed).double()]
        if self.deviation:
            field = gaussian_field(
                self.grid,
                indices,
                seed,
                alpha=self.alpha,
                tau=self.tau,
                deviation=self.deviation,
                stream=_CONDUCTIVITY,
            )
            channels.append(field.exp())
        return torch.stack(channels, 1)

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """Errors: `InputError` naming a sample whose conductivity is not positive."""
        lifting, body = inputs[:, 0], inputs[:, 1] > 0.5
        conductivity = inputs[:, 2] if self.deviation else torch.ones_like(lifting)
        positive = (conductivity > 0).flatten(1).all(1)
        if not bool(positive.all()):
            where = int((~positive).nonzero()[0])
            raise InputError(f"thermal: the conductivity of sample {where} is not positive everywhere")
        source = wall_source(conductivity, lifting, self.grid, self.boundary, body=body)
        return diffusion_system(conductivity, source, self.grid, self.boundary, body=body)

    def guess(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        """The lifting, in the body."""
        return inputs[:, :1] * inputs[:, 1:2]

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        changes = {
            "temperatures twice as far apart": {
                "left_low": 2 * self.left_low,
                "left_high": self.left_low,
                "right_low": self.right_high,
                "right_high": 2 * self.right_high,
            }
        }
        moved = {"slots of random place and size": {"slot": "random"}} if self.slot == "published" else {}
        return relatives(self, {**changes, **moved})

    def _body(self, indices: Sequence[int], seed: int) -> Bool[Tensor, "batch x y"]:
        count = len(indices)
        if self.slot == "none":
            return torch.ones(count, *self.grid.shape, dtype=torch.bool)
        centres, half = torch.zeros(count, 2, dtype=torch.float64), torch.tensor([_SLOT], dtype=torch.float64)
        if self.slot == "random":
            drawn = uniform_numbers(indices, seed, [*_CENTRES, *_HALF_WIDTHS], stream=_SLOTS)
            centres, half = drawn[:, :2], drawn[:, 2:]
        apart = (self.grid.coordinates() - centres[:, :, None, None]).abs()
        return ~(apart < half[:, :, None, None]).all(1)
