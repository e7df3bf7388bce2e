"""Waves: standing and travelling ones, what walls return, energy, media and first states."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fieldwright.datasets import FieldDataset, generate
from fieldwright.errors import InputError
from fieldwright.problems.wave import Wave

SHARP = {"rtol": 1e-10}


def later(problem: Wave, inputs: torch.Tensor, method: str = "auto") -> torch.Tensor:
    outputs, solution = problem.solve(inputs, method=method, **SHARP)  # type: ignore[arg-type]
    assert bool(solution.converged.all())
    return outputs


def orders(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def standing(problem: Wave, walls: str, time: float) -> torch.Tensor:
    """A standing wave of a box of speed c = 0.8: products of sines (Dirichlet) or cosines, 1 and 2 half-waves."""
    x, y = problem.grid.coordinates()
    kind = torch.sin if walls == "dirichlet" else torch.cos
    scale = 2 * math.pi if walls == "periodic" else math.pi
    shape, omega = kind(scale * x) * kind(2 * scale * y), 0.8 * scale * math.sqrt(5)
    u, v = math.cos(omega * time) * shape, -omega * math.sin(omega * time) * shape
    return torch.stack([u, v, torch.full_like(u, 0.8)])[None]


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("walls", ["dirichlet", "neumann", "periodic"])
def test_standing_waves_converge_in_space(walls: str, order: int) -> None:
    errors = []
    for size in (25, 193):
        size -= walls == "periodic"
        problem = Wave(resolution=size, walls=walls, order=order, duration=0.7, frames=1)
        found = later(problem, standing(problem, walls, 0.0))
        errors.append(float((found - standing(problem, walls, 0.7)[:, :2])[:, 0].abs().max()))
    # Over three doublings: at a wall the error's terms of higher order take turns.
    assert math.log2(errors[0] / errors[1]) / 3 == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("time_order", "steps"), [(2, (160, 320)), (4, (40, 80))])
def test_standing_waves_converge_in_time(time_order: int, steps: tuple) -> None:
    """Against the exact solution of the differences in space: the same mode with the discrete frequency."""
    problem = Wave(resolution=16, walls="periodic", time_order=time_order, duration=0.5, frames=1)
    inputs = standing(problem, "periodic", 0.0)
    best = later(replace(problem, time_order=8), inputs)
    errors = [float((later(problem, inputs, f"{count} steps") - best).norm()) for count in steps]
    assert orders(errors)[0] == pytest.approx(time_order, abs=0.1)


def pulse(problem: Wave, place: float, speed: float, width: float = 0.04) -> torch.Tensor:
    """d'Alembert's pulse in one dimension, u = f(x - c t), that runs up the axis."""
    x = problem.grid.axis(0)
    u = torch.exp(-(((x - place) / width) ** 2) / 2)
    return torch.stack([u, speed * (x - place) / width**2 * u, torch.full_like(x, speed)])[None]


def test_pulse_travels_unchanged_and_returns_from_walls_as_dalembert_says() -> None:
    problem = Wave(resolution=401, dimension=1, walls=[["dirichlet", "neumann"]], duration=0.6, frames=1)
    start = pulse(problem, 0.4, 1.0)
    assert float((later(problem, start) - pulse(problem, 1.0, 1.0)[:, :2] * 2)[0, 0, -1].abs()) < 1e-4
    travelled = later(replace(problem, duration=0.3), start)
    torch.testing.assert_close(travelled[:, 0], pulse(problem, 0.7, 1.0)[:, 0], rtol=0, atol=1e-4)
    # Upright from a wall that is free, upside down from one that is held.
    free = later(replace(problem, duration=1.0), start)[0, 0]
    torch.testing.assert_close(free, pulse(problem, 0.6, 1.0)[0, 0], rtol=0, atol=2e-4)
    both = later(replace(problem, duration=2.0), start)[0, 0]
    torch.testing.assert_close(both, -pulse(problem, 0.4, 1.0)[0, 0], rtol=0, atol=4e-4)


def test_pulse_in_a_medium_of_two_speeds_is_split_as_impedances_say() -> None:
    """At a jump of c the displacement u is split into R = (c₂ - c₁)/(c₁ + c₂) and T = 2 c₂/(c₁ + c₂)."""
    errors = []
    for size in (401, 801):
        problem = Wave(resolution=size, dimension=1, duration=0.5, frames=1)
        x = problem.grid.axis(0)
        start = pulse(problem, 0.3, 0.6, 0.02)
        start[0, 2] = torch.where(x < 0.5, 0.6, 1.0)
        found = later(problem, start)[0, 0]
        back, on = found[x < 0.5].abs().max(), found[x >= 0.5].abs().max()
        errors.append(max(abs(float(back) - 0.25), abs(float(on) - 1.25)))
        assert float(found[x < 0.5].max()) > 0.2  # upright: the second medium is the faster one
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


@pytest.mark.parametrize("order", [2, 4])
def test_absorbing_walls_return_next_to_nothing_at_normal_incidence(order: int) -> None:
    returned = []
    for size in (101, 201):
        problem = Wave(resolution=size, dimension=1, order=order, duration=1.2, frames=1)
        left_over = later(problem, pulse(problem, 0.5, 1.0, 0.05), f"{2 * size} steps")[0, 0]
        returned.append(float((left_over - left_over.mean()).abs().max()))
    assert returned[1] < (1e-3 if order == 2 else 1e-5)
    assert orders(returned)[0] > order - 0.1


@pytest.mark.parametrize("waves", [1, 2])
def test_absorbing_walls_return_the_stated_part_of_a_wave_that_meets_them_at_an_angle(waves: int) -> None:
    """A packet of the duct's mode cos(m π y) e^{i k x} meets the wall at cos θ = k / √(k² + m² π²)."""
    k, across = 12 * math.pi, 4 * waves * math.pi
    frequency = math.hypot(k, across)
    cosine = k / frequency
    problem = Wave(
        resolution=161, walls=[["neumann", "absorbing"], "neumann"], duration=1.0 / cosine, frames=1, speeds=(1.0, 1.0)
    )
    x, y = problem.grid.coordinates()

    def packet(centre: float, shift: float) -> torch.Tensor:
        return torch.exp(-(((x - centre) / 0.08) ** 2) / 2) * torch.cos(k * (x - centre) + shift)

    mode = torch.cos(across * y)
    # Along x the packet runs at the group velocity k/ω, so its envelope moves by that and its phase by ω.
    step = 1e-4
    earlier, after = (packet(0.5 - s * step * cosine, (k * cosine - frequency) * s * step) for s in (1, -1))
    earlier, after = (packet(0.5 + s * step * cosine, (k * cosine - frequency) * s * step) for s in (-1, 1))
    start = torch.stack([packet(0.5, 0.0) * mode, (after - earlier) / (2 * step) * mode, torch.ones_like(x)])[None]
    energy = problem.energy(start[:, :2], start[:, 2])
    steps = problem.least_steps(start)
    back = problem.energy(later(problem, start, f"{steps} steps"), start[:, 2])
    # The packet holds a range of k; each part of its energy, ω² exp(-(k - k₀)² w²), returns as its own angle says.
    range_of_k = torch.linspace(0.2 * k, 1.8 * k, 400, dtype=torch.float64)
    share = (range_of_k**2 + across**2) * torch.exp(-(((range_of_k - k) * 0.08) ** 2))
    cosines = range_of_k / (range_of_k**2 + across**2).sqrt()
    expected = float((share * ((1 - cosines) / (1 + cosines)) ** 2).sum() / share.sum())
    assert math.sqrt(float(back / energy)) == pytest.approx(math.sqrt(expected), rel=0.05)


