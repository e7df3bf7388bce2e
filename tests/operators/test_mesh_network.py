"""The amortised mover: walls and seams for any weights, one mesh for proportional monitors, stored and loaded."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.operators import MeshNetwork, load_operator
from fieldwright.solvers.meshing import Box, Hybrid, MeshMover, Monitor, Relaxation


def small(seed: int = 0, **settings) -> MeshNetwork:
    torch.manual_seed(seed)
    network = MeshNetwork(**{"modes": 8, "points": 16, "width": 4, "levels": 3, **settings}).double()
    with torch.no_grad():
        network.network.project.mix.weight.normal_(std=20.0)
    return network


def monitors(*shape: int, batch: int = 2) -> torch.Tensor:
    return 1 + 4 * torch.rand(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_an_untrained_network_is_the_identity():
    network, grid = MeshNetwork(modes=8, points=16, levels=3), Grid((20, 20), "node")
    mesh = MeshMover(grid, engine=network.potentials).follow(monitors(20, 20))
    assert torch.equal(mesh.nodes[0], mesh.uniform)


@pytest.mark.parametrize("dimension", [2, 3])
def test_walls_and_seams_hold_for_any_weights(dimension):
    sides = ["neumann", "periodic", "neumann"][:dimension]
    network = small(dimension=dimension, boundary=sides)
    grid = Grid((17,) * dimension, "cell")
    found = network.potentials(monitors(*grid.shape), grid, Box.of(grid, sides))
    moved = found.displacement((9,) * dimension)
    assert bool((moved[:, 0, [0, -1]] == 0).all())
    torch.testing.assert_close(moved.select(3, 0), moved.select(3, -1))
    assert float(moved.abs().max()) > 1e-3


def test_the_output_is_the_potential_of_the_coefficients():
    network, m = small(), monitors(16, 18).log()
    coefficients = network.coefficients(m, Grid((16, 18), "cell")).detach()
    assert float(coefficients.abs().max()) > 1e-3
    assert bool((coefficients[:, 0, 0] == 0).all())
    torch.testing.assert_close(network.space.analyse(network(m[:, None])[:, 0].detach()), coefficients)


def test_proportional_monitors_have_one_mesh():
    network, grid = small(), Grid((16, 16), "cell")
    a, b = (network.coefficients((f * monitors(16, 16)).log(), grid) for f in (1.0, 1e3))
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_the_same_monitor_on_a_finer_grid_has_the_same_mesh():
    network = small()

    def found(n: int) -> torch.Tensor:
        grid = Grid((n, n), "cell")
        return network.coefficients(torch.sin(3 * grid.coordinates().sum(0))[None], grid)

    coarse, fine = found(128).detach(), found(256).detach()
    assert float((coarse - fine).norm()) < 2e-3 * float(fine.norm())


def test_on_a_torus_it_commutes_with_shifts_of_its_coarsest_cells():
    network = small(boundary="periodic", modes=16)
    grid, m = Grid((16, 16), "cell"), monitors(16, 16).log()
    plain, shifted = (network(f[:, None]) for f in (m, m.roll((4, 8), (1, 2))))
    torch.testing.assert_close(shifted, plain.roll((4, 8), (2, 3)), atol=1e-12, rtol=0)
    assert grid.shape == plain.shape[2:]


def test_every_parameter_has_a_gradient_and_changes_the_output():
    network, x = small(), monitors(16, 16).log()[:, None]
    before = network(x)
    before.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            saved = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(network(x), before), name
            parameter.copy_(saved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision(dtype):
    network, x = small(), monitors(16, 16).log()[:, None]
    exact = network(x)
    rounded = network.to(dtype)(x.to(dtype))
    assert rounded.dtype == dtype
    assert float((rounded - exact).norm()) < (1e-5 if dtype == torch.float32 else 0.05) * float(exact.norm())


def test_autocast_keeps_the_geometry_whole():
    network, grid = small().float(), Grid((16, 16), "cell")
    m = monitors(16, 16).float().log()
    exact = network.coefficients(m, grid)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network.coefficients(m, grid)
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).norm()) < 0.03 * float(exact.norm())


def test_stored_and_loaded(tmp_path):
    network = small(lower=[0.0, 0.0], upper=[2.0, 1.0], boundary=["periodic", "neumann"]).float()
    network.save_pretrained(tmp_path / "mover")
    x = monitors(16, 16).float().log()[:, None]
    for loaded in (MeshNetwork.from_pretrained(tmp_path / "mover"), load_operator(tmp_path / "mover")):
        assert torch.equal(loaded(x), network(x))
        assert loaded.space == network.space


def test_it_is_an_engine_alone_and_as_a_start():
    network, grid = small().float(), Grid((24, 24), "node")
    u = torch.sin(9 * grid.coordinates().prod(0))[None, None].float()
    mover = MeshMover(grid, monitor=Monitor(), engine=network.potentials)
    assert float(mover(u).quality().least_volume.min()) > 0.049
    m = mover.monitor(u, grid, mover.box)
    for polish in (0, 5):
        found = Hybrid(network.potentials, Relaxation(steps=polish, modes=8))(m, grid, mover.box)
        still = Relaxation(steps=0, modes=8)(m, grid, mover.box)
        assert float(found.variation) <= float(still.variation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dimension": 1}, "allowed are 2 and 3"), ({"modes": 17}, "modes: 17"), ({"width": 0}, "width: 0"),
     ({"upper": [0.0, 1.0]}, "must run upwards")],
)  # fmt: skip
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_another_box_and_a_lead_time_are_refused():
    grid = Grid((16, 16), "cell", upper=(2.0, 1.0))
    with pytest.raises(InputError, match="made for the box"):
        small().potentials(monitors(16, 16), grid, Box.of(grid))
    with pytest.raises(InputError, match="lead_time"):
        small()(monitors(16, 16)[:, None], 1.0)
    with pytest.raises(InputError, match="channels"):
        small()(torch.full((1, 2, 16, 16), math.e))
