"""The convex functions K of Lion-K, each with the problem that weight decay makes of it.

An optimizer that steps along ∂K of a momentum and decays its weights by λ minimises f(x) + K*(λx)/λ, where
K*(y) = sup_z <z, y> - K(z) is infinite outside a convex set, dom K*. So K is a constraint on λx, a penalty on x, or
both:

| kind | K(z) | what it adds to min f(x) |
| --- | --- | --- |
| ``sign`` (``l1``) | Σ\\|z\\| | \\|x\\| <= 1/λ (Lion) |
| ``threshold`` e | Σ max(\\|z\\| - e, 0) | e ‖x‖₁ and \\|x\\| <= 1/λ |
| ``huber`` e | Σ z²/2e where \\|z\\| <= e, else \\|z\\| - e/2 | eλ/2 ‖x‖² and \\|x\\| <= 1/λ |
| ``relativistic`` e | Σ √(z² + e²) | -e/λ Σ √(1 - λ²x²), a barrier in \\|x\\| <= 1/λ |
| ``tanh`` e | e Σ log cosh(z/e) | a binary entropy in \\|x\\| <= 1/λ |
| ``quadratic`` | ‖z‖²/2 | λ/2 ‖x‖² (momentum descent) |
| ``lp`` p, ``l2``, ``linf`` | ‖z‖_p | ‖x‖_q <= 1/λ, 1/p + 1/q = 1 |
| ``group`` | Σ_rows ‖z_row‖ | every row's norm <= 1/λ |
| ``topk`` k | sum of the k largest \\|z\\| | ‖x‖₁ <= k/λ and \\|x\\| <= 1/λ |
| ``spectral`` | nuclear norm | largest singular value <= 1/λ (Muon), see `kappa_sets` |
| ``simplex`` e | e log Σ exp(z/e) | x on the simplex / λ, with an entropy, see `kappa_sets` |
| ``box`` | <c, z> + r‖z‖₁ | \\|λx - c\\| <= r, see `kappa_sets` |
| ``support`` | max over C of <c, z> | x in C/λ for any convex C, see `kappa_sets` |

Each parameter is a z of its own. Of complex numbers the functions of \\|z\\| and of norms take moduli, so ``sign``
steps along z/\\|z\\| and bounds \\|x\\|; ``simplex`` and ``box`` are for real ones.

Source: Chen, Liu, Liang, Liu, "Lion Secretly Solves Constrained Optimization", ICLR 2024 (table of K).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from fieldwright.errors import InputError

Values = Inexact[Tensor, "*shape"]
Number = Float[Tensor, ""]
Scale = Literal["rms", "one"]
"""``rms`` multiplies K so that a step of dense entries has root mean square 1, like a sign: one learning rate serves
all K. The bound grows by the same factor."""
Unit = Literal["mean", "one"]
"""What ``epsilon`` counts in: the mean modulus of the tensor at hand, which makes the step blind to the scale of f, or
1, which makes K a fixed function."""


class Kappa(ABC):
    """A convex function of a tensor. All methods take real or complex tensors of any shape unless their class says no.

    ``odd``: whether ∂K(-z) = -∂K(z).
    """

    @property
    @abstractmethod
    def odd(self) -> bool: ...

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name in `fieldwright.training.kappa_choice.KAPPAS`."""

    @abstractmethod
    def value(self, z: Values) -> Number:
        """K(z)."""

    @abstractmethod
    def subgradient(self, z: Values) -> Values:
        """An element of ∂K(z), as a fresh tensor."""

    @abstractmethod
    def conjugate(self, y: Values) -> Number:
        """K*(y); infinite where a gauge exceeds 1 by more than the square root of the rounding unit."""

    @abstractmethod
    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        """One number for each constraint of dom K*, convex in y: y fulfils it where the number is at most 1."""

    @abstractmethod
    def constraint(self) -> str:
        """What dom K* asks of x, in the symbols of this page; empty where it asks nothing."""

    @abstractmethod
    def at(self, z: Values) -> Kappa:
        """The fixed function that this one is at z: with ``epsilon`` in units of 1."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Its kind and what `fieldwright.training.kappa_choice.build_kappa` makes it of again."""

    def excess(self, y: Values) -> Number:
        """How far y is outside dom K*: the largest gauge less 1, or 0 inside.

        It is convex in y, so a step to (1 - ηλ)y + ηλ∂K(u) lessens it by the factor 1 - ηλ at least.
        """
        gauges = self.gauges(y)
        return (gauges.max() - 1).clamp_min(0) if gauges.numel() else gauges.sum()


def inner(a: Values, b: Values) -> Number:
    """<a, b>, the real part of the sum of conj(a) b."""
    return (a.conj() * b).sum().real


def indicator(kappa: Kappa, y: Values) -> Number:
    """0 in dom K*, with a tolerance of the square root of the rounding unit, infinite outside."""
    excess = kappa.excess(y)
    return torch.zeros_like(excess).masked_fill(excess > math.sqrt(torch.finfo(y.dtype).eps), math.inf)


