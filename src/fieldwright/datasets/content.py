"""What a shard holds of a problem's samples: fields and numbers in storage order, in single precision.

A trajectory per sample; of a steady problem the initial guess at pseudo-time 0 and the solution at 1. What evolves is
stored with its initial state; of the inputs that leaves what stays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.datasets.plan import Plan
from fieldwright.datasets.store import ShardContent, Sides, StoredField, StoredScalar
from fieldwright.grids import Boundary
from fieldwright.problems import Field, Problem

RESIDUAL_MEANS = {
    True: "true relative residual of the float64 solution, before rounding to float32",
    False: "largest relative L2 change of a frame when its time steps are halved, in float64; NaN: not compared",
}
"""What a stored sample's ``residual`` is, of steady problems and of those that evolve."""


@dataclass(frozen=True)
class Entry:
    """One array of a shard: the channels of a scalar or a vector, of the inputs or (``evolves``) the outputs."""

    members: tuple[Field, ...]
    channels: tuple[int, ...]
    evolves: bool

    @property
    def name(self) -> str:
        return self.members[0].vector or self.members[0].name

    def stored(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        scales: Mapping[str, float],
    ) -> np.ndarray:
        """The array as it lies on disk, (batch, [time,] *space, [component]): float32, in the unit of storage."""
        source = states.movedim(1, 2) if self.evolves else inputs
        values = [source[:, channel] for channel in self.channels]
        scale = scales.get(self.members[0].name, 1.0)
        joined = torch.stack(values, -1) if self.members[0].vector else values[0]
        return np.ascontiguousarray((joined if scale == 1 else joined / scale).float().cpu().numpy())


def entries(problem: Problem) -> tuple[Entry, ...]:
    """The arrays of a problem's shards, in order; numbers are no arrays."""
    found: list[Entry] = []
    first = 0 if problem.steady else len(problem.outputs)
    sides = ((problem.inputs, first, False), (problem.outputs, 0, True))
    for side, begin, evolves in sides:
        open_vector = ""
        for channel, member in enumerate(side[begin:], begin):
            if member.number:
                open_vector = ""
            elif member.vector and member.vector == open_vector:
                last = found[-1]
                found[-1] = Entry((*last.members, member), (*last.channels, channel), evolves)
            else:
                found.append(Entry((member,), (channel,), evolves))
                open_vector = member.vector
    return tuple(found)


def sample_numbers(problem: Problem, inputs: Float[Tensor, "batch channel *space"]) -> dict[str, np.ndarray]:
    """The inputs that are one number per sample, by name."""
    return {
        field.name: inputs[:, channel].flatten(1)[:, 0].cpu().numpy()
        for channel, field in enumerate(problem.inputs)
        if field.number
    }


def shard_content(
    problem: Problem,
    plan: Plan,
    arrays: Sequence[np.ndarray],
    numbers: Mapping[str, np.ndarray],
    per_sample: Mapping[str, np.ndarray],
) -> ShardContent:
    """The shard of samples whose ``arrays`` are those of `entries` as stored, ``numbers`` those of `sample_numbers`."""
    scales = plan.scales or {}
    fields = [
        StoredField(
            name=entry.name,
            values=values,
            order=int(bool(entry.members[0].vector)),
            time_varying=entry.evolves,
            unit=entry.members[0].unit,
            scale=scales.get(entry.members[0].name, 1.0),
            in_storage_unit=True,
            description=entry.members[0].description,
        )
        for entry, values in zip(entries(problem), arrays, strict=True)
    ]
    own = [_scalar(problem, field, numbers[field.name]) for field in problem.inputs if field.number]
    taken = {entry.name for entry in (*fields, *own)}
    constants = {n: v for n, v in plan.settings.items() if isinstance(v, float) and n not in taken and math.isfinite(v)}
    return ShardContent(
        dataset_name=plan.name,
        grid=problem.grid,
        boundary=_walls(problem),
        samples=len(per_sample["index"]),
        times=problem.times.numpy(),
        fields=tuple(fields),
        scalars=(*own, *(StoredScalar(name, np.asarray(value)) for name, value in constants.items())),
        steady=problem.steady,
        provenance={
            "problem": plan.kind,
            "settings": json.dumps(plan.settings),
            "seed": plan.seed,
            "solver": plan.method,
            "rtol": plan.rtol,
            "device": plan.device,
            "residual_means": RESIDUAL_MEANS[problem.steady],
            "inputs": json.dumps([field.name for field in problem.inputs]),
            "outputs": json.dumps([field.name for field in problem.outputs]),
        },
        per_sample=per_sample,
    )


def _walls(problem: Problem) -> Boundary | Sides:
    """The conditions at the walls, with "open" where the format has that word and `Boundary` has none."""
    if not any(any(pair) for pair in problem.open_sides):
        return problem.boundary
    pairs = zip(problem.boundary.sides, problem.open_sides, strict=True)
    return Sides(tuple(("open" if opens[0] else low, "open" if opens[1] else high) for (low, high), opens in pairs))


def _scalar(problem: Problem, field: Field, values: np.ndarray) -> StoredScalar:
    """A number per sample; of a problem that looks at the clock, the time of each frame."""
    if field.name == problem.clock:
        return StoredScalar(field.name, problem.times.numpy(), time_varying=True, unit=field.unit, channel=True)
    return StoredScalar(field.name, values, sample_varying=True, unit=field.unit, channel=True)
