"""Sines, bumps, piecewise constant states and McWilliams' vorticity: what is drawn, and that no grid changes it."""

import math

import numpy as np
import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import (
    mcwilliams_vorticity,
    piecewise_constant,
    random_bumps,
    random_sines,
    riemann_states,
)
from fieldwright.problems.draws import generator, uniform_numbers
from fieldwright.problems.random_polynomials import random_chebyshev
from fieldwright.problems.random_vorticity import shear_layer_vorticity, vortex_sheet_vorticity

CIRCLE = Grid((32, 32), "periodic", (0.0, 0.0), (2 * math.pi, 2 * math.pi))
SAMPLERS = {
    "sines": lambda grid, indices, seed: random_sines(grid, indices, seed, modes=(2, 6), decay=(0.5, 1.0)),
    "bumps": lambda grid, indices, seed: random_bumps(grid, indices, seed, count=(1, 9), widths=(0.1, 0.9)),
    "bumps by chance": lambda grid, indices, seed: random_bumps(grid, indices, seed, geometric=0.4),
    "pieces": lambda grid, indices, seed: piecewise_constant(grid, indices, seed, pieces=4),
    "curved states": lambda grid, indices, seed: riemann_states(grid, indices, seed, ranges=[(0, 1), (2, 3)], bend=0.4),
    "polynomials": lambda grid, indices, seed: random_chebyshev(grid, indices, seed),
    "shear layers": lambda grid, indices, seed: shear_layer_vorticity(grid, indices, seed),
    "vortex sheet": lambda grid, indices, seed: vortex_sheet_vorticity(grid, indices, seed, width=0.2),
    "vorticity": lambda grid, indices, seed: mcwilliams_vorticity(grid, indices, seed, cutoff=15),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_field_depends_on_seed_and_index_alone(sampler) -> None:
    together = sampler(CIRCLE, [3, 70, 5], 1)
    for place, index in enumerate([3, 70, 5]):
        assert torch.equal(sampler(CIRCLE, [index], 1)[0], together[place])
    assert not torch.equal(sampler(CIRCLE, [3], 2)[0], together[0])
    assert len(sampler(CIRCLE, [], 1)) == 0


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_every_other_point_of_a_finer_grid_holds_the_same_values(sampler) -> None:
    coarse, fine = sampler(CIRCLE, [4], 0), sampler(CIRCLE.resized(64), [4], 0)
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-11, atol=1e-11)


def test_sines_are_the_stated_sum_over_drawn_numbers() -> None:
    grid = Grid((9, 12), "periodic")
    field = random_sines(grid, [6], 2, modes=3, decay=0.5, amplitude=0.7)[0].numpy()
    random = generator(2, 6)
    random.integers(3, 4), random.random()
    a, phases = random.uniform(-1, 1, (3, 3)), [random.uniform(0, 2 * math.pi, (3, 3)) for _ in range(2)]
    x, y = np.meshgrid(np.arange(9) / 9, np.arange(12) / 12, indexing="ij")
    expected = np.zeros_like(x)
    for i in range(3):
        for j in range(3):
            waves = np.sin(2 * np.pi * (i + 1) * x + phases[0][i, j]) * np.sin(
                2 * np.pi * (j + 1) * y + phases[1][i, j]
            )
            expected += 0.7 * a[i, j] * (i + j + 2) ** -0.5 * waves
    assert np.abs(field - expected).max() < 1e-13


def test_sines_between_walls_vanish_there_and_average_over_their_modes() -> None:
    grid = Grid((33, 33), "node")
    field = random_sines(grid, range(3), 0, modes=(8, 16), decay=1.7, average=True, walls="dirichlet", amplitude=1.0)
    edge = torch.cat([field[:, 0], field[:, -1], field[:, :, 0], field[:, :, -1]])
    assert float(edge.abs().max()) < 1e-12 < float(field.abs().max()) < 0.5


def test_bumps_have_the_integral_of_their_gaussians_and_wrap_around() -> None:
    widths, grid = (0.05, 0.2), Grid((64, 64), "periodic")
    field = random_bumps(grid, [0, 1], 3, count=40, widths=widths, amplitudes=(-1.0, 2.0), width_power=1.0)
    for place, index in enumerate([0, 1]):
        random = generator(3, index)
        random.integers(40, 41), random.uniform(0, 1, (40, 2))
        sigma = random.uniform(*widths, 40)
        integral = (2 * math.pi * sigma * random.uniform(-1.0, 2.0, 40)).sum()
        assert float(field[place].mean()) == pytest.approx(integral, rel=1e-10)


