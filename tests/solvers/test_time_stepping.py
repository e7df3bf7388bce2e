"""Steps of stiff systems: φ functions to the last digits, orders, exact parts, and neighbours that stay untouched."""

import math
from decimal import Decimal, getcontext
from functools import partial

import pytest
import torch

from fieldwright.solvers.exponential_runge_kutta import etdrk2, etdrk4, lawson4
from fieldwright.solvers.imex import ARS222, ARS443, ImexTableau, carpenter_kennedy, imex
from fieldwright.solvers.phi_functions import phi_functions

STEPS = {
    "etdrk2": (etdrk2, 2),
    "etdrk4": (etdrk4, 4),
    "lawson4": (lawson4, 4),
    "ars222": (partial(imex, tableau=ARS222), 2),
    "ars443": (partial(imex, tableau=ARS443), 3),
    "carpenter_kennedy": (carpenter_kennedy, 2),
}


def phi_to_sixty_digits(z: complex, k: int) -> complex:
    """φ_k(z) by its series in decimal arithmetic, with digits to spare for the cancellation of e^|z|."""
    getcontext().prec = 60 + int(abs(z))
    x, y = Decimal(z.real), Decimal(z.imag)
    real, imaginary = Decimal(0), Decimal(0)
    power, factorial = (Decimal(1), Decimal(0)), Decimal(math.factorial(k))
    for j in range(1, 200 + 4 * int(abs(z))):
        real += power[0] / factorial
        imaginary += power[1] / factorial
        power = (power[0] * x - power[1] * y, power[0] * y + power[1] * x)
        factorial *= j + k
    return complex(real, imaginary)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_phi_functions_are_right_to_1e_14(k: int) -> None:
    sizes = [1e-9, 1e-4, 0.03, 0.3, 0.8, 0.999, 1.0, 1.001, 1.7, 3.0, 5.9, 12.0, 40.0]
    directions = [-1.0, 1j, -1j, complex(-0.6, 0.8), complex(-0.8, -0.6), 0.5]
    points = [s * d for s in sizes for d in directions]
    found = phi_functions(torch.tensor(points, dtype=torch.complex128), k)[k]
    for z, value in zip(points, found.tolist(), strict=True):
        exact = phi_to_sixty_digits(complex(z), k)
        # On the imaginary axis φ_1 vanishes at multiples of 2πi, so the bound there is relative to its envelope.
        assert abs(value - exact) <= 1e-14 * max(abs(exact), 1 / (math.factorial(k) * (1 + abs(z))))
    real = [p for p in points if not isinstance(p, complex)]
    values = phi_functions(torch.tensor(real, dtype=torch.float64), k)[k]
    for z, value in zip(real, values.tolist(), strict=True):
        assert value == pytest.approx(phi_to_sixty_digits(complex(z), k).real, rel=1e-14)


def test_phi_functions_far_out_on_the_negative_axis_are_their_limits() -> None:
    z = torch.tensor([-1e3, -1e8], dtype=torch.float64)
    phi = phi_functions(z, 3)
    torch.testing.assert_close(phi[1], -1 / z, rtol=1e-15, atol=0)
    torch.testing.assert_close(phi[2], -(1 + 1 / z) / z, rtol=1e-14, atol=0)
    torch.testing.assert_close(phi[3], -(0.5 + 1 / z + 1 / z**2) / z, rtol=1e-14, atol=0)


def oscillator(state: torch.Tensor) -> torch.Tensor:
    """A coupling of the two entries of each sample that is no part of the diagonal."""
    return torch.stack([state[:, 1] * state[:, 0] + 0.3, -state[:, 0].square() + state[:, 1]], 1)


def run(name: str, symbol: torch.Tensor, state: torch.Tensor, nonlinear, steps: int, time: float = 1.0):
    step = STEPS[name][0](symbol, time / steps, dtype=state.dtype)
    for _ in range(steps):
        state = step(state, nonlinear)
    return state


