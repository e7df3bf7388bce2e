"""Damped oscillations of a field on a grid, u'' = s(x) D u - σ(x) u', D the sum of second differences along its axes.

Explicit steps of length τ, of order

    2     leapfrog (Störmer-Verlet):  v₊ = v₋ + τ (s D u - σ (v₋ + v₊)/2),  u <- u + τ v₊;  one difference a step
    4, 8  Taylor's series of the flow in Horner's form: a difference a step for each order

Leapfrog without damping keeps a quadratic form near the energy exactly, whatever the time; its error in phase is
(ωτ)²/24 per unit of phase, that of the series (ωτ)^p/(p+1)!. With the largest ω of the grid stable steps have ωτ < 2,
2.1 and 3.2, the last two cut by the damped corners of a box, whose rate of decay is 1.32 of it.

Source: E. Hairer, C. Lubich, G. Wanner, "Geometric Numerical Integration", I.1.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers import oscillation_kernel
from fieldwright.solvers.summation_by_parts import CLOSED, INTERIOR, SecondDifference

LIMITS = {2: 2.0, 4: 2.1, 8: 3.2}
"""The largest stable ωτ of each order."""
_SAFETY = 0.99


@dataclass(frozen=True)
class Oscillation:
    """The equation on one or two ``axes`` in steps of ``time_order`` 2, 4 or 8."""

    axes: tuple[SecondDifference, ...]
    time_order: int

    def laplacian(self, field: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """D u."""
        total = torch.zeros_like(field)
        for place, axis in enumerate(self.axes, start=1):
            total = total + axis.apply(field, place)
        return total

    def weights(self) -> Float[Tensor, " *space"]:
        """H of the grid: the quadrature in which D is symmetric."""
        total = torch.ones((), dtype=torch.float64)
        for axis in self.axes:
            total = total[..., None] * axis.weights
        return total

    def least_steps(self, stiffness: Float[Tensor, "batch *space"], duration: float) -> int:
        """The fewest steps in ``duration`` that are stable for all samples."""
        largest = float(stiffness.max()) * sum(axis.radius for axis in self.axes)
        if not 0 < largest < math.inf:
            return 1
        return max(1, math.ceil(duration * math.sqrt(largest) / (_SAFETY * LIMITS[self.time_order])))

    def march(
        self,
        displacement: Float[Tensor, "batch *space"],
        velocity: Float[Tensor, "batch *space"],
        stiffness: Float[Tensor, "batch *space"],
        damping: Float[Tensor, "batch *space"],
        *,
        interval: float,
        frames: int,
        steps: int,
    ) -> Float[Tensor, "batch time 2 *space"]:
        """(u, u') after 1, 2, ..., ``frames`` intervals of ``steps`` equal steps each.

        ``damping`` is on the outermost points alone. Compiled on a CPU, torch code elsewhere.
        """
        march = self.march_compiled if displacement.device.type == "cpu" else self.march_tensors
        return march(displacement, velocity, stiffness, damping, interval / steps, frames, steps)

    def march_tensors(
        self,
        displacement: Float[Tensor, "batch *space"],
        velocity: Float[Tensor, "batch *space"],
        stiffness: Float[Tensor, "batch *space"],
        damping: Float[Tensor, "batch *space"],
        time: float,
        frames: int,
        steps: int,
    ) -> Float[Tensor, "batch time 2 *space"]:
        """Frames of ``steps`` steps of length ``time`` in torch code, on any device."""
        u, v, found, half = displacement, velocity, [], 0.5 * time * damping

        def push(field: Tensor) -> Tensor:
            return stiffness * self.laplacian(field)

        for _ in range(frames):
            if self.time_order == 2:
                v = (1 - half) * v + 0.5 * time * push(u)
                for number in range(steps):
                    u = u + time * v
                    if number < steps - 1:
                        v = ((1 - half) * v + time * push(u)) / (1 + half)
                v = (v + 0.5 * time * push(u)) / (1 + half)
            else:
                for _ in range(steps):
                    a, b = u, v
                    for remaining in range(self.time_order, 0, -1):
                        share = time / remaining
                        a, b = u + share * b, v + share * (push(a) - damping * b)
                    u, v = a, b
            found.append(torch.stack([u, v], 1))
        return torch.stack(found, 1)

    def march_compiled(
        self,
        displacement: Float[Tensor, "batch *space"],
        velocity: Float[Tensor, "batch *space"],
        stiffness: Float[Tensor, "batch *space"],
        damping: Float[Tensor, "batch *space"],
        time: float,
        frames: int,
        steps: int,
    ) -> Float[Tensor, "batch time 2 *space"]:
        """`march_tensors` compiled, one sample after another."""
        batch, shape = len(displacement), tuple(displacement.shape[1:])
        rows, columns = (1, *shape) if len(shape) == 1 else shape
        first, last = self.axes[0], self.axes[-1]
        reach = len(INTERIOR[last.order]) // 2
        closed = reach if last.wraps else CLOSED[last.order]
        interior = np.array(INTERIOR[last.order][reach:]) / last.spacing**2
        march = oscillation_kernel.march_leaps if self.time_order == 2 else oscillation_kernel.march_series
        fields = [t.detach().reshape(batch, -1).numpy() for t in (displacement, velocity, stiffness, damping)]
        out = np.empty((batch, frames, 2, rows * columns))
        for i in range(batch):
            u, v, s, damped = (np.array(field[i]) for field in fields)
            march(
                u, v, s, damped, time, steps, self.time_order, rows, *first.table(), *last.table(), interior, closed,
                out[i],
            )  # fmt: skip
        return torch.from_numpy(out).reshape(batch, frames, 2, *shape)
