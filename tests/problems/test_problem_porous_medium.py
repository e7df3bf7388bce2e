import math
from dataclasses import replace

import pytest
import torch

from fieldwright.datasets import FieldDataset, generate
from fieldwright.errors import InputError
from fieldwright.problems import PorousMedium

DRIVEN = [
    PorousMedium(resolution=24, frames=3, duration=0.6),
    PorousMedium(resolution=24, medium="stefan", frames=3, duration=0.1),
]
CLOSED = [
    PorousMedium(resolution=32, start="spreading", frames=3),
    PorousMedium(resolution=32, start="random", frames=3, duration=0.3),
    PorousMedium(resolution=32, medium="stefan", start="random", frames=3, duration=0.03),
    PorousMedium(resolution=16, medium="heat", frames=3, duration=0.3),
    PorousMedium(resolution=8, medium="heat", start="random", dimension=2, frames=2, duration=0.3),
    PorousMedium(resolution=8, start="spreading", dimension=2, frames=2),
    PorousMedium(resolution=8, medium="stefan", start="random", dimension=2, frames=2, duration=0.03),
]
ALL = DRIVEN + CLOSED
names = [f"{p.medium}-{p.start}-{p.dimension}D" for p in ALL]
every = pytest.mark.parametrize("problem", ALL, ids=names)
closed = pytest.mark.parametrize("problem", CLOSED, ids=names[2:])
driven = pytest.mark.parametrize("problem", DRIVEN, ids=names[:2])


def of_degree(problem: PorousMedium, degree: float) -> PorousMedium:
    return replace(problem, numbers=(degree, degree))


def errors(problem: PorousMedium, samples: int, steps: int) -> tuple[float, float]:
    """Mean L1 and L2 errors of the last frame over some samples."""
    inputs = problem.sample(range(samples), 0)
    found = problem.integrate(inputs, frames=problem.frames, steps=steps)[:, -1]
    wrong = (found - problem.exact(inputs, problem.times)[:, -1]).flatten(1)
    return float(wrong.abs().mean()), float(wrong.square().mean(1).sqrt().mean())


def orders(make, sizes: tuple[int, int], *, samples: int, steps) -> list[float]:
    coarse, fine = (errors(make(n), samples, steps(n)) for n in sizes)
    return [math.log(c / f) / math.log(sizes[1] / sizes[0]) for c, f in zip(coarse, fine, strict=True)]


@pytest.mark.parametrize("degree", [2.0, 3.0, 6.0])
def test_driven_front_converges_as_fast_as_its_steepness_allows(degree: float) -> None:
    # u rises like (distance from the front)^(1/m): a front misplaced by a share of a cell costs h^(1 + 1/m) in L1.
    make = lambda n: of_degree(PorousMedium(resolution=n, duration=0.5, frames=1), degree)  # noqa: E731
    l1, l2 = orders(make, (64, 128), samples=1, steps=lambda n: 2 * n)
    assert l1 == pytest.approx(1 + 1 / degree, abs=0.1)
    assert l2 == pytest.approx(0.5 + 1 / degree, abs=0.1)


def test_melting_front_converges_at_least_as_fast_as_theory_says() -> None:
    make = lambda n: PorousMedium(resolution=n, medium="stefan", duration=0.05, frames=1)  # noqa: E731
    l1, l2 = orders(make, (32, 128), samples=32, steps=lambda n: n)
    assert l1 > 0.9  # the enthalpy method's bound, order 1 in L1, hides how well the mass is kept
    assert l2 > 0.4


def test_spreading_drop_converges_as_fast_as_its_steepness_allows() -> None:
    make = lambda n: of_degree(PorousMedium(resolution=n, start="spreading", frames=1), 2.0)  # noqa: E731
    l1, l2 = orders(make, (64, 128), samples=64, steps=lambda n: n)
    assert l1 == pytest.approx(1.5, abs=0.1)
    assert l2 == pytest.approx(1.0, abs=0.1)