@pytest.mark.parametrize("time_order", [2, 4, 8])
@pytest.mark.parametrize("walls", ["dirichlet", "neumann", "periodic", ["neumann", "dirichlet"]])
def test_energy_stays_in_a_closed_box_of_any_medium(walls, time_order: int) -> None:
    problem = Wave(resolution=24, walls=walls, time_order=time_order, widths=(0.1, 0.2), duration=4.0, frames=8)
    inputs = problem.sample([0, 1], 1)
    states, solution = problem.trajectory(inputs, rtol=1e-3)
    assert bool(solution.converged.all())
    law = problem.laws(inputs, states, problem.times)["energy"]
    assert law.demand == "constant"
    assert float(law.defect().max()) < 1e-3
    assert float((states[:, 1:, 0] - states[:, :1, 0]).abs().amax((1, 2, 3)).min()) > 0.1


def test_energy_is_that_of_the_integral_and_only_falls_where_walls_absorb() -> None:
    problem = Wave(resolution=97, walls="neumann")
    wave = standing(problem, "neumann", 0.3)
    omega = 0.8 * math.pi * math.sqrt(5)
    exact = 0.5 * 0.25 * (omega / 0.8) ** 2
    assert float(problem.energy(wave[:, :2], wave[:, 2])) == pytest.approx(exact, rel=1e-4)
    problem = Wave(resolution=24, duration=3.0, frames=12, widths=(0.1, 0.2))
    inputs = problem.sample([0, 1], 1)
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    law = problem.laws(inputs, states, problem.times)["energy"]
    assert law.demand == "falling"
    assert bool((law.values.diff(dim=1) < 0).all())
    assert float((law.values[:, -1] / law.values[:, 0]).max()) < 0.05


