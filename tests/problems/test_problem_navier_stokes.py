import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.problems.flow_states import FlowState
from fieldwright.problems.navier_stokes import NavierStokes


def velocity_of(problem: NavierStokes, vorticity: torch.Tensor) -> torch.Tensor:
    return problem.waves.backward(problem.relation.field(problem.waves.forward(vorticity)))


def taylor_green(problem: NavierStokes, time: float, mean: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """ω = cos κ(x - Ut) cos κ(y - Vt) e^{-(ν (2κ²)^p + μ) t}: its eddies turn in place, so the flow does no work."""
    x, y = problem.grid.coordinates()
    wave = 2 * math.pi * 2 / problem.length
    decay = math.exp(-(problem.viscosity * (2 * wave**2) ** problem.viscous_power + problem.drag) * time)
    return decay * torch.cos(wave * (x - mean[0] * time)) * torch.cos(wave * (y - mean[1] * time))


@pytest.mark.parametrize(
    "settings",
    [
        {"viscosity": 0.05},
        {"viscosity": 0.05, "drag": 0.3, "length": 1.0, "duration": 0.2},
        {"viscosity": 1e-3, "viscous_power": 2},
        {"viscosity": 0.05, "viscous_from": 2.0},
    ],
)
def test_taylor_green_eddies_decay_at_their_rate(settings: dict) -> None:
    problem = NavierStokes(resolution=16, frames=2, **settings)
    states, solution = problem.trajectory(taylor_green(problem, 0.0)[None, None], rtol=1e-10)
    assert solution.failed == []
    exact = torch.stack([taylor_green(problem, t) for t in problem.times.tolist()])
    torch.testing.assert_close(states[0, :, 0], exact, rtol=0, atol=1e-13)


def test_waves_below_the_spectral_viscosity_do_not_decay() -> None:
    problem = NavierStokes(resolution=16, viscosity=0.05, viscous_from=3.0)
    start = taylor_green(problem, 0.0)[None, None]
    torch.testing.assert_close(problem.trajectory(start)[0][:, -1], start, rtol=0, atol=1e-14)


def test_a_mean_velocity_carries_the_eddies_along() -> None:
    problem = NavierStokes(resolution=16, form="velocity", viscosity=0.05, frames=2)
    mean = (0.4, -0.7)
    shift = torch.tensor(mean, dtype=torch.float64).reshape(1, 2, 1, 1)
    states, solution = problem.trajectory(velocity_of(problem, taylor_green(problem, 0.0)[None]) + shift, rtol=1e-8)
    assert solution.failed == []
    exact = velocity_of(problem, taylor_green(problem, 1.0, mean)[None]) + shift
    torch.testing.assert_close(states[:, -1], exact, rtol=0, atol=1e-8)


def test_both_forms_are_the_same_flow() -> None:
    by_vorticity = NavierStokes(resolution=32, forcing="kolmogorov", forcing_waves=2, frames=2)
    by_velocity = replace(by_vorticity, form="velocity")
    inputs = by_vorticity.sample([0, 1], 3)
    assert float((by_velocity.sample([0, 1], 3) - velocity_of(by_vorticity, inputs[:, 0])).abs().max()) < 1e-13
    one, _ = by_vorticity.trajectory(inputs, method="32 steps")
    other, _ = by_velocity.trajectory(by_velocity.sample([0, 1], 3), method="32 steps")
    for frame in range(3):
        torch.testing.assert_close(velocity_of(by_vorticity, one[:, frame, 0]), other[:, frame], rtol=0, atol=1e-12)


def test_a_flow_whose_friction_balances_the_force_is_at_rest() -> None:
    problem = NavierStokes(
        resolution=24, viscosity=0.02, drag=0.1, forcing="kolmogorov", forcing_waves=3, forcing_amplitude=0.5
    )
    _, y = problem.grid.coordinates()
    vorticity = -0.5 * 3 * torch.cos(3 * y) / (0.02 * 9 + 0.1)
    assert float(problem.rate(vorticity[None, None]).abs().max()) < 1e-13
    states, _ = problem.trajectory(vorticity[None, None], method="20 steps")
    torch.testing.assert_close(states[0, -1, 0], vorticity, rtol=0, atol=1e-12)


def test_force_of_the_operator_papers_is_the_sum_of_a_sine_and_a_cosine() -> None:
    problem = NavierStokes(resolution=16, length=1.0, forcing="diagonal")
    x, y = problem.grid.coordinates()
    force = problem.rate(torch.zeros(1, 1, 16, 16, dtype=torch.float64))[0, 0]
    phase = 2 * math.pi * (x + y)
    torch.testing.assert_close(force, 0.1 * (phase.sin() + phase.cos()), rtol=0, atol=1e-15)


def test_error_in_space_falls_faster_than_any_power() -> None:
    fine = NavierStokes(resolution=128, viscosity=0.01, frames=1)
    x, y = fine.grid.coordinates()
    start = torch.sin(x) * torch.sin(y) + torch.cos(2 * x + y + 1) + 0.5 * torch.sin(x - 3 * y)
    exact, _ = fine.trajectory(start[None, None], method="64 steps")
    errors = []
    for n in (16, 32, 64):
        problem, every = fine.at(n), 128 // n
        states, _ = problem.trajectory(start[::every, ::every].contiguous()[None, None], method="64 steps")
        errors.append(float((states[0, 1, 0] - exact[0, 1, 0, ::every, ::every]).abs().max()))
    orders = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert orders[0] > 4
    assert orders[1] > 1.5 * orders[0]


def test_energy_and_enstrophy_are_lost_to_friction_alone() -> None:
    problem = NavierStokes(resolution=48, viscosity=2e-3, drag=0.05)
    inputs = problem.sample([0], 1)
    rate = problem.rate(inputs)
    spectrum = problem.waves.forward(inputs)[:, 0]
    enstrophy, palinstrophy = problem._norm(spectrum, 0) ** 2, problem._norm(spectrum, 1) ** 2
    psi = problem.waves.backward(problem.waves.forward(inputs) / problem.waves.squares.clamp_min(1.0))
    energy = problem._norm(spectrum, -1) ** 2
    assert float((inputs * rate).mean()) == pytest.approx(float(-2e-3 * palinstrophy - 0.05 * enstrophy), rel=1e-11)
    assert float((psi * rate).mean()) == pytest.approx(float(-2e-3 * enstrophy - 0.05 * energy), rel=1e-11)


@pytest.mark.parametrize("forcing", ["none", "kolmogorov"])
@pytest.mark.parametrize("form", ["vorticity", "velocity"])
def test_energy_and_enstrophy_keep_below_what_their_balances_allow(form, forcing) -> None:
    problem = NavierStokes(
        resolution=32, form=form, forcing=forcing, forcing_amplitude=1.0, viscosity=[1e-3, 1e-2], duration=2.0, frames=4
    )
    inputs = problem.sample([0, 1, 2], 0)
    states, solution = problem.trajectory(inputs, rtol=1e-4)
    assert solution.failed == []
    # A flow that gains energy out of nothing is found out.
    laws = problem.laws(inputs, states * torch.tensor([1.0, 1.0, 1.5, 3.0, 9.0])[:, None, None, None], problem.times)
    assert all(bool((laws[name].defect()[:, -1] > laws[name].tolerance).all()) for name in ("energy", "enstrophy"))


@pytest.mark.parametrize("name", get_args(FlowState))
def test_every_initial_state_is_a_flow_of_mean_zero_that_runs(name: str) -> None:
    problem = NavierStokes(resolution=32, length=1.0, initial_state=name, duration=0.01, frames=1)
    inputs = problem.sample([4, 7], 0)
    assert float(inputs.mean((2, 3)).abs().max()) < 1e-13 * float(inputs.abs().max())
    assert torch.equal(inputs[1:], problem.sample([7], 0))
    assert problem.trajectory(inputs)[1].failed == []
    field = problem.waves.forward(replace(problem, form="velocity").sample([4], 0))
    divergence = problem.waves.derivative(0) * field[:, 0] + problem.waves.derivative(1) * field[:, 1]
    assert float(divergence.abs().max()) < 1e-12
    torch.testing.assert_close(problem.relation.curl(field), problem.waves.forward(inputs[:1, 0]), rtol=0, atol=1e-10)


def test_mcwilliams_flows_have_their_energy() -> None:
    problem = NavierStokes(resolution=64, form="velocity")
    energy = problem.sample(range(8), 0).square().sum(1).mean((1, 2)) / 2
    torch.testing.assert_close(energy, torch.full_like(energy, 0.25), rtol=1e-3, atol=0)


def test_a_warm_flow_is_the_cold_one_later() -> None:
    cold = NavierStokes(resolution=32, viscosity=[1e-3, 1e-2], duration=0.5, frames=1)
    warm = replace(cold, warm_up=0.5)
    states, _ = cold.trajectory(cold.sample([0, 3], 0), rtol=1e-8)
    found = warm.sample([0, 3], 0)
    torch.testing.assert_close(found[:, :1], states[:, 1], rtol=0, atol=1e-3)
    assert torch.equal(found[1:], warm.sample([3], 0))


def test_symmetries_are_those_that_leave_the_force_alone() -> None:
    assert len(NavierStokes(resolution=16).symmetries()) == 32
    assert len(NavierStokes(resolution=16, forcing="kolmogorov", forcing_waves=2).symmetries()) == 8
    for form in ("vorticity", "velocity"):
        for forcing in ("none", "kolmogorov", "diagonal"):
            problem = NavierStokes(resolution=16, form=form, forcing=forcing, forcing_waves=2)
            inputs = problem.sample([0], 0)
            rate = problem.rate(inputs)
            for symmetry in problem.symmetries():
                torch.testing.assert_close(problem.rate(symmetry(inputs)), symmetry(rate), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"form": "pressure"}, "form 'pressure'; allowed are vorticity, velocity"),
        ({"forcing": "wind"}, "forcing 'wind'"),
        ({"initial_state": "still"}, "initial_state 'still'"),
        ({"viscosity": 0.0}, "viscosity = 0.0"),
        ({"viscous_power": 0}, "viscous_power = 0"),
        ({"drag": -1.0}, "drag = -1.0"),
        ({"length": 0.0}, "length = 0.0"),
        ({"forcing": "kolmogorov", "forcing_waves": 30}, "forcing_waves = 30; resolution 64 holds 1 to 21 waves"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        NavierStokes(**settings)
