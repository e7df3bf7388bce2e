"""Functions K of Lion-K that are given by a convex set: singular values, the simplex, boxes, any linear oracle.

The support function K(z) = max over C of <c, z> of a convex set C has the conjugate that is 0 on C and infinite
elsewhere, and its subgradient is the point of C that is farthest along z. A decaying optimizer with it stays in C/λ at
every step, once it is there, without a projection (Frank-Wolfe's linear oracle). See `fieldwright.training.kappa`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.kappa import Kappa, Number, Scale, Unit, Values, check_scale, indicator, inner, positive

# Odd polynomial a σ + b σ³ + c σ⁵ that sends (0, 1] into about [0.7, 1.2] after five rounds (Jordan et al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
REACH = 1.25
"""More than any singular value is after rounds of `QUINTIC`."""


@dataclass(frozen=True)
class Spectral(Kappa):
    """K(Z) = s Σ σ_i(Z), the nuclear norm; ∂K = s U Vᴴ of the singular value decomposition (Muon's direction).

    A tensor is flattened to a matrix of (first axis, all others), one of fewer than two axes to a row. ``scale`` "rms"
    is s = √max(rows, columns), else 1. ``rounds`` of Newton and Schulz's iteration give U Vᴴ with singular values of
    0.7 to 1.2 instead of 1; None decomposes the matrix. With rounds the constraint is wider by `REACH`.

    Source: Chen, Li, Liu 2025 (arXiv 2506.15054); the iteration: Jordan et al. 2024 (Muon).
    Errors: `InputError` for less than one round or an unknown scale.
    """

    rounds: int | None = 5
    scale: Scale = "rms"

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.rounds is not None and self.rounds < 1:
            raise InputError(f"kappa: rounds = {self.rounds}; at least 1 is needed, or none for the exact factor")

    @property
    def odd(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return "spectral"

    def value(self, z: Values) -> Number:
        matrix, size = self._matrix(z)
        return size * torch.linalg.svdvals(matrix).sum()

    def subgradient(self, z: Values) -> Values:
        return self.subgradients([z])[0]

    def subgradients(self, alike: Sequence[Values]) -> list[Values]:
        """The subgradient of each of several tensors of one shape, in one batch."""
        stacked = torch.stack([self._matrix(z)[0] for z in alike])
        size = self._matrix(alike[0])[1]
        if self.rounds is None:
            u, _, vh = torch.linalg.svd(stacked, full_matrices=False)
            return [(factor * size).reshape(alike[0].shape) for factor in u @ vh]
        factors = orthogonal_factor(stacked, rounds=self.rounds) * size
        return [factor.reshape(alike[0].shape) for factor in factors]

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        matrix, size = self._matrix(y)
        return torch.linalg.svdvals(matrix) / (size * (1.0 if self.rounds is None else REACH))

    def constraint(self) -> str:
        bound = "√max(rows, columns)" if self.scale == "rms" else "1"
        return f"largest singular value <= {'' if self.rounds is None else f'{REACH} '}{bound}/λ"

    def at(self, z: Values) -> Spectral:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "rounds": self.rounds, "scale": self.scale}

    def _matrix(self, z: Values) -> tuple[Inexact[Tensor, "rows columns"], float]:
        matrix = z.reshape(z.shape[0] if z.ndim > 1 else 1, -1)
        return matrix, math.sqrt(max(matrix.shape)) if self.scale == "rms" else 1.0


def orthogonal_factor(
    matrices: Inexact[Tensor, "batch rows columns"], *, rounds: int = 5
) -> Inexact[Tensor, "batch rows columns"]:
    """U Vᴴ of each real or complex matrix, approximately: every singular value is moved to about 1 (0.7 to 1.2).

    The rounds X ← (a I + b X Xᴴ + c (X Xᴴ)²) X act from the left, and all their factors are polynomials of the first
    Gram matrix. So they run on square matrices of the shorter side alone, and X is touched twice: for its Gram matrix
    and for the last product. A zero matrix stays zero.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    size = x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None]
    x = x / size
    gram = x @ x.mH
    identity = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
    total = None
    a, b, c = QUINTIC
    for left in reversed(range(rounds)):
        factor = a * identity + (b * identity + c * gram) @ gram
        total = factor if total is None else factor @ total
        if left:
            gram = factor @ gram @ factor
    assert total is not None  # there is a round at least
    x = total @ x
    return x if wide else x.mH


