"""The box on which fields can be asked for at any point: its points, the scaling of its axes, its Dirichlet walls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import AXES, CENTRINGS, Boundary


@dataclass(frozen=True)
class Domain:
    """The box [lower, upper] with a condition on each side, and where the points of a grid on it lie.

    Periodic axes have no outside: a point beyond one end is the point that far from the other.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    boundary: Boundary
    centring: str

    @classmethod
    def parse(
        cls,
        dimension: int,
        boundary: str | Sequence[str | Sequence[str]],
        centring: str,
        lower: Sequence[float] | None,
        upper: Sequence[float] | None,
    ) -> Self:
        """A box of this dimension, by default the unit box.

        Errors: `InputError` for a dimension, centring, condition or bound that cannot be used.
        """
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        low = (0.0,) * dimension if lower is None else tuple(float(value) for value in lower)
        high = (1.0,) * dimension if upper is None else tuple(float(value) for value in upper)
        if not len(low) == len(high) == dimension:
            raise InputError(f"lower, upper: {low}, {high}; expected one number for each of the {dimension} axes")
        for axis, (a, b) in enumerate(zip(low, high, strict=True)):
            if not -float("inf") < a < b < float("inf"):
                raise InputError(f"lower, upper: axis {AXES[axis]} runs from {a} to {b}; it must run upwards")
        return cls(low, high, Boundary.parse(boundary, dimension), centring)

    @property
    def dimension(self) -> int:
        return len(self.lower)

    def axes(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> list[Float[Tensor, " n"]]:
        """The coordinates along each axis of a grid of this shape."""
        lines = []
        for n, low, high in zip(shape, self.lower, self.upper, strict=True):
            # A float32 index is exact where one of bfloat16 would stop at 256 points.
            i = torch.arange(n, device=device, dtype=torch.promote_types(dtype, torch.float32))
            fraction = {"cell": (i + 0.5) / n, "node": i / max(n - 1, 1), "periodic": i / n}[self.centring]
            lines.append((low + (high - low) * fraction).to(dtype))
        return lines

    def scaled(self, points: Float[Tensor, "... axis"]) -> Float[Tensor, "... axis"]:
        """The points with each axis brought to -1..1."""
        return torch.stack([self.scaled_axis(points[..., axis], axis) for axis in range(self.dimension)], -1)

    def scaled_axis(self, line: Float[Tensor, "*any"], axis: int) -> Float[Tensor, "*any"]:
        """Coordinates along one axis, brought to -1..1."""
        low, high = self.lower[axis], self.upper[axis]
        return (line - low) * (2 / (high - low)) - 1

    def check_axis(self, line: Float[Tensor, "*any"], axis: int) -> None:
        """Errors: `InputError` when a coordinate lies outside the box by more than round-off, or is not finite.

        A compiled or exported graph cannot stop on a value: there nothing is checked.
        """
        if torch.compiler.is_compiling() or line.numel() == 0:
            return
        low, high = self.lower[axis], self.upper[axis]
        least, most = float(line.detach().amin()), float(line.detach().amax())
        slack = 4 * torch.finfo(line.dtype).eps * max(abs(low), abs(high), high - low)
        if self.boundary.periodic[axis]:
            low, high = -float("inf"), float("inf")
        if not (low - slack <= least and most <= high + slack and abs(least) + abs(most) < float("inf")):
            raise InputError(
                f"points: {AXES[axis]} runs from {least:g} to {most:g}; the operator knows {AXES[axis]} from"
                f" {self.lower[axis]:g} to {self.upper[axis]:g}"
            )

    def distance_axis(self, scaled: Float[Tensor, "*any"], axis: int) -> Float[Tensor, "*any"]:
        """The distance to the Dirichlet walls of one axis, 1 at its far or middle point; of coordinates in -1..1."""
        low, high = self.boundary.sides[axis]
        distance = torch.ones_like(scaled)
        if low == "dirichlet":
            distance = distance * (1 + scaled) / 2
        if high == "dirichlet":
            distance = distance * (1 - scaled) / 2
        return distance * 4 if low == high == "dirichlet" else distance
