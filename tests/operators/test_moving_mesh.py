"""The moving-mesh operator: interpolation that keeps linear fields, a mesh that follows, a gate that tells."""

import itertools
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.operators import MovingMeshOperator, build_operator, load_operator, parameter_count
from fieldwright.operators.learned_transfer import LearnedTransfer
from fieldwright.operators.moved_nodes import closed_grid, small_determinant, small_inverse
from fieldwright.solvers.meshing import sample

SETTINGS = [
    (1, (20,), "node", "dirichlet"),
    (1, (16,), "periodic", "periodic"),
    (2, (16, 14), "cell", "neumann"),
    (2, (12, 13), "node", ["periodic", "dirichlet"]),
    (2, (12, 12), "periodic", "periodic"),
    (3, (8, 9, 8), "cell", ["neumann", "periodic", "dirichlet"]),
]


def small(seed: int = 0, **settings) -> MovingMeshOperator:
    torch.manual_seed(seed)
    defaults = {"branch": "resnet", "width": 4, "modes": 8, "steps": 6}
    operator = MovingMeshOperator(2, 3, **{**defaults, **settings}).double()
    with torch.no_grad():  # offsets that are 0 at first would hide one that is left out
        for parameter in operator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return operator


def fields(*shape: int) -> torch.Tensor:
    """Smooth periodic fronts, each sample another."""
    x = torch.stack(torch.meshgrid(*(torch.arange(n).double() / n for n in shape), indexing="ij"))
    waves = sum(torch.sin(2 * math.pi * (c - 0.1 * axis)) for axis, c in enumerate(x))
    return torch.stack([torch.stack((torch.tanh(3 * (waves - a)), waves * a)) for a in (0.3, -0.4)])


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_mesh_follows_and_its_inverse_takes_points_back(setting):
    dimension, shape, centring, boundary = setting
    operator, u = small(dimension=dimension, centring=centring, boundary=boundary), fields(*shape)
    grid, mesh = operator._grid(u), operator.nodes(u)
    assert mesh.nodes.shape == (2, dimension, *shape)
    closed = closed_grid(grid, operator.box)
    uniform = closed.coordinates()
    for axis, n in enumerate(shape):
        uniform = uniform.narrow(axis + 1, 0, n)
    torch.testing.assert_close(mesh.metric[:, :dimension], mesh.nodes - uniform)
    assert float((mesh.nodes - uniform).abs().max()) > 0.01
    # The displacement on the closed grid: what the seams repeat.
    moved = mesh.nodes - uniform
    for axis, wraps in enumerate(operator.box.periodic):
        moved = torch.cat((moved, moved.narrow(axis + 2, 0, 1)), axis + 2) if wraps else moved
    xi = mesh.inverse * mesh.inverse.new_tensor(closed.spacing).reshape(-1, *[1] * dimension)
    away = (xi + sample(moved, closed, xi, operator.box.periodic) - grid.coordinates()).abs() % 1
    assert float(torch.minimum(away, 1 - away).max()) < 1e-3  # Newton: near enough to know the neighbours
    again = small(dimension=dimension, centring=centring, boundary=boundary).nodes(u)
    assert torch.equal(again.nodes, mesh.nodes)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_learned_weights_sum_to_one_and_keep_linear_fields(setting):
    dimension, shape, centring, boundary = setting
    operator, u = small(dimension=dimension, centring=centring, boundary=boundary), fields(*shape)
    mesh, grid = operator.nodes(u), operator._grid(u)
    transfer = operator.back
    with torch.no_grad():
        transfer.kernel.normal_(std=0.5)  # whatever has been learnt
    y, x, wraps = mesh.nodes, grid.coordinates()[None].expand(2, dimension, *shape), operator.box.periodic
    arguments = (mesh.inverse, x, operator.box.lengths, wraps)
    ones = transfer(torch.ones(2, 1, *shape, dtype=torch.float64), y, *arguments)
    torch.testing.assert_close(ones, torch.ones_like(ones))
    walls = [axis for axis, around in enumerate(wraps) if not around]
    if walls:
        linear = 2 + sum((axis + 1) * y[:, axis : axis + 1] for axis in walls)
        expected = 2 + sum((axis + 1) * x[:, axis : axis + 1] for axis in walls)
        torch.testing.assert_close(transfer(linear, y, *arguments), expected)
    rough = torch.randn(2, 1, *shape, dtype=torch.float64)
    assert not torch.allclose(transfer(rough, y, *arguments), operator.there(rough, y, *arguments), atol=1e-2)


