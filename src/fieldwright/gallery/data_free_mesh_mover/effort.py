"""How much of the mesh mover's page is measured."""

from dataclasses import dataclass

from fieldwright.gallery.data_free_mesh_mover.learning import STEPS


@dataclass(frozen=True)
class Effort:
    """Steps of the network's training, fields and nodes of the contest, fields checked for inverted cells; steps and
    samples of the two-branch operator's training, and its seeds."""

    network_steps: int
    fields: int
    nodes: int
    checked: int
    operator_steps: int
    samples: int
    seeds: tuple[int, ...]


FULL = Effort(STEPS, fields=32, nodes=48, checked=1000, operator_steps=250, samples=320, seeds=(0, 1))
QUICK = Effort(3, fields=4, nodes=12, checked=4, operator_steps=2, samples=16, seeds=(0,))
