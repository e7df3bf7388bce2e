import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.solvers.exponential_runge_kutta import etdrk4, etdrk4_coefficients
from fieldwright.solvers.solenoidal_flux import SolenoidalCurl, SolenoidalTerm, solenoidal_flux
from fieldwright.solvers.spectral_grid import SpectralGrid


def random_curl(waves: SpectralGrid, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    curl = waves.forward(torch.rand(batch, *waves.shape, generator=generator, dtype=torch.float64))
    curl[:, 0, 0] = 0.0
    return curl


def advective(waves: SpectralGrid, curl: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """-u·∇ω by its definition, on a grid twice as fine, where no product folds back; brought back to the band."""
    fine = SpectralGrid(tuple(2 * n for n in waves.shape), waves.lengths)
    padded = torch.zeros(len(curl), *fine.modes, dtype=torch.complex128)
    (kx, ky), n = waves.bands, waves.shape[0]
    padded[:, : kx + 1, : ky + 1], padded[:, -kx:, : ky + 1] = curl[:, : kx + 1], curl[:, n - kx :]
    x, y = fine.derivative(0), fine.derivative(1)
    psi = padded / fine.squares.clamp_min(1e-30)
    u, v = fine.backward(y * psi) + mean[:, 0, None, None], fine.backward(-x * psi) + mean[:, 1, None, None]
    rate = fine.forward(-u * fine.backward(x * padded) - v * fine.backward(y * padded))
    found = torch.zeros_like(curl)
    found[:, : kx + 1], found[:, n - kx :] = rate[:, : kx + 1, : ky + 1], rate[:, -kx:, : ky + 1]
    return found


@pytest.mark.parametrize("waves", [SpectralGrid((16, 16), (2.0, 2.0), 2), SpectralGrid((18, 24), (1.0, 3.0), 2)])
@pytest.mark.parametrize("moving", [False, True])
def test_flux_is_what_the_field_carries_of_its_curl(waves: SpectralGrid, moving: bool) -> None:
    curl = random_curl(waves)
    mean = torch.tensor([[0.7, -0.3], [0.1, 0.2]], dtype=torch.float64) * moving
    found = solenoidal_flux(waves, curl)(curl, mean if moving else None)
    exact = advective(waves, curl, mean)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-14 * float(exact.abs().max()) * 100)


def test_flux_does_no_work_on_energy_and_enstrophy() -> None:
    waves = SpectralGrid((24, 24), (2 * math.pi, 2 * math.pi), 2)
    curl = random_curl(waves)
    rate = solenoidal_flux(waves, curl)(curl, None)
    weight = torch.full(waves.modes, 2.0, dtype=torch.float64)
    weight[:, 0] = 1.0
    inverse = 1 / waves.squares
    inverse[0, 0] = 0.0
    for measure in (weight, weight * inverse):
        work = (measure * curl.conj() * rate).real.sum((1, 2))
        size = (measure * curl.abs() * rate.abs()).sum((1, 2))
        assert float((work / size).abs().max()) < 1e-14


def test_curl_and_field_are_inverse_and_the_field_has_no_divergence() -> None:
    waves = SpectralGrid((12, 16), (1.0, 2.0), 2)
    relation, curl = SolenoidalCurl(waves), random_curl(waves)
    field = relation.field(curl)
    torch.testing.assert_close(relation.curl(field), curl, rtol=0, atol=1e-15)
    divergence = waves.derivative(0) * field[:, 0] + waves.derivative(1) * field[:, 1]
    assert float(divergence.abs().max()) < 1e-15


def test_flux_is_differentiable_and_keeps_single_precision() -> None:
    waves = SpectralGrid((8, 8), (1.0, 1.0), 2)
    curl = random_curl(waves, 1)
    flux = solenoidal_flux(waves, curl)
    mean = torch.tensor([[0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flux, (curl.requires_grad_(), mean))
    single = curl.detach().to(torch.complex64)
    rate = solenoidal_flux(waves, single)(single, None)
    assert rate.dtype == torch.complex64
    exact = flux(curl, None).detach()
    torch.testing.assert_close(rate.to(torch.complex128), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("n", [32, 64, 128])
@pytest.mark.parametrize("of_field", [False, True])
def test_compiled_term_is_the_plain_one(n: int, of_field: bool) -> None:
    waves = SpectralGrid((n, n), (1.0, 2.0), 2)
    # Of a smooth field: in the flux of white noise large terms cancel, and rounding is that of the terms.
    smooth = 1 / (1 + waves.squares / waves.squares[0, 1])
    curl, force = smooth * random_curl(waves), smooth * random_curl(waves, 1)[0]
    relation = SolenoidalCurl(waves)
    mean = torch.tensor([[0.7, -0.3], [0.1, 0.2]], dtype=torch.float64) * relation.field(curl).abs().max()
    state = relation.field(curl) if of_field else curl[:, None]
    if of_field:
        state[:, :, 0, 0] = mean.to(state)
    exact = solenoidal_flux(waves, curl)(curl, mean if of_field else None) + force
    exact = relation.field(exact) if of_field else exact[:, None]
    found = SolenoidalTerm(waves, force, of_field=of_field)(state)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-13 * float(exact.abs().max()))
    single = SolenoidalTerm(waves, force, of_field=of_field)(state.to(torch.complex64))
    assert single.dtype == torch.complex64
    torch.testing.assert_close(single.to(torch.complex128), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize("of_field", [False, True])
def test_compiled_steps_are_the_plain_ones(steps: int, of_field: bool) -> None:
    waves = SpectralGrid((32, 32), (2 * math.pi, 2 * math.pi), 2)
    curl, force = random_curl(waves), random_curl(waves, 1)[0]
    # Each sample has its own viscosity, all have drag.
    symbol = -torch.tensor([0.02, 0.1], dtype=torch.float64).reshape(2, 1, 1, 1) * waves.squares - 0.3
    state = SolenoidalCurl(waves).field(curl) if of_field else curl[:, None]
    if of_field:
        state[:, :, 0, 0] = torch.tensor([[0.7, -0.3], [0.1, 0.2]]).to(state)
        # A part with divergence fades and does nothing else.
        state[:, 0, 3, 2] += 0.1
    term = SolenoidalTerm(waves, force, of_field=of_field)
    found = term.etdrk4(etdrk4_coefficients(symbol, 0.05))(state, steps)
    before, advance = state.clone(), etdrk4(symbol, 0.05, dtype=state.dtype)
    plain = solenoidal_flux(waves, curl)
    relation = SolenoidalCurl(waves)

    def rate(s: torch.Tensor) -> torch.Tensor:
        if of_field:
            return relation.field(plain(relation.curl(s), s[:, :, 0, 0]) + force)
        return (plain(s[:, 0], None) + force)[:, None]

    expected = state
    for _ in range(steps):
        expected = advance(expected, rate)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert torch.equal(state, before)


def test_what_blows_up_in_compiled_steps_leaves_its_neighbours_alone() -> None:
    waves = SpectralGrid((32, 32), (1.0, 1.0), 2)
    curl = random_curl(waves, 3)[:, None]
    symbol = (-1e-3 * waves.squares)[None, None]
    healthy = SolenoidalTerm(waves).etdrk4(etdrk4_coefficients(symbol, 0.01))(curl[[0, 2]], 5)
    curl[1] *= 1e200
    states = SolenoidalTerm(waves).etdrk4(etdrk4_coefficients(symbol, 0.01))(curl, 5)
    assert torch.equal(states[[0, 2]], healthy)
    assert not bool(states[1].isfinite().all())


def test_what_needs_a_gradient_gets_one_on_every_grid() -> None:
    waves = SpectralGrid((32, 32), (1.0, 1.0), 2)
    curl = random_curl(waves, 1)[:, None].requires_grad_()
    symbol = (-1e-2 * waves.squares)[None, None]
    term = SolenoidalTerm(waves)
    stepped = term.etdrk4(etdrk4_coefficients(symbol, 0.01))(curl, 2)
    (slope,) = torch.autograd.grad(stepped.abs().square().sum(), curl)
    with torch.no_grad():
        torch.testing.assert_close(term.etdrk4(etdrk4_coefficients(symbol, 0.01))(curl, 2), stepped, rtol=0, atol=1e-13)
        change = torch.zeros_like(curl)
        change[0, 0, 2, 3] = 1e-4
        sizes = [
            float(term.etdrk4(etdrk4_coefficients(symbol, 0.01))(curl + sign * change, 2).abs().square().sum())
            for sign in (1, -1)
        ]
    assert float(slope[0, 0, 2, 3].real) == pytest.approx((sizes[0] - sizes[1]) / 2e-4, rel=1e-6)


def test_boxes_in_space_are_refused() -> None:
    with pytest.raises(InputError, match="a box in 3D; it must be plane"):
        SolenoidalCurl(SpectralGrid((8, 8, 8), (1.0, 1.0, 1.0)))
