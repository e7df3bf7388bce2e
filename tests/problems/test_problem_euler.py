"""Compressible Euler: exact solutions, orders, what is kept, symmetries, and the families of first states."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fieldwright.datasets import FieldDataset, generate
from fieldwright.errors import InputError
from fieldwright.problems.compressible_euler import CompressibleEuler
from fieldwright.problems.gas_states import DEFAULTS, FAMILIES
from fieldwright.problems.hyperbolic_problem import cell_means
from fieldwright.solvers.finite_volume import gas_fan

GAMMA = 1.4
# (left, right, jump's place, time) of tubes with a rarefaction, a contact and a shock each.
TUBES = {
    "sod": ((1.0, 0.0, 1.0), (0.125, 0.0, 0.1), 0.5, 0.2),
    "lax": ((0.445, 0.698, 3.528), (0.5, 0.0, 0.571), 0.5, 0.14),
}


def tube(left: tuple, right: tuple, place: float, cells: int) -> torch.Tensor:
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    a, b = (torch.tensor(s, dtype=torch.float64)[:, None] for s in (left, right))
    return torch.where(x < place, a, b)[None]


def exact_tube(left: tuple, right: tuple, place: float, time: float, cells: int) -> torch.Tensor:
    points = 16
    x = (torch.arange(cells * points, dtype=torch.float64) + 0.5) / (cells * points)
    a, b = (torch.tensor(s, dtype=torch.float64)[None, :, None].expand(1, 3, len(x)) for s in (left, right))
    return cell_means(gas_fan(a, b, ((x - place) / time)[None], GAMMA)[0][0], points)[None]


def later(problem: CompressibleEuler, inputs: torch.Tensor) -> torch.Tensor:
    outputs, solution = problem.solve(inputs)
    assert bool(solution.converged.all())
    return outputs


def orders(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize("name", sorted(TUBES))
def test_shock_tubes_converge_to_the_exact_solution(name: str) -> None:
    """Shocks are captured to first order in L1, contacts to order p/(p+1) = 2/3: in between altogether."""
    left, right, place, time = TUBES[name]
    errors = []
    for cells in (100, 1600):
        problem = CompressibleEuler(resolution=cells, dimension=1, walls="outflow", duration=time, frames=1)
        found = later(problem, tube(left, right, place, cells))
        gap = (found - exact_tube(left, right, place, time, cells)).abs().mean(2)[0]
        errors.append((float(gap[0]), float(gap[2])))
    density, pressure = (math.log2(coarse / fine) / 4 for coarse, fine in zip(*errors, strict=True))
    assert 2 / 3 < density < 1
    # The pressure has no contact in it.
    assert pressure == pytest.approx(1.0, abs=0.1)
    assert errors[-1][0] < 0.0015


def test_method_of_lines_and_the_exact_flux_give_the_same_tube_within_the_error() -> None:
    left, right, place, time = TUBES["sod"]
    problem = CompressibleEuler(resolution=50, dimension=1, walls="outflow", duration=time, frames=1)
    inputs = tube(left, right, place, 50)
    sweeps = later(problem, inputs)
    error = float((sweeps - exact_tube(left, right, place, time, 50)).abs().mean())
    assert 0 < float((sweeps - later(replace(problem, riemann="exact"), inputs)).abs().mean()) < 0.5 * error
    assert 0 < float((sweeps - later(replace(problem, stepping="ssp2"), inputs)).abs().mean()) < error


def advected(problem: CompressibleEuler, time: float) -> torch.Tensor:
    """Cell means of a density wave that a uniform wind carries: an exact solution."""
    d = problem.dimension
    fine = problem.grid.resized((4 * problem.resolution,) * d)
    wind = (1.0, 0.5)[:d]
    phase = sum((2 * math.pi * (x - v * time) for x, v in zip(fine.coordinates(), wind, strict=True)), torch.zeros(()))
    fields = [1 + 0.5 * phase.sin(), *(torch.full_like(phase, v) for v in wind), torch.ones_like(phase)]
    return cell_means(torch.stack(fields), 4)[None]


@pytest.mark.parametrize(
    ("stepping", "limiter", "dimension", "sizes"),
    [
        ("hancock", "central", 1, (32, 64, 128)),
        ("ssp2", "central", 1, (16, 32, 64)),
        ("ssp3", "central", 1, (16, 32)),
        ("hancock", "central", 2, (32, 64, 128)),
        ("ssp2", "central", 2, (16, 32)),
    ],
)
def test_density_wave_is_advected_to_second_order(stepping: str, limiter: str, dimension: int, sizes: tuple) -> None:
    errors = []
    for size in sizes:
        problem = CompressibleEuler(
            resolution=size, dimension=dimension, duration=0.2, frames=1, stepping=stepping, limiter=limiter
        )  # type: ignore[arg-type]
        found = later(problem, advected(problem, 0.0))
        errors.append(float((found - advected(problem, 0.2))[:, 0].abs().mean()))
        # A contact: the wind and the pressure stay as they are.
        assert float((found - found.flatten(2).mean(2).reshape(1, -1, *[1] * dimension))[:, 1:].abs().max()) < 1e-12
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.1)


def test_limited_slopes_flatten_extrema_and_cost_no_order_in_the_mean() -> None:
    errors = []
    for size in (64, 128, 256):
        problem = CompressibleEuler(resolution=size, dimension=1, duration=0.5, frames=1)
        errors.append(float((later(problem, advected(problem, 0.0)) - advected(problem, 0.5))[:, 0].abs().mean()))
    assert all(order > 1.9 for order in orders(errors))


def vortex(problem: CompressibleEuler, time: float) -> torch.Tensor:
    """The isentropic vortex of strength 5 on a box ten of its radii wide, carried along the diagonal."""
    fine = problem.grid.resized((3 * problem.resolution,) * 2)
    x, y = ((10 * (c - 0.5 - time) + 5) % 10 - 5 for c in fine.coordinates())
    push = 5 / (2 * math.pi) * torch.exp(0.5 * (1 - x**2 - y**2))
    heat = 1 - (GAMMA - 1) / (2 * GAMMA) * push**2
    density = heat ** (1 / (GAMMA - 1))
    means = cell_means(torch.stack([density, density * (1 - push * y), density * (1 + push * x), density * heat]), 3)
    return torch.cat([means[:1], means[1:3] / means[:1], means[3:]])[None]


def test_isentropic_vortex_is_carried_to_second_order() -> None:
    errors = []
    for size in (32, 64, 128):
        problem = CompressibleEuler(resolution=size, duration=0.1, frames=1, limiter="central")
        found = later(problem, vortex(problem, 0.0))
        errors.append(float((found - vortex(problem, 0.1)).square().mean().sqrt()))
    assert orders(errors)[-1] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("stepping", ["hancock", "ssp2"])
@pytest.mark.parametrize("walls", ["periodic", "reflecting", ["periodic", "reflecting"]])
def test_closed_boxes_keep_mass_and_energy_and_periodic_axes_momentum(walls, stepping: str) -> None:
    problem = CompressibleEuler(resolution=12, duration=0.3, frames=3, walls=walls, stepping=stepping)  # type: ignore[arg-type]
    inputs = problem.sample([0, 1], 3)
    states, solution = problem.trajectory(inputs)
    assert bool(solution.converged.all())
    laws = problem.laws(inputs, states, problem.times)
    periodic = [
        name for name, wraps in zip(("momentum_x", "momentum_y"), problem.boundary.periodic, strict=True) if wraps
    ]
    assert sorted(laws) == sorted(["energy", "mass", *periodic])
    for law in laws.values():
        assert float(law.defect().max()) < 1e-12
    assert float((states[:, -1] - states[:, 0]).abs().max()) > 0.1


def test_what_leaves_an_open_box_is_not_held_against_it() -> None:
    problem = CompressibleEuler(resolution=32, dimension=1, walls="outflow", duration=0.5, frames=2)
    states, solution = problem.trajectory(problem.sample([0], 0))
    assert solution.converged.all()
    mass = states[0, :, 0].mean(1)
    assert abs(float(mass[-1] / mass[0]) - 1) > 1e-3
    assert not problem.laws(states[:, 0], states, problem.times)


def test_an_open_wall_lets_a_pulse_of_sound_out_and_a_rigid_one_throws_it_back() -> None:
    kept = {}
    for walls in ("outflow", "reflecting"):
        problem = CompressibleEuler(resolution=200, dimension=1, walls=walls, duration=1.0, frames=1)
        x = problem.grid.axis(0)
        bump = 1e-3 * torch.exp(-(((x - 0.5) / 0.05) ** 2))
        inputs = torch.stack([1 + bump, torch.zeros_like(x), 1 + GAMMA * bump])[None]
        found = later(problem, inputs)
        kept[walls] = float((found[0, 2] - 1).abs().max()) / (GAMMA * 1e-3)
    assert kept["outflow"] < 1e-3
    assert kept["reflecting"] > 0.3


def test_shock_from_a_rigid_wall_has_the_pressure_of_the_jump_conditions() -> None:
    """Gas of p = ρ = 1 runs at 1 into a wall: p₁ = 1 + γ M (k + √(1 + k²)) with k = (γ + 1) M/4, M = 1/c."""
    problem = CompressibleEuler(resolution=400, dimension=1, walls=[["outflow", "reflecting"]], duration=0.3, frames=1)
    inputs = torch.ones(1, 3, 400, dtype=torch.float64)
    density, speed, pressure = later(problem, inputs)[0]
    mach = 1 / math.sqrt(GAMMA)
    k = (GAMMA + 1) / 4 * mach
    behind = 1 + GAMMA * mach * (k + math.sqrt(1 + k**2))
    squeezed = (behind * (GAMMA + 1) + GAMMA - 1) / (behind * (GAMMA - 1) + GAMMA + 1)
    front = 1 - 0.3 / (squeezed - 1)  # mass: the front's speed times the rise of density is what flows in
    x = problem.grid.axis(0)
    quiet = (x > front + 0.03) & (x < 0.95)  # beside the wall the start leaves a warm layer of a few cells
    assert float(pressure[quiet].median()) == pytest.approx(behind, rel=1e-3)
    assert float(density[quiet].median()) == pytest.approx(squeezed, rel=1e-3)
    assert float(speed[quiet].abs().max()) < 0.01
    assert float((pressure[x < front - 0.03] - 1).abs().max()) < 1e-6


def test_standing_sound_in_a_rigid_box_keeps_its_pitch() -> None:
    """p' = cos(π x) cos(ω t) with ω = π c: after a whole period of small sound the pressure is what it was."""
    errors = []
    for size in (32, 64, 128):
        problem = CompressibleEuler(
            resolution=size, dimension=1, walls="reflecting", duration=2 / math.sqrt(GAMMA), frames=1, limiter="central"
        )
        wave = 1e-5 * torch.cos(math.pi * problem.grid.axis(0))
        inputs = torch.stack([1 + wave, 0 * wave, 1 + GAMMA * wave])[None]
        errors.append(float((later(problem, inputs) - inputs)[0, 2].abs().mean()))
    # The sweeps' terms of second order nearly cancel in linear waves.
    assert min(orders(errors)) > 1.9
    assert errors[-1] < 1e-8


