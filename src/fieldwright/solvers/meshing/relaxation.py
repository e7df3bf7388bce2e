"""The Monge-Ampère equation by parabolic relaxation, over a batch of monitors at once.

    m(x) det(I + ∇∇φ) = θ,     x = ξ + ∇φ                                     equidistribution by optimal transport
    (I - γ Δ) ∂φ/∂τ = P [ (m(x) det(I + ∇∇φ))^(1/d) / mean - 1 ]              its relaxation in a pseudo-time τ

P is a smooth cut-off of the highest modes. Each sample has a step of its own, which grows while the coefficient of
variation of m det falls and shrinks when it rises; a step that does not lower it is taken back, so that the result is
the best potential seen, and no step size makes it diverge.

Source: Budd, Williams, "Moving mesh generation using the parabolic Monge-Ampère equation", SIAM J. Sci. Comput. 31
(2009); Browne et al., J. Comput. Phys. 259 (2014), for the periodic box. The steps' control is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing.box import Box, sample_within
from fieldwright.solvers.meshing.potential import Points, PotentialSpace

# A folded cell pushes as one of almost no mass would: outwards. In units of the mean monitor.
LEAST_MASS = 1e-3


@dataclass(frozen=True)
class Potential:
    """Potentials of a batch, and how far each is from equidistribution.

    ``variation``  coefficient of variation of m(x) det J over the collocation points; 0 is exact
    ``steps``      relaxation steps taken
    """

    space: PotentialSpace
    coefficients: Float[Tensor, "batch *mode"]
    variation: Float[Tensor, " batch"]
    steps: int

    def displacement(self, shape: Sequence[int], points: Points = "node") -> Float[Tensor, "batch axis *space"]:
        """∇φ at the nodes or the cell midpoints of a uniform grid."""
        return self.space.displacement(self.coefficients, shape, points)

    def hessian(self, shape: Sequence[int], points: Points = "cell") -> Float[Tensor, "batch axis other *space"]:
        """∇∇φ there."""
        return self.space.hessian(self.coefficients, shape, points)

    def within(self, space: PotentialSpace) -> Float[Tensor, "batch *mode_out"]:
        """The coefficients in a space of other numbers of modes: more are zero, fewer are cut off."""
        values = self.coefficients
        for axis, m in enumerate(space.modes):
            have = values.shape[axis + 1]
            values = values.narrow(axis + 1, 0, min(m, have))
            if m > have:
                pad = [0, 0] * (values.ndim - axis - 2) + [0, m - have]
                values = torch.nn.functional.pad(values, pad)
        return values


@dataclass(frozen=True)
class Relaxation:
    """Parabolic relaxation with ``modes`` functions and as many collocation points along each axis.

    ``steps``      at most this many
    ``tolerance``  stop when every sample's coefficient of variation is below
    ``step``       first step in τ, in units of the box's size squared
    ``implicit``   γ, in the same units

    Errors: `InputError` for a setting out of range.
    """

    steps: int = 40
    modes: int = 32
    tolerance: float = 0.02
    step: float = 0.2
    implicit: float = 0.2
    grow: float = 1.2
    shrink: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("modes", 2)):
            if getattr(self, name) < least:
                raise InputError(f"relaxation: {name} = {getattr(self, name)}; it must be at least {least}")
        for name in ("step", "implicit"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"relaxation: {name} = {getattr(self, name)}; it must be a positive number")
        if not 0 <= self.tolerance < math.inf:
            raise InputError(f"relaxation: tolerance = {self.tolerance}; it must not be negative")

    @torch.no_grad()
    def __call__(
        self, monitor: Float[Tensor, "batch *space"], grid: Grid, box: Box, start: Potential | None = None
    ) -> Potential:
        """The potentials of these monitors, from the identity or from a start."""
        space = PotentialSpace(box, (self.modes,) * box.dimension)
        centres = grid_centres(box, space.modes, monitor)
        precondition = self._preconditioner(space).to(monitor)

        def column(values: Tensor) -> Tensor:
            return values.reshape(-1, *[1] * box.dimension)

        monitor = monitor / column(monitor.flatten(1).mean(1))

        def masses(coefficients: Tensor) -> tuple[Tensor, Tensor]:
            displacement, det = space.motion(coefficients, space.modes)
            mass = sample_within(monitor, grid, centres + displacement, box) * det
            return mass, coefficient_of_variation(mass)

        current = monitor.new_zeros(len(monitor), *space.modes)
        if start is not None:
            # A start that equidistributes less well than no motion at all is none.
            given = start.within(space).to(monitor)
            current = torch.where(column(masses(given)[1] < masses(current)[1]), given, current)
        step = monitor.new_full((len(monitor),), self.step * box.size**2)
        best, direction = current, torch.zeros_like(current)
        least = monitor.new_full((len(monitor),), math.inf)
        taken = 0
        for taken in range(self.steps + 1):
            mass, variation = masses(current)
            better = variation < least
            best = torch.where(column(better), current, best)
            least = torch.where(better, variation, least)
            if taken == self.steps:
                break
            if bool((least <= self.tolerance).all()):
                break
            root = mass.clamp_min(LEAST_MASS).pow(1 / box.dimension)
            push = space.analyse(root / column(root.flatten(1).mean(1)) - 1) * precondition
            direction = torch.where(column(better), push, direction)
            if taken > 0:
                step = torch.where(better, step * self.grow, step * self.shrink)
            current = best + column(torch.where(least > self.tolerance, step, 0.0)) * direction
        return Potential(space, best, least, taken)

    def _preconditioner(self, space: PotentialSpace) -> Float[Tensor, " *mode"]:
        # P (I - γ Δ)⁻¹; the constant is no motion.
        size = space.box.size
        total = 1 / (1 + self.implicit * size**2 * space.squares())
        for axis in range(space.box.dimension):
            waves = space.wavenumbers(axis)
            cut = torch.exp(-18 * (waves / waves.max()).pow(8))
            total = total * cut.reshape(-1, *[1] * (space.box.dimension - axis - 1))
        total[(0,) * space.box.dimension] = 0.0
        return total


def grid_centres(box: Box, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, "1 axis *space"]:
    """The midpoints of the cells of a uniform grid on the box."""
    points = Grid(shape, "cell", box.lower, box.upper).coordinates(dtype=torch.float64)
    return points.to(like)[None]


def coefficient_of_variation(mass: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    """Standard deviation over mean."""
    flat = mass.flatten(1)
    return flat.std(1, correction=0) / flat.mean(1).abs().clamp_min(torch.finfo(flat.dtype).tiny)
