"""Potentials against automatic differentiation, safe steps against all roots, maps with a known solution."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.solvers.meshing import Box, PotentialSpace, Relaxation, safe_step, simplices, volumes
from fieldwright.solvers.meshing.lines import equidistribute_line
from fieldwright.solvers.meshing.simplices import LEAST_VOLUME

BOXES = [
    Box((0.5,), (2.0,), (False,)),
    Box((0.0, -1.0), (1.0, 1.5), (False, True)),
    Box((0.0, 0.0, 0.0), (1.0, 2.0, 1.0), (True, False, False)),
]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive(box: Box, coefficients: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """φ at one point, function by function."""
    total = torch.zeros((), dtype=torch.float64)
    for index in itertools.product(*(range(m) for m in coefficients.shape)):
        value = coefficients[index]
        for axis, k in enumerate(index):
            t = (point[axis] - box.lower[axis]) / box.lengths[axis]
            if not box.periodic[axis]:
                value = value * torch.cos(math.pi * k * t)
            else:
                wave = torch.sin if k % 2 == 0 and k > 0 else torch.cos
                value = value * wave(2 * math.pi * ((k + 1) // 2) * t)
        total = total + value
    return total


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("points", ["node", "cell"])
def test_derivatives_of_potentials_are_those_of_their_definition(box, points):
    modes, shape = (4, 5, 3)[: box.dimension], (5, 4, 6)[: box.dimension]
    space, c = PotentialSpace(box, modes), draw(1, *modes)
    grid = Grid(shape, points, box.lower, box.upper)
    place = (2, 3, 1)[: box.dimension]
    x = grid.coordinates()[:, *place].clone().requires_grad_()
    gradient = torch.autograd.functional.jacobian(lambda p: naive(box, c[0], p), x)
    hessian = torch.autograd.functional.hessian(lambda p: naive(box, c[0], p), x)
    torch.testing.assert_close(space.values(c, shape, points)[0, *place], naive(box, c[0], x).detach())
    torch.testing.assert_close(space.displacement(c, shape, points)[0, :, *place], gradient)
    torch.testing.assert_close(space.hessian(c, shape, points)[0, :, :, *place], hessian)
    moved, det = space.motion(c, shape, points)
    assert torch.equal(moved, space.displacement(c, shape, points))
    unit = torch.eye(box.dimension, dtype=torch.float64)
    torch.testing.assert_close(det[0, *place], torch.linalg.det(unit + hessian))


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_analysis_gives_the_coefficients_back(box):
    modes, shape = (4, 5, 3)[: box.dimension], (6, 5, 4)[: box.dimension]
    space, c = PotentialSpace(box, modes), draw(2, *modes)
    torch.testing.assert_close(space.analyse(space.values(c, shape)), c)


def test_no_potential_leaves_a_wall_or_breaks_a_seam():
    box = BOXES[1]
    moved = PotentialSpace(box, (6, 5)).displacement(draw(3, 6, 5), (7, 9))
    assert bool((moved[:, 0, [0, -1]] == 0).all())
    torch.testing.assert_close(moved[..., 0], moved[..., -1])
    assert float(moved[:, 1, :, 0].abs().min()) > 0  # and the seam is not pinned
    assert float(moved[:, 1, 0].abs().min()) > 0  # nor is sliding along the wall


@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 5)])
def test_simplices_fill_the_box_and_share_its_volume(shape):
    grid = Grid(shape, "node", upper=tuple(1.0 + axis for axis in range(len(shape))))
    sizes = volumes(grid.coordinates()[None])[0]
    boxes = math.prod(n - 1 for n in shape)
    assert len(sizes) == boxes * math.factorial(len(shape)) == len(simplices(shape))
    torch.testing.assert_close(sizes, torch.full_like(sizes, math.prod(grid.lengths) / len(sizes)))
    assert set(simplices(shape).flatten().tolist()) == set(range(math.prod(shape)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), dimension=st.integers(1, 3), size=st.floats(-1.5, 1.5))
def test_the_safe_step_is_the_first_root_of_all_cells(seed, dimension, size):
    grid = Grid((3, 4, 3)[:dimension], "node")
    x = grid.coordinates()[None]
    v = 10**size * draw(1, dimension, *grid.shape, seed=seed)
    step = float(safe_step(x, v)[0])
    start = volumes(x)[0]
    # The volume is a polynomial of this degree, so that its values at enough points are the polynomial.
    places = np.linspace(-1, 1, dimension + 1)
    values = torch.stack([volumes(x + s * v)[0] for s in places]).numpy() - LEAST_VOLUME * start.numpy()
    first = 1.0
    for cell in range(len(start)):
        roots = np.polynomial.Polynomial.fit(places, values[:, cell], dimension).roots()
        real = roots[np.abs(roots.imag) < 1e-9].real
        first = min([first, *real[real > 0]])
    assert step == pytest.approx(first, rel=1e-6)
    assert float((volumes(x + step * v)[0] / start).min()) >= LEAST_VOLUME * (1 - 1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_every_step_up_to_the_safe_one_keeps_every_cell(dimension):
    grid = Grid((4,) * dimension, "node")
    x, v = grid.coordinates()[None], draw(50, dimension, *grid.shape)
    step = safe_step(x, v).reshape(-1, *[1] * (dimension + 1))
    start = volumes(x)
    for share in torch.linspace(0, 1, 11, dtype=torch.float64):
        assert bool((volumes(x + share * step * v) > 0.99 * LEAST_VOLUME * start).all())


def test_a_line_is_equidistributed_exactly():
    # m = 1 + x on [0, 1]: x + x²/2 = 3/2 ξ.
    grid = Grid((7,), "node")
    motion = equidistribute_line(1 + grid.axis(0)[None], grid, Box.of(grid))
    xi = torch.linspace(0, 1, 12, dtype=torch.float64)
    moved = xi + motion.displacement((12,))[0, 0]
    torch.testing.assert_close(moved, -1 + (1 + 3 * xi).sqrt())
    torch.testing.assert_close(motion.hessian((12,), "node")[0, 0, 0] + 1, 1.5 / (1 + moved))
    assert float(moved[0]) == 0
    assert float(moved[-1]) == 1


@pytest.mark.parametrize("centring", ["cell", "periodic", "node"])
def test_a_periodic_line_moves_with_its_monitor(centring):
    n, shift = 24, 7
    grid = Grid((n + 1 if centring == "node" else n,), centring, upper=(3.0,))
    box = Box.of(grid, "periodic")
    density = 1.1 + draw(4, n).abs()
    closed = (lambda m: torch.cat((m, m[:, :1]), 1)) if centring == "node" else (lambda m: m)
    a = equidistribute_line(closed(density), grid, box).displacement((n + 1,))
    b = equidistribute_line(closed(density.roll(shift, 1)), grid, box).displacement((n + 1,))
    torch.testing.assert_close(b[..., :-1], a[..., :-1].roll(shift, 2), atol=1e-10, rtol=0)
    torch.testing.assert_close(a[..., 0], a[..., -1], atol=1e-10, rtol=0)
    fine = equidistribute_line(closed(density), grid, box).displacement((2001,), "cell")
    assert float(fine.mean(2).abs().max()) < 1e-6


@pytest.mark.parametrize("periodic", [False, True])
def test_a_product_of_lines_is_the_map_of_each(periodic):
    # m(x, y) = a(x) b(y): the optimal map is that of a in x and of b in y.
    n = 128
    grid = Grid((n, n), "periodic" if periodic else "cell")
    box = Box.of(grid)
    waves = 2 * math.pi * grid.axis(0)
    a, b = 1 + 0.3 * torch.cos(waves), torch.exp(0.5 * torch.cos(waves - 1.0) if periodic else 0.5 * torch.cos(waves))
    found = Relaxation(steps=200, modes=24, tolerance=1e-5)((a[:, None] * b)[None], grid, box)
    assert float(found.variation[0]) < 2e-3
    line, unit = Grid((n,), grid.centring), Box.of(Grid((n,), grid.centring))
    moved = found.displacement((33, 33))[0]
    for axis, density in enumerate((a, b)):
        exact = equidistribute_line(density[None], line, unit).displacement((33,))[0, 0]
        expected = exact[:, None].expand(33, 33) if axis == 0 else exact.expand(33, 33)
        assert float((moved[axis] - expected).abs().max()) < 1e-3
        assert float(exact.abs().max()) > 0.02  # there is something to find


def bump(grid: Grid, places) -> torch.Tensor:
    x = grid.coordinates()
    rows = []
    for place in places:
        far = sum((x[axis] - c).square() for axis, c in enumerate(place))
        rows.append(1 + 5 * torch.exp(-far / 0.02))
    return torch.stack(rows)


@pytest.mark.parametrize("dimension", [2, 3])
def test_relaxation_commutes_with_the_symmetries_of_the_box(dimension):
    grid = Grid((16,) * dimension, "cell")
    box, relax = Box.of(grid), Relaxation(steps=12, modes=8)
    m = bump(grid, [(0.3, 0.4, 0.6)[:dimension]])
    plain = relax(m, grid, box).displacement((9,) * dimension)
    flipped = relax(m.flip(1), grid, box).displacement((9,) * dimension).flip(2)
    flipped[:, 0] *= -1
    torch.testing.assert_close(flipped, plain, atol=1e-9, rtol=0)
    turned = relax(m.transpose(1, 2), grid, box).displacement((9,) * dimension).transpose(2, 3)
    order = [1, 0, *range(2, dimension)]
    torch.testing.assert_close(turned[:, order], plain, atol=1e-9, rtol=0)


def test_relaxation_on_a_torus_commutes_with_shifts():
    grid = Grid((16, 16), "periodic")
    box, relax = Box.of(grid), Relaxation(steps=12, modes=16)
    m = bump(grid, [(0.5, 0.45)])
    plain, moved = (relax(f, grid, box).displacement((17, 17))[..., :-1, :-1] for f in (m, m.roll((4, 7), (1, 2))))
    torch.testing.assert_close(moved, plain.roll((4, 7), (2, 3)), atol=1e-9, rtol=0)


def test_each_sample_is_relaxed_as_if_it_were_alone():
    grid = Grid((24, 24), "node")
    m = bump(grid, [(0.5, 0.5), (0.1, 0.9), (0.7, 0.2)])
    together = Relaxation(steps=10, modes=12, tolerance=0)(m, grid, Box.of(grid))
    for place in range(3):
        alone = Relaxation(steps=10, modes=12, tolerance=0)(m[place : place + 1], grid, Box.of(grid))
        torch.testing.assert_close(alone.coefficients[0], together.coefficients[place], atol=1e-10, rtol=0)


@pytest.mark.parametrize("step", [0.05, 0.2, 50.0])
def test_no_step_size_makes_it_worse_than_no_motion_and_more_steps_never_hurt(step):
    grid = Grid((24, 24), "node")
    m = bump(grid, [(0.5, 0.5), (0.1, 0.9)])
    before = torch.full((2,), math.inf, dtype=torch.float64)
    for steps in (0, 5, 20, 60):
        found = Relaxation(steps=steps, modes=12, step=step, tolerance=0)(m, grid, Box.of(grid))
        assert bool((found.variation <= before).all())
        before = found.variation
    assert float(before.max()) < (0.1 if step < 1 else 0.6)


def test_a_constant_monitor_moves_nothing_and_a_scaled_one_the_same():
    grid = Grid((12, 12), "cell")
    still = Relaxation(modes=8)(torch.full((2, 12, 12), 3.0, dtype=torch.float64), grid, Box.of(grid))
    assert float(still.coefficients.abs().max()) < 1e-14
    m = bump(grid, [(0.4, 0.5)])
    one, other = (Relaxation(steps=9, modes=8)(f * m, grid, Box.of(grid)).coefficients for f in (1.0, 1e3))
    torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": -1}, "steps = -1"), ({"modes": 1}, "modes = 1"), ({"step": 0.0}, "step = 0.0"),
     ({"tolerance": -1.0}, "tolerance")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Relaxation(**settings)


def test_a_box_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="runs from 1"):
        Box((1.0,), (0.0,), (False,))
    with pytest.raises(InputError, match="expected the same"):
        Box((0.0,), (1.0, 1.0), (False,))
    with pytest.raises(InputError, match="2 or more"):
        PotentialSpace(BOXES[0], (4, 4))
