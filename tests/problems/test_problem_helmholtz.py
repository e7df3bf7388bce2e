"""The Helmholtz equation between walls that hold a value and walls that let waves out."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from fieldwright.datasets.generate import generate
from fieldwright.datasets.read import FieldDataset
from fieldwright.errors import InputError
from fieldwright.problems import Helmholtz
from fieldwright.problems.helmholtz import absorbing_walls
from fieldwright.solvers import solve

ABSORBING = {"medium": "gaussian", "source": "bumps", "walls": "absorbing"}
INDEFINITE = Helmholtz(
    resolution=40, wavenumber=20.0, medium="gaussian", source="gaussian", wall_low=0.0, wall_high=0.0
)


def laplacian(field: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    (slope,) = torch.autograd.grad(field.sum(), x, create_graph=True)
    return sum(torch.autograd.grad(slope[i].sum(), x, retain_graph=True)[0][i] for i in range(len(x)))  # type: ignore[return-value]


@pytest.mark.parametrize("dimension", [1, 2])
def test_waves_between_absorbing_walls_converge_to_second_order(dimension: int) -> None:
    k, errors = 9.0, []
    for n in (32, 64):
        problem = Helmholtz(resolution=n, dimension=dimension, wavenumber=k, **ABSORBING)  # type: ignore[arg-type]
        x = problem.grid.coordinates().requires_grad_()
        # u = e^(i q) with q' = ±k at the ends of every axis leaves through all walls where a = 1.
        phase = k * (x**2 - x).sum(0)
        medium = 1 + 0.3 * torch.sin(math.pi * x).prod(0)
        parts = [phase.cos(), phase.sin()]
        source = [(-laplacian(part, x) - k**2 * medium * part).detach() for part in parts]
        inputs = torch.stack([medium.detach(), torch.zeros_like(source[0])])[None]
        # Rows of the imaginary part carry the opposite sign.
        system = dataclasses.replace(problem.system(inputs), rhs=torch.stack([source[0], -source[1]])[None])
        exact = torch.stack(parts).detach()
        values = solve(system, rtol=1e-9, method="scipy").values[0]
        errors.append(float((values - exact).norm() / exact.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_waves_with_a_value_on_the_walls_converge_to_second_order(dimension: int) -> None:
    k, errors, sizes = 5.0, [], {1: (32, 64), 2: (32, 64), 3: (10, 20)}[dimension]
    for n in sizes:
        problem = Helmholtz(resolution=n, dimension=dimension, wavenumber=k, medium="gaussian", source="gaussian")
        x = problem.grid.coordinates().requires_grad_()
        wave = 0.3 + torch.sin(math.pi * x).prod(0)
        medium = 1 + 0.2 * torch.sin(2 * x.sum(0))
        source = (-laplacian(wave, x) - k**2 * medium * wave).detach()
        inputs = torch.stack([medium.detach(), source, torch.full_like(source, 0.3)])[None]
        outputs, _ = problem.solve(inputs, rtol=1e-10, method="scipy")
        errors.append(float((outputs[0, 0] - wave.detach()).norm() / wave.detach().norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("n", [96, 192])
def test_waves_on_the_grid_are_slow_by_the_documented_share(n: int) -> None:
    k = 20.0
    problem = Helmholtz(resolution=n, dimension=1, wavenumber=k, medium="uniform", source="bumps", walls="absorbing")
    source = torch.zeros(1, 2, n, dtype=torch.float64)
    source[0, 0] = 1.0
    source[0, 1, 0] = 1.0
    outputs, _ = problem.solve(source, method="scipy")
    wave = torch.complex(outputs[0, 0], outputs[0, 1])
    # From the source at one end a pure outgoing wave: its phase grows by k (1 + (k h)²/24) per length.
    turned = np.unwrap(wave.angle().numpy())
    found = np.polyfit(problem.grid.axis(0).numpy(), turned, 1)[0]
    assert found / k - 1 == pytest.approx((k / n) ** 2 / 24, rel=0.05)


def test_power_of_the_source_leaves_through_the_walls() -> None:
    problem = Helmholtz(resolution=32, wavenumber=12.0, **ABSORBING)  # type: ignore[arg-type]
    inputs = problem.sample([0, 1, 2], 0)
    outputs, _ = problem.solve(inputs, method="scipy")
    _, let_out = absorbing_walls(12.0 * inputs[:, 0].sqrt(), problem.grid)
    given = (-outputs[:, 1] * inputs[:, 1]).flatten(1).sum(1)
    lost = (let_out * outputs.square().sum(1)).flatten(1).sum(1)
    # Im(ū (A - iM) u) = -Σ M |u|² = Im Σ ū f = -Σ Im u f.
    torch.testing.assert_close(given, -lost, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "problem",
    [INDEFINITE, Helmholtz(resolution=10, wavenumber=6.0, **ABSORBING)],  # type: ignore[arg-type]
)
def test_matrices_are_symmetric_and_indefinite(problem: Helmholtz) -> None:
    small = dataclasses.replace(problem, resolution=max(10, problem.resolution // 2 + 12))
    system = small.system(small.sample([1], 0))
    assert system.kind == "symmetric"
    matrix = torch.from_numpy(system.to_csr(0).toarray())
    assert torch.equal(matrix, matrix.T)
    values = torch.linalg.eigvalsh(matrix)
    assert float(values.min()) < 0 < float(values.max())


@pytest.mark.parametrize("problem", [INDEFINITE, Helmholtz(resolution=32), Helmholtz(resolution=32, **ABSORBING)])  # type: ignore[arg-type]
def test_solutions_meet_their_systems_and_every_symmetry(problem: Helmholtz) -> None:
    inputs = problem.sample([3], 1)
    outputs, solution = problem.solve(inputs, method="scipy")
    assert bool(solution.converged.all())
    assert float(problem.balance(inputs, outputs)["flux"]) < 1e-9
    assert len(problem.symmetries()) == 8
    for symmetry in problem.symmetries():
        moved, _ = problem.solve(symmetry(inputs), method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-6, atol=1e-8)


def test_media_are_drawn_as_documented_and_refine_with_the_grid() -> None:
    bumps = Helmholtz(resolution=32).sample(range(100), 0)
    assert float(bumps[:, 0].min()) >= 1.0
    assert 0.25 <= float(bumps[:, 1].min()) <= float(bumps[:, 1].max()) <= 0.5
    gaussian = INDEFINITE.sample(range(50), 0)[:, 0].sqrt()
    assert 0.8 <= float(gaussian.min()) < 0.9 < 1.1 < float(gaussian.max()) <= 1.2
    fine = Helmholtz(resolution=96).sample([4], 0)[..., 1::3, 1::3]
    torch.testing.assert_close(Helmholtz(resolution=32).sample([4], 0), fine, rtol=1e-10, atol=1e-10)


def test_a_drawn_wavenumber_is_an_input_and_acts_as_a_setting_would() -> None:
    ranged = dataclasses.replace(INDEFINITE, wavenumber=[10.0, 20.0])
    assert [field.name for field in ranged.inputs] == ["medium", "source", "wavenumber"]
    inputs = ranged.sample([0, 1], 0)
    drawn = float(inputs[0, 2, 0, 0])
    fixed = dataclasses.replace(INDEFINITE, wavenumber=drawn)
    assert 10.0 <= drawn <= 20.0
    torch.testing.assert_close(fixed.sample([0], 0), inputs[:1, :2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        ranged.system(inputs).coefficients[0], fixed.system(inputs[:1, :2]).coefficients[0], rtol=1e-12, atol=1e-10
    )


@pytest.mark.parametrize("walls", ["dirichlet", "absorbing"])
def test_residual_is_differentiable_in_inputs_and_outputs(walls) -> None:
    problem = Helmholtz(resolution=4, wavenumber=[1.5, 2.0], medium="gaussian", source="gaussian", walls=walls)
    inputs = problem.sample([0], 0).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    outputs = torch.rand(1, len(problem.outputs), 4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs))


def test_a_dataset_holds_both_parts_of_the_wave(tmp_path) -> None:
    problem = Helmholtz(resolution=16, wavenumber=4.0, **ABSORBING)  # type: ignore[arg-type]
    generate(problem, tmp_path / "data", counts={"train": 2}, seed=0, solver="scipy")
    data = FieldDataset(tmp_path / "data", "train")
    assert list(data.output_names) == ["wave_real", "wave_imaginary"]
    expected, _ = problem.solve(problem.sample([0, 1], 0), method="scipy")
    torch.testing.assert_close(data.batch([0, 1])[1], expected.float(), rtol=1e-5, atol=1e-6)


def test_the_guess_is_the_value_of_the_walls() -> None:
    problem = Helmholtz(resolution=32)
    inputs = problem.sample([0], 0)
    assert torch.equal(problem.guess(inputs), inputs[:, 1:])
    assert not INDEFINITE.guess(INDEFINITE.sample([0], 0)).any()


def test_shifts_stay_on_grids_that_hold_their_waves() -> None:
    assert len(INDEFINITE.shifts()) == 2
    edge = Helmholtz(resolution=29)
    assert list(edge.shifts()) == []
    for other in INDEFINITE.shifts().values():
        assert other.grid == INDEFINITE.grid


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 16}, r"gives 4.5 points per wave, and at least 8 are needed: 29 or more"),
        ({"wavenumber": [3.0, 200.0]}, "points per wave"),
        ({"wavenumber": -1.0}, "wavenumber = -1.0"),
        ({"medium": "glass"}, "bumps, gaussian, uniform"),
        ({"walls": "open"}, "dirichlet, absorbing"),
        ({"walls": "absorbing"}, "nothing excites a wave"),
        ({"wall_low": 0.0, "wall_high": 0.0}, "nothing excites a wave"),
        ({"wall_low": 1.0}, "the lower first"),
        ({"height_low": -0.5}, "at least 0"),
        ({"contrast": 1.0}, "below 1"),
        ({"dimension": 3, "walls": "absorbing", "source": "bumps"}, "in 3D choose dirichlet"),
        ({"dimension": 4}, "1, 2 and 3"),
        ({"resolution": 3}, "at least 4"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Helmholtz(**settings)
    assert "\n" not in str(caught.value)


def test_a_medium_that_is_not_positive_is_refused_by_name() -> None:
    problem = Helmholtz(resolution=32)
    with pytest.raises(InputError, match="medium of sample 1 is not positive"):
        problem.solve(torch.cat([problem.sample([0], 0), -problem.sample([1], 0)]))
