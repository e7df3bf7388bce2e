"""Small deformations of an elastic plate under a load."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Condition, Grid
from fieldwright.problems.base import Field, Problem, SteadyProblem, Symmetry, vector_field
from fieldwright.problems.random_fields import check_resolved, gaussian_field
from fieldwright.problems.relatives import relatives
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers import StencilSystem

Plane = Literal["strain", "stress"]
Modulus = Literal["two-phase", "log-normal", "uniform"]
Load = Literal["gravity", "gaussian"]
# Bilinear elements lock as ν approaches ½: at 0.45 they still take half of the volumetric energy as it is.
_LARGEST_RATIO = 0.45
_FORCE_STREAM = 1
_SIDES = ("left", "right", "bottom", "top")
_CORNERS = tuple(itertools.product((0, 1), repeat=2))


@dataclass(frozen=True)
class Elasticity(SteadyProblem):
    """Linear elasticity of a plate, -∇·σ(u) = f on the unit square: Young's modulus E (and force f) -> displacement u.

    σ = λ (∇·u) I + 2 μ ε(u), ε(u) = (∇u + ∇uᵀ)/2, μ = E / (2 (1 + ν)), and λ = E ν / ((1 + ν)(1 - 2ν)) in plane
    strain, E ν / (1 - ν²) in plane stress.

    ``modulus``        "two-phase": E = high where a Gaussian field is >= 0, low elsewhere; "log-normal": E = exp(g), g
                       of standard deviation ``deviation``; "uniform": E = high
    ``poisson_ratio``  ν, from 0 to 0.45: the elements are too stiff for nearly incompressible bodies
    ``plane``          "strain" (a thick body) or "stress" (a thin plate)
    ``load``           "gravity": f = (0, -``force``); "gaussian": both components are Gaussian fields of standard
                       deviation ``force``, an input
    ``alpha, tau``     spectrum (|κ|² + τ²)^(-α) of Gaussian fields
    ``clamped``        the sides where u = 0, one or more of left, right, bottom, top: "left, right". The others bear no
                       traction

    Bilinear finite elements on a nodal grid, E per element the mean of its four corners, loads lumped at the nodes and
    all divided by h²: symmetric positive definite, second order in u, exact for displacements that are linear in x (so
    that rigid motions are stress-free). Clamped nodes are rows of their own. Two dimensions only: with the components a
    plate takes all three axes that a stencil system has.

    All quantities are dimensionless.

    Errors: `InputError` for a setting out of range.
    """

    resolution: int = 64
    modulus: Modulus = "two-phase"
    low: float = 1.0
    high: float = 5.0
    deviation: float = 0.5
    poisson_ratio: float = 0.3
    plane: Plane = "strain"
    load: Load = "gravity"
    force: float = 1.0
    alpha: float = 2.0
    tau: float = 3.0
    clamped: str = "bottom"

    outputs: ClassVar[tuple[Field, ...]] = vector_field("displacement", 2, "1", "u")

    def __post_init__(self) -> None:
        if not (isinstance(self.resolution, int) and self.resolution >= 4):
            raise InputError(f"elasticity: resolution {self.resolution}; an integer of at least 4 is needed")
        for name, words in (("modulus", Modulus), ("plane", Plane), ("load", Load)):
            if getattr(self, name) not in get_args(words):
                raise InputError(
                    f"elasticity: {name} '{getattr(self, name)}'; allowed are {', '.join(get_args(words))}"
                )
        for name in ("low", "high", "deviation", "force", "tau"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"elasticity: {name} = {getattr(self, name)}; a positive number is needed")
        if not 0 <= self.poisson_ratio <= _LARGEST_RATIO:
            raise InputError(f"elasticity: poisson_ratio = {self.poisson_ratio}; 0 to {_LARGEST_RATIO} is allowed")
        sides = self._clamped_sides
        if not sides or any(side not in _SIDES for side in sides):
            raise InputError(
                f"elasticity: clamped '{self.clamped}'; one or more of {', '.join(_SIDES)}, with commas, are needed"
            )
        if self.modulus != "uniform" or self.load == "gaussian":
            check_resolved(self.grid, alpha=self.alpha, tau=self.tau)

    @property
    def inputs(self) -> tuple[Field, ...]:  # type: ignore[override]
        modulus = (Field("modulus", "1", "E, Young's modulus"),)
        return modulus + (vector_field("force", 2, "1", "f, per volume") if self.load == "gaussian" else ())

    @property
    def grid(self) -> Grid:
        return Grid((self.resolution, self.resolution), "node")

    @cached_property
    def boundary(self) -> Boundary:
        words: list[Condition] = ["dirichlet" if side in self._clamped_sides else "neumann" for side in _SIDES]
        return Boundary(((words[0], words[1]), (words[2], words[3])))

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        def gaussian(deviation: float | None, stream: int) -> Float[Tensor, "batch x y"]:
            return gaussian_field(
                self.grid, indices, seed, alpha=self.alpha, tau=self.tau, deviation=deviation, stream=stream
            )

        if self.modulus == "uniform":
            channels = [torch.full((len(indices), *self.grid.shape), self.high, dtype=torch.float64)]
        elif self.modulus == "two-phase":
            channels = [torch.where(gaussian(None, 0) >= 0, self.high, self.low).double()]
        else:
            channels = [gaussian(self.deviation, 0).exp()]
        if self.load == "gaussian":
            channels += [gaussian(self.force, _FORCE_STREAM + axis) for axis in range(2)]
        return torch.stack(channels, 1)

    def system(self, inputs: Float[Tensor, "batch channel *space"]) -> StencilSystem:
        """Errors: `InputError` naming a sample whose modulus is not positive."""
        modulus = inputs[:, 0]
        positive = (modulus > 0).flatten(1).all(1)
        if not bool(positive.all()):
            where = int((~positive).nonzero()[0])
            raise InputError(f"elasticity: the modulus of sample {where} is not positive everywhere")
        if self.load == "gaussian":
            force = inputs[:, 1:3]
        else:
            force = torch.stack([torch.zeros_like(modulus), torch.full_like(modulus, -self.force)], 1)
        free = elastic_plate(modulus, self.grid, poisson_ratio=self.poisson_ratio, plane=self.plane)
        lumped = self.grid.quadrature().to(force) / math.prod(self.grid.spacing)
        return clamped_plate(free, lumped * force, self.boundary)

    def symmetries(self) -> tuple[Symmetry, ...]:
        found = box_symmetries(self.grid, self.boundary, vectors=((2, 0), (3, 1)))
        if self.load == "gaussian":
            return found
        # Gravity goes on pointing down.
        return tuple(s for s in found if s.order == (0, 1) and 1 not in s.reversed_axes)

    def shifts(self) -> dict[str, Problem]:
        finer = {"correlation length halved": {"tau": 2 * self.tau}}
        if self.modulus == "uniform":
            return relatives(self, finer if self.load == "gaussian" else {})
        contrast = self.high / self.low
        harder = (
            {f"contrast {2 * contrast:g} instead of {contrast:g}": {"high": 2 * self.high}}
            if self.modulus == "two-phase"
            else {"log-deviation 1.5 times as large": {"deviation": 1.5 * self.deviation}}
        )
        return relatives(self, {**harder, **finer})

    @property
    def _clamped_sides(self) -> list[str]:
        return [side.strip() for side in self.clamped.split(",")]


def elastic_plate(
    modulus: Float[Tensor, "batch x y"], grid: Grid, *, poisson_ratio: float, plane: Plane
) -> dict[tuple[int, int, int], Float[Tensor, "batch 2 x y"]]:
    """The stiffness of bilinear elements over h², no side clamped: coefficients by (component step, offset).

    The element between four nodes has the mean of their moduli. Rows sum to zero, and so do their moments.

    Errors: `InputError` for elements that are not square.
    """
    if not math.isclose(*grid.spacing):
        raise InputError(f"elasticity: elements of {grid.spacing[0]:.3g} x {grid.spacing[1]:.3g}; squares are needed")
    corner = [modulus[:, i : modulus.shape[1] - 1 + i, j : modulus.shape[2] - 1 + j] for i, j in _CORNERS]
    element = torch.stack(corner).mean(0) / grid.spacing[0] ** 2
    stiffness = _element_stiffness(poisson_ratio, plane)
    found: dict[tuple[int, int, int], list[Tensor]] = {}
    pieces: dict[tuple[int, int, int, int], Tensor] = {}
    # Each element adds, at each of its corners, couplings to all four: moved there by padding the field of elements.
    moved = [torch.nn.functional.pad(element, (j, 1 - j, i, 1 - i)) for i, j in _CORNERS]
    for (a, (i, j)), (b, (k, m)) in itertools.product(enumerate(_CORNERS), repeat=2):
        for row, column in itertools.product(range(2), repeat=2):
            key = (column - row, k - i, m - j, row)
            share = float(stiffness[2 * a + row, 2 * b + column]) * moved[a]
            pieces[key] = pieces[key] + share if key in pieces else share
    for (step, across, along, row), piece in pieces.items():
        rows = found.setdefault((step, across, along), [torch.zeros_like(modulus)] * 2)
        rows[row] = piece
    return {offset: torch.stack(rows, 1) for offset, rows in found.items()}


def clamped_plate(
    stiffness: dict[tuple[int, int, int], Float[Tensor, "batch 2 x y"]],
    force: Float[Tensor, "batch 2 x y"],
    walls: Boundary,
) -> StencilSystem:
    """The system of a plate whose Dirichlet sides are held at zero: their nodes are rows of their own."""
    loose = _loose_nodes(force.shape[2:], walls).to(force.device)
    coefficients = []
    for (_, across, along), values in stiffness.items():
        n, m = loose.shape
        neighbour = torch.zeros_like(loose)
        rows, columns = (slice(max(0, -s), size - max(0, s)) for s, size in ((across, n), (along, m)))
        source = tuple(slice(max(0, s), size + min(0, s)) for s, size in ((across, n), (along, m)))
        neighbour[rows, columns] = loose[source]
        coefficients.append(torch.where(loose & neighbour, values, 0.0))
    place = list(stiffness).index((0, 0, 0))
    diagonal = stiffness[(0, 0, 0)]
    # A clamped row is of the size of the others, which keeps the condition of the matrix.
    size = diagonal.flatten(1).mean(1).reshape(-1, 1, 1, 1)
    coefficients[place] = torch.where(loose, diagonal, size)
    return StencilSystem(
        coefficients=torch.stack(coefficients, 1),
        rhs=torch.where(loose, force, 0.0),
        offsets=tuple(stiffness),
        boundary=Boundary((("neumann", "neumann"), *walls.sides)),
        kind="spd",
        centring="node",
    )


def _loose_nodes(shape: Sequence[int], walls: Boundary) -> Bool[Tensor, "x y"]:
    loose = torch.ones(*shape, dtype=torch.bool)
    for axis, pair in enumerate(walls.sides):
        for condition, end in zip(pair, (0, -1), strict=True):
            if condition == "dirichlet":
                loose.select(axis, end).fill_(False)
    return loose


@lru_cache(maxsize=16)
def _element_stiffness(ratio: float, plane: Plane) -> Float[np.ndarray, "8 8"]:
    """∫ Bᵀ D B over a square element of E = 1, by the exact 2 x 2 Gauss rule; unknowns corner by corner, x before y."""
    mu = 1 / (2 * (1 + ratio))
    lam = ratio / ((1 + ratio) * (1 - 2 * ratio)) if plane == "strain" else ratio / (1 - ratio**2)
    elastic = np.array([[lam + 2 * mu, lam, 0], [lam, lam + 2 * mu, 0], [0, 0, mu]])
    stiffness = np.zeros((8, 8))
    for s, t in itertools.product((0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3)), repeat=2):
        strain = np.zeros((3, 8))
        for a, (i, j) in enumerate(_CORNERS):
            along_x = (1 if i else -1) * (t if j else 1 - t)
            along_y = (s if i else 1 - s) * (1 if j else -1)
            strain[:, 2 * a : 2 * a + 2] = [[along_x, 0], [0, along_y], [along_y, along_x]]
        stiffness += strain.T @ elastic @ strain / 4
    return (stiffness + stiffness.T) / 2
