"""Batched elimination with samples in lanes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from assembled import convection, diffusion, exact, fields, helmholtz, two_phase, unit_offsets
from components import complex_helmholtz, elasticity, swapped_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import SolverError
from fieldwright.grids import Boundary
from fieldwright.solvers import direct as direct_module
from fieldwright.solvers.direct import Batch, direct, flat_system, plan_of, supports_direct
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import StencilSystem


@pytest.mark.parametrize("kind", ["spd", "general"])
def test_agrees_with_dense_algebra_for_every_wall(walls, kind):
    f = torch.randn(3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = replace(diffusion(fields((9, 7), 3, 0, 8.0), f, walls), kind=kind)
    solution = direct(system, rtol=1e-11)
    assert solution.failed == []
    assert solution.fallbacks == 0
    assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-9 * float(exact(system).abs().max()))


@pytest.mark.parametrize(
    "system",
    [
        diffusion(two_phase((50,), 3, 0, 100.0)),
        diffusion(two_phase((33, 21), 11, 0, 1e4)),
        diffusion(two_phase((9, 8, 7), 3, 0, 10.0)),
        convection(24, 9),
        helmholtz((32, 32), 9),
        helmholtz((7, 8, 9), 3, wavenumber=8.0),
    ],
    ids=["1D", "2D", "3D", "convection", "Helmholtz", "Helmholtz 3D"],
)
def test_few_corrections_reach_the_accuracy_of_scipy(system):
    solution = direct(system, rtol=1e-10)
    assert solution.failed == []
    assert solution.fallbacks == 0
    # Factors in float32 are good for three digits a correction and more, half of that where A is indefinite.
    assert int(solution.iterations.max()) <= (7 if system.kind == "symmetric" else 4)
    expected = reference(system).values
    assert float((solution.values - expected).norm() / expected.norm()) < 1e-9


def test_nine_point_and_longer_stencils():
    generator = torch.Generator().manual_seed(0)
    offsets = ((0, 0), (1, 1), (-1, -1), (1, -1), (2, 0), (0, -2))
    coefficients = torch.randn(5, 6, 12, 13, generator=generator, dtype=torch.float64)
    coefficients[:, 0] = 8 + coefficients[:, 0].abs()
    f = torch.randn(5, 12, 13, generator=generator, dtype=torch.float64)
    system = StencilSystem(coefficients, f, offsets, Boundary.parse(["periodic", "dirichlet"], 2), kind="general")
    assert torch.allclose(direct(system, rtol=1e-10).values, exact(system), atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(shape=st.lists(st.integers(1, 12), min_size=1, max_size=3), seed=st.integers(0, 99), data=st.data())
def test_diagonally_dominant_matrices_of_any_shape(shape, seed, data):
    walls = [data.draw(st.sampled_from(["dirichlet", "periodic"])) for _ in shape]
    generator = torch.Generator().manual_seed(seed)
    offsets = unit_offsets(len(shape))
    coefficients = torch.randn(3, len(offsets), *shape, generator=generator, dtype=torch.float64)
    coefficients[:, 0] = 1 + coefficients.abs().sum(1)
    f = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    system = StencilSystem(coefficients, f, offsets, Boundary.parse(walls, len(shape)), kind="general")
    assert torch.allclose(direct(system, rtol=1e-12).values, exact(system), atol=1e-10)


def _batch(system, rtol):
    return Batch(plan_of(system)[0], flat_system(system, rtol=rtol, guess=None, limit=10), system.batch)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make", [convection, lambda n, batch: helmholtz((n, n), batch)], ids=["convection", "Helmholtz"]
)
def test_either_precision_meets_the_tolerance(make, precision):
    system = make(20, 9)
    batch = _batch(system, 1e-10)
    batch.eliminate(np.arange(9), precision)
    assert list(batch.unsolved()) == []
    values = torch.from_numpy(batch.values).reshape(system.rhs.shape)
    assert torch.all(system.relative_residual(values) <= 1e-10)
    assert torch.allclose(torch.from_numpy(batch.residuals), system.relative_residual(values), atol=1e-14)
    # In float64 a second correction would have nothing to correct.
    assert precision == np.float32 or list(batch.corrections) == [1] * 9


def test_a_singular_sample_is_reported():
    system = diffusion(torch.ones(2, 6, 6, dtype=torch.float64), walls="neumann")
    lost = replace(system, nullspace=False, rhs=torch.ones_like(system.rhs))
    assert direct(lost, rtol=1e-9).failed == [0, 1]


def test_bits_do_not_depend_on_the_batch_or_threads():
    system = convection(20, 19)
    together = direct(system, rtol=1e-10).values
    assert torch.equal(together[11:12], direct(system.select([11]), rtol=1e-10).values)
    assert torch.equal(together[[3, 18]], direct(system.select([3, 18]), rtol=1e-10).values)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(direct(system, rtol=1e-10).values, together)
    finally:
        torch.set_num_threads(before)


def test_a_solved_guess_needs_no_correction():
    system = convection(16, 3)
    solution = direct(system, rtol=1e-12)
    again = direct(system, rtol=1e-8, guess=solution.values)
    assert torch.equal(again.values, solution.values)
    assert torch.all(again.iterations == 0)


def test_systems_too_large_are_refused_before_work(monkeypatch):
    system = diffusion(torch.ones(1, 16, 16, dtype=torch.float64))
    assert supports_direct(system) is None
    monkeypatch.setattr(direct_module, "MAX_BYTES", 10_000)
    with pytest.raises(SolverError, match="16 x 16 unknowns needs"):
        direct(system)
    nothing = torch.zeros(0, 7, 100, 100, 100, dtype=torch.float64)
    huge = StencilSystem(nothing, nothing[:, 0], unit_offsets(3), Boundary.parse("dirichlet", 3))
    assert "100 x 100 x 100" in str(supports_direct(huge))


def _weak_pivots(batch):
    """Diagonally weak rows, whose elimination without exchanging rows meets small pivots."""
    generator = torch.Generator().manual_seed(3)
    coefficients = torch.randn(batch, 5, 10, 9, generator=generator, dtype=torch.float64)
    f = torch.randn(batch, 10, 9, generator=generator, dtype=torch.float64)
    return StencilSystem(coefficients, f, unit_offsets(2), Boundary.parse("dirichlet", 2), kind="general")


def test_what_float32_leaves_unsolved_is_solved_in_float64():
    # κ(A) of a line of 800 cells with jumps of 10^4 is near 10^9: to float32 some of these matrices are singular.
    system = diffusion(two_phase((800,), 9, 0, 1e4))
    single = _batch(system, 1e-6)
    single.eliminate(np.arange(9), np.float32)
    assert len(single.unsolved()) > 0
    solution = direct(system, rtol=1e-6)
    assert solution.failed == []
    assert solution.fallbacks == 0


def test_small_pivots_do_no_harm_or_are_counted():
    system = _weak_pivots(64)
    solution = direct(system, rtol=1e-10)
    assert solution.failed == []
    assert solution.fallbacks <= 2
    expected = reference(system).values
    assert torch.allclose(solution.values, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_samples_that_need_exchange_of_rows_are_solved_by_superlu_and_counted():
    system = swapped_pairs(3)
    # The second sample is diagonally dominant and needs none.
    system.coefficients[1, 0] = 4.0
    solution = direct(system, rtol=1e-12)
    assert solution.failed == []
    assert solution.fallbacks == 2
    assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-13)


def test_a_lane_with_vanishing_pivots_falls_back_alone():
    system = helmholtz((8, 8), 6)
    coefficients = system.coefficients.clone()
    # A decoupled unknown with a row of zero: singular, and its lane fills with infinities.
    coefficients[2, 0, 3, 3] = 0.0
    coefficients[2, 1:, 3, 3] = 0.0
    coefficients[2, 1, 2, 3] = coefficients[2, 2, 4, 3] = coefficients[2, 3, 3, 2] = coefficients[2, 4, 3, 4] = 0.0
    broken = replace(system, coefficients=coefficients)
    solution = direct(broken, rtol=1e-9)
    assert solution.fallbacks == 1
    assert solution.failed == [2]
    others = [0, 1, 3, 4, 5]
    assert torch.equal(solution.values[others], direct(system, rtol=1e-9).values[others])


@pytest.mark.parametrize("make", [complex_helmholtz, elasticity])
def test_components_of_a_point_are_eliminated_together(make):
    system = make(9, 9)
    solution = direct(system, rtol=1e-11)
    assert solution.failed == []
    assert solution.fallbacks == 0
    assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-9 * float(exact(system).abs().max()))


def test_a_pair_with_an_empty_diagonal_needs_no_exchange_of_rows():
    # With R = 0 on the diagonal every single pivot vanishes; only the pair [[0, -M], [-M, 0]] is regular.
    system = complex_helmholtz(8, 3)
    coefficients = system.coefficients.clone()
    coefficients[:, system.offsets.index((0, 0, 0))] = 0.0
    coefficients[:, -2, 0] = coefficients[:, -1, 1] = 4.5 * coefficients[:, 1:-2].abs().amax()
    pair = replace(system, coefficients=coefficients)
    solution = direct(pair, rtol=1e-11)
    assert solution.failed == []
    assert solution.fallbacks == 0
    assert torch.allclose(solution.values, exact(pair), rtol=0, atol=1e-10 * float(exact(pair).abs().max()))


def test_a_limit_on_corrections_is_kept_and_reported():
    system = helmholtz((24, 24), 3)
    solution = direct(system, rtol=1e-12, max_iterations=1)
    assert solution.failed == [0, 1, 2]
    assert solution.fallbacks == 0
    assert torch.all(solution.iterations == 1)
    assert torch.all(solution.residual < 0.1)


def test_units_do_not_matter():
    system = convection(12, 3)
    small = replace(system, coefficients=system.coefficients * 2.0**-90, rhs=system.rhs * 2.0**60)
    assert torch.equal(direct(small, rtol=1e-10).values, direct(system, rtol=1e-10).values * 2.0**150)
