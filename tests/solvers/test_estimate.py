"""Error estimates and bounds against true errors."""

from dataclasses import replace

import pytest
import torch
from assembled import convection, diffusion, exact, fields, helmholtz, two_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.solvers.estimate import operator_below, residual_estimate
from fieldwright.solvers.reference import reference
from fieldwright.solvers.stencil import StencilSystem

WALLS = [
    "dirichlet",
    "neumann",
    "periodic",
    [["dirichlet", "neumann"], "neumann"],
    ["periodic", ["neumann", "dirichlet"]],
]


def energy(system, u):
    return (u * system.apply(u)).flatten(1).sum(1).clamp_min(0).sqrt()


def true_errors(system, v, u):
    """Relative errors in L2 and in the energy norm."""
    v = v - v.flatten(1).mean(1).reshape(-1, *[1] * (v.ndim - 1)) if system.nullspace else v
    size = u.flatten(1).norm(dim=1)
    return (u - v).flatten(1).norm(dim=1) / size, energy(system, u - v) / energy(system, u)


def perturbed(u, kind, amplitude, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(u.shape, generator=generator, dtype=torch.float64) * u.abs().mean()
    change = {"noise": noise, "scale": u, "smooth": u.roll(1, 1), "constant": torch.ones_like(u) * u.abs().mean()}
    return u + amplitude * change[kind]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    walls=st.sampled_from(WALLS),
    centring=st.sampled_from(["cell", "node"]),
    contrast=st.sampled_from([1.0, 4.0, 1e3]),
    reaction=st.sampled_from([0.0, 5.0]),
    kind=st.sampled_from(["noise", "scale", "smooth", "constant"]),
    amplitude=st.sampled_from([1e-6, 1e-2, 1.0, 30.0]),
    seed=st.integers(0, 999),
)
def test_the_bound_is_never_violated(shape, walls, centring, contrast, reaction, kind, amplitude, seed):
    f = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    system = diffusion(fields(shape, 2, seed, contrast), f, walls, centring=centring, reaction=reaction)
    u = exact(system)
    v = perturbed(u, kind, amplitude, seed)
    bound = residual_estimate(system, v).bound
    if kind == "constant" and system.nullspace:
        # A solution is any constant away from another: there is no error, and a bound of what rounding leaves.
        assert bound.max() < 1e-13 * contrast
        return
    _, error = true_errors(system, v, u)
    assert torch.all(bound >= error * (1 - 1e-7))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    walls=st.sampled_from(WALLS),
    centring=st.sampled_from(["cell", "node"]),
    reaction=st.sampled_from([0.0, 5.0]),
    seed=st.integers(0, 999),
)
def test_the_operator_below_is_below(shape, walls, centring, reaction, seed):
    system = diffusion(fields(shape, 1, seed, 20.0), walls=walls, centring=centring, reaction=reaction)
    found = operator_below(system)
    assert found is not None
    operator, known = found
    assert bool(known.all())
    n = system.unknowns
    columns = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    many = replace(operator, strength=operator.strength.expand(n, -1), shift=operator.shift.expand(n))
    inverse = many.solve(columns).reshape(n, n)
    matrix = torch.from_numpy(system.to_csr(0).toarray())
    # xᵀA x >= xᵀL x is the same as yᵀL⁻¹A L⁻¹y >= yᵀL⁻¹y (on the complement of the kernel).
    gap = inverse @ matrix @ inverse - inverse
    assert float(torch.linalg.eigvalsh((gap + gap.T) / 2).min()) > -1e-10 * float(inverse.abs().max())


@pytest.mark.parametrize("kind", ["noise", "scale", "smooth"])
def test_at_contrast_four_estimate_and_bound_are_close(kind):
    system = diffusion(two_phase((32, 32), 6, 0, 4.0))
    u = reference(system).values
    v = perturbed(u, kind, 0.03, 1)
    error, energy_error = true_errors(system, v, u)
    found = residual_estimate(system, v)
    assert torch.all((found.estimate / error - 1).abs() < 0.1)
    assert torch.all(found.bound < 3 * energy_error)
    assert torch.allclose(found.residual, system.relative_residual(v))


def test_three_dimensions_and_one():
    for shape in ((20,), (8, 7, 6)):
        system = diffusion(two_phase(shape, 2, 0, 4.0))
        u = reference(system).values
        v = perturbed(u, "smooth", 0.05, 0)
        error, energy_error = true_errors(system, v, u)
        found = residual_estimate(system, v)
        assert torch.all((found.estimate / error - 1).abs() < 0.1)
        assert torch.all((found.bound >= energy_error) & (found.bound < 3 * energy_error))


def test_an_exact_solution_has_no_error():
    system = diffusion(two_phase((16, 16), 2, 0, 4.0))
    found = residual_estimate(system, reference(system).values)
    assert torch.all(found.bound < 1e-10)
    assert torch.all(found.estimate < 1e-10)


def test_zero_for_zero():
    system = diffusion(fields((6, 6), 1, 0, 2.0), torch.zeros(1, 6, 6, dtype=torch.float64))
    found = residual_estimate(system, torch.zeros(1, 6, 6, dtype=torch.float64))
    assert float(found.residual) == float(found.estimate) == float(found.bound) == 0.0


def test_other_kinds_have_an_estimate_and_no_bound():
    for system in (convection(24, 3, diffusivity=0.3), helmholtz((24, 24), 3, wavenumber=3.0)):
        u = reference(system).values
        v = perturbed(u, "smooth", 0.05, 0)
        found = residual_estimate(system, v)
        error = (u - v).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)
        assert torch.all(found.bound.isinf())
        assert torch.all((found.estimate > error / 3) & (found.estimate < 3 * error))


def test_negative_couplings_have_no_bound():
    system = diffusion(fields((6, 6), 1, 0, 2.0))
    coefficients = system.coefficients.clone()
    coefficients[:, 0] += 1e4
    coefficients[0, 1, 2, 2] *= -1
    coefficients[0, 2, 3, 2] *= -1
    system = StencilSystem(coefficients, system.rhs, system.offsets, system.boundary)
    assert bool(residual_estimate(system, system.rhs).bound.isinf())


def test_samples_do_not_see_each_other():
    system = diffusion(two_phase((20, 20), 5, 0, 9.0))
    v = perturbed(reference(system).values, "noise", 0.1, 0)
    together, alone = residual_estimate(system, v), residual_estimate(system.select([3]), v[3:4])
    assert torch.equal(together.estimate[3:4], alone.estimate)
    assert torch.equal(together.bound[3:4], alone.bound)


def test_values_that_cannot_be_judged_are_refused():
    system = diffusion(fields((6, 6), 2, 0, 2.0))
    with pytest.raises(InputError, match="values of shape"):
        residual_estimate(system, torch.zeros(2, 6, 5, dtype=torch.float64))
    v = torch.zeros(2, 6, 6, dtype=torch.float64)
    v[1, 0, 0] = torch.nan
    with pytest.raises(InputError, match="sample 1"):
        residual_estimate(system, v)