def test_behind_the_front_of_a_drop_in_two_dimensions_the_order_is_two() -> None:
    wrong = []
    for n in (16, 32):
        problem = PorousMedium(
            resolution=n,
            start="spreading",
            dimension=2,
            frames=1,
            numbers=(2.0, 2.0),
            radii=(0.4, 0.4),
            ages=(0.1, 0.1),
        )
        inputs = problem.sample([0], 0)
        difference = problem.integrate(inputs, frames=1, steps=n) - problem.exact(inputs, problem.times)[:, 1:]
        inside = (problem.grid.coordinates() - 0.5).norm(dim=0) < 0.2
        wrong.append(float(difference[0, 0, 0][inside].abs().mean()))
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("dimension", [1, 2])
def test_heat_converges_to_second_order_in_space(dimension: int) -> None:
    make = lambda n: PorousMedium(medium="heat", resolution=n, dimension=dimension, duration=0.05, frames=1)  # noqa: E731
    _, l2 = orders(make, (8, 16), samples=2, steps=lambda n: 48)
    assert l2 == pytest.approx(2.0, abs=0.1)


def heat_flow(problem: PorousMedium, inputs: torch.Tensor, time: float) -> torch.Tensor:
    """The exact states of the semi-discrete equation, by the matrix exponential of its rate."""
    units = torch.eye(problem.grid.points, dtype=torch.float64).reshape(-1, *problem.grid.shape)
    states = []
    for one in inputs:
        rates = problem.rate(torch.stack([units, one[1].expand_as(units)], 1))
        states.append((torch.linalg.matrix_exp(time * rates.flatten(1).T) @ one[0].flatten()).reshape_as(one[:1]))
    return torch.stack(states)


@pytest.mark.parametrize(("scheme", "order"), [("bdf2", 2.0), ("euler", 1.0)])
def test_schemes_converge_with_their_order_in_time(scheme, order: float) -> None:
    problem = PorousMedium(medium="heat", resolution=16, duration=0.2, frames=1, start="random", scheme=scheme)
    inputs = problem.sample(range(3), 0)
    finest = heat_flow(problem, inputs, 0.2)
    wrong = [float((problem.integrate(inputs, frames=1, steps=s)[:, 0] - finest).norm()) for s in (16, 32)]
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(order, abs=0.1)


@every
def test_mass_changes_by_the_schemes_own_supply_to_round_off(problem: PorousMedium) -> None:
    inputs = problem.sample(range(4), 1)
    states, supply = problem.integrate_with_supply(inputs, frames=problem.frames, steps=8)
    cell = math.prod(problem.grid.spacing)
    gained = cell * (states[:, :, 0].flatten(2).sum(2) - inputs[:, None, 0].flatten(2).sum(2))
    torch.testing.assert_close(gained, supply, rtol=0, atol=1e-13)
    assert bool((supply == 0).all()) != problem.driven
    if problem.medium != "heat":
        assert float(states.min()) >= 0


@driven
def test_supply_of_driven_walls_converges_to_the_exact_mass(problem: PorousMedium) -> None:
    wrong = []
    for n in (24, 48):
        finer = problem.at(n)
        inputs = finer.sample(range(8), 0)
        _, supply = finer.integrate_with_supply(inputs, frames=3, steps=2 * n)
        wrong.append(float((supply - finer.mass(inputs, finer.times)[:, 1:]).abs().max()))
    assert wrong[0] < 2e-3
    assert wrong[1] < wrong[0] / 2


@pytest.mark.parametrize("problem", [*DRIVEN, CLOSED[0]], ids=[*names[:2], names[2]])
def test_front_is_within_a_cell_of_its_place(problem: PorousMedium) -> None:
    fine = replace(problem, resolution=88)
    inputs = fine.sample(range(16), 0)
    states = fine.integrate(inputs, frames=3, steps=64)[:, :, 0]
    middle = 0.5 if fine.start == "spreading" else 0.0
    places = (fine.grid.axis(0) - middle).abs() + fine.grid.spacing[0] / 2
    # Where something is: half a threshold of what melts, and of gas all but a trace.
    least = inputs[:, 1, :1, None].mT / 2 if fine.medium == "stefan" else 1e-3
    reached = torch.where(states > least, places, 0.0).amax(2)
    assert float((reached - fine.front(inputs, fine.times)[:, 1:]).abs().max()) <= 1.5 * fine.grid.spacing[0]


