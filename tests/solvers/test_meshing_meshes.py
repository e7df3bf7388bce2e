"""Meshes: never inverted, on their walls, equivariant; interpolation: exact on linear fields, in the right cell."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing import (
    Hybrid,
    MeshMover,
    Monitor,
    Potential,
    PotentialSpace,
    Relaxation,
    from_mesh,
    interpolation_error,
    locate,
    round_trip_error,
    sample,
    to_mesh,
)

SETTINGS = [
    ((17,), "node", None),
    ((16,), "cell", "periodic"),
    ((17, 15), "node", None),
    ((16, 16), "periodic", None),
    ((16, 12), "cell", ["periodic", "neumann"]),
    ((9, 8, 8), "cell", ["neumann", "periodic", "neumann"]),
]


def front(x: torch.Tensor, width: float = 0.05, place: float = 0.45) -> torch.Tensor:
    """A front that wraps smoothly along every axis, batch-wise: points (… axis first)."""
    waves = sum(torch.sin(2 * math.pi * (c - 0.1 * axis)) for axis, c in enumerate(x))
    return torch.tanh((waves - place) / (8 * width))


def moved(shape, centring, boundary, *, engine=None, batch: int = 1, **settings):
    grid = Grid(shape, centring)
    mover = MeshMover(grid, boundary, Monitor(**settings), engine or Relaxation(modes=8, steps=20))
    u = torch.stack([front(grid.coordinates(), place=0.2 * k)[None] for k in range(batch)])
    return grid, u, mover(u)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_meshes_fill_their_box_without_inverted_cells(setting):
    _, _, mesh = moved(*setting, batch=3)
    quality = mesh.quality()
    assert float(quality.least_volume.min()) >= 0.049
    assert float(quality.skewness.max()) < float(quality.worst_skewness.max()) + 1e-12 <= 1
    torch.testing.assert_close(mesh.volumes().sum(1), torch.full((3,), mesh.box.volume, dtype=torch.float64))
    for axis, wraps in enumerate(mesh.box.periodic):
        low, high = (mesh.nodes[:, axis].select(axis + 1, end) for end in (0, -1))
        torch.testing.assert_close(high - low, torch.full_like(low, mesh.box.lengths[axis]))
        if not wraps:
            assert bool((low == mesh.box.lower[axis]).all())
    assert float((mesh.nodes - mesh.uniform).abs().max()) > 0.01


@pytest.mark.parametrize("dimension", [2, 3])
def test_no_potential_whatsoever_inverts_a_cell(dimension):
    space_of = {2: (12, 12), 3: (6, 6, 6)}[dimension]
    grid = Grid((10,) * dimension, "node")
    draws = torch.Generator().manual_seed(0)

    def wild(monitor, grid, box):
        sizes = 10 ** torch.linspace(-4, 2, len(monitor)).reshape(-1, *[1] * dimension).double()
        space = PotentialSpace(box, space_of)
        coefficients = sizes * torch.randn(len(monitor), *space_of, generator=draws, dtype=torch.float64)
        return Potential(space, coefficients, torch.zeros(len(monitor)), 0)

    u = torch.randn(40, 1, *grid.shape, generator=draws, dtype=torch.float64)
    mesh = MeshMover(grid, engine=wild)(u)
    uniform = mesh.box.volume / mesh.volumes().shape[1]
    assert float(mesh.volumes().min() / uniform) >= 0.0499
    assert float(mesh.scale.min()) < 1e-3
    assert float(mesh.scale.max()) == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_constant_field_keeps_the_uniform_mesh(setting):
    shape, centring, boundary = setting
    mesh = MeshMover(Grid(shape, centring), boundary)(torch.full((1, 2, *shape), 0.3, dtype=torch.float64))
    torch.testing.assert_close(mesh.nodes[0], mesh.uniform, atol=1e-13, rtol=0)


def test_the_jacobian_is_the_derivative_of_the_nodes():
    grid, u, _ = moved((33, 33), "node", None)
    mesh = MeshMover(grid, engine=Relaxation(modes=8, steps=20), nodes=129)(u)
    h = 1 / 128
    for axis in (0, 1):
        slope = (mesh.nodes.narrow(axis + 2, 2, 127) - mesh.nodes.narrow(axis + 2, 0, 127)) / (2 * h)
        inner = mesh.jacobian[:, :, axis].narrow(axis + 2, 1, 127)
        assert float((slope - inner).abs().max()) < 2e-2
    det = mesh.jacobian[:, 0, 0] * mesh.jacobian[:, 1, 1] - mesh.jacobian[:, 0, 1] * mesh.jacobian[:, 1, 0]
    torch.testing.assert_close(mesh.density(), 1 / det)


def test_the_stretch_sees_the_double_flip_that_a_determinant_misses():
    grid = Grid((9, 9), "node")

    def flip(monitor, grid, box):
        coefficients = torch.zeros(1, 4, 4, dtype=torch.float64)
        coefficients[:, 2, 0] = coefficients[:, 0, 2] = 0.06  # both second derivatives below -1 in the corner
        return Potential(PotentialSpace(box, (4, 4)), coefficients, torch.zeros(1), 0)

    motion = flip(None, grid, MeshMover(grid).box).hessian((9, 9), "node")
    stretch = 1 + motion[0, 0, 0, 0, 0], 1 + motion[0, 1, 1, 0, 0]
    assert max(stretch) < 0 < stretch[0] * stretch[1]
    mesh = MeshMover(grid, engine=flip)(torch.randn(1, 1, 9, 9, dtype=torch.float64))
    assert float(mesh.quality().least_stretch) > -0.2  # held back by the safe step, or it would be near -1.4
    assert float(mesh.quality().least_volume) > 0.049


def test_shifting_a_periodic_field_shifts_its_mesh():
    grid, u, _ = moved((16, 16), "periodic", None)
    mover = MeshMover(grid, engine=Relaxation(modes=16, steps=10), nodes=17)
    plain, shifted = ((m.nodes - m.uniform)[..., :-1, :-1] for m in (mover(u), mover(u.roll((3, 7), (2, 3)))))
    torch.testing.assert_close(shifted, plain.roll((3, 7), (2, 3)), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("shape", "gain"), [((33,), 4.0), ((33, 33), 2.0), ((17, 17, 17), 1.3)])
def test_the_moved_mesh_interpolates_better_than_the_uniform_one(shape, gain):
    dimension = len(shape)

    def layer(x):
        return torch.tanh((x.select(1, 0) - 0.4 - 0.2 * (x.select(1, dimension - 1) if dimension > 1 else 0)) / 0.03)

    grid = Grid((64,) * dimension if dimension < 3 else (32,) * 3, "node")
    mover = MeshMover(grid, engine=Relaxation(modes=16 if dimension == 3 else 24), nodes=shape)
    mesh = mover(layer(grid.coordinates()[None])[:, None])
    still = mover.follow(torch.ones(1, *grid.shape, dtype=torch.float64))
    points = 5 if dimension == 3 else 9
    error, uniform = (float(interpolation_error(layer, m, points=points)) for m in (mesh, still))
    assert error < uniform / gain


def test_interpolation_error_is_that_of_a_parabola():
    # Linear interpolation of x² on cells of width h: the error is t (h - t), whose mean square is h⁴ / 30.
    grid = Grid((9,), "node")
    mesh = MeshMover(grid)(torch.zeros(1, 1, 9, dtype=torch.float64))
    found = float(interpolation_error(lambda x: x[:, 0] ** 2, mesh, points=400))
    assert found == pytest.approx((1 / 8) ** 2 / math.sqrt(30), rel=1e-4)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_points_are_located_exactly(setting):
    _, _, mesh = moved(*setting, batch=2)
    d = mesh.box.dimension
    points = torch.rand(2, d, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = locate(mesh, points)
    assert float(found.weights.min()) >= 0
    torch.testing.assert_close(found.weights.sum(2), torch.ones(2, 200, dtype=torch.float64))
    places = found.interpolate(mesh.nodes)
    away = (places - points) % 1
    assert float(torch.minimum(away, 1 - away).max()) < 1e-10  # the same point, up to turns around the box
    wrapped = torch.tensor(mesh.box.periodic)
    assert float((places - points)[:, ~wrapped].abs().max() if bool((~wrapped).any()) else 0) < 1e-10


def test_nodes_are_located_on_themselves_and_points_outside_are_refused():
    _, _, mesh = moved((17, 15), "node", None)
    values = torch.randn(1, 2, 17, 15, dtype=torch.float64)
    there = locate(mesh, mesh.nodes.flatten(2)).interpolate(values)
    torch.testing.assert_close(there, values.flatten(2))
    with pytest.raises(InputError, match="outside the mesh"):
        locate(mesh, torch.tensor([[[0.5], [1.2]]], dtype=torch.float64))


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[2] is None and s[1] != "periodic"], ids=str)
def test_linear_fields_survive_the_journey_exactly(setting):
    grid, _, mesh = moved(*setting)
    x = grid.coordinates()
    linear = (1 + sum((axis + 2) * c for axis, c in enumerate(x)))[None, None]
    assert float(round_trip_error(linear, grid, mesh)) < 1e-12
    torch.testing.assert_close(from_mesh(to_mesh(linear, grid, mesh), mesh, grid), linear)


def test_the_round_trip_error_falls_with_the_square_of_the_spacing():
    def error(n: int) -> float:
        grid = Grid((n, n), "node")
        u = torch.sin(3 * grid.coordinates().sum(0))[None, None]
        mesh = MeshMover(grid, monitor=Monitor(smoothing=0.05), engine=Relaxation(modes=6, steps=20))(u)
        return float(round_trip_error(u, grid, mesh))

    assert math.log2(error(17) / error(65)) / 2 == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize(
    ("centring", "boundary"), [("node", None), ("cell", None), ("periodic", None), ("node", "periodic")]
)
def test_sampling_is_exact_at_the_grids_points_and_for_what_is_linear(centring, boundary):
    grid = Grid((6, 5), centring, upper=(1.0, 2.0))
    wraps = (True, True) if boundary == "periodic" or centring == "periodic" else (False, False)
    u = torch.randn(1, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if centring == "node" and wraps[0]:
        u[:, :, -1], u[..., -1] = u[:, :, 0], u[..., 0]
        u[:, :, -1, -1] = u[:, :, 0, 0]
    x = grid.coordinates()[None]
    torch.testing.assert_close(sample(u, grid, x, wraps), u)
    if wraps[0]:
        torch.testing.assert_close(sample(u, grid, x + torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1), wraps), u)
    else:
        points = torch.rand(1, 2, 50, dtype=torch.float64) * torch.tensor([1.0, 2.0]).reshape(1, 2, 1)
        linear = (3 + x[:, :1] - 2 * x[:, 1:]).expand(1, 1, 6, 5)
        torch.testing.assert_close(sample(linear, grid, points, wraps), 3 + points[:, :1] - 2 * points[:, 1:])


def test_a_hybrid_is_never_worse_than_its_start():
    grid, u, _ = moved((33, 33), "node", None)
    m, box = Monitor()(u, grid, MeshMover(grid).box), MeshMover(grid).box
    good = Relaxation(modes=12, steps=15)
    start = good(m, grid, box)
    polished = Hybrid(good, Relaxation(modes=12, steps=5))(m, grid, box)
    assert float(polished.variation) <= float(start.variation)

    def bad(monitor, grid, box):
        return Potential(start.space, 50 * start.coefficients, start.variation, 0)

    plain = Relaxation(modes=12, steps=5)
    rescued = Hybrid(bad, plain)(m, grid, box)
    torch.testing.assert_close(rescued.coefficients, plain(m, grid, box).coefficients)


def test_quality_is_judged_by_the_monitor_that_is_given():
    _, _, mesh = moved((33, 33), "node", None)
    own = mesh.quality()
    assert float(own.variation) < 0.3
    ones = torch.ones(1, 33, 33, dtype=torch.float64)
    sizes = mesh.volumes()
    assert float(mesh.quality(ones).variation) == pytest.approx(float(sizes.std(correction=0) / sizes.mean()))


def test_what_cannot_be_meshed_is_refused_in_one_sentence():
    grid = Grid((8, 8), "node")
    with pytest.raises(InputError, match="NaN"):
        MeshMover(grid)(torch.full((1, 1, 8, 8), math.nan))
    with pytest.raises(InputError, match="not positive"):
        MeshMover(grid).follow(torch.zeros(1, 8, 8))
    with pytest.raises(InputError, match="at least 3 per axis"):
        MeshMover(grid, nodes=2)
    with pytest.raises(InputError, match="periodic at one end only"):
        MeshMover(grid, [["periodic", "neumann"], "neumann"])
