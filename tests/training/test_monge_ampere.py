"""The Monge-Ampère objective: zero on exact maps, its gradient by differences, and a training that needs no meshes."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.operators import MeshNetwork
from fieldwright.solvers.meshing import Box, PotentialSpace, Relaxation
from fieldwright.training import Batch, MongeAmpere, Phase, monitor_data, train

GRID = Grid((48, 48), "cell")
SPACE = PotentialSpace(Box.of(GRID), (12, 12))


def monitors(count: int, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    x = GRID.coordinates()
    centres = torch.rand(count, 2, generator=draws, dtype=torch.float64)
    far = sum((x[axis] - centres[:, axis, None, None]).square() for axis in (0, 1))
    return 1 + 3 * torch.exp(-far / 0.05)


def batch_of(monitor: torch.Tensor) -> Batch:
    log = monitor.log()[:, None]
    return Batch(log, log, GRID, torch.ones(1, dtype=log.dtype))


def test_an_equidistributing_map_has_no_loss_and_the_identity_that_of_the_monitor():
    m = monitors(3)
    exact = Relaxation(steps=300, modes=12, tolerance=1e-4)(m, GRID, SPACE.box)
    objective = MongeAmpere(SPACE, points=24)
    solved = objective(lambda _: SPACE.values(exact.coefficients, GRID.shape)[:, None], batch_of(m))
    still = objective(torch.zeros_like, batch_of(m))
    assert set(solved) == set(objective.names)
    assert float(solved["equidistribution"]) < 0.01 * float(still["equidistribution"])
    assert float(solved["folding"]) == float(still["folding"]) == 0
    scaled = objective(torch.zeros_like, batch_of(1e3 * m))
    torch.testing.assert_close(scaled["equidistribution"], still["equidistribution"])


def test_a_double_flip_is_a_fold_though_its_determinant_is_positive():
    coefficients = torch.zeros(1, 12, 12, dtype=torch.float64)
    coefficients[:, 2, 0] = coefficients[:, 0, 2] = 0.06  # φ_xx and φ_yy below -1 in two corners
    det = SPACE.motion(coefficients, (24, 24))[1]
    hessian = SPACE.hessian(coefficients, (24, 24))
    flipped = (1 + hessian[:, 0, 0] < 0) & (1 + hessian[:, 1, 1] < 0)
    assert bool((det[flipped] > 0).all() & flipped.any())
    found = MongeAmpere(SPACE, points=24).of_coefficients(coefficients, monitors(1), GRID)
    assert float(found["folding"]) > 0.1


def test_the_gradient_agrees_with_differences():
    space = PotentialSpace(SPACE.box, (4, 4))
    objective, m = MongeAmpere(space, points=8), monitors(2)
    start = 0.01 * torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def total(c: torch.Tensor) -> torch.Tensor:
        return sum(objective.of_coefficients(c, m, GRID).values())

    # Between the kinks of the multilinear monitor, which small differences do not cross.
    assert torch.autograd.gradcheck(total, start.requires_grad_(), eps=1e-8, atol=1e-4)


def test_a_network_learns_to_equidistribute_by_the_phase_loop_without_a_mesh(tmp_path):
    torch.manual_seed(0)
    network = MeshNetwork(modes=8, points=16, width=4, levels=3)
    data = monitor_data(monitors(32).float(), monitors(4, seed=1).float(), network.space)
    assert float(data.train_samples.batch(range(32))[1].abs().max()) == 0  # no targets
    objective = MongeAmpere(network.space, points=16)
    phase = Phase(objective=objective, steps=80, learning_rate=1e-2, batch_size=8)
    summary = train(network, [phase], data, directory=tmp_path, seed=0)
    held_out = monitors(16, seed=2).float()
    with torch.no_grad():
        losses = objective.of_coefficients(network.coefficients(held_out.log(), GRID), held_out, GRID)
    still = held_out.log().flatten(1).var(1, correction=0).mean()
    assert float(losses["equidistribution"]) < 0.35 * float(still)
    # Validation: the distance to the classical potential, which training has never seen.
    assert summary.validation.relative_l2 < 0.5


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_monitors_that_are_not_positive_are_refused(bad):
    m = monitors(2)
    m[0, 0, 0] = bad
    with pytest.raises(InputError, match="not positive"):
        monitor_data(m, monitors(2), SPACE)


def test_a_prediction_of_another_shape_is_refused():
    with pytest.raises(InputError, match="one potential a monitor"):
        MongeAmpere(SPACE)(lambda x: x.repeat(1, 2, 1, 1), batch_of(monitors(2)))
