"""Spectral-preconditioned conjugate gradients."""

import pytest
import torch
from assembled import convection, diffusion, exact, fields, two_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import SolverError
from fieldwright.solvers.reference import reference
from fieldwright.solvers.spectral import spectral, supports_spectral


@pytest.mark.parametrize("centring", ["cell", "node"])
def test_agrees_with_dense_algebra_for_every_wall(walls, centring):
    f = torch.randn(3, 8, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = diffusion(fields((8, 7), 3, 0, 8.0), f, walls, centring=centring)
    solution = spectral(system, rtol=1e-11)
    assert solution.failed == []
    assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-9 * float(exact(system).abs().max()))


@pytest.mark.parametrize("shape", [(40,), (12, 9), (7, 6, 5)])
def test_agrees_with_scipy_in_every_dimension(shape):
    system = diffusion(two_phase(shape, 3, 1, 30.0))
    solution = spectral(system, rtol=1e-10)
    assert torch.all(solution.converged)
    assert torch.allclose(solution.values, reference(system).values, rtol=1e-7, atol=1e-10)


def test_sixteen_iterations_at_contrast_four_whatever_the_grid():
    for n in (32, 64, 128):
        solution = spectral(diffusion(two_phase((n, n), 4, 0, 4.0)), rtol=1e-6)
        assert torch.all(solution.converged)
        assert int(solution.iterations.max()) <= 18


def test_smooth_large_contrast_takes_the_scaled_operator():
    x = torch.linspace(0, 1, 64, dtype=torch.float64)
    log_a = 6 * torch.sin(3 * x)[:, None] * torch.cos(2 * x)[None]
    solution = spectral(diffusion(torch.exp(log_a)[None]), rtol=1e-6)
    # κ of the plain operator is e^9 here, which alone would take hundreds of iterations.
    assert int(solution.iterations) <= 25


def test_constant_coefficients_are_one_transform_away():
    solution = spectral(diffusion(torch.full((2, 24, 20), 7.0, dtype=torch.float64)), rtol=1e-8)
    assert torch.all(solution.converged)
    assert int(solution.iterations.max()) <= 3


def test_anisotropy_costs_no_iterations():
    a = two_phase((32, 32), 2, 0, 4.0)
    stretched = spectral(diffusion(a, spacing=(1.0, 0.01)), rtol=1e-6)
    assert int(stretched.iterations.max()) <= 20


def test_converges_with_second_order_to_a_manufactured_solution():
    errors = []
    for n in (16, 32, 64):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        a = (1 + 0.5 * x)[:, None].expand(n, n)
        u = (torch.sin(torch.pi * x)[:, None] * torch.sin(torch.pi * x)[None])[None]
        slope = (torch.pi * torch.cos(torch.pi * x)[:, None] * torch.sin(torch.pi * x)[None])[None]
        f = 2 * torch.pi**2 * a * u - 0.5 * slope
        errors.append(float((spectral(diffusion(a[None], f), rtol=1e-10).values - u).abs().max()))
    orders = torch.tensor(errors).log2().diff().neg()
    assert torch.all((orders - 2).abs() < 0.1)


def test_units_do_not_matter():
    system = diffusion(two_phase((16, 16), 2, 0, 4.0))
    small = diffusion(1e-13 * two_phase((16, 16), 2, 0, 4.0), torch.full((2, 16, 16), 1e20, dtype=torch.float64))
    one, other = spectral(system, rtol=1e-9), spectral(small, rtol=1e-9)
    assert torch.equal(one.iterations, other.iterations)
    assert torch.allclose(one.values * 1e33, other.values, rtol=1e-6)


def test_a_good_guess_saves_iterations():
    system = diffusion(two_phase((32, 32), 3, 0, 4.0))
    solution = spectral(system, rtol=1e-8)
    near = solution.values * (1 + 1e-4)
    assert torch.all(spectral(system, rtol=1e-8, guess=near).iterations < solution.iterations)
    assert torch.all(spectral(system, rtol=1e-6, guess=solution.values).iterations == 0)


def test_limit_on_iterations_is_kept_and_reported():
    solution = spectral(diffusion(two_phase((32, 32), 3, 0, 100.0)), rtol=1e-8, max_iterations=4)
    assert torch.all(solution.iterations <= 4)
    assert solution.failed == [0, 1, 2]


@settings(max_examples=8, deadline=None)
@given(n=st.integers(3, 40), m=st.integers(3, 40), contrast=st.sampled_from([4.0, 40.0]), seed=st.integers(0, 99))
def test_bits_do_not_depend_on_the_batch(n, m, contrast, seed):
    system = diffusion(fields((n, m), 7, seed, contrast))
    together = spectral(system, rtol=1e-8).values
    assert torch.equal(together[5:6], spectral(system.select([5]), rtol=1e-8).values)
    assert torch.equal(together[[6, 2]], spectral(system.select([6, 2]), rtol=1e-8).values)


def test_bits_do_not_depend_on_threads():
    system = diffusion(fields((96, 96), 16, 0, 5.0))
    one = spectral(system, rtol=1e-8).values
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(spectral(system, rtol=1e-8).values, one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_only_definite_systems_with_couplings_are_taken():
    assert supports_spectral(diffusion(torch.ones(1, 4, 4, dtype=torch.float64))) is None
    assert "kind 'general'" in str(supports_spectral(convection(8, 1)))
    with pytest.raises(SolverError, match="positive definite"):
        spectral(convection(8, 1))
