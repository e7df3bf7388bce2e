"""Whether a periodic network commutes with shifts."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from fieldwright.gallery.page import Table
from fieldwright.grids import Boundary
from fieldwright.operators import FourierOperator, MultigridOperator
from fieldwright.operators.walls import Walls


def shift_defects() -> dict[str, float]:
    """‖G(Tx) - T G(x)‖ / ‖G(x)‖ of untrained operators for a shift T by 16 of 64 points, random input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = MultigridOperator(1, 1, levels=5, boundary="periodic", centring="periodic")
        fourier = FourierOperator(1, 1, width=32, layers=4, modes=16, coordinates=False, boundary="periodic")
    published = copy.deepcopy(ours)
    for cycle in published.cycles:
        for prolongation in cycle.prolong:  # type: ignore[union-attr]
            prolongation.walls = Walls.of(Boundary.parse("dirichlet", 2))  # type: ignore[union-attr]
    field = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def defect(operator: nn.Module) -> float:
        with torch.inference_mode():
            plain, shifted = operator(field), operator(field.roll((16, 16), (2, 3)))
        return float((shifted - plain.roll((16, 16), (2, 3))).norm() / plain.norm())

    return {PERIODIC: defect(ours), PADDED: defect(published), PERIODIC_FNO: defect(fourier)}


PERIODIC = "MgNO, periodic in every convolution and prolongation"
PADDED = "the same with zero-padded prolongations, as in the published code"
PERIODIC_FNO = "FNO without coordinates as inputs, the plain alternative"


def shift_table(defects: Mapping[str, float]) -> Table:
    """Section three of the page."""
    reference = {PADDED: "0.30 (the published model)"}
    return Table(
        heading="Is the periodic network periodic?",
        setting=(
            "Untrained operators, random 64 x 64 input, shifted by 16 points along both axes: relative change of the "
            "shifted-back output, float32."
        ),
        rows=[{"operator": n, "defect": f"{d:.2g}", "reference": reference.get(n)} for n, d in defects.items()],
        reading="The shift is one spacing of the coarsest grid; with smaller ones no strided network commutes.",
    )
