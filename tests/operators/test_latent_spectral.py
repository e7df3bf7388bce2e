"""The latent spectral model: the published network layer by layer, grids of any size, symmetries, and bad input."""

import pytest
import torch
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators import LatentSpectralOperator, build_operator, parameter_count
from fieldwright.operators.latent_spectral_network import BatchNormalisation, scale_widths
from fieldwright.training.lion_k import LionK


def small(**settings) -> LatentSpectralOperator:
    torch.manual_seed(0)
    given = {"width": 8, "scales": 3, "patch": 2, "tokens": 3, "bases": 4, "heads": 4, "projection": 10}
    return LatentSpectralOperator(2, 3, **{**given, **settings}).double()


@pytest.mark.parametrize(
    ("width", "in_channels", "published"),
    [(64, 1, 19_187_457), (64, 10, 19_188_033), (32, 2, 4_812_833), (48, 2, 10_804_913)],
)
def test_has_the_published_parameters_but_for_those_without_effect(width, in_channels, published):
    with torch.device("meta"):
        operator = LatentSpectralOperator(in_channels, 1, width=width, norm="batch")
    channels = sum(scale_widths(width, 5, 8))
    sine_of_zero, key_bias, linear_before_linear = channels, channels, width * (width + 1)
    assert parameter_count(operator) + sine_of_zero + key_bias + linear_before_linear == published