def test_an_empty_cell_is_filled_by_the_potentials_slope_where_a_harmonic_mean_would_stall() -> None:
    problem = of_degree(PorousMedium(resolution=8, start="random"), 2.0)
    inputs = problem.sample([0], 0)
    inputs[:, 0] = torch.tensor([0.6] * 4 + [0.0] * 4, dtype=torch.float64)
    rate = problem.rate(inputs)[0, 0] * problem.grid.spacing[0] ** 2
    expected = torch.tensor([0, 0, 0, -0.072, 0.072, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(rate, expected, rtol=1e-12, atol=1e-12)
    left, right = 0.6**2, 0.0
    assert 2 * left * right / (left + right) == 0


@pytest.mark.parametrize("dimension", [1, 2])
def test_residual_of_the_exact_flow_falls_with_the_fourth_power_of_the_interval(dimension: int) -> None:
    sizes = []
    for frames in (16, 32):
        problem = PorousMedium(
            resolution=6, medium="heat", start="random", dimension=dimension, duration=0.2, frames=frames
        )
        inputs = problem.sample(range(2), 0)
        sizes.append(float(problem.residual(inputs, heat_flow(problem, inputs, problem.interval)).norm()))
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(4.0, abs=0.1)


def test_residual_of_a_front_is_small_beside_that_of_a_front_out_of_place() -> None:
    problem = of_degree(PorousMedium(resolution=64, start="spreading", frames=20), 2.0)
    inputs = problem.sample(range(4), 0)
    outputs = problem.integrate(inputs, frames=1, steps=64)[:, 0]
    size = problem.residual(inputs, outputs).flatten(1).norm(dim=1)
    assert bool((problem.residual(inputs, outputs.roll(2, 2)).flatten(1).norm(dim=1) > 5 * size).all())


@pytest.mark.parametrize("problem", [replace(p, resolution=4) for p in ALL], ids=names)
def test_rate_is_differentiable_in_the_state_and_every_number(problem: PorousMedium) -> None:
    inputs = problem.sample([0], 0)
    # Off the kinks: no cell empty, none at the threshold.
    inputs[:, 0] = inputs[:, 0].abs() + 0.3 + 0.01 * torch.arange(inputs[:, 0].numel()).reshape(inputs[:, 0].shape)
    if problem.driven:
        inputs[:, 2] = 0.2
    assert torch.autograd.gradcheck(problem.rate, (inputs.requires_grad_(),))


@closed
def test_trajectories_commute_with_every_symmetry_of_the_box(problem: PorousMedium) -> None:
    symmetries = problem.symmetries()
    assert len(symmetries) == {"heat-1": 1, "heat-2": 2}.get(
        f"{problem.medium}-{problem.dimension}", 2 * problem.dimension**2
    )
    inputs = problem.sample([3], 0)
    states = problem.integrate(inputs, frames=1, steps=6)
    for symmetry in symmetries:
        moved = problem.integrate(symmetry(inputs), frames=1, steps=6)
        torch.testing.assert_close(moved, symmetry(states), rtol=0, atol=1e-8)


@driven
def test_driven_fronts_have_no_symmetry(problem: PorousMedium) -> None:
    assert len(problem.symmetries()) == 1


@every
def test_bits_of_a_sample_do_not_depend_on_its_batch_nor_on_a_neighbour_that_fails(problem: PorousMedium) -> None:
    inputs = problem.sample(range(5), 2)
    states = problem.integrate(inputs, frames=1, steps=4)
    alone = problem.sample([3], 2)
    assert torch.equal(alone[0], inputs[3])
    assert torch.equal(problem.integrate(alone, frames=1, steps=4)[0], states[3])
    inputs[1, 0] = torch.nan
    broken = problem.integrate(inputs, frames=1, steps=4)
    assert bool(broken[1].isnan().all())
    rest = [0, 2, 3, 4]
    assert torch.equal(broken[rest], states[rest])


@every
def test_trajectories_within_the_tolerance_keep_every_law(problem: PorousMedium) -> None:
    inputs = problem.sample(range(3), 4)
    states, solution = problem.trajectory(inputs, rtol=3e-2)
    assert bool(solution.converged.all())
    assert float(solution.residual.max()) <= 3e-2
    for law in problem.laws(inputs, states, problem.times).values():
        assert float(law.defect().max()) <= law.tolerance
    wrong = problem.laws(
        inputs, states + torch.arange(len(problem.times)).reshape(-1, *[1] * (states.ndim - 2)), problem.times
    )
    assert float(wrong["mass"].defect()[:, -1].min()) > wrong["mass"].tolerance
    if problem.medium != "heat":
        assert float(problem.laws(inputs, -states, problem.times)["positivity"].defect()[:, -1].min()) >= 0


def test_what_lies_below_zero_is_told_as_a_share_of_the_mass() -> None:
    problem = CLOSED[1]
    inputs = problem.sample([0], 0)
    outputs = problem.solve(inputs, method="8 steps")[0]
    assert float(problem.balance(inputs, outputs)["positivity"]) == 0
    outputs[0, 0, 5] = -0.1 * outputs.sum()
    assert float(problem.balance(inputs, outputs)["positivity"]) == pytest.approx(0.1, rel=0.1)


@driven
def test_frames_compose_and_the_clock_moves_with_them(problem: PorousMedium) -> None:
    inputs = problem.sample([0, 1], 0)
    states, _ = problem.trajectory(inputs, method="16 steps")
    state = inputs
    for frame in range(1, 4):
        outputs, _ = problem.solve(state, method="16 steps")
        torch.testing.assert_close(outputs, states[:, frame], rtol=1e-9, atol=1e-12)
        state = problem.later(state, outputs, problem.interval)
        torch.testing.assert_close(
            problem.exact(state, problem.times[:1])[:, 0], problem.exact(inputs, problem.times)[:, frame]
        )
    assert state[0, problem.inputs.index(problem.coefficients[-1]), 0] == pytest.approx(problem.duration)


def test_samples_lie_in_the_stated_ranges_and_begin_as_stated() -> None:
    for problem, (low, high) in zip(ALL[:3], ((1, 6), (0.55, 0.7), (1, 6)), strict=True):
        numbers = problem.sample(range(200), 0)[:, 1].flatten(1)
        assert bool((numbers == numbers[:, :1]).all())
        assert low <= float(numbers.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(numbers.max()) <= high
        assert float(numbers.mean()) == pytest.approx((low + high) / 2, rel=0.1)
    assert float(DRIVEN[0].sample([0], 0)[:, 0].abs().max()) == 0
    drops = replace(CLOSED[0], resolution=256)
    inputs = drops.sample(range(50), 0)
    radii = drops.front(inputs, drops.times)[:, -1]
    assert 0.3 <= float(radii.min()) <= float(radii.max()) <= 0.45
    ages = inputs[:, 2, 0]
    assert 0.05 <= float(ages.min()) <= float(ages.max()) <= 0.2
    random = replace(CLOSED[1], resolution=64).sample(range(300), 0)[:, 0]
    assert float((random > 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(2 * random.square().mean()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("problem", [CLOSED[0], CLOSED[5]], ids=["1D", "2D"])
def test_coarse_cells_hold_the_means_of_the_fine_ones(problem: PorousMedium) -> None:
    coarse, fine = problem.sample(range(3), 0), problem.at(2 * problem.resolution).sample(range(3), 0)
    means = fine.reshape(*fine.shape[:2], *[s for n in coarse.shape[2:] for s in (n, 2)])
    means = means.mean(tuple(range(3, means.ndim, 2)))
    torch.testing.assert_close(means, coarse, rtol=0, atol=1e-12 if problem.dimension == 1 else 5e-4)


def test_numbers_do_not_depend_on_the_grid() -> None:
    for problem in ALL:
        numbers = [p.sample(range(4), 0)[:, 1:].flatten(2)[..., 0] for p in (problem, problem.at(20))]
        assert torch.equal(*numbers)


@every
def test_shifts_draw_numbers_from_outside_the_range(problem: PorousMedium) -> None:
    low, high = problem.number_range
    shifted = next(iter(problem.shifts().values()))
    assert isinstance(shifted, PorousMedium)
    numbers = shifted.sample(range(20), 0)[:, 1]
    assert bool(((numbers <= low) | (numbers >= high)).all())
    assert ("correlation length halved" in problem.shifts()) == (problem.start == "random")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"medium": "stefen"}, "medium 'stefen'; allowed are heat, power, stefan"),
        ({"start": "front"}, "start 'front'; allowed are analytic, spreading, random"),
        ({"scheme": "bdf3"}, "scheme 'bdf3'; allowed are bdf2, euler"),
        ({"dimension": 3}, "dimension 3; allowed are 1 and 2"),
        ({"dimension": 2}, "in 2D choose start spreading or random"),
        ({"medium": "heat", "start": "spreading"}, "'spreading' is for medium 'power', not 'heat'"),
        ({"resolution": 3}, "resolution 3"),
        ({"duration": 2.0}, "duration = 2; the front of 'power' leaves the box at 1"),
        ({"medium": "stefan"}, "duration = 1; the front of 'stefan' leaves the box at 0.7"),
        ({"medium": "stefan", "numbers": (0.5, 1.5), "duration": 0.1}, "thresholds lie in 0.01 to 0.99"),
        ({"numbers": (2.0, 1.0)}, "two positive numbers, the lower first"),
        ({"start": "spreading", "radii": (0.3, 0.7)}, "room for at most 0.5"),
        ({"start": "spreading", "ages": (0.0, 0.7)}, "two positive numbers"),
        ({"start": "random", "tau": -1.0}, "tau = -1.0"),
        ({"frames": 0}, "frames = 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PorousMedium(**settings)


def test_impossible_inputs_are_refused_by_sample_and_field() -> None:
    inputs = DRIVEN[0].sample([0, 1], 0)
    inputs[1, 1] = 0.0
    with pytest.raises(InputError, match="degree of sample 1 is 0; a positive number is needed"):
        DRIVEN[0].solve(inputs)
    inputs[1, 1], inputs[0, 2] = 1.0, -0.5
    with pytest.raises(InputError, match=r"start_time of sample 0 is -0.5; a number from 0"):
        DRIVEN[0].solve(inputs)
    with pytest.raises(InputError, match="has no exact solution"):
        CLOSED[1].exact(CLOSED[1].sample([0], 0), CLOSED[1].times)
    with pytest.raises(InputError, match="front of known place"):
        CLOSED[1].front(CLOSED[1].sample([0], 0), CLOSED[1].times)


@pytest.mark.parametrize("problem", [DRIVEN[0], CLOSED[0]], ids=["driven", "closed"])
def test_generated_data_are_the_problems_trajectories(problem: PorousMedium, tmp_path) -> None:
    summary = generate(problem, tmp_path, counts={"train": 4}, seed=0, rtol=3e-2)
    assert summary.samples == {"train": 4}
    states, _ = problem.trajectory(problem.sample(range(4), 0), rtol=3e-2, method=summary.solver)
    dataset = FieldDataset(tmp_path, "train")
    inputs, outputs = dataset.batch(range(len(dataset)))
    assert dataset.input_names == [f.name for f in problem.inputs]
    torch.testing.assert_close(outputs, states[:, 1:].flatten(0, 1).to(outputs), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(inputs[:, :1], states[:, :-1].flatten(0, 1).to(inputs), rtol=1e-6, atol=1e-7)
