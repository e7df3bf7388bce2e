"""The constant-coefficient operator nearest to a stencil system, diagonalised by a transform along each axis.

On an axis with n unknowns let K be the matrix of -u'' times the spacing squared with the axis's wall conditions, and W
its diagonal mass (½ where a node lies on a Neumann wall, else 1). With S = W^-½ K W^-½ = Qᵀ Λ Q,

    L = Σ_a c_a (K_a ⊗ the W_b of the other axes) + σ (all W),
    L⁻¹ = W^-½ Qᵀ (Σ_a c_a λ_a + σ)⁻¹ Q W^-½            (products over the axes),

where Q is the sine, cosine or Fourier basis that meets both walls (`fieldwright.transforms`). The strengths c_a are
read off the couplings of the system, so that anisotropy (of the coefficient or of the spacing) is in the operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers.folded_basis import FoldedBasis
from fieldwright.solvers.stencil import StencilSystem
from fieldwright.transforms import Basis, basis, wavenumbers

BASES: dict[tuple[str, str, str], Basis] = {
    ("cell", "dirichlet", "dirichlet"): "dst2",
    ("cell", "neumann", "neumann"): "dct2",
    ("cell", "dirichlet", "neumann"): "dst4",
    ("cell", "neumann", "dirichlet"): "dct4",
    ("node", "dirichlet", "dirichlet"): "dst1",
    ("node", "neumann", "neumann"): "dct1",
}


@dataclass(frozen=True)
class AxisModes:
    """S = Qᵀ diag(eigenvalues) Q on one axis (rows of ``matrix`` are the modes), and the mass ``weights``."""

    matrix: Float[Tensor, "mode point"]
    eigenvalues: Float[Tensor, " mode"]
    weights: Float[Tensor, " point"]


@lru_cache(maxsize=64)
def axis_modes(n: int, centring: str, low: str, high: str) -> AxisModes:
    """The modes of one axis for a centring and a pair of wall conditions."""
    weights = torch.ones(n, dtype=torch.float64)
    if centring == "node":
        for end, condition in ((0, low), (-1, high)):
            if condition == "neumann":
                weights[end] = 0.5
    if low == "periodic":
        name: Basis | None = "fourier"
    else:
        name = BASES.get(("cell" if centring == "cell" else "node", low, high))
    if name is None or (name == "dct1" and n < 2):
        return _modes_by_eigenproblem(n, low, high, weights)
    period = {"dst1": n + 1, "dct1": n - 1}.get(name, n)
    eigenvalues = 2 - 2 * torch.cos(math.pi * wavenumbers(name, n) / period)
    return AxisModes(basis(name, n), eigenvalues, weights)


def _modes_by_eigenproblem(n: int, low: str, high: str, weights: Float[Tensor, " point"]) -> AxisModes:
    """Node-centred axes with one wall of each kind: a sine basis of type III, left to the symmetric eigensolver."""
    degree = torch.full((n,), 2.0, dtype=torch.float64)
    degree[0] -= float(low == "neumann")
    degree[-1] -= float(high == "neumann")
    line = torch.diag(degree)
    line -= torch.diag(torch.ones(n - 1, dtype=torch.float64), 1) + torch.diag(
        torch.ones(n - 1, dtype=torch.float64), -1
    )
    root = weights.sqrt()
    eigenvalues, vectors = torch.linalg.eigh(line / root / root[:, None])
    return AxisModes(vectors.T.contiguous(), eigenvalues, weights)


@dataclass(frozen=True)
class ConstantOperator:
    """L for every sample of a batch: ``strength`` holds c_a (batch axis), ``shift`` holds σ (batch)."""

    axes: tuple[AxisModes, ...]
    strength: Float[Tensor, "batch axis"]
    shift: Float[Tensor, " batch"]

    def inverse_eigenvalues(self, orders: Sequence[Tensor] | None = None) -> Float[Tensor, "batch *mode"]:
        """1 / (Σ_a c_a λ_a + σ) for every combination of modes, 0 on the kernel (so that L⁻¹ is the pseudo-inverse).

        ``orders`` rearranges the modes of each axis; it must leave mode 0 in its place.
        """
        total = self._column(self.shift)
        for index, axis in enumerate(self.axes):
            line = axis.eigenvalues.to(self.shift.device)
            line = line if orders is None else line[orders[index]]
            total = total + self._column(self.strength[:, index]) * self._line(line, index)
        inverse = total.reciprocal()
        # The lowest mode is the only one that can be in the kernel, and then its eigenvalue is exactly 0.
        lowest = inverse[(slice(None), *[0] * len(self.axes))]
        lowest[~lowest.isfinite()] = 0.0
        return inverse

    @cached_property
    def mass(self) -> Float[Tensor, "1 *space"]:
        """The product of the axes' weights."""
        return mass(self.axes, self.shift)

    def row_sums(self) -> Float[Tensor, "batch *space"]:
        """L 1: what the walls and the shift add to the diagonal."""
        total = self._column(self.shift) * self.mass
        for index, modes in enumerate(self.axes):
            root = modes.weights.sqrt()
            # K has whole numbers for row sums, which the transform gives up to rounding.
            line = (root * (modes.matrix.T @ (modes.eigenvalues * (modes.matrix @ root)))).round()
            beside = mass(self.axes, self.shift, beside=index) * self._column(self.strength[:, index])
            total = total + beside * self._line(line, index)
        return total

    @cached_property
    def diagonal(self) -> Float[Tensor, "batch *space"]:
        """The diagonal of L."""
        total = self._column(self.shift)
        for index, modes in enumerate(self.axes):
            line = (modes.matrix**2 * modes.eigenvalues[:, None]).sum(0)
            total = total + self._column(self.strength[:, index]) * self._line(line, index)
        return total * self.mass

    def solve(self, f: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """L⁻¹ f by one transform to modes and one back, in the precision of ``f``."""
        root = self.mass.sqrt().to(f)
        bases = [FoldedBasis(axis.matrix, dtype=f.dtype, device=f.device) for axis in self.axes]
        modes = f / root
        for axis, line in enumerate(bases):
            modes = line.forward(modes, axis)
        modes = modes * self.inverse_eigenvalues([line.order for line in bases]).to(f)
        for axis, line in enumerate(bases):
            modes = line.backward(modes, axis)
        return modes / root

    def _column(self, per_sample: Float[Tensor, " batch"]) -> Tensor:
        return per_sample.reshape(-1, *[1] * len(self.axes))

    def _line(self, per_point: Float[Tensor, " n"], axis: int) -> Tensor:
        return per_point.to(self.shift.device).reshape(1, -1, *[1] * (len(self.axes) - axis - 1))


def mass(axes: Sequence[AxisModes], like: Tensor, *, beside: int | None = None) -> Float[Tensor, "1 *space"]:
    """The product of the weights of all axes (but ``beside``), to be broadcast; on the device of ``like``."""
    total = torch.ones((1,) * (len(axes) + 1), dtype=torch.float64, device=like.device)
    for index, modes in enumerate(axes):
        if index != beside:
            line = modes.weights.to(like.device)
            total = total * line.reshape(1, -1, *[1] * (len(axes) - index - 1))
    return total


def axes_of(system: StencilSystem) -> tuple[AxisModes, ...]:
    """The modes that meet the system's walls, axis by axis."""
    return tuple(
        axis_modes(n, system.centring, *sides) for n, sides in zip(system.shape, system.boundary.sides, strict=True)
    )


def per_mass(
    value: Float[Tensor, "batch *place"], offset: Sequence[int], box: Sequence[slice], axes: Sequence[AxisModes]
) -> Float[Tensor, "batch *place"]:
    """A coupling along one axis over the mass of the others, which both points of a pair share; others unchanged."""
    along = [axis for axis, step in enumerate(offset) if step != 0]
    if len(along) != 1:
        return value
    beside = mass(axes, value, beside=along[0])
    shared = tuple(part if n > 1 else slice(None) for part, n in zip(box, beside.shape[1:], strict=True))
    return value / beside[(slice(None), *shared)]


def couplings(system: StencilSystem) -> list[tuple[tuple[int, ...], Float[Tensor, "batch *place"], tuple[slice, ...]]]:
    """(offset, -coefficient, the box of points whose neighbour is in the grid) of every off-diagonal entry."""
    found = []
    for index, offset in enumerate(system.offsets):
        if any(offset):
            box = tuple(
                slice(None) if wraps else slice(max(-step, 0), max(n - max(step, 0), max(-step, 0)))
                for step, n, wraps in zip(offset, system.shape, system.boundary.periodic, strict=True)
            )
            found.append((offset, -system.coefficients[(slice(None), index, *box)], box))
    return found


def nearest_constant_operator(system: StencilSystem) -> ConstantOperator:
    """The constant operator with the system's mean couplings: c_a = ½ Σ_o o_a² m_o, the low-frequency symbol.

    m_o is the geometric mean of the coupling at offset o where it is positive everywhere (the best constant for a
    contrast that is symmetric in log a) and the arithmetic mean elsewhere. σ is the mean row sum over the points whose
    stencil lies inside the grid, if positive.

    Errors: `SolverError` when the couplings of an axis do not have a positive mean.
    """
    batch, dimension = system.batch, len(system.shape)
    axes = axes_of(system)
    strength = system.rhs.new_zeros(batch, dimension)
    coupled = [False] * dimension
    row_sum = system.diagonal.clone()
    interior = [slice(0, n) for n in system.shape]
    for offset, value, box in couplings(system):
        row_sum[(slice(None), *box)] -= value
        interior = [
            slice(max(old.start, new.start or 0), min(old.stop, n if new.stop is None else new.stop))
            for old, new, n in zip(interior, box, system.shape, strict=True)
        ]
        if value[0].numel() == 0:
            continue
        held = per_mass(value, offset, box, axes).flatten(1)
        positive = held.amin(1) > 0
        mean = torch.where(positive, held.clamp_min(torch.finfo(held.dtype).tiny).log().mean(1).exp(), held.mean(1))
        for axis, step in enumerate(offset):
            strength[:, axis] += 0.5 * step**2 * mean
            coupled[axis] = coupled[axis] or step != 0
    size = system.diagonal.flatten(1).abs().mean(1)
    for axis in range(dimension):
        if not coupled[axis]:
            # A single cell across: only its walls count, and any positive strength will do.
            strength[:, axis] = size / (2 * dimension)
    if bool((strength <= 0).any()):
        sample, axis = (int(i) for i in (strength <= 0).nonzero()[0])
        raise SolverError(f"spectral: sample {sample} has no positive mean coupling along axis {axis}")
    shift = torch.zeros_like(size)
    inner = row_sum[(slice(None), *interior)].flatten(1)
    if inner.shape[1] > 0:
        mean = inner.mean(1)
        shift = torch.where(mean > 1e-9 * size, mean, 0.0)
    return ConstantOperator(axes, strength, shift)
