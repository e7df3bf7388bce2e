import itertools
import math
from dataclasses import replace

import pytest
import torch

from fieldwright.datasets import FieldDataset, generate
from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.problems import TumorGrowth
from fieldwright.problems.tumor_growth import in_tissue, tissue_operator

SMALL = TumorGrowth(resolution=24, frames=4, duration=40.0)
VOLUME = TumorGrowth(resolution=12, dimension=3, frames=2, duration=20.0, length=32.0, correlation=6.0)
both = pytest.mark.parametrize("problem", [SMALL, VOLUME], ids=["2D", "3D"])


def instance(problem: TumorGrowth, state, *, diffusivity: float, growth: float, white=1.0) -> torch.Tensor:
    """One instance in a box full of tissue."""
    inputs = torch.zeros(1, 6, *problem.grid.shape, dtype=torch.float64)
    inputs[:, 0], inputs[:, 1], inputs[:, 3], inputs[:, 4], inputs[:, 5] = state, white, diffusivity, growth, 10.0
    return inputs


def along(problem: TumorGrowth, axis: int, profile) -> torch.Tensor:
    return profile(problem.grid.coordinates()[axis])


@pytest.mark.parametrize("axis", [0, 1])
def test_wave_of_ablowitz_and_zeppetella_is_met_to_second_order(axis: int) -> None:
    d, rho, start, time = 0.25, 1.0, 16.0, 4.0
    wave = lambda x, t: (1 + torch.exp(math.sqrt(rho / (6 * d)) * (x - start) - 5 / 6 * rho * t)) ** -2  # noqa: E731
    wrong = []
    for n in (64, 128):
        problem = TumorGrowth(resolution=n, length=40.0, duration=time, frames=1)
        inputs = instance(problem, along(problem, axis, lambda x: wave(x, 0.0)), diffusivity=d, growth=rho)
        found = problem.integrate(inputs, frames=1, steps=n)[0, 0, 0]
        wrong.append(float((found - along(problem, axis, lambda x: wave(x, time))).norm() / n))
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("dimension", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_mode_of_a_varying_tissue_decays_at_its_rate_to_second_order(dimension: int, axis: int) -> None:
    # φ = cos πx + b cos 3πx is a mode of ∇·D∇ with D = -λ ∫φ / φ', and has no flux at the walls.
    b, time = 0.05, 30.0
    wrong = []
    for n in (12, 24):
        problem = TumorGrowth(resolution=n, dimension=dimension, length=40.0, duration=time, frames=1, correlation=20.0)
        x = math.pi * problem.grid.coordinates()[axis] / problem.length
        d = (1 + b / 3 * (3 - 4 * x.sin() ** 2)) / (1 + 3 * b * (3 - 4 * x.sin() ** 2))
        mode, largest = x.cos() + b * (3 * x).cos(), 1.4
        inputs = instance(problem, 0.5 + 0.4 * mode, diffusivity=largest, growth=0.0, white=d / largest)
        found = problem.integrate(inputs, frames=1, steps=2)[0, 0, 0]
        exact = 0.5 + 0.4 * math.exp(-((math.pi / problem.length) ** 2) * time) * mode
        wrong.append(float((found - exact).norm() / n ** (dimension / 2)))
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(2.0, abs=0.1)


@both
def test_splitting_converges_to_second_order_in_time(problem: TumorGrowth) -> None:
    inputs = problem.sample(range(2), 0)
    finest = problem.integrate(inputs, frames=2, steps=128)
    wrong = [float((problem.integrate(inputs, frames=2, steps=s) - finest).norm()) for s in (8, 16)]
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(2.0, abs=0.1)


def test_front_advances_with_fishers_speed() -> None:
    d, rho, early, late = 1.0, 1.0, 20.0, 30.0
    problem = TumorGrowth(resolution=280, length=70.0, duration=late, frames=3, diffusivities=(d, d))
    inputs = instance(problem, along(problem, 0, lambda x: (x < 3.0).double()), diffusivity=d, growth=rho)
    line = problem.integrate(inputs, frames=3, steps=100)[0, :, 0, :, 0]
    places = []
    for profile in line[1:]:
        i = int((profile > 0.5).sum()) - 1
        share = float((profile[i] - 0.5) / (profile[i] - profile[i + 1]))
        places.append(float(problem.grid.axis(0)[i]) + share * problem.grid.spacing[0])
    speed = (places[1] - places[0]) / (late - early)
    assert speed == pytest.approx(2 * math.sqrt(d * rho), rel=0.035)
    # Bramson 1983: from a start that ends, the front is at x = 2t - 3/2 ln t + O(1), on the way to that speed.
    assert speed == pytest.approx(2 - 1.5 * math.log(late / early) / (late - early), rel=5e-3)


def test_operator_is_the_published_one_face_by_face_with_its_own_spacing_on_each_axis() -> None:
    generator = torch.Generator().manual_seed(0)
    shape, spacing = (4, 5, 3), (1.0, 0.5, 2.0)
    white, grey, u = (torch.rand(1, *shape, generator=generator, dtype=torch.float64) * 0.5 for _ in range(3))
    white[0, 1, 2], grey[0, 1, 2] = 0.0, 0.05
    numbers = [torch.full_like(u, value) for value in (0.7, 12.0)]
    operator = tissue_operator(white, grey, *numbers, spacing, Boundary.parse("neumann", 3))
    expected = torch.zeros(shape, dtype=torch.float64)
    for cell in itertools.product(*map(range, shape)):
        for axis in range(3):
            for side in (-1, 1):
                other = tuple(c + side * (a == axis) for a, c in enumerate(cell))
                if not all(0 <= c < n for c, n in zip(other, shape, strict=True)):
                    continue
                pair = [(white[0][c], grey[0][c]) for c in (cell, other)]
                if all(float(w + g) >= 0.1 for w, g in pair):
                    d = 0.7 * sum(0.5 * w + 0.5 * g / 12.0 for w, g in pair)
                    expected[cell] += d * (u[0][cell] - u[0][other]) / spacing[axis] ** 2
    torch.testing.assert_close(operator.apply(u)[0], expected, rtol=1e-12, atol=1e-13)
    assert float(expected[1, 2].abs().max()) == 0


@both
def test_without_growth_the_mass_stays_to_round_off(problem: TumorGrowth) -> None:
    inputs = problem.sample(range(3), 1)
    inputs[:, 4] = 0.0
    states, solution = problem.trajectory(inputs, rtol=1e-6)
    assert bool(solution.converged.all())
    assert solution.iterations.tolist() == [2, 2, 2]  # diffusion alone is exact in time
    mass = states.flatten(2).sum(2)
    assert float((mass / mass[:, :1] - 1).abs().max()) < 1e-12
    assert float((states[:, -1] - states[:, 0]).abs().max()) > 0.05


def test_without_diffusion_every_cell_grows_by_itself() -> None:
    inputs = SMALL.sample(range(3), 1)
    inputs[:, 3] = 0.0
    states, _ = SMALL.trajectory(inputs, rtol=1e-6)
    growth = torch.exp(inputs[:, None, 4:5] * SMALL.times.reshape(1, -1, 1, 1, 1))
    start = inputs[:, None, :1]
    torch.testing.assert_close(states, start * growth / (1 + start * (growth - 1)), rtol=1e-11, atol=1e-14)


@both
@pytest.mark.parametrize("steps", [1, 5])
def test_bounds_fluid_and_growth_hold_for_steps_of_any_size(problem: TumorGrowth, steps: int) -> None:
    inputs = problem.sample(range(4), 2)
    states = torch.cat([inputs[:, None, :1], problem.integrate(inputs, frames=problem.frames, steps=steps)], 1)
    assert float(states.min()) >= 0
    assert float(states.max()) <= 1
    outside = ~in_tissue(inputs[:, 1], inputs[:, 2])[:, None].expand_as(states[:, :, 0])
    assert float(states[:, :, 0][outside].abs().max()) == 0
    for name, law in problem.laws(inputs, states, problem.times).items():
        assert float(law.defect().max()) <= (law.tolerance if name == "mass" else 1e-14), name


def test_tumour_does_not_cross_a_sheet_of_fluid() -> None:
    problem = TumorGrowth(resolution=16, frames=1)
    inputs = instance(problem, 0.0, diffusivity=0.5, growth=0.1)
    inputs[:, 1, 8:10] = 0.0
    inputs[:, 0, :3, :3] = 0.9
    states = problem.integrate(inputs, frames=1, steps=50)[0, 0, 0]
    assert float(states[:8].min()) > 1e-6
    assert float(states[8:].abs().max()) == 0


@pytest.mark.parametrize("changed", [{4: 0.0}, {3: 0.0}], ids=["diffusion", "growth"])
def test_residual_of_either_exact_flow_falls_with_the_fourth_power_of_the_interval(changed: dict) -> None:
    sizes = []
    for frames in (32, 64):
        problem = replace(SMALL, resolution=16, frames=frames)
        inputs = problem.sample(range(2), 0)
        for channel, value in changed.items():
            inputs[:, channel] = value
        sizes.append(float(problem.residual(inputs, problem.integrate(inputs, frames=1, steps=1)[:, 0]).norm()))
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(4.0, abs=0.1)


@both
def test_the_forward_solver_and_the_rate_are_the_same_equation(problem: TumorGrowth) -> None:
    inputs = problem.sample(range(2), 0)
    rate = problem.rate(inputs)
    wrong = []
    for duration in (0.02, 0.01):
        short = replace(problem, duration=duration, frames=1)
        slope = (short.integrate(inputs, frames=1, steps=1)[:, 0] - inputs[:, :1]) / duration
        wrong.append(float((slope - rate).norm() / rate.norm()))
    assert wrong[1] < 0.01
    assert wrong[0] / wrong[1] == pytest.approx(2.0, abs=0.1)


def test_rate_and_solver_are_differentiable_in_the_state_and_every_coefficient() -> None:
    problem = TumorGrowth(resolution=8, frames=1, duration=2.0, correlation=16.0)
    inputs = problem.sample([0], 0).requires_grad_()
    assert torch.autograd.gradcheck(problem.rate, (inputs,))

    def last(numbers: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        fields = numbers.reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
        return problem.integrate(torch.cat([state, inputs[:, 1:3].detach(), fields], 1), frames=1, steps=2)[
            0, 0, 0, 2:4
        ]

    numbers = torch.tensor([0.4, 0.08, 12.0], dtype=torch.float64, requires_grad=True)
    state = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(last, (numbers, state.requires_grad_()))


@both
def test_trajectories_commute_with_every_symmetry_of_the_box(problem: TumorGrowth) -> None:
    symmetries = problem.symmetries()
    assert len(symmetries) == {2: 8, 3: 48}[problem.dimension]
    inputs = problem.sample([0], 3)
    states = problem.integrate(inputs, frames=1, steps=3)
    for symmetry in symmetries[:: 1 if problem.dimension == 2 else 5]:
        moved = problem.integrate(symmetry(inputs), frames=1, steps=3)
        torch.testing.assert_close(moved, symmetry(states), rtol=0, atol=1e-13)


@both
def test_bits_of_a_sample_do_not_depend_on_its_batch_nor_on_a_neighbour_that_fails(problem: TumorGrowth) -> None:
    inputs = problem.sample(range(4), 2)
    states = problem.integrate(inputs, frames=1, steps=3)
    alone = problem.sample([2], 2)
    assert torch.equal(alone[0], inputs[2])
    assert torch.equal(problem.integrate(alone, frames=1, steps=3)[0], states[2])
    inputs[1, 3] = torch.nan
    broken = problem.integrate(inputs, frames=1, steps=3)
    assert bool(broken[1].isnan().all())
    assert torch.equal(broken[[0, 2, 3]], states[[0, 2, 3]])


def test_trajectories_are_within_the_tolerance_and_frames_compose() -> None:
    inputs = SMALL.sample(range(4), 5)
    states, solution = SMALL.trajectory(inputs)
    assert bool(solution.converged.all())
    assert float(solution.residual.max()) <= 1e-5
    fine = SMALL.integrate(inputs, frames=4, steps=256)
    change = (states[:, 1:] - fine).flatten(2).norm(dim=2) / fine.flatten(2).norm(dim=2)
    assert float(change.max()) < 1e-5
    state = inputs
    for frame in range(1, 5):
        outputs, _ = SMALL.solve(state, method="8 steps")
        state = SMALL.later(state, outputs, SMALL.interval)
        assert torch.equal(outputs, SMALL.integrate(inputs, frames=4, steps=8)[:, frame - 1])


def test_laws_see_tumour_that_appears_vanishes_or_lies_where_it_cannot() -> None:
    inputs = SMALL.sample([0], 0)
    outputs, _ = SMALL.solve(inputs)
    assert max(float(defect) for name, defect in SMALL.balance(inputs, outputs).items() if name != "mass") < 1e-12
    assert float(SMALL.balance(inputs, outputs)["mass"]) < 1e-3
    fluid = ~in_tissue(inputs[:, 1:2], inputs[:, 2:3])
    size = float(outputs.sum())
    spilt = outputs + fluid * 0.01
    assert float(SMALL.balance(inputs, spilt)["fluid"]) == pytest.approx(0.01 * float(fluid.sum()) / size, rel=0.1)
    assert float(SMALL.balance(inputs, 0.9 * outputs)["mass"]) == pytest.approx(0.1, rel=0.25)
    assert float(SMALL.balance(inputs, 0.5 * inputs[:, :1])["healthy"]) == pytest.approx(0.5, rel=0.01)
    above = float(SMALL.balance(inputs, outputs + 1.0)["bounds"])
    assert above == pytest.approx(size / float((outputs + 1.0).sum()))
    assert SMALL.laws(inputs, torch.stack([inputs[:, :1], outputs], 1), SMALL.times[:2])["mass"].tolerance == 0.05
    sparse = replace(SMALL, frames=1)
    assert sparse.laws(inputs, torch.stack([inputs[:, :1], outputs], 1), sparse.times)["mass"].tolerance == math.inf


@both
def test_samples_are_as_documented_on_every_grid(problem: TumorGrowth) -> None:
    fine = problem.at(2 * problem.resolution)
    coarse_inputs, fine_inputs = problem.sample(range(6), 0), fine.sample(range(6), 0)
    assert torch.equal(coarse_inputs[:, 3:].flatten(2)[..., 0], fine_inputs[:, 3:].flatten(2)[..., 0])
    for channel, (low, high) in zip(
        (3, 4, 5), (problem.diffusivities, problem.growth_rates, problem.ratios), strict=True
    ):
        assert low <= float(fine_inputs[:, channel].min()) <= float(fine_inputs[:, channel].max()) <= high
    assert float(fine_inputs[:, 0].flatten(1).amax(1).min()) > 0.8
    masses = [
        x[:, 0].flatten(1).sum(1) * math.prod(p.grid.spacing)
        for p, x in ((problem, coarse_inputs), (fine, fine_inputs))
    ]
    torch.testing.assert_close(*masses, rtol=0.05, atol=0)
    three = replace(problem, foci=3).sample(range(6), 0)
    assert bool((three[:, 0] >= coarse_inputs[:, 0]).all())
    assert float((three[:, 0] - coarse_inputs[:, 0]).flatten(1).amax(1).min()) > 0.01


def test_shifts_leave_the_training_distribution_and_keep_the_grid() -> None:
    shifts = SMALL.shifts()
    assert list(shifts)[1:] == ["three foci instead of one", "tissue twice as coarse"]
    for problem in shifts.values():
        assert problem.grid == SMALL.grid
        assert not torch.equal(problem.sample([0], 0), SMALL.sample([0], 0))
    assert float(next(iter(shifts.values())).sample(range(20), 0)[:, 4].min()) >= SMALL.growth_rates[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dimension": 1}, "dimension 1; allowed are 2 and 3"),
        ({"resolution": 4}, "resolution 4"),
        ({"length": -1.0}, "length = -1.0"),
        ({"focus": 0.0}, "focus = 0.0"),
        ({"foci": 0}, "foci = 0"),
        ({"ratios": (0.0, 1.0)}, "ratios"),
        ({"diffusivities": (-0.1, 1.0)}, "diffusivities = .*none can be negative"),
        ({"growth_rates": (0.2, 0.1)}, "growth_rates"),
        ({"duration": math.inf}, "duration"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TumorGrowth(**settings)


@pytest.mark.parametrize(
    ("channel", "value", "words"),
    [
        (1, 1.2, r"white_matter of sample 1 is .* to 1.2; shares from 0 to 1"),
        (2, -0.1, r"grey_matter of sample 1"),
        (3, -0.1, r"diffusivity of sample 1 is -0.1 to -0.1; numbers from 0"),
        (5, 0.0, r"ratio of sample 1 is 0 to 0; positive numbers"),
        (4, math.nan, r"sample 1 holds a NaN"),
    ],
)
def test_impossible_inputs_are_refused_by_sample_and_field(channel: int, value: float, words: str) -> None:
    inputs = SMALL.sample([0, 1], 0)
    inputs[1, channel] = value
    with pytest.raises(InputError, match=words):
        SMALL.solve(inputs)


def test_generated_data_are_the_problems_trajectories(tmp_path) -> None:
    summary = generate(SMALL, tmp_path, counts={"train": 3}, seed=0, rtol=1e-4)
    states, _ = SMALL.trajectory(SMALL.sample(range(3), 0), rtol=1e-4, method=summary.solver)
    dataset = FieldDataset(tmp_path, "train")
    inputs, outputs = dataset.batch(range(len(dataset)))
    assert dataset.input_names == [f.name for f in SMALL.inputs]
    torch.testing.assert_close(outputs, states[:, 1:].flatten(0, 1).float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(inputs[::4], SMALL.sample(range(3), 0).float(), rtol=1e-6, atol=1e-7)
