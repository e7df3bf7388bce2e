"""The output layer against transforms by definition, its refinement to more modes, and divergence-free fields."""

import itertools
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators import SpatiotemporalFourierOperator, SpectralOutputLayer
from fieldwright.operators.divergence_free import divergence_free
from fieldwright.operators.time_modes import modes_of_times, values_at_times
from fieldwright.operators.truncated_fourier import kept_wavenumbers


def close(a: torch.Tensor, b: torch.Tensor, atol: float) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol * max(1.0, float(b.detach().abs().max())))


def layer(channels=2, modes=(5, 4, 6), horizon=1.5, **settings) -> SpectralOutputLayer:
    torch.manual_seed(0)
    made = SpectralOutputLayer(channels, modes, horizon, **settings).double()
    if made.bias is not None:
        torch.nn.init.normal_(made.bias)
    return made


def test_matches_the_sum_over_modes_of_the_latent_states_and_as_many_zeros():
    output, latent = layer(), torch.randn(2, 4, 2, 6, 7, dtype=torch.float64)
    steps, horizon = 3, 1.5
    padded = torch.cat((latent, torch.zeros_like(latent)), 1)
    period = 2 * (steps + 1) * horizon / steps
    spectrum = torch.fft.fftn(padded, dim=(1, 3, 4), norm="forward")
    times = torch.tensor([0.1, 0.9, 1.5], dtype=torch.float64)
    grid = [torch.arange(n, dtype=torch.float64) / n for n in (6, 7)]
    expected = latent[:, :1].repeat(1, 3, 1, 1, 1)
    ranges = [kept_wavenumbers(n, m, half=a == 2) for a, (n, m) in enumerate(zip((8, 6, 7), (5, 4, 6), strict=True))]
    for w, k, l in itertools.product(*ranges):  # noqa: E741 (wavenumbers)
        place = (w + 2, k + 2, l)
        matrix = torch.view_as_complex(output.weight.detach()[place].movedim(1, -1).contiguous())
        number = spectrum[:, w, :, k, l] @ matrix + torch.view_as_complex(output.bias.detach()[place].contiguous())
        wave = torch.exp(2j * math.pi * (k * grid[0][:, None] + l * grid[1]))
        turn = torch.exp(2j * math.pi * w * times / period)
        term = (number[:, None, :, None, None] * turn[None, :, None, None, None] * wave).real
        expected = expected + (1 if l == 0 else 2) * term
    assert close(output(latent, times[None]), expected, atol=1e-12)