def positive(what: str, number: float) -> None:
    """Errors: `InputError` for a number that is not positive and finite."""
    if not (number > 0 and math.isfinite(number)):
        raise InputError(f"kappa: {what} = {number}; a positive number is needed")


@dataclass(frozen=True)
class Profile:
    """K(z) = Σ k(|z|): k, its slope and its conjugate k*, each a function of a modulus and of e.

    ``bounded``: whether the slope is at most 1, so that k* is finite on [0, 1] alone.
    """

    value: Callable[[Tensor, Any], Tensor]
    slope: Callable[[Tensor, Any], Tensor]
    conjugate: Callable[[Tensor, Any], Tensor]
    bounded: bool = True


def _hypotenuse(r: Tensor, e: Any) -> Tensor:
    # Squares of small numbers would vanish.
    return torch.hypot(r, e if isinstance(e, Tensor) else torch.full((), e, dtype=r.dtype, device=r.device))


def _binary_entropy(s: Tensor, e: Any) -> Tensor:
    return 0.5 * e * (torch.special.xlogy(1 + s, 1 + s) + torch.special.xlogy(1 - s, 1 - s))


PROFILES: dict[str, Profile] = {
    "sign": Profile(lambda r, e: r, lambda r, e: (r > 0).to(r.dtype), lambda s, e: 0 * s),
    "threshold": Profile(lambda r, e: (r - e).clamp_min(0), lambda r, e: (r > e).to(r.dtype), lambda s, e: e * s),
    "huber": Profile(
        lambda r, e: torch.where(r <= e, r.square() / (2 * e), r - e / 2),
        lambda r, e: (r / e).clamp_max(1),
        lambda s, e: e / 2 * s.square(),
    ),
    "relativistic": Profile(
        lambda r, e: _hypotenuse(r, e),
        lambda r, e: r / _hypotenuse(r, e),
        lambda s, e: -e * (1 - s.square()).sqrt(),
    ),
    # log cosh(r) = r + log((1 + exp(-2r)) / 2) does not overflow.
    "tanh": Profile(
        lambda r, e: r + e * (torch.log1p(torch.exp(-2 * r / e)) - math.log(2)),
        lambda r, e: (r / e).tanh(),
        _binary_entropy,
    ),
    "quadratic": Profile(lambda r, e: r.square() / 2, lambda r, e: r, lambda s, e: s.square() / 2, bounded=False),
}