@dataclass(frozen=True)
class Simplex(Kappa):
    """K(z) = e log Σ exp(z_i/e); ∂K = softmax(z/e): λx are weights that are positive and sum to 1. Real tensors only.

    It adds e Σ y log y of y = λx to the problem. ``epsilon`` and ``unit`` as in `Separable`.
    Errors: `InputError` for an ``epsilon`` that is not positive.
    """

    epsilon: float = 1.0
    unit: Unit = "mean"

    def __post_init__(self) -> None:
        positive("epsilon", self.epsilon)

    @property
    def odd(self) -> bool:
        return False

    @property
    def kind(self) -> str:
        return "simplex"

    def value(self, z: Values) -> Number:
        width = self._width(z)
        return width * torch.logsumexp(real(z, self).flatten() / width, 0)

    def subgradient(self, z: Values) -> Values:
        return torch.softmax(real(z, self).flatten() / self._width(z), 0).reshape(z.shape)

    def conjugate(self, y: Values) -> Number:
        weights = y.clamp_min(0)
        return self.epsilon * torch.special.xlogy(weights, weights).sum() + indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        return torch.cat([1 - real(y, self).flatten(), 1 + (y.sum() - 1).abs().reshape(1)])

    def constraint(self) -> str:
        return "x_i >= 0 and Σ x_i = 1/λ"

    def at(self, z: Values) -> Simplex:
        return Simplex(max(float(self._width(z)), torch.finfo(z.dtype).tiny), "one")

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "epsilon": self.epsilon, "unit": self.unit}

    def _width(self, z: Values) -> Tensor | float:
        if self.unit == "one":
            return self.epsilon
        return (self.epsilon * z.abs().mean()).clamp_min(torch.finfo(z.dtype).tiny)


@dataclass(frozen=True, eq=False)
class Box(Kappa):
    """K(z) = <c, z> + <r, |z|>; ∂K = c + r sign(z): c - r <= λx <= c + r, entry by entry. Real tensors only.

    ``centre`` and ``radius`` are numbers or tensors that fit the parameter. With λ = 1 they bound x itself.
    Errors: `InputError` for a radius that is not positive.
    """

    centre: float | Tensor = 0.0
    radius: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.radius) > 0).all()):
            raise InputError("kappa: the radius of a box has to be positive everywhere")

    @classmethod
    def between(cls, lower: float | Tensor, upper: float | Tensor) -> Box:
        """The box lower <= λx <= upper.

        Errors: `InputError` where a lower bound is not less than its upper one.
        """
        return cls((lower + upper) / 2, (upper - lower) / 2)

    @property
    def odd(self) -> bool:
        return False

    @property
    def kind(self) -> str:
        return "box"

    def value(self, z: Values) -> Number:
        return (self.centre * real(z, self) + self.radius * z.abs()).sum()

    def subgradient(self, z: Values) -> Values:
        return real(z, self).sign() * self.radius + self.centre

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        return ((real(y, self) - self.centre).abs() / self.radius).flatten()

    def constraint(self) -> str:
        if isinstance(self.centre, Tensor) or isinstance(self.radius, Tensor):
            return "(centre - radius)/λ <= x_i <= (centre + radius)/λ"
        return f"{self.centre - self.radius:g}/λ <= x_i <= {self.centre + self.radius:g}/λ"

    def at(self, z: Values) -> Box:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "centre": self.centre, "radius": self.radius}


@dataclass(frozen=True, eq=False)
class Support(Kappa):
    """K(z) = max over c in C of <c, z> for the convex set C whose linear oracle is given: λx stays in C.

    ``oracle``  z -> a point of C that is farthest along z, of z's shape
    ``name``    of C, for texts
    ``rounds``  of the search for the distance of a point from C, which only `gauges` needs

    The gauge is 1 plus a lower bound of the distance of y from C, which is that distance when the search has converged
    and 0 for no point outside once it is long enough: max over the directions d tried of <d, y> - K(d), |d| = 1, where
    the d are y less Frank and Wolfe's iterates.
    """

    oracle: Callable[[Tensor], Tensor]
    name: str = "C"
    rounds: int = field(default=100)

    @property
    def odd(self) -> bool:
        return False

    @property
    def kind(self) -> str:
        return "support"

    def value(self, z: Values) -> Number:
        return inner(self.oracle(z), z)

    def subgradient(self, z: Values) -> Values:
        return self.oracle(z).clone()

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        point = self.oracle(y)
        distance = torch.zeros((), dtype=y.real.dtype, device=y.device)
        for _ in range(self.rounds):
            direction = y - point
            length = torch.linalg.vector_norm(direction)
            if length <= torch.finfo(y.dtype).eps * (1 + torch.linalg.vector_norm(y)):
                break
            farthest = self.oracle(direction)
            distance = torch.maximum(distance, inner(direction, y - farthest) / length)
            step = farthest - point
            size = inner(step, step)
            if size == 0:
                break
            point = point + (inner(direction, step) / size).clamp(0, 1) * step
        return 1 + distance.reshape(1)

    def constraint(self) -> str:
        return f"λx in {self.name}"

    def at(self, z: Values) -> Support:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name}


def real(z: Tensor, kappa: Kappa) -> Tensor:
    """z itself.

    Errors: `InputError` for complex numbers, which have no order.
    """
    if z.is_complex():
        raise InputError(f"kappa '{kappa.kind}': complex parameters have no order; allowed there is a function of |z|")
    return z
