import math

import pytest
import scipy.special
import torch

from fieldwright.problems.allen_cahn import AllenCahn


def test_a_uniform_phase_goes_to_the_nearer_minimum_as_the_ordinary_equation_says() -> None:
    problem = AllenCahn(resolution=8, diffusivity=0.1, reaction=3.0, initial_state="gaussian", duration=1.0, frames=4)
    start = torch.tensor([0.3, -0.05, 1.4], dtype=torch.float64).reshape(3, 1, 1, 1)
    states, _ = problem.trajectory(start.expand(3, 1, 8, 8), rtol=1e-9)
    growth = torch.exp(3.0 * problem.times)
    exact = start[:, :, 0, 0] * growth / (1 + start[:, :, 0, 0].square() * (growth.square() - 1)).sqrt()
    torch.testing.assert_close(states[:, :, 0, 0, 0], exact, rtol=1e-8, atol=0)


@pytest.mark.parametrize("walls", ["periodic", "neumann", "dirichlet"])
def test_standing_waves_of_elliptic_functions_stand_still_to_spectral_accuracy(walls: str) -> None:
    # u = m^½ b sn(b y | m), b = (2 / (1 + m))^½, y = x (r / D)^½ / 2^½, is at rest; it must fit the box.
    m, errors = 0.6, []
    b = math.sqrt(2 / (1 + m))
    quarter = float(scipy.special.ellipk(m)) / (b / math.sqrt(2))
    periods = 4 if walls == "periodic" else 2
    diffusivity = 1 / (periods * quarter) ** 2
    for n in (4 * periods, 8 * periods, 16 * periods):
        problem = AllenCahn(
            resolution=n, dimension=1, diffusivity=diffusivity, reaction=1.0, walls=walls, initial_state="gaussian"
        )
        y = problem.grid.axis(0) / math.sqrt(diffusivity) / math.sqrt(2) + (quarter / math.sqrt(2)) * (
            walls == "neumann"
        )
        sn = scipy.special.ellipj((b * y).numpy(), m)[0]
        u = math.sqrt(m) * b * torch.from_numpy(sn)
        errors.append(float(problem.rate(u[None, None]).abs().max()))
    assert errors[2] < 1e-11
    assert errors[1] < 1e-2 * errors[0]


def test_small_waves_grow_at_their_rate() -> None:
    problem = AllenCahn(resolution=16, diffusivity=0.02, reaction=4.0, initial_state="gaussian", duration=0.5, frames=1)
    x, y = problem.grid.coordinates()
    wave = 1e-6 * torch.cos(2 * math.pi * (x + y))
    states, _ = problem.trajectory(wave[None, None], rtol=1e-9)
    rate = 4.0 - 0.02 * 8 * math.pi**2
    torch.testing.assert_close(states[0, 1, 0], wave * math.exp(0.5 * rate), rtol=1e-7, atol=1e-17)


@pytest.mark.parametrize("walls", ["periodic", "neumann"])
def test_rate_is_minus_the_gradient_of_the_free_energy(walls: str) -> None:
    problem = AllenCahn(resolution=12, diffusivity=0.05, reaction=2.0, walls=walls, initial_state="gaussian")
    inputs = problem.sample([0], 0).requires_grad_()
    energy = problem.laws(inputs, inputs[:, None], problem.times[:1])["free energy"].values
    (slope,) = torch.autograd.grad(energy.sum(), inputs)
    torch.testing.assert_close(problem.rate(inputs), -slope * 12**2, rtol=1e-10, atol=1e-11)


def test_free_energy_falls_from_every_frame_to_the_next() -> None:
    problem = AllenCahn(resolution=64, frames=10)
    inputs = problem.sample([0, 1], 0)
    states, solution = problem.trajectory(inputs, rtol=1e-4)
    energy = problem.laws(inputs, states, problem.times)["free energy"].values
    assert solution.failed == []
    assert bool((energy.diff(dim=1) < 0).all())
    assert float(states[:, -1].abs().max()) < 1.05
