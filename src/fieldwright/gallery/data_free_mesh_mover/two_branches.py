"""Whether moving the nodes helps the operator that uses them: one step of Burgers' equation, equal weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fieldwright.datasets import Normalizer
from fieldwright.gallery.data_free_mesh_mover.effort import Effort
from fieldwright.gallery.page import Cell, Table, spread
from fieldwright.gallery.race import errors
from fieldwright.grids import Grid
from fieldwright.operators import MovingMeshOperator, parameter_count
from fieldwright.problems import Burgers
from fieldwright.progress import Reporter
from fieldwright.training import Phase, TrainingData, train

POINTS, THINNING, TEST = 64, 4, 50
VISCOSITY, BEFORE, STEP = 0.004, 0.5, 0.1
# A front of speed one half moves so far in a step.
MOTION = 0.05
MESHES = ("moving", "uniform")


@dataclass(frozen=True)
class Trained:
    """One trained operator: errors on test samples, and the share of the output that its moving branch makes."""

    mesh: str
    seed: int
    parameters: int
    l2: float
    h1: float
    contribution: float


def one_step_of_burgers(effort: Effort) -> tuple[TrainingData, tuple[torch.Tensor, torch.Tensor]]:
    """States with fronts that have formed, and a tenth later; solved on a grid four times finer."""
    settings = {"resolution": POINTS * THINNING, "viscosity": VISCOSITY, "deviation": 0.5}
    valid, test = (20, TEST) if effort.samples > 100 else (4, 4)
    first = Burgers(duration=BEFORE, **settings)
    u, _ = first.solve(first.sample(range(effort.samples + valid + test), seed=0))
    later, _ = Burgers(duration=STEP, **settings).solve(u)
    parts = [effort.samples, valid, test]
    (a, a_valid, a_test), (b, b_valid, b_test) = (f[..., ::THINNING].split(parts) for f in (u, later))
    data = TrainingData(
        (a.float(), b.float()),
        (a_valid.float(), b_valid.float()),
        inputs=Normalizer.fit(a),
        outputs=Normalizer.fit(b),
        grid=Grid((POINTS,), "periodic"),
    )
    return data, (a_test, b_test)


def compare_branches(effort: Effort, reporter: Reporter) -> list[Trained]:
    """Train the operator with moving nodes, and with nodes that stay, for the same steps."""
    data, test = one_step_of_burgers(effort)
    phase = Phase(steps=effort.operator_steps, batch_size=16, learning_rate=3e-3)
    found = []
    for seed in effort.seeds:
        for mesh in MESHES:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                operator = MovingMeshOperator(
                    1, 1, width=16, mesh=mesh, motion=MOTION, dimension=1, boundary="periodic", centring="periodic"
                )
            with tempfile.TemporaryDirectory() as directory:
                train(operator, [phase], data, directory=Path(directory), seed=seed)
            l2, h1 = errors(operator, data, test)
            share = float(operator.contribution(data.inputs.encode(test[0].float())).mean())
            found.append(Trained(mesh, seed, parameter_count(operator), l2, h1, share))
            reporter.notice(f"{mesh} nodes, seed {seed}: L2 {l2:.2%}, H1 {h1:.2%}, moving branch {share:.0%}")
    return found


def branches_table(found: Sequence[Trained], effort: Effort) -> Table:
    """Section three of the page."""
    rows: list[dict[str, Cell]] = []
    for mesh in MESHES:
        own = [one for one in found if one.mesh == mesh]
        rows.append(
            {
                "nodes of the second branch": mesh,
                "weights": own[0].parameters,
                "relative L2": spread([one.l2 for one in own]),
                "relative H1": spread([one.h1 for one in own]),
                "its share of the output": spread([one.contribution for one in own]),
            }
        )
    return Table(
        heading="Does the moving branch pay?",
        setting=(
            f"One step of {STEP} of Burgers' equation with fronts (viscosity {VISCOSITY:g}) on {POINTS} points, from a "
            f"solution on {POINTS * THINNING}; {effort.samples} training samples, {effort.operator_steps} steps of 16. "
            "Both have two branches, each a small Fourier operator, and the same weights; the nodes of the second move "
            f"or stay. Median over {len(effort.seeds)} seeds (least to largest)."
        ),
        rows=rows,
        reading=(
            "The second branch is given no more than the grid's own values, interpolated; what it may gain is network "
            "where the front is, what it pays is interpolation forth and back. A public thesis on another task found "
            "valid meshes and no gain too."
        ),
    )
