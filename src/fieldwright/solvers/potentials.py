"""Potentials of diffusion, w(u) = ∫₀ᵘ k(s) ds, so that the flux -k(u) ∇u is -∇w: conductivities with one number each.

| family      | k(u)                       | w(u)                       |
| ----------- | -------------------------- | -------------------------- |
| `linear`    | c                          | c u                        |
| `power`     | max(u, 0)^m                | max(u, 0)^(m + 1) / (m + 1) |
| `threshold` | 1 where u >= s, 0 elsewhere | max(u - s, 0)              |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

Family = Literal["linear", "power", "threshold"]
FAMILIES: tuple[str, ...] = get_args(Family)


@dataclass(frozen=True)
class Potential:
    """w and its slope k, cell by cell; ``number`` (c, m or s) has a batch axis and broadcasts against the fields."""

    family: Family
    number: Float[Tensor, "batch ..."]

    def __call__(self, u: Float[Tensor, "batch *space"]) -> tuple[Tensor, Tensor]:
        """(w, k) at u, differentiable in u and in the number."""
        if self.family == "linear":
            return self.number * u, self.number.expand_as(u)
        if self.family == "power":
            filled = u.clamp_min(0.0)
            k = filled**self.number
            return filled * k / (self.number + 1), k
        return (u - self.number).clamp_min(0.0), (u >= self.number).to(u)

    def select(self, samples: Tensor) -> Potential:
        """The potentials of some of the samples."""
        return Potential(self.family, self.number[samples])

    @property
    def positive(self) -> bool:
        """Whether diffusion keeps u >= 0, and k is meant for such u alone."""
        return self.family != "linear"

    @property
    def piecewise_linear(self) -> bool:
        """Whether w has no curvature but in kinks."""
        return self.family != "power"
