"""The exact solutions against the equation itself, by formulas and quadratures of the test's own."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from fieldwright.grids import Grid
from fieldwright.problems.moving_fronts import (
    drop_mass,
    drop_means,
    drop_radius,
    melting_mass,
    melting_means,
    melting_root,
    wave_mass,
    wave_means,
)

LINE = Grid((64,))


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def at(time: float) -> torch.Tensor:
    return torch.tensor([[time]], dtype=torch.float64)


def wave(m: float):
    return lambda x, t: (m * max(t - x, 0.0)) ** (1 / m)


def drop(m: float, radius: float, age: float, dimension: int):
    beta = 1 / (dimension * m + 2)

    def value(r: float, t: float) -> float:
        reach = radius * (t / age) ** beta
        return (m * beta * max(reach**2 - r**2, 0.0) / (2 * t)) ** (1 / m)

    return value


def slope(function, x: float) -> float:
    return (function(x + 1e-5) - function(x - 1e-5)) / 2e-5


@pytest.mark.parametrize("m", [1.0, 2.5, 6.0])
def test_formulas_solve_the_porous_medium_equation_behind_their_fronts(m: float) -> None:
    waved, dropped = wave(m), drop(m, 0.3, 0.2, 1)
    for function, x, t in ((waved, 0.2, 0.6), (dropped, 0.1, 0.5)):
        flux = lambda y: function(y, t) ** m * slope(lambda z: function(z, t), y)  # noqa: B023, E731
        assert slope(flux, x) == pytest.approx(slope(lambda s: function(x, s), t), rel=1e-4)  # noqa: B023
    radial = drop(m, 0.3, 0.2, 2)
    flux = lambda r: r * radial(r, 0.5) ** m * slope(lambda z: radial(z, 0.5), r)  # noqa: E731
    assert slope(flux, 0.1) / 0.1 == pytest.approx(slope(lambda s: radial(0.1, s), 0.5), rel=1e-4)


@pytest.mark.parametrize("m", [1.0, 2.5, 6.0])
def test_means_of_the_wave_are_its_integrals_over_cells(m: float) -> None:
    means = wave_means(LINE, one(m), at(0.41))[0, 0]
    for cell in (0, 10, 26, 27, 40):
        low, high = cell / 64, (cell + 1) / 64
        integral, _ = scipy.integrate.quad(
            wave(m), low, high, args=(0.41,), points=[0.41] if low < 0.41 < high else None
        )
        assert float(means[cell]) == pytest.approx(64 * integral, rel=1e-6, abs=1e-12)
    assert float(means.mean()) == pytest.approx(float(wave_mass(one(m), at(0.41))), rel=1e-13)
    assert float(wave_mass(one(m), at(0.41))) == pytest.approx(m ** (1 + 1 / m) / (m + 1) * 0.41 ** (1 + 1 / m))
    assert float(wave_means(LINE, one(m), at(0.0)).abs().max()) == 0


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.6, 0.95])
def test_melting_front_moves_by_the_heat_that_arrives(threshold: float) -> None:
    z, t = float(melting_root(one(threshold))), 0.05
    drop_scale = (1 - threshold) / math.erf(z)
    value = lambda x, s: 1 - drop_scale * math.erf(x / (2 * math.sqrt(s)))  # noqa: E731
    front = 2 * z * math.sqrt(t)
    assert value(front, t) == pytest.approx(threshold, abs=1e-12)
    # Rankine-Hugoniot: u* dx/dt = -u_x at the front.
    assert threshold * z / math.sqrt(t) == pytest.approx(-slope(lambda x: value(x, t), front * 0.99999), rel=1e-3)
    means = melting_means(LINE, one(threshold), at(t))[0, 0]
    profile = lambda x: value(x, t) if x <= front else 0.0  # noqa: E731
    for cell in (0, 5, int(64 * front), int(64 * front) + 1):
        low, high = cell / 64, (cell + 1) / 64
        points = [front] if low < front < high else None
        integral, _ = scipy.integrate.quad(profile, low, high, points=points)
        assert float(means[cell]) == pytest.approx(64 * integral, rel=1e-8, abs=1e-12)
    if front < 1:
        assert float(means.mean()) == pytest.approx(float(melting_mass(one(threshold), at(t))), rel=1e-12)


def test_melting_fronts_of_the_published_test_cases() -> None:
    places = 2 * melting_root(torch.tensor([0.6, 0.5], dtype=torch.float64)) * math.sqrt(0.05)
    assert places.tolist() == pytest.approx([0.2351, 0.2773], abs=5e-5)
    assert float(melting_means(LINE, one(0.6), at(0.0)).abs().max()) == 0


@pytest.mark.parametrize("m", [1.0, 2.5, 6.0])
def test_means_of_the_drop_on_a_line_are_its_integrals_over_cells(m: float) -> None:
    mass = drop_mass(1, one(m), one(0.3), one(0.2))
    value = drop(m, 0.3, 0.2, 1)
    reach = float(drop_radius(1, one(m), mass, at(0.7)))
    assert reach == pytest.approx(0.3 * (0.7 / 0.2) ** (1 / (m + 2)), rel=1e-13)
    means = drop_means(LINE, one(m), mass, at(0.7))[0, 0]
    for cell in (0, 20, 32, int(64 * (0.5 + reach))):
        low, high = cell / 64 - 0.5, (cell + 1) / 64 - 0.5
        integral, _ = scipy.integrate.quad(lambda x: value(abs(x), 0.7), low, high, points=[min(max(reach, low), high)])
        assert float(means[cell]) == pytest.approx(64 * integral, rel=1e-5, abs=1e-12)
    assert float(means.mean()) == pytest.approx(float(mass), rel=1e-12)


@pytest.mark.parametrize("m", [1.0, 2.5, 6.0])
def test_means_of_the_drop_in_the_plane_are_its_integrals_over_cells(m: float) -> None:
    grid = Grid((12, 16))
    mass = drop_mass(2, one(m), one(0.35), one(0.2))
    means = drop_means(grid, one(m), mass, at(0.2))[0, 0]
    x, y = ((np.arange(800) + 0.5) / 800 / n for n in grid.shape)
    for cell in ((6, 8), (4, 5), (2, 4), (0, 0)):
        squares = (cell[0] / 12 + x[:, None] - 0.5) ** 2 + (cell[1] / 16 + y - 0.5) ** 2
        inside = (m / (2 * m + 2) * np.clip(0.35**2 - squares, 0, None) / 0.4) ** (1 / m)
        assert float(means[cell]) == pytest.approx(inside.mean(), rel=1e-3, abs=1e-9)
    assert float(means.mean()) == pytest.approx(float(mass), rel=1e-3)
    radial, _ = scipy.integrate.quad(lambda r: 2 * math.pi * r * drop(m, 0.35, 0.2, 2)(r, 0.2), 0, 0.35)
    assert float(mass) == pytest.approx(radial, rel=1e-6)
    torch.testing.assert_close(means, means.flip(0), rtol=1e-12, atol=1e-14)