def test_threads_and_batches_leave_the_bits_alone() -> None:
    problem = CompressibleEuler(resolution=16, duration=0.1, frames=2)
    inputs = problem.sample(range(40), 0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together, _ = problem.trajectory(inputs)
    finally:
        torch.set_num_threads(threads)
    for i in (0, 17, 39):
        assert torch.equal(problem.trajectory(inputs[i : i + 1])[0][0], together[i])


def test_contact_at_rest_keeps_its_bits() -> None:
    for stepping in ("hancock", "ssp2"):
        problem = CompressibleEuler(resolution=8, walls="outflow", duration=0.5, frames=1, stepping=stepping)  # type: ignore[arg-type]
        x, _ = problem.grid.coordinates()
        inputs = torch.stack([torch.where(x < 0.4, 1.0, 0.1), 0 * x, 0 * x, torch.ones_like(x)])[None].double()
        # Pressure to energy and back rounds once a step.
        torch.testing.assert_close(later(problem, inputs), inputs, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("stepping", ["hancock", "ssp2"])
def test_strong_rarefactions_leave_density_and_pressure_positive(stepping: str) -> None:
    """Two streams part, nearly leaving a vacuum (the "123" problem), and at three times the speed a true one."""
    for speed, time in ((2.0, 0.15), (6.0, 0.03)):
        problem = CompressibleEuler(
            resolution=100, dimension=1, walls="outflow", duration=time, frames=2, stepping=stepping
        )  # type: ignore[arg-type]
        left, right = (1.0, -speed, 0.4), (1.0, speed, 0.4)
        states, solution = problem.trajectory(tube(left, right, 0.5, 100))
        assert solution.converged.all()
        assert float(states[:, :, [0, 2]].min()) > 0
        exact = exact_tube(left, right, 0.5, time, 100)
        assert float((states[:, -1] - exact)[:, 0].abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("walls", "stepping", "count"),
    [
        ("periodic", "ssp2", 8),
        ("reflecting", "ssp2", 8),
        (["periodic", "outflow"], "ssp2", 4),
        ([["reflecting", "outflow"], "periodic"], "ssp3", 2),
        ("periodic", "hancock", 8),
    ],
)
def test_flow_turns_with_the_box(walls, stepping: str, count: int) -> None:
    """Every symmetry turns the velocities along; sweeps along axis after axis see their exchange to their order."""
    problem = CompressibleEuler(resolution=12, duration=0.1, frames=1, walls=walls, stepping=stepping)  # type: ignore[arg-type]
    symmetries = problem.symmetries()
    assert len(symmetries) == count
    inputs = problem.sample([4], 1)
    outputs = later(problem, inputs)
    assert torch.equal(symmetries[0](inputs), inputs)
    assert len({symmetry(inputs).numpy().tobytes() for symmetry in symmetries}) == count
    for symmetry in symmetries:
        exchanged = stepping == "hancock" and symmetry.box.order != (0, 1)  # type: ignore[attr-defined]
        moved = later(problem, symmetry(inputs))
        tolerance = 0.1 if exchanged else 1e-11
        torch.testing.assert_close(moved, symmetry(outputs), rtol=tolerance, atol=tolerance)


def test_flow_in_a_channel_is_that_of_one_dimension() -> None:
    left, right, place, time = TUBES["sod"]
    line = CompressibleEuler(resolution=24, dimension=1, walls="outflow", duration=time, frames=1, stepping="ssp2")
    plane = replace(line, dimension=2)
    along = tube(left, right, place, 24)
    for axis in (0, 1):
        fields = torch.zeros(1, 4, 24, 24, dtype=torch.float64)
        fields[:, [0, 1 + axis, 3]] = along[..., None] if axis == 0 else along[..., None, :]
        found = later(plane, fields)
        inner = found[:, [0, 1 + axis, 3]].select(3 - axis, 5)
        # The second axis takes part in the size of the steps alone.
        torch.testing.assert_close(inner, later(line, along), rtol=2e-2, atol=2e-2)
        assert float(found[:, 2 - axis].abs().max()) == 0.0


def test_rate_is_that_of_the_equations_where_the_flow_is_smooth() -> None:
    """ρ_t = -(ρu)_x, u_t = -u u_x - p_x/ρ, p_t = -u p_x - γ p u_x of sines, to second order."""
    errors = []
    for size in (128, 256):
        problem = CompressibleEuler(resolution=size, dimension=1, limiter="central")
        x = 2 * math.pi * problem.grid.axis(0)
        r, u, p = 2 + x.sin(), 0.5 * x.cos(), 3 + (2 * x).sin()
        rx, ux, px = (2 * math.pi * s for s in (x.cos(), -0.5 * x.sin(), 2 * (2 * x).cos()))
        exact = torch.stack([-(r * ux + u * rx), -u * ux - px / r, -u * px - GAMMA * p * ux])
        rate = problem.rate(torch.stack([r, u, p])[None])[0]
        errors.append(float((rate - exact).abs().max()))
    assert orders(errors)[0] == pytest.approx(2.0, abs=0.1)


def test_residual_of_a_gas_at_rest_is_zero_and_sees_a_prediction_that_moves() -> None:
    problem = CompressibleEuler(resolution=8)
    rest = torch.stack([torch.full((8, 8), v, dtype=torch.float64) for v in (0.7, 0.0, 0.0, 1.3)])[None]
    assert float(problem.residual(rest, rest).abs().max()) < 1e-12
    assert float(problem.residual(rest, rest + 0.1).abs().max()) > 1


@pytest.mark.parametrize("riemann", ["hllc", "exact"])
def test_residual_is_differentiable_in_inputs_and_outputs(riemann: str) -> None:
    problem = CompressibleEuler(resolution=8, dimension=1, states="smooth", riemann=riemann, frames=100)  # type: ignore[arg-type]
    inputs = problem.sample([0], 0)
    outputs = problem.solve(inputs)[0].detach().requires_grad_()
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_depend_on_seed_and_index_alone_and_lie_in_their_ranges(family: str) -> None:
    problem = CompressibleEuler(resolution=16, states=family)  # type: ignore[arg-type]
    together = problem.sample([5, 2, 9], 7)
    assert all(torch.equal(problem.sample([i], 7)[0], sample) for i, sample in zip((5, 2, 9), together, strict=True))
    assert problem.sample([], 7).shape == (0, 4, 16, 16)
    assert not torch.equal(problem.sample([5], 8)[0], together[0])
    draw = DEFAULTS[family]
    for field, (low, high) in ((together[:, 0], draw.density), (together[:, -1], draw.pressure)):
        assert low - 1e-12 <= float(field.min())
        assert float(field.max()) <= high + 1e-12
    if family != "vortices":
        assert float(together[:, 1:3].abs().max()) <= max(map(abs, draw.velocity)) + 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_finer_grids_see_the_same_state(family: str) -> None:
    """Jumps lie where they lie: coarse means differ from fine ones in the cells that a jump crosses alone."""
    problem = CompressibleEuler(resolution=32, states=family)  # type: ignore[arg-type]
    coarse, fine = (p.law.conserved(p.sample([3], 1)) for p in (problem, problem.at(64)))
    gap = (cell_means(fine[0], 2) - coarse[0]).abs().mean() / coarse.abs().mean()
    assert float(gap) < (0.002 if family in ("riemann", "smooth") else 0.02)


def test_riemann_states_are_uniform_over_their_ranges() -> None:
    problem = CompressibleEuler(resolution=4, density=(1.0, 3.0), velocity=(-2.0, 2.0), pressure=(5.0, 7.0))
    drawn = problem.sample(range(400), 0)
    for field, low, high in ((0, 1.0, 3.0), (1, -2.0, 2.0), (2, -2.0, 2.0), (3, 5.0, 7.0)):
        values = drawn[:, field, ::2, ::2].flatten()
        assert float(values.mean()) == pytest.approx(0.5 * (low + high), abs=0.06 * (high - low))
        assert float(values.std()) == pytest.approx((high - low) / math.sqrt(12), rel=0.05)


def test_vortices_have_the_stated_vorticity_and_no_divergence() -> None:
    """One sample against its own curl: the velocity is that of the stream function to the grid's accuracy."""
    problem = CompressibleEuler(resolution=64, states="vortices")
    u, v = problem.sample([0], 0)[0, 1:3]
    waves = 2 * math.pi * torch.fft.fftfreq(64, 1 / 64, dtype=torch.float64)
    kx, ky = torch.meshgrid(waves, waves, indexing="ij")
    hats = torch.fft.fft2(torch.stack([u, v]))
    assert float((kx * hats[0] + ky * hats[1]).abs().max() / hats.abs().max()) < 1e-10
    assert float(hats[:, 0, 0].abs().max()) < 1e-10
    curl = torch.fft.ifft2(1j * (kx * hats[1] - ky * hats[0])).real
    assert abs(float(curl.mean())) < 1e-10
    assert 5 < float(curl.abs().max()) < 500


def test_perturbed_interfaces_keep_the_states_and_shift_moves_the_jump() -> None:
    straight = CompressibleEuler(resolution=16, states="perturbed", perturbation=0.0)
    rippled = CompressibleEuler(resolution=16, states="perturbed")
    a, b = straight.sample([1], 0)[0], rippled.sample([1], 0)[0]
    corners = (slice(None), 4, 4)
    torch.testing.assert_close(a[corners], b[corners])
    assert not torch.equal(a, b)
    tubes = CompressibleEuler(resolution=64, dimension=1, walls="outflow", shift=0.25)
    drawn = tubes.sample(range(50), 0)
    places = drawn.diff(dim=2).abs().sum(1).argmax(1)
    assert 14 <= int(places.min()) < 24
    assert 40 < int(places.max()) <= 48
    assert all(len(sample[0].unique()) <= 3 for sample in drawn)


def test_generated_data_are_the_trajectories(tmp_path: Path) -> None:
    problem = CompressibleEuler(resolution=16, frames=3, duration=0.1)
    summary = generate(problem, tmp_path, counts={"train": 3, "valid": 1, "test": 1}, seed=2)
    assert summary.samples["train"] == 3
    dataset = FieldDataset(tmp_path, "train")
    assert dataset.output_names == ["density", "velocity_x", "velocity_y", "pressure"]
    states, _ = problem.trajectory(problem.sample([1], 2))
    inputs, outputs = dataset.batch([3, 5])  # the first and the last window of sample 1
    assert torch.equal(outputs[1], states[0, -1].float())
    assert torch.equal(inputs[0], states[0, 0].float())


def test_shifts_leave_the_training_distribution_and_keep_the_grid() -> None:
    for family in FAMILIES:
        problem = CompressibleEuler(resolution=16, states=family)  # type: ignore[arg-type]
        for name, other in problem.shifts().items():
            assert other.grid == problem.grid, name
            assert not torch.equal(other.sample([0], 0), problem.sample([0], 0)), name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dimension": 3}, "dimension 3; allowed are 1 and 2"),
        ({"resolution": 3}, "resolution 3"),
        ({"states": "sod"}, "states 'sod'; allowed are riemann"),
        ({"states": "vortices", "dimension": 1}, "in 1D use riemann or smooth"),
        ({"density": (0.0, 1.0)}, "density = .* two positive numbers"),
        ({"velocity": (1.0, -1.0)}, "velocity = "),
        ({"pieces": 0}, "pieces = 0"),
        ({"perturbation": 0.6}, "perturbation = 0.6"),
        ({"shift": -0.1}, "shift = -0.1"),
        ({"gamma": 1.0}, "gamma = 1.0"),
        ({"walls": "open"}, "walls = open; allowed are periodic"),
        ({"limiter": "superbee"}, "limiter 'superbee'"),
        ({"stepping": "rk4"}, "stepping 'rk4'"),
        ({"riemann": "roe"}, "riemann 'roe'"),
        ({"cfl": 1.5}, "cfl = 1.5"),
        ({"duration": -1.0}, "duration = -1.0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        CompressibleEuler(**values)
    assert "\n" not in str(caught.value)
