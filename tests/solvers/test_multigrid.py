"""Multigrid preconditioned conjugate gradients against SciPy, mathematics, and itself in another order."""

import math

import numpy as np
import pytest
import torch
from assembled import diffusion, fields, two_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.multigrid import multigrid, supports_multigrid
from fieldwright.solvers.reference import reference

D, N = "dirichlet", "neumann"
WALLS_2D = {
    "dirichlet": D,
    "neumann": N,
    "one side": [(D, N), (N, N)],
    "three sides": [(D, N), (D, D)],
    "opposite sides": [(N, N), (D, D)],
}
WALLS_3D = {"dirichlet": D, "neumann": N, "one side": [(N, N), (N, D), (N, N)]}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def system_on(shape, batch=3, *, walls=D, contrast=4.0, seed=0, field=two_phase):
    """A diffusion system with a smooth right-hand side of mean zero, which every choice of walls can meet."""
    axes = torch.meshgrid(*((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in shape), indexing="ij")
    f = sum(torch.cos(math.pi * (k + 1) * x) for k, x in enumerate(axes)).expand(batch, *shape)
    return diffusion(field(shape, batch, seed, contrast), f - f.mean(), walls)


def assert_solved(system, rtol=1e-8, **options):
    solution = multigrid(system, rtol=rtol, **options)
    assert bool(solution.converged.all())
    true = system.relative_residual(solution.values)
    assert float(true.max()) <= rtol
    torch.testing.assert_close(solution.residual, true, rtol=1e-4, atol=1e-14)
    return solution


@pytest.mark.parametrize("walls", WALLS_2D.values(), ids=WALLS_2D)
@pytest.mark.parametrize("shape", [(16, 16), (17, 23), (2, 9), (33, 12)], ids=str)
def test_agrees_with_scipy_in_two_dimensions(shape, walls):
    system = system_on(shape, walls=walls, contrast=12.0)
    assert system.nullspace == (walls == N)
    exact = reference(system).values
    error = (assert_solved(system, 1e-11).values - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    assert float(error.max()) < 1e-8


@pytest.mark.parametrize("walls", WALLS_3D.values(), ids=WALLS_3D)
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 7, 9), (2, 3, 12)], ids=str)
def test_agrees_with_scipy_in_three_dimensions(shape, walls):
    system = system_on(shape, walls=walls, contrast=12.0)
    exact = reference(system).values
    error = (assert_solved(system, 1e-11).values - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    assert float(error.max()) < 1e-8


@pytest.mark.parametrize("dimension", [2, 3])
def test_solution_matches_manufactured_solution_to_second_order(dimension):
    errors = []
    for n in (16, 32):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        u = torch.ones(())
        for axis in range(dimension):
            u = u * torch.sin(math.pi * x).reshape(-1, *[1] * (dimension - 1 - axis))
        system = diffusion(torch.ones(1, *u.shape, dtype=torch.float64), (dimension * math.pi**2 * u)[None])
        errors.append(float((assert_solved(system, 1e-10).values[0] - u).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_iterations_do_not_grow_with_the_grid_in_two_dimensions():
    counts = [int(assert_solved(system_on((n, n), 8, contrast=4.0)).iterations.max()) for n in (16, 64, 128)]
    assert max(counts) <= 9
    assert counts[-1] <= counts[0] + 2


def test_iterations_grow_slowly_with_the_grid_in_three_dimensions():
    counts = [int(assert_solved(system_on((n, n, n), 2), 1e-6).iterations.max()) for n in (8, 16, 32)]
    assert max(counts) <= 14


@pytest.mark.parametrize("shape", [(64, 64), (16, 16, 16)], ids=str)
@pytest.mark.parametrize(("field", "contrast"), [(two_phase, 1e4), (fields, 1e3)], ids=["blobs", "noise"])
def test_large_contrast_costs_few_iterations(shape, field, contrast):
    assert int(assert_solved(system_on(shape, field=field, contrast=contrast)).iterations.max()) <= 40


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(2, 14), min_size=2, max_size=3),
    sides=st.lists(st.tuples(st.sampled_from([D, N]), st.sampled_from([D, N])), min_size=3, max_size=3),
    contrast=st.floats(1, 1e4),
    batch=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_solves_any_box_with_any_walls(shape, sides, contrast, batch, seed):
    system = system_on(tuple(shape), batch, walls=sides[: len(shape)], contrast=contrast, seed=seed, field=fields)
    assert_solved(system)


def test_a_reaction_term_is_part_of_the_diagonal():
    a = two_phase((20, 20), 4, 0, 12.0)
    for reaction in (1.0, 1e5):
        assert_solved(diffusion(a, torch.ones_like(a), N, reaction=reaction))


@pytest.mark.parametrize("shape", [(24, 24), (9, 10, 11)], ids=str)
def test_bits_depend_on_the_sample_alone(shape):
    system = system_on(shape, 11, contrast=12.0)
    whole = assert_solved(system)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    shuffled = assert_solved(system.select(order))
    assert torch.equal(shuffled.values, whole.values[order])
    assert torch.equal(shuffled.iterations, whole.iterations[order])
    assert torch.equal(assert_solved(system.select([7])).values[0], whole.values[7])


@pytest.mark.parametrize("shape", [(24, 24), (9, 10, 11)], ids=str)
def test_two_threads_give_the_bits_of_one(shape):
    system = system_on(shape, 40, contrast=12.0)
    one = multigrid(system, rtol=1e-8)
    torch.set_num_threads(2)
    two = multigrid(system, rtol=1e-8)
    assert torch.equal(one.values, two.values)
    assert torch.equal(one.residual, two.residual)


@pytest.mark.parametrize("shape", [(24, 24), (8, 10, 11)], ids=str)
def test_a_hard_sample_leaves_its_neighbours_bits_alone(shape):
    easy, hard = system_on(shape, 8, contrast=2.0), system_on(shape, 8, contrast=1e5, field=fields)
    coefficients = easy.coefficients.clone()
    coefficients[3] = hard.coefficients[3]
    mixed = multigrid(StencilSystem(coefficients, easy.rhs, easy.offsets, easy.boundary), rtol=1e-8)
    alone = multigrid(easy, rtol=1e-8)
    keep = [i for i in range(8) if i != 3]
    assert torch.equal(mixed.values[keep], alone.values[keep])
    assert bool(mixed.converged.all())


def test_offsets_may_come_in_any_order():
    system = system_on((12, 13))
    order = [3, 0, 4, 2, 1]
    other = StencilSystem(
        system.coefficients[:, order], system.rhs, tuple(system.offsets[i] for i in order), system.boundary
    )
    torch.testing.assert_close(multigrid(other, rtol=1e-12).values, multigrid(system, rtol=1e-12).values)


def test_coefficients_that_point_off_the_grid_have_no_effect():
    system = system_on((9, 12))
    coefficients = system.coefficients.clone()
    for index, offset in enumerate(system.offsets):
        for axis, step in enumerate(offset):
            if step:
                coefficients[:, index].select(axis + 1, -1 if step > 0 else 0).fill_(-7.0)
    assert not torch.equal(coefficients, system.coefficients)
    other = StencilSystem(coefficients, system.rhs, system.offsets, system.boundary)
    assert torch.equal(multigrid(other, rtol=1e-8).values, multigrid(system, rtol=1e-8).values)


def test_zero_right_hand_side_has_the_solution_zero_whatever_the_guess():
    system = system_on((10, 10))
    zero = StencilSystem(system.coefficients, 0 * system.rhs, system.offsets, system.boundary)
    solution = multigrid(zero, rtol=1e-8, guess=torch.ones_like(system.rhs))
    assert torch.equal(solution.values, torch.zeros_like(system.rhs))
    assert bool(solution.converged.all())
    assert int(solution.iterations.max()) == 0


def test_a_good_guess_saves_iterations_and_an_exact_one_needs_none():
    system = system_on((32, 32))
    exact = assert_solved(system, 1e-12).values
    near = assert_solved(system, 1e-6, guess=exact * (1 + 1e-5))
    assert int(near.iterations.max()) < int(assert_solved(system, 1e-6).iterations.min())
    same = multigrid(system, rtol=1e-8, guess=exact)
    assert int(same.iterations.max()) == 0
    assert torch.equal(same.values, exact)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_units_do_not_matter(scale):
    system = system_on((16, 16))
    scaled = StencilSystem(system.coefficients * scale, system.rhs / scale, system.offsets, system.boundary)
    solution = assert_solved(scaled, 1e-10)
    torch.testing.assert_close(solution.values * scale**2, assert_solved(system, 1e-10).values, rtol=1e-6, atol=1e-12)


def test_samples_that_fail_are_reported_and_leave_the_others_alone():
    system = system_on((16, 16), 9)
    coefficients = system.coefficients.clone()
    coefficients[2] *= -1
    coefficients[5] = float("nan")
    broken = StencilSystem(coefficients, system.rhs, system.offsets, system.boundary)
    solution = multigrid(broken, rtol=1e-8)
    assert solution.failed == [2, 5]
    good = [0, 1, 3, 4, 6, 7, 8]
    assert torch.equal(solution.values[good], multigrid(system, rtol=1e-8).values[good])


@pytest.mark.parametrize("shape", [(16, 12), (8, 8, 6)])
def test_a_sample_that_fails_does_not_spoil_the_next_one_in_its_lane(shape):
    system = system_on(shape, batch=20)
    coefficients = system.coefficients.clone()
    coefficients[5] = float("nan")
    broken = StencilSystem(coefficients, system.rhs, system.offsets, system.boundary)
    solution = multigrid(broken, rtol=1e-8)
    assert solution.failed == [5]
    assert torch.equal(solution.values[8:], multigrid(system, rtol=1e-8).values[8:])


def test_too_few_iterations_are_reported():
    solution = multigrid(system_on((32, 32)), rtol=1e-10, max_iterations=2)
    assert not bool(solution.converged.any())
    assert solution.iterations.tolist() == [2, 2, 2]
    assert float(solution.residual.min()) > 1e-10


def test_a_right_hand_side_outside_the_range_is_reported():
    system = system_on((16, 16), walls=N)
    shifted = StencilSystem(
        system.coefficients, system.rhs + 1, system.offsets, system.boundary, nullspace=system.nullspace
    )
    assert not bool(multigrid(shifted, rtol=1e-8).converged.any())


def test_solutions_of_singular_systems_have_mean_zero():
    for shape in ((15, 16), (6, 7, 8)):
        values = assert_solved(system_on(shape, walls=N)).values
        assert float(values.flatten(1).mean(1).abs().max()) < 1e-14 * float(values.abs().max()) * np.prod(shape)


def test_what_it_cannot_take_is_refused_with_a_reason():
    good = system_on((8, 8))
    one_axis = diffusion(torch.ones(1, 8, dtype=torch.float64))
    periodic = diffusion(torch.ones(1, 8, 8, dtype=torch.float64), walls=["periodic", D])
    general = StencilSystem(good.coefficients, good.rhs, good.offsets, good.boundary, kind="general")
    three = StencilSystem(good.coefficients[:, :3], good.rhs, good.offsets[:3], good.boundary)
    line = diffusion(torch.ones(1, 1, 8, dtype=torch.float64))
    assert supports_multigrid(good) is None
    for system, word in (
        (one_axis, "dimensions"),
        (periodic, "periodic"),
        (general, "general"),
        (three, "5-point"),
        (line, "at least 2"),
    ):
        reason = supports_multigrid(system)
        assert reason is not None
        assert word in reason
        with pytest.raises(SolverError, match=word):
            multigrid(system, rtol=1e-8)


def test_boundary_parse_is_what_the_systems_carry():
    assert system_on((8, 8), walls=WALLS_2D["one side"]).boundary == Boundary.parse([(D, N), (N, N)], 2)