def test_held_walls_hold_whatever_they_begin_with() -> None:
    problem = Wave(resolution=16, walls=[["dirichlet", "absorbing"], "neumann"], duration=0.5, frames=2)
    inputs = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    states, _ = problem.trajectory(inputs, rtol=1e-2)
    assert torch.equal(states[0, 1:, 0, 0], inputs[0, 0, 0].expand(2, -1))
    assert float(states[0, 1:, 1, 0].abs().max()) == 0.0
    assert float(problem.rate(inputs)[0, :, 0].abs().max()) == 0.0


@pytest.mark.parametrize(
    ("walls", "count"),
    [("absorbing", 8), ("dirichlet", 8), ([["absorbing", "dirichlet"], "neumann"], 2), (["absorbing", "neumann"], 4),
     ("periodic", 32)],
)  # fmt: skip
def test_waves_commute_with_every_symmetry_of_the_box(walls, count: int) -> None:
    problem = Wave(resolution=16, walls=walls, duration=0.3, frames=1, widths=(0.1, 0.2))
    symmetries = problem.symmetries()
    assert len(symmetries) == count
    inputs = problem.sample([2], 0)
    outputs = later(problem, inputs, "12 steps")
    assert torch.equal(symmetries[0](inputs), inputs)
    for symmetry in symmetries:
        moved = later(problem, symmetry(inputs), "12 steps")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-10, atol=1e-11)


def test_residual_is_small_for_the_exact_solution_and_differentiable() -> None:
    """The defect of a frame falls with the fourth power of its length."""
    defects = []
    for duration in (0.1, 0.05):
        problem = Wave(resolution=48, walls="periodic", duration=duration, frames=1)
        wave = later(problem, standing(problem, "periodic", 0.0))
        defects.append(float(problem.residual(standing(problem, "periodic", 0.0), wave).norm()))
    assert math.log2(defects[0] / defects[1]) == pytest.approx(4.0, abs=0.3)
    problem = Wave(resolution=8, dimension=1, frames=10)
    inputs = problem.sample([0], 0)
    outputs = (0.9 * inputs[:, :2]).requires_grad_()
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("medium", ["bumps", "layers", "uniform"])
@pytest.mark.parametrize("walls", ["absorbing", "dirichlet", "periodic"])
def test_samples_depend_on_seed_and_index_alone_and_lie_in_their_ranges(walls: str, medium: str) -> None:
    problem = Wave(resolution=24, medium=medium, walls=walls, speeds=(0.5, 2.0))  # type: ignore[arg-type]
    together = problem.sample([7, 3, 11], 4)
    assert all(torch.equal(problem.sample([i], 4)[0], one) for i, one in zip((7, 3, 11), together, strict=True))
    assert problem.sample([], 4).shape == (0, 3, 24, 24)
    assert not torch.equal(problem.sample([7], 5)[0], together[0])
    assert float(together[:, 1].abs().max()) == 0.0
    assert 0.5 <= float(together[:, 2].min()) <= float(together[:, 2].max()) <= 2.0
    if walls == "dirichlet":
        assert float(together[:, 0, [0, -1]].abs().max()) == 0.0
    for name, other in problem.shifts().items():
        assert other.grid == problem.grid, name
        assert not torch.equal(other.sample([7], 4)[0], together[0]), name