def test_numbers_of_bumps_follow_the_geometric_law() -> None:
    counts = [int(generator(0, i).geometric(0.4)) for i in range(2000)]
    assert np.mean(counts) == pytest.approx(2.5, abs=5 * math.sqrt(0.6) / 0.4 / math.sqrt(2000))
    wide = random_bumps(Grid((4,)), range(2000), 0, geometric=0.4, widths=(1e3, 1e3))
    assert wide[:, 0].round().long().tolist() == counts


def test_pieces_are_constant_and_straight_interfaces_lie_between_them() -> None:
    grid = Grid((20, 20))
    values = piecewise_constant(grid, [1], 0, pieces=(4, 10), low=2.0, high=3.0)[0]
    blocks = values.reshape(4, 5, 10, 2)
    assert torch.equal(blocks, blocks[:, :1, :, :1].expand_as(blocks))
    assert len(values.unique()) == 40
    assert 2.0 <= float(values.min()) <= float(values.max()) < 3.0


def test_riemann_states_draw_each_channel_from_its_own_range() -> None:
    ranges = [(0.1, 1.0), (-1.0, 1.0), (5.0, 7.0)]
    states = riemann_states(Grid((4, 4)), range(500), 0, ranges=ranges)
    for channel, (low, high) in enumerate(ranges):
        found = states[:, channel]
        assert low <= float(found.min())
        assert float(found.max()) <= high
        spread = (high - low) / math.sqrt(12)
        assert float(found.mean()) == pytest.approx((low + high) / 2, abs=5 * spread / math.sqrt(2000))


def test_bent_interfaces_keep_the_values_and_move_at_most_as_far_as_allowed() -> None:
    grid = Grid((64, 64))
    straight = riemann_states(grid, range(20), 0, ranges=[(0, 1)])[:, 0]
    bent = riemann_states(grid, range(20), 0, ranges=[(0, 1)], bend=0.3)[:, 0]
    for one, other in zip(straight, bent, strict=True):
        assert set(other.unique().tolist()) <= set(one.unique().tolist())
    x = (grid.coordinates() * 2 - 1).abs().amin(0)
    assert torch.equal(straight[:, x > 0.3], bent[:, x > 0.3])
    assert not torch.equal(straight, bent)


@pytest.mark.parametrize("spectrum", ["variance", "amplitude"])
def test_vorticity_has_the_stated_energy_and_spectrum(spectrum) -> None:
    count, cutoff = 300, 12
    omega = mcwilliams_vorticity(CIRCLE, range(count), 0, peak=4.0, energy=0.25, spectrum=spectrum, cutoff=cutoff)
    k = torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64)
    squares = k[:, None] ** 2 + k**2
    psi = torch.fft.fft2(omega).abs().square() / 32**4 / squares.square().clamp_min(1)
    energy = 0.5 * (squares * psi).sum((1, 2))
    torch.testing.assert_close(energy, torch.full_like(energy, 0.25), rtol=1e-10, atol=0)
    assert float(psi[:, (k.abs() > cutoff)].max()) < 1e-28
    assert float(omega.mean((1, 2)).abs().max()) < 1e-13
    size = squares.sqrt()
    law = (1 / (size * (1 + (size / 4) ** 4))).pow(2 if spectrum == "amplitude" else 1)
    inside = (k.abs()[:, None] <= cutoff) & (k.abs() <= cutoff) & (squares > 0)
    shares, stated = psi.mean(0)[inside] * squares[inside], (law * squares)[inside]
    # Per mode the share is a mean of `count` squares; sum over rings to have thousands of them.
    for low in (1, 3, 5, 8):
        ring = (size[inside] >= low) & (size[inside] < low + 2)
        assert float(shares[ring].sum() / shares.sum()) == pytest.approx(
            float(stated[ring].sum() / stated.sum()), rel=0.1
        )