def test_with_nothing_learnt_it_is_multilinear_interpolation():
    grid = Grid((9, 7), "node", upper=(1.0, 2.0))
    transfer = LearnedTransfer(2).double()
    with torch.no_grad():
        transfer.kernel.zero_()
    points = torch.rand(1, 2, 60, dtype=torch.float64) * torch.tensor([1.0, 2.0], dtype=torch.float64)[:, None]
    values = torch.randn(1, 2, 9, 7, dtype=torch.float64)
    places = points / torch.tensor(grid.spacing, dtype=torch.float64)[:, None]
    found = transfer(values, grid.coordinates()[None], places, points, grid.lengths, (False, False))
    torch.testing.assert_close(found, sample(values, grid, points, (False, False)))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_learned_kernel_is_its_sum_of_products(dimension):
    transfer = LearnedTransfer(dimension).double()
    offsets = [torch.rand(1, 3, 4, dtype=torch.float64) for _ in range(dimension)]
    found = transfer._learned(offsets).reshape(3, *[4] * dimension)

    def functions(o: torch.Tensor) -> torch.Tensor:
        a = math.pi * o / 2
        return torch.stack((torch.ones_like(a), a.cos(), a.sin(), (2 * a).cos(), (2 * a).sin()))

    for place in itertools.product(range(3), *[range(4)] * dimension):
        total = transfer.kernel
        for axis in range(dimension):
            total = torch.tensordot(functions(offsets[axis][0, place[0], place[axis + 1]]), total, 1)
        torch.testing.assert_close(found[place], total)


