"""The network with known weights against outputs of the published code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fieldwright.gallery.page import Cell, Table
from fieldwright.operators import OperatorTransformer, parameter_count
from fieldwright.training.group_error import group_error

GROUPS = ((0,), (1, 2), (3,))
TOLERANCE = 1e-7

# Settings, points per axis, and of the published code in float64: Σ y, mean |y|, y[0, 0, 0, 0], y[1, 1, 5, 7],
# y[0, -1, -1, -1] and the loss.
GOLDEN: dict[str, tuple[dict[str, Any], int, tuple[float, ...]]] = {
    "small": (
        {"width": 12, "depths": [2, 2], "skips": [1, 0], "window": 8},
        64,
        (340.0865812941, 0.0207002557, -0.0151786072, 0.0285035147, -0.0077935985, 0.9878224328),
    ),
    "T": (
        {"size": "T"},
        128,
        (3036.7990936516, 0.0556499968, -0.0283468355, 0.0460125806, 0.0145391082, 0.9728150599),
    ),
}
# Named tensors and real numbers of the published checkpoints.
PUBLISHED = {"T": (844, 20_774_444), "B": (1580, 157_729_988), "L": (1580, 628_575_524)}


@dataclass(frozen=True)
class Agreement:
    """The largest relative difference to six numbers of the published code, for a network of this name."""

    name: str
    points: int
    parameters: int
    difference: float
    loss: float


@torch.no_grad()
def agreements(sizes: Sequence[str]) -> list[Agreement]:
    """Fill networks with the weights of the golden vectors and compare what they return."""
    found = []
    for name in sizes:
        settings, points, golden = GOLDEN[name]
        operator = with_golden_weights(OperatorTransformer(4, 4, **settings).double().eval())
        sample, channel, i, j = torch.meshgrid(
            *(torch.arange(n, dtype=torch.float64) for n in (2, 4, points, points)), indexing="ij"
        )
        x = torch.sin(0.1 * i + 0.2 * j + channel + sample)
        y = operator(x, torch.tensor([0.3, 0.9], dtype=torch.float64))
        loss = group_error(y, x.cos(), groups=GROUPS, power=1)
        ours = torch.stack((y.sum(), y.abs().mean(), y[0, 0, 0, 0], y[1, 1, 5, 7], y[0, -1, -1, -1], loss))
        theirs = torch.tensor(golden, dtype=torch.float64)
        difference = float(((ours - theirs) / theirs).abs().max())
        found.append(Agreement(name, points, parameter_count(operator), difference, float(loss)))
    return found


def with_golden_weights(operator: OperatorTransformer) -> OperatorTransformer:
    """The k-th tensor in the order of names holds 0.1 sin(0.37 j + k) at its j-th place."""
    weights = operator.state_dict()
    for k, name in enumerate(sorted(weights)):
        j = torch.arange(weights[name].numel(), dtype=torch.float64)
        weights[name].copy_((0.1 * torch.sin(0.37 * j + k)).view_as(weights[name]))
    return operator


def counted() -> dict[str, tuple[int, int]]:
    """(named tensors, real numbers) of our networks of the published sizes, without the memory of their weights."""
    found = {}
    for size in PUBLISHED:
        with torch.device("meta"):
            operator = OperatorTransformer(4, 4, size=size)
        found[size] = len(operator.state_dict()), parameter_count(operator)
    return found


def fidelity_table(found: Sequence[Agreement]) -> Table:
    """Section one of the page."""
    rows: list[Mapping[str, Cell]] = [
        {
            "network": f"{a.name}, {a.points} x {a.points}",
            "weights": a.parameters,
            "largest difference": f"{a.difference:.1e}",
            "loss": f"{a.loss:.10f}",
            "published loss": f"{GOLDEN[a.name][2][-1]:.10f}",
        }
        for a in found
    ]
    return Table(
        heading="Is it the published network?",
        setting=(
            "The network is filled with fixed weights, given fixed fields and two lead times, and six numbers of its "
            "output (sum, mean size, three points, the published loss) are compared with those of the published code, "
            "in float64. The reference numbers are known to ten digits."
        ),
        rows=rows,
        reading=(
            "Equal to the digits that are known. The names and shapes of all tensors are those of the published "
            "checkpoints, of which `OperatorTransformer.from_pretrained` loads every one or refuses."
        ),
    )