@dataclass(frozen=True)
class Separable(Kappa):
    """K(z) = Σ k(|z_i|) with a profile k of `PROFILES`.

    ``epsilon`` is e, in units of the tensor's mean modulus or of 1, see `Unit`; ``sign`` and ``quadratic`` have none.
    Errors: `InputError` for an unknown profile, an ``epsilon`` that is not positive or an unknown unit.
    """

    profile: str = "sign"
    epsilon: float = 1.0
    unit: Unit = "mean"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise InputError(f"kappa: profile '{self.profile}'; allowed are {', '.join(PROFILES)}")
        positive("epsilon", self.epsilon)
        if self.unit not in ("mean", "one"):
            raise InputError(f"kappa: unit '{self.unit}'; allowed are mean, one")

    @property
    def odd(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return self.profile

    def value(self, z: Values) -> Number:
        return PROFILES[self.profile].value(z.abs(), self._width(z)).sum()

    def subgradient(self, z: Values) -> Values:
        if self.profile == "sign":
            return z.sgn()
        if self.profile == "quadratic":
            return z.clone()
        return PROFILES[self.profile].slope(z.abs(), self._width(z)) * z.sgn()

    def conjugate(self, y: Values) -> Number:
        """K*(y), with ``epsilon`` as if in units of 1: `at` gives the function that has it so."""
        profile = PROFILES[self.profile]
        modulus = y.abs().clamp_max(1) if profile.bounded else y.abs()
        return profile.conjugate(modulus, self.epsilon).sum() + indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        return y.abs().flatten() if PROFILES[self.profile].bounded else y.abs().flatten()[:0]

    def constraint(self) -> str:
        return "max |x_i| <= 1/λ" if PROFILES[self.profile].bounded else ""

    def at(self, z: Values) -> Separable:
        return Separable(self.profile, max(float(self._width(z)), torch.finfo(z.dtype).tiny), "one")

    def settings(self) -> dict[str, Any]:
        free = self.profile in ("sign", "quadratic")
        return {"kind": self.profile, **({} if free else {"epsilon": self.epsilon, "unit": self.unit})}

    def _width(self, z: Values) -> Tensor | float:
        if self.unit == "one" or self.profile in ("sign", "quadratic"):
            return self.epsilon
        return (self.epsilon * z.abs().mean()).clamp_min(torch.finfo(z.dtype).tiny)


@dataclass(frozen=True)
class Norm(Kappa):
    """K(z) = s ‖z‖_p of the whole tensor, 1 < p <= ∞, with s = n^(1 - 1/p) for ``scale`` "rms" (and p < ∞), else 1.

    Errors: `InputError` for p <= 1 (p = 1 is ``sign``) or an unknown scale.
    """

    p: float = 2.0
    scale: Scale = "rms"

    def __post_init__(self) -> None:
        if not self.p > 1:
            raise InputError(f"kappa: p = {self.p}; more than 1 is needed, and for 1 the kind is 'sign'")
        check_scale(self.scale)

    @property
    def odd(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return {2.0: "l2", math.inf: "linf"}.get(self.p, "lp")

    def value(self, z: Values) -> Number:
        return self._size(z) * _norm(z, self.p)

    def subgradient(self, z: Values) -> Values:
        if self.p == math.inf:
            return _at_largest(z, 1)
        tiny = torch.finfo(z.dtype).tiny
        if self.p == 2:
            return z / _norm(z, 2.0).clamp_min(tiny) * self._size(z)
        return self._size(z) * z.sgn() * (z.abs() / _norm(z, self.p).clamp_min(tiny)).pow(self.p - 1)

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        dual = 1.0 if self.p == math.inf else self.p / (self.p - 1)
        return (_norm(y, dual) / self._size(y)).reshape(1)

    def constraint(self) -> str:
        dual = 1.0 if self.p == math.inf else self.p / (self.p - 1)
        bound = f"n^{1 - 1 / self.p:g}/λ" if self.scale == "rms" and self.p < math.inf else "1/λ"
        return f"‖x‖_{dual:g} <= {bound}"

    def at(self, z: Values) -> Norm:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, **({"p": self.p} if self.kind == "lp" else {}), "scale": self.scale}

    def _size(self, z: Values) -> float:
        return z.numel() ** (1 - 1 / self.p) if self.scale == "rms" and self.p < math.inf else 1.0


@dataclass(frozen=True)
class Group(Kappa):
    """K(z) = s Σ ‖z_row‖₂ over the rows (filters: all with one first index) of a tensor, s = √(row's size) or 1.

    A tensor of one axis or none is one row.
    """

    scale: Scale = "rms"

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @property
    def odd(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return "group"

    def value(self, z: Values) -> Number:
        rows, size = self._rows(z)
        return size * rows.norm(dim=1).sum()

    def subgradient(self, z: Values) -> Values:
        rows, size = self._rows(z)
        norms = rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
        return (rows / norms * size).reshape(z.shape)

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        rows, size = self._rows(y)
        return rows.norm(dim=1) / size

    def constraint(self) -> str:
        return f"every row's ‖x‖ <= {'√(its size)' if self.scale == 'rms' else '1'}/λ"

    def at(self, z: Values) -> Group:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "scale": self.scale}

    def _rows(self, z: Values) -> tuple[Inexact[Tensor, "rows columns"], float]:
        rows = z.reshape(z.shape[0] if z.ndim > 1 else 1, -1)
        return rows, math.sqrt(rows.shape[1]) if self.scale == "rms" else 1.0


@dataclass(frozen=True)
class TopK(Kappa):
    """K(z) = sum of the k largest moduli; a tensor of fewer entries takes them all.

    Errors: `InputError` for k < 1.
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"kappa: k = {self.k}; at least 1 is needed")

    @property
    def odd(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return "topk"

    def value(self, z: Values) -> Number:
        return z.abs().flatten().topk(min(self.k, z.numel())).values.sum()

    def subgradient(self, z: Values) -> Values:
        return _at_largest(z, min(self.k, z.numel()))

    def conjugate(self, y: Values) -> Number:
        return indicator(self, y)

    def gauges(self, y: Values) -> Float[Tensor, " constraints"]:
        modulus = y.abs().flatten()
        return torch.cat([modulus, modulus.sum().reshape(1) / min(self.k, y.numel())])

    def constraint(self) -> str:
        return f"‖x‖_1 <= {self.k}/λ and max |x_i| <= 1/λ"

    def at(self, z: Values) -> TopK:
        return self

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "k": self.k}


def check_scale(scale: str) -> None:
    """Errors: `InputError` for an unknown scale."""
    if scale not in ("rms", "one"):
        raise InputError(f"kappa: scale '{scale}'; allowed are rms, one")


def _norm(z: Values, p: float) -> Number:
    """‖z‖_p, without underflow of the powers."""
    modulus = z.abs()
    if p in (1.0, 2.0, math.inf):
        return torch.linalg.vector_norm(modulus, p)
    largest = modulus.max().clamp_min(torch.finfo(z.dtype).tiny)
    return largest * torch.linalg.vector_norm(modulus / largest, p)


def _at_largest(z: Values, count: int) -> Values:
    """The sign where the modulus is among the ``count`` largest, else 0."""
    chosen = z.abs().flatten().topk(count).indices
    signs = z.sgn().flatten()
    return torch.zeros_like(signs).index_copy_(0, chosen, signs[chosen]).reshape(z.shape)
