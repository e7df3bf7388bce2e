"""MUSCL finite volumes for a conservation law on cells, second order: the rate of change, and the march in time.

    u_i' = -Σ_d (F_{i+½} - F_{i-½}) / h_d + s_i / h_d,   F_{i+½} = flux(upper edge of cell i, lower edge of cell i+1)

with edge states from limited slopes of the primitive fields. In time either MUSCL-Hancock sweeps (`hancock`), compiled
on a CPU (`lane_sweep`), or strong-stability-preserving Runge-Kutta steps of this rate (`runge_kutta`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers.finite_volume import hancock, lane_sweep
from fieldwright.solvers.finite_volume.laws import ConservationLaw
from fieldwright.solvers.finite_volume.limiters import LIMITERS, Limiter, half_slope
from fieldwright.solvers.finite_volume.walls import SIDES, Walls, with_ghosts
from fieldwright.solvers.lanes import LANES, aligned
from fieldwright.solvers.runge_kutta import MOST_STEPS, ssp_rk2, ssp_rk3

Stepping = Literal["hancock", "ssp2", "ssp3"]
STEPPINGS: tuple[str, ...] = get_args(Stepping)


@dataclass(frozen=True)
class Scheme:
    """A law with its discretisation.

    ``stepping``  "hancock", or method-of-lines steps of order 2 or 3, "ssp2", "ssp3"
    ``cfl``       the step over the largest that crosses one cell: by the fastest axis for "hancock", by the sum of the
                  axes' speeds for the others
    """

    law: ConservationLaw
    walls: Walls
    spacing: tuple[float, ...]
    limiter: Limiter = "monotonized"
    stepping: Stepping = "hancock"
    cfl: float = 0.8

    def rate(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, "batch field *space"]:
        """The rate of change of the conserved fields, differentiable."""
        primitive = self.law.primitive(conserved)
        total = torch.zeros_like(conserved)
        for axis, h in enumerate(self.spacing):
            place = axis + 2
            n = primitive.shape[place]
            around = with_ghosts(primitive, axis, self.walls[axis])
            # Slopes of the cells and of one ghost at either end.
            below, here, above = (around.narrow(place, k, n + 2) for k in range(3))
            low, high = self.law.edges(here, half_slope(self.limiter, below, here, above))
            left, right = high.narrow(place, 0, n + 1), low.narrow(place, 1, n + 1)
            seen_left, seen_right, _ = self.law.flux(left, right, axis)
            total = total - (seen_left.narrow(place, 1, n) - seen_right.narrow(place, 0, n)) / h
            source = self.law.source(low.narrow(place, 1, n), high.narrow(place, 1, n), axis)
            total = total if source is None else total + source / h
        return total

    def speed(self, conserved: Float[Tensor, "batch field *space"]) -> Float[Tensor, " batch"]:
        """The largest Σ_d (|v_d| + c)/h_d of a cell, in 1/time."""
        primitive = self.law.primitive(conserved)
        sound = self.law.sound(primitive)
        total = torch.zeros_like(sound)
        for axis, h in enumerate(self.spacing):
            total = total + (primitive[:, 1 + axis].abs() + sound) / h
        return total.flatten(1).amax(1)

    def march(
        self, primitive: Float[Tensor, "batch field *space"], interval: float, frames: int, least_steps: int = 1
    ) -> Float[Tensor, "batch time field *space"]:
        """Primitive states after 1, 2, ..., ``frames`` intervals, in at least ``least_steps`` steps each.

        A sample that fails, or needs more than `MOST_STEPS` steps in an interval, is NaN from then on and leaves the
        others alone.
        """
        compiled = self.stepping == "hancock" and self.law.kernel is not None and primitive.device.type == "cpu"
        return (self.march_lanes if compiled else self.march_tensors)(primitive, interval, frames, least_steps)

    def march_tensors(
        self, primitive: Float[Tensor, "batch field *space"], interval: float, frames: int, least_steps: int = 1
    ) -> Float[Tensor, "batch time field *space"]:
        """`march` in torch code, on any device."""
        state, found = self.law.conserved(primitive), []
        for _ in range(frames):
            if self.stepping == "hancock":
                state = hancock.march(
                    self.law, state, interval, walls=self.walls, spacing=self.spacing, limiter=self.limiter,
                    cfl=self.cfl, least_steps=least_steps, most_steps=MOST_STEPS,
                )  # fmt: skip
            else:
                step = ssp_rk2 if self.stepping == "ssp2" else ssp_rk3
                state = step(self.rate, state, interval, self.speed, cfl=self.cfl, least_steps=least_steps)
            found.append(self.law.primitive(state))
        return torch.stack(found, 1)

    def march_lanes(
        self, primitive: Float[Tensor, "batch field *space"], interval: float, frames: int, least_steps: int = 1
    ) -> Float[Tensor, "batch time field *space"]:
        """`march` by compiled sweeps on the CPU, one sample after another."""
        assert self.law.kernel is not None
        dimension, shape = len(self.spacing), tuple(primitive.shape[2:])
        # In one dimension the box is a single row, without a velocity across.
        rows, columns = (1, *shape) if dimension == 1 else shape
        kept = [0, 2, 3] if dimension == 1 else [0, 1, 2, 3]
        table = lane_sweep.march_table(rows, columns, self.law.kernel, LIMITERS.index(self.limiter))
        work = aligned(-(-lane_sweep.workspace_size(table) // LANES), np.float64)
        sides = [SIDES.index(side) for pair in self.walls for side in pair]
        walls = np.array([0, 0, *sides] if dimension == 1 else sides, np.int64)
        spacing = np.array([1.0, *self.spacing] if dimension == 1 else self.spacing)
        fields = np.zeros((len(primitive), lane_sweep.FIELDS, rows, columns))
        fields[:, kept] = primitive.detach().numpy().reshape(len(primitive), len(kept), rows, columns)
        out = np.empty((len(primitive), frames, lane_sweep.FIELDS, rows, columns))
        for sample, later in zip(fields, out, strict=True):
            lane_sweep.march(
                table, sample, later, work, walls, *self.law.constants, spacing,
                float(interval), least_steps, self.cfl, MOST_STEPS,
            )  # fmt: skip
        found = torch.from_numpy(np.ascontiguousarray(out[:, :, kept]))
        return found.reshape(len(primitive), frames, len(kept), *shape)
