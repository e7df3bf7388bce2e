"""The latent spectral model on point clouds: its transforms by definition, and what it must not depend on."""

import itertools
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators import LatentSpectralPointOperator, load_operator, parameter_count, save_operator
from fieldwright.operators.latent_spectral_network import scale_widths
from fieldwright.operators.scattered_fourier import analyse_points, mix_modes, synthesise_points, waves
from fieldwright.operators.truncated_fourier import add_synthesis, analyse, kept_wavenumbers
from fieldwright.training.lion_k import LionK


def small(**settings) -> LatentSpectralPointOperator:
    torch.manual_seed(0)
    given = {"grid": 8, "modes": 4, "width": 8, "scales": 2, "patch": 2, "tokens": 3, "bases": 3, "heads": 2}
    return LatentSpectralPointOperator(1, 2, **{**given, "projection": 9, **settings}).double()


def cloud(dimension: int = 2, *, count: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, count, 1, dtype=torch.float64), torch.rand(2, count, dimension, dtype=torch.float64)


@pytest.mark.parametrize("modes", [(5,), (4, 5), (3, 4, 2)])
def test_transforms_of_points_match_their_sums(modes):
    points = cloud(len(modes), count=6)[1]
    v = torch.randn(2, 6, 3, dtype=torch.float64)
    last = len(modes) - 1
    axes = [kept_wavenumbers(99, m, half=a == last) for a, m in enumerate(modes)]
    spectrum = torch.view_as_complex(analyse_points(v, points, modes))
    field = torch.zeros(2, 6, 3, dtype=torch.float64)
    for place, k in zip(itertools.product(*(range(len(a)) for a in axes)), itertools.product(*axes), strict=True):
        wave = torch.exp(-2j * math.pi * (points @ torch.tensor(k, dtype=torch.float64)))
        coefficient = (v * wave[..., None]).mean(1)
        assert torch.allclose(spectrum[(..., *place)], coefficient, atol=1e-12)
        field += (1 if k[-1] == 0 else 2) * (coefficient[:, None] * wave.conj()[..., None]).real
    assert torch.allclose(synthesise_points(torch.view_as_real(spectrum), points, modes), field, atol=1e-12)


def test_transforms_on_the_points_of_a_grid_are_those_of_the_grid():
    modes, v = (4, 5), torch.randn(2, 3, 8, 9, dtype=torch.float64)
    axes = torch.arange(8).double() / 8, torch.arange(9).double() / 9
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1).expand(2, -1, -1)
    spectrum = analyse(v, modes)
    assert torch.allclose(analyse_points(v.flatten(2).mT, points, modes), spectrum, atol=1e-12)
    field = add_synthesis(torch.zeros_like(v), spectrum, modes)
    assert torch.allclose(synthesise_points(spectrum, points, modes), field.flatten(2).mT, atol=1e-12)


def test_mixing_multiplies_complex_matrices():
    spectrum = torch.randn(2, 3, 4, 5, 2, dtype=torch.float64)
    weight = torch.randn(4, 5, 3, 2, 6, dtype=torch.float64)
    matrices = torch.complex(weight[..., 0, :], weight[..., 1, :])
    expected = torch.einsum("bixy,xyio->boxy", torch.view_as_complex(spectrum), matrices)
    assert torch.allclose(torch.view_as_complex(mix_modes(spectrum, weight)), expected, atol=1e-12)


def test_has_the_published_parameters_but_for_those_without_effect():
    with torch.device("meta"):
        operator = LatentSpectralPointOperator(0, 1, norm="batch")
    map_of_coordinates = parameter_count(operator.coordinate_map)
    shape_code = (42 + 1) * 32  # a layer for codes of shapes, which the published elasticity model does not use
    assert map_of_coordinates + shape_code == 63_746
    channels, width = sum(scale_widths(32, 5, 8)), 32
    without_effect = 2 * channels + width * (width + 1)  # key biases, sine of zero, linear before linear
    last_wavenumber = 2 * 24 * width * 2 * width  # of the last axis 0..12 are kept, as published 0..11
    assert parameter_count(operator) - map_of_coordinates + without_effect - last_wavenumber == 5_992_609


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("deform", [False, True])
def test_the_order_of_points_does_not_matter(dimension, deform):
    operator, (f, x) = small(dimension=dimension, deform=deform), cloud(dimension)
    order = torch.randperm(23)
    outputs = operator(f, x)
    assert outputs.shape == (2, 23, 2)
    assert torch.allclose(operator(f[:, order], x[:, order]), outputs[:, order], atol=1e-12)
    assert torch.allclose(operator(f, x, x[:, order[:4]]), outputs[:, order[:4]], atol=1e-12)


def test_a_cloud_given_twice_is_the_same_cloud():
    operator, (f, x) = small(), cloud()
    twice = operator(torch.cat((f, f), 1), torch.cat((x, x), 1), x)
    assert torch.allclose(twice, operator(f, x), atol=1e-12)


def test_points_without_features():
    torch.manual_seed(0)
    operator = LatentSpectralPointOperator(0, 1, grid=8, modes=4, width=8, scales=2, patch=2)
    assert operator(torch.empty(2, 7, 0), torch.rand(2, 7, 2)).shape == (2, 7, 1)


def test_every_parameter_has_a_gradient_and_changes_the_output():
    operator, (f, x) = small(), cloud()
    before = operator(f, x)
    before.square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            saved = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(operator(f, x), before), name
            parameter.copy_(saved)


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = LatentSpectralPointOperator(1, 1, grid=12, modes=8, width=16, scales=2, patch=3)
    f, x, y = torch.randn(2, 20, 1), torch.rand(2, 20, 2), torch.randn(2, 20, 1)
    optimizer = LionK(operator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (operator(f, x) - y).square().mean() / y.square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


def test_store_round_trip_keeps_the_coordinate_map(tmp_path):
    operator, (f, x) = small().float().eval(), cloud()
    save_operator(operator, tmp_path / "model")
    loaded = load_operator(tmp_path / "model")
    assert loaded.coordinate_map is not None
    assert torch.equal(loaded(f.float(), x.float()), operator(f.float(), x.float()))


def test_bfloat16_is_close_to_float32():
    operator, (f, x) = small().float(), cloud()
    exact = operator(f.float(), x.float())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = operator(f.float(), x.float())
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": 8}, "fewer than the 8 points"),
        ({"scales": 5}, "5 scales take at least 16 points"),
        ({"width": 9}, "multiple of the 2 heads, 10 say"),
        ({"dimension": 4}, "allowed are 1, 2 and 3"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_impossible_points_are_refused_in_one_sentence():
    operator, (f, x) = small(), cloud()
    with pytest.raises(InputError, match="outside the unit box"):
        operator(f, x + 1)
    with pytest.raises(InputError, match="queries: some lie outside"):
        operator(f, x, x - 1)
    with pytest.raises(InputError, match="2 features a point; the operator takes 1"):
        operator(torch.cat((f, f), -1), x)
    with pytest.raises(InputError, match=r"takes \(batch, point, 2\)"):
        operator(f, cloud(3)[1])
    assert waves(x, (4, 5))[2] == (4, 3)
