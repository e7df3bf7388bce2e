"""Shallow water: dam breaks, lakes at rest, simple waves, islands, and how states are drawn."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from fieldwright.datasets import FieldDataset, generate
from fieldwright.errors import InputError
from fieldwright.problems.hyperbolic_problem import cell_means
from fieldwright.problems.shallow_water import ShallowWater

LINE = {"dimension": 1, "lower": -1.0, "upper": 1.0, "frames": 1}


def later(problem: ShallowWater, inputs: torch.Tensor) -> torch.Tensor:
    outputs, solution = problem.solve(inputs)
    assert bool(solution.converged.all())
    return outputs


def orders(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def broken_dam(left: float, right: float, time: float, cells: int) -> torch.Tensor:
    """Cell means of (h, u) after a dam at x = 0 breaks, g = 1: Ritter's parabola, or Stoker's with a bore before it.

    Behind the bore of speed s: c_m from  u_m = 2 (c_l - c_m)  and the bore's jump conditions
    s (h_m - h_r) = h_m u_m,  s h_m u_m = h_m u_m² + (h_m² - h_r²)/2.
    """
    points = 20
    x = (torch.arange(cells * points, dtype=torch.float64) + 0.5) / (cells * points) * 2 - 1
    ray, c = x / time, math.sqrt(left)
    fan = ((2 * c - ray) / 3).clamp(0, c)
    if right == 0.0:
        h = torch.where(ray < 2 * c, fan**2, 0.0)
        u = torch.where((ray > -c) & (ray < 2 * c), 2 / 3 * (c + ray), 0.0)
    else:

        def defect(h: float) -> float:
            bore = math.sqrt(h / right * 0.5 * (h + right))
            return 2 * (c - math.sqrt(h)) - bore * (1 - right / h)

        middle = brentq(defect, right, left, xtol=1e-15)
        speed, flow = math.sqrt(middle / right * 0.5 * (middle + right)), 2 * (c - math.sqrt(middle))
        inside = ray < flow - math.sqrt(middle)
        h = torch.where(inside, fan**2, torch.where(ray < speed, middle, right))
        u = torch.where(inside, 2 * (c - fan), torch.where(ray < speed, flow, 0.0))
    return cell_means(torch.stack([h, u]), points)[None]


@pytest.mark.parametrize("right", [0.5, 0.1, 0.0])
def test_broken_dams_converge_to_stokers_and_ritters_solutions(right: float) -> None:
    """First order in L1: a bore is smeared over a fixed number of cells, and so is the first step over a dry bed."""
    errors = []
    for cells in (100, 1600):
        problem = ShallowWater(resolution=cells, duration=0.4, dry=1e-8, **LINE)
        inputs = torch.zeros(1, 2, cells, dtype=torch.float64)
        inputs[0, 0] = torch.where(problem.grid.axis(0) < 0, 1.0, right)
        errors.append(float((later(problem, inputs) - broken_dam(1.0, right, 0.4, cells))[:, 0].abs().mean()))
    assert math.log2(errors[0] / errors[1]) / 4 == pytest.approx(1.0, abs=0.1)
    assert errors[1] < 4e-4


def simple_wave(problem: ShallowWater, time: float) -> torch.Tensor:
    """A wave that runs to the right, u = 2 (c - 1), c = √h, each c with its speed 3 c - 2: exact until it breaks."""
    points = 8
    fine = problem.grid.resized((points * problem.resolution,))
    origins = fine.axis(0).clone()

    def profile(x: torch.Tensor) -> torch.Tensor:
        return 1 + 0.1 * torch.sin(math.pi * x)

    for _ in range(50):  # Newton's method for where the wave at x came from
        defect = origins + (3 * profile(origins) - 2) * time - fine.axis(0)
        origins = origins - defect / (1 + 0.3 * math.pi * torch.cos(math.pi * origins) * time)
    c = profile(origins)
    means = cell_means(torch.stack([c**2, 2 * (c - 1) * c**2]), points)
    return torch.stack([means[0], means[1] / means[0]])[None]


@pytest.mark.parametrize(("stepping", "sizes"), [("hancock", (64, 128, 256)), ("ssp2", (32, 64))])
def test_simple_wave_is_carried_to_second_order(stepping: str, sizes: tuple) -> None:
    errors = []
    for size in sizes:
        problem = ShallowWater(
            resolution=size, duration=0.3, walls="periodic", limiter="central", stepping=stepping, **LINE
        )  # type: ignore[arg-type]
        errors.append(float((later(problem, simple_wave(problem, 0.0)) - simple_wave(problem, 0.3)).abs().mean()))
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.1)


def test_rate_over_an_uneven_bottom_is_that_of_the_equations() -> None:
    """h_t = -(hu)_x, u_t = -u u_x - g (h + z)_x of sines, to second order."""
    errors = []
    for size in (128, 256):
        problem = ShallowWater(
            resolution=size, bottom="bumps", walls="periodic", limiter="central", gravity=9.81, **LINE
        )
        x = math.pi * problem.grid.axis(0)
        h, u, z = 2 + 0.3 * x.sin(), 0.5 * x.cos(), 0.2 * (2 * x).sin()
        hx, ux, zx = (math.pi * s for s in (0.3 * x.cos(), -0.5 * x.sin(), 0.4 * (2 * x).cos()))
        exact = torch.stack([-(h * ux + u * hx), -u * ux - 9.81 * (hx + zx)])
        errors.append(float((problem.rate(torch.stack([h, u, z])[None])[0] - exact).abs().max()))
    assert orders(errors)[0] == pytest.approx(2.0, abs=0.1)


def test_steady_flow_over_a_hill_is_kept_to_second_order_at_least() -> None:
    """Subcritical: h u = q and u²/2 + g (h + z) = B all along, so h is the larger root of a cubic at every point."""
    drifts = []
    for size in (64, 128, 256):
        problem = ShallowWater(
            resolution=size, bottom="bumps", walls="periodic", limiter="central", duration=0.5, **LINE
        )
        z = 0.2 * torch.exp(-((problem.grid.axis(0) / 0.2) ** 2))
        h = torch.ones_like(z)
        for _ in range(60):  # Newton's method on u²/2 + h + z = B with u = q / h
            h = h - (0.5 * (0.3 / h) ** 2 + h + z - 1.1) / (1 - 0.09 / h**3)
        inputs = torch.stack([h, 0.3 / h, z])[None]
        assert float((0.5 * (0.3 / h) ** 2 + h + z - 1.1).abs().max()) < 1e-14
        drifts.append(float((later(problem, inputs) - inputs[:, :2]).abs().mean()))
    assert min(orders(drifts)) > 1.9


def test_bore_from_a_rigid_wall_has_the_height_and_speed_of_the_jump_conditions() -> None:
    """Water of depth 1 runs at 1 into a wall: s h₁ = ... gives (h₁ - 1)² (h₁ + 1) = 2 h₁, and s = 1/(h₁ - 1)."""
    problem = ShallowWater(resolution=400, walls=[["outflow", "reflecting"]], duration=0.5, **LINE)
    inputs = torch.ones(1, 2, 400, dtype=torch.float64)
    depth = later(problem, inputs)[0, 0]
    high = brentq(lambda h: (h - 1) ** 2 * (h + 1) - 2 * h, 1.5, 4.0, xtol=1e-15)
    x = problem.grid.axis(0)
    front = 1 - 0.5 / (high - 1)
    assert float(depth[x > front + 0.05].median()) == pytest.approx(high, rel=1e-3)
    assert float((depth[x < front - 0.05] - 1).abs().max()) < 1e-6
    assert float(depth.mean()) == pytest.approx(1 + 0.5 * (1 - front) * (high - 1), rel=1e-3)


@pytest.mark.parametrize("walls", ["periodic", "reflecting", "outflow"])
@pytest.mark.parametrize("stepping", ["hancock", "ssp2"])
@pytest.mark.parametrize("dimension", [1, 2])
def test_lakes_stay_at_rest_around_their_islands(dimension: int, stepping: str, walls: str) -> None:
    problem = ShallowWater(
        resolution=12, dimension=dimension, states="rest", bottom="bumps", bottom_heights=(0.5, 1.6), count=3,
        widths=(0.05, 0.2), walls=walls, stepping=stepping, duration=1.0, frames=2,
    )  # type: ignore[arg-type]  # fmt: skip
    inputs = problem.sample([0, 1], 2)
    dry = inputs[:, 0] == 0
    assert bool(dry.any())
    assert bool((inputs[:, -1][dry] > 1).all())
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    assert float((states - states[:, :1]).abs().max()) < 1e-13
    assert float(problem.rate(inputs).abs().max()) < 1e-12


@pytest.mark.parametrize("bottom", ["flat", "bumps"])
@pytest.mark.parametrize("walls", ["periodic", "reflecting"])
def test_closed_basins_keep_their_water_and_lose_energy(walls: str, bottom: str) -> None:
    problem = ShallowWater(resolution=24, walls=walls, bottom=bottom, duration=4.0, frames=8)  # type: ignore[arg-type]
    inputs = problem.sample([0, 1], 3)
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    laws = problem.laws(inputs, states, problem.times)
    momenta = ["momentum_x", "momentum_y"] if walls == "periodic" and bottom == "flat" else []
    assert sorted(laws) == ["energy", "mass", *momenta]
    assert all(float(laws[name].defect().max()) < 1e-13 for name in ["mass", *momenta])
    energy = laws["energy"].values
    assert bool((energy.diff(dim=1) < 0).all())
    assert float((1 - energy[:, -1] / energy[:, 0]).min()) > 1e-3


def test_water_runs_up_dry_shores_and_never_owes_any() -> None:
    problem = ShallowWater(
        resolution=48,
        bottom="bumps",
        bottom_heights=(0.3, 0.9),
        outside=0.3,
        walls="reflecting",
        duration=3.0,
        frames=6,
    )
    inputs = problem.sample(range(3), 0)
    assert bool((inputs[:, 0] == 0).any())
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    assert float(states[:, :, 0].min()) >= 0
    # Deep water moves no faster than the dam's front, shallow water runs down its hills.
    speed = states[:, :, 1:].norm(dim=2)
    assert float(speed[states[:, :, 0] > 0.01].max()) < 2 * math.sqrt(problem.inside) + 1


def test_basin_that_is_dry_everywhere_stays_so() -> None:
    problem = ShallowWater(resolution=8, frames=2)
    nothing = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    states, solution = problem.trajectory(nothing)
    assert bool(solution.converged.all())
    assert float(states.abs().max()) == 0.0


def test_dam_spreads_as_a_circle_and_turns_with_the_box() -> None:
    problem = ShallowWater(resolution=16, duration=0.5, frames=1, stepping="ssp2")
    inputs = problem.sample([1], 0)
    outputs = later(problem, inputs)
    symmetries = problem.symmetries()
    assert len(symmetries) == 8
    for symmetry in symmetries:
        torch.testing.assert_close(symmetry(inputs), inputs, rtol=0, atol=1e-15)
        torch.testing.assert_close(symmetry(outputs), outputs, rtol=1e-11, atol=1e-12)
    # Sweeps along axis after axis: mirrored exactly.
    outputs = later(replace(problem, stepping="hancock"), inputs)
    mirrored = [s for s in symmetries if s.box.order == (0, 1)]  # type: ignore[attr-defined]
    assert len(mirrored) == 4
    for symmetry in mirrored:
        torch.testing.assert_close(symmetry(outputs), outputs, rtol=1e-11, atol=1e-12)


def test_residual_is_zero_for_a_lake_and_differentiable() -> None:
    problem = ShallowWater(
        resolution=6, dimension=1, states="bumps", bottom="bumps", bottom_heights=(0.1, 0.4), walls="periodic"
    )
    lake = replace(problem, states="rest").sample([0], 0)
    assert float(problem.residual(lake, lake[:, :2]).abs().max()) < 1e-12
    inputs = problem.sample([0], 0)
    outputs = problem.solve(inputs)[0].detach().requires_grad_()
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs), atol=1e-4, rtol=1e-5)


def test_dams_have_the_stated_radii_and_volumes_on_every_grid() -> None:
    problem = ShallowWater(resolution=64)
    drawn = problem.sample(range(200), 5)
    assert float(drawn[:, 1:].abs().max()) == 0.0
    area = (drawn[:, 0] - problem.outside).sum((1, 2)) * (5 / 64) ** 2 / (problem.inside - problem.outside)
    radii = (area / math.pi).sqrt()
    low, high = problem.radius
    assert low - 0.01 < float(radii.min()) < low + 0.05
    assert high - 0.05 < float(radii.max()) < high + 0.01
    assert float(radii.mean()) == pytest.approx(0.5 * (low + high), abs=0.03)
    finer = problem.at(128).sample([3], 5)
    # Of the 16 points of a cell that the circle crosses, finer ones move at most four across it.
    assert float((cell_means(finer[0], 2) - drawn[3]).abs().max()) <= 0.25
    assert float(finer[0, 0].mean()) == pytest.approx(float(drawn[3, 0].mean()), rel=1e-3)


@pytest.mark.parametrize(
    "problem",
    [
        ShallowWater(resolution=16),
        ShallowWater(resolution=16, states="bumps", bottom="bumps", walls="periodic"),
        ShallowWater(resolution=16, dimension=1, states="bumps", walls="reflecting"),
    ],
)
def test_samples_depend_on_seed_and_index_alone(problem: ShallowWater) -> None:
    together = problem.sample([4, 1], 9)
    assert all(torch.equal(problem.sample([i], 9)[0], sample) for i, sample in zip((4, 1), together, strict=True))
    assert not torch.equal(problem.sample([4], 8)[0], together[0])
    assert problem.sample([], 9).shape == (0, *together.shape[1:])
    for name, other in problem.shifts().items():
        assert other.grid == problem.grid, name
        assert not torch.equal(other.sample([4], 9)[0], together[0]), name


def test_bumps_wrap_around_a_periodic_box_and_are_the_same_on_a_finer_grid() -> None:
    problem = ShallowWater(resolution=32, states="bumps", walls="periodic", widths=(0.2, 0.3))
    surface = problem.sample([0], 0)[0, 0]
    jump, step = (surface[0] - surface[-1]).abs().max(), (surface[1:] - surface[:-1]).abs().max()
    assert float(jump) <= float(step)
    finer = problem.at(96).sample([0], 0)[0, 0]
    torch.testing.assert_close(finer[1::3, 1::3], surface, rtol=1e-12, atol=1e-12)


def test_generated_data_hold_the_bottom_once_and_the_states(tmp_path: Path) -> None:
    problem = ShallowWater(resolution=12, states="bumps", bottom="bumps", walls="periodic", frames=3)
    generate(problem, tmp_path, counts={"train": 2, "valid": 1, "test": 1}, seed=1)
    dataset = FieldDataset(tmp_path, "train")
    assert dataset.input_names == [f.name for f in problem.inputs]
    assert dataset.output_names == ["depth", "velocity_x", "velocity_y"]
    expected = problem.sample([1], 1)
    states, _ = problem.trajectory(expected)
    inputs, outputs = dataset.batch([5])
    assert torch.equal(outputs[0], states[0, -1].float())
    by_name = dict(zip(dataset.input_names, inputs[0], strict=True))
    np.testing.assert_array_equal(by_name["bottom"], expected[0, -1].float())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"states": "wave"}, "states 'wave'; allowed are dam, bumps, rest"),
        ({"bottom": "hill"}, "bottom 'hill'; allowed are flat, bumps"),
        ({"lower": 3.0}, "lower < upper"),
        ({"inside": -1.0}, "inside = -1.0"),
        ({"radius": (0.0, 0.5)}, "radius = "),
        ({"heights": (0.2, 0.1)}, "heights = "),
        ({"count": -1}, "count = -1"),
        ({"gravity": 0.0}, "gravity = 0.0"),
        ({"dry": 0.0}, "dry = 0.0"),
        ({"walls": "open"}, "walls = open"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ShallowWater(**values)
    assert "\n" not in str(caught.value)
