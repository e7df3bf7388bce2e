"""What every problem that is solved in its modes has in common: samples, symmetries, orders, residuals, laws."""

import math
from dataclasses import replace

import pytest
import scipy.integrate
import torch

from fieldwright.errors import InputError
from fieldwright.problems.advection import Advection
from fieldwright.problems.allen_cahn import AllenCahn
from fieldwright.problems.burgers import Burgers
from fieldwright.problems.gray_scott import GrayScott
from fieldwright.problems.heat import Heat
from fieldwright.problems.korteweg_de_vries import KortewegDeVries
from fieldwright.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from fieldwright.problems.navier_stokes import NavierStokes
from fieldwright.problems.spectral_problem import SpectralProblem

ROUGH_CAHN = AllenCahn(
    resolution=16, initial_state="gaussian", diffusivity=0.02, reaction=[2.0, 6.0], duration=0.5, frames=4
)
PROBLEMS: dict[str, SpectralProblem] = {
    "heat": Heat(resolution=12, diffusivity=[0.002, 0.02], frames=4),
    "heat 3d": Heat(resolution=8, dimension=3, frames=4),
    "heat walls": Heat(resolution=12, walls=[["dirichlet", "neumann"], "periodic"], frames=4),
    "advection": Advection(resolution=32, speed_x=[-1.0, 2.0], frames=4),
    "advection 2d": Advection(resolution=32, dimension=2, speed_y=0.7, frames=4),
    "advection flow": Advection(
        resolution=24, dimension=2, flow="random", initial_state="gaussian", duration=0.2, frames=4
    ),
    "burgers": Burgers(resolution=48, viscosity=[0.05, 0.2], duration=0.25, frames=4),
    "burgers 2d": Burgers(resolution=24, dimension=2, viscosity=0.05, deviation=0.3, duration=0.25, frames=4),
    "allen-cahn": ROUGH_CAHN,
    "allen-cahn walls": replace(ROUGH_CAHN, walls="neumann"),
    "gray-scott": GrayScott(
        resolution=32, pattern=None, feed=[0.02, 0.03], diffusivity_u=2e-3, diffusivity_v=1e-3, seeds=(2, 4),
        duration=8.0, frames=4,
    ),
    "kuramoto-sivashinsky": KuramotoSivashinsky(resolution=64, length=[20.0, 30.0], duration=4.0, frames=4, highest=3),
    "navier-stokes": NavierStokes(resolution=24, viscosity=[0.005, 0.02], duration=0.5, frames=4),
    "navier-stokes velocity": NavierStokes(
        resolution=24, form="velocity", viscosity=0.01, forcing="diagonal", duration=0.5, frames=4
    ),
    "korteweg-de vries": KortewegDeVries(resolution=64, length=16.0, speeds=(0.5, 1.0), duration=1.0, frames=4),
}  # fmt: skip
NONLINEAR = [name for name in PROBLEMS if "heat" not in name and name not in ("advection", "advection 2d")]


@pytest.fixture(params=list(PROBLEMS))
def problem(request) -> SpectralProblem:
    return PROBLEMS[request.param]


def test_sample_depends_on_its_seed_and_index_alone(problem: SpectralProblem) -> None:
    many = problem.sample([5, 2, 9], 7)
    assert torch.equal(many[1:2], problem.sample([2], 7))
    assert not torch.equal(many[1:2], problem.sample([2], 8))
    assert many.shape == (3, len(problem.inputs), *problem.grid.shape)
    assert problem.sample([], 7).shape == (0, len(problem.inputs), *problem.grid.shape)


