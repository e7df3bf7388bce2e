"""Meshes of fields with fronts side by side: how much less they err than the uniform one, and what they cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fieldwright.gallery.data_free_mesh_mover.fronts import Fronts
from fieldwright.gallery.data_free_mesh_mover.learning import FIELDS
from fieldwright.grids import Grid
from fieldwright.operators import MeshNetwork
from fieldwright.solvers.meshing import (
    Hybrid,
    MeshEngine,
    MeshMover,
    Monitor,
    Relaxation,
    interpolation_error,
    safe_step,
    volumes,
)

HESSIAN, GRADIENT = Monitor(), Monitor("gradient", smoothing=0.0)
UNIFORM, NETWORK, GRADIENT_NETWORK = "uniform", "network, Hessian monitor", "network, gradient monitor"
RELAXED, HYBRID = "relaxation, {} steps", "network + 5 relaxation steps"
RELAXATION_STEPS = (5, 10, 40, 60)
CHUNK = 8
ROUNDS = 3


@dataclass(frozen=True)
class Entrant:
    """One way to a mesh; no engine is the uniform one."""

    name: str
    engine: MeshEngine | None
    monitor: Monitor = HESSIAN


@dataclass(frozen=True)
class Score:
    """What one entrant reached on so many nodes per axis.

    ``ratios``    error of the uniform mesh over that of the moved one, per field
    ``errors``    L2 errors of piecewise linear interpolation
    ``variation`` median coefficient of variation of Hessian monitor times cell area, the same monitor for all
    ``inverted_before``, ``inverted``  fields with an inverted cell before and after the safe step
    ``seconds``   per mesh in a batch of all fields, the monitor not included
    """

    name: str
    nodes: int
    errors: tuple[float, ...]
    ratios: tuple[float, ...]
    variation: float
    inverted_before: int
    inverted: int
    seconds: float

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)


def entrants(network: MeshNetwork, gradient_network: MeshNetwork) -> list[Entrant]:
    """All rows of the table."""
    return [
        Entrant(UNIFORM, None),
        Entrant(NETWORK, network.potentials),
        Entrant(GRADIENT_NETWORK, gradient_network.potentials, GRADIENT),
        *(Entrant(RELAXED.format(steps), Relaxation(steps=steps)) for steps in RELAXATION_STEPS),
        Entrant(HYBRID, Hybrid(network.potentials)),
    ]


def score(entrant: Entrant, fields: Fronts, nodes: int, uniform_errors: tuple[float, ...] | None) -> Score:
    """Make the meshes of all fields and measure them."""
    mover = MeshMover(FIELDS, monitor=entrant.monitor, nodes=nodes, engine=entrant.engine or Relaxation(steps=0))
    values = fields.on(FIELDS)
    reference = HESSIAN(values, FIELDS, mover.box)
    density = entrant.monitor(values, FIELDS, mover.box) if entrant.engine else torch.ones_like(reference)
    mesh, seconds = mover.follow(density), []
    for _ in range(ROUNDS):
        start = time.process_time()
        mover.follow(density)
        seconds.append((time.process_time() - start) / len(values))
    asked = mesh.uniform + mover.motion(density).displacement(mesh.grid.shape, "node")
    errors = mesh_errors(mover, density, fields)
    quality = mesh.quality(reference)
    return Score(
        name=entrant.name,
        nodes=nodes,
        errors=errors,
        ratios=tuple(u / e for u, e in zip(uniform_errors or errors, errors, strict=True)),
        variation=float(quality.variation.median()),
        inverted_before=int((volumes(asked).amin(1) <= 0).sum()),
        inverted=int((quality.least_volume <= 0).sum()),
        seconds=min(seconds),
    )


def mesh_errors(mover: MeshMover, density: torch.Tensor, fields: Fronts) -> tuple[float, ...]:
    """The interpolation error of every field on its mesh, a few at a time."""
    found: list[float] = []
    for start in range(0, len(density), CHUNK):
        part = fields.part(start, start + CHUNK)
        found += interpolation_error(part, mover.follow(density[start : start + CHUNK])).tolist()
    return tuple(found)


def contest(rows: list[Entrant], fields: Fronts, nodes: int) -> dict[str, Score]:
    """Every row on the same fields; the first is the uniform mesh that the others are compared with."""
    scores: dict[str, Score] = {}
    for entrant in rows:
        base = scores[rows[0].name].errors if scores else None
        scores[entrant.name] = score(entrant, fields, nodes, base)
    return scores


@dataclass(frozen=True)
class Validity:
    """Meshes of unseen fields: how many had an inverted cell before the safe step, and after."""

    name: str
    fields: int
    before: int
    after: int
    least_volume: float


def validity(rows: list[Entrant], count: int, nodes: int, *, seed: int) -> list[Validity]:
    """Count the inverted meshes of ``count`` unseen fields."""
    tallies: Mapping[str, list[float]] = {entrant.name: [0, 0, float("inf")] for entrant in rows}
    grid = Grid((nodes, nodes), "node")
    for start in range(0, count, BATCH):
        values = Fronts.draw(min(BATCH, count - start), seed + start).on(FIELDS)
        for entrant in rows:
            assert entrant.engine is not None
            mover = MeshMover(FIELDS, monitor=entrant.monitor, nodes=nodes, engine=entrant.engine)
            density = entrant.monitor(values, FIELDS, mover.box)
            uniform = grid.coordinates().to(values)
            moved = mover.motion(density).displacement(grid.shape, "node")
            step = safe_step(uniform[None], moved)[:, None, None, None]
            least = volumes(uniform + step * moved).amin(1)
            tally = tallies[entrant.name]
            tally[0] += int((volumes(uniform + moved).amin(1) <= 0).sum())
            tally[1] += int((least <= 0).sum())
            tally[2] = min(tally[2], float(least.min()) * 2 * (nodes - 1) ** 2)
    return [Validity(name, count, int(a), int(b), c) for name, (a, b, c) in tallies.items()]


BATCH = 250