def test_shear_layers_turn_the_velocity_from_one_side_to_the_other_and_back() -> None:
    grid = Grid((16, 512), "periodic", upper=(1.0, 2.0))
    omega = shear_layer_vorticity(grid, range(20), 0)
    assert float(omega.mean(2).abs().max()) < 1e-10
    # -∂u/∂y integrates to -2 across the layer where u rises from -1 to 1.
    falls = -(omega.clamp_max(0).sum(2) * grid.spacing[1])
    torch.testing.assert_close(falls, torch.full_like(falls, 2.0), rtol=0, atol=1e-4)


def test_a_vortex_sheet_is_a_line_of_unit_strength_spread_over_its_width() -> None:
    flat = vortex_sheet_vorticity(Grid((8, 640), "periodic"), [0], 0, height=0.0, ripple=0.0)[0]
    assert float(flat.mean().abs()) < 1e-4
    assert torch.allclose(flat, flat[:1], atol=1e-12)
    strength = (flat + 1).clamp_min(0)
    y = Grid((640,), "periodic").axis(0)
    assert not strength[0, (y - 0.5).abs() > 5 / 128 + 1e-9].any()
    assert float(strength[0].mean()) == pytest.approx(1.0, abs=1e-4)
    wavy = vortex_sheet_vorticity(Grid((128, 128), "periodic"), range(4), 0, ripple=0.0)
    rise = 0.4 * math.pi * torch.cos(2 * math.pi * torch.arange(1000).double() / 1000)
    length = float((1 + rise**2).sqrt().mean())
    assert float(wavy.mean().abs()) < 1e-3
    assert (-wavy.amin((1, 2))).tolist() == pytest.approx([length] * 4, rel=1e-10)


def test_polynomials_have_the_stated_deviation_and_are_of_the_stated_degree() -> None:
    grid = Grid((40, 40))
    field = random_chebyshev(grid, range(1000), 0, degree=6, decay=0.5, deviation=0.3)
    assert float(field.square().mean().sqrt()) == pytest.approx(0.3, rel=0.05)
    # Seventh differences of a polynomial of degree six vanish.
    assert float(field.diff(n=7, dim=1).abs().max()) < 1e-11
    assert float(field.diff(n=6, dim=1).abs().max()) > 1e-6


def test_uniform_numbers_fill_their_ranges() -> None:
    numbers = uniform_numbers(range(2000), 5, [(1.0, 3.0), (-0.1, 0.0)])
    assert numbers.shape == (2000, 2)
    assert torch.equal(numbers[7], uniform_numbers([7], 5, [(1.0, 3.0), (-0.1, 0.0)])[0])
    assert numbers.mean(0).tolist() == pytest.approx([2.0, -0.05], abs=5 * 2 / math.sqrt(12 * 2000))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: random_sines(Grid((8, 8), "periodic"), [0], 0, modes=5), "at most 4 have two points a wave"),
        (lambda: random_sines(CIRCLE, [0], 0, modes=(4, 2)), "the lower first"),
        (lambda: random_bumps(CIRCLE, [0], 0, widths=(0.0, 1.0)), "two positive numbers"),
        (lambda: random_bumps(CIRCLE, [0], 0, geometric=1.5), "at most 1"),
        (lambda: piecewise_constant(Grid((4, 4)), [0], 0, pieces=5), "at most one per point"),
        (lambda: riemann_states(Grid((4, 4)), [0], 0, ranges=[(1, 0)]), "the lower first"),
        (lambda: mcwilliams_vorticity(Grid((8, 8), "node"), [0], 0), "periodic square"),
        (lambda: mcwilliams_vorticity(CIRCLE, [0], 0, peak=0.0), "positive numbers"),
        (lambda: random_chebyshev(Grid((4, 4)), [0], 0), "0 to the 4 points"),
        (lambda: random_chebyshev(Grid((9, 9)), [0], 0, deviation=0.0), "positive numbers"),
        (lambda: shear_layer_vorticity(Grid((8,), "periodic"), [0], 0), "in 2D"),
        (lambda: vortex_sheet_vorticity(CIRCLE, [0], 0, width=0.5), "below half the box"),
        (lambda: random_bumps(CIRCLE, [-1], 0), r"allowed are 0 up to 2\^64"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_one_sentence(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