@pytest.mark.parametrize("name", list(STEPS))
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_error_falls_with_the_order_of_the_method(name: str, dtype: torch.dtype) -> None:
    rate = torch.tensor([-1.0, -0.6], dtype=torch.float64)
    symbol = rate if dtype == torch.float64 else rate * (1 + 0.7j)
    state = torch.tensor([[0.7, 0.4], [-0.2, 0.9]], dtype=dtype)
    exact = run("etdrk4", symbol, state, oscillator, 4096)
    errors = [float((run(name, symbol, state, oscillator, n) - exact).abs().max()) for n in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(STEPS[name][1], abs=0.1)


def test_carpenter_kennedy_is_of_order_four_where_nothing_is_stiff() -> None:
    symbol = torch.zeros(2, dtype=torch.float64)
    state = torch.tensor([[0.7, 0.4]], dtype=torch.float64)
    exact = run("etdrk4", symbol, state, oscillator, 4096)
    errors = [float((run("carpenter_kennedy", symbol, state, oscillator, n) - exact).abs().max()) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("name", ["etdrk2", "etdrk4", "lawson4"])
def test_linear_part_is_exact_however_stiff(name: str) -> None:
    symbol = torch.tensor([-1e6, -30.0, 50j, -2.0 + 400j, 0.0], dtype=torch.complex128)
    state = torch.ones(1, 5, dtype=torch.complex128)
    end = run(name, symbol, state, torch.zeros_like, 3)
    torch.testing.assert_close(end[0], symbol.exp(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["etdrk2", "etdrk4"])
def test_exponential_differencing_keeps_a_stiff_balance_at_rest(name: str) -> None:
    symbol = torch.tensor([-1e5, -10.0], dtype=torch.float64)
    source = torch.tensor([3.0, 2.0], dtype=torch.float64)
    rest = (-source / symbol)[None]
    end = run(name, symbol, rest, lambda _: source[None], 5)
    torch.testing.assert_close(end, rest, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["etdrk4", "lawson4"])
def test_without_a_linear_part_they_are_the_classical_runge_kutta_method(name: str) -> None:
    state = torch.ones(1, 1, dtype=torch.float64)
    end = STEPS[name][0](torch.zeros(1, dtype=torch.float64), 0.5)(state, lambda u: -u)
    assert float(end) == pytest.approx(sum((-0.5) ** k / math.factorial(k) for k in range(5)), abs=1e-15)


@pytest.mark.parametrize("name", ["ars222", "ars443"])
def test_implicit_part_is_l_stable(name: str) -> None:
    symbol = torch.tensor([-1e9], dtype=torch.float64)
    end = STEPS[name][0](symbol, 1.0)(torch.ones(1, 1, dtype=torch.float64), torch.zeros_like)
    assert abs(float(end)) < 1e-8


@pytest.mark.parametrize("tableau", [ARS222, ARS443])
def test_implicit_and_explicit_stages_stand_at_the_same_times(tableau: ImexTableau) -> None:
    for implicit, explicit in zip(tableau.implicit, tableau.explicit, strict=True):
        assert sum(implicit) == pytest.approx(sum(explicit), abs=1e-14)
    assert sum(tableau.weights) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("name", list(STEPS))
def test_each_sample_has_its_own_symbol_and_a_blow_up_stays_alone(name: str) -> None:
    symbol = torch.tensor([[-1.0, -2.0], [-3.0, -0.5], [-1.0, -1.0]], dtype=torch.float64)
    state = torch.tensor([[0.7, 0.4], [1e200, 1e200], [0.1, 0.2]], dtype=torch.float64)
    together = run(name, symbol, state, oscillator, 8)
    assert not bool(together[1].isfinite().all())
    for i in (0, 2):
        assert torch.equal(together[i], run(name, symbol[i : i + 1], state[i : i + 1], oscillator, 8)[0])


@pytest.mark.parametrize("name", list(STEPS))
def test_steps_are_differentiable(name: str) -> None:
    state = torch.tensor([[0.7, 0.4]], dtype=torch.float64, requires_grad=True)
    symbol = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, u: run(name, s, u, oscillator, 2), (symbol, state))


def test_single_precision_stays_single() -> None:
    symbol = torch.tensor([-1.0, -40.0], dtype=torch.float32)
    state = torch.tensor([[0.7, 0.4]], dtype=torch.complex64)
    end = run("etdrk4", symbol, state, oscillator, 8)
    assert end.dtype == torch.complex64
    exact = run("etdrk4", symbol.double(), state.to(torch.complex128), oscillator, 8)
    torch.testing.assert_close(end.to(torch.complex128), exact, rtol=1e-5, atol=1e-6)