def test_matches_the_published_network_evaluated_layer_by_layer():
    operator = small(align_corners=True, norm="batch", centring="node", widest=4)
    network, x = operator.network, torch.randn(2, 2, 16, 12, dtype=torch.float64)

    def double(part, v):
        for convolution, norm in ((part.first, part.first_norm), (part.second, part.second_norm)):
            v = functional.conv2d(v, convolution.weight, padding=1)
            mean, variance = v.mean((0, 2, 3), keepdim=True), v.var((0, 2, 3), keepdim=True, unbiased=False)
            v = (v - mean) / (variance + 1e-5).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
            v = v.relu()
        return v

    axes = torch.linspace(0, 1, 16, dtype=torch.float64), torch.linspace(0, 1, 12, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(2, -1, -1, -1)
    v = functional.conv2d(torch.cat((x, points), 1), operator.lift.weight[..., None, None], operator.lift.bias)
    x1 = double(network.down[0], v)
    x2 = double(network.down[1], functional.max_pool2d(x1, 2))
    x3 = double(network.down[2], functional.max_pool2d(x2, 2))
    y = network.blocks[2](x3)
    for part, block, skip in ((network.up[1], network.blocks[1], x2), (network.up[0], network.blocks[0], x1)):
        up = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        y = double(part, torch.cat((block(skip), up), 1))
    y = functional.gelu(functional.conv2d(y, operator.hidden.weight[..., None, None], operator.hidden.bias))
    expected = functional.conv2d(y, operator.head.weight[..., None, None], operator.head.bias)
    assert torch.allclose(operator(x), expected, rtol=0, atol=1e-12)


def test_batch_normalisation_is_the_usual_one_and_takes_one_value_a_channel_by_the_running_statistics():
    ours, usual = BatchNormalisation(3).double(), torch.nn.BatchNorm2d(3).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert torch.equal(ours(x), usual(x))
    assert torch.equal(ours.running_var, usual.running_var)
    assert torch.equal(ours.eval()(x), usual.eval()(x))
    single, before = x[:1, :, :1, :1], ours.running_mean.clone()
    assert torch.equal(ours.train()(single), usual(single))
    assert torch.equal(ours.running_mean, before)


def test_upsampling_between_centres_is_linear_and_wraps_around_periodic_axes():
    network = small(dimension=1, boundary="periodic").network
    wave = torch.randn(1, 1, 6, dtype=torch.float64)
    fine = network._upsample(wave, (12,))
    assert torch.allclose(fine[..., ::2], 0.75 * wave + 0.25 * wave.roll(1, -1))
    assert torch.allclose(fine[..., 1::2], 0.75 * wave + 0.25 * wave.roll(-1, -1))
    ramp = small(dimension=1).network._upsample(torch.arange(5).double().view(1, 1, 5), (9,))
    assert torch.allclose(ramp[0, 0, 1:], torch.arange(8).double() / 2 + 0.25)


def test_widths_double_from_scale_to_scale_but_for_the_coarsest():
    assert scale_widths(32, 5, 8) == [32, 64, 128, 256, 256]
    assert scale_widths(8, 6, 8) == [8, 16, 32, 64, 64, 64]
    assert scale_widths(8, 6, 100) == [8, 16, 32, 64, 128, 128]
    assert [scale_widths(4, scales, 8) for scales in (1, 2, 3)] == [[4], [4, 4], [4, 8, 8]]


@pytest.mark.parametrize("shape", [(37,), (4,), (33, 50), (4, 7), (16, 16), (9, 12, 7)])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_grids_of_any_size_and_dimension(shape, boundary, align_corners):
    operator = small(dimension=len(shape), boundary=boundary, align_corners=align_corners)
    outputs = operator(torch.randn(2, 2, *shape, dtype=torch.float64))
    assert outputs.shape == (2, 3, *shape)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("scales", [1, 2, 3, 6])
def test_any_depth_of_scales(scales):
    operator = small(scales=scales, widest=2)
    assert operator(torch.randn(1, 2, 32, 35, dtype=torch.float64)).shape == (1, 3, 32, 35)


def test_commutes_with_shifts_by_coarse_patches_of_a_periodic_box():
    operator = small(boundary="periodic", coordinates=False)
    x = torch.randn(2, 2, 16, 24, dtype=torch.float64)
    assert torch.allclose(operator(x.roll((8, 16), (2, 3))), operator(x).roll((8, 16), (2, 3)), atol=1e-12)
    assert not torch.allclose(operator(x.roll(1, 2)), operator(x).roll(1, 2), atol=1e-3)


@pytest.mark.parametrize(("norm", "alone"), [("group", True), ("batch", False)])
def test_samples_of_a_batch_do_not_know_of_each_other(norm, alone):
    operator, x = small(norm=norm), torch.randn(3, 2, 12, 12, dtype=torch.float64)
    assert torch.allclose(operator(x)[:1], operator(x[:1]), atol=1e-10) is alone
    operator.eval()
    assert torch.allclose(operator(x)[:1], operator(x[:1]), atol=1e-10)


def test_an_input_at_one_corner_reaches_the_opposite_one():
    operator, x = small(coordinates=False), torch.randn(1, 2, 17, 18, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, 0, 0] += 1
    assert (operator(changed) - operator(x))[..., -1, -1].abs().max() > 1e-9


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("coordinates", [False, True])
def test_every_parameter_has_a_gradient_and_changes_the_output(norm, coordinates):
    operator = small(norm=norm, coordinates=coordinates)
    x = torch.randn(2, 2, 12, 10, dtype=torch.float64)
    before = operator(x)
    before.square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            saved = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(operator(x), before), name
            parameter.copy_(saved)


def test_computing_features_again_gives_the_same_gradients():
    x = torch.randn(2, 2, 13, 10, dtype=torch.float64)
    gradients = []
    for recompute in (False, True):
        operator = small(recompute=recompute)
        operator(x).square().sum().backward()
        gradients.append([p.grad for p in operator.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*gradients, strict=True))


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = LatentSpectralOperator(1, 1, width=16, scales=3, patch=3, heads=4)
    x, y = torch.randn(2, 2, 1, 12, 12)
    optimizer = LionK(operator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean() / y.square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


def test_recipes_name_it_and_give_it_the_walls_of_the_problem():
    walls = Boundary.parse([["neumann", "dirichlet"], "periodic", "periodic"], 3)
    settings = {"width": 8, "scales": 3, "patch": [2, 1, 2]}
    operator = build_operator("latent_spectral", settings, 2, 1, 3, walls)
    assert operator.network.walls.rules == (("even", "zero"), ("wrap", "wrap"), ("wrap", "wrap"))
    assert operator(torch.randn(1, 2, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, "multiple of the 4 heads, 32 say"),
        ({"patch": 0}, "patch: 0"),
        ({"patch": [4, 4, 4]}, "one for each of the 2 axes"),
        ({"bases": 1}, "2 bases or more"),
        ({"scales": 0}, "scales: 0"),
        ({"norm": "layer"}, "allowed are group, batch"),
        ({"centring": "face"}, "allowed are node"),
        ({"dimension": 5}, "allowed are 1, 2 and 3"),
        ({"activation": "relo"}, "there are gelu"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 3, 9), "3 x 9 points; 3 scales take at least 4 per axis; .* scales=2 or fewer"),
        ((1, 3, 8, 8), "3 channels; the operator takes 2"),
        ((1, 2, 8), "2 axes of space"),
    ],
)
def test_impossible_inputs_are_refused_in_one_sentence(shape, message):
    with pytest.raises(InputError, match=message):
        small()(torch.randn(shape, dtype=torch.float64))


def test_lead_time_is_refused():
    with pytest.raises(InputError, match="lead_time"):
        small()(torch.randn(1, 2, 8, 8, dtype=torch.float64), 1.0)
