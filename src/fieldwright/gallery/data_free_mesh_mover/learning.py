"""The network of the page: trained on the Monge-Ampère equation alone, by the phase loop."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from fieldwright.gallery.data_free_mesh_mover.fronts import Fronts
from fieldwright.grids import Boundary, Grid
from fieldwright.operators import MeshNetwork
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers.meshing import Box, Monitor
from fieldwright.training import MongeAmpere, Phase, monitor_data, train

FIELDS = Grid((64, 64), "cell")
TRAINING_FIELDS, VALIDATION_FIELDS = 512, 16


def trained_network(monitor: Monitor, *, steps: int, seed: int = 0) -> tuple[MeshNetwork, float]:
    """A network for this monitor of fields with fronts, and the CPU seconds that its training took."""
    start = time.process_time()
    fields = Fronts.draw(TRAINING_FIELDS + VALIDATION_FIELDS, seed=1000 + seed).on(FIELDS)
    density = monitor(fields, FIELDS, Box.of(FIELDS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MeshNetwork()
    data = monitor_data(density[:TRAINING_FIELDS], density[TRAINING_FIELDS:], network.space)
    phase = Phase(
        name="equidistribute",
        objective=MongeAmpere(network.space),
        learning_rate=LEARNING_RATE,
        schedule="one-cycle",
        warmup=0.15,
        weight_decay=0.0,
        batch_size=16,
        steps=steps,
    )
    with tempfile.TemporaryDirectory() as directory:
        train(network, [phase], data, directory=Path(directory), seed=seed, symmetries=SYMMETRIES)
    return network.eval(), time.process_time() - start


STEPS, LEARNING_RATE = 600, 3e-3
SYMMETRIES = box_symmetries(FIELDS, Boundary.parse("neumann", 2))
