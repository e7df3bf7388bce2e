import math

import pytest
import torch

from fieldwright.problems.korteweg_de_vries import KortewegDeVries


@pytest.mark.parametrize(("speed", "dispersion"), [(1.0, 1.0), (1.6, 0.7)])
def test_a_soliton_moves_at_its_speed_and_keeps_its_shape_to_spectral_accuracy(speed: float, dispersion: float) -> None:
    errors = []
    for n in (48, 96, 240):
        problem = KortewegDeVries(resolution=n, length=40.0, dispersion=dispersion, duration=1.0, frames=2)
        start = problem.soliton(speed, 12.0, dispersion)
        states, solution = problem.trajectory(start[None, None], rtol=1e-9)
        moved = [problem.soliton(speed, 12.0 + speed * t, dispersion) for t in problem.times.tolist()]
        errors.append(float((states[0, :, 0] - torch.stack(moved)).abs().max()))
    assert bool(solution.converged.all())
    assert errors[1] < 1e-2 * errors[0]
    assert errors[2] < 1e-8


def test_solitons_pass_through_each_other_as_in_the_exact_solution() -> None:
    problem = KortewegDeVries(resolution=144, length=48.0, duration=6.0, frames=1)

    def exact(time: float) -> torch.Tensor:
        """u = 2 (ln F)_xx, F = 1 + e^a + e^b + ((p - q) / (p + q))² e^(a + b), a = p (x - x₁) - p³ t, b likewise."""
        x = problem.grid.axis(0).requires_grad_()
        p, q = math.sqrt(2.0), math.sqrt(0.8)
        a, b = p * (x - 14.0) - p**3 * time, q * (x - 20.0) - q**3 * time
        logarithm = torch.logsumexp(torch.stack([0 * x, a, b, 2 * math.log((p - q) / (p + q)) + a + b]), 0)
        (slope,) = torch.autograd.grad(logarithm.sum(), x, create_graph=True)
        return 2 * torch.autograd.grad(slope.sum(), x)[0]

    states, _ = problem.trajectory(exact(0.0)[None, None], rtol=1e-7)
    torch.testing.assert_close(states[0, 1, 0], exact(6.0), rtol=0, atol=1e-5)
    # The faster one, behind at first, is ahead at the end.
    assert int(exact(0.0).argmax()) < int(exact(6.0).argmax())


def test_rate_of_a_sine_is_known() -> None:
    problem = KortewegDeVries(resolution=32, length=3.0, dispersion=0.2)
    x, k = problem.grid.axis(0), 2 * math.pi / 3.0
    u = 0.5 * torch.sin(k * x)
    expected = -0.75 * k * torch.sin(2 * k * x) + 0.2 * 0.5 * k**3 * torch.cos(k * x)
    torch.testing.assert_close(problem.rate(u[None, None])[0, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("initial_state", ["solitons", "harmonics"])
def test_mass_momentum_and_energy_stay(initial_state: str) -> None:
    problem = KortewegDeVries(resolution=160, length=24.0, initial_state=initial_state, duration=0.25, frames=2)
    inputs = problem.sample([0, 1], 0)
    states, solution = problem.trajectory(inputs, rtol=1e-8)
    assert solution.failed == []
    laws = problem.laws(inputs, states, problem.times)
    assert float(laws["mean elevation"].defect().max()) < 1e-13
    assert float(laws["momentum"].defect().max()) < 1e-7
    assert float(laws["energy"].defect().max()) < 1e-6


def test_each_instance_has_its_own_dispersion() -> None:
    problem = KortewegDeVries(resolution=96, length=30.0, dispersion=[0.5, 2.0], duration=2.0, frames=1)
    inputs = torch.stack(
        [torch.stack([problem.soliton(1.0, 10.0, d), torch.full((96,), d, dtype=torch.float64)]) for d in (0.6, 1.5)]
    )
    states, _ = problem.trajectory(inputs, rtol=1e-8)
    for row, d in enumerate((0.6, 1.5)):
        torch.testing.assert_close(states[row, 1, 0], problem.soliton(1.0, 12.0, d), rtol=0, atol=1e-5)
