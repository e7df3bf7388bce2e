"""FNO and its truncated transforms against Fourier transforms by definition, and its behaviour across resolutions."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.operators import FourierOperator, parameter_count
from fieldwright.operators.spectral import SpectralConvolution
from fieldwright.operators.truncated_fourier import add_synthesis, analyse, kept_wavenumbers


def small(**settings) -> FourierOperator:
    return FourierOperator(2, 3, **{"modes": 5, "width": 6, "layers": 2, **settings}).double()


def waves(shape, modes):
    last = len(shape) - 1
    return [kept_wavenumbers(n, m, half=a == last) for a, (n, m) in enumerate(zip(shape, modes, strict=True))]


@given(
    shape=st.lists(st.integers(2, 9), min_size=1, max_size=3), modes=st.lists(st.integers(1, 7), min_size=3, max_size=3)
)
@settings(max_examples=30, deadline=None)
def test_analysis_matches_the_sum_over_points(shape, modes):
    modes = modes[: len(shape)]
    field = torch.randn(1, 2, *shape, dtype=torch.float64)
    spectrum = torch.view_as_complex(analyse(field, modes).contiguous())
    points = torch.stack(torch.meshgrid(*(torch.arange(n).double() / n for n in shape), indexing="ij"))
    for place, k in zip(
        itertools.product(*(range(len(w)) for w in waves(shape, modes))),
        itertools.product(*waves(shape, modes)),
        strict=True,
    ):
        phase = sum(ki * xi for ki, xi in zip(k, points, strict=True))
        expected = (field * torch.exp(-2j * math.pi * phase)).flatten(2).mean(-1)
        assert torch.allclose(spectrum[:, :, *place], expected, atol=1e-12)


@given(shape=st.lists(st.integers(2, 9), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_all_modes_give_the_field_back(shape):
    modes = [n + 1 for n in shape]
    field, base = torch.randn(2, 1, 2, *shape, dtype=torch.float64)
    assert torch.allclose(add_synthesis(base, analyse(field, modes), modes), base + field, atol=1e-12)


@pytest.mark.parametrize("shape", [(9,), (8, 10), (7, 12), (4, 6, 5)])
def test_spectral_convolution_matches_complex_fourier_transforms(shape):
    modes = (4, 5, 3)[: len(shape)]
    layer = SpectralConvolution(2, 3, modes).double()
    torch.nn.init.normal_(layer.bias)
    v, onto = torch.randn(2, 2, *shape, dtype=torch.float64), torch.randn(2, 3, *shape, dtype=torch.float64)
    axes = tuple(range(2, 2 + len(shape)))
    spectrum = torch.fft.rfftn(v, dim=axes, norm="forward")
    mixed = torch.zeros(2, 3, *spectrum.shape[2:], dtype=torch.complex128)
    for k in itertools.product(*waves(shape, modes)):
        index = [ki + m // 2 for ki, m in zip(k[:-1], modes[:-1], strict=True)] + [k[-1]]
        matrix = layer.weight.detach()[tuple(index)]
        mixed[:, :, *k] = spectrum[:, :, *k] @ torch.complex(matrix[:, 0], matrix[:, 1])
    expected = (
        onto + torch.fft.irfftn(mixed, s=shape, dim=axes, norm="forward") + layer.bias.view(-1, *(1,) * len(shape))
    )
    assert torch.allclose(layer(v, onto), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 64), (12, 32)])
def test_equals_the_network_of_neuraloperator_weight_for_weight(shape):
    models = pytest.importorskip("neuralop.models", reason="neuraloperator is in the extra 'peers'")
    theirs = models.FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=8, n_layers=2)
    ours = FourierOperator(1, 1, width=8, layers=2, centring="periodic")
    weights = {}
    for i in range(2):
        block = theirs.fno_blocks
        weights[f"spectral.{i}.weight"] = torch.view_as_real(block.convs[i].weight.tensor).permute(2, 3, 0, 4, 1)
        weights[f"spectral.{i}.bias"] = block.convs[i].bias.flatten()
        weights[f"skips.{i}.weight"] = block.fno_skips[i].conv.weight[..., 0]
        weights[f"gates.{i}"] = block.channel_mlp_skips[i].weight.flatten()
    perceptrons = {"lift": theirs.lifting, "project": theirs.projection}
    perceptrons |= {f"mixers.{i}": theirs.fno_blocks.channel_mlp[i] for i in range(2)}
    for name, perceptron in perceptrons.items():
        for place, layer in zip(("first", "second"), perceptron.fcs, strict=True):
            weights[f"{name}.{place}.weight"], weights[f"{name}.{place}.bias"] = layer.weight[..., 0], layer.bias
    ours.load_state_dict(weights, strict=True)
    x = torch.randn(2, 1, *shape)
    assert parameter_count(ours) == parameter_count(theirs)
    assert (ours(x) - theirs(x)).norm() < 1e-5 * theirs(x).norm()


def test_is_one_operator_on_all_grids_that_resolve_the_input():
    # Band-limited periodic input, no pointwise nonlinearity that makes new frequencies: exact on every grid.
    operator = small(activation="identity", coordinates=False, centring="periodic")

    def fields(n: int) -> torch.Tensor:
        x = torch.arange(n, dtype=torch.float64) / n
        wave = torch.cos(2 * math.pi * x)[:, None] + torch.sin(4 * math.pi * x)
        return torch.stack((wave, wave**2 / 4))[None]

    coarse, fine = operator(fields(16)), operator(fields(48))
    assert torch.allclose(fine[..., ::3, ::3], coarse, atol=1e-12)


def test_refining_the_grid_converges_with_the_nonlinearity_too():
    torch.manual_seed(0)
    operator = small(centring="periodic", coordinates=False)

    def at(n: int) -> torch.Tensor:
        x = torch.arange(n, dtype=torch.float64) / n
        wave = torch.exp(torch.sin(2 * math.pi * x))[:, None] * torch.cos(2 * math.pi * x)
        return operator(torch.stack((wave, wave))[None])

    finest = at(128)
    errors = [(at(n) - finest[..., :: 128 // n, :: 128 // n]).norm() / math.sqrt(n**2) for n in (8, 32)]
    assert errors[1] < 1e-2 * errors[0]


def test_commutes_with_every_shift_of_a_periodic_box():
    operator, x = small(coordinates=False), torch.randn(2, 2, 15, 12, dtype=torch.float64)
    assert torch.allclose(operator(x.roll((4, 7), (2, 3))), operator(x).roll((4, 7), (2, 3)), atol=1e-12)


@pytest.mark.parametrize("channel_mlp", [0.0, 0.5])
@pytest.mark.parametrize("coordinates", [False, True])
def test_every_parameter_has_a_gradient_and_changes_the_output(channel_mlp, coordinates):
    operator = small(channel_mlp=channel_mlp, coordinates=coordinates)
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


@pytest.mark.parametrize("shape", [(37,), (33, 50), (3, 4), (9, 12, 7)])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_grids_of_any_size_and_dimension(shape, padding):
    operator = small(dimension=len(shape), padding=padding)
    outputs = operator(torch.randn(2, 2, *shape, dtype=torch.float64))
    assert outputs.shape == (2, 3, *shape)
    assert outputs.isfinite().all()


def test_padding_lengthens_only_the_axes_that_are_not_periodic():
    operator = small(padding=0.25, boundary=["periodic", "dirichlet"], coordinates=False)
    x = torch.randn(1, 2, 12, 16, dtype=torch.float64)
    assert torch.allclose(operator(x.roll(5, 2)), operator(x).roll(5, 2), atol=1e-12)
    assert not torch.allclose(operator(x.roll(5, 3)), operator(x).roll(5, 3), atol=1e-3)


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = FourierOperator(1, 1, modes=8, width=16, layers=2)
    x, y = torch.randn(2, 2, 1, 12, 12)
    optimizer = torch.optim.Adam(operator.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


def test_runs_in_inference_mode_first_and_trains_afterwards():
    operator, x = small(modes=3), torch.randn(1, 2, 11, 13, dtype=torch.float64)
    with torch.inference_mode():
        operator(x)
    operator(x).sum().backward()
    assert all(p.grad is not None for p in operator.parameters())


def test_transforms_keep_their_digits_under_autocast():
    torch.manual_seed(0)
    layer, v = SpectralConvolution(4, 4, (5, 5)), torch.randn(1, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer(v, torch.zeros_like(v))
    assert torch.equal(outputs, layer(v, torch.zeros_like(v)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": 0}, "modes: 0"),
        ({"modes": [4, 4, 4]}, "one for each of the 2 axes"),
        ({"padding": -0.1}, "padding: -0.1"),
        ({"layers": 0}, "layers: 0"),
        ({"centring": "face"}, "allowed are node"),
        ({"dimension": 5}, "allowed are 1, 2 and 3"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_lead_time_is_refused():
    with pytest.raises(InputError, match="lead_time"):
        small()(torch.randn(1, 2, 8, 8, dtype=torch.float64), 1.0)
