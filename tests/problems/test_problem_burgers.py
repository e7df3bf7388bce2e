import math

import pytest
import torch

from fieldwright.problems.burgers import Burgers


def cole_hopf(problem: Burgers, time: float) -> torch.Tensor:
    """u = -2ν ∇φ / φ with φ = 1 + ½ e^{-ν|κ|²t} cos(κ·x) + ¼ e^{-ν|λ|²t} sin(λ·x) a solution of the heat equation."""
    nu = problem.viscosity
    x = problem.grid.coordinates()
    waves = [(2 * math.pi, 0.0), (0.0, 4 * math.pi)] if problem.dimension == 2 else [(2 * math.pi,), (4 * math.pi,)]
    angle = [sum(w * x[i] for i, w in enumerate(wave)) for wave in waves]
    size = [
        0.5 * math.exp(-nu * sum(w**2 for w in waves[0]) * time),
        0.25 * math.exp(-nu * sum(w**2 for w in waves[1]) * time),
    ]
    phi = 1 + size[0] * torch.cos(angle[0]) + size[1] * torch.sin(angle[1])
    return torch.stack(
        [
            -2 * nu * (-size[0] * waves[0][i] * torch.sin(angle[0]) + size[1] * waves[1][i] * torch.cos(angle[1])) / phi
            for i in range(problem.dimension)
        ]
    )


@pytest.mark.parametrize("dimension", [1, 2])
def test_solution_is_that_of_cole_and_hopf_to_spectral_accuracy(dimension: int) -> None:
    errors = []
    for n in (24, 48, 96 if dimension == 1 else 72):
        problem = Burgers(resolution=n, dimension=dimension, viscosity=0.03, duration=0.5, frames=2)
        states, solution = problem.trajectory(cole_hopf(problem, 0.0)[None], rtol=1e-9)
        assert bool((solution.residual <= 1e-9).all())
        errors.append(max(float((states[0, f] - cole_hopf(problem, 0.25 * f)).abs().max()) for f in (1, 2)))
    # Spectral: each doubling of the grid squares the error, until time steps set it.
    assert errors[1] < 1e-2 * errors[0]
    assert errors[2] < 1e-9


def test_rate_of_a_sine_is_known() -> None:
    problem = Burgers(resolution=16, viscosity=0.1)
    x = problem.grid.axis(0)
    k = 2 * math.pi
    expected = -0.5 * k * torch.sin(2 * k * x) - 0.1 * k**2 * torch.sin(k * x)
    torch.testing.assert_close(problem.rate(torch.sin(k * x)[None, None])[0, 0], expected, rtol=0, atol=1e-12)


def test_energy_is_lost_to_viscosity_alone() -> None:
    problem = Burgers(resolution=64, viscosity=0.02, deviation=0.5)
    inputs = problem.sample([0], 0)
    slope = problem.waves.backward(problem.waves.derivative(0) * problem.waves.forward(inputs))
    lost = 0.02 * slope.square().sum()
    assert float((inputs * problem.rate(inputs)).sum()) == pytest.approx(-float(lost), rel=1e-12)


def test_initial_states_of_the_operator_papers_have_their_variance() -> None:
    # Σ_k≠0 625 / ((2πk)² + 25)²
    expected = 2 * sum(625 / ((2 * math.pi * k) ** 2 + 25) ** 2 for k in range(1, 43))
    fields = Burgers(resolution=128).sample(range(400), 0)
    assert float(fields.square().mean()) == pytest.approx(expected, rel=0.1)


def test_fronts_that_the_grid_cannot_hold_are_not_converged() -> None:
    steep = Burgers(resolution=64, viscosity=1e-4, deviation=1.0, frames=4)
    inputs = steep.sample([0], 0)
    states, solution = steep.trajectory(inputs, method="256 steps")
    assert solution.failed == [0]
    assert float(steep.laws(inputs, states, steep.times)["resolution"].defect().max()) > 0.1
    smooth = Burgers(resolution=64, viscosity=0.05, deviation=1.0, frames=4)
    assert smooth.trajectory(inputs, method="256 steps")[1].failed == []


def test_components_are_drawn_apart_and_stored_as_one_vector() -> None:
    problem = Burgers(resolution=32, dimension=2, viscosity=[0.01, 0.1], deviation=0.3)
    assert [f.name for f in problem.inputs] == ["velocity_x", "velocity_y", "viscosity"]
    assert {f.vector for f in problem.state} == {"velocity"}
    sample = problem.sample([0], 0)
    assert not torch.equal(sample[:, 0], sample[:, 1])