def test_learned_interpolation_is_continuous_across_nodes():
    transfer = LearnedTransfer(1).double()
    values, nodes = torch.randn(1, 1, 9, dtype=torch.float64), torch.linspace(0, 1, 9, dtype=torch.float64)[None, None]
    places = torch.tensor([[[3 - 1e-9, 3 + 1e-9, 1 - 1e-9, 1 + 1e-9]]], dtype=torch.float64)
    found = transfer(values, nodes, places, places / 8, (1.0,), (False,))[0, 0]
    assert float((found[::2] - found[1::2]).detach().abs().max()) < 1e-6


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_small_inverses_are_those_of_linear_algebra(dimension):
    m = torch.randn(4, dimension, dimension, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = m.movedim(3, 1)
    torch.testing.assert_close(small_determinant(m), torch.linalg.det(rows))
    torch.testing.assert_close(small_inverse(m).movedim(3, 1), torch.linalg.inv(rows))


def test_a_closed_gate_leaves_the_fixed_branch_alone():
    operator, u = small(), fields(16, 14)
    assert 0.02 < float(operator.contribution(u).min()) < 1
    with torch.no_grad():
        operator.moving_gate.zero_()
    assert torch.equal(operator(u), operator.fixed(u))
    assert bool((operator.contribution(u) == 0).all())
    assert bool((operator.gate == 0).all())


def test_the_baseline_has_the_same_weights_and_nodes_that_stay():
    moving, uniform = small(), small(mesh="uniform")
    assert {n: p.shape for n, p in moving.named_parameters()} == {n: p.shape for n, p in uniform.named_parameters()}
    assert parameter_count(moving) == parameter_count(uniform)
    u = fields(16, 14)
    torch.testing.assert_close(uniform.nodes(u).nodes[0], Grid((16, 14), "node").coordinates(), atol=1e-14, rtol=0)
    assert not torch.allclose(moving(u), uniform(u), atol=1e-3)
    constant = torch.full((1, 2, 16, 14), 0.7, dtype=torch.float64)
    torch.testing.assert_close(moving(constant), uniform(constant))  # nothing to follow


def test_the_units_of_the_input_do_not_move_the_mesh():
    operator, u = small(), fields(16, 14)
    torch.testing.assert_close(operator.nodes(1e4 * u + 3).nodes, operator.nodes(u).nodes, atol=1e-6, rtol=0)


def test_commutes_with_shifts_of_a_torus():
    operator, u = small(boundary="periodic", centring="periodic", modes=16), fields(16, 16)
    expected = operator(u).roll((3, 6), (2, 3))
    # To what Newton's method leaves of the inverse map.
    torch.testing.assert_close(operator(u.roll((3, 6), (2, 3))), expected, atol=1e-5, rtol=0)


def test_samples_do_not_see_each_other():
    operator, u = small(), fields(16, 14)
    torch.testing.assert_close(operator(u)[1:], operator(u[1:]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("branch", ["resnet", "unet", "fourier"])
def test_every_parameter_has_a_gradient_and_changes_the_output(branch):
    operator, u = small(branch=branch), fields(16, 14)
    before = operator(u)
    before.square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        for name, parameter in operator.named_parameters():
            if name.startswith(("there", "back", "moving_gate")):  # the branches have tests of their own
                saved = parameter.clone()
                parameter.add_(0.1 * torch.randn_like(parameter))
                assert not torch.equal(operator(u), before), name
                parameter.copy_(saved)


def test_a_fresh_operator_trains_every_weight():
    operator = MovingMeshOperator(1, 1, branch="resnet", width=4, modes=8)
    operator(fields(16, 16)[:, :1].float()).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in operator.parameters())


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = MovingMeshOperator(1, 1, branch="fourier", width=16, dimension=1)
    x, y = fields(12)[:, :1].float(), torch.randn(2, 1, 12)
    optimizer = torch.optim.Adam(operator.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().sum() / y.square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


def test_recomputing_gives_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        operator = small(recompute=recompute)
        operator(fields(12, 11)).square().sum().backward()
        gradients.append([p.grad for p in operator.parameters()])
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients, strict=True))


def test_bfloat16_is_close_and_its_geometry_is_not_rounded():
    operator, u = small(), fields(16, 16)
    exact, nodes = operator(u), operator.nodes(u).nodes
    single = operator.float()(u.float())
    assert float((single - exact).detach().norm()) < 1e-3 * float(exact.detach().norm())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = operator(u.float())
    assert mixed.dtype == torch.float32
    assert float((mixed - exact).detach().norm()) < 0.03 * float(exact.detach().norm())
    rounded = operator.bfloat16()(u.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert float((operator.nodes(u.bfloat16().float()).nodes - nodes).abs().max()) < 0.02
    assert float((rounded - exact).detach().norm()) < 0.1 * float(exact.detach().norm())


def test_built_by_name_with_the_walls_of_the_problem_stored_and_loaded(tmp_path):
    walls = Boundary.parse([["neumann", "dirichlet"], "periodic"], 2)
    operator = build_operator("moving_mesh", {"branch": "resnet", "width": 4, "modes": 8}, 2, 1, 2, walls)
    operator.save_pretrained(tmp_path / "model")
    u = fields(8, 9).float()
    loaded = load_operator(tmp_path / "model")
    assert torch.equal(operator(u), loaded(u))
    assert loaded.walls == walls


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branch": "graph"}, "branch: 'graph'"),
        ({"mesh": "fixed"}, "allowed are moving, uniform"),
        ({"dimension": 4}, "allowed are 1, 2 and 3"),
        ({"strength": -1.0}, "strength"),
        ({"modes": 1}, "modes = 1"),
        ({"upper": [1.0]}, "expected the same"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_inputs_that_cannot_be_used_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="NaN"):
        small()(torch.full((1, 2, 8, 8), math.nan, dtype=torch.float64))
    with pytest.raises(InputError, match="at least 3"):
        small()(torch.zeros(1, 2, 2, 8, dtype=torch.float64))
    with pytest.raises(InputError, match="lead_time"):
        small()(fields(8, 8), 1.0)
