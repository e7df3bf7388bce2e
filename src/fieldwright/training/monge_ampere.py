"""Training a mesh mover on the Monge-Ampère equation alone: no mesh is ever given to it.

    L = mean ( log(m(x) det J) - mean )² + w mean [ (ε - det J)₊² + Σ_a (ε - J_aa)₊² ],      x = ξ + ∇φ,  J = I + ∇∇φ,

over the midpoints of a uniform grid of ξ. The first term is 0 exactly for equidistributing maps and does not know the
constant θ; the logarithm keeps a monitor's peaks from being all that counts. The second opens cells that fold.

Source: Hu, Wang, Ma, "Better neural PDE solvers through data-free mesh movers", ICLR 2024, section 3, with the squared
residual relative to θ instead of its logarithm and a penalty for the walls, which our potentials meet by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing import PotentialSpace, Relaxation
from fieldwright.solvers.meshing.box import sample_within
from fieldwright.solvers.meshing.relaxation import grid_centres
from fieldwright.training.batches import Batch
from fieldwright.training.data import TrainingData
from fieldwright.training.objectives import PhysicalOperator

# det J and its diagonal below this count as folding; the logarithm is cut off there.
FOLDING = 0.05


@dataclass(frozen=True)
class MongeAmpere:
    """The residual of the Monge-Ampère equation, for an operator from log m to φ on the same grid.

    ``space``   the potentials that the operator makes; its grid has at least as many points as they have modes
    ``points``  midpoints per axis at which the equation is asked for
    ``folding`` w, the weight of the penalty

    Errors: `InputError` for a prediction of another shape than the inputs.
    """

    space: PotentialSpace
    points: int = 32
    folding: float = 10.0

    @property
    def names(self) -> tuple[str, ...]:
        return ("equidistribution", "folding")

    def __call__(self, operator: PhysicalOperator, batch: Batch) -> dict[str, Tensor]:
        prediction = operator(batch.inputs)
        if prediction.shape != batch.inputs.shape or batch.inputs.shape[1] != 1:
            raise InputError(
                f"objective: potentials of shape {tuple(prediction.shape)} for monitors of shape"
                f" {tuple(batch.inputs.shape)}; one potential a monitor, on its grid, is needed"
            )
        return self.of_coefficients(self.space.analyse(prediction[:, 0]), batch.inputs[:, 0].exp(), batch.grid)

    def of_coefficients(
        self, coefficients: Float[Tensor, "batch *mode"], monitor: Float[Tensor, "batch *space"], grid: Grid
    ) -> dict[str, Tensor]:
        """The losses of potentials by their coefficients, for monitors on a grid of the box."""
        box, shape = self.space.box, (self.points,) * self.space.box.dimension
        displacement, det = self.space.motion(coefficients, shape)
        centres = grid_centres(box, shape, monitor)
        mass = sample_within(monitor, grid, centres + displacement, box).log() + det.clamp_min(FOLDING).log()
        diagonal = 1 + self.space.hessian(coefficients, shape).diagonal(dim1=1, dim2=2)
        folded = (FOLDING - det).clamp_min(0).square().mean()
        folded = folded + (FOLDING - diagonal).clamp_min(0).square().mean() * box.dimension
        return {
            "equidistribution": mass.flatten(1).var(1, correction=0).mean(),
            "folding": self.folding * folded,
        }


def monitor_data(
    train: Float[Tensor, "sample *space"],
    valid: Float[Tensor, "sample_valid *space"],
    space: PotentialSpace,
    *,
    relaxation: Relaxation | None = None,
) -> TrainingData:
    """Monitors as training data for a mesh network: inputs log m on the midpoints of cells, no targets.

    The validation samples alone have outputs: the potentials that relaxation finds, so that the validation error says
    how far the network is from the classical mesh. The training never sees them.

    Errors: `InputError` for monitors that are not positive.
    """
    for name, monitor in (("train", train), ("valid", valid)):
        if not bool((monitor > 0).all() & monitor.isfinite().all()):
            raise InputError(f"monitor data: {name} holds values that are not positive and finite")
    box = space.box
    grid = Grid(tuple(train.shape[1:]), "cell", box.lower, box.upper)
    truth = (relaxation or Relaxation(modes=max(space.modes)))(valid.double(), grid, box)
    potentials = space.values(truth.within(space), grid.shape)
    none = Normalizer(torch.zeros(1), torch.ones(1))
    inputs = train.float().log()[:, None]
    return TrainingData(
        (inputs, torch.zeros_like(inputs)),
        (valid.float().log()[:, None], potentials.float()[:, None]),
        inputs=none,
        outputs=none,
        grid=grid,
    )