def test_modes_in_time_and_back_are_the_discrete_fourier_transform():
    spectra = torch.randn(2, 6, 3, 4, 2, dtype=torch.float64)
    times = torch.arange(6, dtype=torch.float64) * 0.5
    waves = kept_wavenumbers(6, 7, half=False)
    found = modes_of_times(spectra, times, waves, 3.0, 6)
    values = torch.view_as_complex(spectra)
    expected = torch.fft.fftshift(torch.fft.fft(values, dim=1, norm="forward"), 1).movedim(1, 2)
    assert close(torch.view_as_complex(found), expected, atol=1e-13)
    assert close(values_at_times(found, times[None], waves, 3.0), spectra, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lengths", [None, (1.0, 2.0)])
@pytest.mark.parametrize("finer", [(5, 4, 6), (8, 9, 11), (7, 64, 64)])
def test_more_modes_are_the_same_map_until_they_are_trained(bias, lengths, finer):
    output, latent = layer(bias=bias, lengths=lengths), torch.randn(2, 4, 2, 12, 14, dtype=torch.float64)
    times = torch.tensor([[0.1, 0.7, 1.5]])
    refined = output.with_modes(finer)
    assert refined.modes == finer
    assert close(refined(latent, times), output(latent, times), atol=1e-13)
    refined(latent, times).square().sum().backward()
    assert refined.bias.grad.abs().max() > 0
    assert refined.weight.grad.abs().max() > 0


def test_a_finer_layer_takes_the_place_of_the_operators_own():
    torch.manual_seed(0)
    operator = SpatiotemporalFourierOperator(1, 1, modes=4, time_modes=3, width=4, layers=2, latent_steps=4)
    inputs, times = torch.randn(1, 5, 1, 12, 12), torch.tensor([[0.5, 1.0]])
    with torch.no_grad():
        latent = operator.latent(inputs)
        refined = operator.output_layer.with_modes((5, 12, 12))
        assert close(refined(latent, times), operator(inputs, times), atol=1e-6)
        refined.bias[2, 6 + 5, 3, 0, 0] += 1.0
        change = refined(latent, times) - operator(inputs, times)
    # One number is one wave of the output: all of it lies in that wave, and its size is the same on every grid.
    spectrum = torch.fft.rfft2(change[0, 0, 0], norm="forward")
    assert abs(spectrum[5, 3]) == pytest.approx(1.0, rel=1e-5)
    assert spectrum.abs().square().sum() == pytest.approx(1.0, rel=1e-5)


def test_fewer_modes_are_refused():
    with pytest.raises(InputError, match=r"modes: \[5, 3, 6\]; the layer has \[5, 4, 6\]"):
        layer().with_modes((5, 3, 6))
    with pytest.raises(InputError, match="at least these"):
        layer().with_modes((5, 4))


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (7, 11), (6, 5, 8)])
def test_divergence_free_fields_have_no_divergence_and_stay(shape):
    lengths = (1.0, 3.0, 0.5)[: len(shape)]
    field = torch.randn(2, len(shape), *shape, dtype=torch.float64)
    found = divergence_free(field, lengths)
    axes = tuple(range(1, len(shape) + 1))
    divergence = torch.zeros(2, *shape, dtype=torch.complex128)
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        wave = torch.fft.fftfreq(n, length / n, dtype=torch.float64) * 2 * math.pi
        wave[n // 2] = 0 if n % 2 == 0 else wave[n // 2]
        divergence += 1j * wave.view(-1, *(1,) * (len(shape) - axis - 1)) * torch.fft.fftn(found[:, axis], dim=axes)
    assert divergence.abs().max() < 1e-10 * field.abs().max() * math.prod(shape)
    assert close(divergence_free(found, lengths), found, atol=1e-12)
    assert close(found.flatten(2).mean(2), field.flatten(2).mean(2), atol=1e-13)


def test_a_gradient_has_no_divergence_free_part_and_a_curl_is_all_of_it():
    x, y = torch.meshgrid(torch.arange(16).double() / 8, torch.arange(10).double() / 10 * 3, indexing="ij")
    a, b = math.pi * x, 2 * math.pi / 3 * y
    gradient = torch.stack((math.pi * a.cos() * b.cos(), -2 * math.pi / 3 * a.sin() * b.sin()))[None]
    curl = torch.stack((-2 * math.pi / 3 * a.sin() * b.sin(), -math.pi * a.cos() * b.cos()))[None]
    assert divergence_free(gradient, (2.0, 3.0)).abs().max() < 1e-13
    assert close(divergence_free(gradient + curl, (2.0, 3.0)), curl, atol=1e-13)


def test_velocities_of_an_operator_have_no_divergence_at_any_time_on_any_grid():
    torch.manual_seed(0)
    operator = SpatiotemporalFourierOperator(
        2, 2, modes=6, time_modes=5, width=4, layers=2, divergence_free=True, lengths=[2.0, 1.0]
    ).double()
    for shape in ((12, 12), (15, 8)):
        states = operator(torch.randn(1, 3, 2, *shape, dtype=torch.float64), torch.tensor([0.3, 1.0]))
        flat = states.flatten(0, 1)
        assert close(divergence_free(flat, (2.0, 1.0)), flat, atol=1e-12)