@pytest.mark.parametrize("medium", ["bumps", "layers"])
def test_finer_grids_see_the_same_medium_and_the_same_bumps(medium: str) -> None:
    problem = Wave(resolution=33, medium=medium)  # type: ignore[arg-type]
    coarse, fine = problem.sample([5], 2)[0], problem.at(65).sample([5], 2)[0]
    torch.testing.assert_close(fine[0, ::2, ::2], coarse[0], rtol=1e-13, atol=1e-15)
    if medium == "bumps":
        torch.testing.assert_close(fine[2, ::2, ::2], coarse[2], rtol=1e-13, atol=0)
    else:
        # What a wave is delayed by across all layers.
        slow = [float(torch.trapezoid(field[2, 0] ** -2, dx=1 / (field.shape[-1] - 1))) for field in (coarse, fine)]
        assert slow[1] == pytest.approx(slow[0], rel=2e-3)
        changes = (coarse[2, 0].diff().abs() > 1e-9).sum()
        assert 2 <= int(changes) <= 2 * (max(problem.layers) - 1)
        assert float(coarse[2].diff(dim=0).abs().max()) == 0.0


def test_generated_data_are_the_trajectories(tmp_path: Path) -> None:
    problem = Wave(resolution=16, frames=3, duration=0.3, widths=(0.1, 0.2))
    generate(problem, tmp_path, counts={"train": 3, "valid": 1, "test": 1}, seed=2, rtol=1e-6)
    dataset = FieldDataset(tmp_path, "train")
    assert dataset.input_names == ["displacement", "velocity", "speed"]
    expected = problem.sample([1], 2)
    states, _ = problem.trajectory(expected, rtol=1e-8)
    inputs, outputs = dataset.batch([5])  # the last window of sample 1
    torch.testing.assert_close(outputs[0], states[0, -1].float(), rtol=1e-4, atol=1e-5)
    assert torch.equal(inputs[0, 2], expected[0, 2].float())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dimension": 3}, "dimension 3; allowed are 1 and 2"),
        ({"resolution": 7}, "resolution 7; an integer of at least 8"),
        ({"order": 3}, "order 3; allowed are 2, 4"),
        ({"time_order": 6}, "time_order 6; allowed are 2, 4, 8"),
        ({"medium": "water"}, "medium 'water'"),
        ({"speeds": (0.0, 1.0)}, "speeds = .* two positive numbers"),
        ({"count": (0, 2)}, "count = .* at least 1"),
        ({"layers": (3, 2)}, "layers = "),
        ({"medium_bumps": -1}, "medium_bumps = -1"),
        ({"walls": "open"}, "walls = open; allowed are absorbing"),
        ({"walls": ["periodic", "neumann"]}, "periodic on all axes or on none"),
        ({"walls": [["periodic", "neumann"], "periodic"]}, "periodic at one end only"),
        ({"frames": 0}, "frames = 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Wave(**values)
    assert "\n" not in str(caught.value)


def test_unstable_steps_are_refused_with_the_number_that_is_stable() -> None:
    problem = Wave(resolution=32, steps=1, time_order=2)
    with pytest.raises(InputError, match=r"1 steps of .* are unstable"):
        problem.solve(problem.sample([0], 0))
