"""The neural spectral block against its equations, patch by patch and head by head."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.operators.spectral_block import Series, SpectralBlock, from_patches, to_patches


def block(channels=6, patch=(3, 2), *, tokens=4, bases=5, heads=3) -> SpectralBlock:
    built = SpectralBlock(channels, patch, tokens=tokens, bases=bases, heads=heads).double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return built


def by_definition(block: SpectralBlock, x: torch.Tensor, key_bias: torch.Tensor) -> torch.Tensor:
    """The block on the points (point, channel) of one patch: keys, values and queries made, heads one by one."""
    keys = x @ block.keys.weight.T + key_bias
    values = x @ block.values.weight.T + block.values.bias
    queries = x @ block.queries.weight.T + block.queries.bias
    width = x.shape[1] // block.heads
    tokens, bases = block.latent.clone(), len(block.cosines)
    for h in range(block.heads):
        of = slice(h * width, (h + 1) * width)
        tokens[:, of] = block.latent[:, of] + (block.latent[:, of] @ keys[:, of].T).softmax(1) @ values[:, of]
    solved = tokens.clone()
    for i in range(bases):
        sine = block.sines[i - 1] if i else torch.zeros_like(block.cosines[0])
        solved = solved + sine * torch.sin(math.pi * i * tokens / bases)
        solved = solved + block.cosines[i] * torch.cos(math.pi * i * tokens / bases)
    out = x.clone()
    for h in range(block.heads):
        of = slice(h * width, (h + 1) * width)
        out[:, of] = x[:, of] + (queries[:, of] @ solved[:, of].T).softmax(1) @ solved[:, of]
    return out


@pytest.mark.parametrize(
    ("space", "patch"),
    [((12,), (4,)), ((13,), (4,)), ((6, 4), (3, 2)), ((7, 5), (3, 2)), ((2, 9), (3, 4)), ((3, 5, 4), (2, 2, 3))],
)
def test_every_patch_obeys_the_equations_also_where_it_reaches_past_the_grid(space, patch):
    torch.manual_seed(0)
    layer = block(patch=patch)
    v = torch.randn(2, 6, *space, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    expected = torch.empty_like(v)
    for sample, *corner in itertools.product(range(2), *(range(0, n, p) for n, p in zip(space, patch, strict=True))):
        of = (sample, slice(None), *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))
        points = v[of].flatten(1).T
        expected[of] = by_definition(layer, points, bias).T.reshape(v[of].shape)
    assert torch.allclose(layer(v), expected, rtol=0, atol=1e-12)


@given(
    space=st.lists(st.integers(1, 9), min_size=1, max_size=3), patch=st.lists(st.integers(1, 4), min_size=3, max_size=3)
)
@settings(max_examples=30, deadline=None)
def test_patches_give_the_field_back(space, patch):
    patch = tuple(patch[: len(space)])
    v = torch.randn(2, *space, 3)
    x = to_patches(v, patch)
    assert len(x) == 2 * math.prod(-(-n // p) for n, p in zip(space, patch, strict=True))
    assert torch.equal(from_patches(x, tuple(space), patch), v)


@pytest.mark.parametrize("bases", [2, 3, 12, 40])
def test_series_matches_its_sum_of_sines_and_cosines(bases):
    torch.manual_seed(0)
    tokens, sines, cosines = (torch.randn(n, 5, dtype=torch.float64) for n in (7, bases - 1, bases))
    tokens = tokens * 20
    i = torch.arange(bases, dtype=torch.float64)[:, None, None]
    angle = math.pi * i * tokens / bases
    expected = tokens + (cosines[:, None] * angle.cos()).sum(0) + (sines[:, None] * angle[1:].sin()).sum(0)
    assert torch.allclose(Series.apply(tokens, sines, cosines), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("bases", [2, 5])
def test_gradients_of_the_series_once_and_twice(bases):
    torch.manual_seed(0)
    inputs = [torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (3, bases - 1, bases)]
    assert torch.autograd.gradcheck(Series.apply, inputs)
    assert torch.autograd.gradgradcheck(Series.apply, inputs)


def test_gradients_of_the_block():
    torch.manual_seed(0)
    layer = block(channels=4, patch=(2,), heads=2, tokens=3, bases=3)
    assert torch.autograd.gradcheck(layer, [torch.randn(1, 4, 5, dtype=torch.float64, requires_grad=True)])


def test_one_point_reaches_its_patch_and_no_other():
    torch.manual_seed(0)
    layer, v = block(patch=(3, 2)), torch.randn(1, 6, 7, 8, dtype=torch.float64)
    changed = v.clone()
    changed[0, :, 4, 5] += 1
    moved = (layer(changed) - layer(v)).abs().amax(1)[0] > 1e-12
    expected = torch.zeros(7, 8, dtype=torch.bool)
    expected[3:6, 4:6] = True
    assert torch.equal(moved, expected)


def test_the_order_of_points_in_a_patch_does_not_matter():
    torch.manual_seed(0)
    layer, x = block(), torch.randn(3, 6, 6, dtype=torch.float64)
    tokens, order = layer.encode(x), torch.randperm(6)
    assert torch.allclose(layer.encode(x[:, order]), tokens, atol=1e-12)
    assert torch.allclose(layer.decode(x[:, order], tokens), layer.decode(x, tokens)[:, order], atol=1e-12)


def test_scores_beyond_the_range_of_exponentials_stay_finite():
    layer = block()
    v = 1e4 * torch.randn(1, 6, 7, 5, dtype=torch.float64)
    v.requires_grad_()
    out = layer(v)
    out.sum().backward()
    assert out.isfinite().all()
    assert v.grad.isfinite().all()