def test_finer_grid_refines_the_same_sample(problem: SpectralProblem) -> None:
    if problem.grid.centring != "periodic":
        pytest.skip("cells of a finer grid have other centres; the random fields' own tests compare them")
    fine = problem.at(2 * problem.resolution)
    coarse_sample, fine_sample = problem.sample([3], 1), fine.sample([3], 1)
    if isinstance(problem, GrayScott):
        picked = fine_sample[(..., *[slice(None, None, 2)] * problem.grid.dimension)]
        torch.testing.assert_close(picked, coarse_sample, rtol=0, atol=1e-14)
        return
    # The coarse sample is the fine one without the waves beyond its own band.
    ours, theirs = problem.waves.forward(coarse_sample), fine.waves.forward(fine_sample)
    for axis, (band, n) in enumerate(zip(problem.waves.bands, problem.grid.shape, strict=True)):
        band = min(band, (n - 1) // 2)
        waves = [*range(band + 1), *range(-band, 0)] if axis < problem.grid.dimension - 1 else range(band + 1)
        place = axis + 2
        ours = ours.index_select(place, torch.tensor([k % ours.shape[place] for k in waves]))
        theirs = theirs.index_select(place, torch.tensor([k % theirs.shape[place] for k in waves]))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_drawn_numbers_are_inputs_and_within_their_range(problem: SpectralProblem) -> None:
    inputs = problem.sample(range(20), 0)
    for place, field in enumerate(problem.coefficients, start=len(problem.state)):
        if not field.number:
            continue
        low, high = getattr(problem, field.name)
        values = inputs[:, place].flatten(1)
        assert bool((values == values[:, :1]).all())
        assert low <= float(values.min()) < float(values.max()) <= high


def test_trajectories_commute_with_every_symmetry(problem: SpectralProblem) -> None:
    inputs = problem.sample([0], 0)
    symmetries = problem.symmetries()
    assert torch.equal(symmetries[0](inputs), inputs)
    states = problem.integrate(inputs, frames=1, steps=8)[:, 0]
    for symmetry in symmetries:
        mapped = problem.integrate(symmetry(inputs), frames=1, steps=8)[:, 0]
        torch.testing.assert_close(mapped, symmetry(states), rtol=0, atol=1e-11)


# Halvings of the duration after which an interval is short against the fastest mode and long against round-off.
HALVINGS = {
    "advection flow": 5,
    "navier-stokes": 5,
    "navier-stokes velocity": 5,
    "burgers": 11,
    "kuramoto-sivashinsky": 10,
    "korteweg-de vries": 7,
}


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_residual_of_a_solution_falls_with_the_fourth_power_of_the_interval(name: str) -> None:
    defects = []
    for halvings in (0, 1):
        duration = PROBLEMS[name].duration / 2 ** (HALVINGS.get(name, 9) + halvings)
        problem = replace(PROBLEMS[name], duration=duration, frames=1)
        inputs = problem.sample([1], 0)
        outputs = problem.integrate(inputs, frames=1, steps=16)[:, 0]
        defects.append(float(problem.residual(inputs, outputs).norm()))
    assert math.log2(defects[0] / defects[1]) == pytest.approx(4.0, abs=0.1)


# Steps per frame that are short against the fastest mode.
STEPS = {"burgers": 128, "kuramoto-sivashinsky": 128, "gray-scott": 32}


@pytest.mark.parametrize("name", NONLINEAR)
def test_error_in_time_falls_with_the_fourth_power_of_the_step(name: str) -> None:
    problem = PROBLEMS[name]
    inputs = problem.sample([2], 0)
    steps = max(STEPS.get(name, 16), problem.least_steps(inputs))
    exact = problem.integrate(inputs, frames=1, steps=8 * steps)
    errors = [float((problem.integrate(inputs, frames=1, steps=n) - exact).norm()) for n in (steps, 2 * steps)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    "name", ["burgers", "burgers 2d", "allen-cahn", "gray-scott", "kuramoto-sivashinsky", "navier-stokes velocity"]
)
def test_integration_agrees_with_a_general_solver_of_its_rate(name: str) -> None:
    problem = PROBLEMS[name].at(32)
    inputs = problem.sample([1], 3)
    shape = (1, len(problem.state), *problem.grid.shape)

    def rate(_: float, values) -> torch.Tensor:
        return problem.rate(problem.later(inputs, torch.from_numpy(values).reshape(shape), 0.0)).flatten().numpy()

    found = scipy.integrate.solve_ivp(
        rate, (0, problem.interval), inputs[:, : len(problem.state)].flatten().numpy(), "DOP853", rtol=1e-10, atol=1e-12
    )
    states = problem.integrate(inputs, frames=1, steps=64)[0, 0].flatten()
    torch.testing.assert_close(states, torch.from_numpy(found.y[:, -1]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["heat", "advection flow", "burgers", "burgers 2d", "allen-cahn", "gray-scott",
                                  "kuramoto-sivashinsky", "korteweg-de vries",
                                  "navier-stokes", "navier-stokes velocity"])  # fmt: skip
def test_rate_is_differentiable_in_state_and_coefficients(name: str) -> None:
    small = {
        "allen-cahn": 8,
        "gray-scott": 8,
        "navier-stokes": 8,
        "navier-stokes velocity": 8,
        "kuramoto-sivashinsky": 32,
    }
    problem = PROBLEMS[name].at(small.get(name, 10 if "2d" in name or "flow" in name or name == "heat" else 16))
    inputs = problem.sample([0], 0)
    generator = torch.Generator().manual_seed(0)
    inputs = (inputs + 0.01 * torch.rand(inputs.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(problem.rate, (inputs,), atol=1e-4, rtol=1e-4)


def test_trajectories_are_accurate_lawful_and_alone(problem: SpectralProblem) -> None:
    inputs = problem.sample(range(3), 0)
    states, solution = problem.trajectory(inputs, rtol=1e-4)
    assert solution.failed == []
    alone, _ = problem.trajectory(inputs[1:2], rtol=1e-4, method=f"{int(solution.iterations[1])} steps")
    torch.testing.assert_close(alone[0], states[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NONLINEAR)
def test_what_blows_up_leaves_its_neighbours_alone(name: str) -> None:
    problem = PROBLEMS[name]
    inputs = problem.sample(range(3), 0)
    healthy, _ = problem.trajectory(inputs[[0, 2]], method="64 steps")
    inputs[1, : len(problem.state)] *= torch.nan if name == "advection flow" else 1e150
    states = problem.integrate(inputs, frames=4, steps=64)
    torch.testing.assert_close(states[[0, 2]], healthy[:, 1:], rtol=0, atol=1e-12)
    assert not bool(states[1].isfinite().all())


@pytest.mark.parametrize("name", ["heat", "advection", "burgers", "kuramoto-sivashinsky", "korteweg-de vries"])
def test_mean_stays_to_round_off(name: str) -> None:
    problem = PROBLEMS[name]
    inputs = problem.sample(range(2), 5)
    states, _ = problem.trajectory(inputs, method="64 steps")
    laws = problem.laws(inputs, states, problem.times)
    for field in problem.state:
        assert float(laws[f"mean {field.name}"].defect().max()) < 1e-13


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Heat(resolution=4), "resolution 4"),
        (lambda: Heat(dimension=4), "dimension 4; allowed are 1 and 2 and 3"),
        (lambda: Heat(diffusivity=[0.2, 0.1]), r"diffusivity = \[0.2, 0.1\]"),
        (lambda: Heat(diffusivity=0.0), "diffusivity = 0.0; a positive number"),
        (lambda: Heat(tau=-1.0), "tau = -1.0"),
        (lambda: Advection(flow="random"), "dimension 2"),
        (lambda: Advection(flow="swirl", dimension=2), "flow 'swirl'"),
        (lambda: Advection(resolution=16), "resolution 16; waves of up to 8 periods"),
        (lambda: Burgers(viscosity=-0.1), "viscosity = -0.1"),
        (lambda: Burgers(dimension=3), "dimension 3"),
        (lambda: Burgers(initial_state="shock"), "initial_state 'shock'"),
        (lambda: AllenCahn(resolution=32), "resolution 32; initial sines"),
        (lambda: AllenCahn(walls=["neumann", "periodic"]), "the same condition on all sides"),
        (lambda: GrayScott(pattern="stripes"), "pattern 'stripes'"),
        (lambda: GrayScott(walls="dirichlet"), "allowed are periodic and neumann"),
        (lambda: GrayScott(seeds=(0, 3)), "seeds = "),
        (lambda: KuramotoSivashinsky(resolution=32), "resolution 32 keeps 10 waves; length 64"),
        (lambda: KuramotoSivashinsky(harmonics=0), "harmonics = 0"),
        (lambda: KortewegDeVries(speeds=(2.0, 1.0)), "speeds"),
        (lambda: KortewegDeVries(length=0.0), "length = 0.0"),
        (lambda: KortewegDeVries(frames=0), "frames = 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(make, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
